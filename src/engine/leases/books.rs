//! The counters of one subject under one entitlement: one entry under one lock.

use std::fmt;
use std::sync::Arc;

use super::by_plan::{self, ByPlan, Place, Placed};
use super::held::Leases;
use super::owner::{EntitlementRefs, Owner};
use super::paged::Paged;
use crate::decide::compiled::QuotaIdentity;
use crate::decide::quota::QuotaCount;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::filed::{Filed, Files, Fingerprinted, files};
use crate::engine::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use crate::fingerprint::Fingerprint;

/// The most counts of quotas in one entry, those of units and zones that were edited away included.
const MAX_SLOTS: usize = 1024;

/// What an entry holds beside the counts of its quotas. `()`: nothing.
pub trait Extra: fmt::Debug + Default + Send + 'static {
    /// Are entries found by their plan, too, as an edit of it needs them?
    const BY_PLAN: bool;

    /// Does it remember nothing any more?
    fn is_idle(&self, now: Now) -> bool;
}

impl Extra for () {
    const BY_PLAN: bool = false;

    fn is_idle(&self, _: Now) -> bool {
        true
    }
}

/// One subject's counters under one entitlement.
// In this order what it is found by, and never changes, is not on the cache line of the lock.
#[repr(C)]
pub(in crate::engine) struct Entry<E> {
    fingerprint: Fingerprint,
    place: Place,
    pub(in crate::engine) owner: Owner,
    state: Mutex<State<E>>,
}

/// Where a caller's counters were the last time. Who remembers what a caller resolves to keeps it
/// beside that.
#[derive(Debug, Default)]
pub struct EntryHandle<E>(Option<Arc<Entry<E>>>);

impl<E> EntryHandle<E> {
    /// Has its counters come from memory while something else is done: look at them later.
    pub fn touch(&self) {
        std::hint::black_box(self.0.as_ref().map(|entry| entry.state.is_locked()));
    }

    pub(in crate::engine) fn entry(&self) -> Option<&Entry<E>> {
        self.0.as_deref()
    }
}

/// What an entry counts.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(in crate::engine) struct State<E> {
    pub(in crate::engine) extra: E,
    /// Receipts name a slot by its place: a slot never moves. A box, because most entries have one
    /// or two for ever.
    pub(in crate::engine) quotas: Box<[Slot]>,
    /// On the steady clock. [`GONE`]: a sweep has dropped the entry, and what finds it by a
    /// [`EntryHandle`] looks again.
    touched_ns: u64,
    floor_ns: u64,
}

const GONE: u64 = u64::MAX;

/// An entry of rates alone is kept so long after its last request: where it is dropped between two
/// of them, each makes it anew.
const LINGER_NS: u64 = 60 * SECOND_NS;

/// The count of one quota.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(in crate::engine) struct Slot {
    pub(in crate::engine) identity: Arc<QuotaIdentity>,
    pub(in crate::engine) count: QuotaCount,
    pub(in crate::engine) leases: Leases,
}

// As many bytes as an allocator gives without any to spare.
const _: () = assert!(size_of::<Slot>() == 128);

impl<E: Extra> State<E> {
    /// The slot of a quota, made where it is missing. `None`: the entry holds too many, and none is
    /// old.
    pub(in crate::engine) fn slot(
        &mut self,
        identity: &Arc<QuotaIdentity>,
        now: Now,
        keep_ns: u64,
    ) -> Option<usize> {
        if let Some(place) =
            self.quotas.iter().position(|slot| Arc::ptr_eq(&slot.identity, identity))
        {
            return Some(place);
        }
        if let Some((place, slot)) =
            self.quotas.iter_mut().enumerate().find(|(_, slot)| slot.identity == *identity)
        {
            // The plan was edited: compare by address again from now on. What statuses the quota
            // counts may be another.
            slot.identity = Arc::clone(identity);
            slot.leases.rule = None;
            return Some(place);
        }
        let slot = Slot {
            identity: Arc::clone(identity),
            count: QuotaCount::default(),
            leases: Leases::default(),
        };
        if self.quotas.len() < MAX_SLOTS {
            let mut slots = std::mem::take(&mut self.quotas).into_vec();
            slots.reserve_exact(1);
            slots.push(slot);
            self.quotas = slots.into();
            return Some(self.quotas.len() - 1);
        }
        // One that has counted nothing yet may be of this very request.
        let is_over = |slot: &Slot| slot.last_end_ns() > 0 && slot.is_over(now, keep_ns);
        let (place, old) = self.quotas.iter_mut().enumerate().find(|(_, slot)| is_over(slot))?;
        self.floor_ns = self.floor_ns.max(old.last_end_ns());
        *old = slot;
        Some(place)
    }

    /// The slot of a quota, where it has one.
    pub(in crate::engine) fn find(&mut self, identity: &QuotaIdentity) -> Option<&mut Slot> {
        self.quotas.iter_mut().find(|slot| *slot.identity == *identity)
    }

