use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::rules::{Ask, Budget, Mode, Standing};
use crate::ledger::faults::{Fault, FaultyLedger};
use crate::ledger::{Ledger, MemoryLedger};

const NOW: Now = Now { unix_ns: 1_700_000_000 * SECOND_NS, steady_ns: 1 };

struct Run {
    engine: Arc<RuleEngine>,
    keeper: WindowKeeper,
    taken: TakenOver,
}

/// Another start of the same holder.
fn start(ledger: &Arc<dyn Ledger>) -> Run {
    let holder = ledger.join(1).unwrap();
    let engine = Arc::new(RuleEngine::kept(10_000, 10_000, &ledger.secrets().unwrap().fingerprint));
    let thread = Arc::new(LedgerThread::start(Arc::clone(ledger), 100).unwrap());
    let keeper = WindowKeeper::new(Arc::clone(&engine), thread, holder, &Metrics::new());
    let taken = keeper.restore(&Clock::from_fn(|| NOW)).unwrap();
    Run { engine, keeper, taken }
}

fn hit(engine: &RuleEngine, key: u64, hits: u64) -> Standing {
    let mut identity = engine.identity(b"shop");
    identity.level(&[&key.to_be_bytes()], b"key");
    let ask: Ask = identity.ask(Budget::Window { limit: 5, length_s: 86_400 }, hits, false);
    engine.charge(&[ask], Mode::Each, NOW, |_| false)[0]
}

#[test]
fn what_is_written_is_there_at_the_next_start_and_what_is_not_is_not() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new().unwrap());
    let run = start(&ledger);
    let keys = u64::try_from(PIECE * 2 + 1).unwrap();
    (0..keys).for_each(|key| assert!(!hit(&run.engine, key, 2).over));
    run.keeper.write().unwrap();
    run.keeper.write().unwrap();
    hit(&run.engine, 0, 1);
    let next = start(&ledger);
    assert_eq!(next.taken, TakenOver { windows: keys, without_room: 0 });
    (0..keys).for_each(|key| assert_eq!(hit(&next.engine, key, 1).before, 2));
}

#[test]
fn a_ledger_that_fails_gets_all_of_it_when_it_works_again() {
    let failing = Arc::new(AtomicBool::new(false));
    let inner: Arc<dyn Ledger> = Arc::new(MemoryLedger::new().unwrap());
    let fails = Arc::clone(&failing);
    let faulty =
        FaultyLedger::new(inner, move |number| match (fails.load(Ordering::SeqCst), number % 2) {
            (false, _) => Fault::None,
            (true, 0) => Fault::Before(LedgerError::Busy),
            // It is done, but nobody knows.
            (true, _) => Fault::After(LedgerError::Busy),
        });
    let ledger: Arc<dyn Ledger> = Arc::new(faulty);
    let run = start(&ledger);
    let keys = u64::try_from(PIECE + 1).unwrap();
    (0..keys).for_each(|key| assert!(!hit(&run.engine, key, 1).over));
    failing.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(run.keeper.write(), Err(LedgerError::Busy));
        (0..keys).for_each(|key| assert!(!hit(&run.engine, key, 1).over));
    }
    failing.store(false, Ordering::SeqCst);
    run.keeper.write().unwrap();
    let next = start(&ledger);
    (0..keys).for_each(|key| assert_eq!(hit(&next.engine, key, 1).before, 4));
}
