//! Threads that charge the same counters, in every order that a scheduler finds.

use std::iter::once;
use std::sync::Arc;

use shuttle::thread;

use super::*;
use crate::engine::sync::schedules::{every_order, found_out, many_orders};

fn few(max_counters: usize) -> Arc<RuleEngine> {
    // Drawn numbers would make each run another.
    Arc::new(RuleEngine::with(
        Fingerprinter::keyed(&[1; 16], b"schedules"),
        max_counters,
        Kept::default(),
    ))
}

/// Each of `threads` asks for one hit so often.
fn hammer(
    engine: &Arc<RuleEngine>,
    threads: usize,
    times: usize,
    admits: fn(&RuleEngine) -> bool,
) -> usize {
    let callers: Vec<_> = (0..threads)
        .map(|_| {
            let engine = Arc::clone(engine);
            thread::spawn(move || (0..times).filter(|_| admits(&engine)).count())
        })
        .collect();
    callers.into_iter().map(|caller| caller.join().unwrap()).sum()
}

fn in_window(engine: &RuleEngine) -> bool {
    !one(engine, ask(engine, "a", window(3, 60), 1), at(0.0)).over
}

fn in_bucket(engine: &RuleEngine) -> bool {
    !one(engine, ask(engine, "a", bucket(1, 3), 1), at(0.0)).over
}

fn in_both(engine: &RuleEngine) -> bool {
    all(engine, &[ask(engine, "a", window(3, 60), 1), ask(engine, "a", bucket(1, 5), 1)], at(0.0)).0
}

#[test]
fn schedules_two_threads_make_one_counter() {
    every_order("a window of 1, asked twice", || {
        let admits =
            |engine: &RuleEngine| !one(engine, ask(engine, "a", window(1, 60), 1), at(0.0)).over;
        assert_eq!(hammer(&few(10), 2, 1, admits), 1);
    });
    every_order("a bucket of 1, asked twice", || {
        let admits =
            |engine: &RuleEngine| !one(engine, ask(engine, "a", bucket(1, 1), 1), at(0.0)).over;
        assert_eq!(hammer(&few(10), 2, 1, admits), 1);
    });
}

#[test]
fn schedules_a_limit_of_3_admits_3() {
    many_orders("a window of 3, asked 6 times by 3 threads", || {
        assert_eq!(hammer(&few(10), 3, 2, in_window), 3)
    });
    many_orders("a bucket of 3, asked 6 times by 3 threads", || {
        assert_eq!(hammer(&few(10), 3, 2, in_bucket), 3)
    });
    many_orders("all of a window of 3 and a bucket of 5, asked 6 times", || {
        assert_eq!(hammer(&few(10), 3, 2, in_both), 3)
    });
    many_orders("the same while dead counters are swept", || {
        let engine = few(10);
        let swept = Arc::clone(&engine);
        let sweeper =
            thread::spawn(move || (0..swept.sweeps_per_round()).for_each(|_| swept.sweep(at(0.0))));
        assert_eq!(hammer(&engine, 2, 2, in_window), 3);
        sweeper.join().unwrap();
    });
}

/// There is room for one counter, so one of the two shares an overflow counter, or both find room.
#[test]
fn schedules_at_the_bound_no_key_is_admitted_more() {
    many_orders("two keys and room for one counter", || {
        let engine = few(1);
        let callers: Vec<_> = ["a", "b"]
            .map(|key| {
                let engine = Arc::clone(&engine);
                thread::spawn(move || {
                    (0..3)
                        .filter(|_| {
                            !one(&engine, ask(&engine, key, window(2, 60), 1), at(0.0)).over
                        })
                        .count()
                })
            })
            .into();
        for caller in callers {
            assert!(caller.join().unwrap() <= 2);
        }
    });
}

/// One asks for a and b, the other for b and a.
fn crosswise(admits: fn(&RuleEngine, [&str; 2]) -> bool) -> (usize, [u64; 2]) {
    let engine = few(10);
    let callers = [["a", "b"], ["b", "a"]].map(|order| {
        let engine = Arc::clone(&engine);
        thread::spawn(move || (0..2).filter(|_| admits(&engine, order)).count())
    });
    let admitted = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    (
        admitted,
        ["a", "b"].map(|key| one(&engine, ask(&engine, key, limit_of(key), 0), at(0.0)).before),
    )
}

fn limit_of(key: &str) -> Budget {
    window(if key == "a" { 3 } else { 2 }, 60)
}

fn all_or_nothing(engine: &RuleEngine, order: [&str; 2]) -> bool {
    all(engine, &order.map(|key| ask(engine, key, limit_of(key), 1)), at(0.0)).0
}

#[test]
fn schedules_all_or_nothing_in_opposite_orders() {
    many_orders("counters of 3 and 2, all or nothing, from both sides", || {
        assert_eq!(crosswise(all_or_nothing), (2, [2, 2]));
    });
}

// What is wrong on purpose.

/// Checks under one lock, charges under the next.
fn apart(engine: &RuleEngine) -> bool {
    let ask = ask(engine, "a", window(3, 60), 1);
    let mut held = engine.hold(std::slice::from_ref(&ask));
    let place = held.place(&ask);
    let mut counter = held.read(place, &ask, at(0.0));
    drop(held);
    let standing = counter.charge(&ask, Mode::Each, at(0.0));
    engine.hold(std::slice::from_ref(&ask)).write(place, counter);
    !standing.over
}

/// Checks each, and then charges each.
fn one_by_one(engine: &RuleEngine, order: [&str; 2]) -> bool {
    let fits = |key| !all(engine, &[ask(engine, key, limit_of(key), 0)], at(0.0)).1[0].over;
    let admits = order.iter().all(|key| fits(*key));
    if admits {
        for key in order {
            one(engine, ask(engine, key, limit_of(key), 1), at(0.0));
        }
    }
    admits
}

/// Locks what it asks for in the order in which it asks.
fn as_they_come(engine: &RuleEngine, order: [&str; 2]) -> bool {
    let [first, second] = order.map(|key| ask(engine, key, limit_of(key), 1).counter);
    let _first = engine.counters.lock(once(first));
    let _second = engine.counters.lock(once(second));
    true
}

#[test]
fn schedules_mistakes_are_found_out() {
    let said = found_out("check and charge apart", || assert_eq!(hammer(&few(10), 3, 2, apart), 3));
    assert!(said.contains("left == right"), "{said}");
    let said = found_out("each on its own, where it is all or nothing", || {
        assert_eq!(crosswise(one_by_one), (2, [2, 2]));
    });
    assert!(said.contains("left == right"), "{said}");
    let said = found_out("locks in the order of asking", || {
        crosswise(as_they_come);
    });
    assert!(said.contains("deadlock"), "{said}");
}