    /// The slot of a counter of the ledger.
    pub(in crate::engine) fn numbered(&mut self, counter: u64) -> Option<&mut Slot> {
        self.quotas.iter_mut().find(|slot| slot.leases.counter == counter)
    }

    /// Periods that ended by then may have been forgotten.
    pub(in crate::engine) fn floor_ns(&self) -> u64 {
        self.floor_ns
    }

    /// Forgets the periods that ended by then, as far as a ledger knows all of them.
    pub(in crate::engine) fn forget(&mut self, ended_by_ns: u64) {
        for Slot { count, leases, .. } in &mut self.quotas {
            if let Some(last_ns) = leases.forget(count, ended_by_ns) {
                self.floor_ns = self.floor_ns.max(last_ns);
            }
        }
    }

    /// Without quotas it lingers for a while all the same.
    fn is_idle(&self, now: Now, keep_ns: u64, linger_ns: u64) -> bool {
        // Both clocks must agree: one leap of the wall clock must not drop the books of everyone.
        let patience_ns = if self.quotas.is_empty() { linger_ns } else { keep_ns };
        let untouched = now.steady_ns.saturating_sub(self.touched_ns) >= patience_ns;
        self.extra.is_idle(now)
            && untouched
            && self.quotas.iter().all(|slot| slot.is_over(now, keep_ns))
    }
}

impl Slot {
    /// Is nothing in it that a receipt may come for, or that the ledger was not told?
    fn is_over(&self, now: Now, keep_ns: u64) -> bool {
        self.count.is_old(now.unix_ns, keep_ns) && self.leases.are_told(&self.count)
    }

    fn last_end_ns(&self) -> u64 {
        self.count.rows().last().map_or(0, |row| row.period.end_ns)
    }
}

impl<E> Entry<E> {
    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock()
    }
}

impl<E> Fingerprinted for Entry<E> {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl<E> Placed for Entry<E> {
    fn place(&self) -> &Place {
        &self.place
    }
}

impl<E> fmt::Debug for Entry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// All entries.
#[derive(Debug)]
pub(in crate::engine) struct Books<E> {
    by_subject: Files<Entry<E>>,
    by_counter: Paged<Entry<E>>,
    by_plan: ByPlan<Entry<E>>,
    unders: EntitlementRefs,
    live: AtomicUsize,
    max_entries: usize,
    refused: AtomicU64,
    floor_ns: AtomicU64,
}

/// There is no room for another entry, or for another count in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another counter")]
pub struct Full;

impl<E: Extra> Books<E> {
    pub(in crate::engine) fn new(max_entries: usize) -> Self {
        Self {
            by_subject: files(),
            by_counter: Paged::default(),
            by_plan: ByPlan::default(),
            unders: EntitlementRefs::default(),
            live: AtomicUsize::new(0),
            max_entries: max_entries.min(by_plan::MOST),
            refused: AtomicU64::new(0),
            floor_ns: AtomicU64::new(0),
        }
    }

    /// Works on the locked state of an entry, which is made where it is missing. Of the books `work`
    /// may touch the numbers alone: locks are taken in the order shard, entry, page of numbers.
    pub(in crate::engine) fn with<R>(
        &self,
        fingerprint: Fingerprint,
        owner: impl FnOnce() -> Owner,
        now: Now,
        work: impl FnOnce(&Arc<Entry<E>>, &mut State<E>) -> R,
    ) -> Result<R, Full> {
        // The guard of the shard is held meanwhile, so that a sweep cannot drop the entry under the
        // work.
        if let Some(found) = self.by_subject.get(&fingerprint) {
            let Filed(entry) = found.key();
            return Ok(Self::touch(entry, entry.lock(), now, work));
        }
        let fresh = self.make(fingerprint, owner())?;
        let found = self.by_subject.entry(Filed(Arc::clone(&fresh))).or_default().downgrade();
        let Filed(entry) = found.key();
        if !Arc::ptr_eq(entry, &fresh) {
            self.forget(&fresh);
        }
        Ok(Self::touch(entry, entry.lock(), now, work))
    }

    /// The same, with a look at where the entry was the last time.
    pub(in crate::engine) fn with_handle<R>(
        &self,
        EntryHandle(handle): &mut EntryHandle<E>,
        fingerprint: impl FnOnce() -> Fingerprint,
        owner: impl FnOnce() -> Owner,
        now: Now,
        work: impl FnOnce(&Arc<Entry<E>>, &mut State<E>) -> R,
    ) -> Result<R, Full> {
        if let Some(entry) = handle {
            let state = entry.lock();
            if state.touched_ns != GONE {
                return Ok(Self::touch(entry, state, now, work));
            }
        }
        self.with(fingerprint(), owner, now, |entry, state| {
            *handle = Some(Arc::clone(entry));
            work(entry, state)
        })
    }

    fn touch<R>(
        entry: &Arc<Entry<E>>,
        mut state: MutexGuard<'_, State<E>>,
        now: Now,
        work: impl FnOnce(&Arc<Entry<E>>, &mut State<E>) -> R,
    ) -> R {
        state.touched_ns = now.steady_ns;
        work(entry, &mut state)
    }

