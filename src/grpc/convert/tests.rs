use std::sync::Arc;

use prost_types::FieldMask;
use serde_json::{Value, json};

use super::*;
use crate::catalog::{CatalogStore, EditOptions, HashKey, NewValue};
use crate::catalog::{Field, Fields, KeyEntry, Kind, Stored};
use crate::decide::compiled::CompiledTarget;
use crate::decide::gcra::MicroRate;
use crate::decide::invalid::Invalid;
use crate::decide::plan::Rate;
use crate::decide::time::Now;
use crate::grpc::json::from_json;
use crate::grpc::pb::tollgate as pb;

fn wire_plan(json: Value) -> pb::UsagePlan {
    from_json("tollgate.v1.UsagePlan", json).expect("the JSON is a plan's")
}

/// Everything that a plan can say.
fn full() -> Value {
    json!({
        "id": "gold", "displayName": "Gold", "description": "All of it", "labels": {"a": "b"},
        "entitlements": [{
            "name": "all", "description": "x", "targets": ["orders", "users"],
            "rateLimit": {"requestsPerSecond": 0.29, "burst": 4},
            "methodRateLimits": [
                {"method": "GET", "path": "/users/{id}", "target": "users", "requestsPerSecond": 999999999.999999, "replacesGeneral": false},
                {"method": "*", "path": "/files/*", "requestsPerSecond": 0.000001, "burst": 1, "replacesGeneral": true}
            ],
            "quotas": [
                {"name": "weekly", "limit": 9007199254740992u64, "unit": "WEEK", "timeZone": "Asia/Seoul", "weekStart": "SUNDAY",
                 "onBreach": "ALLOW", "countStatuses": ["2xx", "404", "others"], "charge": "AT_REPORT"},
                {"name": "daily", "limit": 0, "unit": "DAY", "timeZone": "UTC", "onBreach": "REJECT", "charge": "AT_CHECK"}
            ],
            "counterScope": "KEY"
        }]
    })
}

/// A store that holds the plan `full`, a subscriber and a key with dates.
fn store() -> CatalogStore {
    let store = CatalogStore::new(HashKey([1; 32]), None);
    let key = keys::api_key(pb::ApiKey {
        id: "k".into(),
        subscriber: "acme".into(),
        not_before: Some(Timestamp { seconds: 5, nanos: 7 }),
        expire_time: Some(Timestamp { seconds: 6, nanos: 0 }),
        ..pb::ApiKey::default()
    })
    .unwrap();
    let target = targets::target(pb::Target {
        id: "orders".into(),
        default_plan: "gold".into(),
        open_methods: vec![pb::OpenMethod { method: "get".into(), path: "/health".into() }],
        rate_limit: Some(pb::RateLimit { requests_per_second: 3.0, burst: None }),
        ..pb::Target::default()
    })
    .unwrap();
    let subscriber = subscribers::subscriber(pb::Subscriber {
        id: "acme".into(),
        plans: vec!["gold".into()],
        ..Default::default()
    })
    .unwrap();
    let now = Now { unix_ns: 1_500_000_000, steady_ns: 1 };
    let filled = store.edit(EditOptions::default(), now, |draft| {
        draft.create_plan(plans::plan(wire_plan(full())).unwrap())?;
        draft.replace_target(target)?;
        draft.create_subscriber(subscriber)?;
        draft.create_key(key, NewValue::Given("a-value-of-twenty-characters")).map(|_| ())
    });
    filled.unwrap();
    store
}

