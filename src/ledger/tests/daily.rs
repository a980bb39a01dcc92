use std::collections::BTreeMap;

use super::*;

on_each![
    counts_of_a_day_replace_those_of_the_same_epoch,
    epochs_holders_and_rows_are_given_apart,
    counts_without_a_name_are_those_of_a_row_that_is_there,
    places_that_were_added_count_from_nothing,
    days_are_listed_by_scope_and_range_in_order,
    neighbours_keep_their_own_counts,
];

fn key(day: u64, subscriber: &str, key: &str, plan: &str) -> DailyKey {
    let target = "orders/prod".into();
    DailyKey {
        day,
        subscriber: subscriber.into(),
        key: key.into(),
        plan: plan.into(),
        entitlement: "everything".into(),
        target,
    }
}

fn counts(admitted: u64, refused: &[u64]) -> DailyCounts {
    DailyCounts { admitted, refused: refused.to_vec(), responses: vec![admitted, u64::MAX] }
}

fn row(key: &DailyKey, number: u64, counts: DailyCounts) -> DailyRow {
    DailyRow { number, key: key.clone(), counts }
}

fn report(bench: &Bench, holder: Holder, rows: &[DailyRow]) {
    let told = |row: &DailyRow| DailyChange {
        number: row.number,
        name: DailyName::Told(row.key.clone()),
        counts: row.counts.clone(),
    };
    bench.one(DailyReport { holder, rows: rows.iter().map(told).collect() });
}

fn all(bench: &Bench) -> Vec<(Holder, DailyRow)> {
    bench.ledger.daily(&Scope::All, 0, u64::MAX).unwrap()
}

fn counts_of_a_day_replace_those_of_the_same_epoch(bench: &Bench) {
    let holder = bench.join(1);
    let acme = key(5, "acme", "acme-1", "gold");
    report(bench, holder, &[row(&acme, 0, counts(1, &[0, 1]))]);
    for _ in 0..2 {
        report(bench, holder, &[row(&acme, 0, counts(3, &[2, 1]))]);
    }
    assert_eq!(all(bench), [(holder, row(&acme, 0, counts(3, &[2, 1])))]);
}

fn counts_without_a_name_are_those_of_a_row_that_is_there(bench: &Bench) {
    let (before, other, holder) = (bench.join(1), bench.join(2), bench.join(1));
    let (acme, umbrella) = (key(5, "acme", "acme-1", "gold"), key(5, "umbrella", "u-1", "gold"));
    report(bench, holder, &[row(&acme, 7, counts(1, &[])), row(&umbrella, 8, counts(2, &[1]))]);
    let change = |number, day| DailyChange {
        number,
        name: DailyName::Known { day },
        counts: counts(3, &[4]),
    };
    // Of none of these there is a row.
    for holder in [before, other] {
        bench.one(DailyReport { holder, rows: vec![change(7, 5)] });
    }
    bench.one(DailyReport { holder, rows: vec![change(6, 5), change(7, 4), change(9, 5)] });
    assert_eq!(
        all(bench),
        [(holder, row(&acme, 7, counts(1, &[]))), (holder, row(&umbrella, 8, counts(2, &[1])))]
    );
    bench.one(DailyReport { holder, rows: vec![change(7, 5)] });
    let both =
        [(holder, row(&acme, 7, counts(3, &[4]))), (holder, row(&umbrella, 8, counts(2, &[1])))];
    assert_eq!(all(bench), both);
    // Its name is told again: whether it was kept the last time was not known.
    report(bench, holder, &[both[1].1.clone()]);
    assert_eq!(all(bench), both);
}

fn epochs_holders_and_rows_are_given_apart(bench: &Bench) {
    let acme = key(5, "acme", "acme-1", "gold");
    let mut reported = Vec::new();
    for (holder, number, admitted) in
        [(1, 0, 10), (2, 0, 20), (1, 7, 30), (1, u64::from(u32::MAX) + 1, 40)]
    {
        let (holder, row) = (bench.join(holder), row(&acme, number, counts(admitted, &[1])));
        report(bench, holder, std::slice::from_ref(&row));
        reported.push((holder, row));
    }
    // Two rows of one epoch.
    let (holder, more) = (reported[0].0, row(&acme, 3, counts(50, &[])));
    report(bench, holder, std::slice::from_ref(&more));
    reported.push((holder, more));
    reported.sort_by_key(|(holder, row)| (*holder, row.number));
    assert_eq!(all(bench), reported);
}

