//! Reports: how a request ended, and what that does to the quotas.

use std::sync::Arc;

use super::books::{Entry, Owner, subject_fingerprint};
use super::correction::{Change, ReportCharge, Settled};
use super::marks::{Full, Marked};
use super::receipt::{Charged, Receipt};
use super::usage::{Event, Who};
use super::{Covered, MAX_OPERATION_ID, PlanEngine};
use crate::decide::compiled::{CompiledQuota, QuotaIdentity};
use crate::decide::ledger::{MarkKind, NameKind, Once, OnceKind};
use crate::decide::lookup::Lookup;
use crate::decide::outcome::{Class, CountRule, Outcome};
use crate::decide::plan::{Charge, Id};
use crate::decide::resolve::subscribe;
use crate::decide::time::Now;
use crate::engine::sync::atomic::Ordering;

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
    /// Some request of this caller to this target. Quotas that are charged at the report, and
    /// statistics; never a refund. The key need not be valid any more. `operation_id`: a report of
    /// the same id and key charges once. Empty: none.
    Caller { api_key: &'a [u8], target: &'a str, operation_id: &'a [u8] },
}

/// What a report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// Charges stand as they were made at the check; quotas that are charged at the report were
    /// charged now.
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

/// There is no room to remember that the correction was made, so it was not. Send the same report
/// again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many corrections are remembered until their receipts expire: send the report again later"
)]
pub struct NotRecorded;

impl From<Full> for NotRecorded {
    fn from(Full: Full) -> Self {
        Self
    }
}

/// How a request ended, of a report that may be gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    outcome: Outcome,
    cost: Option<u64>,
}

/// What a report asks of the quotas of one kind of charge.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Quotas of this kind.
    of: usize,
    /// Those of them that change.
    pub(super) changes: usize,
    /// Those of them that end with nothing charged.
    empty: usize,
}

impl PlanEngine {
    /// Settles one report, in memory. Where a ledger has to commit something first, it is not
    /// recorded: see [`Self::settle_or_commit`].
    ///
    /// A report that changes nothing seals nothing. Of those that would change charges made at the
    /// check, the first one does, and likewise of those that charge at the report.
    pub fn settle(
        &self,
        lookup: &impl Lookup,
        report: &Report<'_>,
        now: Now,
    ) -> Result<Settlement, NotRecorded> {
        match self.settle_or_commit(lookup, report, now)? {
            Settled::Done(settlement) => Ok(settlement),
            Settled::Commit(_) => Err(NotRecorded),
        }
    }

    /// Settles one report, or says what the ledger has to commit for it first; then nothing has
    /// changed.
    pub fn settle_or_commit(
        &self,
        lookup: &impl Lookup,
        report: &Report<'_>,
        now: Now,
    ) -> Result<Settled, NotRecorded> {
        let ended = Ended { outcome: report.outcome, cost: report.cost };
        let settled = match report.subject {
            _ if report.outcome.class().is_none() => Settled::Done(Settlement::Invalid),
            ReportSubject::Receipt(sealed) => {
                match Receipt::open(sealed, &self.settings.receipt_key) {
                    Some(receipt) => self.settle_receipt(receipt, ended, now)?,
                    None => Settled::Done(Settlement::Invalid),
                }
            }
            ReportSubject::Caller { operation_id, .. } if operation_id.len() > MAX_OPERATION_ID => {
                Settled::Done(Settlement::Invalid)
            }
            ReportSubject::Caller { api_key, target, operation_id } => {
                self.settle_caller(lookup, (api_key, target), operation_id, ended, now)
            }
        };
        if matches!(settled, Settled::Done(Settlement::Invalid)) {
            self.events.invalid_reports.fetch_add(1, Ordering::Relaxed);
        }
        Ok(settled)
    }

