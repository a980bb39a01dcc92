//! The catalog at one revision: what decisions read, and what an edit starts from.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::key_entry::KeyEntry;
use super::kind::Kind;
use super::links::Links;
use super::owned::OwnedKeys;
use super::secret::{ByHash, HashKey, ValueHash};
use super::table::{ById, Resource, Stored, Table};
use super::walks::Walks;
use crate::decide::compiled::{CompiledPlan, CompiledTarget};
use crate::decide::gcra::RateLimit;
use crate::decide::lookup::{Lookup, Unreadable};
use crate::decide::plan::{About, ApiKey, Id, Subscriber};

/// Who holds a value: an API key as the key that it is found by, its hash.
#[derive(Clone, Debug)]
pub(super) struct Holder(pub(super) Arc<Stored<KeyEntry>>);

/// By the hashes of their values. Beside each is its subscriber, so that a decision need not look
/// for it; `None` where that has more than [`FEW_KEYS`], and is found by its id.
pub(super) type Holders = ByHash<Holder, Option<Arc<Stored<Subscriber>>>>;

type Presented<'c> = (&'c Arc<Stored<KeyEntry>>, Option<&'c Arc<Stored<Subscriber>>>);

/// An edit of a subscriber with so many keys tells each of them.
pub(super) const FEW_KEYS: usize = 4;

/// All plans, targets, subscribers and API keys at one revision. It never changes; a clone shares
/// everything.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(super) revision: u64,
    pub(super) hash_key: HashKey,
    pub(super) account: Option<RateLimit>,
    pub(super) plans: Table<CompiledPlan>,
    pub(super) targets: Table<CompiledTarget>,
    pub(super) subscribers: Table<Subscriber>,
    pub(super) keys: Table<KeyEntry>,
    pub(super) by_value: Holders,
    /// The subscribers that stand beside no key of theirs, and maybe some that do.
    pub(super) with_many_keys: ById<Subscriber>,
    /// Plan: the subscribers that have it.
    pub(super) subscribers_of: Links,
    /// Plan: the targets whose default it is.
    pub(super) defaults_of: Links,
    /// Target: the plans that name it.
    pub(super) plans_of: Links,
    /// Subscriber: its API keys.
    pub(super) keys_of: OwnedKeys,
    /// Of all revisions together.
    pub(super) walks: Arc<Walks>,
    /// What is kept and cannot be read. An edit that declares it again takes it away.
    pub(super) unreadable: Arc<BTreeSet<(Kind, Id)>>,
}

impl Catalog {
    pub(super) fn new(hash_key: HashKey, account: Option<RateLimit>) -> Self {
        Self {
            revision: 0,
            hash_key,
            account,
            plans: Table::default(),
            targets: Table::default(),
            subscribers: Table::default(),
            keys: Table::default(),
            by_value: Holders::default(),
            with_many_keys: ById::default(),
            subscribers_of: Links::default(),
            defaults_of: Links::default(),
            plans_of: Links::default(),
            keys_of: OwnedKeys::default(),
            walks: Arc::default(),
            unreadable: Arc::default(),
        }
    }

    /// What is kept and cannot be read. Its id is what can be read of it, and may be wrong.
    pub fn unreadable_resources(&self) -> impl Iterator<Item = &(Kind, Id)> {
        self.unreadable.iter()
    }

