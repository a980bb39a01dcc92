use serde_json::json;

use super::*;
use crate::grpc::convert;
use crate::grpc::pb::tollgate as pb;

#[test]
fn messages_go_to_json_and_back() {
    let json = json!({
        "id": "gold",
        "displayName": "Gold",
        "labels": {"tier": "1"},
        "entitlements": [{
            "name": "all",
            "targets": ["orders"],
            "rateLimit": {"requestsPerSecond": 0.29, "burst": 4},
            "methodRateLimits": [{"method": "GET", "path": "/users/{id}", "requestsPerSecond": 5.0, "replacesGeneral": false}],
            "quotas": [{"name": "daily", "limit": 0, "unit": "DAY", "onBreach": "ALLOW", "countStatuses": ["2xx"], "charge": "AT_REPORT"}],
            "counterScope": "KEY"
        }],
        "revision": 7,
        "createTime": "2026-11-22T00:00:00.000000005Z"
    });
    let plan: pb::UsagePlan = from_json("tollgate.v1.UsagePlan", json.clone()).unwrap();
    assert_eq!(plan.entitlements[0].quotas[0].limit, Some(0));
    assert_eq!(plan.create_time.as_ref().map(|time| time.nanos), Some(5));
    assert_eq!(to_json("tollgate.v1.UsagePlan", &plan).unwrap(), json);
}

#[test]
fn proto_names_and_texts_of_numbers_are_read_too() {
    let target = json!({"id": "orders", "display_name": "Orders", "rate_limit": {"requests_per_second": "5", "burst": "6"}});
    let target: pb::Target = from_json("tollgate.v1.Target", target).unwrap();
    assert_eq!(target.display_name, "Orders");
    assert_eq!(target.rate_limit, Some(pb::RateLimit { requests_per_second: 5.0, burst: Some(6) }));
}

#[test]
fn caller_controlled_fields_go_through_text() {
    let request: pb::CheckRequest = from_json("tollgate.v1.CheckRequest", json!({"apiKey": "k", "target": "t", "path": "/é"})).unwrap();
    assert_eq!((request.api_key.as_ref(), request.path.as_ref()), (&b"k"[..], "/é".as_bytes()));
}

