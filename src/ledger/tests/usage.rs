use super::*;

on_each![
    what_a_living_epoch_has_not_told_to_be_spent_is_held,
    what_a_dead_epoch_has_not_told_to_be_spent_is_lost,
    what_was_given_back_is_not_lost,
    refunds_are_not_used,
    books_are_listed_by_scope_and_range_in_order,
    every_list_shows_the_same_of_one_book,
    a_list_is_walked_in_stretches_that_end_between_two_owners,
    counters_whose_periods_have_ended_are_loaded_once,
    running_periods_are_loaded_with_when_they_were_active,
];

fn what_a_living_epoch_has_not_told_to_be_spent_is_held(bench: &Bench) {
    let holder = bench.join(1);
    bench.one(lease(holder, 10)).unwrap();
    bench.one(LeaseRequest { spent: 7, ..lease(holder, 20) }).unwrap();
    let row = bench.row();
    assert_eq!((row.charged, row.held, row.lost, row.used()), (20, 13, 0, 7));
}

fn what_a_dead_epoch_has_not_told_to_be_spent_is_lost(bench: &Bench) {
    let dead = bench.join(1);
    bench.one(LeaseRequest { spent: 0, ..lease(dead, 10) }).unwrap();
    bench.one(LeaseRequest { spent: 7, ..lease(dead, 20) }).unwrap();
    let other = bench.join(2);
    bench.one(lease(other, 4)).unwrap();
    let living = bench.join(1);
    bench.one(lease(living, 3)).unwrap();
    let row = bench.row();
    assert_eq!((row.charged, row.held, row.lost, row.used()), (27, 7, 13, 7));
}

fn what_was_given_back_is_not_lost(bench: &Bench) {
    let holder = bench.join(1);
    let lease = bench.one(lease(holder, 10)).unwrap();
    bench.one(back(&lease, holder, 4));
    bench.join(1);
    let row = bench.row();
    assert_eq!((row.charged, row.held, row.lost, row.used()), (4, 0, 0, 4));
}

fn refunds_are_not_used(bench: &Bench) {
    let holder = bench.join(1);
    let lease = bench.one(lease(holder, 10)).unwrap();
    bench.one(back(&lease, holder, 10));
    bench.one(settle(holder, 1, &[(lease.counter, -3)]));
    assert_eq!((bench.row().charged, bench.row().used()), (7, 7));
}

fn of(subscriber: &str, key: Option<&str>, plan: &str) -> CounterIdentity {
    CounterIdentity { key: key.map(Into::into), plan: plan.into(), ..identity(subscriber) }
}

fn books_are_listed_by_scope_and_range_in_order(bench: &Bench) {
    let holder = bench.join(1);
    let tomorrow = Period::of_seconds(DAY.end_s(), DAY.end_s() + 86_400);
    let books = [
        (of("acme", None, "gold"), DAY),
        (of("acme", None, "gold"), tomorrow),
        (of("acme", Some("acme-1"), "silver"), DAY),
        (of("umbrella", None, "gold"), tomorrow),
    ];
    for (want, (name, period)) in (1..).zip(books.iter().rev()) {
        bench
            .one(LeaseRequest {
                counter: Counter::Named(name.clone()),
                period: *period,
                ..lease(holder, want)
            })
            .unwrap();
    }
    let acme = || Scope::Subscriber("acme".into());
    // Scope, from, until, and which of the books.
    let cases: &[(Scope, u64, u64, &[usize])] = &[
        (Scope::All, 0, u64::MAX, &[0, 1, 2, 3]),
        (acme(), 0, u64::MAX, &[0, 1, 2]),
        (acme(), 0, DAY.start_s(), &[]),
        (acme(), 0, DAY.start_s() + 1, &[0, 2]),
        (acme(), DAY.end_s() - 1, DAY.end_s(), &[0, 2]),
        (acme(), DAY.end_s(), DAY.end_s() + 1, &[1]),
        (acme(), DAY.end_s() - 1, DAY.end_s() + 1, &[0, 1, 2]),
        (Scope::Key("acme-1".into()), 0, u64::MAX, &[2]),
        (Scope::Key("".into()), 0, u64::MAX, &[]),
        (Scope::Plan("gold".into()), 0, u64::MAX, &[0, 1, 3]),
    ];
    for (scope, from_s, until_s, expected) in cases {
        let listed = bench.ledger.usage(scope, *from_s, *until_s).unwrap();
        let listed: Vec<_> = listed.into_iter().map(|row| (row.identity, row.period)).collect();
        let expected: Vec<_> = expected.iter().map(|&place| books[place].clone()).collect();
        assert_eq!(listed, expected, "{scope:?} {from_s} {until_s}");
    }
}

