//! Reports: how a request ended, and what that does to the quotas.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::books::{Entry, subject_fingerprint};
use super::marks::{Done, Full, Marked};
use super::receipt::{Charged, Receipt};
use super::usage::{Event, Who};
use super::{Covered, PlanEngine};
use crate::decide::lookup::Lookup;
use crate::decide::outcome::{CountRule, Outcome};
use crate::decide::plan::{Charge, Id};
use crate::decide::resolve::subscribe;
use crate::decide::time::Now;

/// How one request ended.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub subject: ReportSubject<'a>,
    pub outcome: Outcome,
    /// The real cost, where it differs from the one that was checked.
    pub cost: Option<u64>,
}

/// Which request is meant.
#[derive(Clone, Copy, Debug)]
pub enum ReportSubject<'a> {
    /// What the check handed out.
    Receipt(&'a [u8]),
    /// Some request of this caller to this target. Quotas that are charged at the report, and statistics; never a refund. The key need not be
    /// valid any more.
    Caller { api_key: &'a [u8], target: &'a str },
}

/// What a report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// Charges stand as they were made at the check; quotas that are charged at the report were charged now.
    Counted,
    /// No quota counts the request: whatever was charged was given back.
    Refunded,
    /// Some charge was changed.
    Corrected,
    /// What this report would change was changed by an earlier one. Nothing changed.
    Duplicate,
    /// The receipt is too old, or of another run. Nothing changed.
    Expired,
    /// The report cannot be used. Nothing changed.
    Invalid,
}

/// There is no room to remember that the correction was made, so it was not. Send the same report again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many corrections are remembered until their receipts expire: send the report again later")]
pub struct NotRecorded;

impl From<Full> for NotRecorded {
    fn from(Full: Full) -> Self {
        Self
    }
}

/// What a report asks of the quotas of one kind of charge.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    /// Quotas of this kind.
    of: usize,
    /// Those of them that change.
    changes: usize,
    /// Those of them that end with nothing charged.
    empty: usize,
}

impl PlanEngine {
    /// Settles one report.
    ///
    /// A report that changes nothing seals nothing. Of those that would change charges made at the check, the first one does, and likewise of
    /// those that charge at the report.
    pub fn settle(&self, lookup: &impl Lookup, report: &Report<'_>, now: Now) -> Result<Settlement, NotRecorded> {
        let settlement = match report.subject {
            _ if report.outcome.class().is_none() => Settlement::Invalid,
            ReportSubject::Receipt(sealed) => match Receipt::open(sealed, &self.settings.receipt_key) {
                Some(receipt) => self.settle_receipt(&receipt, report, now)?,
                None => Settlement::Invalid,
            },
            ReportSubject::Caller { api_key, target } => self.settle_caller(lookup, api_key, target, report, now),
        };
        if settlement == Settlement::Invalid {
            self.events.invalid_reports.fetch_add(1, Ordering::Relaxed);
        }
        Ok(settlement)
    }

    fn settle_receipt(&self, receipt: &Receipt, report: &Report<'_>, now: Now) -> Result<Settlement, NotRecorded> {
        let age_ns = now.unix_ns.saturating_sub(receipt.issued_us.saturating_mul(1000));
        let ours = (receipt.holder, receipt.epoch) == (self.settings.holder, self.settings.epoch);
        if age_ns >= self.settings.receipts_ttl_ns || !ours {
            return Ok(self.expired(receipt, report));
        }
        let at_check = self.wanted(receipt, report, false);
        let at_report = self.wanted(receipt, report, true);
        let mark = |wanted: Wanted, done| if wanted.changes > 0 { self.marks.mark(receipt, done, now) } else { Ok(Marked::Before) };
        let marked = [mark(at_check, Done::Corrected)?, mark(at_report, Done::Charged)?];
        // Without a change to make, only a charge at the report needs to know what was done before.
        if marked.contains(&Marked::TooOld) || (at_report.of > 0 && self.marks.were_dropped(receipt)) {
            return Ok(self.expired(receipt, report));
        }
        let [corrects, charges] = marked.map(|marked| marked == Marked::Now);
        if !corrects && !charges && at_check.changes + at_report.changes > 0 {
            return Ok(Settlement::Duplicate);
        }
        if corrects || charges {
            self.apply(receipt, report, corrects, charges);
        }
        self.count_response(receipt, report, now);
        let uncounted = at_check.empty == at_check.of && at_report.empty == at_report.of;
        let nothing_left = uncounted && !(at_report.of > 0 && self.marks.has(receipt, Done::Charged));
        let changed_or_none = corrects || at_check.of == 0;
        Ok(match (corrects, nothing_left && changed_or_none) {
            (_, true) => Settlement::Refunded,
            (true, false) => Settlement::Corrected,
            (false, false) => Settlement::Counted,
        })
    }

