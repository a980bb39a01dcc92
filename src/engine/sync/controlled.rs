//! Locks and maps under a scheduler: as much of the real ones as the engine uses.
//!
//! A map is one lock, where the real one has many. So it is stricter: who holds a guard of it and
//! touches the map again is found out, whether the two keys share a shard or not.
#![allow(clippy::unwrap_used)]

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use shuttle::sync::{self, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use shuttle::sync::MutexGuard;

/// A mutex that nobody can poison: a thread that panics ends the whole schedule.
#[derive(Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.0.try_lock().is_err()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// The same order in every run, so that a schedule can be gone through again.
type Content<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// `S`, by which the real one hashes, is not used.
pub(crate) struct DashMap<K, V, S = std::hash::RandomState> {
    content: RwLock<Content<K, V>>,
    hasher: PhantomData<fn() -> S>,
}

impl<K, V, S> Default for DashMap<K, V, S> {
    fn default() -> Self {
        Self { content: RwLock::new(Content::default()), hasher: PhantomData }
    }
}

impl<K, V, S> fmt::Debug for DashMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashMap").finish_non_exhaustive()
    }
}

impl<K, V> DashMap<K, V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl<K: Eq + Hash + Clone, V, S> DashMap<K, V, S> {
    pub(crate) fn with_hasher_and_shard_amount(_: S, _: usize) -> Self {
        Self::default()
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<Ref<'_, K, V>>
    where
        K: Borrow<Q>,
    {
        let content = self.content.read().unwrap();
        let key = content.get_key_value(key)?.0.clone();
        Some(Ref { guard: Guard::Read(Rc::new(content)), key })
    }

    pub(crate) fn entry(&self, key: K) -> Entry<'_, K, V> {
        Entry { content: self.content.write().unwrap(), key }
    }

    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        self.content.write().unwrap().insert(key, value)
    }

    pub(crate) fn remove_if<Q: Eq + Hash + ?Sized>(
        &self,
        key: &Q,
        wanted: impl FnOnce(&K, &V) -> bool,
    ) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let mut content = self.content.write().unwrap();
        let remove = content.get_key_value(key).is_some_and(|(key, value)| wanted(key, value));
        if remove { content.remove_entry(key) } else { None }
    }

    pub(crate) fn remove_if_mut<Q: Eq + Hash + ?Sized>(
        &self,
        key: &Q,
        wanted: impl FnOnce(&K, &mut V) -> bool,
    ) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let mut content = self.content.write().unwrap();
        let (known, mut value) = content.remove_entry(key)?;
        if wanted(&known, &mut value) {
            return Some((known, value));
        }
        content.insert(known, value);
        None
    }

    pub(crate) fn retain(&self, mut kept: impl FnMut(&K, &mut V) -> bool) {
        self.content.write().unwrap().retain(|key, value| kept(key, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Ref<'_, K, V>> {
        let content = Rc::new(self.content.read().unwrap());
        let keys: Vec<K> = content.keys().cloned().collect();
        keys.into_iter().map(move |key| Ref { guard: Guard::Read(Rc::clone(&content)), key })
    }

    pub(crate) fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.content.read().unwrap().contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.content.read().unwrap().len()
    }

    pub(crate) fn clear(&self) {
        self.content.write().unwrap().clear();
    }

    #[allow(clippy::unused_self)]
    pub(crate) fn shrink_to_fit(&self) {}
}

enum Guard<'m, K, V> {
    Read(Rc<RwLockReadGuard<'m, Content<K, V>>>),
    Write(RwLockWriteGuard<'m, Content<K, V>>),
}

/// A value of a map that is read.
pub(crate) struct Ref<'m, K, V> {
    guard: Guard<'m, K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Ref<'_, K, V> {
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    pub(crate) fn value(&self) -> &V {
        match &self.guard {
            Guard::Read(content) => content.get(&self.key).unwrap(),
            Guard::Write(content) => content.get(&self.key).unwrap(),
        }
    }
}

impl<K: Eq + Hash, V> Deref for Ref<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value()
    }
}

/// The place of a key.
pub(crate) struct Entry<'m, K, V> {
    content: RwLockWriteGuard<'m, Content<K, V>>,
    key: K,
}

impl<'m, K: Eq + Hash + Clone, V> Entry<'m, K, V> {
    pub(crate) fn or_insert_with(self, value: impl FnOnce() -> V) -> RefMut<'m, K, V> {
        let Self { mut content, key } = self;
        content.entry(key.clone()).or_insert_with(value);
        // The key that the map has, which need not be the one that was asked for.
        let key = content.get_key_value(&key).unwrap().0.clone();
        RefMut { content, key }
    }

    pub(crate) fn or_default(self) -> RefMut<'m, K, V>
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

/// A value of a map that is changed.
pub(crate) struct RefMut<'m, K, V> {
    content: RwLockWriteGuard<'m, Content<K, V>>,
    key: K,
}

impl<'m, K: Eq + Hash, V> RefMut<'m, K, V> {
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// Others may read from now on. Here they wait all the same: there is no way to let go of a
    /// half.
    pub(crate) fn downgrade(self) -> Ref<'m, K, V> {
        Ref { guard: Guard::Write(self.content), key: self.key }
    }
}

impl<K: Eq + Hash, V> Deref for RefMut<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.content.get(&self.key).unwrap()
    }
}

impl<K: Eq + Hash, V> DerefMut for RefMut<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.content.get_mut(&self.key).unwrap()
    }
}
