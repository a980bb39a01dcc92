use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;
use crate::decide::gcra::RateLimit;
use crate::decide::time::SECOND_NS;

mod keeping;
#[cfg(feature = "schedules")]
mod schedules;

const DAY_S: u64 = 86_400;

fn engine() -> RuleEngine {
    RuleEngine::new(1_000_000).unwrap()
}

/// Seconds after some midnight.
fn at(s: f64) -> Now {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ns = (s * 1e9) as u64;
    Now { unix_ns: 20_000 * DAY_S * SECOND_NS + ns, steady_ns: 1 + ns }
}

fn window(limit: u64, length_s: u64) -> Budget {
    Budget::Window { limit, length_s }
}

fn bucket(tokens: u64, burst: u64) -> Budget {
    Budget::Bucket(RateLimit::new(tokens, SECOND_NS, burst).unwrap())
}

fn ask<'e>(engine: &'e RuleEngine, key: &str, budget: Budget, hits: u64) -> Ask<'e> {
    let mut identity = engine.identity(b"domain");
    identity.level(&[b"key_", key.as_bytes()], b"key");
    identity.ask(budget, hits, false)
}

fn give_back<'e>(engine: &'e RuleEngine, key: &str, budget: Budget, hits: u64) -> Ask<'e> {
    Ask { negative: true, ..ask(engine, key, budget, hits) }
}

fn one(engine: &RuleEngine, ask: Ask<'_>, now: Now) -> Standing {
    engine.charge(&[ask], Mode::Each, now, |_| unreachable!("each ask stands on its own"))[0]
}

