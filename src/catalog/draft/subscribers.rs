//! Edits of subscribers.

use std::sync::Arc;

use super::{Draft, absent, current, unnamed};
use crate::catalog::error::EditError;
use crate::catalog::kind::Kind;
use crate::catalog::table::Stored;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{Id, Subscriber};

/// A subscriber as the catalog keeps it.
type StoredSubscriber = Arc<Stored<Subscriber>>;

impl Draft {
    /// The subscriber as it is now; an `etag` that is not empty must be its current one.
    pub fn subscriber(&self, id: &str, etag: &str) -> Result<StoredSubscriber, EditError> {
        current(&self.next.subscribers, id, etag)
    }

    /// Adds a subscriber. Its plans must exist.
    pub fn create_subscriber(
        &mut self,
        subscriber: Subscriber,
    ) -> Result<StoredSubscriber, EditError> {
        absent(&self.next.subscribers, &subscriber.id)?;
        self.put_subscriber(subscriber)
    }

    /// Puts `subscriber` in the place of the one with its id. Its plans must exist.
    pub fn replace_subscriber(
        &mut self,
        subscriber: Subscriber,
    ) -> Result<StoredSubscriber, EditError> {
        self.subscriber(&subscriber.id, "")?;
        self.put_subscriber(subscriber)
    }

    /// Deletes a subscriber. While it has API keys, it is refused, unless `force`, which deletes
    /// them too.
    pub fn delete_subscriber(
        &mut self,
        id: &str,
        etag: &str,
        force: bool,
    ) -> Result<(), EditError> {
        let subscriber = self.subscriber(id, etag)?;
        if !force {
            let why = "has API keys (force deletes them too)";
            let keys = || self.next.keys_of.ids_of(id);
            unnamed(Kind::Subscriber, id, keys().count(), keys(), why)?;
        }
        let keys: Vec<Id> = self.next.keys_of.ids_of(id).cloned().collect();
        for key in keys {
            self.delete_key(&key, "")?;
        }
        self.next.subscribers_of.change(
            &subscriber.value.id,
            subscriber.value.plans.iter(),
            [].iter(),
        );
        self.next.subscribers.remove(id);
        self.next.with_many_keys.remove(id);
        self.note(&subscriber.value);
        Ok(())
    }

    pub(super) fn put_subscriber(
        &mut self,
        mut subscriber: Subscriber,
    ) -> Result<StoredSubscriber, EditError> {
        let mut found = Mistakes::default();
        validate::subscriber(&subscriber, &mut found);
        for (i, plan) in subscriber.plans.iter().take(validate::MAX_PLANS).enumerate() {
            if found.is_empty() && self.next.plans.get(plan).is_none() {
                found.add(
                    format!("plans[{i}]"),
                    format!("names the plan `{plan}`, which does not exist"),
                );
            }
        }
        found.or_else(())?;
        self.next.share_ids(&mut subscriber);
        let before = self.next.subscribers.get(&subscriber.id).cloned();
        let old = before.iter().flat_map(|before| &*before.value.plans);
        self.next.subscribers_of.change(&subscriber.id, old, subscriber.plans.iter());
        let stored = self.stored(subscriber, before.as_deref());
        self.next.subscribers.put(stored.clone());
        self.tell_keys_of(&stored.value.id);
        self.note(&stored.value);
        Ok(stored)
    }
}
