//! An engine with a ledger in memory of its own that answers at once: for those who cannot wait,
//! which are tests, fuzz targets and benches.

use std::sync::Arc;

use super::durable_rules::DurableRules;
use super::lease_broker::LeaseBroker;
use crate::clock::Clock;
use crate::config;
use crate::decide::lookup::Lookup;
use crate::decide::time::Now;
use crate::decide::verdict::Decision;
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::leases::BookSettings;
use crate::engine::plans::{
    Change, CheckInput, Checked, Committed, InvalidRequest, Need, PlanEngine, Report, Settings,
    Settled, Settlement, Shortage,
};
use crate::ledger::{Answer, Ledger, LedgerError, LedgerThread, MemoryLedger, Operation};

/// Asks the ledger, and takes over what it answers, in the thread of who asks.
#[derive(Clone, Debug)]
pub struct AtOnce {
    pub engine: Arc<PlanEngine>,
    pub ledger: Arc<MemoryLedger>,
}

impl AtOnce {
    /// The holder of `settings` is the ledger's first.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(settings: Settings) -> Result<Self, LedgerError> {
        let ledger = Arc::new(MemoryLedger::new()?);
        let holder = ledger.join(settings.holder.id)?;
        let engine = Arc::new(PlanEngine::new(Settings { holder, ..settings }));
        Ok(Self { engine, ledger })
    }

    /// Who asks the same ledger by a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn broker(&self, clock: Clock) -> Result<LeaseBroker, LedgerError> {
        let thread = LedgerThread::start(self.ledger.clone(), 65_536)?;
        Ok(LeaseBroker::new(
            self.engine.clone(),
            Arc::new(thread),
            self.engine.leases().holder(),
            clock,
        ))
    }

    /// Decides one request. A ledger in memory refuses nothing that an engine asks.
    ///
    /// # Errors
    /// The request cannot be decided, whoever the caller is.
    pub fn check<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        now: Now,
    ) -> Result<Decision<'a>, InvalidRequest> {
        loop {
            let checked = self.engine.check_or_need(lookup, request, Shortage::Ask, now)?;
            self.draw(self.engine.leases().take_prefetches(), now);
            match checked {
                Checked::Decided(decision) => return Ok(decision),
                Checked::Needs(needs) => self.draw(needs, now),
            }
        }
    }

    /// Has all of it leased.
    pub fn draw(&self, needs: Vec<Need>, now: Now) {
        for need in needs {
            let request = need.request(self.engine.leases().holder(), now.unix_s());
            match self.commit(Operation::Lease(request)) {
                Some(Answer::Lease(Ok(lease))) => {
                    self.engine.leases().apply_lease(&need, &lease, now)
                }
                _ => self.engine.leases().lease_failed(&need),
            }
        }
    }

    /// Settles one report.
    pub fn settle(&self, lookup: &impl Lookup, report: &Report<'_>, now: Now) -> Settlement {
        match self.engine.settle(lookup, report, now) {
            Settled::Done(settlement) => settlement,
            Settled::Commit(correction) => {
                let committed: Vec<Committed> =
                    correction.changes.iter().map(|change| self.change(change)).collect();
                self.engine.apply_correction(&correction, &committed, now)
            }
        }
    }

    fn change(&self, change: &Change) -> Committed {
        let operation = match change {
            Change::Settle(settle) => Operation::Settle(settle.clone()),
            Change::Charge(charge) => Operation::Charge(charge.request()),
        };
        match self.commit(operation) {
            Some(Answer::Settle(settled)) => Committed::from(&settled),
            Some(Answer::Charge(charged)) => charged.try_into().unwrap_or(Committed::TooOld),
            _ => Committed::TooOld,
        }
    }

    fn commit(&self, operation: Operation) -> Option<Answer> {
        self.ledger.commit(&[operation]).ok()?.pop()
    }
}

/// Durable rules over a ledger in memory of their own.
///
/// # Errors
/// The system gives no random bytes, or no thread.
pub fn durable_rules(clock: Clock, settings: &config::Plans) -> Result<DurableRules, LedgerError> {
    let ledger = Arc::new(MemoryLedger::new()?);
    let holder = ledger.join(1)?;
    let book = BookSettings::new(holder);
    let engine = Arc::new(DurableRuleEngine::new(ledger.secrets()?.fingerprint, book));
    let thread = Arc::new(LedgerThread::start(ledger, 65_536)?);
    let broker = LeaseBroker::new(engine.clone(), thread, holder, clock);
    Ok(DurableRules::new(engine, broker, settings))
}
