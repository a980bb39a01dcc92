//! A sharded hash table of small values, keyed by 128-bit fingerprints.
//!
//! Shards are plain mutexes, and several can be held at once, always in index order: that is what
//! lets one request check many counters and then charge them all, or none. Each shard has a list of
//! values that somebody wants to look at later, without going through all of them, as long as they
//! are few. Shards are in the order of the fingerprints in them.

mod entries;

use smallvec::SmallVec;

use self::entries::Entries;
use crate::engine::sync::{Mutex, MutexGuard};
use crate::fingerprint::Fingerprint;

struct Content<V> {
    entries: Entries<V>,
    listed: Listed,
}

/// Which values of a shard are listed.
enum Listed {
    /// These, each once.
    Some(Vec<Fingerprint>),
    /// More than are worth a list: who takes it looks at all values.
    Many,
}

impl Listed {
    fn none() -> Self {
        Self::Some(Vec::new())
    }

    /// `entries`: how many the shard has.
    fn add(&mut self, fingerprint: Fingerprint, entries: usize) {
        let Self::Some(listed) = self else { return };
        if listed.len() < FEW.max(entries / 8) {
            listed.push(fingerprint);
        } else {
            *self = Self::Many;
        }
    }
}

/// So many are always worth a list.
const FEW: usize = 16;

/// One shard on a cache line of its own.
#[repr(align(64))]
struct Shard<V>(Mutex<Content<V>>);

pub(crate) struct Table<V> {
    shards: Box<[Shard<V>]>,
}

impl<V> Table<V> {
    /// `shards` is rounded up to a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        let shards = shards.next_power_of_two();
        let empty = || Content { entries: Entries::new(), listed: Listed::none() };
        Self { shards: (0..shards).map(|_| Shard(Mutex::new(empty()))).collect() }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn index(&self, fingerprint: Fingerprint) -> usize {
        // The highest bits, so that shards are in order. Of one shard there are none.
        let shard = fingerprint.shard().checked_shr(64 - self.shards.len().ilog2());
        shard.and_then(|shard| usize::try_from(shard).ok()).unwrap_or_default()
    }

    /// Locks the shards of all `fingerprints`, in index order, each once.
    pub(crate) fn lock(&self, fingerprints: impl Iterator<Item = Fingerprint>) -> Locked<'_, V> {
        let mut wanted: SmallVec<[usize; 4]> =
            fingerprints.map(|fingerprint| self.index(fingerprint)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let guards = wanted
            .into_iter()
            .filter_map(|index| Some((index, self.shards.get(index)?.0.lock())))
            .collect();
        Locked { table: self, guards }
    }

    /// Visits the value of a fingerprint that has one, under the lock of its shard alone. `visit`
    /// says, beside what it gives, whether the value is to be put on the list: not twice before
    /// [`Self::take_listed`], and it must know that it is.
    pub(crate) fn visit<R>(
        &self,
        fingerprint: Fingerprint,
        visit: impl FnOnce(&mut V) -> (R, bool),
    ) -> Option<R> {
        let mut content = self.shards.get(self.index(fingerprint))?.0.lock();
        let Content { entries, listed } = &mut *content;
        let (result, list) = visit(entries.get(fingerprint)?);
        if list {
            listed.add(fingerprint, entries.len());
        }
        Some(result)
    }

    /// Empties the list of one shard, and visits the listed values, where they are many among all
    /// others.
    pub(crate) fn take_listed(&self, shard: usize, mut visit: impl FnMut(Fingerprint, &mut V)) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut content = shard.0.lock();
        let Content { entries, listed } = &mut *content;
        match std::mem::replace(listed, Listed::none()) {
            Listed::Some(listed) => {
                for fingerprint in listed {
                    if let Some(value) = entries.get(fingerprint) {
                        visit(fingerprint, value);
                    }
                }
            }
            Listed::Many => {
                entries.iter_mut().for_each(|(fingerprint, value)| visit(fingerprint, value));
            }
        }
    }

    /// Drops the entries of one shard that `dead` says are dead. Gives the number dropped.
    pub(crate) fn sweep(&self, shard: usize, mut dead: impl FnMut(&V) -> bool) -> usize {
        let Some(shard) = self.shards.get(shard) else { return 0 };
        let mut content = shard.0.lock();
        let Content { entries, listed } = &mut *content;
        let dropped = entries.drop_dead(&mut dead);
        if let (1.., Listed::Some(listed)) = (dropped, listed) {
            listed.retain(|listed| entries.get(*listed).is_some());
        }
        dropped
    }
}

