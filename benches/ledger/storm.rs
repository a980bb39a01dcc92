//! Much at once: a stop that gives everything back, and an upstream that fails every request.

use std::time::Instant;

use tollgate::engine::plans::Settlement;

use crate::declare;
use crate::figures::resident;
use crate::measure::{mib, size_of};
use crate::site::{Site, Time, admitted, report_failure, runtime};
use crate::{Row, Scale};

/// Ten counters for each subscriber.
pub const TEN: [&str; 10] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];

pub fn ten_counters(limit: u64) -> String {
    let one = |target: &&str| {
        format!(
            "{{name: {target}, targets: [{target}], quotas: [{{name: monthly, limit: {limit}, unit: MONTH}}]}}"
        )
    };
    format!(
        "plans: [{{id: gold, entitlements: [{}]}}]",
        TEN.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

/// A clean stop: all units go back, and the file is closed.
pub fn stop(scale: Scale, rows: &mut Vec<Row>) {
    let runtime = runtime();
    let subscribers = scale.of(100_000, 10_000);
    let before = resident("self");
    let site = Site::start(&ten_counters(1_000_000), subscribers, Time::of_the_machine());
    let keys: Vec<String> = (0..subscribers).map(declare::key).collect();
    let catalog = resident("self") - before;
    let start = Instant::now();
    TEN.iter().for_each(|target| site.warm(&runtime, &keys, target));
    let counters = subscribers * TEN.len();
    let leased = counters as f64 / start.elapsed().as_secs_f64();
    let per_counter = (resident("self") - before - catalog) / counters as f64;
    let Site { ledger, broker, plans, engine, folder, .. } = site;
    let start = Instant::now();
    broker.put_away().unwrap();
    let given_back = start.elapsed();
    // The tasks of the runtime hold clones for as long as they run; the thread ends with the last
    // one.
    drop((broker, plans, engine, runtime));
    drop(std::sync::Arc::into_inner(ledger).expect("somebody still holds the ledger"));
    let closed = start.elapsed();
    let measured = format!(
        "{:.2} s (give back {:.2} s; first leases came at {leased:.0} a second; {per_counter:.0} bytes resident each)",
        closed.as_secs_f64(),
        given_back.as_secs_f64(),
    );
    rows.push(Row::new(
        &format!("clean stop with {counters} counters that hold units"),
        measured,
        "",
    ));
    drop(folder);
}

/// Every request fails, and each is reported.
pub fn failures(scale: Scale, rows: &mut Vec<Row>) {
    const AT_ONCE: usize = 4_096;
    let runtime = runtime();
    let subscribers = 1_000;
    let site = Site::start(&ten_counters(1_000_000), subscribers, Time::of_the_machine());
    let keys: Vec<String> = (0..subscribers).map(declare::key).collect();
    site.warm(&runtime, &keys, TEN[0]);
    let corrections = scale.of(500_000, 60_000);
    let (mut spent, mut done) = (std::time::Duration::ZERO, 0);
    // What the first round makes is there before anything is counted.
    let (mut memory, mut file, mut counted_from) = (0.0, 0.0, 0);
    while done < corrections {
        let checks: Vec<_> = (0..AT_ONCE)
            .map(|call| {
                runtime.spawn(admitted(
                    site.plans.clone(),
                    keys[call % subscribers].clone(),
                    TEN[0],
                ))
            })
            .collect();
        let receipts: Vec<String> =
            checks.into_iter().map(|call| runtime.block_on(call).unwrap().unwrap()).collect();
        site.settle_down();
        let start = Instant::now();
        let reports: Vec<_> = receipts
            .into_iter()
            .map(|receipt| runtime.spawn(report_failure(site.plans.clone(), receipt)))
            .collect();
        for report in reports {
            assert_eq!(runtime.block_on(report).unwrap(), Settlement::Refunded);
        }
        if done > 0 {
            spent += start.elapsed();
        } else {
            site.ledger().ledger().tidy().unwrap();
            (memory, file, counted_from) = (resident("self"), marks_size(&site), AT_ONCE);
        }
        done += AT_ONCE;
    }
    let counted = (done - counted_from) as f64;
    site.ledger().ledger().tidy().unwrap();
    let per = |grown: f64| (grown.max(0.0)) / counted;
    let measured = format!(
        "{:.0} corrections a second ({AT_ONCE} at once), {:.2} bytes each in memory, {:.2} in the file ({} after {done})",
        counted / spent.as_secs_f64(),
        per(resident("self") - memory),
        per(marks_size(&site) - file),
        mib(size_of(site.folder.path())),
    );
    rows.push(Row::new("a storm of 5xx: mark and refund committed", measured, ""));
}

/// The file without its log, which starts again from its beginning.
fn marks_size(site: &Site) -> f64 {
    site.folder.path().join(tollgate::ledger::sqlite::FILE).metadata().unwrap().len() as f64
}