fn a_list_is_walked_in_stretches_that_end_between_two_owners(bench: &Bench) {
    let holder = bench.join(1);
    let tomorrow = Period::of_seconds(DAY.end_s(), DAY.end_s() + 86_400);
    for (subscriber, key) in
        [("b", Some("k2")), ("a", None), ("b", None), ("c", Some("k")), ("b", Some("k1"))]
    {
        for (plan, period) in [("gold", DAY), ("gold", tomorrow), ("silver", DAY)] {
            let counter = Counter::Named(of(subscriber, key, plan));
            bench.one(LeaseRequest { counter, period, ..lease(holder, 1) }).unwrap();
        }
    }
    let gold = Scope::Plan("gold".into());
    for (scope, from_s) in
        [(Scope::All, 0), (gold, 0), (Scope::Subscriber("b".into()), 0), (Scope::All, DAY.end_s())]
    {
        let all = bench.ledger.usage(&scope, from_s, u64::MAX).unwrap();
        assert!(!all.is_empty());
        for most in [1, 2, 3, 4, 14, 15, 16] {
            let (mut walked, mut first) = (Vec::new(), Some(Whose::default()));
            while let Some(begin) = first {
                let stretch = Stretch { from_s, until_s: u64::MAX, first: begin, most };
                let (rows, next) = bench.ledger.usage_of(&scope, &stretch).unwrap();
                // It goes on to the end of an owner's rows, of whom none has more than three.
                assert!(
                    rows.len() < most + 3 && (next.is_none() || rows.len() >= most),
                    "{} of {most}",
                    rows.len()
                );
                assert!(
                    next.is_none()
                        || next.as_ref() > rows.last().map(|row| row.identity.whose()).as_ref()
                );
                walked.extend(rows);
                first = next;
            }
            assert_eq!(walked, all, "{scope:?} by {most}");
        }
    }
}

fn running_periods_are_loaded_with_when_they_were_active(bench: &Bench) {
    let holder = bench.join(1);
    for (subscriber, now_s) in [("first", NOON), ("third", NOON + 20), ("second", NOON + 10)] {
        bench
            .one(LeaseRequest {
                counter: Counter::Named(identity(subscriber)),
                now_s,
                ..lease(holder, 5)
            })
            .unwrap();
    }
    let live = |now_s| {
        let mut names = Vec::new();
        bench
            .ledger
            .load_live(now_s, &mut |row| {
                names.push((row.active_s - NOON, row.identity.subscriber.to_string(), row.charged))
            })
            .unwrap();
        names.sort();
        names
    };
    let all = [(0, "first"), (10, "second"), (20, "third")]
        .map(|(active_s, name)| (active_s, name.to_owned(), 5));
    assert_eq!(live(DAY.start_s()), all);
    assert_eq!(live(DAY.end_s() - 1), all);
    assert_eq!(live(DAY.end_s()), []);
}

/// Counters with no lease, one or several, in one period or two.
fn every_list_shows_the_same_of_one_book(bench: &Bench) {
    let dead = bench.join(1);
    let holders = [bench.join(1), bench.join(2), dead];
    let tomorrow = Period::of_seconds(DAY.end_s(), DAY.end_s() + 86_400);
    let names: Vec<_> = (0..8).map(|number| format!("s{number}")).collect();
    for (number, name) in (0..8usize).zip(&names) {
        for (place, &holder) in (0..).zip(&holders).filter(|(place, _)| number & (1 << place) != 0)
        {
            for period in [tomorrow, DAY] {
                bench
                    .one(LeaseRequest {
                        counter: Counter::Named(identity(name)),
                        period,
                        ..lease(holder, 1 + place)
                    })
                    .unwrap();
            }
        }
        if number == 0 {
            bench
                .one(LeaseRequest { counter: Counter::Named(identity(name)), ..lease(dead, 0) })
                .unwrap();
        }
    }
    let all = bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap();
    assert_eq!(all.len(), 15);
    for (number, row) in [0].into_iter().chain((1..8).flat_map(|number| [number, number])).zip(&all)
    {
        let expected = (
            u64::from(number & 4 != 0) * 3,
            u64::from(number & 1 != 0) + u64::from(number & 2 != 0) * 2,
        );
        assert_eq!(
            (row.lost, row.held, row.charged),
            (expected.0, expected.1, expected.0 + expected.1),
            "{row:?}"
        );
    }
    let one_by_one = names.iter().flat_map(|name| {
        bench.ledger.usage(&Scope::Subscriber((**name).into()), 0, u64::MAX).unwrap()
    });
    assert_eq!(one_by_one.collect::<Vec<_>>(), all);
    let mut live = Vec::new();
    bench.ledger.load_live(0, &mut |row| live.push(row)).unwrap();
    live.sort_by(|one, other| one.order().cmp(&other.order()));
    assert_eq!(live, all);
}

fn counters_whose_periods_have_ended_are_loaded_once(bench: &Bench) {
    let holder = bench.join(1);
    let hour = |number: u64| Period::of_seconds(number * 3_600, (number + 1) * 3_600);
    let lease = |identity: CounterIdentity, number| {
        bench
            .one(LeaseRequest {
                counter: Counter::Named(identity),
                period: hour(number),
                ..lease(holder, 1)
            })
            .unwrap()
            .counter
    };
    let acme = lease(of("acme", None, "gold"), 1);
    (2..5).for_each(|number| assert_eq!(lease(of("acme", None, "gold"), number), acme));
    let by_key = lease(of("acme", Some("acme-1"), "gold"), 3);
    let ended = |after_s, by_s, most| {
        let mut found = Vec::new();
        bench
            .ledger
            .load_ended(after_s, by_s, most, &mut |counter, identity| {
                found.push((counter, identity))
            })
            .unwrap();
        found.sort_by_key(|(counter, _)| *counter);
        found
    };
    let both = [(acme, of("acme", None, "gold")), (by_key, of("acme", Some("acme-1"), "gold"))];
    assert_eq!(ended(0, 9 * 3_600, 9), both);
    assert_eq!(ended(0, 9 * 3_600, 1).len(), 1);
    // The hours of the key end at 14,400.
    for (after_s, by_s, found) in [
        (0, 14_399, 1),
        (0, 14_400, 2),
        (14_399, 14_400, 2),
        (14_400, 18_000, 1),
        (18_000, 90_000, 0),
    ] {
        assert_eq!(ended(after_s, by_s, 9), both[..found], "{after_s} to {by_s}");
    }
}
