use super::*;

on_each![
    a_lease_gives_what_is_wanted_and_charges_it,
    the_last_unit_is_leased_and_not_one_more,
    a_repeated_lease_changes_nothing,
    what_is_given_back_can_be_leased_again,
    a_repeated_give_back_changes_nothing,
    an_old_give_back_takes_nothing_that_was_spent_since,
    more_spent_than_leased_gives_nothing_back,
    holders_share_one_limit,
    epochs_of_one_holder_have_leases_of_their_own,
    a_lease_that_may_pass_the_limit_does,
    a_lowered_limit_leases_nothing_more_and_takes_nothing_back,
    a_limit_of_an_older_revision_is_refused_and_charges_nothing,
    a_peek_numbers_the_counter_and_charges_nothing,
    a_number_that_was_never_given_is_refused,
    names_that_differ_in_anything_have_numbers_of_their_own,
    count_rules_keep_their_numbers,
    as_many_count_rules_as_a_receipt_can_name_are_numbered,
    periods_are_counted_apart,
    amounts_beyond_any_counter_stand_for_the_greatest,
    grants_are_leased_after_the_limit,
    taking_away_leaves_nothing_and_no_debt_is_paid_twice,
    set_remaining_and_reset_count_what_is_charged,
    a_charge_passes_the_limit,
    a_charge_of_an_unknown_number_is_refused,
    one_commit_answers_in_the_order_of_its_operations,
    threads_of_two_holders_never_lease_more_than_limit_and_grants,
];

fn leased(bench: &Bench, request: LeaseRequest) -> Lease {
    bench.one(request).unwrap()
}

fn a_lease_gives_what_is_wanted_and_charges_it(bench: &Bench) {
    let holder = bench.join(1);
    let lease = leased(bench, lease(holder, 10));
    assert_eq!((lease.leased, lease.rule, lease.counter), (10, 0, CounterId(1)));
    assert_eq!(lease.balance, Balance { charged: 10, granted: 0, others: 0 });
}

fn the_last_unit_is_leased_and_not_one_more(bench: &Bench) {
    let holder = bench.join(1);
    for (want, expected) in [(99, 99), (100, 100), (101, 100), (1_000, 100)] {
        let lease = leased(bench, lease(holder, want));
        assert_eq!((lease.leased, lease.balance.charged), (expected, expected), "{want}");
    }
}

fn a_repeated_lease_changes_nothing(bench: &Bench) {
    let holder = bench.join(1);
    let first = leased(bench, lease(holder, 10));
    assert_eq!(leased(bench, lease(holder, 10)), first);
    assert_eq!(leased(bench, lease(holder, 4)), first, "wanting less gives nothing back");
}

fn what_is_given_back_can_be_leased_again(bench: &Bench) {
    let (one, two) = (bench.join(1), bench.join(2));
    let lease_one = leased(bench, lease(one, 100));
    assert_eq!(leased(bench, lease(two, 10)).leased, 0);
    let given = bench.one(back(&lease_one, one, 30));
    assert_eq!(
        given,
        GivenBack {
            returned: 70,
            leased: 30,
            balance: Balance { charged: 30, granted: 0, others: 0 }
        }
    );
    assert_eq!(leased(bench, lease(two, 100)).leased, 70);
}

fn a_repeated_give_back_changes_nothing(bench: &Bench) {
    let holder = bench.join(1);
    let lease = leased(bench, lease(holder, 10));
    assert_eq!(bench.one(back(&lease, holder, 4)).returned, 6);
    let again = bench.one(back(&lease, holder, 4));
    assert_eq!((again.returned, again.leased, again.balance.charged), (0, 4, 4));
}

fn an_old_give_back_takes_nothing_that_was_spent_since(bench: &Bench) {
    let holder = bench.join(1);
    let first = leased(bench, lease(holder, 10));
    bench.one(back(&first, holder, 4));
    leased(bench, LeaseRequest { spent: 4, ..lease(holder, 14) });
    leased(bench, LeaseRequest { spent: 14, ..lease(holder, 20) });
    let late = bench.one(back(&first, holder, 4));
    assert_eq!((late.returned, late.leased, late.balance.charged), (0, 20, 20));
}

