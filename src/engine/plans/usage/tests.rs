use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::*;
use crate::decide::ledger::{DailyChange, DailyName};

const DAY_NS: u64 = DAY_S * SECOND_NS;
const TODAY: u64 = 20_779;

/// Rows, and whom they are about.
struct Bench {
    usage: Usage,
    fingerprints: Fingerprinter,
    nothing: Id,
}

/// What a ledger makes of what it is told: each report takes the place of the one before. By
/// number, the day and the admissions.
#[derive(Default)]
struct Kept(HashMap<u64, (u64, u64)>);

impl Kept {
    fn put(&mut self, taken: TakenUsage<'_>) {
        for change in taken.changes() {
            let DailyChange { number, name, counts } = change;
            let kept = self.0.insert(number, (name.day(), counts.admitted));
            let goes_on = |(day, before)| day == name.day() && before <= counts.admitted;
            assert!(
                matches!(name, DailyName::Told(_)) || kept.is_some_and(goes_on),
                "{number} {kept:?} {counts:?}"
            );
        }
    }

    fn sum(&self, day: u64) -> u64 {
        self.0.values().filter(|(of, _)| *of == day).map(|(_, admitted)| admitted).sum()
    }
}

impl Bench {
    fn new(usage: Usage) -> Self {
        Self { usage, fingerprints: Fingerprinter::new([1; 16]), nothing: Id::default() }
    }

    fn admit(&self, last: &mut Option<Arc<Row>>, key: &Id, now: Now) {
        let nothing = &self.nothing;
        let who =
            Who { subscriber: nothing, key, plan: nothing, entitlement: nothing, target: nothing };
        self.usage.count_again(last, &self.fingerprints, who, Event::Admitted, now);
    }

    fn one(&self, key: &str, now: Now) {
        self.admit(&mut None, &key.into(), now);
    }

    fn take(&self) -> UnwrittenUsage {
        self.usage.take()
    }

    fn write(&self, kept: &mut Kept) {
        for taken in self.take().parts(2) {
            kept.put(taken);
            self.usage.written(taken);
        }
    }

    fn written(&self, taken: &UnwrittenUsage) {
        taken.parts(9).for_each(|taken| self.usage.written(taken));
    }

    fn not_written(&self, taken: &UnwrittenUsage) {
        taken.parts(9).for_each(|taken| self.usage.not_written(taken));
    }

    fn days(&self) -> Vec<(u64, u64)> {
        let rows = self.usage.numbered(&Scope::All, 0, u64::MAX).into_iter();
        let mut days: Vec<_> = rows.map(|row| (row.key.day, row.counts.admitted)).collect();
        days.sort_unstable();
        days
    }
}

fn at(unix_ns: u64) -> Now {
    Now { unix_ns, steady_ns: 1 }
}

fn day(day: u64) -> Now {
    at(day * DAY_NS)
}

/// Admissions, and whether it is said whose they are.
fn counts(taken: &UnwrittenUsage) -> Vec<(u64, bool)> {
    let one =
        |change: DailyChange| (change.counts.admitted, matches!(change.name, DailyName::Told(_)));
    taken.parts(9).flat_map(|taken| taken.changes().map(one).collect::<Vec<_>>()).collect()
}

#[test]
fn a_day_ends_at_midnight_utc() {
    let bench = Bench::new(Usage::new(9));
    let midnight = TODAY * DAY_NS;
    let mut last = None;
    for instant in [midnight - DAY_NS, midnight - 1, midnight, midnight + 1] {
        bench.admit(&mut last, &"k".into(), at(instant));
    }
    bench.one("k", at(midnight - 1));
    assert_eq!(bench.days(), [(TODAY - 1, 3), (TODAY, 2)]);
}

