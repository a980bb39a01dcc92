use super::*;

on_each![
    periods_are_kept_until_the_time_that_is_said,
    a_counter_ends_with_its_last_period_and_its_number_is_never_another_s,
    no_dropped_period_starts_from_0_again,
    a_period_that_ended_before_the_first_that_was_dropped_is_fresh,
    a_grant_opens_a_dropped_period_and_leaves_what_it_says,
    marks_are_kept_while_one_receipt_of_their_row_lives,
    a_receipt_of_dropped_marks_is_too_old,
    days_are_kept_from_the_day_that_is_said,
    much_is_dropped_in_steps,
    many_days_are_dropped_in_steps,
];

fn periods_are_kept_until_the_time_that_is_said(bench: &Bench) {
    let holder = bench.join(1);
    bench.one(lease(holder, 10)).unwrap();
    let expire = |by_s| bench.one(Expire { periods_ended_by_s: by_s, ..Expire::default() });
    assert_eq!(expire(DAY.end_s() - 1), Expired::default());
    assert_eq!(bench.row().charged, 10);
    assert_eq!(expire(DAY.end_s()), Expired { periods: 1, counters: 1, ..Expired::default() });
    assert_eq!(bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap(), []);
}

fn a_counter_ends_with_its_last_period_and_its_number_is_never_another_s(bench: &Bench) {
    let holder = bench.join(1);
    let tomorrow = Period::of_seconds(DAY.end_s(), DAY.end_s() + 86_400);
    let first = bench.one(lease(holder, 1)).unwrap().counter;
    bench.one(LeaseRequest { period: tomorrow, ..lease(holder, 1) }).unwrap();
    assert_eq!(
        bench.one(Expire { periods_ended_by_s: DAY.end_s(), ..Expire::default() }).counters,
        0
    );
    let known =
        LeaseRequest { counter: Counter::Known(first), period: tomorrow, ..lease(holder, 2) };
    assert_eq!(bench.one(known.clone()).unwrap().leased, 2);
    assert_eq!(
        bench.one(Expire { periods_ended_by_s: tomorrow.end_s(), ..Expire::default() }).counters,
        1
    );
    assert_eq!(bench.one(known), Err(Refused::UnknownCounter));
    let later = Period::of_seconds(tomorrow.end_s(), tomorrow.end_s() + 86_400);
    let again = bench.one(LeaseRequest { period: later, ..lease(holder, 1) }).unwrap();
    assert!(again.counter > first);
}

fn no_dropped_period_starts_from_0_again(bench: &Bench) {
    let holder = bench.join(1);
    bench.one(lease(holder, 10)).unwrap();
    bench.one(Expire { periods_ended_by_s: DAY.end_s(), ..Expire::default() });
    let dropped = || Err(Refused::PeriodDropped);
    assert_eq!(
        bench.one(lease(holder, 20)),
        dropped(),
        "a clock that stepped back finds nothing left"
    );
    let other = LeaseRequest { counter: Counter::Named(identity("umbrella")), ..lease(holder, 20) };
    assert_eq!(
        bench.one(other.clone()),
        dropped(),
        "nor does a counter whose row may have been dropped"
    );
    let charge = ChargeRequest {
        counter: other.counter.clone(),
        period: DAY,
        units: 1,
        now_s: NOON,
        once: None,
    };
    assert_eq!(bench.one(charge), Err(Refused::PeriodDropped));
    assert_eq!(
        bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap(),
        [],
        "and nothing is made for it"
    );
    assert_eq!(bench.one(LeaseRequest { may_pass: true, ..lease(holder, 20) }).unwrap().leased, 20);
    let longer = Period::of_seconds(DAY.start_s(), DAY.end_s() + 1);
    assert_eq!(bench.one(LeaseRequest { period: longer, ..other }).unwrap().leased, 20);
}

fn a_period_that_ended_before_the_first_that_was_dropped_is_fresh(bench: &Bench) {
    let holder = bench.join(1);
    bench.one(lease(holder, 10)).unwrap();
    bench.one(Expire { periods_ended_by_s: DAY.end_s(), ..Expire::default() });
    // A board without a clock begins in 1970.
    let first = Period::of_seconds(0, DAY.end_s() - 1);
    assert_eq!(bench.one(LeaseRequest { period: first, ..lease(holder, 20) }).unwrap().leased, 20);
    bench.one(Expire { periods_ended_by_s: DAY.end_s(), ..Expire::default() });
    assert_eq!(
        bench.one(LeaseRequest { period: first, ..lease(holder, 20) }),
        Err(Refused::PeriodDropped),
        "once"
    );
}

fn a_grant_opens_a_dropped_period_and_leaves_what_it_says(bench: &Bench) {
    let holder = bench.join(1);
    let changes = [
        (Grant::Add(5), 5),
        (Grant::SetRemaining(7), 7),
        (Grant::SetRemaining(0), 0),
        (Grant::Reset, 100),
    ];
    let counter = |place: usize| Counter::Named(identity(&format!("s{place}")));
    let lease =
        |place, want| bench.one(LeaseRequest { counter: counter(place), ..lease(holder, want) });
    (0..changes.len()).for_each(|place| assert_eq!(lease(place, 10).unwrap().leased, 10));
    bench.one(Expire { periods_ended_by_s: DAY.end_s(), ..Expire::default() });
    for (place, (change, remaining)) in changes.into_iter().enumerate() {
        assert_eq!(lease(place, 1), Err(Refused::PeriodDropped));
        let grant = GrantRequest {
            counter: counter(place),
            period: DAY,
            change,
            limit: 100,
            now_s: NOON,
            once: None,
        };
        let Balance { charged, granted, .. } = bench.one(grant).unwrap().balance.unwrap();
        assert_eq!(
            (charged, 100u64.saturating_add_signed(granted) - charged),
            (100, remaining),
            "{change:?}: it counts as used up"
        );
        assert_eq!(lease(place, 1_000).unwrap().leased, remaining, "{change:?}");
    }
}

