//! What is not safe to repeat by its nature is done once under its name.

use super::*;

on_each![
    a_grant_is_made_once_under_its_name_whatever_happens_to_the_process,
    a_charge_is_made_once_under_its_name,
    an_edit_is_made_once_under_its_name,
    another_operation_under_a_name_is_refused_and_names_of_each_kind_are_apart,
    a_repeat_in_a_later_period_changes_nothing_there,
    a_name_is_kept_until_it_is_old_and_not_a_second_less,
    the_newest_names_are_kept,
];

fn once(kind: OnceKind, name: u8, fields: u8) -> Option<Once> {
    Some(Once {
        kind,
        name: [name; 16],
        fields: [fields; 16],
        note: vec![name, fields],
        now_s: NOON,
    })
}

fn grant(change: Grant, once: Option<Once>) -> GrantRequest {
    GrantRequest {
        counter: Counter::Named(identity("acme")),
        period: DAY,
        change,
        limit: 100,
        now_s: NOON,
        once,
    }
}

fn charge(units: u64, once: Option<Once>) -> ChargeRequest {
    ChargeRequest {
        counter: Counter::Named(identity("acme")),
        period: DAY,
        units,
        now_s: NOON,
        once,
    }
}

fn a_grant_is_made_once_under_its_name_whatever_happens_to_the_process(bench: &Bench) {
    let first = bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
    assert_eq!((first.balance.unwrap().granted, first.first), (5, None));
    bench.one(grant(Grant::Add(7), None)).unwrap();
    let again = |bench: &Bench| {
        let again = bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
        let made = again.first.unwrap();
        assert_eq!(
            (made.granted, made.note, again.balance.unwrap().granted),
            (5, vec![1, 1], 12),
            "the first answer, and where it stands"
        );
    };
    again(bench);
    bench.join(1);
    again(bench);
}

#[test]
fn a_name_survives_a_restart() {
    let bench = Bench::file();
    bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
    let bench = bench.reopened();
    let again = bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
    assert_eq!((again.first.unwrap().granted, bench.row().granted), (5, 5));
}

fn a_charge_is_made_once_under_its_name(bench: &Bench) {
    assert_eq!(bench.one(charge(3, once(OnceKind::Charge, 1, 1))).unwrap().charged, 3);
    assert_eq!(bench.one(charge(3, once(OnceKind::Charge, 1, 1))), Err(Refused::DoneBefore));
    assert_eq!(bench.one(charge(4, once(OnceKind::Charge, 1, 2))), Err(Refused::OtherOperation));
    assert_eq!(bench.row().charged, 3);
    assert_eq!(bench.one(charge(3, None)).unwrap().charged, 6, "without a name each is another");
}

fn an_edit_is_made_once_under_its_name(bench: &Bench) {
    let edit = |expected, revision, fields| CatalogEdit {
        expected,
        revision,
        changes: Vec::new(),
        once: once(OnceKind::Request, 1, fields),
    };
    assert_eq!(bench.one(edit(0, 1, 1)), Ok(1));
    for fields in [1, 2] {
        assert_eq!(bench.one(edit(1, 2, fields)), Err(RevisionConflict { current: 1 }));
    }
    assert_eq!(bench.ledger.find_made(OnceKind::Request, &[1; 16]).unwrap().unwrap().note, [1, 1]);
    assert_eq!(bench.ledger.find_made(OnceKind::Charge, &[1; 16]).unwrap(), None);
    let conflict = CatalogEdit {
        expected: 0,
        revision: 1,
        changes: Vec::new(),
        once: once(OnceKind::Request, 2, 2),
    };
    assert_eq!(bench.one(conflict), Err(RevisionConflict { current: 1 }));
    assert_eq!(
        bench.ledger.find_made(OnceKind::Request, &[2; 16]).unwrap(),
        None,
        "what was not made has no name"
    );
}

fn another_operation_under_a_name_is_refused_and_names_of_each_kind_are_apart(bench: &Bench) {
    bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
    assert_eq!(
        bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 2))),
        Err(Refused::OtherOperation)
    );
    assert_eq!(bench.one(charge(1, once(OnceKind::Charge, 1, 2))).unwrap().charged, 1);
    assert_eq!((bench.row().granted, bench.row().charged), (5, 1));
}

fn a_repeat_in_a_later_period_changes_nothing_there(bench: &Bench) {
    bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
    let tomorrow = Period::of_seconds(DAY.end_s(), DAY.end_s() + 86_400);
    let late =
        GrantRequest { period: tomorrow, ..grant(Grant::Add(5), once(OnceKind::Request, 1, 1)) };
    let again = bench.one(late).unwrap();
    assert_eq!((again.balance, again.first.unwrap().granted), (None, 5));
    assert_eq!(bench.row().granted, 5, "there is one period, and it has the grant once");
}

fn a_name_is_kept_until_it_is_old_and_not_a_second_less(bench: &Bench) {
    bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap();
    bench.one(charge(5, once(OnceKind::Charge, 1, 1))).unwrap();
    let expire = |requests_made_before_s, charges_made_before_s| {
        bench
            .one(Expire { requests_made_before_s, charges_made_before_s, ..Expire::default() })
            .made
    };
    assert_eq!([expire(0, 0), expire(NOON, NOON)], [0, 0]);
    assert!(
        bench.one(grant(Grant::Add(5), once(OnceKind::Request, 1, 1))).unwrap().first.is_some()
    );
    assert_eq!(expire(NOON + 1, 0), 1);
    assert_eq!(bench.ledger.find_made(OnceKind::Request, &[1; 16]).unwrap(), None);
    assert_eq!(bench.one(charge(5, once(OnceKind::Charge, 1, 1))), Err(Refused::DoneBefore));
    assert_eq!(expire(0, NOON + 1), 1);
    assert_eq!(bench.one(charge(5, once(OnceKind::Charge, 1, 1))).unwrap().charged, 10);
}

fn the_newest_names_are_kept(bench: &Bench) {
    let named = |number: u64| {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&number.to_le_bytes());
        name
    };
    let max = OnceKind::Request.max_kept();
    let one = |number: u64| {
        let once = Once {
            kind: OnceKind::Request,
            name: named(number),
            fields: [0; 16],
            note: Vec::new(),
            now_s: NOON,
        };
        Operation::Grant(grant(Grant::Add(1), Some(once)))
    };
    let operations: Vec<_> = (0..max + 2).map(one).collect();
    bench.ledger.commit(&operations).unwrap();
    let expired = bench.one(Expire::default());
    assert_eq!((expired.made, expired.more), (2, false));
    let is_kept =
        |number| bench.ledger.find_made(OnceKind::Request, &named(number)).unwrap().is_some();
    assert_eq!([0, 1, 2, max + 1].map(is_kept), [false, false, true, true]);
}