#[test]
fn a_row_is_taken_once_for_all_its_changes_and_again_after_the_next() {
    let bench = Bench::new(Usage::new(9));
    (0..3).for_each(|_| bench.one("k", day(TODAY)));
    assert_eq!(bench.usage.unwritten(), 1);
    let taken = bench.take();
    assert_eq!((counts(&taken), bench.usage.unwritten()), (vec![(3, true)], 1), "on its way");
    assert_eq!(counts(&bench.take()), []);
    bench.one("k", day(TODAY));
    let again = bench.take();
    assert_eq!(counts(&again), [(4, true)], "all of it, not the change");
    bench.not_written(&taken);
    bench.not_written(&again);
    assert_eq!(bench.usage.unwritten(), 1, "waits once");
    let at_last = bench.take();
    assert_eq!((counts(&at_last), counts(&bench.take())), (vec![(4, true)], vec![]));
    bench.written(&at_last);
    assert_eq!(bench.usage.unwritten(), 0);
}

#[test]
fn whose_a_row_is_is_said_until_it_is_written() {
    let bench = Bench::new(Usage::new(9));
    let again = || {
        bench.one("k", day(TODAY));
        bench.take()
    };
    for count in 1..3 {
        let taken = again();
        assert_eq!(counts(&taken), [(count, true)]);
        bench.not_written(&taken);
    }
    bench.one("k", day(TODAY));
    bench.write(&mut Kept::default());
    for count in 4..6 {
        let taken = again();
        assert_eq!(counts(&taken), [(count, false)]);
        bench.not_written(&taken);
    }
    bench.one("other", day(TODAY));
    assert_eq!(counts(&bench.take()), [(5, false), (1, true)]);
}

#[test]
fn whose_a_row_is_is_said_again_when_it_has_left_memory() {
    let bench = Bench::new(Usage::new(9));
    let mut last = None;
    bench.admit(&mut last, &"k".into(), day(TODAY));
    bench.write(&mut Kept::default());
    // From then on each time: nothing sweeps what is not there, and a later day may be dropped
    // again.
    for (count, later, told) in [(2, 1, false), (3, 2, true), (4, 2, true), (5, 9, true)] {
        bench.usage.sweep(day(TODAY + later));
        // The clock steps back, and the caller remembers the row.
        bench.admit(&mut last, &"k".into(), day(TODAY));
        let taken = bench.take();
        assert_eq!(counts(&taken), [(count, told)]);
        bench.written(&taken);
    }
}

#[test]
fn rows_are_taken_in_the_order_of_their_numbers_and_written_in_parts() {
    let bench = Bench::new(Usage::new(99));
    for round in [true, false] {
        // The other way round the second time.
        (0..50).for_each(|number| {
            bench.one(&format!("k{}", if round { number } else { 49 - number }), day(TODAY))
        });
        let taken = bench.take();
        let number = |change: DailyChange| change.number;
        // The first of a part is not a neighbour of anything in it, and the first time it is told
        // whose they are.
        let twenty = if round { 8 + 20 * 9 } else { 8 + 20 };
        let parts =
            |most| taken.parts(most).map(|taken| taken.changes().count()).collect::<Vec<_>>();
        assert_eq!((parts(twenty), parts(twenty - 1)), (vec![20, 20, 10], vec![19, 19, 12]));
        assert_eq!((parts(0), parts(usize::MAX)), (vec![1; 50], vec![50]));
        let numbers: Vec<u64> = taken
            .parts(twenty)
            .flat_map(|taken| taken.changes().map(number).collect::<Vec<_>>())
            .collect();
        assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
        assert_eq!(bench.usage.unwritten(), 50);
        bench.written(&taken);
        assert_eq!(bench.usage.unwritten(), 0);
    }
}

#[test]
fn what_does_not_lie_together_is_written_in_smaller_parts() {
    let bench = Bench::new(Usage::new(999));
    let ask = |step: usize| {
        (0..640).step_by(step).for_each(|number| bench.one(&format!("k{number}"), day(TODAY)))
    };
    ask(1);
    bench.write(&mut Kept::default());
    // Ten pages of 64, beside one of each: numbers begin at 1, so the first page has one less, and
    // an eleventh has it.
    for (step, work) in [(1, 640 + 11 * 8), (64, 10 + 10 * 8)] {
        ask(step);
        let taken = bench.take();
        assert_eq!((taken.parts(work).count(), taken.parts(work - 1).count()), (1, 2), "{step}");
        assert!(counts(&taken).iter().all(|(_, told)| !told));
        bench.written(&taken);
    }
}

