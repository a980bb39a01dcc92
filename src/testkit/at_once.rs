//! An engine that asks its ledger in the thread of who asks: for tests, benches and fuzz targets
//! that decide what happens next, and wait for nothing.

use std::sync::Arc;

use parking_lot::Mutex;

use super::plans::AsksPlans;
use crate::clock::Clock;
use crate::decide::ledger::{GiveBack, Holder, Lease};
use crate::decide::lookup::Lookup;
use crate::decide::time::Now;
use crate::decide::verdict::Decision;
use crate::engine::plans::{
    Change, CheckInput, Checked, Committed, Correction, GrantPlan, InvalidRequest, Need,
    PlanEngine, Report, Settings, Settled, Settlement, Shortage,
};
use crate::ledger::{
    Answer, GrantMade, Ledger, LedgerError, LedgerThread, MemoryLedger, Operation,
};
use crate::service::lease_broker::LeaseBroker;

/// One holder: its engine, and the ledger that it asks.
#[derive(Debug)]
pub struct AtOnce<L = MemoryLedger> {
    pub engine: Arc<PlanEngine>,
    pub ledger: Arc<L>,
    settings: Settings,
    /// Held from a question until its answer is taken over: the engine hears of answers in the
    /// order in which the ledger gave them, as from the ledger's thread.
    order: Mutex<()>,
}

impl AtOnce {
    /// Over a ledger in memory of its own.
    pub fn new(settings: Settings) -> Self {
        Self::over(Arc::new(MemoryLedger::new().unwrap()), settings)
    }
}

