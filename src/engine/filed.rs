//! Maps of what is found by its fingerprint.

use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use crate::engine::sync::DashMap;
use crate::fingerprint::{AlreadyHashed, Fingerprint};

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
