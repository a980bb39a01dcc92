//! A sharded hash table of small values, keyed by 128-bit fingerprints.
//!
//! A fingerprint is a SipHash-1-3-128 under a secret key, so callers cannot aim for a collision, and the key itself (any length) is not kept.
//! Shards are plain mutexes, and several can be held at once, always in index order: that is what lets one request check many counters and
//! then charge them all, or none. Each shard has a list of values that somebody wants to look at later, without going through all of them.

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

/// Makes fingerprints: under one key the same pieces always give the same one.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprinter {
    keys: (u64, u64),
}

impl Fingerprinter {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        Ok(Self { keys: (getrandom::u64()?, getrandom::u64()?) })
    }

    /// Under a key that is made of a secret, and of what it is for: others may use the same secret.
    pub(crate) fn keyed(secret: &[u8; 16], purpose: &[u8]) -> Self {
        let key = SipHasher13::new_with_key(secret).hash(purpose);
        Self { keys: (key.h1, key.h2) }
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
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.0.write_u64(u64::try_from(length).unwrap_or(u64::MAX));
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
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_be_bytes(bytes);
        let low = u64::try_from(whole & u128::from(u64::MAX)).unwrap_or_default();
        Self { high: u64::try_from(whole >> 64).unwrap_or_default(), low }
    }

    /// Bits that neither the shard nor the table uses to place an entry.
    pub(crate) fn spread(&self) -> u64 {
        self.high >> 8
    }
}

struct Slot<V> {
    fingerprint: Fingerprint,
    value: V,
}

struct Content<V> {
    entries: HashTable<Slot<V>>,
    /// No longer than the entries, as long as each is listed once until the list is taken.
    listed: Vec<Fingerprint>,
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

    /// Empties the list of one shard, and visits the listed values.
    pub(crate) fn take_listed(&self, shard: usize, mut visit: impl FnMut(Fingerprint, &mut V)) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut content = shard.0.lock();
        for fingerprint in std::mem::take(&mut content.listed) {
            if let Some(slot) = content.entries.find_mut(fingerprint.low, |slot| slot.fingerprint == fingerprint) {
                visit(fingerprint, &mut slot.value);
            }
        }
    }

    /// Drops the entries of one shard that `dead` says are dead. Gives the number dropped.
    pub(crate) fn sweep(&self, shard: usize, mut dead: impl FnMut(&V) -> bool) -> usize {
        let Some(shard) = self.shards.get(shard) else { return 0 };
        let mut content = shard.0.lock();
        let Content { entries, listed } = &mut *content;
        let before = entries.len();
        entries.retain(|slot| !dead(&slot.value));
        let dropped = before - entries.len();
        if dropped > 0 {
            listed.retain(|listed| entries.find(listed.low, |slot| slot.fingerprint == *listed).is_some());
        }
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
        let entries = &mut self.shard(fingerprint)?.entries;
        entries.find_mut(fingerprint.low, |slot| slot.fingerprint == fingerprint).map(|slot| &mut slot.value)
    }

    /// Adds a value for a fingerprint whose shard is held and that has none.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, value: V) {
        if let Some(shard) = self.shard(fingerprint) {
            shard.entries.insert_unique(fingerprint.low, Slot { fingerprint, value }, |slot| slot.fingerprint.low);
        }
    }

    /// Puts a value whose shard is held on its list. Not twice before [`Table::take_listed`]: that is the caller's to know.
    pub(crate) fn list(&mut self, fingerprint: Fingerprint) {
        if let Some(shard) = self.shard(fingerprint) {
            shard.listed.push(fingerprint);
        }
    }
}
