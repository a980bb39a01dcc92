//! What an engine remembers of one counter, to go back to: for searches that try every order of
//! events.

use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;

use crate::decide::ledger::{CounterIdentity, GiveBack};
use crate::decide::time::Now;
use crate::engine::leases::{Need, Owner, State};
use crate::engine::plans::marks::{Place, Row};
use crate::engine::plans::rates::PlanExtra;
use crate::engine::plans::{PlanEngine, SHARDS};

/// An engine at one moment.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    state: State<PlanExtra>,
    prefetches: Vec<Need>,
    ended: Vec<GiveBack>,
    sequences: Vec<(usize, u64)>,
    marks: Vec<(Place, Row)>,
}

impl Memory {
    /// Of an engine that was just started.
    pub(crate) fn blank() -> Self {
        Self::default()
    }
}

impl PlanEngine {
    /// What is remembered of a counter, the only one.
    pub(crate) fn memory(&self, counter: &CounterIdentity) -> Memory {
        let state = self
            .leases
            .books
            .find(self.leases.fingerprint_of(counter))
            .map(|entry| entry.lock().clone())
            .unwrap_or_default();
        let sequences =
            self.sequences.iter().map(|sequence| sequence.0.load(Ordering::Relaxed)).enumerate();
        Memory {
            state,
            prefetches: self.leases.prefetches.lock().clone(),
            ended: self.leases.ended.lock().clone(),
            sequences: sequences.filter(|(_, drawn)| *drawn > 0).collect(),
            marks: self.marks.rows.iter().map(|row| (*row.key(), row.value().clone())).collect(),
        }
    }

    /// Goes on from what was remembered, as another epoch where it is another.
    pub(crate) fn return_to(
        &mut self,
        epoch: u32,
        counter: &CounterIdentity,
        memory: &Memory,
        now: Now,
    ) {
        self.settings.holder.epoch = epoch;
        self.leases.settings.holder.epoch = epoch;
        let mut back = memory.state.clone();
        back.extra.last_usage = None;
        let number = back.quotas.first().map_or(0, |slot| slot.leases.counter);
        let fingerprint = self.leases.fingerprint_of(counter);
        self.leases
            .books
            .with(fingerprint, || Owner::of(counter), now, |_, state| *state = back)
            .unwrap();
        if number != 0 {
            self.leases.books.number(number, &self.leases.books.find(fingerprint).unwrap());
        }
        *self.leases.prefetches.lock() = memory.prefetches.clone();
        self.leases.has_prefetches.store(!memory.prefetches.is_empty(), Ordering::Release);
        *self.leases.ended.lock() = memory.ended.clone();
        assert_eq!(self.sequences.len(), SHARDS);
        self.sequences.iter().for_each(|sequence| sequence.0.store(0, Ordering::Relaxed));
        memory
            .sequences
            .iter()
            .for_each(|(shard, drawn)| self.sequences[*shard].0.store(*drawn, Ordering::Relaxed));
        self.marks.rows.clear();
        memory
            .marks
            .iter()
            .for_each(|(place, row)| drop(self.marks.rows.insert(*place, row.clone())));
    }

    /// All that decides what it will do with this counter.
    pub(crate) fn imprint(&self, counter: &CounterIdentity, now: Now, into: &mut impl Hasher) {
        for need in self.leases.prefetches.lock().iter() {
            self.imprint_need(need, into);
        }
        for back in self.leases.ended.lock().iter() {
            (back.period_start_s, back.spent).hash(into);
        }
        let Some(entry) = self.leases.books.find(self.leases.fingerprint_of(counter)) else {
            return;
        };
        let mut state = entry.lock();
        state.floor_ns().hash(into);
        for slot in &mut state.quotas {
            (slot.leases.counter, slot.leases.rule).hash(into);
            for row in slot.count.rows() {
                (row.period.start_ns, row.used, row.granted).hash(into);
            }
            for held in slot.leases.all_mut() {
                (held.start_ns, held.spent, held.leased, held.waits(), held.giving).hash(into);
                (
                    held.asked_until_ns.saturating_sub(now.steady_ns),
                    held.knows(),
                    held.may_have_more,
                    held.ahead,
                )
                    .hash(into);
                (held.has_news(), held.can_close(), held.is_settled()).hash(into);
            }
        }
    }

    /// What a question means when its answer comes. Rounds only grow: it matters whether one is the
    /// same, and not how much it differs.
    pub(crate) fn imprint_need(&self, need: &Need, into: &mut impl Hasher) {
        (need.period.start_ns, need.want, need.spent, need.limit, need.revision, need.number)
            .hash(into);
        let Some(entry) = self.leases.books.find(self.leases.fingerprint_of(&need.counter)) else {
            return;
        };
        let mut state = entry.lock();
        let held = state
            .find(&need.counter.quota)
            .and_then(|slot| slot.leases.held_mut(need.period.start_ns));
        held.map(|held| held.round.compared(need.round)).hash(into);
    }
}
