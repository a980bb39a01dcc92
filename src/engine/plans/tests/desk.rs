//! An engine, with a ledger that answers at once.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use super::leases::site::{Kept, Ledger};
use crate::decide::ledger::{CounterIdentity, DailyRow, DailyUsage, Scope};
use crate::decide::lookup::Lookup;
use crate::decide::plan::CounterScope;
use crate::decide::quota::Grant;
use crate::decide::resolve::{Call, Covered, Resolution, resolve};
use crate::decide::time::Now;
use crate::decide::verdict::Decision;
use crate::engine::plans::settle::Settled;
use crate::engine::plans::{
    CheckInput, EntryHandle, GrantError, InvalidRequest, PlanEngine, QuotaUsage, Report, Settings,
    Settlement, Subject, undecided,
};
use crate::engine::plans::{Checked, Need, Shortage};
use crate::engine::sync::Mutex;
use crate::testkit::plans::AsksPlans;

fn counter_of(usage: &QuotaUsage) -> CounterIdentity {
    let QuotaUsage { subscriber, key, plan, entitlement, quota, .. } = usage.clone();
    CounterIdentity { subscriber, key, plan, entitlement, quota }
}

pub(crate) struct Desk {
    engine: PlanEngine,
    ledger: Mutex<Ledger>,
    /// `None`: nobody remembers where counters were.
    handles: Option<Mutex<HashMap<String, EntryHandle>>>,
}

impl Deref for Desk {
    type Target = PlanEngine;

    fn deref(&self) -> &PlanEngine {
        &self.engine
    }
}

impl Desk {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { engine: PlanEngine::new(settings), ledger: Mutex::default(), handles: None }
    }

    /// The same, where callers are known.
    pub(crate) fn remembering(self) -> Self {
        Self { handles: Some(Mutex::default()), ..self }
    }

    fn epoch(&self) -> u32 {
        self.engine.settings.holder.epoch
    }

    /// Statistics by day, in the order of day and names.
    pub(crate) fn daily_usage(
        &self,
        scope: &Scope,
        first_day: u64,
        last_day: u64,
    ) -> Vec<DailyUsage> {
        let rows = self.engine.numbered_usage(scope, first_day, last_day).into_iter();
        let mut rows: Vec<DailyUsage> =
            rows.map(|DailyRow { key, counts, .. }| DailyUsage { of: key, counts }).collect();
        rows.sort_unstable_by(|one, other| one.of.cmp(&other.of));
        rows
    }

    /// Has all that was counted written.
    pub(crate) fn write(&self) {
        for taken in self.engine.take_unwritten_usage().parts(usize::MAX) {
            taken.changes().for_each(drop);
            self.engine.usage_written(taken);
        }
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
        if let (Some(handles), Resolution::Covered(covered)) =
            (&self.handles, resolve(lookup, &call, now))
        {
            let Covered { key, subscriber_id, entitlement, .. } = covered;
            let key = if entitlement.counter_scope == CounterScope::Key { &*key.id } else { "" };
            let names = format!("{subscriber_id}|{key}|{}|{}", entitlement.plan, entitlement.name);
            let mut handles = handles.lock();
            let handle = handles.entry(names).or_default();
            let (known, mut decision) = (Some((covered, handle)), undecided());
            let needs =
                self.engine.check_into(lookup, known, request, shortage, now, &mut decision)?;
            return Ok(needs.map_or(Checked::Decided(decision), Checked::Needs));
        }
        self.engine.check_or_need(lookup, request, shortage, now)
    }

    pub(crate) fn check<'a>(
        &self,
        lookup: &'a impl Lookup,
        request: &CheckInput<'_>,
        now: Now,
    ) -> Result<Decision<'a>, InvalidRequest> {
        // With the ledger held meanwhile: answers come in the order in which it gave them.
        let lease = |need: Need| {
            let mut ledger = self.ledger.lock();
            self.engine.leases().apply_lease(&need, &ledger.lease(self.epoch(), &need), now);
        };
        loop {
            let checked = self.check_or_need(lookup, request, Shortage::Ask, now)?;
            self.engine.leases().take_prefetches().into_iter().for_each(lease);
            match checked {
                Checked::Decided(decision) => return Ok(decision),
                Checked::Needs(needs) => needs.into_iter().for_each(lease),
            }
        }
    }

    pub(crate) fn settle(&self, lookup: &impl Lookup, report: &Report<'_>, now: Now) -> Settlement {
        match self.engine.settle(lookup, report, now) {
            Settled::Done(settlement) => settlement,
            Settled::Commit(correction) => {
                let mut ledger = self.ledger.lock();
                let committed = ledger.commit(&correction);
                self.engine.apply_correction(&correction, &committed, now)
            }
        }
    }

    pub(crate) fn grant(
        &self,
        lookup: &impl Lookup,
        subject: Subject<'_>,
        names: (&str, &str, &str),
        change: Grant,
        now: Now,
    ) -> Result<QuotaUsage, GrantError> {
        let plan = self.engine.prepare_grant(lookup, subject, names, change, now)?;
        let mut ledger = self.ledger.lock();
        plan.give_back.iter().for_each(|back| ledger.give_back(self.epoch(), back));
        let balance = ledger.grant(&plan);
        self.engine.apply_grant(&plan, balance, now)
    }

    /// The books of everyone in all periods: the engine's, and of periods that it has forgotten the
    /// ledger's.
    pub(crate) fn books(&self, lookup: &impl Lookup) -> Vec<QuotaUsage> {
        let mut books = self.engine.quota_usage(lookup, &Scope::All, 0..u64::MAX, ("", None));
        let held: HashSet<(CounterIdentity, u64)> =
            books.iter().map(|usage| (counter_of(usage), usage.row.period.start_ns)).collect();
        let kept: Vec<QuotaUsage> = self.ledger.lock().rows.values().map(Kept::usage).collect();
        for kept in kept {
            if !held.contains(&(counter_of(&kept), kept.row.period.start_ns)) {
                books.push(kept);
            }
        }
        books
    }

    /// May a period that is still to come have been forgotten, after the clock was ahead?
    pub(crate) fn has_forgotten_after(&self, now: Now) -> bool {
        let mut after = self.engine.leases.books.floor_ns() > now.unix_ns;
        self.engine.leases.books.each(|entry| after |= entry.lock().floor_ns() > now.unix_ns);
        after
    }

    pub(crate) fn sweep(&self, now: Now) -> bool {
        let is_more = self.engine.sweep(now);
        for back in self.engine.leases().take_ended() {
            self.ledger.lock().give_back(self.epoch(), &back);
            self.engine.leases().gave_back(back);
        }
        is_more
    }
}