#[test]
fn an_error_names_the_field() {
    let cases = [
        (json!({"entitlements": [{"name": "a"}, {"quotas": [{"unit": "FORTNIGHT"}]}]}), "entitlements[1].quotas[0].unit: "),
        (json!({"entitlements": [{"rateLimit": {"requestsPerSecond": "fast"}}]}), "entitlements[0].rateLimit.requestsPerSecond: "),
        (json!({"entitlements": [{"rateLimit": {"burst": -1}}]}), "entitlements[0].rateLimit.burst: "),
        (json!({"entitlements": [{"rateLimit": {"burst": 1.5}}]}), "entitlements[0].rateLimit.burst: "),
        (json!({"entitlements": [{"rateLimit": 5}]}), "entitlements[0].rateLimit must be an object, not a number"),
        (json!({"entitlements": [5]}), "entitlements[0] must be an object, not a number"),
        (json!({"entitlements": [{"targets": "orders"}]}), "entitlements[0].targets must be a list, not a text"),
        (json!({"entitlements": [{"targets": [{"id": "x"}]}]}), "entitlements[0].targets: "),
        (json!({"entitlements": [{"rate": 5}]}), "entitlements[0].rate is not a field of Entitlement"),
        (json!({"createTime": "yesterday"}), "createTime: "),
        (json!({"labels": {"a": 5}}), "labels: "),
        (json!([]), "must be an object, not a list"),
    ];
    for (json, expected) in cases {
        let error = from_json::<pb::UsagePlan>("tollgate.v1.UsagePlan", json.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{json}: {error}");
    }
    assert!(from_json::<pb::UsagePlan>("tollgate.v1.Nothing", json!({})).unwrap_err().contains("tollgate.v1.Nothing"));
}

fn file() -> Value {
    json!({
        "targets": [
            {"id": "orders/prod", "rateLimit": {"requestsPerSecond": 5000, "burst": 5000}, "defaultPlan": "gold"},
            "users/prod"
        ],
        "plans": [{
            "id": "gold",
            "displayName": "Gold",
            "entitlements": [{
                "name": "everything",
                "targets": ["orders/prod", "users/prod"],
                "rateLimit": {"requestsPerSecond": 20, "burst": 40},
                "methodRateLimits": [{"method": "GET", "path": "/users/{id}", "requestsPerSecond": 5, "burst": 5}],
                "quotas": [
                    {"name": "daily", "limit": 100, "unit": "DAY", "onBreach": "REJECT"},
                    {"name": "monthly", "limit": 2000, "unit": "MONTH", "timeZone": "Asia/Seoul", "onBreach": "ALLOW",
                     "countStatuses": ["2xx", "3xx", "4xx"], "charge": "AT_CHECK"}
                ]
            }]
        }, {
            "displayName": "Free",
            "locks": [{"type": "FULL"}],
            "entitlements": [{"name": "some", "targets": [{"deploymentId": "orders/prod"}], "quota": {"value": 10, "unit": "DAY"}}]
        }],
        "subscribers": [
            {"id": "acme", "plans": ["gold", "free"], "keys": [{"id": "acme-1", "value": "an-imported-key-of-20-characters-or-more"}]},
            {"id": "idle"}
        ]
    })
}

#[test]
fn a_declarative_file_becomes_a_set_to_apply() {
    let Read { message, notes } = declared(file()).unwrap();
    assert_eq!(notes, ["plans[1]: locks has no meaning here and was left out"]);
    let set = convert::apply::declared(message).unwrap();
    assert_eq!(set.targets.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["orders/prod", "users/prod"]);
    assert_eq!(set.plans.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["gold", "free"]);
    let acme = &set.subscribers[0];
    assert_eq!((&*acme.keys[0].key.id, &*acme.keys[0].key.subscriber), ("acme-1", "acme"));
    assert_eq!(acme.keys[0].value.as_deref(), Some("an-imported-key-of-20-characters-or-more"));
    assert!(set.subscribers[1].keys.is_empty());
    assert!(!set.prune);
    assert_eq!(declared(Value::Null).unwrap().message, pb::ApplyRequest::default());
}

/// What is spoilt, and what the error must say.
type Case = (fn(&mut Value), &'static str);

#[test]
fn an_error_in_a_file_names_the_place_in_the_file() {
    let cases: &[Case] = &[
        (|f| f["plan"] = json!([]), "plan is not known"),
        (|f| f["targets"][0]["rateLimit"]["perSecond"] = json!(1), "targets[0]: rateLimit.perSecond is not a field of RateLimit"),
        (|f| f["targets"] = json!({}), "targets must be a list, not an object"),
        (|f| f["plans"][1]["entitlements"][0]["quota"]["unit"] = Value::Null, "plans[1]: entitlements[0].quota.unit is needed"),
        (|f| f["plans"][0] = json!("gold"), "plans[0]: a plan must be an object, not a text"),
        (|f| f["subscribers"][0]["plan"] = json!("gold"), "subscribers[0]: plan is not a field of Subscriber"),
        (|f| f["subscribers"][0]["keys"] = json!("x"), "subscribers[0]: keys must be a list, not a text"),
        (|f| f["subscribers"][0]["keys"][0]["value"] = json!(5), "subscribers[0]: keys[0]: value must be a text, not a number"),
        (|f| f["subscribers"][0]["keys"][0]["enabled"] = json!("no"), "subscribers[0]: keys[0]: enabled: "),
        (|f| f["subscribers"][1] = json!("idle"), "subscribers[1]: must be an object, not a text"),
        (|f| *f = json!([]), "the file must hold `targets`, `plans` and `subscribers`, not a list"),
    ];
    for (row, (spoil, expected)) in cases.iter().enumerate() {
        let mut file = file();
        spoil(&mut file);
        let error = declared(file).unwrap_err();
        assert!(error.starts_with(expected), "case {row}: {error:?} does not start with {expected:?}");
    }
}
