//! A sharded hash table of small values, keyed by 128-bit fingerprints.
//!
//! A fingerprint is a SipHash-1-3-128 under a secret key, so callers cannot aim for a collision,
//! and the key itself (any length) is not kept. Shards are plain mutexes, and several can be held
//! at once, always in index order: that is what lets one request check many counters and then
//! charge them all, or none. Each shard has a list of values that somebody wants to look at later,
//! without going through all of them.

mod entries;

use siphasher::sip128::SipHasher13;
use smallvec::SmallVec;

use self::entries::Entries;
use crate::engine::sync::{Mutex, MutexGuard};

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

    /// All pieces stand in one text, because that is hashed in one go. Who writes it keeps its
    /// parts apart.
    pub(crate) fn of(&self, text: &[u8]) -> Fingerprint {
        let hash = SipHasher13::new_with_keys(self.keys.0, self.keys.1).hash(text);
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

struct Content<V> {
    entries: Entries<V>,
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
        let empty = || Content { entries: Entries::new(), listed: Vec::new() };
        Self { shards: (0..shards).map(|_| Shard(Mutex::new(empty()))).collect() }
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn index(&self, fingerprint: Fingerprint) -> usize {
        // A power of two of shards: the mask keeps it in range, and truncation cannot matter below
        // it.
        #[allow(clippy::cast_possible_truncation)]
        let high = fingerprint.high as usize;
        high & (self.shards.len() - 1)
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
        let (result, list) = visit(entries.get(fingerprint)?);
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
            if let Some(value) = content.entries.get(fingerprint) {
                visit(fingerprint, value);
            }
        }
    }

    /// Drops the entries of one shard that `dead` says are dead. Gives the number dropped.
    pub(crate) fn sweep(&self, shard: usize, mut dead: impl FnMut(&V) -> bool) -> usize {
        let Some(shard) = self.shards.get(shard) else { return 0 };
        let mut content = shard.0.lock();
        let Content { entries, listed } = &mut *content;
        let dropped = entries.drop_dead(&mut dead);
        if dropped > 0 {
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
        if let Some(shard) = self.shard(fingerprint) {
            shard.listed.push(fingerprint);
        }
    }
}