fn all(engine: &RuleEngine, asks: &[Ask<'_>], now: Now) -> (bool, Standings) {
    let standings = engine.charge(asks, Mode::AllOrNothing, now, |standings| {
        standings.iter().any(|standing| standing.over)
    });
    (standings.iter().all(|standing| !standing.over), standings)
}

#[test]
fn a_window_counts_refused_hits_too_and_ends_on_the_second() {
    let engine = engine();
    let hit = |s| one(&engine, ask(&engine, "a", window(2, 60), 1), at(s));
    assert_eq!(
        hit(0.0),
        Standing { over: false, before: 0, after: 1, remaining: 1, reset_ns: 60 * SECOND_NS }
    );
    assert_eq!(
        hit(0.5),
        Standing { over: false, before: 1, after: 2, remaining: 0, reset_ns: 60 * SECOND_NS }
    );
    assert_eq!(
        hit(59.0),
        Standing { over: true, before: 2, after: 3, remaining: 0, reset_ns: SECOND_NS }
    );
    assert_eq!(
        hit(59.999_999),
        Standing { over: true, before: 3, after: 4, remaining: 0, reset_ns: SECOND_NS }
    );
    assert_eq!(
        hit(60.0),
        Standing { over: false, before: 0, after: 1, remaining: 1, reset_ns: 60 * SECOND_NS }
    );
}

#[test]
fn weeks_start_on_the_thursday_of_the_epoch() {
    let engine = engine();
    let standing =
        one(&engine, ask(&engine, "a", window(1, 7 * DAY_S), 1), Now { unix_ns: 0, steady_ns: 1 });
    assert_eq!(standing.reset_ns, 7 * DAY_S * SECOND_NS);
}

#[test]
fn a_peek_at_a_window_compares_what_was_counted() {
    let engine = engine();
    let peek = || one(&engine, ask(&engine, "a", window(1, 60), 0), at(0.0));
    assert!(!peek().over);
    one(&engine, ask(&engine, "a", window(1, 60), 1), at(0.0));
    assert_eq!((peek().over, peek().remaining), (false, 0));
    one(&engine, ask(&engine, "a", window(1, 60), 1), at(0.0));
    assert!(peek().over);
    assert_eq!(engine.live_counters(), 1);
}

#[test]
fn a_peek_and_a_refund_of_nothing_leave_nothing_behind() {
    let engine = engine();
    one(&engine, ask(&engine, "a", window(1, 60), 0), at(0.0));
    one(&engine, give_back(&engine, "a", window(1, 60), 5), at(0.0));
    one(&engine, ask(&engine, "a", bucket(1, 1), 0), at(0.0));
    assert_eq!(engine.live_counters(), 0);
}

#[test]
fn negative_hits_stop_at_zero() {
    let engine = engine();
    one(&engine, ask(&engine, "a", window(5, 60), 4), at(0.0));
    assert_eq!(one(&engine, give_back(&engine, "a", window(5, 60), 1), at(0.0)).remaining, 2);
    assert_eq!(
        one(&engine, give_back(&engine, "a", window(5, 60), u64::MAX), at(0.0)).remaining,
        5
    );
    assert_eq!(
        one(&engine, ask(&engine, "a", window(5, 60), 5), at(0.0)),
        Standing { over: false, before: 0, after: 5, remaining: 0, reset_ns: 60 * SECOND_NS }
    );
    one(&engine, ask(&engine, "b", bucket(1, 3), 3), at(0.0));
    assert_eq!(one(&engine, give_back(&engine, "b", bucket(1, 3), 2), at(0.0)).remaining, 2);
}

#[test]
fn the_largest_hits_neither_wrap_nor_pass() {
    let engine = engine();
    for budget in [window(u64::from(u32::MAX), 60), bucket(1, 1000)] {
        assert!(one(&engine, ask(&engine, "a", budget, u64::MAX), at(0.0)).over);
        assert!(one(&engine, ask(&engine, "a", budget, u64::MAX), at(0.0)).over);
        one(&engine, give_back(&engine, "a", budget, u64::MAX), at(0.0));
        assert!(!one(&engine, ask(&engine, "a", budget, 1), at(0.0)).over);
    }
}

#[test]
fn a_bucket_gives_its_burst_then_one_an_interval_and_refusals_cost_nothing() {
    let engine = engine();
    let hit = |s| one(&engine, ask(&engine, "a", bucket(2, 3), 1), at(s));
    for left in [2, 1, 0] {
        let passed = hit(0.0);
        assert_eq!((passed.over, passed.remaining), (false, left));
    }
    let refused = hit(0.1);
    assert!(refused.over);
    assert_eq!(refused.reset_ns, 400_000_000);
    assert!(hit(0.499_999_999).over);
    assert!(!hit(0.5).over);
    assert!(hit(0.5).over);
}

#[test]
fn changing_the_limit_keeps_the_count_and_changing_the_window_starts_its_own() {
    let engine = engine();
    for _ in 0..3 {
        one(&engine, ask(&engine, "a", window(3, 60), 1), at(0.0));
    }
    assert!(one(&engine, ask(&engine, "a", window(3, 60), 1), at(0.0)).over);
    assert_eq!(one(&engine, ask(&engine, "a", window(10, 60), 1), at(0.0)).remaining, 5);
    assert_eq!(one(&engine, ask(&engine, "a", window(3, 3600), 1), at(0.0)).remaining, 2);
}

#[test]
fn a_wall_clock_that_steps_back_starts_no_window_from_zero_twice() {
    let engine = engine();
    let hit = |s| one(&engine, ask(&engine, "a", window(2, 60), 1), at(s));
    assert!(!hit(61.0).over);
    assert!(!hit(62.0).over);
    assert!(hit(59.0).over, "the later window goes on");
    assert!(hit(63.0).over);
    assert!(!hit(120.0).over);
    // A clock that was a day ahead by mistake must not refuse for a day.
    assert!(!hit(DAY_S as f64).over);
    assert!(!hit(180.0).over);
}

#[test]
fn sweeping_forgets_only_what_can_refuse_nothing() {
    let engine = engine();
    let sweep = |s| (0..engine.sweeps_per_round()).for_each(|_| engine.sweep(at(s)));
    one(&engine, ask(&engine, "window", window(1, 60), 1), at(0.0));
    one(&engine, ask(&engine, "bucket", bucket(1, 10), 10), at(0.0));
    sweep(9.999);
    assert_eq!(engine.live_counters(), 2);
    sweep(10.0);
    assert_eq!(engine.live_counters(), 1);
    assert!(one(&engine, ask(&engine, "window", window(1, 60), 1), at(59.9)).over);
    sweep(64.9);
    assert_eq!(engine.live_counters(), 1);
    sweep(65.0);
    assert_eq!(engine.live_counters(), 0);
}

#[test]
fn all_or_nothing_charges_no_one_when_one_refuses() {
    let engine = engine();
    let (wide, tight) = (window(10, 60), window(2, 60));
    let both =
        || all(&engine, &[ask(&engine, "wide", wide, 1), ask(&engine, "tight", tight, 1)], at(0.0));
    assert!(both().0);
    assert!(both().0);
    for _ in 0..5 {
        let (passed, standings) = both();
        assert!(!passed);
        assert_eq!((standings[0].over, standings[0].remaining), (false, 8));
        assert_eq!((standings[1].over, standings[1].remaining), (true, 0));
    }
    assert!(
        !all(&engine, &[ask(&engine, "tight", tight, 0)], at(0.0)).0,
        "a peek decides as one hit would"
    );
}

#[test]
fn the_same_counter_twice_in_a_request_is_charged_twice_or_not_at_all() {
    let engine = engine();
    let twice = || {
        all(
            &engine,
            &[ask(&engine, "a", window(3, 60), 1), ask(&engine, "a", window(3, 60), 1)],
            at(0.0),
        )
        .0
    };
    assert!(twice());
    assert!(!twice());
    assert!(all(&engine, &[ask(&engine, "a", window(3, 60), 1)], at(0.0)).0);
    assert!(!all(&engine, &[ask(&engine, "a", window(3, 60), 1)], at(0.0)).0);
}

#[test]
fn a_flood_of_fresh_keys_pushes_out_nothing_that_lives() {
    let engine = RuleEngine::new(100).unwrap();
    let budget = window(3, 60);
    for key in 0..100 {
        one(&engine, ask(&engine, &format!("live-{key}"), budget, 3), at(0.0));
    }
    for key in 0..200_000 {
        one(&engine, ask(&engine, &format!("flood-{key}"), budget, 1), at(1.0));
    }
    assert_eq!(engine.live_counters(), 100);
    assert!(engine.overflow_counters() <= 4096);
    assert_eq!(engine.overflow_asks(), 200_000);
    for key in 0..100 {
        assert!(one(&engine, ask(&engine, &format!("live-{key}"), budget, 1), at(2.0)).over);
    }
}

#[test]
fn a_key_that_leaves_the_overflow_takes_its_count_along() {
    let engine = RuleEngine::new(1).unwrap();
    one(&engine, ask(&engine, "only", bucket(1, 1), 1), at(0.0));
    let budget = window(5, 60);
    let admitted =
        |s| (0..10).filter(|_| !one(&engine, ask(&engine, "late", budget, 1), at(s)).over).count();
    assert_eq!(admitted(0.0), 5);
    (0..engine.sweeps_per_round()).for_each(|_| engine.sweep(at(2.0)));
    assert_eq!(engine.live_counters(), 0);
    assert_eq!(admitted(2.0), 0, "it has a counter of its own now, and is still refused");
    assert_eq!(engine.live_counters(), 1);
    assert_eq!(admitted(60.0), 5);
}

#[test]
fn concurrent_callers_get_exactly_the_limit() {
    for (budget, mode) in [
        (window(1000, 31_536_000), Mode::Each),
        (bucket(1, 1000), Mode::Each),
        (window(1000, 31_536_000), Mode::AllOrNothing),
    ] {
        let engine = Arc::new(engine());
        let admitted = Arc::new(AtomicU64::new(0));
        let now = at(0.0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (engine, admitted) = (engine.clone(), admitted.clone());
                scope.spawn(move || {
                    for _ in 0..625 {
                        let own = ask(&engine, &format!("own-{thread}"), window(u64::MAX, 60), 1);
                        // Both orders, so that a lock taken out of order would dead-lock.
                        let mut asks = vec![ask(&engine, "shared", budget, 1), own];
                        if thread % 2 == 0 {
                            asks.reverse();
                        }
                        let standings = engine.charge(&asks, mode, now, |standings| {
                            standings.iter().any(|standing| standing.over)
                        });
                        if standings.iter().all(|standing| !standing.over) {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 1000, "{budget:?} {mode:?}");
    }
}

/// The reference's windows as a map from (key, window) to a count, and nothing else.
#[derive(Default)]
struct Naive(HashMap<(u8, u64), u64>);

impl Naive {
    fn ask(
        &mut self,
        key: u8,
        limit: u64,
        length_s: u64,
        hits: u64,
        negative: bool,
        now: Now,
    ) -> (bool, u64) {
        let count = self.0.entry((key, now.unix_s() / length_s)).or_default();
        *count = if negative { count.saturating_sub(hits) } else { *count + hits };
        (!negative && *count > limit, limit.saturating_sub(*count))
    }
}

proptest! {
    #[test]
    fn windows_agree_with_a_naive_model(steps in prop::collection::vec((0u64..40_000, 0u8..3, 0u64..5, any::<bool>()), 1..200), limit in 0u64..12) {
        let engine = engine();
        let mut naive = Naive::default();
        let mut ms = 0;
        for (wait_ms, key, hits, negative) in steps {
            ms += wait_ms;
            let now = at(ms as f64 / 1000.0);
            let ask = Ask { negative, ..ask(&engine, &key.to_string(), window(limit, 60), hits) };
            let standing = one(&engine, ask, now);
            prop_assert_eq!((standing.over, standing.remaining), naive.ask(key, limit, 60, hits, negative, now));
            if ms % 7 == 0 {
                engine.sweep(now);
            }
        }
    }

    /// Sharing overflow counters may refuse early; it never admits more than the limit to any key.
    #[test]
    fn the_bound_never_admits_more(max in 0usize..6, steps in prop::collection::vec((0u64..20_000, 0u8..20), 1..300)) {
        let engine = RuleEngine::new(max).unwrap();
        let mut admitted: HashMap<(u8, u64), u64> = HashMap::new();
        let mut ms = 0;
        for (wait_ms, key) in steps {
            ms += wait_ms / 10;
            let now = at(ms as f64 / 1000.0);
            if !one(&engine, ask(&engine, &key.to_string(), window(3, 60), 1), now).over {
                let count = admitted.entry((key, now.unix_s() / 60)).or_default();
                *count += 1;
                prop_assert!(*count <= 3);
            }
            (0..engine.sweeps_per_round()).for_each(|_| engine.sweep(now));
        }
    }
}

#[test]
fn where_some_are_over_those_alone_are_charged() {
    let engine = engine();
    let asks = |a: u64, z: u64| {
        [ask(&engine, "a", window(3, 3600), a), ask(&engine, "z", window(1, 3600), z)]
    };
    let charge = |a, z| engine.charge(&asks(a, z), Mode::OverAlone, at(0.0), |_| false);
    let left = |standings: &Standings| {
        standings.iter().map(|standing| (standing.over, standing.remaining)).collect::<Vec<_>>()
    };
    assert_eq!(left(&charge(1, 1)), [(false, 2), (false, 0)]);
    // Over on z: a keeps what it had.
    assert_eq!(left(&charge(1, 1)), [(false, 2), (true, 0)]);
    assert_eq!(left(&charge(2, 0)), [(false, 2), (true, 0)]);
    let a = |hits| {
        engine.charge(&[ask(&engine, "a", window(3, 3600), hits)], Mode::OverAlone, at(0.0), |_| {
            false
        })[0]
    };
    assert_eq!(
        a(2),
        Standing { over: false, before: 1, after: 3, remaining: 0, reset_ns: 3600 * SECOND_NS }
    );
    assert_eq!(
        a(1),
        Standing { over: true, before: 3, after: 4, remaining: 0, reset_ns: 3600 * SECOND_NS }
    );
}
