//! The resources of one kind: found by id in a few steps, walked in the order of their ids, and
//! copied in no time.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;

use super::error::EditError;
use super::kind::Kind;
use crate::decide::plan::{About, Id};

/// What the catalog keeps of every kind.
pub trait Resource {
    /// The word for this kind in messages.
    const KIND: Kind;
    fn id(&self) -> &Id;
    fn about(&self) -> &About;
}

/// A resource and when it was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stored<T> {
    pub value: T,
    /// The catalog's revision that made it what it is.
    pub revision: u64,
    /// Nanoseconds since the Unix epoch.
    pub create_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub update_ns: u64,
}

impl<T> Stored<T> {
    /// A text that changes with every edit, and that no other resource of this id ever had.
    pub fn etag(&self) -> String {
        format!("r{}", self.revision)
    }
}

/// A resource as the key that it is found by, its id, in one word: half of the places of a
/// persistent map are free, and cost as much.
#[derive(Debug)]
struct Named<T>(Arc<Stored<T>>);

/// Its hash is keyed at random, and half as dear as the standard one: a decision looks up some ids.
type ById<T> = imbl::GenericHashMap<
    Named<T>,
    (),
    foldhash::quality::RandomState,
    imbl::shared_ptr::DefaultSharedPtr,
>;

/// The resources of one kind. A clone shares everything, and an edit copies a few nodes whatever
/// the size.
#[derive(Debug)]
pub struct Table<T> {
    by_id: ById<T>,
    in_order: OrdSet<Id>,
}

impl<T> Clone for Named<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Resource> Borrow<str> for Named<T> {
    fn borrow(&self) -> &str {
        self.0.value.id()
    }
}

impl<T: Resource> Hash for Named<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(self.borrow(), state);
    }
}

impl<T: Resource> PartialEq for Named<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.value.id() == other.0.value.id()
    }
}

impl<T: Resource> Eq for Named<T> {}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_id: ById::default(), in_order: OrdSet::new() }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { by_id: self.by_id.clone(), in_order: self.in_order.clone() }
    }
}

impl<T: Resource> Table<T> {
    pub fn get(&self, id: &str) -> Option<&Arc<Stored<T>>> {
        self.by_id.get_key_value(id).map(|(Named(stored), ())| stored)
    }

    /// The resource of this id. Errors: there is none.
    pub fn find(&self, id: &str) -> Result<&Arc<Stored<T>>, EditError> {
        self.get(id).ok_or_else(|| EditError::not_found(T::KIND, id))
    }

    /// The same id as its resource has it, so that all who name it share one text in memory.
    pub(super) fn shared(&self, id: &Id) -> Id {
        Arc::clone(self.get(id).map_or(id, |stored| stored.value.id()))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// In the order of their ids, from just after `after` on.
    pub fn iter_after<'a>(
        &'a self,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Stored<T>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.in_order.range::<_, str>((from, Bound::Unbounded)).filter_map(|id| self.get(id))
    }

    pub(super) fn put(&mut self, stored: Arc<Stored<T>>) {
        let id = stored.value.id().clone();
        if self.by_id.insert(Named(stored), ()).is_none() {
            self.in_order.insert(id);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.in_order.remove(id);
        self.by_id.remove(id);
    }
}
