//! Whatever the edits were, what the catalog keeps beside its resources is what the resources say.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::catalog::snapshot::FEW_KEYS;
use crate::decide::resolve::{Call, Resolution, resolve};

/// Asks for each caller as often as a caller must call to be remembered. What is remembered is what
/// the catalog says now.
fn check_recent(recent: &mut Recent<u8>, catalog: &Catalog, now: Now) {
    for (presented, target) in
        NAMES.iter().flat_map(|value| NAMES.map(|target| (value_of(value), target)))
    {
        let call = Call { api_key: presented.as_bytes(), target, method: b"", path: b"" };
        let is = resolve(catalog, &call, now);
        for time in 0..3 {
            let who = recent.who(presented.as_bytes(), target);
            let known =
                who.and_then(|who| recent.find(catalog, who, (presented.as_bytes(), target), now));
            let known_is_none = known.is_none();
            let (Some(caller), Resolution::Covered(is)) = (known, &is) else {
                assert!(known_is_none, "{presented} is not covered at {target}, and remembered");
                assert!(
                    time < 2 || !matches!(is, Resolution::Covered(_)),
                    "{presented} called {target} three times, and is not remembered"
                );
                continue;
            };
            let (known, _) = caller.covered();
            assert_eq!(
                (known.key, known.subscriber_id, known.target_id),
                (is.key, is.subscriber_id, is.target_id)
            );
            assert!(Arc::ptr_eq(known.entitlement, is.entitlement));
            assert_eq!(
                known.target.map(|target| &target.target),
                is.target.map(|target| &target.target)
            );
        }
    }
}

/// Compares every index with what the resources say.
pub(super) fn check(catalog: &Catalog) {
    let all_plans: Vec<_> =
        catalog.plans.iter_after(None).map(|stored| stored.value.plan.clone()).collect();
    let all_targets: Vec<_> =
        catalog.targets.iter_after(None).map(|stored| stored.value.target.clone()).collect();
    let all_subscribers: Vec<_> =
        catalog.subscribers.iter_after(None).map(|stored| stored.value.clone()).collect();
    let all_keys: Vec<_> = catalog.keys.iter_after(None).cloned().collect();
    assert_eq!(all_plans.len(), catalog.plans.len());
    assert_eq!(all_targets.len(), catalog.targets.len());
    assert_eq!(all_subscribers.len(), catalog.subscribers.len());
    assert_eq!(all_keys.len(), catalog.keys.len());

    for id in NAMES
        .map(|name| name.to_owned())
        .into_iter()
        .chain(all_targets.iter().map(|target| target.id.to_string()))
    {
        let having = all_subscribers
            .iter()
            .filter(|one| one.plans.iter().any(|plan| **plan == *id))
            .map(|one| one.id.clone());
        assert_eq!(
            catalog.subscribers_of(&id).cloned().collect::<BTreeSet<_>>(),
            having.collect(),
            "subscribers of {id}"
        );
        let naming = all_plans.iter().filter(|plan| {
            plan.entitlements.iter().any(|one| one.targets.iter().any(|target| **target == *id))
        });
        assert_eq!(
            catalog.plans_of(&id).cloned().collect::<BTreeSet<_>>(),
            naming.map(|plan| plan.id.clone()).collect(),
            "plans of {id}"
        );
        let defaulting = all_targets
            .iter()
            .filter(|one| one.default_plan.as_deref() == Some(&id))
            .map(|one| one.id.clone());
        assert_eq!(
            catalog.defaults_of.of(&id).cloned().collect::<BTreeSet<_>>(),
            defaulting.collect(),
            "defaults of {id}"
        );
        let owned = all_keys
            .iter()
            .filter(|one| *one.value.key.subscriber == *id)
            .map(|one| one.value.key.id.clone());
        assert_eq!(
            catalog.keys_of(&id).cloned().collect::<BTreeSet<_>>(),
            owned.collect(),
            "keys of {id}"
        );
    }
    assert_eq!(catalog.by_value.len(), all_keys.len());
    for subscriber in &all_subscribers {
        let owned: Vec<_> = catalog.keys_of.of(&subscriber.id).collect();
        assert!(
            owned.iter().all(|key| Arc::ptr_eq(key, catalog.keys.get(&key.value.key.id).unwrap()))
        );
        for most in 0..owned.len() + 2 {
            assert_eq!(catalog.keys_of.are_at_most(most, &subscriber.id), owned.len() <= most);
        }
    }
    for stored in &all_keys {
        let (holder, beside) = catalog.by_value.get_key_value(&stored.value.hash).unwrap();
        assert!(Arc::ptr_eq(&holder.0, stored));
        let owner = catalog.subscribers.get(&stored.value.key.subscriber).unwrap();
        let few = catalog.keys_of(&owner.value.id).count() <= FEW_KEYS;
        assert!(
            beside.as_ref().is_none_or(|beside| few && Arc::ptr_eq(beside, owner)),
            "the subscriber as it is now"
        );
        let found = beside.as_ref().or_else(|| catalog.with_many_keys.get(&owner.value.id));
        assert!(found.is_some_and(|found| Arc::ptr_eq(found, owner)), "a decision finds it");
        assert!(Arc::ptr_eq(&owner.value.id, &stored.value.key.subscriber), "one text in memory");
    }
    for subscriber in &all_subscribers {
        assert!(subscriber.plans.iter().all(|plan| catalog.plans.get(plan).is_some()));
    }
    for target in &all_targets {
        assert!(target.default_plan.as_ref().is_none_or(|plan| catalog.covers(plan, &target.id)));
    }
    for plan in &all_plans {
        assert!(
            plan.entitlements
                .iter()
                .flat_map(|one| &one.targets)
                .all(|target| catalog.targets.get(target).is_some())
        );
    }
}

