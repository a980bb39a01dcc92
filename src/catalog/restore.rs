//! Keeping a catalog: what an edit hands over before anyone sees it, and a catalog made again from
//! what was kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::draft::Draft;
use super::key_entry::KeyEntry;
use super::kind::Kind;
use super::requests::{FirstRequest, MadeRequest, RequestKey};
use super::secret::HashKey;
use super::snapshot::{Catalog, Holder};
use super::table::Stored;
use crate::decide::compiled::{CompiledPlan, CompiledTarget};
use crate::decide::gcra::RateLimit;
use crate::decide::invalid::Invalid;
use crate::decide::plan::{Id, Plan, Subscriber, Target};

/// All resources as they were kept.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub revision: u64,
    pub plans: Vec<Stored<Plan>>,
    pub targets: Vec<Stored<Target>>,
    pub subscribers: Vec<Stored<Subscriber>>,
    pub keys: Vec<Stored<KeyEntry>>,
    /// What was kept and cannot be read.
    pub unreadable: BTreeSet<(Kind, Id)>,
}

/// Keeps edits, so that what was acknowledged is there after a restart.
pub trait Keeper: Send + Sync + std::fmt::Debug {
    /// Keeps an edit of the catalog of revision `expected`, and with it the request that it is made
    /// for, if that has a name: both or neither. An edit without a change is of the same revision.
    /// Blocks until it is safe.
    ///
    /// # Errors
    /// Why it is not known to be kept. It is not acknowledged then, and the next edit starts from
    /// [`Self::load`].
    fn keep(
        &self,
        expected: u64,
        edit: &Draft,
        request: Option<MadeRequest<'_>>,
    ) -> Result<(), String>;

    /// The request that had the name of this one, if it was kept.
    ///
    /// # Errors
    /// Why that cannot be told.
    fn find(&self, request: &RequestKey) -> Result<Option<FirstRequest>, String>;

    /// An edit of `before` that was kept is what decisions read from now on, and is not
    /// acknowledged yet. Others may be made, and told, meanwhile.
    fn published(&self, before: &Catalog, after: &Catalog, changed: &[(Kind, Id)]);

    /// What was kept.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn load(&self) -> Result<Image, String>;
}

impl Catalog {
    /// The catalog that an image is of. A resource that cannot be prepared for deciding counts as
    /// one that cannot be read.
    pub fn restore(hash_key: HashKey, account: Option<RateLimit>, image: Image) -> Self {
        let mut unreadable = image.unreadable;
        let mut unprepared = |kind, id: Id, wrong: Invalid| {
            tracing::error!(
                kind = Kind::word(kind),
                id = &*id,
                "the ledger holds a {} that cannot be used: {wrong}",
                Kind::word(kind)
            );
            unreadable.insert((kind, id));
        };
        let mut catalog = Self::new(hash_key, account);
        catalog.revision = image.revision;
        for target in image.targets {
            let id = target.value.id.clone();
            let compiled = match target.prepared(|target| CompiledTarget::new(Arc::new(target))) {
                Ok(compiled) => compiled,
                Err(wrong) => {
                    unprepared(Kind::Target, id, wrong);
                    continue;
                }
            };
            let declared = &compiled.value.target;
            catalog.defaults_of.change(
                &declared.id,
                std::iter::empty(),
                declared.default_plan.iter(),
            );
            catalog.targets.put(Arc::new(compiled));
        }
        for plan in image.plans {
            let id = plan.value.id.clone();
            let compiled = match plan.prepared(|plan| CompiledPlan::new(Arc::new(plan))) {
                Ok(compiled) => compiled,
                Err(wrong) => {
                    unprepared(Kind::Plan, id, wrong);
                    continue;
                }
            };
            let targets = compiled.value.plan.entitlements.iter().flat_map(|one| &one.targets);
            catalog.plans_of.change(&compiled.value.plan.id, std::iter::empty(), targets);
            catalog.plans.put(Arc::new(compiled));
        }
        for mut subscriber in image.subscribers {
            catalog.share_ids(&mut subscriber.value);
            catalog.subscribers_of.change(
                &subscriber.value.id,
                std::iter::empty(),
                subscriber.value.plans.iter(),
            );
            catalog.subscribers.put(Arc::new(subscriber));
        }
        let shared = |mut key: Stored<KeyEntry>| {
            key.value.key.subscriber = catalog.subscribers.shared(&key.value.key.subscriber);
            Arc::new(key)
        };
        let keys: Vec<_> = image.keys.into_iter().map(shared).collect();
        keys.iter().for_each(|key| catalog.keys_of.put(Arc::clone(key)));
        for key in keys {
            let subscriber = catalog.put_beside_keys_of(&key.value.key.subscriber);
            catalog.by_value.insert(Holder(key.clone()), subscriber);
            catalog.keys.put(key);
        }
        catalog.unreadable = Arc::new(unreadable);
        catalog
    }
}

impl<T> Stored<T> {
    /// The same record of something made from the value.
    fn prepared<U>(self, make: impl FnOnce(T) -> Result<U, Invalid>) -> Result<Stored<U>, Invalid> {
        Ok(Stored {
            value: make(self.value)?,
            revision: self.revision,
            create_ns: self.create_ns,
            update_ns: self.update_ns,
        })
    }
}