#[test]
fn what_is_shown_can_be_declared_again() {
    let catalog = store().snapshot();
    let gold = catalog.plans().get("gold").unwrap();
    let shown = plans::to_wire(gold);
    assert_eq!((shown.etag.as_str(), shown.revision), ("r1", 1));
    assert_eq!(shown.create_time, Some(Timestamp { seconds: 1, nanos: 500_000_000 }));
    let declared = wire_plan(full());
    assert_eq!(
        pb::UsagePlan {
            etag: String::new(),
            revision: 0,
            create_time: None,
            update_time: None,
            ..shown.clone()
        },
        declared
    );
    assert_eq!(plans::plan(shown).unwrap(), *gold.value.plan);

    let orders = catalog.targets().get("orders").unwrap();
    assert_eq!(orders.value.target.open_methods[0].method, "GET");
    assert_eq!(targets::target(targets::to_wire(orders)).unwrap(), *orders.value.target);
    let acme = catalog.subscribers().get("acme").unwrap();
    assert_eq!(subscribers::subscriber(subscribers::to_wire(acme)).unwrap(), acme.value);
    let key = catalog.keys().get("k").unwrap();
    let shown = keys::to_wire(key);
    assert_eq!((shown.last_four.as_str(), shown.enabled), ("ters", Some(true)));
    let again = keys::api_key(shown).unwrap();
    assert_eq!(
        (again.dates.not_before_ns, again.dates.expire_ns),
        (Some(5_000_000_007), Some(6_000_000_000))
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = json!({"id": "gold", "entitlements": [{
        "name": "all", "targets": ["t"],
        "methodRateLimits": [{"method": "get", "path": "/", "requestsPerSecond": 1}],
        "quotas": [{"name": "q", "limit": 1, "unit": "WEEK"}]
    }]});
    let plan = plans::plan(wire_plan(plan)).unwrap();
    assert_eq!((plan.about.name(&plan.id), plan.about.display_name.as_str()), ("gold", ""));
    let all = &plan.entitlements[0];
    assert_eq!(all.counter_scope, crate::decide::plan::CounterScope::Subscriber);
    assert_eq!(
        (all.method_rate_limits[0].method.as_str(), all.method_rate_limits[0].replaces_general),
        ("GET", true)
    );
    let quota = &all.quotas[0];
    assert_eq!(&*quota.time_zone, "UTC");
    assert_eq!(quota.week_start, crate::decide::plan::Weekday::Monday);
    assert_eq!(quota.on_breach, crate::decide::plan::OnBreach::Reject);
    assert_eq!(quota.charge, crate::decide::plan::Charge::AtCheck);
    assert_eq!(quota.count_statuses, None);
}

fn fields(mistakes: &[Invalid]) -> Vec<&str> {
    mistakes.iter().map(|one| one.field.as_str()).collect()
}

/// What is spoilt, the field that must be named, and a part of the reason.
type Case = (fn(&mut pb::Entitlement), &'static str, &'static str);

#[test]
fn what_no_plan_can_be_is_refused_by_field() {
    let cases: &[Case] = &[
        (|e| e.quotas[1].unit = 0, "entitlements[0].quotas[1].unit", "is needed: MINUTE, HOUR"),
        (|e| e.quotas[1].unit = 99, "entitlements[0].quotas[1].unit", "is needed"),
        (|e| e.quotas[0].unit = 0, "entitlements[0].quotas[0].unit", "is needed"),
        (|e| e.quotas[1].limit = None, "entitlements[0].quotas[1].limit", "is needed (0 refuses"),
        (|e| e.quotas[1].limit = Some(u64::MAX), "entitlements[0].quotas[1].limit", "2^53"),
        (
            |e| e.quotas[1].week_start = 1,
            "entitlements[0].quotas[1].week_start",
            "only for the unit WEEK",
        ),
        (
            |e| e.quotas[0].week_start = 8,
            "entitlements[0].quotas[0].week_start",
            "no value of the number 8",
        ),
        (
            |e| e.quotas[0].on_breach = -1,
            "entitlements[0].quotas[0].on_breach",
            "no value of the number -1",
        ),
        (
            |e| e.quotas[0].charge = 3,
            "entitlements[0].quotas[0].charge",
            "no value of the number 3",
        ),
        (
            |e| e.quotas[0].count_statuses[1] = "4x4".into(),
            "entitlements[0].quotas[0].count_statuses[1]",
            "not `4x4`",
        ),
        (|e| e.counter_scope = 9, "entitlements[0].counter_scope", "no value of the number 9"),
        (
            |e| e.rate_limit.as_mut().unwrap().requests_per_second = f64::NAN,
            "entitlements[0].rate_limit.requests_per_second",
            "finite",
        ),
        (
            |e| e.rate_limit.as_mut().unwrap().requests_per_second = -1.0,
            "entitlements[0].rate_limit.requests_per_second",
            "more than 0",
        ),
        (
            |e| e.rate_limit.as_mut().unwrap().burst = Some(0),
            "entitlements[0].rate_limit.burst",
            "at least 1",
        ),
        (
            |e| e.method_rate_limits[1].requests_per_second = f64::INFINITY,
            "entitlements[0].method_rate_limits[1].requests_per_second",
            "finite",
        ),
        (
            |e| e.method_rate_limits[0].path = String::new(),
            "entitlements[0].method_rate_limits[0].path",
            "is needed",
        ),
    ];
    for (spoil, field, reason) in cases {
        let mut plan = wire_plan(full());
        spoil(&mut plan.entitlements[0]);
        let mistakes = plans::plan(plan).unwrap_err();
        assert_eq!(fields(&mistakes), [*field], "{mistakes:?}");
        assert!(mistakes[0].reason.contains(reason), "{}", mistakes[0]);
    }
}

#[test]
fn mistakes_of_every_sort_are_reported_together() {
    let mut plan = wire_plan(full());
    plan.entitlements[0].quotas[1].unit = 0;
    plan.entitlements[0].rate_limit =
        Some(pb::RateLimit { requests_per_second: 0.0, burst: Some(0) });
    plan.description = "x".repeat(1 << 20);
    let expected = [
        "entitlements[0].rate_limit.requests_per_second",
        "entitlements[0].quotas[1].unit",
        "description",
        "entitlements[0].rate_limit.burst",
    ];
    assert_eq!(fields(&plans::plan(plan).unwrap_err()), expected);
}

#[test]
fn instants_have_bounds() {
    let last = u64::MAX / SECOND_NS;
    let cases = [
        (0, 0, Some(0)),
        (0, 999_999_999, Some(999_999_999)),
        (0, 1_000_000_000, None),
        (0, -1, None),
        (-1, 0, None),
        (i64::MAX, 0, None),
        (i64::try_from(last).unwrap(), 709_551_615, Some(u64::MAX)),
        (i64::try_from(last).unwrap(), 709_551_616, None),
    ];
    for (seconds, nanos, expected) in cases {
        let key = pb::ApiKey {
            id: "k".into(),
            subscriber: "s".into(),
            expire_time: Some(Timestamp { seconds, nanos }),
            ..Default::default()
        };
        match (keys::api_key(key), expected) {
            (Ok(key), Some(at_ns)) => assert_eq!(key.dates.expire_ns, Some(at_ns)),
            (Err(mistakes), None) => assert_eq!(fields(&mistakes), ["expire_time"]),
            (found, _) => panic!("{seconds} {nanos}: {found:?}"),
        }
    }
    assert_eq!(
        timestamp(u64::MAX),
        Timestamp { seconds: i64::try_from(last).unwrap(), nanos: 709_551_615 }
    );
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() })
}

