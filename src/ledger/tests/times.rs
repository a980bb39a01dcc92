//! What is kept of time, and what a clock that was wrong must not have dropped for good.

use super::*;

on_each![
    a_time_that_is_believed_is_kept_whether_it_goes_on_or_back,
    a_period_that_a_wrong_clock_dropped_is_open_again_and_those_that_are_over_are_not,
    receipts_are_settled_again_that_are_issued_after_a_wrong_clock_dropped_marks,
    a_holder_that_a_wrong_clock_saw_end_has_ended_by_now,
];

fn believe(bench: &Bench, now_s: u64, vouched: bool) -> bool {
    bench.one(Expire { believed: Some(Believed { now_s, vouched }), ..Expire::default() }).reopened
}

fn a_time_that_is_believed_is_kept_whether_it_goes_on_or_back(bench: &Bench) {
    let known = || {
        let Times { vouched_s, seen_s, .. } = bench.ledger.times().unwrap();
        (vouched_s, seen_s)
    };
    assert_eq!(bench.ledger.times().unwrap(), Times::default());
    for (now_s, vouched, expected) in [
        (1_000, false, (None, Some(1_000))),
        (900, false, (None, Some(900))),
        (2_000, true, (Some(2_000), None)),
        (3_000, true, (Some(3_000), None)),
        (2_500, true, (Some(2_500), None)),
        (u64::MAX / 2, true, (Some(u64::MAX / 2), None)),
    ] {
        assert!(!believe(bench, now_s, vouched), "nothing was dropped");
        assert_eq!(known(), expected);
    }
    bench.one(Expire::default());
    assert_eq!(known(), (Some(u64::MAX / 2), None), "nothing is believed by default");
}

fn a_period_that_a_wrong_clock_dropped_is_open_again_and_those_that_are_over_are_not(
    bench: &Bench,
) {
    let holder = bench.join(1);
    let yesterday = Period::of_seconds(0, DAY.start_s());
    bench.one(LeaseRequest { period: yesterday, ..lease(holder, 10) }).unwrap();
    bench.one(lease(holder, 10)).unwrap();
    bench.one(Expire { periods_ended_by_s: u64::MAX, ..Expire::default() });
    assert_eq!(bench.ledger.times().unwrap().periods_dropped_to_s, DAY.end_s());
    assert!(!believe(bench, DAY.end_s(), true), "all of it can be old by then");
    assert_eq!(bench.one(lease(holder, 20)), Err(Refused::PeriodDropped));
    assert!(believe(bench, DAY.end_s() - 1, true));
    assert!(!believe(bench, DAY.end_s() - 1, true), "once");
    assert_eq!(bench.one(lease(holder, 20)).unwrap().leased, 20);
    assert_eq!(
        bench.one(LeaseRequest { period: yesterday, ..lease(holder, 20) }),
        Err(Refused::PeriodDropped),
        "it was over, and does not begin again"
    );
}

fn receipts_are_settled_again_that_are_issued_after_a_wrong_clock_dropped_marks(bench: &Bench) {
    let holder = bench.join(1);
    let settled = |seq, issued_s| {
        let mut settle = settle(holder, seq, &[]);
        settle.mark.issued_s = issued_s;
        bench.one(settle)
    };
    assert_eq!(settled(1, 9_000), Settled::Done(vec![]));
    bench.one(Expire { marks_issued_before_s: u64::MAX, ..Expire::default() });
    assert_eq!(settled(2, 8_001), Settled::TooOld);
    assert!(believe(bench, 8_000, false));
    assert_eq!(settled(2, 8_000), Settled::TooOld, "it may have been settled before");
    assert_eq!(settled(2, 8_001), Settled::Done(vec![]));
}

fn a_holder_that_a_wrong_clock_saw_end_has_ended_by_now(bench: &Bench) {
    let first = bench.join(1);
    let names = vec![NumberedName { kind: NameKind::Key, number: 1, name: "acme-1".into() }];
    bench.one(NameReport { holder: first, names });
    bench.join(1);
    let expire = |now_s, before_s| {
        bench.one(Expire { now_s, names_ended_before_s: before_s, ..Expire::default() }).names
    };
    assert_eq!(expire(None, 900_000), 0, "nobody says when");
    assert_eq!(expire(Some(900_000), 100), 0);
    assert_eq!(expire(Some(1_000), 1_000), 0, "it ended now, and not in a time to come");
    assert_eq!(expire(Some(2_000), 1_000), 0, "and not later");
    assert_eq!(expire(Some(2_000), 1_001), 1);
}

#[test]
fn a_ledger_of_an_older_program_tells_the_time_by_what_was_written_last() {
    let bench = Bench::file();
    let holder = bench.join(1);
    let seen = || bench.ledger.times().unwrap().seen_s;
    assert_eq!(seen(), None);
    bench.one(lease(holder, 1)).unwrap();
    assert_eq!(seen(), Some(NOON), "a lease");
    let mut marked = settle(holder, 1, &[]);
    marked.mark.issued_s = NOON + 10;
    bench.one(marked);
    assert_eq!(seen(), Some(NOON + 10), "a receipt");
    let id = Id::from("a");
    let [subscriber, key, plan, entitlement, target] = [(); 5].map(|()| id.clone());
    let key = DailyKey { day: 1, subscriber, key, plan, entitlement, target };
    bench.one(DailyReport {
        holder,
        rows: vec![DailyChange {
            number: 1,
            name: DailyName::Told(key),
            counts: DailyCounts::default(),
        }],
    });
    assert_eq!(seen(), Some(DAY.end_s()), "a day may have been counted up to its end");
}