    fn settle_receipt(
        &self,
        receipt: Receipt,
        ended: Ended,
        now: Now,
    ) -> Result<Settled, NotRecorded> {
        let age_ns = now.unix_ns.saturating_sub(receipt.issued_us.saturating_mul(1000));
        let leased = self.settings.lease.is_some();
        // With a ledger any engine can settle any receipt.
        if age_ns >= self.settings.receipts_ttl_ns || !(leased || self.issued(&receipt)) {
            return Ok(Settled::Done(self.expired(&receipt, ended)));
        }
        let at_check = self.wanted(&receipt, ended, false);
        let at_report = self.wanted(&receipt, ended, true);
        let changes = at_check.changes + at_report.changes;
        if leased && changes > 0 {
            return Ok(self.correction(receipt, ended, at_check, at_report));
        }
        let mark = |wanted: Wanted, done| {
            if wanted.changes > 0 {
                self.marks.mark(&receipt, done, now)
            } else {
                Ok(Marked::Before)
            }
        };
        let marked = [mark(at_check, MarkKind::Corrected)?, mark(at_report, MarkKind::Charged)?];
        // Without a change to make, only a charge at the report needs to know what was done before.
        if marked.contains(&Marked::TooOld)
            || (at_report.of > 0 && self.marks.were_dropped(&receipt))
        {
            return Ok(Settled::Done(self.expired(&receipt, ended)));
        }
        let done = marked.map(|marked| marked == Marked::Now);
        if done.contains(&true) {
            self.apply(&receipt, ended, done);
        }
        Ok(Settled::Done(self.conclude(&receipt, ended, at_check, at_report, done, now)))
    }

    /// What a report did, once it is done: `corrects` charges of the check, `charges` at the
    /// report.
    pub(super) fn conclude(
        &self,
        receipt: &Receipt,
        ended: Ended,
        at_check: Wanted,
        at_report: Wanted,
        [corrects, charges]: [bool; 2],
        now: Now,
    ) -> Settlement {
        if !corrects && !charges && at_check.changes + at_report.changes > 0 {
            return Settlement::Duplicate;
        }
        self.count_response(receipt, ended, now);
        let uncounted = at_check.empty == at_check.of && at_report.empty == at_report.of;
        let nothing_left =
            uncounted && !(at_report.of > 0 && self.marks.has(receipt, MarkKind::Charged));
        let changed_or_none = corrects || at_check.of == 0;
        match (corrects, nothing_left && changed_or_none) {
            (_, true) => Settlement::Refunded,
            (true, false) => Settlement::Corrected,
            (false, false) => Settlement::Counted,
        }
    }

    /// Is the receipt of this engine?
    fn issued(&self, receipt: &Receipt) -> bool {
        receipt.holder == self.settings.holder
    }

    pub(super) fn expired(&self, receipt: &Receipt, ended: Ended) -> Settlement {
        self.events.expired_units.fetch_add(ended.cost.unwrap_or(receipt.cost), Ordering::Relaxed);
        Settlement::Expired
    }

    fn wanted(&self, receipt: &Receipt, ended: Ended, at_report: bool) -> Wanted {
        let mut wanted = Wanted::default();
        for charged in receipt.charges.iter().filter(|charged| charged.at_report == at_report) {
            let real = self.real_units(charged, receipt, ended);
            wanted.of += 1;
            wanted.changes += usize::from(real != before(charged, receipt));
            wanted.empty += usize::from(real == 0);
        }
        wanted
    }

    /// What one quota is charged for a request that ended so.
    pub(super) fn real_units(&self, charged: &Charged, receipt: &Receipt, ended: Ended) -> u64 {
        let rule = self.rules.value(charged.rule).unwrap_or(CountRule::DEFAULT);
        if rule.counts(&ended.outcome) { ended.cost.unwrap_or(receipt.cost) } else { 0 }
    }