fn places_that_were_added_count_from_nothing(bench: &Bench) {
    let acme = key(5, "acme", "acme-1", "gold");
    report(bench, bench.join(1), &[row(&acme, 0, counts(1, &[1]))]);
    report(bench, bench.join(1), &[row(&acme, 0, counts(1, &[1, 4, 2]))]);
    let mut sum = DailyCounts::default();
    all(bench).iter().for_each(|(_, row)| sum.add(&row.counts));
    assert_eq!(sum, counts(2, &[2, 4, 2]));
}

fn days_are_listed_by_scope_and_range_in_order(bench: &Bench) {
    let keys = [
        key(4, "umbrella", "u-1", "gold"),
        key(5, "acme", "acme-1", "gold"),
        key(5, "acme", "acme-2", "silver"),
        key(5, "umbrella", "", ""),
        key(6, "acme", "acme-1", "gold"),
    ];
    let rows: Vec<_> = (0..)
        .zip(keys.iter().rev())
        .map(|(number, key)| row(key, number, counts(1, &[])))
        .collect();
    report(bench, bench.join(1), &rows);
    // Scope, first and last day, and which of the rows.
    let cases: &[(Scope, u64, u64, &[usize])] = &[
        (Scope::All, 0, u64::MAX, &[0, 1, 2, 3, 4]),
        (Scope::All, 5, 5, &[1, 2, 3]),
        (Scope::All, 7, 9, &[]),
        (Scope::All, 6, 5, &[]),
        (Scope::Subscriber("acme".into()), 0, 9, &[1, 2, 4]),
        (Scope::Subscriber("acme".into()), 6, 6, &[4]),
        (Scope::Key("acme-1".into()), 0, 9, &[1, 4]),
        (Scope::Plan("gold".into()), 0, 5, &[0, 1]),
        (Scope::Plan("none".into()), 0, 9, &[]),
    ];
    for (scope, first, last, expected) in cases {
        let listed: Vec<_> = bench
            .ledger
            .daily(scope, *first, *last)
            .unwrap()
            .into_iter()
            .map(|(_, row)| row.key)
            .collect();
        let expected: Vec<_> = expected.iter().map(|&place| keys[place].clone()).collect();
        assert_eq!(listed, expected, "{scope:?} {first} {last}");
    }
}

/// Ledgers keep neighbouring numbers together: whatever was reported, in which order, at once or
/// not, each has its own counts.
fn neighbours_keep_their_own_counts(bench: &Bench) {
    let holder = bench.join(1);
    let numbers = [0, 1, 62, 63, 64, 65, 127, 128, 191, 1_000];
    let key = |day, number: u64| key(day, &format!("s{number}"), "k", "gold");
    let mut expected = BTreeMap::new();
    for round in 0..200_u64 {
        // Some rows of two days, in no order, with lists and without, told and known; known ones of
        // rows that are not there, too.
        let rows = (0..7).map(|turn| {
            let dice = (round * 7 + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let (day, number) = (5 + dice % 2, numbers[(dice / 2 % 10) as usize]);
            let list =
                |some: u64| if dice.is_multiple_of(some) { vec![] } else { vec![dice, round] };
            let counts = DailyCounts { admitted: dice, refused: list(3), responses: list(5) };
            let told = dice / 20 % 4 == 0;
            if told || expected.contains_key(&(day, number)) {
                expected.insert((day, number), counts.clone());
            }
            let name =
                if told { DailyName::Told(key(day, number)) } else { DailyName::Known { day } };
            DailyChange { number, name, counts }
        });
        let rows: Vec<_> = rows.collect();
        let (one, other) = rows.split_at((round % 8) as usize);
        bench.one(DailyReport { holder, rows: one.to_vec() });
        bench.one(DailyReport { holder, rows: other.to_vec() });
    }
    let found: BTreeMap<_, _> =
        all(bench).into_iter().map(|(_, row)| ((row.key.day, row.number), row)).collect();
    assert_eq!(expected.len(), 20);
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|((day, number), counts)| ((day, number), row(&key(day, number), number, counts)))
        .collect();
    assert_eq!(found, expected);
}
