use std::sync::mpsc::{Receiver, channel};

use super::faults::{Fault, FaultyLedger};
use super::*;

on_each![answers_come_in_the_order_of_submission, what_waits_is_done_before_the_thread_ends];

const WAITING: usize = 64;

fn start(ledger: Arc<dyn Ledger>) -> LedgerThread {
    LedgerThread::start(ledger, WAITING).unwrap()
}

fn broken() -> LedgerError {
    LedgerError::Fault("on purpose".to_owned())
}

/// Submits leases of 1, 2, … units; the answers come out of the receiver.
fn submit(
    thread: &LedgerThread,
    holder: Holder,
    wants: std::ops::RangeInclusive<u64>,
) -> Receiver<Result<u64, LedgerError>> {
    let (tell, told) = channel();
    for want in wants {
        let tell = tell.clone();
        thread.submit(lease(holder, want), move |done| {
            tell.send(done.map(|lease| lease.unwrap().leased)).unwrap()
        });
    }
    told
}

fn answers_come_in_the_order_of_submission(bench: &Bench) {
    let thread = start(Arc::clone(&bench.ledger));
    let told = submit(&thread, bench.join(1), 1..=40);
    assert_eq!(told.iter().collect::<Vec<_>>(), (1..=40).map(Ok).collect::<Vec<_>>());
}

fn what_waits_is_done_before_the_thread_ends(bench: &Bench) {
    let thread = start(Arc::clone(&bench.ledger));
    let told = submit(&thread, bench.join(1), 1..=40);
    drop(thread);
    assert_eq!(told.try_iter().count(), 40);
    assert_eq!(bench.row().charged, 40);
}

/// A thread whose first commit waits until the sender says so.
fn gated(
    plan: impl Fn(u64) -> Fault + Send + 'static,
) -> (std::sync::mpsc::Sender<()>, Arc<FaultyLedger>, LedgerThread) {
    let (open, gate) = channel();
    let mut gate = Some(gate);
    let ledger = FaultyLedger::new(Bench::memory().ledger, move |number| match gate.take() {
        Some(gate) => Fault::Wait(gate),
        None => plan(number),
    });
    let ledger = Arc::new(ledger);
    let thread = start(Arc::clone(&ledger) as Arc<dyn Ledger>);
    (open, ledger, thread)
}

#[test]
fn all_that_waits_is_committed_together() {
    let (open, ledger, thread) = gated(|_| Fault::None);
    let holder = ledger.join(1).unwrap();
    let first = submit(&thread, holder, 1..=1);
    while ledger.commits() == 0 {
        std::thread::yield_now();
    }
    let rest = submit(&thread, holder, 2..=50);
    assert_eq!(thread.status().waiting, 49);
    open.send(()).unwrap();
    assert_eq!(first.iter().chain(rest.iter()).count(), 50);
    assert_eq!(ledger.commits(), 2);
    let status = thread.status();
    assert_eq!(
        (status.operations, status.commits, status.failures, status.waiting, status.failing),
        (50, 2, 0, 0, None)
    );
}

#[test]
fn a_full_queue_answers_at_once() {
    let (open, ledger, thread) = gated(|_| Fault::None);
    let holder = ledger.join(1).unwrap();
    let first = submit(&thread, holder, 1..=1);
    while ledger.commits() == 0 {
        std::thread::yield_now();
    }
    let queued = submit(&thread, holder, 1..=WAITING as u64);
    assert_eq!(queued.try_recv().ok(), None);
    let refused = submit(&thread, holder, 1..=3);
    assert_eq!(refused.iter().collect::<Vec<_>>(), vec![Err(LedgerError::Busy); 3]);
    open.send(()).unwrap();
    assert_eq!(first.iter().chain(queued.iter()).filter(Result::is_ok).count(), WAITING + 1);
}

#[test]
fn a_failed_commit_is_told_to_all_of_it_and_the_next_one_works() {
    let (open, ledger, thread) =
        gated(|number| if number == 2 { Fault::Before(broken()) } else { Fault::None });
    let holder = ledger.join(1).unwrap();
    let first = submit(&thread, holder, 1..=1);
    while ledger.commits() == 0 {
        std::thread::yield_now();
    }
    let failed = submit(&thread, holder, 2..=10);
    open.send(()).unwrap();
    assert_eq!(
        first.iter().chain(failed.iter()).collect::<Vec<_>>(),
        [vec![Ok(1)], vec![Err(broken()); 9]].concat()
    );
    assert_eq!((thread.status().failures, thread.status().failing), (1, Some(broken())));
    assert_eq!(thread.call(lease(holder, 2)).unwrap().unwrap().leased, 2);
    assert_eq!((thread.status().failures, thread.status().failing), (1, None));
}

#[test]
fn a_panic_of_one_callback_harms_nobody_else() {
    let bench = Bench::memory();
    let thread = start(Arc::clone(&bench.ledger));
    let holder = bench.join(1);
    thread.submit(lease(holder, 1), |_| panic!("on purpose"));
    assert_eq!(thread.call(lease(holder, 2)).unwrap().unwrap().leased, 2);
}

