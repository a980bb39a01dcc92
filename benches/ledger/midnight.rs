//! A day ends for many active counters at once.

use std::time::Duration;

use tollgate::decide::time::SECOND_NS;

use crate::declare;
use crate::figures::{median, spread};
use crate::measure::{ms, percentile};
use crate::site::{Site, Time, check, open_loop, runtime};
use crate::{Row, Scale};

const FILE: &str = "plans: [{id: gold, entitlements: [{name: all, targets: [orders], quotas: [{name: daily, limit: 100000, unit: DAY}]}]}]";
/// 2026-11-23 00:00:00 UTC.
const MIDNIGHT_NS: u64 = 1_795_392_000 * SECOND_NS;
const PER_SECOND: usize = 20_000;
/// Leases ahead are spread over so long before the end of a day.
const LEAD_S: u64 = 300;
const STEPS: u64 = 30;

/// The slowest calls of one second are few, and differ from one midnight to the next.
const MIDNIGHTS: usize = 7;

/// What calls of the seconds before and after took, and how many were refused.
struct Midnight {
    before: Vec<Duration>,
    after: Vec<Duration>,
    refused: usize,
}

type Second = fn(&Midnight) -> &[Duration];

pub fn crossings(scale: Scale, rows: &mut Vec<Row>) {
    let counters = scale.of(100_000, 20_000);
    let midnights: Vec<Midnight> = (0..MIDNIGHTS).map(|_| crossing(counters)).collect();
    let p99 = |times: &[Duration]| percentile(times, 0.99).as_secs_f64();
    let ratios: Vec<f64> =
        midnights.iter().map(|midnight| p99(&midnight.after) / p99(&midnight.before)).collect();
    let middle = |quantile: f64, of: Second| {
        let seconds: Vec<f64> = midnights
            .iter()
            .map(|midnight| percentile(of(midnight), quantile).as_secs_f64())
            .collect();
        ms(Duration::from_secs_f64(median(&seconds)))
    };
    let (before, after): (Second, Second) =
        (|midnight| &midnight.before, |midnight| &midnight.after);
    let measured = format!(
        "{} × (p99 {} before, {} after; p50 {}, {}; {} refused)",
        spread(&ratios),
        middle(0.99, before),
        middle(0.99, after),
        middle(0.5, before),
        middle(0.5, after),
        midnights.iter().map(|midnight| midnight.refused).sum::<usize>(),
    );
    rows.push(Row::new(
        &format!("{MIDNIGHTS} midnights for {counters} counters, {PER_SECOND} checks a second: p99 of the first second"),
        measured,
        "≤ 2 × the second before",
    ));
}

fn crossing(counters: usize) -> Midnight {
    let runtime = runtime();
    let keys: Vec<String> = (0..counters).map(declare::key).collect();
    let site = Site::start(FILE, counters, Time::new(MIDNIGHT_NS - (LEAD_S + 60) * SECOND_NS));
    site.warm(&runtime, &keys, "orders");
    // The last minutes, in steps: at each of them every counter is asked once, and the ledger comes
    // after.
    for step in 0..STEPS {
        site.time.skip_to(
            MIDNIGHT_NS - LEAD_S * SECOND_NS + (LEAD_S - 5) * SECOND_NS * step / (STEPS - 1),
        );
        site.warm(&runtime, &keys, "orders");
    }
    site.time.skip_to(MIDNIGHT_NS - 2 * SECOND_NS);
    // Three seconds without a break: what is due one second after midnight is not late because the
    // second before was counted first.
    let place = |number: usize| (number * 618_033) % counters;
    let mut until = Vec::new();
    let answers = open_loop(&runtime, PER_SECOND as f64, PER_SECOND * 4, |number| {
        until.push(site.time.now().unix_ns);
        let call = check(site.plans.clone(), keys[place(number)].clone(), "orders");
        async move { call.await.is_some() }
    });
    let second = |from_ns: u64| -> Vec<Duration> {
        let within = |at_ns: &u64| (from_ns..from_ns + SECOND_NS).contains(at_ns);
        until
            .iter()
            .zip(&answers)
            .filter(|(at_ns, _)| within(at_ns))
            .map(|(_, (time, _))| *time)
            .collect()
    };
    let (before, after) = (second(MIDNIGHT_NS - SECOND_NS), second(MIDNIGHT_NS));
    let refused = answers.iter().filter(|(_, admitted)| !admitted).count();
    assert!(
        until.last().is_some_and(|at_ns| *at_ns > MIDNIGHT_NS + SECOND_NS),
        "the load ended before the first second of the day did"
    );
    Midnight { before, after, refused }
}
