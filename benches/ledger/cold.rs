//! The first check of a counter waits for the ledger: for how long.

use std::time::{Duration, Instant};

use crate::declare;
use crate::measure::{ms, percentile};
use crate::site::{Site, Time, check, open_loop, runtime};
use crate::{Row, Scale};

const FILE: &str = "plans: [{id: gold, entitlements: [
    {name: all, targets: [orders], quotas: [{name: daily, limit: 1000, unit: DAY}]},
    {name: tiny, targets: [tiny], quotas: [{name: daily, limit: 100, unit: DAY}]},
    {name: large, targets: [large], quotas: [{name: daily, limit: 10000, unit: DAY}]}]}]";

pub fn arrivals(scale: Scale, rows: &mut Vec<Row>) {
    let runtime = runtime();
    for (per_second, full, quick) in
        [(1, 10, 3), (100, 500, 100), (1_000, 5_000, 2_000), (10_000, 30_000, 10_000)]
    {
        let calls = scale.of(full, quick);
        let site = Site::start(FILE, calls, Time::of_the_machine());
        let answers = open_loop(&runtime, f64::from(per_second), calls, |number| {
            let call = check(site.plans.clone(), declare::key(number), "orders");
            async move { call.await.is_some() }
        });
        let times: Vec<Duration> = answers.iter().map(|(time, _)| *time).collect();
        let refused = answers.iter().filter(|(_, admitted)| !admitted).count();
        let mut measured =
            format!("p50 {}, p99 {}", ms(percentile(&times, 0.5)), ms(percentile(&times, 0.99)));
        if refused > 0 {
            measured += &format!(", {refused} of {calls} refused");
        }
        let target = if per_second == 1_000 { "p99 ≤ 15 ms" } else { "" };
        rows.push(Row::new(
            &format!("first check of a counter, {per_second} new counters a second"),
            measured,
            target,
        ));
    }
}

/// Parallel first calls on one counter.
pub fn bursts(scale: Scale, rows: &mut Vec<Row>) {
    let runtime = runtime();
    let bursts = scale.of(50, 10);
    let site = Site::start(FILE, bursts * 4, Time::of_the_machine());
    let mut subscriber = 0;
    for (target, limit) in [("tiny", 100), ("large", 10_000)] {
        for parallel in [20, 256] {
            let (mut times, mut late) = (Vec::new(), 0);
            for _ in 0..bursts {
                let key = declare::key(subscriber);
                subscriber += 1;
                let start = Instant::now();
                let calls: Vec<_> = (0..parallel)
                    .map(|_| {
                        let call = check(site.plans.clone(), key.clone(), target);
                        runtime.spawn(async move { (call.await.is_some(), start.elapsed()) })
                    })
                    .collect();
                let answers: Vec<_> =
                    calls.into_iter().map(|call| runtime.block_on(call).unwrap()).collect();
                let admitted = answers.iter().filter(|(admitted, _)| *admitted).count();
                assert!(
                    admitted <= parallel.min(limit),
                    "{admitted} of {parallel} calls at a limit of {limit}"
                );
                late += parallel.min(limit) - admitted;
                times.extend(answers.into_iter().map(|(_, time)| time));
            }
            let what = format!("{parallel} first calls at once on a counter of limit {limit}");
            let late = 100.0 * late as f64 / (bursts * parallel.min(limit)) as f64;
            let (p50, p99) = (ms(percentile(&times, 0.5)), ms(percentile(&times, 0.99)));
            rows.push(Row::new(
                &what,
                format!(
                    "p50 {p50}, p99 {p99}; {late:.0} % of the units not within ledger.max_wait"
                ),
                "",
            ));
        }
    }
}
