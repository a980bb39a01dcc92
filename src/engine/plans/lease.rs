//! Units of quotas come from a ledger, in leases. This side of it: what is asked for, what an
//! answer changes, and what is given back.
//!
//! The engine does no I/O. A check that needs units says so ([`Checked::Needs`]) and has charged
//! nothing; its caller asks the ledger, applies the answer ([`PlanEngine::apply_lease`]) and checks
//! again, with a new `now`. Units ahead of use are asked for through
//! [`PlanEngine::take_prefetches`], and nobody waits for them.
//!
//! One (counter, period) is never admitted more than the ledger leased, whatever is lost, late or
//! repeated in between. A give-back must not be sent to the ledger again once
//! [`PlanEngine::gave_back`] or [`PlanEngine::give_back_failed`] was told of it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::books::{Seat, Slot, State, subject_fingerprint};
use super::held::{Held, Question, Round};
use super::{KEEP_ROWS_NS, PlanEngine};
use crate::decide::calendar::Period;
use crate::decide::ledger::{
    Counter, CounterId, CounterIdentity, GiveBack, Holder, Lease, LeaseRequest,
};
use crate::decide::outcome::CountRule;
use crate::decide::plan::CounterScope;
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Decision;
use crate::engine::sync::atomic::Ordering;
use crate::fingerprint::Fingerprint;

/// How long after the end of a period its unspent units are given back, and what was spent in it
/// forgotten. Where the wall clock steps back by more, the ledger is asked.
const LINGER_NS: u64 = 60 * SECOND_NS;

/// What a check came to.
// Decisions are made and taken apart at once: a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Checked<'a> {
    Decided(Decision<'a>),
    /// Undecided, and nothing is charged: ask the ledger for all of these, then check again.
    Needs(Vec<Need>),
}

/// How soon what is asked for ahead of use should be asked of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Within some milliseconds, together with others.
    Some,
    /// At once.
    Much,
}

/// What a check does where units are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// It says what it needs.
    Ask,
    /// It is refused as `LEDGER_UNAVAILABLE`.
    Deny,
    /// It is admitted, and the next lease has to cover it. It gets no receipt if its counter has no
    /// number yet.
    Allow,
}

/// What to ask the ledger for. It is handed back with the answer.
#[derive(Clone, Debug)]
pub struct Need {
    pub counter: CounterIdentity,
    /// The ledger's number of the counter, once it is known.
    pub number: Option<CounterId>,
    pub period: Period,
    /// Units that this engine wants to have leased in this period since its start, all together. 0,
    /// or what is leased already, asks for the balance alone.
    pub want: u64,
    /// Units of them that it has spent.
    pub spent: u64,
    /// Units in a period, without grants.
    pub limit: u64,
    /// The lease may pass limit + grants.
    pub may_pass: bool,
    /// The catalog's revision that the limit is of.
    pub revision: u64,
    /// Which statuses the quota counts.
    pub rule: CountRule,
    pub(super) round: Round,
    pub(super) question: Question,
}

impl Need {
    /// As the ledger is asked, by the counter's number where it is known.
    pub fn request(&self, holder: Holder, now_s: u64) -> LeaseRequest {
        let named = || Counter::Named(self.counter.clone());
        LeaseRequest {
            counter: self.number.map_or_else(named, Counter::Known),
            count_rule: self.rule,
            period: self.period,
            holder,
            want: self.want,
            spent: self.spent,
            limit: self.limit,
            may_pass: self.may_pass,
            revision: self.revision,
            now_s,
        }
    }
}

impl PlanEngine {
    pub(super) fn fingerprint_of(&self, counter: &CounterIdentity) -> Fingerprint {
        let (scope, subject) = match &counter.key {
            Some(key) => (CounterScope::Key, key),
            None => (CounterScope::Subscriber, &counter.subscriber),
        };
        subject_fingerprint(
            &self.fingerprints,
            scope,
            subject,
            (&counter.plan, &counter.entitlement),
        )
    }