    /// Grows by one with every edit; 0 is the empty catalog.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn plans(&self) -> &Table<CompiledPlan> {
        &self.plans
    }

    pub fn targets(&self) -> &Table<CompiledTarget> {
        &self.targets
    }

    pub fn subscribers(&self) -> &Table<Subscriber> {
        &self.subscribers
    }

    pub fn keys(&self) -> &Table<KeyEntry> {
        &self.keys
    }

    /// The ids of the API keys of a subscriber, in order.
    pub fn keys_of(&self, subscriber: &str) -> impl Iterator<Item = &Id> + use<'_> {
        self.keys_of.ids_of(subscriber)
    }

    /// The ids of the subscribers that have a plan, in order.
    pub fn subscribers_of(&self, plan: &str) -> impl Iterator<Item = &Id> + use<'_> {
        self.subscribers_of.of(plan)
    }

    /// How many subscribers have a plan.
    pub fn subscriber_count_of(&self, plan: &str) -> usize {
        self.subscribers_of.count(plan)
    }

    /// The ids of the targets whose default plan it is, in order.
    pub fn targets_defaulting_to(&self, plan: &str) -> impl Iterator<Item = &Id> + use<'_> {
        self.defaults_of.of(plan)
    }

    /// The ids of the plans that name a target, in order.
    pub fn plans_of(&self, target: &str) -> impl Iterator<Item = &Id> + use<'_> {
        self.plans_of.of(target)
    }

    /// A subscriber names itself and its plans as they are named here already.
    pub(super) fn share_ids(&self, subscriber: &mut Subscriber) {
        subscriber.id = self.subscribers.shared(&subscriber.id);
        subscriber.plans.iter_mut().for_each(|plan| *plan = self.plans.shared(plan));
    }

    /// The key that holds a value.
    pub(super) fn holder(&self, hash: &ValueHash) -> Option<&Arc<Stored<KeyEntry>>> {
        self.by_value.get_key_value(hash).map(|(Holder(key), _)| key)
    }

    /// The key with this presented value, and its subscriber, where there is one.
    pub(super) fn presented(&self, value: &[u8]) -> Option<Presented<'_>> {
        let (Holder(key), beside) = self.by_value.get_key_value(&self.hash_key.hash(value)?)?;
        let of_many = || self.with_many_keys.get(&key.value.key.subscriber);
        Some((key, beside.as_ref().or_else(of_many)))
    }

    /// What to keep beside the keys of a subscriber. Where that is nothing, it is found by its id
    /// from now on.
    pub(super) fn put_beside_keys_of(&mut self, id: &str) -> Option<Arc<Stored<Subscriber>>> {
        let subscriber = Arc::clone(self.subscribers.get(id)?);
        if self.keys_of.are_at_most(FEW_KEYS, id) {
            return Some(subscriber);
        }
        self.with_many_keys.put(subscriber);
        None
    }

    pub(super) fn covers(&self, plan: &str, target: &str) -> bool {
        self.plans.get(plan).is_some_and(|plan| plan.value.entitlement_for(target).is_some())
    }
}

impl Lookup for Catalog {
    fn api_key(&self, presented: &[u8]) -> Option<&ApiKey> {
        self.holder(&self.hash_key.hash(presented)?).map(|stored| &stored.value.key)
    }

    fn caller(&self, presented: &[u8]) -> Option<(&ApiKey, Option<&Subscriber>)> {
        let (key, subscriber) = self.presented(presented)?;
        Some((&key.value.key, subscriber.map(|subscriber| &subscriber.value)))
    }

    fn subscriber(&self, id: &str) -> Option<&Subscriber> {
        self.subscribers.get(id).map(|found| &found.value)
    }

    fn plan(&self, id: &str) -> Option<&CompiledPlan> {
        self.plans.get(id).map(|found| &found.value)
    }

    fn target(&self, id: &str) -> Option<&CompiledTarget> {
        self.targets.get(id).map(|found| &found.value)
    }

    fn account(&self) -> Option<&RateLimit> {
        self.account.as_ref()
    }

    fn unreadable(&self) -> Unreadable {
        let some = |kind| self.unreadable.iter().any(|(other, _)| *other == kind);
        Unreadable {
            targets: some(Kind::Target),
            plans: some(Kind::Plan),
            subscribers: some(Kind::Subscriber),
            keys: some(Kind::Key),
        }
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Borrow<ValueHash> for Holder {
    fn borrow(&self) -> &ValueHash {
        &self.0.value.hash
    }
}

impl Hash for Holder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.value.hash.hash(state);
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.0.value.hash == other.0.value.hash
    }
}

impl Eq for Holder {}

impl Resource for CompiledPlan {
    const KIND: Kind = Kind::Plan;
    const IS_DECIDED_BY: bool = true;

    fn id(&self) -> &Id {
        &self.plan.id
    }

    fn about(&self) -> &About {
        &self.plan.about
    }
}

impl Resource for CompiledTarget {
    const KIND: Kind = Kind::Target;
    const IS_DECIDED_BY: bool = true;

    fn id(&self) -> &Id {
        &self.target.id
    }

    fn about(&self) -> &About {
        &self.target.about
    }
}

impl Resource for Subscriber {
    const KIND: Kind = Kind::Subscriber;
    const IS_DECIDED_BY: bool = false;

    fn id(&self) -> &Id {
        &self.id
    }

    fn about(&self) -> &About {
        &self.about
    }
}

impl Resource for KeyEntry {
    const KIND: Kind = Kind::Key;
    const IS_DECIDED_BY: bool = false;

    fn id(&self) -> &Id {
        &self.key.id
    }

    fn about(&self) -> &About {
        &self.key.about
    }
}