fn issued(bench: &Bench, holder: Holder, seq: u64, issued_s: u64) -> Settled {
    let mut settle = settle(holder, seq, &[]);
    settle.mark.issued_s = issued_s;
    bench.one(settle)
}

fn marks_are_kept_while_one_receipt_of_their_row_lives(bench: &Bench) {
    let holder = bench.join(1);
    for (seq, issued_s) in [(1, 1_000), (2, 2_000), (3, 1_500)] {
        assert_eq!(issued(bench, holder, seq, issued_s), Settled::Done(vec![]));
    }
    assert_eq!(
        bench.one(Expire { marks_issued_before_s: 2_000, ..Expire::default() }).mark_rows,
        0
    );
    assert_eq!(issued(bench, holder, 1, 1_000), Settled::Duplicate);
    assert_eq!(
        bench.one(Expire { marks_issued_before_s: 2_001, ..Expire::default() }).mark_rows,
        1
    );
    assert_ne!(issued(bench, holder, 2, 2_000), Settled::Duplicate);
}

fn a_receipt_of_dropped_marks_is_too_old(bench: &Bench) {
    let holder = bench.join(1);
    issued(bench, holder, 1, 2_000);
    bench.one(Expire { marks_issued_before_s: 9_000, ..Expire::default() });
    assert_eq!(
        issued(bench, holder, 1, 2_000),
        Settled::TooOld,
        "a clock that stepped back does not make it good again"
    );
    assert_eq!(issued(bench, holder, 5, 1_999), Settled::TooOld);
    assert_eq!(
        issued(bench, holder, 6, 2_001),
        Settled::Done(vec![]),
        "what was issued later was never dropped"
    );
}

fn days_are_kept_from_the_day_that_is_said(bench: &Bench) {
    let holder = bench.join(1);
    let key = |day| DailyKey {
        day,
        subscriber: "acme".into(),
        key: "acme-1".into(),
        plan: "gold".into(),
        entitlement: "everything".into(),
        target: "orders/prod".into(),
    };
    let counts = |admitted| DailyCounts { admitted, ..DailyCounts::default() };
    let row =
        |day| DailyChange { number: day, name: DailyName::Told(key(day)), counts: counts(day) };
    let rows = (3..7).map(row).collect();
    bench.one(DailyReport { holder, rows });
    assert_eq!(
        bench.one(Expire { days_before: 5, ..Expire::default() }),
        Expired { days: 2, ..Expired::default() }
    );
    let change =
        |day| DailyChange { number: day, name: DailyName::Known { day }, counts: counts(10 * day) };
    bench.one(DailyReport { holder, rows: (3..7).map(change).collect() });
    let kept = bench.ledger.daily(&Scope::All, 0, 9).unwrap();
    let kept: Vec<_> =
        kept.into_iter().map(|(_, row)| (row.key.day, row.counts.admitted)).collect();
    assert_eq!(kept, [(5, 50), (6, 60)], "what is dropped does not come back");
    assert_eq!(
        bench.one(Expire { days_before: 6, ..Expire::default() }),
        Expired { days: 1, ..Expired::default() }
    );
}

fn much_is_dropped_in_steps(bench: &Bench) {
    let holder = bench.join(1);
    let many = operations::MAX_EXPIRED + 10;
    let leases: Vec<_> = (0..many)
        .map(|number| LeaseRequest {
            counter: Counter::Named(identity(&format!("s{number}"))),
            ..lease(holder, 1)
        })
        .map(Operation::Lease)
        .collect();
    bench.ledger.commit(&leases).unwrap();
    let expire = Expire { periods_ended_by_s: DAY.end_s(), ..Expire::default() };
    let steps = [bench.one(expire), bench.one(expire), bench.one(expire)];
    assert_eq!(
        steps.map(|step| (step.periods, step.counters, step.more)),
        [(operations::MAX_EXPIRED, operations::MAX_EXPIRED, true), (10, 10, false), (0, 0, false)]
    );
}

fn many_days_are_dropped_in_steps(bench: &Bench) {
    let holder = bench.join(1);
    let row = |number: u64| {
        let name = |id: &str| -> Id { format!("{id}-{number}").into() };
        let [subscriber, key, plan, entitlement, target] =
            ["acme", "key", "gold", "all", "orders"].map(name);
        let key = DailyKey { day: 5 + number % 2, subscriber, key, plan, entitlement, target };
        DailyChange {
            number,
            name: DailyName::Told(key),
            counts: DailyCounts { admitted: number, ..DailyCounts::default() },
        }
    };
    // Of each of two days one more than is dropped at once.
    let most = operations::MAX_EXPIRED;
    bench.one(DailyReport { holder, rows: (0..2 * most + 2).map(row).collect() });
    let listed = || {
        let rows = bench.ledger.daily(&Scope::All, 0, 9).unwrap();
        assert!(rows.iter().all(|(_, row)| row.counts.admitted == row.number), "{rows:?}");
        [5, 6].map(|day| rows.iter().filter(|(_, row)| row.key.day == day).count() as u64)
    };
    let step = || {
        let step = bench.one(Expire { days_before: 6, ..Expire::default() });
        (step.days, step.more)
    };
    assert_eq!(listed(), [most + 1, most + 1]);
    assert_eq!(
        (step(), listed()),
        ((most, true), [1, most + 1]),
        "the last shares its page with rows that are gone"
    );
    assert_eq!((step(), listed()), ((1, false), [0, most + 1]));
    assert_eq!((step(), listed()), ((0, false), [0, most + 1]));
}
