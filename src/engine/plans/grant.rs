//! What operators see and give: the books of quotas, by period.

use std::ops::Range;
use std::sync::Arc;

use super::PlanEngine;
use super::rates::PlanExtra;
use crate::decide::calendar::Period;
use crate::decide::compiled::{CompiledEntitlement, CompiledQuota, QuotaIdentity};
use crate::decide::ledger::{
    Balance, Counter, CounterIdentity, GiveBack, GrantRequest, Once, Scope,
};
use crate::decide::lookup::Lookup;
use crate::decide::plan::{CounterScope, Id, PeriodUnit, Weekday};
use crate::decide::quota::{Grant, Row};
use crate::decide::time::Now;
use crate::engine::leases::{EntitlementRef, Entry, Full, KEEP_ROWS_NS, Owner, Slot};

/// Whose counter.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Subscriber(&'a Id),
    /// Where the entitlement counts by key.
    Key {
        subscriber: &'a Id,
        key: &'a Id,
    },
}

/// Why there is no such counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("there is no plan `{0}`")]
    NoPlan(String),
    #[error("the plan has no entitlement `{0}`")]
    NoEntitlement(String),
    #[error("the entitlement has no quota `{0}`")]
    NoQuota(String),
    #[error("the entitlement counts by API key: say which key")]
    CountsByKey,
    #[error("the entitlement counts by subscriber: say which subscriber")]
    CountsBySubscriber,
    #[error(transparent)]
    NoRoom(#[from] Full),
}

/// One quota of one subject in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    pub subscriber: Id,
    /// Where the entitlement counts by key.
    pub key: Option<Id>,
    pub plan: Id,
    pub entitlement: Id,
    pub quota: Arc<QuotaIdentity>,
    /// The declared limit. `None`: the quota is declared no longer.
    pub limit: Option<u64>,
    pub row: Row,
    /// Units that crashes left unaccounted for. They are not in `row`.
    pub lost: u64,
}

/// What the ledger has to do for a grant, in this order: the give-back, if there is one, and the
/// change.
#[derive(Clone, Debug)]
pub struct GrantPlan {
    pub counter: CounterIdentity,
    pub period: Period,
    /// Units in a period, without grants.
    pub limit: u64,
    pub change: Grant,
    pub give_back: Option<GiveBack>,
    /// Units that are known here to be used in the period. `None`: nothing is known of it.
    pub used: Option<u64>,
}

impl GrantPlan {
    /// As the ledger is asked for the change.
    pub fn request(&self, once: Option<Once>, now_s: u64) -> GrantRequest {
        GrantRequest {
            counter: Counter::Named(self.counter.clone()),
            period: self.period,
            change: self.change,
            limit: self.limit,
            now_s,
            once,
        }
    }
}

impl QuotaUsage {
    /// What is left of the period. 0 where the quota is declared no longer.
    pub fn remaining(&self) -> u64 {
        self.limit.map_or(0, |limit| self.row.remaining(limit).saturating_sub(self.lost))
    }
}

impl PlanEngine {
    /// What the ledger has to do for a grant. First it takes the give-back, so that what nobody has
    /// spent does not count as used; then it grants; then [`Self::apply_grant`], or
    /// [`Self::grant_failed`] where the ledger failed. A grant that only adds gives nothing back.
    pub fn prepare_grant(
        &self,
        lookup: &impl Lookup,
        subject: Subject<'_>,
        names: (&str, &str, &str),
        change: Grant,
        now: Now,
    ) -> Result<GrantPlan, GrantError> {
        let (owner, quota) = granted_to(lookup, subject, names)?;
        let counter = owner.counter(&quota.identity);
        let (period, used, give_back) = self.leases.with(&counter, now, |_, slot, _| {
            let Slot { count, leases, .. } = slot;
            let period = count.at(&quota.calendar, now.unix_ns).period;
            let mut backs = Vec::new();
            let number = leases.counter;
            if let Some(held) =
                leases.held_mut(period.start_ns).filter(|_| !matches!(change, Grant::Add(_)))
            {
                self.leases.give_back(number, held, &mut backs);
            }
            let used =
                count.row(period.start_ns).filter(|row| !row.is_dropped()).map(|row| row.used);
            (period, used, backs.pop())
        })?;
        Ok(GrantPlan { counter, period, limit: quota.limit, change, give_back, used })
    }

    /// The ledger has granted, and the counter stands so.
    pub fn apply_grant(
        &self,
        plan: &GrantPlan,
        balance: Balance,
        now: Now,
    ) -> Result<QuotaUsage, GrantError> {
        let row = self.leases.with(&plan.counter, now, |_, slot, _| {
            let Slot { count, leases, .. } = slot;
            let known = count.row(plan.period.start_ns).filter(|row| !row.is_dropped());
            let used = known.map_or(balance.charged, |row| row.used);
            let row = Row { period: plan.period, used, granted: balance.granted };
            count.tell(row, now.unix_ns, KEEP_ROWS_NS);
            // An answer that is on its way may know nothing of it.
            if let Some(held) = leases.held_mut(plan.period.start_ns) {
                held.change_balance();
                if plan.give_back.is_some() {
                    held.gave_back();
                }
            }
            row
        })?;
        Ok(describe(&Owner::of(&plan.counter), &plan.counter.quota, Some(plan.limit), row))
    }

