//! What the ledger costs where leases are held: CPU per check, and commits per admission.

use crate::declare;
use crate::figures::{median, spread};
use crate::measure::cpu_ns;
use crate::site::{Site, Time, check, open_loop, runtime, until_admitted};
use crate::{Row, Scale};

const PAIRS: usize = 7;

fn plan(limit: u64) -> String {
    format!(
        "plans: [{{id: gold, entitlements: [{{name: all, targets: [orders], quotas: [{{name: monthly, limit: {limit}, unit: MONTH}}]}}]}}]"
    )
}

/// CPU per check over all threads, in nanoseconds.
fn per_check(
    site: &Site,
    runtime: &tokio::runtime::Runtime,
    keys: &[String],
    rounds: usize,
) -> f64 {
    let before = cpu_ns();
    let plans = &site.plans;
    // As many callers as a busy gateway has in flight: where one waits for the ledger the others go
    // on.
    let callers = 256.min(keys.len());
    let mut running = Vec::with_capacity(callers);
    for keys in keys.chunks(keys.len().div_ceil(callers)) {
        let (plans, keys) = (plans.clone(), keys.to_vec());
        running.push(runtime.spawn(async move {
            for _ in 0..rounds {
                for key in &keys {
                    until_admitted(&plans, key, "orders").await;
                }
                // A connection's task does not keep its thread for ever either.
                tokio::task::yield_now().await;
            }
        }));
    }
    running.into_iter().for_each(|caller| runtime.block_on(caller).unwrap());
    site.settle_down();
    (cpu_ns() - before) / (keys.len() * rounds) as f64
}

fn pairs(counters: usize, limit: u64, rounds: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let file = plan(limit);
    let runtime = runtime();
    let keys: Vec<String> = (0..counters).map(declare::key).collect();
    let sites =
        [Site::start, Site::in_memory].map(|start| start(&file, counters, Time::of_the_machine()));
    for site in &sites {
        site.warm(&runtime, &keys, "orders");
        per_check(site, &runtime, &keys, (rounds / 4).max(1));
    }
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        on.push(per_check(&sites[0], &runtime, &keys, rounds));
        off.push(per_check(&sites[1], &runtime, &keys, rounds));
    }
    let ratios = on.iter().zip(&off).map(|(on, off)| on / off).collect();
    (on, off, ratios)
}

pub fn cost(scale: Scale, rows: &mut Vec<Row>) {
    let hot_rounds = scale.of(500_000, 100_000);
    for (what, counters, limit, rounds, target) in [
        (
            "CPU per check, ledger in a file / in memory, 1 counter of limit 10 M",
            1,
            10_000_000,
            hot_rounds,
            "≤ 1.05",
        ),
        (
            "CPU per check, ledger in a file / in memory, 8 counters of limit 10 M",
            8,
            10_000_000,
            hot_rounds / 4,
            "≤ 1.05",
        ),
        (
            "CPU per check, ledger in a file / in memory, 10,000 counters of limit 100",
            10_000,
            100,
            8,
            "< 2",
        ),
    ] {
        let (on, off, ratios) = pairs(counters, limit, rounds);
        let measured =
            format!("{} ({:.0} ns / {:.0} ns)", spread(&ratios), median(&on), median(&off));
        rows.push(Row::new(what, measured, target));
    }
}

pub fn commits(scale: Scale, rows: &mut Vec<Row>) {
    let runtime = runtime();
    let per_second = 20_000;
    for (what, counters) in
        [("one counter of limit 10 M", 1), ("10,000 counters of limit 10 M, evenly", 10_000)]
    {
        let site = Site::start(&plan(10_000_000), counters, Time::of_the_machine());
        let keys: Vec<String> = (0..counters).map(declare::key).collect();
        site.warm(&runtime, &keys, "orders");
        let load = |calls| {
            let answers = open_loop(&runtime, f64::from(per_second), calls, |number| {
                let call = check(site.plans.clone(), keys[number % keys.len()].clone(), "orders");
                async move { call.await.is_some() }
            });
            answers.iter().filter(|(_, admitted)| *admitted).count()
        };
        // The engine learns how fast units are spent.
        load(scale.of(40_000, 20_000));
        let before = site.ledger().status();
        let admitted = load(scale.of(200_000, 40_000));
        site.settle_down();
        let after = site.ledger().status();
        let per_1000 = |count: u64| count as f64 * 1000.0 / admitted as f64;
        let (commits, operations) = (
            per_1000(after.commits - before.commits),
            per_1000(after.operations - before.operations),
        );
        let what = format!("ledger commits per 1000 admitted, {what}, {per_second} a second");
        rows.push(Row::new(&what, format!("{commits:.2} (of {operations:.1} leases)"), ""));
    }
}
