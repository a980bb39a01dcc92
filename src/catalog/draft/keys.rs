//! Edits of API keys.

use std::sync::Arc;

use super::{Draft, absent, current};
use crate::catalog::error::EditError;
use crate::catalog::key_entry::KeyEntry;
use crate::catalog::secret;
use crate::catalog::snapshot::{FEW_KEYS, Holder};
use crate::catalog::table::Stored;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{ApiKey, LastFour};

/// An API key as the catalog keeps it.
type StoredKey = Arc<Stored<KeyEntry>>;

/// Where the value of a new API key comes from.
#[derive(Clone, Copy, Debug)]
pub enum NewValue<'a> {
    /// 160 random bits.
    Made,
    /// One that callers hold already: 20 to 128 visible ASCII characters.
    Given(&'a str),
}

impl Draft {
    /// The API key as it is now; an `etag` that is not empty must be its current one.
    pub fn key(&self, id: &str, etag: &str) -> Result<StoredKey, EditError> {
        current(&self.next.keys, id, etag)
    }

    /// Adds an API key; an empty id gets one made. Its `last_four` is set here. The text is the
    /// value, which is kept nowhere.
    pub fn create_key(
        &mut self,
        mut key: ApiKey,
        value: NewValue<'_>,
    ) -> Result<(StoredKey, String), EditError> {
        if key.id.is_empty() {
            key.id = secret::new_id()?.into();
        }
        absent(&self.next.keys, &key.id)?;
        let value = match value {
            NewValue::Made => secret::new_value()?,
            NewValue::Given(value) => value.to_owned(),
        };
        let stored = self.put_key_with_value(key, &value)?;
        Ok((stored, value))
    }

    /// Puts `key` in the place of the one with its id, with the value that it has. Its subscriber
    /// and `last_four` stay.
    pub fn replace_key(&mut self, mut key: ApiKey) -> Result<StoredKey, EditError> {
        let before = self.key(&key.id, "")?;
        if key.subscriber != before.value.key.subscriber {
            return Err(EditError::invalid(
                "subscriber",
                format!("never changes: it is `{}`", before.value.key.subscriber),
            ));
        }
        key.last_four = before.value.key.last_four;
        self.put_key(KeyEntry { key, hash: before.value.hash })
    }

    /// Deletes an API key. Its value is unknown from then on, and may be imported again.
    pub fn delete_key(&mut self, id: &str, etag: &str) -> Result<(), EditError> {
        let key = self.key(id, etag)?;
        self.next.keys_of.remove(&key);
        self.release_value(&key);
        self.next.keys.remove(id);
        self.note(&key.value);
        Ok(())
    }

    /// Puts `key` with a new value in the place of what has its id, if anything.
    pub(super) fn put_key_with_value(
        &mut self,
        mut key: ApiKey,
        value: &str,
    ) -> Result<StoredKey, EditError> {
        let mut found = Mistakes::default();
        validate::key_value("value", value, &mut found);
        validate::api_key(&key, &mut found);
        found.or_else(())?;
        let hash = self
            .next
            .hash_key
            .hash(value.as_bytes())
            .ok_or_else(|| EditError::invalid("value", "cannot be used"))?;
        key.last_four = LastFour::of(value).unwrap_or_default();
        self.put_key(KeyEntry { key, hash })
    }

    fn put_key(&mut self, mut entry: KeyEntry) -> Result<StoredKey, EditError> {
        let mut found = Mistakes::default();
        validate::api_key(&entry.key, &mut found);
        if found.is_empty() && self.next.subscribers.get(&entry.key.subscriber).is_none() {
            found.add("subscriber", format!("`{}` does not exist", entry.key.subscriber));
        }
        found.or_else(())?;
        if let Some(other) =
            self.next.holder(&entry.hash).filter(|other| other.value.key.id != entry.key.id)
        {
            return Err(EditError::ValueInUse { id: other.value.key.id.to_string() });
        }
        entry.key.subscriber = self.next.subscribers.shared(&entry.key.subscriber);
        let before = self.next.keys.get(&entry.key.id).cloned();
        if let Some(before) = before.as_deref() {
            self.release_value(before);
        }
        let stored = self.stored(entry, before.as_deref());
        let subscriber = &stored.value.key.subscriber;
        self.next.keys_of.put(stored.clone());
        let beside = self.next.put_beside_keys_of(subscriber);
        self.next.by_value.insert(Holder(stored.clone()), beside);
        self.next.keys.put(stored.clone());
        if before.is_none() && !self.next.keys_of.are_at_most(FEW_KEYS, subscriber) {
            self.tell_keys_of(subscriber);
        }
        self.note(&stored.value);
        Ok(stored)
    }

    /// The keys of a subscriber keep it beside them as it is now, or not at all where they have
    /// become many. Those of many do not.
    pub(super) fn tell_keys_of(&mut self, subscriber: &str) {
        let beside = self.next.put_beside_keys_of(subscriber);
        if !self.next.keys_of.are_at_most(FEW_KEYS + 1, subscriber) {
            return;
        }
        let keys: Vec<StoredKey> = self.next.keys_of.of(subscriber).cloned().collect();
        for key in keys {
            // Within an edit another may have its value already.
            if self.holds_its_value(&key) {
                self.next.by_value.insert(Holder(key), beside.clone());
            }
        }
    }

    /// The value of a key is free for another, unless another has taken it since.
    pub(super) fn release_value(&mut self, key: &Stored<KeyEntry>) {
        if self.holds_its_value(key) {
            self.next.by_value.remove(&key.value.hash);
        }
    }

    fn holds_its_value(&self, key: &Stored<KeyEntry>) -> bool {
        self.next
            .holder(&key.value.hash)
            .is_some_and(|holder| holder.value.key.id == key.value.key.id)
    }

    /// The keyed hash of `value` is that of the key.
    pub(super) fn has_value(&self, key: &KeyEntry, value: &str) -> bool {
        self.next.hash_key.hash(value.as_bytes()) == Some(key.hash)
    }
}