fn more_spent_than_leased_gives_nothing_back(bench: &Bench) {
    let holder = bench.join(1);
    let lease = leased(bench, lease(holder, 10));
    let given = bench.one(back(&lease, holder, 11));
    assert_eq!((given.returned, given.leased, given.balance.charged), (0, 10, 10));
}

fn holders_share_one_limit(bench: &Bench) {
    let (one, two) = (bench.join(1), bench.join(2));
    assert_eq!(leased(bench, lease(one, 60)).leased, 60);
    let lease_two = leased(bench, lease(two, 60));
    assert_eq!(
        (lease_two.leased, lease_two.balance),
        (40, Balance { charged: 100, granted: 0, others: 60 })
    );
}

fn epochs_of_one_holder_have_leases_of_their_own(bench: &Bench) {
    let first = bench.join(1);
    leased(bench, lease(first, 10));
    let second = bench.join(1);
    assert_eq!((first.epoch, second.epoch), (1, 2));
    let lease = leased(bench, lease(second, 10));
    assert_eq!(
        (lease.leased, lease.balance),
        (10, Balance { charged: 20, granted: 0, others: 10 })
    );
}

fn a_lease_that_may_pass_the_limit_does(bench: &Bench) {
    let holder = bench.join(1);
    let lease = leased(bench, LeaseRequest { may_pass: true, ..lease(holder, 250) });
    assert_eq!((lease.leased, lease.balance.charged), (250, 250));
}

fn a_lowered_limit_leases_nothing_more_and_takes_nothing_back(bench: &Bench) {
    let holder = bench.join(1);
    leased(bench, lease(holder, 50));
    let lower = leased(bench, LeaseRequest { limit: 40, revision: 2, ..lease(holder, 60) });
    assert_eq!((lower.leased, lower.balance.charged), (50, 50));
    let higher = leased(bench, LeaseRequest { limit: 51, revision: 3, ..lease(holder, 60) });
    assert_eq!(higher.leased, 51);
}

fn a_limit_of_an_older_revision_is_refused_and_charges_nothing(bench: &Bench) {
    let holder = bench.join(1);
    leased(bench, LeaseRequest { revision: 5, ..lease(holder, 1) });
    let stale = bench.one(LeaseRequest { revision: 4, ..lease(holder, 50) });
    assert_eq!(stale, Err(Refused::StaleLimit { newest: 5 }));
    assert_eq!(bench.row().charged, 1);
    assert_eq!(leased(bench, LeaseRequest { revision: 5, ..lease(holder, 2) }).leased, 2);
}

fn a_peek_numbers_the_counter_and_charges_nothing(bench: &Bench) {
    let holder = bench.join(1);
    let peek = leased(bench, lease(holder, 0));
    assert_eq!((peek.leased, peek.balance), (0, Balance::default()));
    let row = bench.row();
    assert_eq!((row.counter, row.charged, row.period), (peek.counter, 0, DAY));
}

fn a_number_that_was_never_given_is_refused(bench: &Bench) {
    let holder = bench.join(1);
    let unknown = LeaseRequest { counter: Counter::Known(CounterId(9)), ..lease(holder, 1) };
    assert_eq!(bench.one(unknown), Err(Refused::UnknownCounter));
    let known = leased(bench, lease(holder, 1)).counter;
    assert_eq!(
        leased(bench, LeaseRequest { counter: Counter::Known(known), ..lease(holder, 2) }).leased,
        2
    );
}