    /// The ledger failed, and may have granted all the same: a refusal is asked about first.
    pub fn grant_failed(&self, plan: &GrantPlan) {
        self.leases.find(&plan.counter, |_, slot, forgotten_to_ns| {
            let held = slot.leases.hold(plan.period, forgotten_to_ns, &slot.count);
            held.change_balance();
            if plan.give_back.is_some() {
                held.give_back_failed();
            }
        });
    }

    /// The books of quotas whose periods overlap `time_ns`, from the counters of this subscriber and
    /// key on, in the order of names and periods.
    ///
    /// An entitlement that counts by subscriber has nothing to show for one key.
    pub fn quota_usage(
        &self,
        lookup: &impl Lookup,
        scope: &Scope,
        time_ns: Range<u64>,
        first: (&str, Option<&str>),
    ) -> Vec<QuotaUsage> {
        let Range { start: from_ns, end: until_ns } = time_ns;
        let mut found = Vec::new();
        let visit = |entry: &Entry<PlanExtra>| {
            let owner = &entry.owner;
            let EntitlementRef { plan, entitlement, key } = &*owner.under;
            if !scope.holds(&owner.subscriber, key.as_deref(), plan)
                || (&*owner.subscriber, key.as_deref()) < first
            {
                return;
            }
            let declared = lookup.plan(plan).and_then(|plan| plan.entitlement(entitlement));
            for slot in &entry.lock().quotas {
                let limit =
                    declared.and_then(|entitlement| declared_limit(entitlement, &slot.identity));
                let rows = slot.count.rows().filter(|row| {
                    row.period.start_ns < until_ns
                        && from_ns < row.period.end_ns
                        && !row.is_dropped()
                });
                found.extend(rows.map(|row| describe(owner, &slot.identity, limit, row)));
            }
        };
        match scope {
            Scope::Plan(plan) => self.leases.books.each_of_plan(plan, visit),
            Scope::All | Scope::Subscriber(_) | Scope::Key(_) => self.leases.books.each(visit),
        }
        found.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        // Of a plan one may be met twice.
        found.dedup_by(|one, other| one.order() == other.order());
        found
    }
}

fn granted_to<'a>(
    lookup: &'a impl Lookup,
    subject: Subject<'_>,
    (plan, entitlement, quota): (&str, &str, &str),
) -> Result<(Owner, &'a CompiledQuota), GrantError> {
    let compiled = lookup.plan(plan).ok_or_else(|| GrantError::NoPlan(plan.to_owned()))?;
    let entitlement = compiled
        .entitlement(entitlement)
        .ok_or_else(|| GrantError::NoEntitlement(entitlement.to_owned()))?;
    let named = entitlement.quotas.iter().find(|declared| &*declared.identity.name == quota);
    let quota = named.ok_or_else(|| GrantError::NoQuota(quota.to_owned()))?;
    Ok((owner_of(subject, entitlement)?, quota))
}

fn owner_of(subject: Subject<'_>, entitlement: &CompiledEntitlement) -> Result<Owner, GrantError> {
    let (subscriber, key) = match (subject, entitlement.counter_scope) {
        (Subject::Subscriber(subscriber), CounterScope::Subscriber) => (subscriber, None),
        (Subject::Key { subscriber, key }, CounterScope::Key) => (subscriber, Some(key)),
        (Subject::Subscriber(_), CounterScope::Key) => return Err(GrantError::CountsByKey),
        (Subject::Key { .. }, CounterScope::Subscriber) => {
            return Err(GrantError::CountsBySubscriber);
        }
    };
    Ok(Owner::new(subscriber, key, &entitlement.plan, &entitlement.name))
}

fn declared_limit(entitlement: &CompiledEntitlement, identity: &QuotaIdentity) -> Option<u64> {
    entitlement
        .quotas
        .iter()
        .find(|quota: &&CompiledQuota| *quota.identity == *identity)
        .map(|quota| quota.limit)
}

fn describe(owner: &Owner, quota: &Arc<QuotaIdentity>, limit: Option<u64>, row: Row) -> QuotaUsage {
    QuotaUsage {
        subscriber: Arc::clone(&owner.subscriber),
        key: owner.under.key.clone(),
        plan: Arc::clone(&owner.under.plan),
        entitlement: Arc::clone(&owner.under.entitlement),
        quota: Arc::clone(quota),
        limit,
        row,
        lost: 0,
    }
}

type Order<'a> =
    (&'a str, Option<&'a str>, &'a str, &'a str, &'a str, u64, (PeriodUnit, &'a str, Weekday));

impl QuotaUsage {
    /// Books are listed in the order of names and periods. No two have the same.
    pub fn order(&self) -> Order<'_> {
        let QuotaIdentity { name, unit, time_zone, week_start } = &*self.quota;
        let start_ns = self.row.period.start_ns;
        (
            &self.subscriber,
            self.key.as_deref(),
            &self.plan,
            &self.entitlement,
            name,
            start_ns,
            (*unit, time_zone, *week_start),
        )
    }
}
