//! 128-bit fingerprints of names, in the place of the names themselves as keys of maps.
//!
//! SipHash-1-3-128 under a secret key: two names that meet are not to be expected in the life of
//! the universe, and cannot be aimed for.

use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use crate::engine::sync::DashMap;
use siphasher::sip128::{Hasher128, SipHasher13};

/// Two words: a `u128` would make every entry of a map a multiple of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    high: u64,
    low: u64,
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.high ^ self.low);
    }
}

impl Fingerprint {
    /// To be kept elsewhere.
    pub(super) fn bytes(self) -> [u8; 16] {
        ((u128::from(self.high) << 64) | u128::from(self.low)).to_le_bytes()
    }

    /// What [`Self::bytes`] gave.
    pub(super) fn of_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
        Self { high: u64::try_from(number >> 64).unwrap_or_default(), low }
    }

    /// Spreads what it is about over a few places.
    pub(super) fn spread(&self) -> u8 {
        self.low.to_le_bytes()[0]
    }
}

/// What is found by its fingerprint, and knows it.
pub(super) trait Fingerprinted {
    fn fingerprint(&self) -> &Fingerprint;
}

/// A key and its value in one word: a map is never full, and what is in each of its places counts
/// twice.
#[derive(Debug)]
pub(super) struct Filed<T>(pub(super) Arc<T>);

impl<T> Clone for Filed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Fingerprinted> PartialEq for Filed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint() == other.0.fingerprint()
    }
}

impl<T: Fingerprinted> Eq for Filed<T> {}

impl<T: Fingerprinted> Hash for Filed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.fingerprint().hash(state);
    }
}

impl<T: Fingerprinted> Borrow<Fingerprint> for Filed<T> {
    fn borrow(&self) -> &Fingerprint {
        self.0.fingerprint()
    }
}

/// A sharded map by fingerprint.
pub(super) type ByFingerprint<V> = DashMap<Fingerprint, V, BuildHasherDefault<AlreadyHashed>>;

/// The same of what knows its fingerprint.
pub(super) type Files<T> = DashMap<Filed<T>, (), BuildHasherDefault<AlreadyHashed>>;

/// Many, so that a sweep, which locks one at a time, keeps nobody waiting.
pub(super) const SHARDS: usize = 256;

/// None yet.
pub(super) fn files<T: Fingerprinted>() -> Files<T> {
    DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS)
}

/// Makes fingerprints.
#[derive(Clone, Debug)]
pub(super) struct Fingerprints([u8; 16]);

impl Fingerprints {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// Of a list of parts; where one ends is part of it. `tag` keeps the kinds of lists apart.
    pub(super) fn of(&self, tag: u8, parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(tag);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        let hash = hasher.finish128();
        Fingerprint { high: hash.h1, low: hash.h2 }
    }
}

/// A fingerprint is as good as a hash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