#[test]
fn a_mask_says_what_is_replaced() {
    let catalog = store().snapshot();
    let gold = catalog.plans().get("gold").unwrap();
    let update =
        pb::UsagePlan { id: "gold".into(), display_name: "New".into(), ..Default::default() };
    let named =
        plans::updated(gold, update.clone(), mask(&["display_name", "labels", "etag"])).unwrap();
    assert_eq!(named.about.display_name, "New");
    assert!(
        named.about.labels.is_empty()
            && named.about.description == "All of it"
            && named.entitlements.len() == 1
    );
    for none in [None, mask(&[])] {
        let set = plans::updated(gold, update.clone(), none).unwrap();
        assert_eq!(set.about.display_name, "New");
        assert!(
            set.about.description == "All of it"
                && set.entitlements.len() == 1
                && !set.about.labels.is_empty(),
            "what is not set stays"
        );
    }
    let replaced = plans::updated(gold, update.clone(), mask(&["*"])).unwrap();
    assert!(replaced.about.description.is_empty() && replaced.entitlements.is_empty());
    let back = plans::updated(
        gold,
        pb::UsagePlan { id: "gold".into(), ..Default::default() },
        mask(&["display_name"]),
    )
    .unwrap();
    assert_eq!(back.about.name(&back.id), "gold", "emptied, it is the id");
    for wrong in ["colour", "entitlements.name", "entitlements[0]", ""] {
        let mistakes = plans::updated(gold, update.clone(), mask(&["labels", wrong])).unwrap_err();
        assert_eq!(fields(&mistakes), ["update_mask"], "{wrong:?}");
    }
}

