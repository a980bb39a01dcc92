//! The resources of one kind: found by id in a few steps, walked in the order of their ids, and
//! copied in no time.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
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
    /// Decisions look for it by its id. Of the others there are more, and they are found by edits
    /// and lists alone, in the tree that gives their order.
    const IS_DECIDED_BY: bool;
    fn id(&self) -> &Id;
    fn about(&self) -> &About;

    fn display_name(&self) -> &str {
        self.about().name(self.id())
    }
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
/// persistent map or tree are free, and cost as much.
#[derive(Debug)]
struct Named<T>(Arc<Stored<T>>);

/// Resources by their ids, found in a few steps. The hash is keyed at random, and half as dear as
/// the standard one.
#[derive(Debug)]
pub(super) struct ById<T>(
    imbl::GenericHashMap<
        Named<T>,
        (),
        foldhash::quality::RandomState,
        imbl::shared_ptr::DefaultSharedPtr,
    >,
);

/// The resources of one kind. A clone shares everything, and an edit copies a few nodes whatever
/// the size.
pub struct Table<T> {
    /// A node inside the tree may hold on to an older record than its leaf: an id never changes.
    in_order: OrdSet<Named<T>>,
    /// Empty unless decisions look here.
    by_id: ById<T>,
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

impl<T: Resource> Ord for Named<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        str::cmp(self.borrow(), other.borrow())
    }
}

impl<T: Resource> PartialOrd for Named<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self(imbl::GenericHashMap::default())
    }
}

impl<T> Clone for ById<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Resource> ById<T> {
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Stored<T>>> {
        self.0.get_key_value(id).map(|(Named(stored), ())| stored)
    }

    pub(super) fn put(&mut self, stored: Arc<Stored<T>>) {
        self.0.insert(Named(stored), ());
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }
}

/// The resources themselves would fill the log.
impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.in_order.len()).finish_non_exhaustive()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { in_order: OrdSet::new(), by_id: ById::default() }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { in_order: self.in_order.clone(), by_id: self.by_id.clone() }
    }
}

impl<T: Resource> Table<T> {
    pub fn get(&self, id: &str) -> Option<&Arc<Stored<T>>> {
        if T::IS_DECIDED_BY {
            return self.by_id.get(id);
        }
        self.in_order.get(id).map(|Named(stored)| stored)
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
        self.in_order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// In the order of their ids, from just after `after` on.
    pub fn iter_after<'a>(
        &'a self,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Stored<T>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.in_order.range::<_, str>((from, Bound::Unbounded)).map(|Named(stored)| stored)
    }

    pub(super) fn put(&mut self, stored: Arc<Stored<T>>) {
        if T::IS_DECIDED_BY {
            self.by_id.put(Arc::clone(&stored));
        }
        self.in_order.insert(Named(stored));
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.in_order.remove(id);
        if T::IS_DECIDED_BY {
            self.by_id.remove(id);
        }
    }
}