    fn make(&self, fingerprint: Fingerprint, owner: Owner) -> Result<Arc<Entry<E>>, Full> {
        if self.live.fetch_add(1, Ordering::Relaxed) >= self.max_entries {
            self.live.fetch_sub(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        let owner = Owner { under: self.unders.of(owner.under), ..owner };
        let (place, state) = (Place::default(), Mutex::default());
        let entry = Arc::new(Entry { fingerprint, place, owner, state });
        // Before anyone finds it, and leases units for it.
        if E::BY_PLAN {
            self.by_plan.put(&entry.owner.under.plan, Arc::clone(&entry));
        }
        Ok(entry)
    }

    fn forget(&self, entry: &Arc<Entry<E>>) {
        if E::BY_PLAN {
            self.by_plan.remove(&entry.owner.under.plan, entry);
        }
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// The entry of a fingerprint.
    pub(in crate::engine) fn find(&self, fingerprint: Fingerprint) -> Option<Arc<Entry<E>>> {
        self.by_subject.get(&fingerprint).map(|found| Arc::clone(&found.key().0))
    }

    /// Lets an entry be found by a number of the ledger's.
    pub(in crate::engine) fn number(&self, counter: u64, entry: &Arc<Entry<E>>) {
        self.by_counter.insert(counter, Arc::clone(entry));
    }

    /// The same, instead of by the number that the ledger had given the counter before it dropped
    /// it.
    pub(in crate::engine) fn renumber(&self, before: u64, counter: u64, entry: &Arc<Entry<E>>) {
        if before != 0 {
            self.by_counter.remove(before, entry);
        }
        self.number(counter, entry);
    }

    /// The entry of a counter of the ledger.
    pub(in crate::engine) fn by_counter(&self, counter: u64) -> Option<Arc<Entry<E>>> {
        self.by_counter.get(counter)
    }

    /// Entries whose periods had all ended by then were dropped: what was counted in such periods
    /// is no longer known here.
    pub(in crate::engine) fn floor_ns(&self) -> u64 {
        self.floor_ns.load(Ordering::Relaxed)
    }

    /// Periods that ended by then may have been counted elsewhere.
    pub(in crate::engine) fn raise_floor(&self, to_ns: u64) {
        self.floor_ns.fetch_max(to_ns, Ordering::Relaxed);
    }

    /// Visits every entry. Others may be made and dropped meanwhile.
    pub(in crate::engine) fn each(&self, mut visit: impl FnMut(&Entry<E>)) {
        self.by_subject.iter().for_each(|found| visit(&found.key().0));
    }

    /// Visits the entries of a plan. One may be visited twice where others are dropped meanwhile.
    pub(in crate::engine) fn each_of_plan(&self, plan: &str, mut visit: impl FnMut(&Entry<E>)) {
        let mut place = by_plan::MOST;
        while place > 0 {
            let (some, next) = self.by_plan.before(plan, place, by_plan::PAGE);
            some.iter().for_each(|entry| visit(entry));
            place = next;
        }
    }

    /// Some of the entries of a plan, the last ones first: see [`ByPlan::before`].
    pub(in crate::engine) fn of_plan(
        &self,
        plan: &str,
        before: usize,
        most: usize,
    ) -> (Vec<EntryHandle<E>>, usize) {
        let (entries, place) = self.by_plan.before(plan, before, most);
        (entries.into_iter().map(|entry| EntryHandle(Some(entry))).collect(), place)
    }

    /// Drops the entries that remember nothing any more, after something was done to each. `then`
    /// must not touch the books.
    pub(in crate::engine) fn sweep(
        &self,
        now: Now,
        keep_ns: u64,
        mut then: impl FnMut(&mut State<E>),
    ) {
        let (mut gone, mut counters) = (Vec::new(), Vec::new());
        let linger_ns = if self.live() > self.max_entries / 2 { 0 } else { LINGER_NS };
        self.by_subject.retain(|Filed(entry), ()| {
            let mut state = entry.lock();
            then(&mut state);
            let idle = state.is_idle(now, keep_ns, linger_ns);
            if idle {
                state.touched_ns = GONE;
                let last_ns =
                    state.quotas.iter().map(Slot::last_end_ns).fold(state.floor_ns, u64::max);
                self.floor_ns.fetch_max(last_ns, Ordering::Relaxed);
                gone.push(Arc::clone(entry));
                let numbered = state
                    .quotas
                    .iter()
                    .map(|slot| slot.leases.counter)
                    .filter(|&counter| counter != 0);
                counters.extend(numbered.map(|counter| (counter, Arc::clone(entry))));
            }
            !idle
        });
        gone.iter().for_each(|entry| self.forget(entry));
        drop(gone);
        self.by_plan.sweep();
        self.unders.sweep();
        // Who called again meanwhile may have the number by now.
        counters.into_iter().for_each(|(counter, entry)| self.by_counter.remove(counter, &entry));
    }

    pub(in crate::engine) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