#[test]
fn every_field_can_be_updated_alone() {
    let catalog = store().snapshot();
    let orders = catalog.targets().get("orders").unwrap();
    let empty = pb::Target { id: "orders".into(), ..Default::default() };
    for field in ["rate_limit", "open_methods", "default_plan"] {
        let updated = targets::updated(orders, empty.clone(), mask(&[field])).unwrap();
        let kept = [
            updated.rate_limit.is_some(),
            !updated.open_methods.is_empty(),
            updated.default_plan.is_some(),
        ];
        let expected = ["rate_limit", "open_methods", "default_plan"].map(|other| other != field);
        assert_eq!(kept, expected, "{field}");
    }
    let acme = catalog.subscribers().get("acme").unwrap();
    let updated = subscribers::updated(
        acme,
        pb::Subscriber { description: "d".into(), ..Default::default() },
        mask(&["description"]),
    )
    .unwrap();
    assert_eq!((updated.about.description.as_str(), updated.plans.len()), ("d", 1));

    let key = catalog.keys().get("k").unwrap();
    let disabled = pb::ApiKey { enabled: Some(false), ..Default::default() };
    let updated = keys::updated(key, disabled.clone(), mask(&["enabled"])).unwrap();
    assert!(
        !updated.enabled && updated.dates.expire_ns.is_some() && &*updated.subscriber == "acme"
    );
    let set = keys::updated(key, disabled.clone(), None).unwrap();
    assert!(!set.enabled && set.dates.expire_ns.is_some() && &*set.subscriber == "acme");
    let replaced = keys::updated(key, disabled, mask(&["*"])).unwrap();
    assert!(
        !replaced.enabled && replaced.dates.expire_ns.is_none() && &*replaced.subscriber == "acme",
        "the subscriber may be left out"
    );
    let named = pb::ApiKey { display_name: "K".into(), ..Default::default() };
    assert!(
        !keys::updated(&switched_off(key), named, None).unwrap().enabled,
        "a key that is switched off stays so"
    );
    let late =
        pb::ApiKey { expire_time: Some(Timestamp { seconds: 5, nanos: 7 }), ..Default::default() };
    assert_eq!(
        fields(&keys::updated(key, late, mask(&["expire_time"])).unwrap_err()),
        ["expire_time"],
        "the whole key is checked"
    );
}

fn switched_off(key: &Stored<KeyEntry>) -> Stored<KeyEntry> {
    let mut off = key.clone();
    off.value.key.enabled = false;
    off
}

#[test]
fn a_rate_without_a_burst_leaves_the_burst_unless_the_whole_limit_is_named() {
    let catalog = store().snapshot();
    let mut orders = (**catalog.targets().get("orders").unwrap()).clone();
    let mut target = (*orders.value.target).clone();
    target.rate_limit = Some(Rate { rate: MicroRate(1_000_000), burst: Some(40) });
    orders.value = CompiledTarget::new(Arc::new(target)).unwrap();
    let faster = |burst| pb::Target {
        id: "orders".into(),
        rate_limit: Some(pb::RateLimit { requests_per_second: 50.0, burst }),
        ..Default::default()
    };
    for (burst, paths, after) in [
        (None, &[][..], Some(40)),
        (Some(60), &[], Some(60)),
        (None, &["rate_limit.requests_per_second"], Some(40)),
        (None, &["rate_limit"], None),
        (None, &["*"], None),
    ] {
        let updated = targets::updated(&orders, faster(burst), mask(paths)).unwrap();
        assert_eq!(
            updated.rate_limit,
            Some(Rate { rate: MicroRate(50_000_000), burst: after }),
            "{burst:?} {paths:?}"
        );
    }
}