/// Up to a few keys keep their subscriber beside them through every edit of it; of many none does.
#[test]
fn few_keys_keep_their_subscriber_beside_them() {
    let store = store();
    let edit = |second, work: &dyn Fn(&mut Draft) -> Result<(), EditError>| {
        store.edit(EditOptions::default(), at(second), |draft| work(draft)).unwrap();
        check(&store.snapshot());
        let catalog = store.snapshot();
        let (beside, keys) = (
            catalog.by_value.values().filter(|beside| beside.is_some()).count(),
            catalog.keys.len(),
        );
        (keys, beside)
    };
    let add = |number: usize| {
        let id = format!("key-{number}");
        move |draft: &mut Draft| {
            draft.create_key(key(&id, "a"), NewValue::Given(&value_of(&id))).map(|_| ())
        }
    };
    let replace = |name: &'static str| {
        move |draft: &mut Draft| {
            draft.replace_subscriber(Subscriber { about: about(name), ..subscriber("a", &[]) })?;
            Ok(())
        }
    };
    edit(1, &|draft| draft.create_subscriber(subscriber("a", &[])).map(|_| ()));
    for number in 1..=FEW_KEYS {
        assert_eq!(edit(2, &add(number)), (number, number));
    }
    assert_eq!(edit(3, &replace("edited")), (FEW_KEYS, FEW_KEYS));
    assert_eq!(edit(4, &add(FEW_KEYS + 1)), (FEW_KEYS + 1, 0));
    assert_eq!(edit(5, &add(FEW_KEYS + 2)), (FEW_KEYS + 2, 0));
    assert_eq!(edit(6, &replace("again")), (FEW_KEYS + 2, 0));
    for number in 1..=2 {
        edit(7, &|draft| draft.delete_key(&format!("key-{number}"), ""));
    }
    assert_eq!(edit(8, &replace("once more")), (FEW_KEYS, FEW_KEYS));
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Edit {
    PutPlan(&'static str, Vec<&'static str>),
    PutTarget(&'static str, Option<&'static str>),
    PutSubscriber(&'static str, Vec<&'static str>),
    PutKey(&'static str, &'static str, &'static str),
    DeletePlan(&'static str, bool),
    DeleteTarget(&'static str, bool),
    DeleteSubscriber(&'static str, bool),
    DeleteKey(&'static str),
    Attach(&'static str, &'static str),
    Detach(&'static str, &'static str),
    Apply(
        Vec<(&'static str, Vec<&'static str>)>,
        Vec<(&'static str, Vec<&'static str>, &'static str)>,
        bool,
    ),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(NAMES.to_vec(), 0..=3)
}

fn an_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (name(), names()).prop_map(|(id, targets)| Edit::PutPlan(id, targets)),
        (name(), prop::option::of(name())).prop_map(|(id, default)| Edit::PutTarget(id, default)),
        (name(), names()).prop_map(|(id, plans)| Edit::PutSubscriber(id, plans)),
        (name(), name(), name())
            .prop_map(|(id, subscriber, value)| Edit::PutKey(id, subscriber, value)),
        (name(), any::<bool>()).prop_map(|(id, force)| Edit::DeletePlan(id, force)),
        (name(), any::<bool>()).prop_map(|(id, force)| Edit::DeleteTarget(id, force)),
        (name(), any::<bool>()).prop_map(|(id, force)| Edit::DeleteSubscriber(id, force)),
        name().prop_map(Edit::DeleteKey),
        (name(), name()).prop_map(|(plan, target)| Edit::Attach(plan, target)),
        (name(), name()).prop_map(|(plan, target)| Edit::Detach(plan, target)),
        (
            prop::collection::vec((name(), names()), 0..3),
            prop::collection::vec((name(), names(), name()), 0..3),
            any::<bool>()
        )
            .prop_map(|(plans, subscribers, prune)| Edit::Apply(plans, subscribers, prune)),
    ]
}

fn make(draft: &mut Draft, edit: &Edit) -> Result<(), EditError> {
    match edit {
        Edit::PutPlan(id, targets) => draft
            .create_plan(plan(id, targets))
            .or_else(|_| draft.replace_plan(plan(id, targets)))
            .map(|_| ()),
        Edit::PutTarget(id, default) => {
            let target = Target { default_plan: default.map(Into::into), ..target(id) };
            draft
                .create_target(target.clone())
                .or_else(|_| draft.replace_target(target))
                .map(|_| ())
        }
        Edit::PutSubscriber(id, plans) => draft
            .create_subscriber(subscriber(id, plans))
            .or_else(|_| draft.replace_subscriber(subscriber(id, plans)))
            .map(|_| ()),
        Edit::PutKey(id, owner, value) => {
            draft.create_key(key(id, owner), NewValue::Given(&value_of(value))).map(|_| ())
        }
        Edit::DeletePlan(id, force) => draft.delete_plan(id, "", *force),
        Edit::DeleteTarget(id, force) => draft.delete_target(id, "", *force),
        Edit::DeleteSubscriber(id, force) => draft.delete_subscriber(id, "", *force),
        Edit::DeleteKey(id) => draft.delete_key(id, ""),
        Edit::Attach(plan, target) => draft.attach_target(plan, "", target, "").map(|_| ()),
        Edit::Detach(plan, target) => draft.detach_target(plan, target, "").map(|_| ()),
        Edit::Apply(plans, subscribers, prune) => {
            let declared = Declared {
                targets: Vec::new(),
                plans: plans.iter().map(|(id, targets)| plan(id, targets).into()).collect(),
                subscribers: subscribers
                    .iter()
                    .map(|(id, plans, key_id)| declared_subscriber(id, plans, key_id))
                    .collect(),
                prune: Prune {
                    kinds: if *prune {
                        vec![Kind::Target, Kind::Plan, Kind::Subscriber]
                    } else {
                        Vec::new()
                    },
                    most: true,
                },
            };
            draft.apply(&declared).map(|_| ())
        }
    }
}

fn declared_subscriber(id: &str, plans: &[&str], key_id: &str) -> DeclaredSubscriber {
    let keys = vec![DeclaredKey { key: key(key_id, id).into(), value: Some(value_of(key_id)) }];
    DeclaredSubscriber { subscriber: subscriber(id, plans).into(), keys }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_edits(edits in prop::collection::vec(an_edit(), 1..60)) {
        let store = store();
        let mut revision = 0;
        let mut recent = store.recent(&Room::default());
        for (second, edit) in (1..).zip(&edits) {
            let before = store.snapshot();
            let made = store.edit(EditOptions::default(), at(second), |draft| make(draft, edit));
            let after = store.snapshot();
            prop_assert!(made.is_ok() || Arc::ptr_eq(&before, &after));
            prop_assert!(after.revision() >= revision && after.revision() <= revision + 1);
            revision = after.revision();
            check(&after);
            check_recent(&mut recent, &after, at(second));
        }
    }
}
