//! What recent callers were found to be, so that their next call is decided without a look-up.
//!
//! An API key, its subscriber, the entitlement and the target lie in as many maps, each of them
//! deeper the more there are. A caller who calls again and again is found here in one place
//! instead, for as long as the catalog is not edited.

mod lately;

use std::sync::Arc;

use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;

use self::lately::Lately;
pub use self::lately::Room;
use super::key_entry::KeyEntry;
use super::secret::HashKey;
use super::snapshot::Catalog;
use super::table::Stored;
use crate::decide::compiled::{CompiledEntitlement, CompiledTarget};
use crate::decide::plan::Id;
use crate::decide::plan::validate::{KEY_VALUE_BYTES, MAX_ID};
use crate::decide::resolve::{Covered, subscribe, usable};
use crate::decide::time::Now;

/// The callers that were seen lately by one thread, as many as there is [`Room`] for. `S` is for
/// who decides: something beside each caller that is there for as long as the caller is.
#[derive(Debug)]
pub struct Recent<S> {
    key: [u8; 16],
    callers: Lately<Caller<S>>,
}

/// An API key that calls a target, and what covers that.
#[derive(Debug)]
pub struct Caller<S> {
    /// Half of [`Who`]; it was found by the other half.
    low: u64,
    revision: u64,
    key: Arc<Stored<KeyEntry>>,
    subscriber_id: Id,
    entitlement: Arc<CompiledEntitlement>,
    target: Arc<Stored<CompiledTarget>>,
    beside: S,
}

// A cache line, with a word beside it.
const _: () = assert!(size_of::<Caller<usize>>() == 64);

/// A fingerprint of the value of an API key and of the target: the value itself is never kept.
/// SipHash-2-4-128 under a secret, so that nobody can look for a value that is taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    high: u64,
    low: u64,
}

impl<S> Caller<S> {
    /// What [`crate::decide::resolve::resolve`] found, and what stands beside it.
    pub fn covered(&mut self) -> (Covered<'_>, &mut S) {
        // Both come from memory at once then, and not one after the other. The answer names the
        // subscriber.
        std::hint::black_box((
            self.key.value.key.enabled,
            self.subscriber_id.as_bytes().first().copied(),
        ));
        let covered = Covered {
            key: &self.key.value.key,
            subscriber_id: &self.subscriber_id,
            entitlement: &self.entitlement,
            target_id: &self.target.value.target.id,
            target: Some(&self.target.value),
        };
        (covered, &mut self.beside)
    }
}

impl<S: Default> Recent<S> {
    /// For a catalog with this secret.
    pub(super) fn new(secret: &HashKey, room: &Room) -> Self {
        Self { key: secret.derive(b"recent callers"), callers: Lately::new(room.clone()) }
    }

    /// What a caller is found by, who presents this API key to this target. `None`: there is none.
    pub fn who(&self, api_key: &[u8], target: &str) -> Option<Who> {
        (KEY_VALUE_BYTES.contains(&api_key.len()) && target.len() <= MAX_ID)
            .then(|| self.fingerprint(api_key, target))
    }

    /// Has the callers of several requests come from memory together, and not one after the other:
    /// all that is read of one is read of all before the next. `beside` is for what stands beside
    /// them.
    pub fn touch(
        &mut self,
        callers: impl Iterator<Item = Who> + Clone,
        mut beside: impl FnMut(&mut S),
    ) {
        callers.clone().for_each(|who| self.callers.touch(who.high));
        for who in callers.clone() {
            std::hint::black_box(self.remembered(who).map(|caller| caller.revision));
        }
        for who in callers {
            if let Some(caller) = self.remembered(who) {
                beside(caller.covered().1);
            }
        }
    }

    fn remembered(&mut self, who: Who) -> Option<&mut Caller<S>> {
        let place = self.callers.find(who.high, |caller| caller.low == who.low)?;
        self.callers.get(place)
    }

    /// Who presents this API key to this target, and is found by `who`, if that was covered at this
    /// revision of the catalog before, or is now and there is room to remember it.
    pub fn find(
        &mut self,
        catalog: &Catalog,
        who: Who,
        (api_key, target): (&[u8], &str),
        now: Now,
    ) -> Option<&mut Caller<S>> {
        let mut is_current = true;
        let is = |caller: &Caller<S>| {
            is_current = caller.revision == catalog.revision;
            caller.low == who.low
        };
        let place = match self.callers.find(who.high, is) {
            Some(place) => place,
            None if self.callers.admits(who.high) => {
                self.callers.put(who.high, Caller::resolve(who, catalog, api_key, target, now)?)?
            }
            None => return None,
        };
        if !is_current {
            // Found anew by the next call.
            self.callers.remove(place);
        }
        self.callers.get(place)
    }

    /// Lets go of the callers in one part who did not call since the last time. `false`: there is
    /// no such part.
    pub fn sweep(&mut self, part: usize) -> bool {
        self.callers.sweep(part)
    }

    fn fingerprint(&self, api_key: &[u8], target: &str) -> Who {
        // In one text, because that is hashed in one go. No API key is so long that its length
        // takes two bytes.
        let mut text: SmallVec<[u8; 128]> = SmallVec::new();
        text.push(u8::try_from(api_key.len()).unwrap_or(u8::MAX));
        text.extend_from_slice(api_key);
        text.extend_from_slice(target.as_bytes());
        let hash = SipHasher24::new_with_key(&self.key).hash(&text);
        Who { high: hash.h1, low: hash.h2 }
    }
}

impl<S: Default> Caller<S> {
    fn resolve(
        who: Who,
        catalog: &Catalog,
        api_key: &[u8],
        target: &str,
        now: Now,
    ) -> Option<Self> {
        // Others than a registered one are no part of any plan, but for a moment.
        let registered = catalog.targets.get(target)?;
        let (key, subscriber) = catalog.presented(api_key)?;
        let subscriber = subscriber?;
        usable(&key.value.key, now).ok()?;
        let caller = (&key.value.key, &subscriber.value);
        let Covered { entitlement, .. } =
            subscribe(catalog, caller, target, Some(&registered.value)).ok()?;
        Some(Self {
            low: who.low,
            revision: catalog.revision,
            key: Arc::clone(key),
            subscriber_id: Arc::clone(&subscriber.value.id),
            entitlement: Arc::clone(entitlement),
            target: Arc::clone(registered),
            beside: S::default(),
        })
    }
}
