//! Reports: how a request ended, and what that does to the quotas. What changes something is
//! committed by the ledger first: the mark of the receipt and its changes together, or neither.

use std::sync::Arc;

use super::marks::Marked;
use super::receipt::{Charged, Receipt};
use super::usage::{Event, Who};
use super::{Covered, MAX_OPERATION_ID, PlanEngine};
use crate::decide::calendar::Period;
use crate::decide::compiled::{CompiledQuota, QuotaIdentity};
use crate::decide::ledger::{
    self, Balance, ChargeRequest, Counter, CounterId, CounterIdentity, Delta, Mark, MarkKind,
    NameKind, Once, OnceKind, Refused, Settle,
};
use crate::decide::lookup::Lookup;
use crate::decide::outcome::{Class, CountRule, Outcome};
use crate::decide::plan::{Charge, Id};
use crate::decide::quota::Row;
use crate::decide::resolve::subscribe;
use crate::decide::time::Now;
use crate::engine::leases::{Doubt, Held, KEEP_ROWS_NS, Owner, Slot};
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

/// What a report came to.
#[derive(Debug)]
pub enum Settled {
    Done(Settlement),
    /// Nothing has changed yet: have the ledger commit all changes, hand each to
    /// [`PlanEngine::apply_change`], then all to [`PlanEngine::conclude_correction`]. If it cannot,
    /// the report is answered as not recorded, and may come again.
    Commit(Box<Correction>),
}

/// Changes for the ledger to commit, in one transaction or one for each.
#[derive(Debug)]
pub struct Correction {
    pub changes: Vec<Change>,
    then: Then,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Unless the mark is set: set it, and change what is charged.
    Settle(Settle),
    /// Charge units past any limit: there is no receipt, and so no mark. Where the report has a
    /// name, only if none of this name was charged.
    Charge(ReportCharge),
}

/// Units that a report without a receipt is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportCharge {
    pub counter: CounterIdentity,
    pub period: Period,
    pub units: u64,
    pub now_s: u64,
    pub once: Option<Once>,
}

impl ReportCharge {
    /// As the ledger is asked.
    pub fn request(&self) -> ChargeRequest {
        ChargeRequest {
            counter: Counter::Named(self.counter.clone()),
            period: self.period,
            units: self.units,
            now_s: self.now_s,
            once: self.once.clone(),
        }
    }
}

/// What the ledger made of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Done,
    /// The mark was set before, and nothing changed.
    Duplicate,
    /// Marks of that time, or the books of its period, were dropped, and nothing changed.
    TooOld,
    /// Another report had the name of this one, and nothing changed.
    Other,
}

impl From<&ledger::Settled> for Committed {
    fn from(settled: &ledger::Settled) -> Self {
        match settled {
            ledger::Settled::Done(_) => Self::Done,
            ledger::Settled::Duplicate => Self::Duplicate,
            ledger::Settled::TooOld => Self::TooOld,
        }
    }
}

impl TryFrom<Result<Balance, Refused>> for Committed {
    type Error = Refused;

    /// What came of a charge.
    fn try_from(charged: Result<Balance, Refused>) -> Result<Self, Refused> {
        match charged {
            Ok(_) => Ok(Self::Done),
            Err(Refused::DoneBefore) => Ok(Self::Duplicate),
            Err(Refused::OtherOperation) => Ok(Self::Other),
            Err(Refused::PeriodDropped) => Ok(Self::TooOld),
            Err(refused) => Err(refused),
        }
    }
}

