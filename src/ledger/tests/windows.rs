use super::*;

on_each![
    a_row_replaces_the_one_before,
    a_holder_takes_over_its_own_windows_that_go_on,
    windows_are_dropped_when_they_are_over_in_steps,
    great_counts_stay_great,
];

fn row(name: u8, end_s: u64, count: u64) -> WindowRow {
    WindowRow { fingerprint: [name; 16], end_s, count }
}

fn report(bench: &Bench, holder: Holder, rows: &[WindowRow]) {
    bench.one(WindowReport { holder, rows: rows.to_vec() });
}

fn listed(bench: &Bench, holder_id: u32, now_s: u64) -> Vec<WindowRow> {
    let mut rows = Vec::new();
    bench.ledger.load_windows(holder_id, now_s, &mut |row| rows.push(row)).unwrap();
    rows.sort_by_key(|row| row.fingerprint);
    rows
}

fn a_row_replaces_the_one_before(bench: &Bench) {
    let holder = bench.join(1);
    for rows in [
        [row(0, 100, 1), row(255, 100, 1)],
        [row(0, 100, 5), row(255, 100, 0)],
        [row(0, 200, 2), row(255, 100, 0)],
    ] {
        for _ in 0..2 {
            report(bench, holder, &rows);
            assert_eq!(listed(bench, 1, 0), rows);
        }
    }
}

fn a_holder_takes_over_its_own_windows_that_go_on(bench: &Bench) {
    report(bench, bench.join(1), &[row(1, 100, 1), row(2, 200, 2)]);
    report(bench, bench.join(2), &[row(1, 100, 7)]);
    bench.join(1);
    for (now_s, expected) in
        [(99, vec![row(1, 100, 1), row(2, 200, 2)]), (100, vec![row(2, 200, 2)]), (200, vec![])]
    {
        assert_eq!(listed(bench, 1, now_s), expected, "at {now_s}");
    }
    assert_eq!(listed(bench, 2, 0), [row(1, 100, 7)]);
    assert_eq!(listed(bench, 3, 0), []);
}

#[test]
fn windows_are_there_after_a_crash() {
    let bench = Bench::file();
    report(&bench, bench.join(1), &[row(1, 100, 1)]);
    assert_eq!(listed(&bench.reopened(), 1, 0), [row(1, 100, 1)]);
}

fn windows_are_dropped_when_they_are_over_in_steps(bench: &Bench) {
    let holder = bench.join(1);
    let many = operations::MAX_EXPIRED + 10;
    let named = |number: u64| WindowRow {
        fingerprint: u128::from(number).to_le_bytes(),
        end_s: 100,
        count: 1,
    };
    report(bench, holder, &(0..many).map(named).collect::<Vec<_>>());
    report(bench, holder, &[WindowRow { end_s: 101, ..named(many) }]);
    let expire = |by_s| bench.one(Expire { windows_ended_by_s: by_s, ..Expire::default() });
    assert_eq!(expire(99), Expired::default());
    let steps = [expire(100), expire(100), expire(100)];
    assert_eq!(
        steps.map(|step| (step.windows, step.more)),
        [(operations::MAX_EXPIRED, true), (10, false), (0, false)]
    );
    assert_eq!(listed(bench, 1, 0), [WindowRow { end_s: 101, ..named(many) }]);
}

fn great_counts_stay_great(bench: &Bench) {
    report(bench, bench.join(1), &[row(1, 100, u64::MAX)]);
    assert!(listed(bench, 1, 0)[0].count >= u64::try_from(i64::MAX).unwrap());
}
