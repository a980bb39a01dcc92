use super::faults::{Fault, FaultyLedger};
use super::*;

on_each![
    a_commit_that_fails_before_it_is_done_does_nothing,
    a_lease_whose_answer_was_lost_is_asked_again_and_charged_once,
    a_settlement_whose_answer_was_lost_is_a_duplicate,
    a_ledger_that_died_answers_nothing_more,
];

fn broken() -> LedgerError {
    LedgerError::Fault("on purpose".to_owned())
}

fn faulty(bench: &Bench, fault: fn() -> Fault) -> FaultyLedger {
    FaultyLedger::new(
        Arc::clone(&bench.ledger),
        move |number| if number == 1 { fault() } else { Fault::None },
    )
}

fn a_commit_that_fails_before_it_is_done_does_nothing(bench: &Bench) {
    let holder = bench.join(1);
    let ledger = faulty(bench, || Fault::Before(broken()));
    assert_eq!(one(&ledger, lease(holder, 5)), Err(broken()));
    assert_eq!(bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap(), []);
    assert_eq!(one(&ledger, lease(holder, 5)).unwrap().unwrap().leased, 5);
}

fn a_lease_whose_answer_was_lost_is_asked_again_and_charged_once(bench: &Bench) {
    let holder = bench.join(1);
    let ledger = faulty(bench, || Fault::After(broken()));
    assert_eq!(one(&ledger, lease(holder, 5)), Err(broken()));
    let again = one(&ledger, lease(holder, 5)).unwrap().unwrap();
    assert_eq!((again.leased, again.balance.charged), (5, 5));
}

fn a_settlement_whose_answer_was_lost_is_a_duplicate(bench: &Bench) {
    let holder = bench.join(1);
    let id = bench.one(lease(holder, 5)).unwrap().counter;
    let ledger = faulty(bench, || Fault::After(broken()));
    assert_eq!(one(&ledger, settle(holder, 1, &[(id, -1)])), Err(broken()));
    assert_eq!(one(&ledger, settle(holder, 1, &[(id, -1)])), Ok(Settled::Duplicate));
    assert_eq!(bench.row().charged, 4);
}

fn a_ledger_that_died_answers_nothing_more(bench: &Bench) {
    let holder = bench.join(1);
    let ledger = faulty(bench, || Fault::Die);
    for _ in 0..2 {
        assert_eq!(one(&ledger, lease(holder, 5)), Err(LedgerError::Stopped));
    }
    assert_eq!(ledger.join(1), Err(LedgerError::Stopped));
    assert_eq!(bench.row().charged, 5, "what it did last is there");
}