    /// Takes over what the ledger answered. Answers may come late, in any order, and more than
    /// once.
    pub fn apply_lease(&self, need: &Need, lease: &Lease, now: Now) {
        self.rules.learn(u32::from(lease.rule), &need.rule);
        let Some(entry) = self.books.find(self.fingerprint_of(&need.counter)) else { return };
        let mut state = entry.lock();
        let forgotten_to_ns = self.forgotten_to_ns(&state);
        let Some(slot) = state.find(&need.counter.quota) else { return };
        let CounterId(number) = lease.counter;
        if slot.leases.counter != number {
            let before = std::mem::replace(&mut slot.leases.counter, number);
            // With the lock held: whoever sees the number finds the entry by it. A give-back that
            // did not would never be over.
            self.books.renumber(before, number, &entry);
        }
        if Arc::ptr_eq(&slot.identity, &need.counter.quota) {
            slot.leases.rule = Some(lease.rule);
        }
        self.take_over(slot, forgotten_to_ns, need, lease, now);
    }

    fn take_over(
        &self,
        slot: &mut Slot,
        forgotten_to_ns: u64,
        need: &Need,
        lease: &Lease,
        now: Now,
    ) {
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
        held.be_known();
        held.lease(lease.leased, need.spent, need.round);
        let kept = count.row(start_ns);
        let used =
            i128::from(lease.balance.charged) - i128::from(lease.leased) + i128::from(held.spent);
        // The greatest stands for a period that was dropped.
        let used = u64::try_from(used.max(0)).unwrap_or(u64::MAX).min(u64::MAX - 1);
        let told = Row { period: need.period, used, granted: lease.balance.granted };
        let told = if held.round == need.round {
            held.be_sure();
            Some(told)
        } else {
            // An older balance. The row is made all the same: units without a row would be
            // forgotten.
            held.be_unsure();
            kept.is_none().then_some(told)
        };
        if let Some(told) = told.filter(|&told| kept != Some(told)) {
            count.tell(told, now.unix_ns, KEEP_ROWS_NS);
        }
    }

    /// The ledger has dropped the period: nothing is left of it, until a grant opens it, or
    /// [`Self::reopen`].
    pub fn period_dropped(&self, need: &Need, now: Now) {
        let Some(entry) = self.books.find(self.fingerprint_of(&need.counter)) else { return };
        let mut state = entry.lock();
        let forgotten_to_ns = self.forgotten_to_ns(&state);
        let Some(Slot { count, leases, .. }) = state.find(&need.counter.quota) else { return };
        let held = leases.hold(need.period, forgotten_to_ns, count);
        held.answered(need.question);
        held.be_known();
        if held.round == need.round {
            held.be_sure();
            count.tell(Row::dropped(need.period), now.unix_ns, KEEP_ROWS_NS);
        } else {
            // Something was granted meanwhile.
            held.be_unsure();
        }
    }

    /// Periods that the ledger had dropped may be open again: it is asked.
    pub fn reopen(&self) {
        self.books.each(|entry| {
            for Slot { count, leases, .. } in &mut entry.lock().quotas {
                for row in count.rows().filter(Row::is_dropped).collect::<SmallVec<[Row; 2]>>() {
                    leases.held_mut(row.period.start_ns).into_iter().for_each(Held::be_unsure);
                }
                count.forget(Row::is_dropped);
            }
        });
    }

    /// The ledger did not answer, or refused: what was asked for may be asked for again at once.
    pub fn lease_failed(&self, need: &Need) {
        if let Some(entry) = self.books.find(self.fingerprint_of(&need.counter))
            && let Some(slot) = entry.lock().find(&need.counter.quota)
            && let Some(held) = slot.leases.held_mut(need.period.start_ns)
        {
            held.unanswered(need.question);
        }
    }