#[test]
fn a_row_leaves_memory_two_days_later_and_only_when_it_is_written() {
    let bench = Bench::new(Usage::new(9));
    let sweep = |instant| {
        bench.usage.sweep(at(instant));
        bench.usage.rows()
    };
    let over = (TODAY + 2) * DAY_NS;
    bench.one("k", day(TODAY));
    assert_eq!(sweep(over), 1, "not written");
    let taken = bench.take();
    assert_eq!(sweep(over), 1, "on its way");
    assert_eq!(counts(&taken), [(1, true)]);
    assert_eq!(sweep(over), 1, "read");
    bench.not_written(&taken);
    assert_eq!(sweep(over), 1, "not written after all");
    bench.write(&mut Kept::default());
    assert_eq!((sweep(over - 1), sweep(over)), (1, 0));
}

#[test]
fn at_the_bound_events_are_dropped_until_rows_are_written() {
    let bench = Bench::new(Usage::new(1));
    bench.one("k", day(TODAY));
    bench.usage.sweep(day(TODAY + 2));
    bench.one("k", day(TODAY + 2));
    assert_eq!((bench.usage.dropped(), bench.usage.unwritten()), (1, 1));
    bench.write(&mut Kept::default());
    bench.usage.sweep(day(TODAY + 2));
    bench.one("k", day(TODAY + 2));
    assert_eq!((bench.usage.dropped(), bench.days()), (1, vec![(TODAY + 2, 1)]));
}

#[test]
fn a_row_that_is_counted_in_again_after_it_left_is_another() {
    let bench = Bench::new(Usage::new(9));
    let (mut kept, mut last) = (Kept::default(), None);
    for counted in 1..=5 {
        // The wall clock leaps ahead, and steps back. One caller remembers the row that it counted
        // in last, another one does not.
        bench.admit(&mut last, &"k".into(), day(TODAY));
        bench.one("k", day(TODAY));
        bench.write(&mut kept);
        assert_eq!(kept.sum(TODAY), 2 * counted);
        bench.usage.sweep(day(TODAY + 30));
        assert_eq!(bench.usage.rows(), 0);
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_while_rows_are_written_and_dropped() {
    const EACH: u64 = 20_000;
    let bench = Bench::new(Usage::new(1_000));
    let done = AtomicBool::new(false);
    let mut kept = Kept::default();
    thread::scope(|scope| {
        let counting: Vec<_> = (0..4u64)
            .map(|seed| {
                let bench = &bench;
                scope.spawn(move || {
                    let keys: Vec<Id> = (0..7).map(|key| format!("k{key}").into()).collect();
                    let mut lasts = vec![None; keys.len()];
                    for (turn, place) in (seed..seed + EACH).zip((0..keys.len()).cycle()) {
                        // Most find the row that they know; some look it up.
                        let last = if turn % 5 == 0 { &mut None } else { &mut lasts[place] };
                        bench.admit(last, &keys[place], day(TODAY));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                bench.usage.sweep(day(TODAY + 9));
            }
        });
        let writing = scope.spawn(|| {
            let mut kept = Kept::default();
            let mut round = 0;
            while !done.load(Ordering::SeqCst) {
                for taken in bench.take().parts(3) {
                    round += 1;
                    if round % 3 == 0 {
                        taken.changes().for_each(drop);
                        bench.usage.not_written(taken);
                    } else {
                        kept.put(taken);
                        bench.usage.written(taken);
                    }
                }
            }
            kept
        });
        counting.into_iter().for_each(|counting| counting.join().unwrap());
        done.store(true, Ordering::SeqCst);
        kept = writing.join().unwrap();
    });
    for after in [4 * EACH, 4 * EACH + 1] {
        bench.write(&mut kept);
        assert_eq!(
            (kept.sum(TODAY), bench.usage.dropped(), bench.usage.unwritten()),
            (after, 0, 0)
        );
        bench.usage.sweep(day(TODAY + 9));
        assert_eq!(bench.usage.rows(), 0);
        bench.one("k0", day(TODAY));
    }
}
