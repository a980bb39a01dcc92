//! Windows that survive a restart.

use super::*;
use crate::decide::ledger::WindowRow;
use crate::engine::rules::counter::Counter;

const SECRET: [u8; 16] = [7; 16];

fn kept(max_rows: usize) -> RuleEngine {
    RuleEngine::kept(1_000_000, max_rows, &SECRET)
}

/// Another engine, with all that this one would have written.
fn restarted(engine: &RuleEngine, now: Now) -> RuleEngine {
    let next = kept(engine.max_kept_windows());
    for state in engine.take_changed(0, usize::MAX).0 {
        assert!(next.restore(&state, now));
    }
    next
}

fn names(states: &[WindowRow]) -> Vec<u64> {
    let mut counts: Vec<_> = states.iter().map(|state| state.count).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn a_counter_has_room_for_what_the_ledger_needs() {
    assert_eq!(size_of::<Counter>(), 16);
}

#[test]
fn a_used_up_day_stays_so_across_a_restart_until_it_ends() {
    let day = window(2, DAY_S);
    let before = kept(10);
    for _ in 0..2 {
        assert!(!one(&before, ask(&before, "a", day, 1), at(10.0)).over);
    }
    let changed = before.take_changed(0, usize::MAX).0;
    assert_eq!(names(&changed), [2]);
    assert_eq!(changed[0].end_s, 20_001 * DAY_S);
    for (s, over) in [(20.0, true), (86_399.999_999, true), (86_400.0, false)] {
        let after = kept(10);
        assert!(after.restore(&changed[0], at(20.0)));
        assert_eq!(
            one(&after, ask(&after, "a", day, 1), at(s)).over,
            over,
            "restored early, asked at {s}"
        );
        let after = kept(10);
        assert!(after.restore(&changed[0], at(s)));
        assert_eq!(
            one(&after, ask(&after, "a", day, 1), at(s)).over,
            over,
            "restored and asked at {s}"
        );
        assert_eq!(one(&after, ask(&after, "b", day, 1), at(s)).before, 0);
    }
}

#[test]
fn a_window_that_is_over_is_not_taken_over() {
    let state = |end_s| WindowRow { fingerprint: [1; 16], end_s, count: 1 };
    let now_s = at(0.0).unix_s();
    for (end_s, counters) in [(now_s - 1, 0), (now_s, 0), (now_s + 1, 1), (u64::MAX, 0)] {
        let engine = kept(10);
        assert!(engine.restore(&state(end_s), at(0.0)));
        assert_eq!(
            (engine.live_counters(), engine.kept_windows()),
            (counters, counters),
            "ends at {end_s}"
        );
    }
}

#[test]
fn there_may_be_no_room_to_take_a_window_over() {
    let engine = RuleEngine::kept(1, 10, &SECRET);
    let state = |name| WindowRow { fingerprint: [name; 16], end_s: at(1.0).unix_s(), count: 1 };
    assert_eq!([1, 2].map(|name| engine.restore(&state(name), at(0.0))), [true, false]);
}

#[test]
fn an_hour_is_long_and_less_is_not() {
    for (budget, changes) in [(window(5, 3_599), 0), (window(5, 3_600), 1), (bucket(1, 5), 0)] {
        let engine = kept(10);
        one(&engine, ask(&engine, "a", budget, 1), at(0.0));
        assert_eq!(engine.take_changed(0, usize::MAX).0.len(), changes, "{budget:?}");
    }
}

#[test]
fn what_changed_is_given_once() {
    let engine = kept(10);
    let day = window(5, DAY_S);
    let hit = |key, hits| one(&engine, ask(&engine, key, day, hits), at(0.0));
    hit("a", 1);
    hit("a", 1);
    hit("b", 1);
    assert_eq!(names(&engine.take_changed(0, usize::MAX).0), [1, 2]);
    hit("a", 0);
    hit("c", 0);
    assert_eq!(engine.take_changed(0, usize::MAX).0, [], "a peek changes nothing");
    hit("a", 9);
    assert_eq!(names(&engine.take_changed(0, usize::MAX).0), [11], "a refused hit counts");
    one(&engine, give_back(&engine, "a", day, 4), at(0.0));
    assert_eq!(names(&engine.take_changed(0, usize::MAX).0), [7]);
    one(&engine, give_back(&engine, "b", day, 1), at(0.0));
    assert_eq!(
        names(&engine.take_changed(0, usize::MAX).0),
        [0],
        "or the old count would come back"
    );
    assert_eq!(engine.kept_windows(), 2);
}

#[test]
fn much_that_changed_is_given_in_parts_in_the_order_of_fingerprints() {
    let (engine, day) = (kept(10_000), window(5, DAY_S));
    let keys: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    for key in &keys {
        one(&engine, ask(&engine, key, day, 1), at(0.0));
    }
    let (mut all, mut first, mut parts) = (Vec::new(), Some(0), 0);
    while let Some(from) = first {
        let (part, next) = engine.take_changed(from, 100);
        assert!(next.is_none() || (100..300).contains(&part.len()), "{}", part.len());
        all.extend(part.iter().map(|state| state.fingerprint));
        (first, parts) = (next, parts + 1);
    }
    assert!(all.is_sorted() && all.len() == 5_000 && parts > 15, "{} in {parts}", all.len());
    all.dedup();
    assert_eq!(all.len(), 5_000);
    assert_eq!(engine.take_changed(0, usize::MAX), (vec![], None));
}

#[test]
fn a_request_that_is_refused_as_a_whole_changes_nothing() {
    let engine = kept(10);
    let asks = [ask(&engine, "a", window(5, DAY_S), 1), ask(&engine, "b", window(0, DAY_S), 1)];
    assert!(!all(&engine, &asks, at(0.0)).0);
    assert_eq!(engine.take_changed(0, usize::MAX).0, []);
}

#[test]
fn what_could_not_be_written_is_given_again_as_it_stands_then() {
    let engine = kept(10);
    let hit = |key| one(&engine, ask(&engine, key, window(5, DAY_S), 1), at(0.0));
    hit("a");
    hit("b");
    let changed = engine.take_changed(0, usize::MAX).0;
    hit("a");
    engine.put_back(&changed);
    engine.put_back(&changed);
    assert_eq!(names(&engine.take_changed(0, usize::MAX).0), [1, 2]);
    assert_eq!(engine.take_changed(0, usize::MAX).0, []);
}

#[test]
fn the_next_window_takes_the_row_of_the_last() {
    let engine = kept(1);
    let hit = |s| one(&engine, ask(&engine, "a", window(5, DAY_S), 1), at(s));
    hit(0.0);
    let first = engine.take_changed(0, usize::MAX).0;
    hit(86_400.0);
    let second = engine.take_changed(0, usize::MAX).0;
    assert_eq!(second[0], WindowRow { end_s: first[0].end_s + DAY_S, ..first[0] });
    assert_eq!((engine.kept_windows(), engine.unkept_changes()), (1, 0));
}

#[test]
fn at_the_bound_further_counters_are_not_kept_until_others_end() {
    let engine = kept(1);
    let hit = |key, s| one(&engine, ask(&engine, key, window(5, 2 * DAY_S), 1), at(s)).after;
    hit("a", 0.0);
    engine.take_changed(0, usize::MAX);
    hit("b", 0.0);
    assert_eq!(engine.take_changed(0, usize::MAX).0, []);
    assert_eq!((engine.kept_windows(), engine.unkept_changes()), (1, 1));
    assert_eq!(hit("b", 0.0), 2, "it counts all the same");
    hit("a", 0.0);
    assert_eq!(names(&engine.take_changed(0, usize::MAX).0), [2], "those that are kept stay so");
    let long_after = 2.0 * 86_400.0 + 6.0;
    for _ in 0..engine.sweeps_per_round() {
        engine.sweep(at(long_after));
    }
    assert_eq!(engine.kept_windows(), 0);
    hit("b", long_after);
    assert_eq!((names(&engine.take_changed(0, usize::MAX).0), engine.kept_windows()), (vec![1], 1));
}

#[test]
fn what_was_forgotten_before_it_was_written_is_not_written() {
    let engine = kept(10);
    let hit = |s| one(&engine, ask(&engine, "a", window(5, DAY_S), 1), at(s));
    hit(0.0);
    for _ in 0..engine.sweeps_per_round() {
        engine.sweep(at(86_400.0 + 5.0));
    }
    assert_eq!(engine.take_changed(0, usize::MAX).0, []);
    hit(86_400.0 + 6.0);
    assert_eq!(
        names(&engine.take_changed(0, usize::MAX).0),
        [1],
        "listed once, although it was on the list before"
    );
}

#[test]
fn an_edit_of_the_limit_keeps_the_count_across_a_restart() {
    let engine = kept(10);
    one(&engine, ask(&engine, "a", window(5, DAY_S), 3), at(0.0));
    let engine = restarted(&engine, at(1.0));
    assert_eq!(one(&engine, ask(&engine, "a", window(4, DAY_S), 1), at(1.0)).remaining, 0);
    assert!(one(&engine, ask(&engine, "a", window(4, DAY_S), 1), at(1.0)).over);
    assert_eq!(
        one(&engine, ask(&engine, "a", window(9, 2 * DAY_S), 1), at(1.0)).before,
        0,
        "another window is another count"
    );
}

#[test]
fn another_secret_finds_nothing_and_an_engine_without_one_keeps_nothing() {
    let before = kept(10);
    one(&before, ask(&before, "a", window(1, DAY_S), 1), at(0.0));
    let other = RuleEngine::kept(10, 10, &[8; 16]);
    before
        .take_changed(0, usize::MAX)
        .0
        .iter()
        .for_each(|state| assert!(other.restore(state, at(0.0))));
    assert!(!one(&other, ask(&other, "a", window(1, DAY_S), 1), at(0.0)).over);
    let forgetful = engine();
    one(&forgetful, ask(&forgetful, "a", window(1, DAY_S), 1), at(0.0));
    assert_eq!(forgetful.take_changed(0, usize::MAX).0, []);
}

/// A step of a life with restarts.
#[derive(Clone, Debug)]
enum Step {
    Hit { key: u8, hits: u64, negative: bool },
    Wait(u32),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u8, 0..4_u64, prop::bool::weighted(0.2)).prop_map(|(key, hits, negative)| Step::Hit { key, hits, negative }),
        2 => (0..60_000_u32).prop_map(Step::Wait),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    /// With everything written nobody can tell that there was a restart.
    #[test]
    fn a_clean_restart_changes_no_answer(steps in prop::collection::vec(step(), 1..60)) {
        let steady = engine();
        let mut engine = kept(100);
        let mut written: HashMap<[u8; 16], WindowRow> = HashMap::new();
        let mut s = 0.0;
        for step in steps {
            match step {
                Step::Hit { key, hits, negative } => {
                    let budget = window(3, if key % 2 == 0 { DAY_S } else { 3600 });
                    let asked = |engine: &RuleEngine| one(engine, Ask { negative, ..ask(engine, &key.to_string(), budget, hits) }, at(s));
                    prop_assert_eq!(asked(&engine), asked(&steady));
                }
                Step::Wait(wait) => s += f64::from(wait),
                Step::Restart => {
                    written.extend(engine.take_changed(0, usize::MAX).0.into_iter().map(|state| (state.fingerprint, state)));
                    engine = kept(100);
                    prop_assert!(written.values().all(|state| engine.restore(state, at(s))));
                }
            }
        }
    }
}