    fn expired(&self, receipt: &Receipt, report: &Report<'_>) -> Settlement {
        self.events.expired_units.fetch_add(report.cost.unwrap_or(receipt.cost), Ordering::Relaxed);
        Settlement::Expired
    }

    fn wanted(&self, receipt: &Receipt, report: &Report<'_>, at_report: bool) -> Wanted {
        let mut wanted = Wanted::default();
        for charged in receipt.charges.iter().filter(|charged| charged.at_report == at_report) {
            let real = self.real_units(charged, receipt, report);
            wanted.of += 1;
            wanted.changes += usize::from(real != before(charged, receipt));
            wanted.empty += usize::from(real == 0);
        }
        wanted
    }

    /// What one quota is charged for a request that ended so.
    fn real_units(&self, charged: &Charged, receipt: &Receipt, report: &Report<'_>) -> u64 {
        let rule = self.rules.value(charged.rule).unwrap_or(CountRule::DEFAULT);
        if rule.counts(&report.outcome) { report.cost.unwrap_or(receipt.cost) } else { 0 }
    }

    fn apply(&self, receipt: &Receipt, report: &Report<'_>, corrects: bool, charges: bool) {
        for charged in receipt.charges.iter().filter(|charged| if charged.at_report { charges } else { corrects }) {
            let real = self.real_units(charged, receipt, report);
            let Some(entry) = self.books.by_id(charged.counter >> 16) else {
                self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            if !settle_slot(&entry, charged, before(charged, receipt), real) {
                self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count_response(&self, receipt: &Receipt, report: &Report<'_>, now: Now) {
        let nothing = Id::default();
        let entry = receipt.charges.first().and_then(|charged| self.books.by_id(charged.counter >> 16));
        let (Some(entry), Some(key), Some(class)) = (entry, self.keys.value(receipt.key), report.outcome.class()) else {
            return;
        };
        let target = self.target_names.value(receipt.target);
        let owner = &entry.owner;
        let target = target.as_ref().unwrap_or(&nothing);
        let who = Who { subscriber: &owner.subscriber, key: &key, plan: &owner.plan, entitlement: &owner.entitlement, target };
        self.usage.count(&self.fingerprints, who, Event::Response(class), now);
    }

    /// A report without a receipt.
    fn settle_caller(&self, lookup: &impl Lookup, api_key: &[u8], target: &str, report: &Report<'_>, now: Now) -> Settlement {
        let caller = lookup.api_key(api_key).and_then(|key| Some((key, lookup.subscriber(&key.subscriber)?)));
        let Some(covered) = caller.and_then(|caller| subscribe(lookup, caller, target).ok()) else {
            return Settlement::Invalid;
        };
        let Covered { key, subscriber, entitlement, target_id, .. } = covered;
        if entitlement.quotas.iter().any(|quota| quota.charge == Charge::AtReport) {
            let (subject, owner) = self.owner(covered);
            let fingerprint = subject_fingerprint(&self.fingerprints, entitlement.counter_scope, subject, entitlement);
            let units = report.cost.unwrap_or(1);
            let charged = self.books.with(fingerprint, owner, now, |_, state| {
                for quota in
                    entitlement.quotas.iter().filter(|quota| quota.charge == Charge::AtReport && quota.counts.counts(&report.outcome))
                {
                    let place = state.slot(quota, now, self.keep_ns());
                    if let Some(slot) = place.and_then(|place| state.quotas.get_mut(place)) {
                        let row = slot.count.at(&quota.calendar, now.unix_ns);
                        slot.count.charge(&row, units, now.unix_ns, self.keep_ns());
                    }
                }
            });
            if charged.is_err() {
                self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(class) = report.outcome.class() {
            let (plan, entitlement) = (&entitlement.plan, &entitlement.name);
            let who = Who { subscriber: &subscriber.id, key: &key.id, plan, entitlement, target: target_id };
            self.usage.count(&self.fingerprints, who, Event::Response(class), now);
        }
        Settlement::Counted
    }
}

/// What a quota was charged before any report.
fn before(charged: &Charged, receipt: &Receipt) -> u64 {
    if charged.at_report { 0 } else { receipt.cost }
}

fn settle_slot(entry: &Arc<Entry>, charged: &Charged, before: u64, real: u64) -> bool {
    let mut state = entry.lock();
    let place = usize::try_from(charged.counter & 0xffff).unwrap_or(usize::MAX);
    state.quotas.get_mut(place).is_some_and(|slot| slot.count.settle(charged.period_start_s, before, real))
}