#[test]
fn a_set_to_apply_says_the_fields_that_are_set_or_named() {
    let key = pb::ApiKeyWithValue {
        api_key: Some(pb::ApiKey { id: "k".into(), ..Default::default() }),
        ..Default::default()
    };
    let acme = pb::SubscriberWithKeys {
        subscriber: Some(pb::Subscriber { id: "acme".into(), ..Default::default() }),
        keys: vec![key],
        mask: None,
    };
    let request = pb::ApplyRequest {
        targets: vec![pb::Target { id: "a".into(), description: "d".into(), ..Default::default() }],
        subscribers: vec![acme.clone(), pb::SubscriberWithKeys { mask: mask(&["plans"]), ..acme }],
        ..Default::default()
    };
    let set = apply::declared(request.clone()).unwrap();
    let has = |fields: Fields, wanted: &[Field]| {
        let all = [
            Field::DisplayName,
            Field::Description,
            Field::Plans,
            Field::Keys,
            Field::Enabled,
            Field::RateLimit,
        ];
        all.iter()
            .for_each(|field| assert_eq!(fields.has(*field), wanted.contains(field), "{field:?}"));
    };
    has(set.targets[0].fields, &[Field::Description]);
    has(set.subscribers[0].subscriber.fields, &[Field::Keys]);
    has(set.subscribers[1].subscriber.fields, &[Field::Plans]);
    has(set.subscribers[0].keys[0].key.fields, &[]);

    for (spoil, field) in [
        (
            (|r| r.target_masks = vec![FieldMask::default(); 2]) as fn(&mut pb::ApplyRequest),
            "target_masks",
        ),
        (|r| r.target_masks = vec![mask(&["plans"]).unwrap()], "targets[0].mask"),
        (|r| r.subscribers[0].mask = mask(&["keys", "enabled"]), "subscribers[0].subscriber.mask"),
        (|r| r.prune_all = true, "prune_all"),
        (|r| r.prune_kinds = vec![1], "prune_kinds"),
        (|r| (r.prune, r.prune_kinds) = (true, vec![9]), "prune_kinds[0]"),
        (|r| *r = pb::ApplyRequest { prune: true, ..Default::default() }, "prune"),
    ] {
        let mut spoilt = request.clone();
        spoil(&mut spoilt);
        assert_eq!(fields(&apply::declared(spoilt).unwrap_err()), [field]);
    }
}

#[test]
fn prune_is_of_the_kinds_that_are_named() {
    let kinds = |request: pb::ApplyRequest| {
        apply::declared(pb::ApplyRequest { prune: true, ..request }).unwrap().prune.kinds
    };
    let plans = pb::ApplyRequest { usage_plans: vec![wire_plan(full())], ..Default::default() };
    assert_eq!(kinds(plans.clone()), [Kind::Plan]);
    let and_none =
        pb::ApplyRequest { prune_kinds: vec![pb::apply_request::Kind::Subscriber.into()], ..plans };
    assert_eq!(kinds(and_none), [Kind::Subscriber, Kind::Plan]);
}

#[test]
fn a_set_to_apply_names_its_mistakes_by_place() {
    let key = |id: &str, subscriber: &str| pb::ApiKeyWithValue {
        api_key: Some(pb::ApiKey {
            id: id.into(),
            subscriber: subscriber.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = pb::ApplyRequest {
        targets: vec![pb::Target { id: "-".into(), ..Default::default() }],
        usage_plans: vec![wire_plan(full()), pb::UsagePlan::default()],
        subscribers: vec![
            pb::SubscriberWithKeys::default(),
            pb::SubscriberWithKeys {
                subscriber: Some(pb::Subscriber { id: "a b".into(), ..Default::default() }),
                keys: vec![key("k", "other"), pb::ApiKeyWithValue::default()],
                mask: None,
            },
            pb::SubscriberWithKeys {
                subscriber: Some(pb::Subscriber { id: "acme".into(), ..Default::default() }),
                keys: vec![key("k", "acme"), key("", "")],
                mask: None,
            },
        ],
        ..Default::default()
    };
    let mistakes = apply::declared(request).unwrap_err();
    let expected = [
        "targets[0].id",
        "usage_plans[1].id",
        "subscribers[0].subscriber",
        "subscribers[1].subscriber.id",
        "subscribers[1].keys[0].api_key.subscriber",
        "subscribers[1].keys[1].api_key",
        "subscribers[2].keys[1].api_key.id",
    ];
    assert_eq!(fields(&mistakes), expected);
}
