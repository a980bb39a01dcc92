//! What recent callers were found to be, so that their next call is decided without a look-up.
//!
//! An API key, its subscriber, the entitlement and the target lie in as many maps, each of them deeper the more there are. A caller who calls
//! again and again is found here in one place instead, for as long as the catalog is not edited.

use std::sync::Arc;

use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;

use super::secret::HashKey;
use super::snapshot::{Catalog, KeyEntry};
use super::table::Stored;
use crate::decide::compiled::{CompiledEntitlement, CompiledTarget};
use crate::decide::plan::validate::{KEY_VALUE_BYTES, MAX_ID};
use crate::decide::plan::{Id, Subscriber};
use crate::decide::resolve::{Covered, identify, subscribe};
use crate::decide::time::Now;

/// Each caller has its places in one set, which is one cache line. A power of two.
const SETS: usize = 1 << 13;
const PLACES: usize = 3;

/// Room for so many callers.
pub const MAX_RECENT: usize = SETS * PLACES;

/// The callers that were seen lately, at most [`MAX_RECENT`]. `S` is for who decides: something beside each caller that is there for as long
/// as the caller is.
#[derive(Debug)]
pub struct Recent<S> {
    key: [u8; 16],
    /// Made at the first call.
    sets: Box<[Set<S>]>,
}

/// Those who came last.
#[derive(Debug)]
#[repr(align(64))]
struct Set<S> {
    callers: [Option<Box<Caller<S>>>; PLACES],
    /// Parts of their fingerprints, so that others need not be looked at.
    tags: [u64; PLACES],
    /// Who was not found here last. A caller gets a place by calling twice before another does.
    missed: u64,
    /// Whose place is given up next.
    next: usize,
}

/// An API key that calls a target, and what covers that.
#[derive(Debug)]
pub struct Caller<S> {
    who: Who,
    revision: u64,
    key: Arc<Stored<KeyEntry>>,
    subscriber: Arc<Stored<Subscriber>>,
    entitlement: Arc<CompiledEntitlement>,
    target_id: Id,
    target: Option<Arc<Stored<CompiledTarget>>>,
    beside: S,
}

/// A fingerprint of the value of an API key and of the target: the value itself is never kept. SipHash-2-4-128 under a secret, so that nobody
/// can look for a value that is taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who {
    high: u64,
    low: u64,
}

impl<S> Caller<S> {
    /// What [`crate::decide::resolve::resolve`] found, and what stands beside it.
    pub fn covered(&mut self) -> (Covered<'_>, &mut S) {
        let covered = Covered {
            key: &self.key.value.key,
            subscriber: &self.subscriber.value,
            entitlement: &self.entitlement,
            target_id: &self.target_id,
            target: self.target.as_ref().map(|target| &target.value),
        };
        (covered, &mut self.beside)
    }
}

impl<S: Default> Recent<S> {
    /// For a catalog with this secret.
    pub(super) fn new(secret: &HashKey) -> Self {
        Self { key: secret.derive(b"recent callers"), sets: Box::default() }
    }

    /// Who presents this API key to this target, if that was covered at this revision of the catalog before.
    pub fn find(&mut self, catalog: &Catalog, api_key: &[u8], target: &str, now: Now) -> Option<&mut Caller<S>> {
        if !KEY_VALUE_BYTES.contains(&api_key.len()) || target.len() > MAX_ID {
            return None;
        }
        if self.sets.is_empty() {
            self.sets = std::iter::repeat_with(Set::default).take(SETS).collect();
        }
        let who = self.who(api_key, target);
        let set = usize::try_from(who.low % SETS as u64).ok().and_then(|set| self.sets.get_mut(set))?;
        let place = match set.place(who) {
            Some(place) => place,
            None if std::mem::replace(&mut set.missed, who.high) == who.high => {
                set.put(Caller::resolve(who, catalog, api_key, target, now)?)
            }
            None => return None,
        };
        let caller = set.callers.get_mut(place)?;
        if caller.as_ref()?.revision != catalog.revision {
            // Found anew by the next call: where edits are more frequent than calls nothing is remembered in vain.
            *caller = None;
            set.missed = who.high;
        }
        caller.as_deref_mut()
    }

    #[cfg(test)]
    pub(crate) fn holds_any(&self) -> bool {
        self.sets.iter().any(|set| set.callers.iter().any(Option::is_some))
    }

    fn who(&self, api_key: &[u8], target: &str) -> Who {
        // In one text, because that is hashed in one go. No API key is so long that its length takes two bytes.
        let mut text: SmallVec<[u8; 128]> = SmallVec::new();
        text.push(u8::try_from(api_key.len()).unwrap_or(u8::MAX));
        text.extend_from_slice(api_key);
        text.extend_from_slice(target.as_bytes());
        let hash = SipHasher24::new_with_key(&self.key).hash(&text);
        Who { high: hash.h1, low: hash.h2 }
    }
}

impl<S> Default for Set<S> {
    fn default() -> Self {
        Self { callers: [const { None }; PLACES], tags: [0; PLACES], missed: 0, next: 0 }
    }
}

impl<S> Set<S> {
    fn place(&self, who: Who) -> Option<usize> {
        let is =
            |(caller, tag): (&Option<Box<Caller<S>>>, &u64)| *tag == who.high && caller.as_ref().is_some_and(|caller| caller.who == who);
        self.callers.iter().zip(&self.tags).position(is)
    }

    /// Gives a caller a place, and says which.
    fn put(&mut self, caller: Caller<S>) -> usize {
        let free = self.callers.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.next = (self.next + 1) % PLACES;
            self.next
        });
        if let (Some(tag), Some(kept)) = (self.tags.get_mut(place), self.callers.get_mut(place)) {
            (*tag, *kept) = (caller.who.high, Some(Box::new(caller)));
        }
        place
    }
}

impl<S: Default> Caller<S> {
    fn resolve(who: Who, catalog: &Catalog, api_key: &[u8], target: &str, now: Now) -> Option<Self> {
        let registered = catalog.targets.get(target);
        let caller = identify(catalog, api_key, now).ok()?;
        let Covered { key, subscriber, entitlement, target_id, .. } =
            subscribe(catalog, caller, target, registered.map(|target| &target.value)).ok()?;
        Some(Self {
            who,
            revision: catalog.revision,
            key: Arc::clone(catalog.keys.get(&key.id)?),
            subscriber: Arc::clone(catalog.subscribers.get(&subscriber.id)?),
            entitlement: Arc::clone(entitlement),
            target_id: Arc::clone(target_id),
            target: registered.cloned(),
            beside: S::default(),
        })
    }
}
