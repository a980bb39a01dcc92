//! What an answer of the ledger changes. Answers may come late, in any order, and more than once.

use std::sync::Arc;

use smallvec::SmallVec;

use super::books::Slot;
use super::held::Doubt;
use super::{Extra, KEEP_ROWS_NS, LeaseBook, Need};
use crate::decide::ledger::{CounterId, Lease};
use crate::decide::quota::Row;
use crate::decide::time::Now;

impl<E: Extra> LeaseBook<E> {
    /// Takes over what the ledger answered.
    pub fn apply_lease(&self, need: &Need, lease: &Lease, now: Now) {
        self.rules.learn(lease.rule, need.rule);
        self.find(&need.counter, |entry, slot, forgotten_to_ns| {
            let CounterId(number) = lease.counter;
            if slot.leases.counter != number {
                let before = std::mem::replace(&mut slot.leases.counter, number);
                // With the lock held: whoever sees the number finds the entry by it. A give-back
                // that did not would never be over.
                self.books.renumber(before, number, entry);
            }
            if Arc::ptr_eq(&slot.identity, &need.counter.quota) {
                slot.leases.rule = Some(lease.rule);
            }
            take_over(slot, forgotten_to_ns, need, lease, now);
        });
    }

    /// The ledger has dropped the period: nothing is left of it, until a grant opens it, or
    /// [`Self::reopen`].
    pub fn period_dropped(&self, need: &Need, now: Now) {
        self.find(&need.counter, |_, slot, forgotten_to_ns| {
            let Slot { count, leases, .. } = slot;
            let held = leases.hold(need.period, forgotten_to_ns, count);
            held.answered(need.question);
            held.become_known();
            if held.round == need.round {
                held.trust_balance();
                count.tell(Row::dropped(need.period), now.unix_ns, KEEP_ROWS_NS);
            } else {
                // Something was granted meanwhile.
                held.doubt_balance(Doubt::Refusals);
            }
        });
    }

    /// Periods that the ledger had dropped may be open again: it is asked.
    pub fn reopen(&self) {
        self.books.each(|entry| {
            for Slot { count, leases, .. } in &mut entry.lock().quotas {
                for row in count.rows().filter(Row::is_dropped).collect::<SmallVec<[Row; 2]>>() {
                    leases
                        .held_mut(row.period.start_ns)
                        .into_iter()
                        .for_each(|held| held.doubt_balance(Doubt::Refusals));
                }
                count.forget(Row::is_dropped);
            }
        });
    }

    /// The ledger did not answer, or refused: what was asked for may be asked for again at once.
    pub fn lease_failed(&self, need: &Need) {
        self.find(&need.counter, |_, slot, _| {
            let held = slot.leases.held_mut(need.period.start_ns);
            held.into_iter().for_each(|held| held.unanswered(need.question));
        });
    }
}

fn take_over(slot: &mut Slot, forgotten_to_ns: u64, need: &Need, lease: &Lease, now: Now) {
    let Slot { count, leases, .. } = slot;
    let start_ns = need.period.start_ns;
    if need.period.end_ns <= forgotten_to_ns && leases.held(start_ns).is_none() {
        // It was answered before.
        return;
    }
    let held = leases.hold(need.period, forgotten_to_ns, count);
    held.answered(need.question);
    if held.resumes() && !held.resume(lease.spent, need.round) {
        return;
    }
    held.become_known();
    held.lease(lease.leased, need.spent, need.round);
    let kept = count.row(start_ns);
    let used =
        i128::from(lease.balance.charged) - i128::from(lease.leased) + i128::from(held.spent);
    // The greatest stands for a period that was dropped.
    let used = u64::try_from(used.max(0)).unwrap_or(u64::MAX).min(u64::MAX - 1);
    let told = Row { period: need.period, used, granted: lease.balance.granted };
    let told = if held.round == need.round {
        held.trust_balance();
        Some(told)
    } else {
        // An older balance. The row is made all the same: units without a row would be
        // forgotten.
        held.doubt_balance(Doubt::Refusals);
        kept.is_none().then_some(told)
    };
    if let Some(told) = told.filter(|&told| kept != Some(told)) {
        count.tell(told, now.unix_ns, KEEP_ROWS_NS);
    }
}
