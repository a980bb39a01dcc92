//! Settlements that a ledger has to commit first: the mark of the receipt and its changes together,
//! or neither.

use std::sync::Arc;

use super::PlanEngine;
use super::books::{Owner, Slot, State};
use super::marks::Marked;
use super::receipt::Receipt;
use super::settle::{Ended, Settlement, Wanted, before};
use super::usage::{Event, Who};
use crate::decide::calendar::Period;
use crate::decide::ledger::{
    self, Balance, ChargeRequest, Counter, CounterId, CounterIdentity, Delta, Mark, MarkKind, Once,
    Refused, Settle,
};
use crate::decide::outcome::Class;
use crate::decide::plan::Id;
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::sync::atomic::Ordering;

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

impl PlanEngine {
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

    /// Applies all changes of a correction, and answers the report.
    pub fn apply_correction(
        &self,
        correction: &Correction,
        committed: &[Committed],
        now: Now,
    ) -> Settlement {
        correction
            .changes
            .iter()
            .zip(committed)
            .for_each(|(change, committed)| self.apply_change(change, *committed, now));
        self.conclude_correction(correction, committed, now)
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
                        // Without room for it a second report asks the ledger, which knows.
                        let _ = self.marks.mark(receipt, mark.kind, now);
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
        let CounterId(number) = delta.counter;
        let Some(entry) = self.books.by_counter(number) else { return };
        let mut state = entry.lock();
        let Some(Slot { count, leases, .. }) = state.numbered(number) else { return };
        let units = delta.units.unsigned_abs();
        let (charged, real) = if delta.units < 0 { (units, 0) } else { (0, units) };
        count.settle(delta.period_start_s, charged, real);
        leases
            .all_mut()
            .filter(|held| held.start_ns / SECOND_NS == delta.period_start_s)
            .for_each(|held| held.turn());
    }

    /// The balance of a counter may be another than is known here.
    fn doubt(&self, &Delta { counter: CounterId(counter), period_start_s, units }: &Delta) {
        let Some(entry) = self.books.by_counter(counter) else { return };
        let mut state = entry.lock();
        let Some(Slot { leases, .. }) = state.numbered(counter) else { return };
        leases.all_mut().filter(|held| held.start_ns / SECOND_NS == period_start_s).for_each(
            |held| {
                held.turn();
                if units > 0 {
                    held.may_be_over();
                }
            },
        );
    }

    fn apply_charge(&self, charge: &ReportCharge, now: Now) {
        let ReportCharge { counter, period, units, .. } = charge;
        let (period, units) = (*period, *units);
        let work = |state: &mut State| {
            let forgotten_to_ns = self.forgotten_to_ns(state);
            let place = state.slot(&counter.quota, now, self.keep_ns())?;
            let Slot { count, leases, .. } = state.quotas.get_mut(place)?;
            if period.end_ns <= forgotten_to_ns && count.row(period.start_ns).is_none() {
                // It is read from the ledger when it is asked for.
                return Some(());
            }
            let row = count.row(period.start_ns).unwrap_or(Row { period, used: 0, granted: 0 });
            count.charge(&row, units, now.unix_ns, self.rows_keep_ns());
            if let Some(held) = leases.held_mut(period.start_ns) {
                held.turn();
            }
            Some(())
        };
        let charged = self.books.with(
            self.fingerprint_of(counter),
            || Owner::of(counter),
            now,
            |_, state| work(state),
        );
        if charged.ok().flatten().is_none() {
            self.events.dropped_settlements.fetch_add(1, Ordering::Relaxed);
        }
    }
}
