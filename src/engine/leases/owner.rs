//! Whose counters are whose, and under which entitlement: the same few names again and again, kept
//! once.

use std::sync::Arc;

use foldhash::quality::RandomState;
use siphasher::sip128::SipHasher13;

use crate::decide::compiled::QuotaIdentity;
use crate::decide::ledger::{CounterIdentity, RULES};
use crate::decide::plan::Id;
use crate::engine::sync::DashMap;

/// An entitlement of a plan, and the API key where it counts by key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct EntitlementRef {
    pub(in crate::engine) plan: Id,
    pub(in crate::engine) entitlement: Id,
    pub(in crate::engine) key: Option<Id>,
}

/// Whose counters these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Owner {
    pub(in crate::engine) subscriber: Id,
    pub(in crate::engine) under: Arc<EntitlementRef>,
}

impl Owner {
    /// `key`: where the entitlement counts by key.
    pub(in crate::engine) fn new(
        subscriber: &Id,
        key: Option<&Id>,
        plan: &Id,
        entitlement: &Id,
    ) -> Self {
        let under = EntitlementRef {
            plan: Arc::clone(plan),
            entitlement: Arc::clone(entitlement),
            key: key.cloned(),
        };
        Self { subscriber: Arc::clone(subscriber), under: Arc::new(under) }
    }

    /// Of a durable rule: a name in a domain.
    pub(in crate::engine) fn of_rule(domain: &str, name: &str) -> Self {
        Self::new(&Id::from(name), None, &Id::from(RULES), &Id::from(domain))
    }

    /// Whose a counter is.
    pub(in crate::engine) fn of(counter: &CounterIdentity) -> Self {
        let CounterIdentity { subscriber, key, plan, entitlement, .. } = counter;
        Self::new(subscriber, key.as_ref(), plan, entitlement)
    }

    /// The counter of one quota.
    pub(in crate::engine) fn counter(&self, quota: &Arc<QuotaIdentity>) -> CounterIdentity {
        let EntitlementRef { plan, entitlement, key } = EntitlementRef::clone(&self.under);
        CounterIdentity {
            subscriber: Arc::clone(&self.subscriber),
            key,
            plan,
            entitlement,
            quota: Arc::clone(quota),
        }
    }
}

/// Those that somebody holds.
#[derive(Debug, Default)]
pub(in crate::engine) struct EntitlementRefs(DashMap<Arc<EntitlementRef>, (), RandomState>);

impl EntitlementRefs {
    /// The same as another holds. What names an API key is shared with nobody.
    pub(in crate::engine) fn of(&self, under: Arc<EntitlementRef>) -> Arc<EntitlementRef> {
        if under.key.is_some() {
            return under;
        }
        if let Some(shared) = self.0.get(&under) {
            return Arc::clone(shared.key());
        }
        Arc::clone(self.0.entry(under).or_default().key())
    }

    /// Drops what nobody else holds.
    pub(in crate::engine) fn sweep(&self) {
        self.0.retain(|under, ()| Arc::strong_count(under) > 1);
    }
}

/// Which of the ledger's shards a subscriber is in: the same for every node, so under no secret.
pub(in crate::engine) fn shard_of(subscriber: &str) -> u8 {
    SipHasher13::new().hash(subscriber.as_bytes()).as_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_kept_for_all_and_no_longer_than_by_them() {
        let shared = EntitlementRefs::default();
        let named = |plan: &str, key: Option<&str>| {
            Arc::new(EntitlementRef {
                plan: plan.into(),
                entitlement: "all".into(),
                key: key.map(Id::from),
            })
        };
        let (one, same) = (shared.of(named("gold", None)), shared.of(named("gold", None)));
        assert!(Arc::ptr_eq(&one, &same));
        assert_ne!(one, shared.of(named("silver", None)));
        assert_eq!(shared.of(named("gold", Some("key"))), named("gold", Some("key")));
        drop(one);
        shared.sweep();
        assert_eq!(shared.0.len(), 1, "of gold one is left, and is held");
        drop(same);
        shared.sweep();
        assert_eq!(shared.0.len(), 0);
    }
}
