//! A sharded hash table of small values, keyed by 128-bit fingerprints.
//!
//! A fingerprint is a SipHash-1-3-128 under a key that is drawn at start, so callers cannot aim for a collision, and the key itself (any
//! length) is not kept. Shards are plain mutexes, and several can be held at once, always in index order: that is what lets one request
//! check many counters and then charge them all, or none.

use std::hash::Hasher;

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;

/// What a key is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint {
    high: u64,
    low: u64,
}

/// Makes fingerprints: the same pieces give the same one until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter {
    keys: (u64, u64),
}

impl Fingerprinter {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        Ok(Self { keys: (getrandom::u64()?, getrandom::u64()?) })
    }

    pub(crate) fn start(&self) -> Fingerprinting {
        Fingerprinting(SipHasher13::new_with_keys(self.keys.0, self.keys.1))
    }
}

/// A fingerprint in the making.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinting(SipHasher13);

impl Fingerprinting {
    /// Adds one level, told apart from its neighbours by its length: (`ab`, `c`) and (`a`, `bc`) differ.
    pub(crate) fn level(&mut self, pieces: &[&[u8]]) {
        self.0.write_usize(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.0.write(piece);
        }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        let hash = self.0.finish128();
        Fingerprint { high: hash.h1, low: hash.h2 }
    }
}

impl Fingerprint {
    /// Bits that neither the shard nor the table uses to place an entry.
    pub(crate) fn spread(&self) -> u64 {
        self.high >> 8
    }
}

struct Slot<V> {
    fingerprint: Fingerprint,
    value: V,
}

/// One shard on a cache line of its own.
#[repr(align(64))]
struct Shard<V>(Mutex<HashTable<Slot<V>>>);

pub(crate) struct Table<V> {
    shards: Box<[Shard<V>]>,
}

impl<V> Table<V> {
    /// `shards` is rounded up to a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        let shards = shards.next_power_of_two();
        Self { shards: (0..shards).map(|_| Shard(Mutex::new(HashTable::new()))).collect() }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn index(&self, fingerprint: Fingerprint) -> usize {
        // A power of two of shards: the mask keeps it in range, and truncation cannot matter below it.
        #[allow(clippy::cast_possible_truncation)]
        let high = fingerprint.high as usize;
        high & (self.shards.len() - 1)
    }

    /// Locks the shards of all `fingerprints`, in index order, each once.
    pub(crate) fn lock(&self, fingerprints: impl Iterator<Item = Fingerprint>) -> Locked<'_, V> {
        let mut wanted: SmallVec<[usize; 4]> = fingerprints.map(|fingerprint| self.index(fingerprint)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let guards = wanted.into_iter().filter_map(|index| Some((index, self.shards.get(index)?.0.lock()))).collect();
        Locked { table: self, guards }
    }

    /// Drops the entries of one shard that `dead` says are dead. Gives the number dropped.
    pub(crate) fn sweep(&self, shard: usize, mut dead: impl FnMut(&V) -> bool) -> usize {
        let Some(shard) = self.shards.get(shard) else { return 0 };
        let mut entries = shard.0.lock();
        let before = entries.len();
        entries.retain(|slot| !dead(&slot.value));
        let dropped = before - entries.len();
        if entries.len() < entries.capacity() / 8 {
            entries.shrink_to(before, |slot| slot.fingerprint.low);
        }
        dropped
    }
}

impl<V> std::fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

type Guard<'t, V> = MutexGuard<'t, HashTable<Slot<V>>>;

/// Some shards, held together.
pub(crate) struct Locked<'t, V> {
    table: &'t Table<V>,
    /// By the index of the shard.
    guards: SmallVec<[(usize, Guard<'t, V>); 2]>,
}

impl<V> Locked<'_, V> {
    fn shard(&mut self, fingerprint: Fingerprint) -> Option<&mut HashTable<Slot<V>>> {
        let index = self.table.index(fingerprint);
        self.guards.iter_mut().find(|(held, _)| *held == index).map(|(_, guard)| &mut **guard)
    }

    /// The value of a fingerprint whose shard is held.
    pub(crate) fn get(&mut self, fingerprint: Fingerprint) -> Option<&mut V> {
        self.shard(fingerprint)?.find_mut(fingerprint.low, |slot| slot.fingerprint == fingerprint).map(|slot| &mut slot.value)
    }

    /// Adds a value for a fingerprint whose shard is held and that has none.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, value: V) {
        if let Some(shard) = self.shard(fingerprint) {
            shard.insert_unique(fingerprint.low, Slot { fingerprint, value }, |slot| slot.fingerprint.low);
        }
    }
}
