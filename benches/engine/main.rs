//! One decision in the engine, keyed state included: its time, and the memory of a counter.
//!
//! `cargo bench --bench engine [-- --quick] [--tables]`. Time per decision comes from criterion;
//! where two ways are compared they take turns in one run, and the ratio is that of each pair.
//! Memory is what a fresh process grows by, all included. `--tables` leaves out what criterion
//! times.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
// Nothing outside can reach into a bench.
#![allow(unreachable_pub, missing_debug_implementations)]

#[path = "../ledger/declare.rs"]
mod declare;
#[path = "../ledger/figures.rs"]
mod figures;
mod memory;
mod subject;
mod traffic;

use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};

use figures::{median, spread};
use subject::{ALL, Clocks, Decides, GOVERNOR, RULE_BUCKET};
use traffic::Traffic;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys of the large tables.
const MANY: usize = 1_000_000;

fn main() {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    if let Some(place) = flags.iter().position(|flag| flag == memory::FLAG) {
        return memory::child(&flags[place + 1..]);
    }
    let quick = flags.iter().any(|flag| flag == "--quick");
    if !flags.iter().any(|flag| flag == "--tables") {
        let mut criterion = Criterion::default().configure_from_args();
        decisions(&mut criterion, if quick { MANY / 10 } else { MANY });
        matching(&mut criterion);
        criterion.final_summary();
    }
    // With a filter only that is wanted.
    if flags.iter().all(|flag| flag.starts_with("--")) {
        versus(if quick { MANY / 10 } else { MANY }, if quick { 3 } else { 7 });
        memory::table(if quick { MANY / 10 } else { MANY });
    }
}

fn decisions(criterion: &mut Criterion, many: usize) {
    for (traffic, keys) in
        [("1 key", Traffic::One), ("uniform", Traffic::Uniform), ("Zipf", Traffic::Zipf)]
    {
        let mut group = criterion.benchmark_group(if traffic == "1 key" {
            traffic.to_owned()
        } else {
            format!("{many} keys, {traffic}")
        });
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        let requests = keys.requests(many);
        for (name, make) in ALL {
            // Not made where a filter leaves it out.
            let subject = LazyCell::new(|| {
                let subject = make(keys.keys(many), Clocks::Given);
                // Everything that is asked for is there before it is timed.
                (0..keys.keys(many)).for_each(|number| subject.decide(&declare::key(number)));
                subject
            });
            for threads in [1, 2] {
                group.bench_function(
                    BenchmarkId::new(name, format!("{threads} thread(s)")),
                    |bencher| {
                        let subject = LazyCell::force(&subject);
                        bencher.iter_custom(|decisions| {
                            run(&**subject, &requests, decisions, threads)
                        });
                    },
                );
            }
        }
        group.finish();
    }
}

/// Each thread makes so many decisions. Gives the time of the slowest.
fn run(subject: &dyn Decides, requests: &[String], decisions: u64, threads: usize) -> Duration {
    let barrier = Barrier::new(threads);
    let work = |thread: usize| {
        let from = requests.len() * thread / threads;
        let (behind, before) = requests.split_at(from);
        barrier.wait();
        let start = Instant::now();
        before
            .iter()
            .chain(behind)
            .cycle()
            .take(decisions as usize)
            .for_each(|key| subject.decide(black_box(key)));
        start.elapsed()
    };
    if threads == 1 {
        return work(0);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || work(thread))).collect::<Vec<_>>();
        running.into_iter().map(|thread| thread.join().unwrap()).max().unwrap_or_default()
    })
}

/// What a request costs with all that finds its rule: it must not depend on how many rules there
/// are.
fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a rules decision");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for rules in [10, 1_000, 100_000] {
        let subject = subject::Rules::of(rules);
        let mut at = 0;
        group.bench_function(BenchmarkId::new("rules", rules), |bencher| {
            bencher.iter(|| {
                at = (at + 618_033) % rules;
                subject.decide(at);
            });
        });
    }
    group.finish();
}

/// A token bucket against the `governor` crate's, in turns.
fn versus(many: usize, pairs: usize) {
    println!(
        "\n| a token bucket by a 39-byte key, {many} keys, uniform | governor / tollgate | tollgate | governor |\n|---|---|---|---|"
    );
    let requests = Traffic::Uniform.requests(many);
    for (what, clocks) in
        [("time is given", Clocks::Given), ("each reads its own clock", Clocks::Read)]
    {
        let (ours, theirs) = (RULE_BUCKET(many, clocks), GOVERNOR(many, clocks));
        // Not in the order of the requests: their keys would lie in memory as they are asked for.
        (0..many)
            .map(declare::key)
            .for_each(|key| [&ours, &theirs].into_iter().for_each(|subject| subject.decide(&key)));
        for threads in [1, 2] {
            let (mut own, mut other) = (Vec::new(), Vec::new());
            for pair in 0..=pairs {
                let decisions = requests.len() as u64;
                let per_decision = |subject: &dyn Decides| {
                    run(subject, &requests, decisions, threads).as_nanos() as f64 / decisions as f64
                };
                let both = (per_decision(&*ours), per_decision(&*theirs));
                // The first warms up.
                if pair > 0 {
                    own.push(both.0);
                    other.push(both.1);
                }
            }
            let ratios: Vec<f64> = own.iter().zip(&other).map(|(own, other)| other / own).collect();
            println!(
                "| {what}, {threads} thread(s) | {} | {:.0} ns | {:.0} ns |",
                spread(&ratios),
                median(&own),
                median(&other)
            );
        }
    }
}