fn names_that_differ_in_anything_have_numbers_of_their_own(bench: &Bench) {
    let holder = bench.join(1);
    let base = identity("acme");
    let quota = |change: &dyn Fn(&mut QuotaIdentity)| {
        let mut quota = (*base.quota).clone();
        change(&mut quota);
        CounterIdentity { quota: Arc::new(quota), ..base.clone() }
    };
    let names = [
        base.clone(),
        CounterIdentity { subscriber: "umbrella".into(), ..base.clone() },
        CounterIdentity { key: Some("acme-1".into()), ..base.clone() },
        CounterIdentity { plan: "silver".into(), ..base.clone() },
        CounterIdentity { entitlement: "other".into(), ..base.clone() },
        quota(&|quota| quota.name = "monthly".into()),
        quota(&|quota| quota.unit = PeriodUnit::Year),
        quota(&|quota| quota.time_zone = "Asia/Seoul".into()),
        quota(&|quota| quota.week_start = Weekday::Sunday),
    ];
    for round in 0..2 {
        for (number, name) in (1..).zip(&names) {
            let lease = leased(
                bench,
                LeaseRequest { counter: Counter::Named(name.clone()), ..lease(holder, 1) },
            );
            assert_eq!(lease.counter, CounterId(number), "round {round}: {name:?}");
        }
    }
    let mut listed = bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap();
    listed.sort_by_key(|row| row.counter);
    let listed: Vec<_> = listed.into_iter().map(|row| row.identity).collect();
    assert_eq!(listed, names);
}

fn count_rules_keep_their_numbers(bench: &Bench) {
    let holder = bench.join(1);
    let rules = [[1; 8], [2; 8], [u64::MAX; 8]].map(CountRule::of_bits);
    for (want, rule) in [(1, 0), (2, 1), (3, 2), (4, 0), (5, 1)] {
        assert_eq!(
            leased(
                bench,
                LeaseRequest { count_rule: rules[usize::from(rule)], ..lease(holder, want) }
            )
            .rule,
            rule
        );
    }
    assert_eq!(
        bench.ledger.load_count_rules().unwrap(),
        [(0, rules[0]), (1, rules[1]), (2, rules[2])]
    );
}

fn as_many_count_rules_as_a_receipt_can_name_are_numbered(bench: &Bench) {
    let holder = bench.join(1);
    let with =
        |rule: u64| LeaseRequest { count_rule: CountRule::of_bits([rule; 8]), ..lease(holder, 1) };
    let all: Vec<_> =
        (0..u64::from(MAX_COUNT_RULES)).map(|rule| Operation::Lease(with(rule))).collect();
    let last = bench.ledger.commit(&all).unwrap().pop();
    assert!(
        matches!(last, Some(Answer::Lease(Ok(lease))) if lease.rule == MAX_COUNT_RULES - 1),
        "{last:?}"
    );
    let many = u64::from(MAX_COUNT_RULES);
    let before = bench.row();
    assert_eq!(bench.one(LeaseRequest { want: 50, ..with(many) }), Err(Refused::TooManyCountRules));
    assert_eq!(bench.row(), before);
    assert_eq!(
        leased(bench, LeaseRequest { want: 2, ..with(many - 1) }).leased,
        2,
        "those that have a number go on"
    );
}

fn periods_are_counted_apart(bench: &Bench) {
    let holder = bench.join(1);
    assert_eq!(leased(bench, lease(holder, 100)).leased, 100);
    let tomorrow = Period::of_seconds(DAY.end_s(), DAY.end_s() + 86_400);
    let lease = leased(bench, LeaseRequest { period: tomorrow, ..lease(holder, 7) });
    assert_eq!((lease.leased, lease.balance.charged), (7, 7));
}

fn amounts_beyond_any_counter_stand_for_the_greatest(bench: &Bench) {
    let holder = bench.join(1);
    let lease = leased(bench, LeaseRequest { limit: u64::MAX, ..lease(holder, u64::MAX) });
    assert_eq!((lease.leased, lease.balance.charged), (balance::MAX_UNITS, balance::MAX_UNITS));
    let charge = ChargeRequest {
        counter: Counter::Known(lease.counter),
        period: DAY,
        units: u64::MAX,
        now_s: NOON,
        once: None,
    };
    assert_eq!(bench.one(charge).unwrap().charged, balance::MAX_UNITS);
}

