//! An engine, with a ledger that answers at once where quotas are leased: the same questions, and
//! the same answers.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use parking_lot::Mutex;

use super::leases::site::{Kept, Ledger};
use crate::decide::ledger::{CounterIdentity, Scope};
use crate::decide::lookup::Lookup;
use crate::decide::plan::CounterScope;
use crate::decide::quota::Grant;
use crate::decide::resolve::{Call, Covered, Resolution, resolve};
use crate::decide::time::Now;
use crate::decide::verdict::Decision;
use crate::engine::plans::correction::Settled;
use crate::engine::plans::lease::{Checked, Need, Shortage};
use crate::engine::plans::{
    CheckInput, GrantError, InvalidRequest, LeaseSettings, NotRecorded, PlanEngine, QuotaUsage,
    Report, Seat, Settings, Settlement, Subject,
};

const EPOCH: u32 = 1;

fn counter_of(usage: &QuotaUsage) -> CounterIdentity {
    let QuotaUsage { subscriber, key, plan, entitlement, quota, .. } = usage.clone();
    CounterIdentity { subscriber, key, plan, entitlement, quota }
}

pub(crate) struct Desk {
    engine: PlanEngine,
    ledger: Option<Mutex<Ledger>>,
    /// `None`: nobody remembers where counters were.
    seats: Option<Mutex<HashMap<String, Seat>>>,
}

impl Deref for Desk {
    type Target = PlanEngine;

    fn deref(&self) -> &PlanEngine {
        &self.engine
    }
}

impl Desk {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { engine: PlanEngine::new(settings), ledger: None, seats: None }
    }

    /// Its quotas are spent from leases.
    pub(crate) fn leased(settings: Settings) -> Self {
        let lease = Some(LeaseSettings::default());
        Self {
            engine: PlanEngine::new(Settings { lease, ..settings }),
            ledger: Some(Mutex::default()),
            seats: None,
        }
    }

    /// The same, where callers are known.
    pub(crate) fn remembering(self) -> Self {
        Self { seats: Some(Mutex::default()), ..self }
    }

    fn check_or_need<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        shortage: Shortage,
        now: Now,
    ) -> Result<Checked<'a>, InvalidRequest> {
        let call = Call {
            api_key: request.api_key,
            target: request.target,
            method: request.method,
            path: request.path,
        };
        if let (Some(seats), Resolution::Covered(covered)) =
            (&self.seats, resolve(lookup, &call, now))
        {
            let Covered { key, subscriber_id, entitlement, .. } = covered;
            let key = if entitlement.counter_scope == CounterScope::Key { &*key.id } else { "" };
            let names = format!("{subscriber_id}|{key}|{}|{}", entitlement.plan, entitlement.name);
            let mut seats = seats.lock();
            let seat = seats.entry(names).or_default();
            return self.engine.check_known(lookup, Some((covered, seat)), request, shortage, now);
        }
        self.engine.check_or_need(lookup, request, shortage, now)
    }

    pub(crate) fn check<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        now: Now,
    ) -> Result<Decision<'a>, InvalidRequest> {
        let Some(ledger) = &self.ledger else {
            return match self.check_or_need(lookup, request, Shortage::Deny, now)? {
                Checked::Decided(decision) => Ok(decision),
                Checked::Needs(needs) => panic!("without a ledger: {needs:?}"),
            };
        };
        let lease =
            |need: Need| self.engine.apply_lease(&need, &ledger.lock().lease(EPOCH, &need), now);
        loop {
            let checked = self.check_or_need(lookup, request, Shortage::Ask, now)?;
            self.engine.take_prefetches().into_iter().for_each(lease);
            match checked {
                Checked::Decided(decision) => return Ok(decision),
                Checked::Needs(needs) => needs.into_iter().for_each(lease),
            }
        }
    }

    pub(crate) fn settle(
        &self,
        lookup: &impl Lookup,
        report: &Report<'_>,
        now: Now,
    ) -> Result<Settlement, NotRecorded> {
        let Some(ledger) = &self.ledger else { return self.engine.settle(lookup, report, now) };
        Ok(match self.engine.settle_or_commit(lookup, report, now)? {
            Settled::Done(settlement) => settlement,
            Settled::Commit(correction) => {
                let committed = ledger.lock().commit(&correction);
                self.engine.apply_correction(&correction, &committed, now)
            }
        })
    }

    pub(crate) fn grant(
        &self,
        lookup: &impl Lookup,
        subject: Subject<'_>,
        names: (&str, &str, &str),
        change: Grant,
        now: Now,
    ) -> Result<QuotaUsage, GrantError> {
        let Some(ledger) = &self.ledger else {
            return self.engine.grant(lookup, subject, names, change, now);
        };
        let plan = self.engine.prepare_grant(lookup, subject, names, change, now)?;
        let mut ledger = ledger.lock();
        plan.give_back.iter().for_each(|back| ledger.give_back(EPOCH, back));
        let balance = ledger.grant(&plan);
        self.engine.apply_grant(&plan, balance, now)
    }

    /// The books of everyone in all periods: the engine's, and of periods that it has forgotten the
    /// ledger's.
    pub(crate) fn books(&self, lookup: &impl Lookup) -> Vec<QuotaUsage> {
        let mut books = self.engine.quota_usage(lookup, &Scope::All, 0, u64::MAX);
        let held: HashSet<(CounterIdentity, u64)> =
            books.iter().map(|usage| (counter_of(usage), usage.row.period.start_ns)).collect();
        for kept in self
            .ledger
            .iter()
            .flat_map(|ledger| ledger.lock().rows.values().map(Kept::usage).collect::<Vec<_>>())
        {
            if !held.contains(&(counter_of(&kept), kept.row.period.start_ns)) {
                books.push(kept);
            }
        }
        books
    }

    /// May a period that is still to come have been forgotten, after the clock was ahead?
    pub(crate) fn has_forgotten_after(&self, now: Now) -> bool {
        let mut after = self.engine.books.floor_ns() > now.unix_ns;
        self.engine.books.each(|entry| after |= entry.lock().floor_ns() > now.unix_ns);
        after
    }

    pub(crate) fn sweep(&self, now: Now) -> bool {
        let is_more = self.engine.sweep(now);
        if let Some(ledger) = &self.ledger {
            let backs = self.engine.take_ended();
            backs.iter().for_each(|back| ledger.lock().give_back(EPOCH, back));
            backs.into_iter().for_each(|back| self.engine.gave_back(back));
        }
        is_more
    }
}
