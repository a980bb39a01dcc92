use super::*;

on_each![
    a_settlement_refunds_once,
    kinds_holders_epochs_shards_and_numbers_are_marked_apart,
    a_settlement_of_several_counters_changes_all,
    a_correction_upward_passes_the_limit,
    a_period_that_is_not_kept_is_told_apart,
    marks_of_one_transaction_are_seen_in_it,
    marks_fill_a_row_to_its_ends,
];

fn counter(bench: &Bench, subscriber: &str, want: u64) -> CounterId {
    let holder = Holder { id: 1, epoch: 1 };
    bench
        .one(LeaseRequest { counter: Counter::Named(identity(subscriber)), ..lease(holder, want) })
        .unwrap()
        .counter
}

fn done(settled: Settled) -> Vec<Option<u64>> {
    match settled {
        Settled::Done(balances) => {
            balances.into_iter().map(|balance| Some(balance?.charged)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn a_settlement_refunds_once(bench: &Bench) {
    let holder = bench.join(1);
    let id = counter(bench, "acme", 10);
    assert_eq!(done(bench.one(settle(holder, 1, &[(id, -1)]))), [Some(9)]);
    for _ in 0..3 {
        assert_eq!(bench.one(settle(holder, 1, &[(id, -1)])), Settled::Duplicate);
    }
    assert_eq!(bench.row().charged, 9);
}

fn kinds_holders_epochs_shards_and_numbers_are_marked_apart(bench: &Bench) {
    let holder = bench.join(1);
    let id = counter(bench, "acme", 100);
    let base = settle(holder, 1, &[(id, -1)]);
    let marks = [
        base.mark,
        Mark { kind: MarkKind::Charged, ..base.mark },
        Mark { holder: Holder { id: 2, ..holder }, ..base.mark },
        Mark { holder: Holder { epoch: 2, ..holder }, ..base.mark },
        Mark { shard: 8, ..base.mark },
        Mark { seq: 2, ..base.mark },
        Mark { seq: 1 + (1 << 16), ..base.mark },
        Mark { seq: 1 + (1 << 40), ..base.mark },
    ];
    for (number, &mark) in (1..).zip(&marks) {
        assert_eq!(
            done(bench.one(Settle { mark, ..base.clone() })),
            [Some(100 - number)],
            "{mark:?}"
        );
    }
    for mark in marks {
        assert_eq!(bench.one(Settle { mark, ..base.clone() }), Settled::Duplicate, "{mark:?}");
    }
}

fn a_settlement_of_several_counters_changes_all(bench: &Bench) {
    let holder = bench.join(1);
    let (one, two) = (counter(bench, "acme", 10), counter(bench, "umbrella", 20));
    assert_eq!(done(bench.one(settle(holder, 1, &[(one, -1), (two, 5)]))), [Some(9), Some(25)]);
}

fn a_correction_upward_passes_the_limit(bench: &Bench) {
    let holder = bench.join(1);
    let id = counter(bench, "acme", 100);
    assert_eq!(done(bench.one(settle(holder, 1, &[(id, 50)]))), [Some(150)]);
}

fn a_period_that_is_not_kept_is_told_apart(bench: &Bench) {
    let holder = bench.join(1);
    let id = counter(bench, "acme", 10);
    assert_eq!(
        done(bench.one(settle(holder, 1, &[(CounterId(77), -1), (id, -1)]))),
        [None, Some(9)]
    );
}

fn marks_of_one_transaction_are_seen_in_it(bench: &Bench) {
    let holder = bench.join(1);
    let id = counter(bench, "acme", 10);
    let twice = [1, 2, 1].map(|seq| Operation::Settle(settle(holder, seq, &[(id, -1)])));
    let answers = bench.ledger.commit(&twice).unwrap();
    assert!(matches!(
        answers[..],
        [
            Answer::Settle(Settled::Done(_)),
            Answer::Settle(Settled::Done(_)),
            Answer::Settle(Settled::Duplicate)
        ]
    ));
    assert_eq!(bench.row().charged, 8);
}

fn marks_fill_a_row_to_its_ends(bench: &Bench) {
    let holder = bench.join(1);
    let id = counter(bench, "acme", 10);
    for seq in [0, 0xffff, 0x1_0000, u64::from(u32::MAX)] {
        assert!(matches!(bench.one(settle(holder, seq, &[(id, 0)])), Settled::Done(_)), "{seq}");
        assert_eq!(bench.one(settle(holder, seq, &[(id, 0)])), Settled::Duplicate, "{seq}");
    }
}

#[test]
fn marks_and_changes_survive_together() {
    let bench = Bench::file();
    let holder = bench.join(1);
    let id = counter(&bench, "acme", 10);
    done(bench.one(settle(holder, 70_000, &[(id, -1)])));
    let bench = bench.reopened();
    assert_eq!(bench.one(settle(holder, 70_000, &[(id, -1)])), Settled::Duplicate);
    assert_eq!(bench.row().charged, 9);
}

#[test]
fn a_storm_of_corrections_costs_bits() {
    let bench = Bench::file();
    let holder = bench.join(1);
    let id = counter(&bench, "acme", 100);
    for batch in 0..16u64 {
        let storm: Vec<_> = (batch * 4096..(batch + 1) * 4096)
            .map(|seq| Operation::Settle(settle(holder, seq, &[(id, 0)])))
            .collect();
        bench.ledger.commit(&storm).unwrap();
    }
    let ledger =
        rusqlite::Connection::open(bench.folder.as_ref().unwrap().path().join(sqlite::FILE))
            .unwrap();
    let (rows, bytes): (i64, i64) = ledger
        .query_row("SELECT count(*), sum(length(bits)) FROM marks", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(rows, 1);
    assert!(bytes < 8_500, "{bytes} bytes for 65,536 marks");
}
