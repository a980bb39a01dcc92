use std::sync::mpsc;

use super::*;
use crate::engine::plans::{Checked, Shortage};
use crate::ledger::faults::{Fault, FaultyLedger};
use crate::testkit::at_once::AtOnce;
use crate::testkit::declared::{self, request};
use crate::testkit::plans::AsksPlans;
use crate::testkit::started::memory;
use crate::testkit::told_clock::ToldClock;

const FILE: &str = "{
    plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [{name: q, limit: 9, unit: DAY}]}]}],
    subscribers: [
        {id: a, plans: [gold], keys: [{id: a, value: the-value-of-the-key-of-a}]},
        {id: b, plans: [gold], keys: [{id: b, value: the-value-of-the-key-of-b}]},
        {id: c, plans: [gold], keys: [{id: c, value: the-value-of-the-key-of-c}]},
    ]}";

#[test]
fn a_ledger_that_takes_nothing_does_not_get_on() {
    let told = ToldClock::at_s(1_795_341_600);
    let (begins, begun) = mpsc::channel();
    let (go_on, until) = mpsc::channel();
    let mut until = Some(until);
    let hangs_once = move |_| {
        until.take().map_or(Fault::None, |until| {
            begins.send(()).unwrap();
            Fault::Wait(until)
        })
    };
    let ledger = Arc::new(FaultyLedger::new(memory(), hangs_once));
    let own = crate::engine::plans::Settings::new([2; 32], [3; 16]);
    let AtOnce { engine, .. } = AtOnce::over(ledger.clone(), own);
    let thread = Arc::new(LedgerThread::start(ledger, 1).unwrap());
    let holder = engine.leases().holder();
    let broker = LeaseBroker::new(engine.clone(), thread, holder, told.clock());
    let catalog = declared::catalog(FILE, told.now());
    let ask = |who: &str| {
        let value = format!("the-value-of-the-key-of-{who}");
        let catalog = catalog.snapshot();
        let checked =
            engine.check_or_need(&*catalog, &request(&value, "t"), Shortage::Ask, told.now());
        let Checked::Needs(mut needs) = checked.unwrap() else { panic!("nothing is leased yet") };
        broker.ask(needs.remove(0))
    };
    let left = || broker.gets_on(told.now()).as_nanos();
    let stuck = STUCK.as_nanos();

    let first = ask("a");
    begun.recv().unwrap();
    told.pass_ns(300_000_000);
    let waits = ask("b");
    // There is room for one: this is answered at once, and says nothing of how the ledger gets on.
    assert_eq!(ask("c").blocking_recv(), Ok(()));
    assert_eq!(left(), stuck - 300_000_000);
    told.pass_ns(99_999_999);
    assert_eq!(left(), 1);
    told.pass_ns(1);
    assert_eq!(left(), 0);
    // An answer does say it.
    go_on.send(()).unwrap();
    assert_eq!(first.blocking_recv(), Ok(()));
    assert_eq!(left(), stuck);
    drop(waits);
}
