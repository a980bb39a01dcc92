//! The pure part of a decision: arithmetic and look-ups, without keys, locks or maps of counters.
//!
//! `cargo bench --bench decide [-- --quick]`
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tollgate::decide::calendar::Calendar;
use tollgate::decide::gcra::{Passing, RateLimit};
use tollgate::decide::method::PatternSet;
use tollgate::decide::path::RequestPath;
use tollgate::decide::plan::{PeriodUnit, Weekday};
use tollgate::decide::quota::{KEEP_NS, QuotaCount};
use tollgate::decide::time::SECOND_NS;
use tollgate::rules::{LoadOptions, RuleSet, Source, load};

const NOW_NS: u64 = 1_795_341_600 * SECOND_NS;

fn gcra(criterion: &mut Criterion) {
    let limit = RateLimit::new(1_000_000, SECOND_NS, 1_000_000).unwrap();
    let (mut tat, mut now_ns) = (0, 1);
    criterion.bench_function("GCRA: a charge", |bencher| {
        bencher.iter(|| {
            now_ns += 1_000;
            if let Passing::Pass { tat: charged } = limit.check(black_box(tat), now_ns, 1) {
                tat = charged;
            }
        });
    });
}

fn quota(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quota");
    for (zone, unit) in [("UTC", PeriodUnit::Day), ("Asia/Seoul", PeriodUnit::Month)] {
        let calendar = Calendar::new(unit, zone, Weekday::Monday).unwrap();
        group.bench_function(
            BenchmarkId::new("the period of an instant", format!("{unit:?}, {zone}")),
            |bencher| {
                bencher.iter(|| calendar.period(black_box(NOW_NS)));
            },
        );
        let mut count = QuotaCount::default();
        group.bench_function(
            BenchmarkId::new("a charge in a running period", format!("{unit:?}, {zone}")),
            |bencher| {
                bencher.iter(|| {
                    let row = count.at(&calendar, black_box(NOW_NS));
                    count.charge(&row, 1, NOW_NS, KEEP_NS);
                });
            },
        );
    }
    group.finish();
}

fn methods(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("method limits: the pattern of a call");
    for many in [10, 1_000] {
        let paths: Vec<String> =
            (0..many).map(|number| format!("/things/{number}/{{id}}")).collect();
        let patterns =
            PatternSet::new("bench", paths.iter().map(|path| ("GET", path.as_str()))).unwrap();
        let asked = format!("/things/{}/42", many / 2);
        group.bench_function(BenchmarkId::from_parameter(many), |bencher| {
            bencher.iter(|| {
                patterns.met(b"GET", &RequestPath::new(black_box(asked.as_bytes())), |_| true)
            });
        });
    }
    group.finish();
}

/// A domain of so many rules beside each other, each for one value.
fn rules(many: usize) -> RuleSet {
    let mut text = "domain: bench\ndescriptors:\n".to_owned();
    for number in 0..many {
        writeln!(text, "- {{key: api_key, value: value-{number}, rate_limit: {{unit: second, requests_per_unit: 1000}}}}").unwrap();
    }
    load(&[Source { name: "bench.yaml".to_owned(), text }], &LoadOptions::default()).unwrap().rules
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules: the rule of a descriptor");
    for many in [10, 1_000, 100_000] {
        let rules = rules(many);
        let domain = rules.domain(b"bench").unwrap();
        let values: Vec<String> = (0..many).map(|number| format!("value-{number}")).collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(many), |bencher| {
            bencher.iter(|| {
                at = (at + 618_033) % many;
                domain.find(black_box(&[(b"api_key".as_slice(), values[at].as_bytes())])).is_some()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, gcra, quota, methods, matching);
criterion_main!(benches);