/// What is left to do after the commit.
#[derive(Debug)]
enum Then {
    Receipt { receipt: Receipt, ended: Ended, at_check: Wanted, at_report: Wanted },
    Caller { owner: Owner, key: Id, target: Id, class: Option<Class> },
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
    /// Settles one report, or says what the ledger has to commit for it first; then nothing has
    /// changed.
    ///
    /// A report that changes nothing seals nothing. Of those that would change charges made at the
    /// check, the first one does, and likewise of those that charge at the report.
    pub fn settle(&self, lookup: &impl Lookup, report: &Report<'_>, now: Now) -> Settled {
        let ended = Ended { outcome: report.outcome, cost: report.cost };
        let settled = match report.subject {
            _ if report.outcome.class().is_none() => Settled::Done(Settlement::Invalid),
            ReportSubject::Receipt(sealed) => {
                match Receipt::open(sealed, &self.settings.receipt_key) {
                    Some(receipt) => self.settle_receipt(receipt, ended, now),
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
        settled
    }

    /// Any engine can settle any receipt: the ledger knows what was done for it.
    fn settle_receipt(&self, receipt: Receipt, ended: Ended, now: Now) -> Settled {
        let age_ns = now.unix_ns.saturating_sub(receipt.issued_us.saturating_mul(1000));
        if age_ns >= self.settings.receipts_ttl_ns {
            return Settled::Done(self.expired(&receipt, ended));
        }
        let at_check = self.wanted(&receipt, ended, false);
        let at_report = self.wanted(&receipt, ended, true);
        if at_check.changes + at_report.changes > 0 {
            return self.correction(receipt, ended, at_check, at_report);
        }
        // Without a change to make, only a charge at the report needs to know what was done before.
        if at_report.of > 0 && self.marks.were_dropped(&receipt) {
            return Settled::Done(self.expired(&receipt, ended));
        }
        Settled::Done(self.conclude(&receipt, ended, at_check, at_report, [false; 2], now))
    }

    /// What the ledger must commit for a receipt. Some of its quotas change.
    pub(super) fn correction(
        &self,
        receipt: Receipt,
        ended: Ended,
        at_check: Wanted,
        at_report: Wanted,
    ) -> Settled {
        let mut changes = Vec::new();
        for (kind, wanted) in [(MarkKind::Corrected, at_check), (MarkKind::Charged, at_report)] {
            // Marks that this engine knows of need not be asked for; the ledger has them all.
            match self.marks.seen(&receipt, kind) {
                Some(Marked::TooOld) if wanted.changes > 0 => {
                    return Settled::Done(self.expired(&receipt, ended));
                }
                None if wanted.changes > 0 => changes.push(self.change(&receipt, ended, kind)),
                _ => {}
            }
        }
        if changes.is_empty() {
            return Settled::Done(Settlement::Duplicate);
        }
        Settled::Commit(Box::new(Correction {
            changes,
            then: Then::Receipt { receipt, ended, at_check, at_report },
        }))
    }

    fn change(&self, receipt: &Receipt, ended: Ended, kind: MarkKind) -> Change {
        let Receipt { holder, shard, seq, issued_us, .. } = *receipt;
        let mark = Mark { holder, shard, seq, kind, issued_s: issued_us / 1_000_000 };
        let of_kind = receipt
            .charges
            .iter()
            .filter(|charged| charged.at_report == (kind == MarkKind::Charged));
        let deltas = of_kind.filter_map(|charged| {
            let units = i128::from(self.real_units(charged, receipt, ended))
                - i128::from(before(charged, receipt));
            let units = i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX });
            (units != 0).then_some(Delta {
                counter: CounterId(charged.counter),
                period_start_s: charged.period_start_s,
                units,
            })
        });
        Change::Settle(Settle { mark, deltas: deltas.collect() })
    }

    /// A report without a receipt, of quotas that are charged at the report.
    pub(super) fn charge_of(
        &self,
        changes: Vec<Change>,
        owner: Owner,
        key: &Id,
        target: &Id,
        class: Option<Class>,
    ) -> Settled {
        Settled::Commit(Box::new(Correction {
            changes,
            then: Then::Caller { owner, key: Arc::clone(key), target: Arc::clone(target), class },
        }))
    }

    /// The ledger has committed a change, or found that it was made before: what it refunds is
    /// spendable from now on. Changes and leases are taken over in the order in which the ledger
    /// made them: a balance that was told after a change has it in already.
    pub fn apply_change(&self, change: &Change, committed: Committed, now: Now) {
        match (change, committed) {
            (Change::Settle(settle), Committed::Done) => {
                settle.deltas.iter().for_each(|delta| self.apply_delta(delta))
            }
            (Change::Charge(charge), Committed::Done) => self.apply_charge(charge, now),
            // The first try may have been committed without an answer: what it changed shows when
            // the ledger is asked.
            (Change::Settle(_), Committed::Duplicate) => self.change_failed(change),
            _ => {}
        }
    }

    /// The ledger failed at a change, or its answer was lost: it may have been made. Nothing is
    /// refused by what is known here before it was asked, and nothing admitted where more may have
    /// been charged.
    pub fn change_failed(&self, change: &Change) {
        // A charge only takes: what is refused without it is refused with it.
        if let Change::Settle(settle) = change {
            settle.deltas.iter().for_each(|delta| self.doubt(delta));
        }
    }

    /// Answers a report, after all its changes were applied. `committed` says of each what came of
    /// it.
    pub fn conclude_correction(
        &self,
        correction: &Correction,
        committed: &[Committed],
        now: Now,
    ) -> Settlement {
        let (mut corrects, mut charges) = (false, false);
        for (change, _) in correction
            .changes
            .iter()
            .zip(committed)
            .filter(|(_, committed)| **committed == Committed::Done)
        {
            if let Change::Settle(Settle { mark, .. }) = change {
                match mark.kind {
                    MarkKind::Corrected => corrects = true,
                    MarkKind::Charged => charges = true,
                }
            }
        }
        match &correction.then {
            Then::Receipt { receipt, ended, .. } if committed.contains(&Committed::TooOld) => {
                self.expired(receipt, *ended)
            }
            Then::Receipt { receipt, ended, at_check, at_report } => {
                for change in &correction.changes {
                    if let Change::Settle(Settle { mark, .. }) = change {
                        self.marks.mark(receipt, mark.kind, now);
                    }
                }
                self.conclude(receipt, *ended, *at_check, *at_report, [corrects, charges], now)
            }
            Then::Caller { .. } if committed.contains(&Committed::Other) => {
                self.events.invalid_reports.fetch_add(1, Ordering::Relaxed);
                Settlement::Invalid
            }
            Then::Caller { .. }
                if committed.iter().all(|committed| *committed == Committed::Duplicate) =>
            {
                Settlement::Duplicate
            }
            Then::Caller { owner, key, target, class } => {
                if let Some(class) = class {
                    self.usage.count(
                        &self.fingerprints,
                        Who::under(owner, key, target),
                        Event::Response(*class),
                        now,
                    );
                }
                if committed.contains(&Committed::TooOld) {
                    Settlement::Expired
                } else {
                    Settlement::Counted
                }
            }
        }
    }

    /// Where the counter and its period are held: what is not held here is read from the ledger
    /// when it is.
    fn apply_delta(&self, delta: &Delta) {
        self.leases.find_numbered(delta.counter, |slot| {
            let units = delta.units.unsigned_abs();
            let (charged, real) = if delta.units < 0 { (units, 0) } else { (0, units) };
            slot.count.settle(delta.period_start_s, charged, real);
            slot.held_from(delta.period_start_s).for_each(Held::change_balance);
        });
    }

    /// The balance of a counter may be another than is known here.
    fn doubt(&self, delta: &Delta) {
        self.leases.find_numbered(delta.counter, |slot| {
            for held in slot.held_from(delta.period_start_s) {
                held.change_balance();
                if delta.units > 0 {
                    held.doubt_balance(Doubt::All);
                }
            }
        });
    }

    fn apply_charge(&self, charge: &ReportCharge, now: Now) {
        let ReportCharge { counter, period, units, .. } = charge;
        let charged = self.leases.with(counter, now, |_, slot, forgotten_to_ns| {
            let Slot { count, leases, .. } = slot;
            let row = count.row(period.start_ns);
            if period.end_ns <= forgotten_to_ns && row.is_none() {
                // It is read from the ledger when it is asked for.
                return;
            }
            let row = row.unwrap_or(Row { period: *period, used: 0, granted: 0 });
            count.charge(&row, *units, now.unix_ns, KEEP_ROWS_NS);
            leases.held_mut(period.start_ns).into_iter().for_each(Held::change_balance);
        });
        if charged.is_err() {
            self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
        }
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
        receipt.holder == self.leases.holder()
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
        let rule = self.leases.count_rule(charged.rule).unwrap_or(CountRule::DEFAULT);
        if rule.counts(&ended.outcome) { ended.cost.unwrap_or(receipt.cost) } else { 0 }
    }

    fn count_response(&self, receipt: &Receipt, ended: Ended, now: Now) {
        let nothing = Id::default();
        // The numbers of another epoch are its own.
        let issued_here = self.issued(receipt);
        let name = |kind, number| {
            if issued_here {
                self.names.name(kind, number)
            } else {
                self.names.earlier(receipt.holder, kind, number)
            }
        };
        let entry = receipt
            .charges
            .first()
            .and_then(|charged| self.leases.books.by_counter(charged.counter));
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
        if charged.peek().is_some() && units > 0 {
            let (_, owner) = self.owner(covered);
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
        let fingerprint = self.leases.fingerprint_of(&counter);
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
