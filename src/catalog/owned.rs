//! The API keys of each subscriber, in order: what an edit must know without reading all keys.
//!
//! A key is in here as one word. As a map from subscribers to the ids of their keys it was 220
//! bytes for each subscriber.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;

use super::key_entry::KeyEntry;
use super::table::Stored;
use crate::decide::plan::Id;

/// All keys, by their subscribers and then by their ids. A node inside the tree may hold on to an
/// older record of a key than its leaf: both are in the same place, for neither name ever changes.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnedKeys(OrdSet<Owned>);

#[derive(Clone, Debug)]
struct Owned(Arc<Stored<KeyEntry>>);

/// Where a key stands: its subscriber and its id.
trait Place {
    fn place(&self) -> (&str, &str);
}

impl Place for Owned {
    fn place(&self) -> (&str, &str) {
        let key = &self.0.value.key;
        (&key.subscriber, &key.id)
    }
}

impl Place for (&str, &str) {
    fn place(&self) -> (&str, &str) {
        *self
    }
}

impl<'p> Borrow<dyn Place + 'p> for Owned {
    fn borrow(&self) -> &(dyn Place + 'p) {
        self
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Owned {}

impl PartialOrd for Owned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Owned {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl OwnedKeys {
    /// The keys of a subscriber, in the order of their ids.
    pub(super) fn of<'k>(
        &'k self,
        subscriber: &str,
    ) -> impl Iterator<Item = &'k Arc<Stored<KeyEntry>>> + use<'k> {
        let first = (subscriber, "");
        let first: Bound<&(dyn Place + '_)> = Bound::Included(&first);
        let mut behind = self.0.range::<_, dyn Place + '_>((first, Bound::Unbounded)).peekable();
        let owner = behind.peek().map(|Owned(key)| &key.value.key.subscriber);
        let owner = owner.filter(|owner| ***owner == *subscriber);
        behind
            .map(|Owned(key)| key)
            .take_while(move |key| owner.is_some_and(|owner| key.value.key.subscriber == *owner))
    }

    /// Their ids.
    pub(super) fn ids_of<'k>(&'k self, subscriber: &str) -> impl Iterator<Item = &'k Id> + use<'k> {
        self.of(subscriber).map(|key| &key.value.key.id)
    }

    /// Has a subscriber no more keys than so many?
    pub(super) fn are_at_most(&self, most: usize, subscriber: &str) -> bool {
        self.of(subscriber).nth(most).is_none()
    }

    /// Adds a key, or puts it in the place of its older record.
    pub(super) fn put(&mut self, key: Arc<Stored<KeyEntry>>) {
        self.0.insert(Owned(key));
    }

    pub(super) fn remove(&mut self, key: &Arc<Stored<KeyEntry>>) {
        self.0.remove(&Owned(Arc::clone(key)));
    }
}