#[test]
fn a_panic_of_the_ledger_is_a_failure() {
    let ledger = FaultyLedger::new(Bench::memory().ledger, |number| {
        if number == 1 { panic!("on purpose") } else { Fault::None }
    });
    let thread = start(Arc::new(ledger));
    let holder = Holder { id: 1, epoch: 1 };
    assert_eq!(thread.call(lease(holder, 2)).unwrap_err(), broken());
    assert_eq!(thread.call(lease(holder, 2)).unwrap().unwrap().leased, 2);
}

#[test]
fn a_callback_may_hold_the_last_reference() {
    let (open, ledger, thread) = gated(|_| Fault::None);
    let (tell, told) = channel();
    let thread = Arc::new(thread);
    let last = Arc::clone(&thread);
    thread.submit(lease(Holder { id: 1, epoch: 1 }, 1), move |done| {
        drop(last);
        tell.send(done.is_ok()).unwrap();
    });
    drop(thread);
    open.send(()).unwrap();
    assert_eq!(told.recv(), Ok(true));
    assert_eq!(ledger.commits(), 1);
}

/// Waits for what the ledger's threads do by themselves.
fn until(thread: &LedgerThread, seen: impl Fn(&LedgerStatus) -> bool) {
    while !seen(&thread.status()) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn tidying_that_fails_is_a_state_of_its_own_and_commits_go_on() {
    let ledger = Arc::new(FaultyLedger::new(Bench::memory().ledger, |_| Fault::None));
    let thread = start(ledger.clone());
    ledger.set_tidying(Some(broken()));
    let holder = ledger.join(1).unwrap();
    assert_eq!(thread.call(lease(holder, 1)).unwrap().unwrap().leased, 1);
    until(&thread, |status| status.tidying == Some(broken()));
    // A commit that works does not hide it, and it does not make commits seem to fail.
    assert_eq!(thread.call(lease(holder, 2)).unwrap().unwrap().leased, 2);
    let status = thread.status();
    assert_eq!(
        (status.failing.clone(), status.failures, thread.is_failing(), status.tidying.is_some()),
        (None, 0, false, true)
    );
    assert!(status.says().unwrap().contains("is not tidied") && status.tidy_failures > 0);
    ledger.set_tidying(None);
    until(&thread, |status| status.tidying.is_none());
    assert_eq!(thread.status().says(), None);
}

#[test]
fn a_row_that_cannot_be_read_fails_the_operation_that_needs_it_and_no_other() {
    let folder = TempDir::new().unwrap();
    let file = SqliteLedger::open(folder.path()).unwrap();
    let holder = file.join(1).unwrap();
    let counter = one(&file, lease(holder, 9)).unwrap().unwrap().counter;
    one(&file, settle(holder, 1, &[(counter, -1)])).unwrap();
    let sql = rusqlite::Connection::open(file.path()).unwrap();
    assert_eq!(sql.execute("UPDATE marks SET bits = x'00'", []).unwrap(), 1);
    drop(sql);

    let (open, gate) = channel();
    let mut gate = Some(gate);
    let ledger = Arc::new(FaultyLedger::new(Arc::new(file), move |_| {
        gate.take().map_or(Fault::None, Fault::Wait)
    }));
    let thread = start(ledger.clone());
    // All that follows the first waits together.
    let first = submit(&thread, holder, 9..=9);
    while ledger.commits() == 0 {
        std::thread::yield_now();
    }
    let before = submit(&thread, holder, 10..=15);
    let (tell, told) = channel();
    thread.submit(settle(holder, 2, &[(counter, -1)]), move |done| tell.send(done).unwrap());
    let after = submit(&thread, holder, 16..=25);
    let elsewhere = Settle {
        mark: Mark { shard: 8, ..settle(holder, 2, &[]).mark },
        ..settle(holder, 2, &[(counter, -1)])
    };
    let (tell, other) = channel();
    thread.submit(elsewhere, move |done| tell.send(done.is_ok()).unwrap());
    open.send(()).unwrap();

    assert_eq!(
        first.iter().chain(before.iter()).chain(after.iter()).collect::<Vec<_>>(),
        (9..=25).map(Ok).collect::<Vec<_>>()
    );
    assert!(matches!(told.recv().unwrap(), Err(LedgerError::Row { .. })));
    assert!(other.recv().unwrap());
    let status = thread.status();
    assert_eq!((status.failing.clone(), status.failures, status.row_failures), (None, 0, 1));
    let said = status.says().unwrap();
    assert!(said.contains("a correction of the receipt 2 of shard 7, holder 1"), "{said}");
    // Alone it does not make the ledger seem to fail either: nobody else is kept waiting or refused
    // for it.
    assert!(matches!(
        thread.call(settle(holder, 3, &[(counter, -1)])),
        Err(LedgerError::Row { .. })
    ));
    assert!(!thread.is_failing());
    let row = ledger.usage(&Scope::All, 0, u64::MAX).unwrap().remove(0);
    assert_eq!(row.charged, 25 - 2, "each that worked was done once");
}

#[test]
fn a_thread_that_has_nothing_to_do_holds_no_room_for_what_may_wait() {
    // A place for each of them would be more than the machine has.
    let thread = LedgerThread::start(Bench::memory().ledger, usize::MAX).unwrap();
    let holder = thread.ledger().join(1).unwrap();
    assert_eq!(thread.call(lease(holder, 1)).unwrap().unwrap().leased, 1);
}