impl<L: Ledger + 'static> AtOnce<L> {
    /// The holder of `settings` joins `ledger`, as another epoch.
    pub fn over(ledger: Arc<L>, settings: Settings) -> Self {
        let holder = ledger.join(settings.holder.id).unwrap();
        let settings = Settings { holder, ..settings };
        let engine = Arc::new(PlanEngine::new(settings.clone()));
        Self { engine, ledger, settings, order: Mutex::default() }
    }

    /// What was in memory is gone; another epoch begins, with what the ledger kept.
    pub fn restart(&mut self, now: Now) {
        self.start_as(self.ledger.join(self.settings.holder.id).unwrap(), now);
    }

    /// The same, as this epoch.
    pub fn start_as(&mut self, holder: Holder, now: Now) {
        self.settings.holder = holder;
        self.engine = Arc::new(PlanEngine::new(self.settings.clone()));
        for (number, rule) in self.ledger.load_count_rules().unwrap() {
            self.engine.leases().restore_rule(number, rule);
        }
        // No room: the counter asks the ledger when it is touched.
        let take_over = &mut |row| _ = self.engine.leases().restore(&row, now);
        self.ledger.load_live(now.unix_s(), take_over).unwrap();
    }

    /// Asks the same ledger by a thread of its own.
    pub fn broker(&self, clock: Clock) -> LeaseBroker {
        let thread = LedgerThread::start(self.ledger.clone(), 65_536).unwrap();
        LeaseBroker::new(
            self.engine.clone(),
            Arc::new(thread),
            self.engine.leases().holder(),
            clock,
        )
    }

    /// Decides one request, and leases what the engine wants for it and ahead of use.
    ///
    /// # Errors
    /// The request cannot be decided, whoever the caller is.
    ///
    /// # Panics
    /// Where the ledger fails, so that it can never be decided.
    pub fn check<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        now: Now,
    ) -> Result<Decision<'a>, InvalidRequest> {
        for _ in 0..8 {
            let checked = self.engine.check_or_need(lookup, request, Shortage::Ask, now)?;
            self.draw(self.engine.leases().take_prefetches(), now);
            match checked {
                Checked::Decided(decision) => return Ok(decision),
                Checked::Needs(needs) => self.draw(needs, now),
            }
        }
        panic!("a check that got what it needs needs more");
    }

    /// Has all of it leased.
    pub fn draw(&self, needs: Vec<Need>, now: Now) {
        for need in needs {
            self.lease(&need, now);
        }
    }

    /// Has one lease made or grown. `None`: the ledger failed, or refused it.
    pub fn lease(&self, need: &Need, now: Now) -> Option<Lease> {
        let _ordered = self.order.lock();
        let request = need.request(self.engine.leases().holder(), now.unix_s());
        match self.commit(Operation::Lease(request)) {
            Ok(Answer::Lease(Ok(lease))) => {
                self.engine.leases().apply_lease(need, &lease, now);
                Some(lease)
            }
            _ => {
                self.engine.leases().lease_failed(need);
                None
            }
        }
    }

    /// Settles one report.
    ///
    /// # Errors
    /// The ledger failed: a gateway reports again.
    pub fn settle(
        &self,
        lookup: &impl Lookup,
        report: &Report<'_>,
        now: Now,
    ) -> Result<Settlement, LedgerError> {
        match self.engine.settle(lookup, report, now) {
            Settled::Done(settlement) => Ok(settlement),
            Settled::Commit(correction) => self.correct(&correction, now),
        }
    }

    /// Has a correction committed, and makes it count.
    ///
    /// # Errors
    /// The ledger failed, and the engine was told so.
    pub fn correct(&self, correction: &Correction, now: Now) -> Result<Settlement, LedgerError> {
        let _ordered = self.order.lock();
        let committed: Result<Vec<Committed>, LedgerError> =
            correction.changes.iter().map(|change| self.change(change)).collect();
        Ok(self.engine.apply_correction(correction, &committed?, now))
    }

    fn change(&self, change: &Change) -> Result<Committed, LedgerError> {
        let operation = match change {
            Change::Settle(settle) => Operation::Settle(settle.clone()),
            Change::Charge(charge) => Operation::Charge(charge.request()),
        };
        let answer = self.commit(operation).inspect_err(|_| self.engine.change_failed(change))?;
        Ok(match answer {
            Answer::Settle(settled) => Committed::from(&settled),
            Answer::Charge(charged) => charged.try_into().unwrap_or(Committed::TooOld),
            other => panic!("a settlement was answered {other:?}"),
        })
    }

    /// Hands units back that the engine has let go of. `false`: the ledger did not take all.
    pub fn give_back(&self, backs: &[GiveBack]) -> bool {
        let mut taken = true;
        for back in backs {
            let _ordered = self.order.lock();
            let done = self.commit(Operation::GiveBack(*back)).is_ok();
            let leases = self.engine.leases();
            if done {
                leases.gave_back(*back)
            } else {
                leases.give_back_failed(*back)
            }
            taken &= done;
        }
        taken
    }

    /// Has a grant made, behind the units that it lets go of. `false`: the ledger failed, and it is
    /// not known to have been made.
    pub fn grant(&self, plan: &GrantPlan, now: Now) -> bool {
        let _ordered = self.order.lock();
        let back = plan.give_back.map(|unspent| self.commit(Operation::GiveBack(unspent)));
        let request = Operation::Grant(plan.request(None, now.unix_s()));
        let made = back.transpose().and_then(|_| self.commit(request));
        let Ok(Answer::Grant(Ok(GrantMade { balance: Some(balance), .. }))) = made else {
            self.engine.grant_failed(plan);
            return false;
        };
        // No room: the next lease tells of it.
        drop(self.engine.apply_grant(plan, balance, now));
        true
    }

    /// Sweeps, and closes the periods that are over. Is there more to sweep?
    pub fn sweep(&self, now: Now) -> bool {
        let is_more = self.engine.sweep(now);
        self.give_back(&self.engine.leases().take_ended());
        is_more
    }

    fn commit(&self, operation: Operation) -> Result<Answer, LedgerError> {
        Ok(self.ledger.commit(&[operation])?.remove(0))
    }
}