fn grant(change: Grant) -> GrantRequest {
    GrantRequest {
        counter: Counter::Named(identity("acme")),
        period: DAY,
        change,
        limit: 100,
        now_s: NOON,
        once: None,
    }
}

fn grants_are_leased_after_the_limit(bench: &Bench) {
    let holder = bench.join(1);
    assert_eq!(bench.one(grant(Grant::Add(5))).unwrap().balance.unwrap().granted, 5);
    assert_eq!(leased(bench, lease(holder, 104)).leased, 104);
    assert_eq!(leased(bench, lease(holder, 105)).leased, 105);
    assert_eq!(leased(bench, lease(holder, 106)).leased, 105);
}

fn taking_away_leaves_nothing_and_no_debt_is_paid_twice(bench: &Bench) {
    let holder = bench.join(1);
    leased(bench, lease(holder, 30));
    let balance = bench.one(grant(Grant::SetRemaining(0))).unwrap().balance.unwrap();
    assert_eq!((balance.charged, balance.granted), (30, -70));
    assert_eq!(leased(bench, lease(holder, 31)).leased, 30);
}

fn set_remaining_and_reset_count_what_is_charged(bench: &Bench) {
    let holder = bench.join(1);
    leased(bench, lease(holder, 30));
    assert_eq!(bench.one(grant(Grant::SetRemaining(10))).unwrap().balance.unwrap().granted, -60);
    assert_eq!(leased(bench, lease(holder, 1_000)).leased, 40);
    assert_eq!(bench.one(grant(Grant::Reset)).unwrap().balance.unwrap().granted, 40);
    assert_eq!(leased(bench, lease(holder, 1_000)).leased, 140);
}

fn a_charge_passes_the_limit(bench: &Bench) {
    let holder = bench.join(1);
    let charge = ChargeRequest {
        counter: Counter::Named(identity("acme")),
        period: DAY,
        units: 70,
        now_s: NOON,
        once: None,
    };
    assert_eq!(bench.one(charge.clone()).unwrap().charged, 70);
    assert_eq!(bench.one(charge).unwrap().charged, 140);
    assert_eq!(leased(bench, lease(holder, 1)).leased, 0);
}

fn a_charge_of_an_unknown_number_is_refused(bench: &Bench) {
    let charge = ChargeRequest {
        counter: Counter::Known(CounterId(1)),
        period: DAY,
        units: 1,
        now_s: NOON,
        once: None,
    };
    assert_eq!(bench.one(charge), Err(Refused::UnknownCounter));
}

fn one_commit_answers_in_the_order_of_its_operations(bench: &Bench) {
    let (one, two) = (bench.join(1), bench.join(2));
    let give_back =
        GiveBack { counter: CounterId(1), period_start_s: DAY.start_s(), holder: one, spent: 20 };
    let operations = [
        Operation::Lease(lease(one, 100)),
        Operation::GiveBack(give_back),
        Operation::Lease(lease(two, 100)),
    ];
    let answers = bench.ledger.commit(&operations).unwrap();
    let [Answer::Lease(Ok(first)), Answer::GiveBack(given), Answer::Lease(Ok(second))] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((first.leased, given.returned, second.leased), (100, 80, 80));
}

/// Each thread leases one unit more at a time, and gives some back now and then.
fn threads_of_two_holders_never_lease_more_than_limit_and_grants(bench: &Bench) {
    bench.one(grant(Grant::Add(11))).unwrap();
    let spent: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=2u32)
            .map(|id| {
                let (ledger, holder) = (&*bench.ledger, bench.join(id));
                scope.spawn(move || {
                    let mut spent = 0;
                    loop {
                        let granted =
                            one(ledger, LeaseRequest { spent, ..lease(holder, spent + 3) })
                                .unwrap()
                                .unwrap();
                        if granted.leased == spent {
                            return spent;
                        }
                        spent += 1;
                        one(ledger, back(&granted, holder, spent)).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let row = bench.row();
    assert_eq!(spent, 111, "whoever is last finds all that the other gave back");
    assert_eq!((row.charged, row.used()), (spent, spent));
}
