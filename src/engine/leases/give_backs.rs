//! What is given back to the ledger: unspent units of an edit that lowers, of a period that is over,
//! and at a stop.

use super::books::{EntryHandle, Slot, State};
use super::held::Held;
use super::{Extra, LeaseBook};
use crate::decide::ledger::{CounterId, GiveBack};
use crate::decide::time::{Now, SECOND_NS};

/// How long after the end of a period its unspent units are given back, and what was spent in it
/// forgotten. Where the wall clock steps back by more, the ledger is asked.
const LINGER_NS: u64 = 60 * SECOND_NS;

impl<E: Extra> LeaseBook<E> {
    /// Some of those that may hold units under a plan, for [`Self::take_back_from`]: at most `most`
    /// of them before a place, and the place to go on with, until it is 0. Begin with `usize::MAX`.
    pub fn holding(&self, plan: &str, before: usize, most: usize) -> (Vec<EntryHandle<E>>, usize) {
        self.books.of_plan(plan, before, most)
    }

    /// Lets go of all unspent units of some, and tells which: for an edit that lowers, before it is
    /// acknowledged. Answers of the ledger that are on their way bring no units any more. Checks
    /// lease again after [`Self::gave_back`].
    pub fn take_back_from(&self, some: &[EntryHandle<E>]) -> Vec<GiveBack> {
        let mut found = Vec::new();
        for entry in some.iter().filter_map(EntryHandle::entry) {
            each_held(&mut entry.lock(), |number, held| self.give_back(number, held, &mut found));
        }
        found
    }

    /// Lets go of everything, for a clean stop, and tells what was spent of each lease: also where
    /// the ledger may know of more than it has answered. What is asked and not answered yet is
    /// found by a second call, after the answers.
    pub fn put_away(&self) -> Vec<GiveBack> {
        let mut found = Vec::new();
        self.books.each(|entry| {
            each_held(&mut entry.lock(), |number, held| {
                if held.resumes() || held.is_settled() {
                    held.let_go();
                } else {
                    self.tell_spent(number, held, &mut found);
                }
            });
        });
        found
    }

    /// The ledger has taken this back: from now on its counter leases again. Until then a check
    /// that needs units of it finds none, whatever is answered: a give-back that passes a lease on
    /// its way would take away what was leased.
    pub fn gave_back(&self, back: GiveBack) {
        self.given_back(back, Held::gave_back);
    }

    /// The ledger did not take it, or did and never answered, and it is not sent again: its counter
    /// leases again. Once its period is over, `Self::sweep` finds it again.
    pub fn give_back_failed(&self, back: GiveBack) {
        self.given_back(back, Held::give_back_failed);
    }

    fn given_back(&self, back: GiveBack, then: impl FnMut(&mut Held)) {
        self.find_numbered(back.counter, |slot| slot.held_from(back.period_start_s).for_each(then));
    }

    /// Unspent units of periods that are over, found by `Self::sweep` since the last call. Then
    /// [`Self::gave_back`] for each.
    pub fn take_ended(&self) -> Vec<GiveBack> {
        std::mem::take(&mut *self.ended.lock())
    }

    /// Drops entries that remember nothing any more. Forgets periods that have been over for a
    /// minute, once nothing of them is held: the ledger keeps their books. Finds unspent units of
    /// the others. `true`: there are more than one sweep finds.
    pub(in crate::engine) fn sweep(&self, now: Now) -> bool {
        let mut found = self.ended.lock();
        let mut is_more = false;
        let ended_by_ns = now.unix_ns.saturating_sub(LINGER_NS);
        // In one go with what drops entries: what a sweep costs is that each entry comes from
        // memory.
        self.books.sweep(now, self.settings.keep_ns, |state| {
            state.forget(ended_by_ns);
            for Slot { count, leases, .. } in &mut state.quotas {
                let number = leases.counter;
                for held in leases.all_mut().filter(|held| held.has_news() || held.can_close()) {
                    if count.row(held.start_ns).is_some_and(|row| row.period.end_ns <= ended_by_ns)
                    {
                        if found.len() >= self.settings.lease.max_ended {
                            is_more = true;
                            return;
                        }
                        self.tell_spent(number, held, &mut found);
                    }
                }
            }
        });
        is_more
    }

    pub(in crate::engine) fn give_back(
        &self,
        number: u64,
        held: &mut Held,
        found: &mut Vec<GiveBack>,
    ) {
        if held.has_news() {
            self.tell_spent(number, held, found);
        } else {
            held.let_go();
        }
    }

    fn tell_spent(&self, number: u64, held: &mut Held, found: &mut Vec<GiveBack>) {
        held.let_go();
        // Without a number nothing was ever answered.
        if number != 0 {
            held.give_back();
            found.push(GiveBack {
                counter: CounterId(number),
                period_start_s: held.start_ns / SECOND_NS,
                holder: self.settings.holder,
                spent: held.spent,
            });
        }
    }
}

fn each_held<E>(state: &mut State<E>, mut visit: impl FnMut(u64, &mut Held)) {
    for Slot { leases, .. } in &mut state.quotas {
        let number = leases.counter;
        leases.all_mut().for_each(|held| visit(number, held));
    }
}
