//! The keyed state of rules: the sharded table against a bare `DashMap` of the same content. Time per access, and bytes per counter.
//!
//! `cargo bench --bench table`
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use tollgate::decide::time::Now;
use tollgate::engine::rules::{Ask, Budget, Mode, RuleEngine};

const NOW: Now = Now { unix_ns: 1_700_000_000_000_000_000, steady_ns: 1_000_000_000 };
const BUDGET: Budget = Budget::Window { limit: u64::MAX, length_s: 31_536_000 };

fn key(number: u64) -> String {
    format!("api-key-{number:031}")
}

fn ask(engine: &RuleEngine, key: &str) -> Ask {
    let mut identity = engine.identity(b"domain");
    identity.level(&[b"key_", key.as_bytes()], b"key");
    identity.ask(BUDGET, 1, false)
}

fn charge(engine: &RuleEngine, key: &str) -> bool {
    engine.charge(&[ask(engine, key)], Mode::Each, NOW, |_| false).iter().any(|standing| standing.over)
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let pages: f64 = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

fn memory() {
    const KEYS: u64 = 2_000_000;
    let before = resident();
    let engine = RuleEngine::new(usize::MAX).unwrap();
    (0..KEYS).for_each(|number| {
        charge(&engine, &key(number));
    });
    let table = (resident() - before) / KEYS as f64;
    drop(black_box(engine));
    let before = resident();
    let map: DashMap<u128, [u64; 2]> = DashMap::new();
    (0..KEYS).for_each(|number| {
        map.insert(u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835), [number, 0]);
    });
    let dash_fingerprints = (resident() - before) / KEYS as f64;
    drop(black_box(map));
    let before = resident();
    let map: DashMap<Box<str>, [u64; 2]> = DashMap::new();
    (0..KEYS).for_each(|number| {
        map.insert(key(number).into(), [number, 0]);
    });
    let dash_strings = (resident() - before) / KEYS as f64;
    println!(
        "bytes per counter, 2 M of 39-byte keys: table {table:.0}, DashMap by fingerprint {dash_fingerprints:.0}, DashMap by string {dash_strings:.0}"
    );
}

fn access(criterion: &mut Criterion) {
    memory();
    let mut group = criterion.benchmark_group("access");
    for count in [1, 1_000_000] {
        let keys: Vec<String> = (0..count).map(key).collect();
        let engine = RuleEngine::new(usize::MAX).unwrap();
        let map: DashMap<Box<str>, u64> = DashMap::new();
        for key in &keys {
            charge(&engine, key);
            map.insert(key.as_str().into(), 0);
        }
        let mut at = 0;
        // A stride that visits the keys in no order.
        let mut next = move || {
            at = (at + 618_033) % count;
            at as usize
        };
        group.bench_function(BenchmarkId::new("table: a window charged", count), |bencher| {
            bencher.iter(|| charge(&engine, keys.get(next()).unwrap()));
        });
        group.bench_function(BenchmarkId::new("DashMap: a number added", count), |bencher| {
            bencher.iter(|| *map.get_mut(keys.get(next()).unwrap().as_str()).unwrap() += 1);
        });
    }
    group.finish();
}

criterion_group!(benches, access);
criterion_main!(benches);
