//! Many callers at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::world::World;
use crate::decide::outcome::Outcome;
use crate::engine::plans::{CheckInput, Settlement};

const THREADS: u64 = 64;

fn world(script: &str) -> World {
    let mut world = World::new();
    world.run(script).unwrap();
    world
}

/// A small generator of its own for each thread.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn a_quota_of_1000_takes_exactly_1000_successes_while_a_third_fails() {
    let world = world("plan gold\n ent all a\n quota q 1000 day\nsub acme gold\nkey k1 acme");
    let (admitted, refunded, successes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let start = Barrier::new(65);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS)
            .map(|seed| {
                let (world, admitted, refunded, successes, start) =
                    (&world, &admitted, &refunded, &successes, &start);
                scope.spawn(move || {
                    let mut random = seed;
                    start.wait();
                    // Enough turns to see the end; a lost refund must not make this wait for ever.
                    for _ in 0..200_000 {
                        if successes.load(Ordering::SeqCst) >= 1000 {
                            break;
                        }
                        let Some(receipt) = world.check("k1", "a", None).receipt else {
                            thread::yield_now();
                            continue;
                        };
                        admitted.fetch_add(1, Ordering::SeqCst);
                        if next(&mut random).is_multiple_of(3) {
                            assert_eq!(
                                world.report(&receipt, Outcome::http(503), None),
                                Settlement::Refunded
                            );
                            assert_eq!(
                                world.report(&receipt, Outcome::http(503), None),
                                Settlement::Duplicate
                            );
                            refunded.fetch_add(1, Ordering::SeqCst);
                        } else {
                            assert_eq!(
                                world.report(&receipt, Outcome::http(200), None),
                                Settlement::Counted
                            );
                            successes.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        let observer = scope.spawn(|| {
            start.wait();
            while !done.load(Ordering::SeqCst) {
                assert!(world.used("acme", "gold/all/q") <= 1000, "charged past the limit");
            }
        });
        let ended: Vec<_> = callers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        observer.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert_eq!(admitted.load(Ordering::SeqCst) - refunded.load(Ordering::SeqCst), 1000);
    assert_eq!(successes.load(Ordering::SeqCst), 1000);
    assert!(refunded.load(Ordering::SeqCst) > 0);
    assert_eq!(world.used("acme", "gold/all/q"), 1000);
    assert!(!world.check("k1", "a", None).verdict.is_allowed());
}

#[test]
fn concurrent_duplicates_get_the_one_answer() {
    let world = world("plan gold\n ent all a\n quota q 1000 day\nsub acme gold\nkey k1 acme");
    let start = Barrier::new(64);
    let receipts: Vec<Option<String>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let input = CheckInput {
                        api_key: b"k1",
                        target: "a",
                        method: b"",
                        path: b"",
                        cost: Some(3),
                        operation_id: b"one",
                    };
                    start.wait();
                    world.engine.check(&world.catalog, &input, world.now).unwrap().receipt
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(receipts[0].is_some());
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    assert_eq!(world.used("acme", "gold/all/q"), 3);
}

#[test]
fn limits_that_many_share_hold_while_entries_are_made_and_swept() {
    let subscribers: String =
        (0..32).map(|number| format!("sub s{number} gold\nkey k{number} s{number}\n")).collect();
    let world = world(&format!(
        "target a rate=1/500\nplan gold\n ent all a\n quota q 20 day\naccount 1/400\n{subscribers}"
    ));
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (world, admitted) = (&world, &admitted);
            scope.spawn(move || {
                let mut random = seed;
                for _ in 0..200 {
                    let key = format!("k{}", next(&mut random) % 32);
                    admitted.fetch_add(
                        u64::from(world.check(&key, "a", None).verdict.is_allowed()),
                        Ordering::SeqCst,
                    );
                    if next(&mut random).is_multiple_of(16) {
                        world.engine.sweep(world.now);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::SeqCst), 400);
    let used: u64 = (0..32).map(|number| world.used(&format!("s{number}"), "gold/all/q")).sum();
    assert_eq!(used, 400, "a refused request charged something, or a count was lost");
    assert_eq!(world.engine.leases().live_entries(), 32);
}