impl<V> std::fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

type Guard<'t, V> = MutexGuard<'t, Content<V>>;

/// Some shards, held together.
pub(crate) struct Locked<'t, V> {
    table: &'t Table<V>,
    /// By the index of the shard.
    guards: SmallVec<[(usize, Guard<'t, V>); 2]>,
}

impl<V> Locked<'_, V> {
    fn shard(&mut self, fingerprint: Fingerprint) -> Option<&mut Content<V>> {
        let index = self.table.index(fingerprint);
        self.guards.iter_mut().find(|(held, _)| *held == index).map(|(_, guard)| &mut **guard)
    }

    /// The value of a fingerprint whose shard is held.
    pub(crate) fn get(&mut self, fingerprint: Fingerprint) -> Option<&mut V> {
        self.shard(fingerprint)?.entries.get(fingerprint)
    }

    /// Adds a value for a fingerprint whose shard is held and that has none.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, value: V) {
        if let Some(shard) = self.shard(fingerprint) {
            shard.entries.insert(fingerprint, value);
        }
    }

    /// Puts a value whose shard is held on its list. Not twice before [`Table::take_listed`]: that
    /// is the caller's to know.
    pub(crate) fn list(&mut self, fingerprint: Fingerprint) {
        if let Some(Content { entries, listed }) = self.shard(fingerprint) {
            listed.add(fingerprint, entries.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;

    use super::*;
    use crate::fingerprint::Fingerprinter;

    fn of(number: u64) -> Fingerprint {
        Fingerprinter::new([1; 16]).of(&number.to_le_bytes())
    }

    #[test]
    fn a_sweep_drops_the_dead_alone_and_gives_back_what_they_took() {
        let table = Table::new(1);
        for number in 0..10_000 {
            let mut locked = table.lock(once(of(number)));
            locked.insert(of(number), number);
            if number % 2 == 0 {
                locked.list(of(number));
            }
        }
        let slots = || table.shards[0].0.lock().entries.slots();
        assert_eq!(table.sweep(0, |number| number % 100 != 0), 9_900);
        for number in 0..10_000 {
            let found = table.visit(of(number), |value| (*value, false));
            assert_eq!(found, (number % 100 == 0).then_some(number));
        }
        assert!(slots() < 1_000, "{}", slots());
        let mut listed = Vec::new();
        table.take_listed(0, |fingerprint, value| {
            assert_eq!(fingerprint, of(*value));
            listed.push(*value);
        });
        listed.sort_unstable();
        assert!(listed.into_iter().eq((0..10_000).step_by(100)), "the listed that are left");
        assert_eq!((table.sweep(0, |_| true), slots()), (100, 0));
    }

    #[test]
    fn the_listed_are_visited_once_however_many_they_are() {
        const ALL: u64 = 1_000;
        for many in [0, 1, FEW as u64, ALL / 8, ALL / 8 + 1, ALL] {
            let table = Table::new(1);
            (0..ALL).for_each(|n| table.lock(once(of(n))).insert(of(n), (n, false)));
            for number in 0..many {
                table.visit(of(number), |(_, listed)| {
                    *listed = true;
                    ((), true)
                });
            }
            let is_list = matches!(&table.shards[0].0.lock().listed, Listed::Some(listed) if listed.len() as u64 == many);
            assert_eq!(is_list, many <= ALL / 8, "{many} are worth a list");
            let take = || {
                let mut taken = Vec::new();
                table.take_listed(0, |_, (number, listed)| {
                    taken.extend(std::mem::take(listed).then_some(*number));
                });
                taken.sort_unstable();
                taken
            };
            assert!(take().into_iter().eq(0..many));
            assert_eq!(take(), [0; 0]);
        }
    }

    #[test]
    fn shards_are_in_the_order_of_what_is_in_them() {
        for shards in [1, 2, 1_024] {
            let table = Table::<()>::new(shards);
            let mut all: Vec<_> = (0..5_000).map(of).collect();
            all.sort_unstable();
            let places: Vec<_> = all.iter().map(|one| table.index(*one)).collect();
            assert!(places.is_sorted());
            assert_eq!((places[0], places[4_999]), (0, shards - 1), "and all are used");
        }
    }
}