    fn apply(&self, receipt: &Receipt, ended: Ended, [corrects, charges]: [bool; 2]) {
        for charged in receipt
            .charges
            .iter()
            .filter(|charged| if charged.at_report { charges } else { corrects })
        {
            let real = self.real_units(charged, receipt, ended);
            let Some(entry) = self.books.by_id(charged.counter >> 16) else {
                self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            if !settle_slot(&entry, charged, before(charged, receipt), real) {
                self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count_response(&self, receipt: &Receipt, ended: Ended, now: Now) {
        let nothing = Id::default();
        let leased = self.settings.lease.is_some();
        // The numbers of another epoch are its own.
        let issued_here = self.issued(receipt);
        let name = |kind, number| {
            if issued_here {
                self.names.name(kind, number)
            } else {
                self.names.earlier(receipt.holder, kind, number)
            }
        };
        let entry_of = |counter: u64| {
            if leased { self.books.by_counter(counter) } else { self.books.by_id(counter >> 16) }
        };
        let entry = receipt.charges.first().and_then(|charged| entry_of(charged.counter));
        let (Some(entry), Some(key), Some(class)) =
            (entry, name(NameKind::Key, receipt.key), ended.outcome.class())
        else {
            return;
        };
        let target = name(NameKind::Target, receipt.target);
        let who = Who::under(&entry.owner, &key, target.as_ref().unwrap_or(&nothing));
        self.usage.count(&self.fingerprints, who, Event::Response(class), now);
    }

    /// A report without a receipt.
    fn settle_caller(
        &self,
        lookup: &impl Lookup,
        (api_key, target): (&[u8], &str),
        operation_id: &[u8],
        ended: Ended,
        now: Now,
    ) -> Settled {
        let caller = lookup.caller(api_key).and_then(|(key, subscriber)| Some((key, subscriber?)));
        let Some(covered) =
            caller.and_then(|caller| subscribe(lookup, caller, target, lookup.target(target)).ok())
        else {
            return Settled::Done(Settlement::Invalid);
        };
        let Covered { key, subscriber_id, entitlement, target_id, .. } = covered;
        let charged = |quota: &&CompiledQuota| {
            quota.charge == Charge::AtReport && quota.counts.counts(&ended.outcome)
        };
        let mut charged = entitlement.quotas.iter().filter(charged).peekable();
        let units = ended.cost.unwrap_or(1);
        if charged.peek().is_some() {
            let (subject, owner) = self.owner(covered);
            if self.settings.lease.is_some() && units > 0 {
                let owner = owner();
                let class = ended.outcome.class().map_or("", Class::name).as_bytes();
                let cost = units.to_le_bytes();
                let asked = [target_id.as_bytes(), class, cost.as_slice()];
                let named = (!operation_id.is_empty()).then_some(Named {
                    key: &key.id,
                    id: operation_id,
                    asked,
                });
                let changes = charged
                    .map(|quota| self.charge_at_report(quota, &owner, units, named, now))
                    .collect();
                return self.charge_of(changes, owner, &key.id, target_id, ended.outcome.class());
            }
            let names = (&*entitlement.plan, &*entitlement.name);
            let fingerprint =
                subject_fingerprint(&self.fingerprints, entitlement.counter_scope, subject, names);
            let counted = self.books.with(fingerprint, owner, now, |_, state| {
                for quota in charged {
                    let place = state.slot(&quota.identity, now, self.keep_ns());
                    if let Some(slot) = place.and_then(|place| state.quotas.get_mut(place)) {
                        let row = slot.count.at(&quota.calendar, now.unix_ns);
                        slot.count.charge(&row, units, now.unix_ns, self.keep_ns());
                    }
                }
            });
            if counted.is_err() {
                self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(class) = ended.outcome.class() {
            let (plan, entitlement) = (&entitlement.plan, &entitlement.name);
            let who = Who {
                subscriber: subscriber_id,
                key: &key.id,
                plan,
                entitlement,
                target: target_id,
            };
            self.usage.count(&self.fingerprints, who, Event::Response(class), now);
        }
        Settled::Done(Settlement::Counted)
    }

    fn charge_at_report(
        &self,
        quota: &CompiledQuota,
        owner: &Owner,
        units: u64,
        named: Option<Named<'_>>,
        now: Now,
    ) -> Change {
        let counter = owner.counter(&quota.identity);
        let fingerprint = self.fingerprint_of(&counter);
        let once = named.map(|Named { key, id, asked }| {
            let QuotaIdentity { name, unit, time_zone, week_start } = &*quota.identity;
            let quota = format!("{name}|{unit:?}|{time_zone}|{week_start:?}");
            let parts = [key.as_bytes(), id, &fingerprint.to_le_bytes(), quota.as_bytes()];
            Once {
                kind: OnceKind::Charge,
                name: self.fingerprints.of_parts(b'c', &parts).to_le_bytes(),
                fields: self.fingerprints.of_parts(b'r', &asked).to_le_bytes(),
                note: Vec::new(),
                now_s: now.unix_s(),
            }
        });
        let period = quota.calendar.period(now.unix_ns);
        Change::Charge(ReportCharge { counter, period, units, now_s: now.unix_s(), once })
    }
}

/// A report without a receipt that has an id.
#[derive(Clone, Copy)]
struct Named<'a> {
    /// The API key's own id.
    key: &'a str,
    id: &'a [u8],
    /// Target, class and units.
    asked: [&'a [u8]; 3],
}

/// What a quota was charged before any report.
pub(super) fn before(charged: &Charged, receipt: &Receipt) -> u64 {
    if charged.at_report { 0 } else { receipt.cost }
}

fn settle_slot(entry: &Arc<Entry>, charged: &Charged, before: u64, real: u64) -> bool {
    let mut state = entry.lock();
    let place = usize::try_from(charged.counter & 0xffff).unwrap_or(usize::MAX);
    state
        .quotas
        .get_mut(place)
        .is_some_and(|slot| slot.count.settle(charged.period_start_s, before, real))
}
