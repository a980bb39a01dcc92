//! A sharded hash table of small values, keyed by 128-bit fingerprints.
//!
//! Shards are plain mutexes, and several can be held at once, always in index order: that is what
//! lets one request check many counters and then charge them all, or none. Each shard has a list of
//! values that somebody wants to look at later, without going through all of them.

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::engine::sync::{Mutex, MutexGuard};
use crate::fingerprint::Fingerprint;

struct Content<V> {
    entries: HashTable<(Fingerprint, V)>,
    /// No longer than the entries, as long as each is listed once until the list is taken.
    listed: Vec<Fingerprint>,
}

/// What an entry is placed by in its shard.
fn place<V>((fingerprint, _): &(Fingerprint, V)) -> u64 {
    fingerprint.hash64()
}

fn value_of<V>(
    entries: &mut HashTable<(Fingerprint, V)>,
    fingerprint: Fingerprint,
) -> Option<&mut V> {
    let found = entries.find_mut(fingerprint.hash64(), |(known, _)| *known == fingerprint)?;
    Some(&mut found.1)
}

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
        let empty = || Content { entries: HashTable::new(), listed: Vec::new() };
        Self { shards: (0..shards).map(|_| Shard(Mutex::new(empty()))).collect() }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn index(&self, fingerprint: Fingerprint) -> usize {
        // A power of two of shards: the mask keeps it in range, and truncation cannot matter below
        // it.
        #[allow(clippy::cast_possible_truncation)]
        let shard = fingerprint.shard() as usize;
        shard & (self.shards.len() - 1)
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
    /// [`Self::take_listed`].
    pub(crate) fn visit<R>(
        &self,
        fingerprint: Fingerprint,
        visit: impl FnOnce(&mut V) -> (R, bool),
    ) -> Option<R> {
        let mut content = self.shards.get(self.index(fingerprint))?.0.lock();
        let Content { entries, listed } = &mut *content;
        let (result, list) = visit(value_of(entries, fingerprint)?);
        if list {
            listed.push(fingerprint);
        }
        Some(result)
    }

    /// Empties the list of one shard, and visits the listed values.
    pub(crate) fn take_listed(&self, shard: usize, mut visit: impl FnMut(Fingerprint, &mut V)) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut content = shard.0.lock();
        for fingerprint in std::mem::take(&mut content.listed) {
            if let Some(value) = value_of(&mut content.entries, fingerprint) {
                visit(fingerprint, value);
            }
        }
    }

    /// Drops the entries of one shard that `dead` says are dead. Gives the number dropped.
    pub(crate) fn sweep(&self, shard: usize, mut dead: impl FnMut(&V) -> bool) -> usize {
        let Some(shard) = self.shards.get(shard) else { return 0 };
        let mut content = shard.0.lock();
        let Content { entries, listed } = &mut *content;
        let before = entries.len();
        entries.retain(|(_, value)| !dead(value));
        let dropped = before - entries.len();
        if dropped > 0 {
            listed.retain(|listed| value_of(entries, *listed).is_some());
        }
        // Not smaller than what the same keys would soon want again.
        if entries.len() < entries.capacity() / 8 {
            entries.shrink_to(entries.len(), place);
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
        value_of(&mut self.shard(fingerprint)?.entries, fingerprint)
    }

    /// Adds a value for a fingerprint whose shard is held and that has none.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, value: V) {
        if let Some(shard) = self.shard(fingerprint) {
            shard.entries.insert_unique(fingerprint.hash64(), (fingerprint, value), place);
        }
    }

    /// Puts a value whose shard is held on its list. Not twice before [`Table::take_listed`]: that
    /// is the caller's to know.
    pub(crate) fn list(&mut self, fingerprint: Fingerprint) {
        if let Some(shard) = self.shard(fingerprint) {
            shard.listed.push(fingerprint);
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
        let capacity = || table.shards[0].0.lock().entries.capacity();
        assert_eq!(table.sweep(0, |number| number % 100 != 0), 9_900);
        for number in 0..10_000 {
            let found = table.visit(of(number), |value| (*value, false));
            assert_eq!(found, (number % 100 == 0).then_some(number));
        }
        assert!(capacity() < 1_000, "{}", capacity());
        let mut listed = Vec::new();
        table.take_listed(0, |fingerprint, value| {
            assert_eq!(fingerprint, of(*value));
            listed.push(*value);
        });
        listed.sort_unstable();
        assert!(listed.into_iter().eq((0..10_000).step_by(100)), "the listed that are left");
        assert_eq!((table.sweep(0, |_| true), capacity()), (100, 0));
    }
}
