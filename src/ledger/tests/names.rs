use super::*;

on_each![
    names_are_kept_by_epoch_and_a_repeat_is_harmless,
    the_latest_epochs_are_loaded_first_up_to_a_bound,
    names_are_dropped_when_their_epoch_has_been_dead_for_long_enough,
    many_names_are_dropped_in_steps,
];

fn key(number: u32, name: &str) -> NumberedName {
    NumberedName { kind: NameKind::Key, number, name: name.into() }
}

fn target(number: u32, name: &str) -> NumberedName {
    NumberedName { kind: NameKind::Target, ..key(number, name) }
}

fn load(bench: &Bench, most: usize) -> Vec<(Holder, NumberedName)> {
    let mut found = Vec::new();
    bench.ledger.load_names(most, &mut |holder, name| found.push((holder, name))).unwrap();
    found
}

fn report(bench: &Bench, holder: Holder, names: &[NumberedName]) {
    bench.one(NameReport { holder, names: names.to_vec() });
}

fn names_are_kept_by_epoch_and_a_repeat_is_harmless(bench: &Bench) {
    let first = bench.join(1);
    let names = [key(1, "acme-1"), key(u32::MAX, "acme-2"), target(1, "orders/prod")];
    for _ in 0..2 {
        report(bench, first, &names);
    }
    let second = bench.join(1);
    report(bench, second, &[key(1, "umbrella-1")]);
    let expected = [
        (second, key(1, "umbrella-1")),
        (first, names[0].clone()),
        (first, names[1].clone()),
        (first, names[2].clone()),
    ];
    assert_eq!(load(bench, 9), expected);
}

fn the_latest_epochs_are_loaded_first_up_to_a_bound(bench: &Bench) {
    for epoch in 1..=3 {
        let holder = bench.join(1);
        assert_eq!(holder.epoch, epoch);
        report(bench, holder, &[key(1, "acme-1"), key(2, "acme-2")]);
    }
    let epochs =
        |most| load(bench, most).iter().map(|(holder, _)| holder.epoch).collect::<Vec<_>>();
    assert_eq!(
        (epochs(0), epochs(1), epochs(3), epochs(9)),
        (vec![], vec![3], vec![3, 3, 2], vec![3, 3, 2, 2, 1, 1])
    );
}

fn names_are_dropped_when_their_epoch_has_been_dead_for_long_enough(bench: &Bench) {
    let (first, other) = (bench.join(1), bench.join(2));
    report(bench, first, &[key(1, "acme-1")]);
    report(bench, other, &[key(1, "acme-2")]);
    let expire = |now_s, names_ended_before_s| {
        bench.one(Expire { now_s: Some(now_s), names_ended_before_s, ..Expire::default() }).names
    };
    assert_eq!(
        expire(1_000, u64::MAX),
        0,
        "an epoch that lives may issue receipts as long as it likes"
    );
    let second = bench.join(1);
    report(bench, second, &[key(1, "acme-3")]);
    // It is seen to be dead at 2,000.
    assert_eq!((expire(2_000, 2_000), expire(3_000, 2_000)), (0, 0));
    assert_eq!(load(bench, 9).len(), 3);
    assert_eq!(expire(3_000, 2_001), 1);
    let mut left = load(bench, 9);
    left.sort_by_key(|(holder, _)| *holder);
    assert_eq!(left, [(second, key(1, "acme-3")), (other, key(1, "acme-2"))]);
}

fn many_names_are_dropped_in_steps(bench: &Bench) {
    let many = u32::try_from(operations::MAX_EXPIRED).unwrap() + 10;
    let names: Vec<_> = (0..many).map(|number| key(number, &format!("k{number}"))).collect();
    report(bench, bench.join(1), &names);
    bench.join(1);
    let expire =
        || bench.one(Expire { now_s: Some(5), names_ended_before_s: 6, ..Expire::default() });
    let steps = [expire(), expire(), expire()];
    assert_eq!(
        steps.map(|step| (step.names, step.more)),
        [(operations::MAX_EXPIRED, true), (10, false), (0, false)]
    );
    assert_eq!(load(bench, 9), []);
}