    /// Is there room for it?
    pub(super) fn queue_prefetch(&self, need: Need, haste: Haste, most: usize) -> bool {
        let mut queue = self.prefetches.lock();
        let has_room = queue.len() < most;
        if has_room {
            queue.push(need);
            self.has_prefetches.store(true, Ordering::Release);
            if haste == Haste::Much {
                self.has_urgent_prefetches.store(true, Ordering::Release);
            }
        } else {
            self.events.dropped_prefetches.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Is there something for [`Self::take_prefetches`]? Costs nothing: ask it after every
    /// admission.
    pub fn has_prefetches(&self) -> bool {
        self.has_prefetches.load(Ordering::Acquire)
    }

    /// Should they be taken at once? Else it does no harm to let others join them for some
    /// milliseconds: what is held lasts much longer.
    pub fn has_urgent_prefetches(&self) -> bool {
        self.has_urgent_prefetches.load(Ordering::Acquire)
    }

    /// What should be leased ahead of use since the last call. Nobody waits for it.
    pub fn take_prefetches(&self) -> Vec<Need> {
        let mut queue = self.prefetches.lock();
        self.has_prefetches.store(false, Ordering::Release);
        self.has_urgent_prefetches.store(false, Ordering::Release);
        std::mem::take(&mut *queue)
    }

    /// Some of those that may hold units under a plan, for [`Self::take_back_from`]: at most `most`
    /// of them before a place, and the place to go on with, until it is 0. Begin with `usize::MAX`.
    pub fn holding(&self, plan: &str, before: usize, most: usize) -> (Vec<Seat>, usize) {
        self.books.of_plan(plan, before, most)
    }

    /// Lets go of all unspent units of some, and tells which: for an edit that lowers, before it is
    /// acknowledged. Answers of the ledger that are on their way bring no units any more. Checks
    /// lease again after [`Self::gave_back`].
    pub fn take_back_from(&self, some: &[Seat]) -> Vec<GiveBack> {
        let mut found = Vec::new();
        for entry in some.iter().filter_map(Seat::entry) {
            each_held(&mut entry.lock(), |number, held| self.give_back(number, held, &mut found));
        }
        found
    }

    /// The same of a whole plan at once.
    pub fn take_back(&self, plan: &str) -> Vec<GiveBack> {
        self.take_back_from(&self.holding(plan, usize::MAX, usize::MAX).0)
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
    /// leases again. Once its period is over, [`Self::sweep`] finds it again.
    pub fn give_back_failed(&self, back: GiveBack) {
        self.given_back(back, Held::give_back_failed);
    }

    fn given_back(&self, back: GiveBack, then: impl FnMut(&mut Held)) {
        let CounterId(number) = back.counter;
        let Some(entry) = self.books.by_counter(number) else { return };
        let mut state = entry.lock();
        let Some(slot) = state.numbered(number) else { return };
        let of_period = |held: &&mut Held| held.start_ns / SECOND_NS == back.period_start_s;
        slot.leases.all_mut().filter(of_period).for_each(then);
    }

    /// Unspent units of periods that are over, found by [`Self::sweep`] since the last call. Then
    /// [`Self::gave_back`] for each.
    pub fn take_ended(&self) -> Vec<GiveBack> {
        std::mem::take(&mut *self.ended.lock())
    }

    /// Drops entries that remember nothing any more. Forgets periods that have been over for a
    /// minute, once nothing of them is held: the ledger keeps their books. Finds unspent units of
    /// the others. `true`: there are more than one sweep finds.
    pub(super) fn sweep_leases(&self, now: Now) -> bool {
        let mut found = self.ended.lock();
        let mut is_more = false;
        let ended_by_ns = now.unix_ns.saturating_sub(LINGER_NS);
        // In one go with what drops entries: what a sweep costs is that each entry comes from
        // memory.
        self.books.sweep(now, self.keep_ns(), |state| {
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

    pub(super) fn give_back(&self, number: u64, held: &mut Held, found: &mut Vec<GiveBack>) {
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

    /// Periods of an entry that ended by then may have been forgotten.
    pub(super) fn forgotten_to_ns(&self, state: &State) -> u64 {
        state.floor_ns().max(self.books.floor_ns())
    }
}

fn each_held(state: &mut State, mut visit: impl FnMut(u64, &mut Held)) {
    for Slot { leases, .. } in &mut state.quotas {
        let number = leases.counter;
        leases.all_mut().for_each(|held| visit(number, held));
    }
}
