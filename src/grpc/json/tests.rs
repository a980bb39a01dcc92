use prost_types::FieldMask;
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
    let back = to_json("tollgate.v1.UsagePlan", &plan).unwrap();
    holds(&back, &json);
    assert_eq!(from_json::<pb::UsagePlan>("tollgate.v1.UsagePlan", back).unwrap(), plan);
}

/// All that `part` says is in `whole`.
fn holds(whole: &Value, part: &Value) {
    match part {
        Value::Object(fields) => fields.iter().for_each(|(name, part)| holds(&whole[name], part)),
        Value::Array(items) => {
            assert_eq!(whole.as_array().map(Vec::len), Some(items.len()), "{whole} {part}");
            items.iter().enumerate().for_each(|(i, part)| holds(&whole[i], part));
        }
        part => assert_eq!(whole, part),
    }
}

#[test]
fn every_field_is_there_for_programs() {
    let nothing =
        to_json("tollgate.v1.ListUsagePlansResponse", &pb::ListUsagePlansResponse::default())
            .unwrap();
    assert_eq!(nothing, json!({"usagePlans": [], "nextPageToken": "", "totalSize": 0}));
    let usage =
        pb::GetUsageResponse { quotas: vec![pb::QuotaUsage::default()], ..Default::default() };
    let usage = to_json("tollgate.v1.GetUsageResponse", &usage).unwrap();
    let quota = json!({
        "subscriber": "", "apiKey": "", "plan": "", "entitlement": "", "quota": "", "unit": "UNIT_UNSPECIFIED", "periodStart": null,
        "periodEnd": null, "limit": 0, "granted": 0, "used": 0, "remaining": 0, "lost": 0
    });
    assert_eq!(usage["quotas"], json!([quota]));
    assert_eq!(usage["days"], json!([]));
    let plan =
        pb::UsagePlan { entitlements: vec![pb::Entitlement::default()], ..Default::default() };
    let plan = to_json("tollgate.v1.UsagePlan", &plan).unwrap();
    assert_eq!((&plan["labels"], &plan["createTime"]), (&json!({}), &Value::Null));
    let entitlement = &plan["entitlements"][0];
    assert_eq!(
        (&entitlement["quotas"], &entitlement["rateLimit"], &entitlement["counterScope"]),
        (&json!([]), &Value::Null, &json!("COUNTER_SCOPE_UNSPECIFIED"))
    );
    let limited = pb::Target {
        rate_limit: Some(pb::RateLimit { requests_per_second: 1.0, burst: None }),
        ..Default::default()
    };
    assert_eq!(
        to_json("tollgate.v1.Target", &limited).unwrap()["rateLimit"],
        json!({"requestsPerSecond": 1.0, "burst": null})
    );
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
    let request: pb::CheckRequest =
        from_json("tollgate.v1.CheckRequest", json!({"apiKey": "k", "target": "t", "path": "/é"}))
            .unwrap();
    assert_eq!((request.api_key.as_ref(), request.path.as_ref()), (&b"k"[..], "/é".as_bytes()));
}

#[test]
fn an_error_names_the_field() {
    let cases = [
        (
            json!({"entitlements": [{"name": "a"}, {"quotas": [{"unit": "FORTNIGHT"}]}]}),
            "entitlements[1].quotas[0].unit must be one of MINUTE, HOUR, DAY, WEEK, MONTH, YEAR, not \"FORTNIGHT\"",
        ),
        (
            json!({"entitlements": [{"rateLimit": {"requestsPerSecond": "fast"}}]}),
            "entitlements[0].rateLimit.requestsPerSecond must be a number, not \"fast\"",
        ),
        (
            json!({"entitlements": [{"rateLimit": {"burst": -1}}]}),
            "entitlements[0].rateLimit.burst must be a whole number, 0 or more, not -1",
        ),
        (
            json!({"entitlements": [{"rateLimit": {"burst": 1.5}}]}),
            "entitlements[0].rateLimit.burst must be a whole number, 0 or more, not 1.5",
        ),
        (
            json!({"entitlements": [{"rateLimit": 5}]}),
            "entitlements[0].rateLimit must be an object, not a number",
        ),
        (json!({"entitlements": [5]}), "entitlements[0] must be an object, not a number"),
        (
            json!({"entitlements": [{"targets": "orders"}]}),
            "entitlements[0].targets must be a list, not a text",
        ),
        (
            json!({"entitlements": [{"targets": [{"id": "x"}]}]}),
            "entitlements[0].targets[0] must be a text, not an object",
        ),
        (
            json!({"entitlements": [{"rate": 5}]}),
            "entitlements[0].rate is not a field of Entitlement: it has name, description, targets, rateLimit, ",
        ),
        (
            json!({"createTime": "yesterday"}),
            "createTime must be an instant such as 2026-11-22T09:30:00Z, not \"yesterday\"",
        ),
        (json!({"labels": {"a": 5}}), "labels.a must be a text, not 5: put it in quotes"),
        (
            json!({"entitlements": [{"quotas": [{"unit": "MINUTES"}]}]}),
            "entitlements[0].quotas[0].unit must be one of MINUTE, HOUR, DAY, WEEK, MONTH, YEAR, not \"MINUTES\" (did you mean MINUTE?)",
        ),
        (
            json!({"entitlements": [{"rateLimits": 5}]}),
            "entitlements[0].rateLimits is not a field of Entitlement: did you mean `rateLimit`?",
        ),
        (
            json!({"displayName": "a", "display_name": "b"}),
            "display_name and `displayName` are the same field",
        ),
        (json!({"displayName": true}), "displayName must be a text, not true: put it in quotes"),
        (json!([]), "must be an object, not a list"),
    ];
    for (json, expected) in cases {
        let error = from_json::<pb::UsagePlan>("tollgate.v1.UsagePlan", json.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{json}: {error}");
    }
    assert!(
        from_json::<pb::UsagePlan>("tollgate.v1.Nothing", json!({}))
            .unwrap_err()
            .contains("tollgate.v1.Nothing")
    );
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
    let File { message, notes, kinds, places } = declared(file()).unwrap();
    assert_eq!(
        (places.targets, places.plans, places.subscribers),
        (vec![0, 1], vec![0, 1], vec![0, 1])
    );
    assert_eq!(
        kinds,
        [
            pb::apply_request::Kind::Plan,
            pb::apply_request::Kind::Subscriber,
            pb::apply_request::Kind::Target
        ]
    );
    assert_eq!(notes, ["plans[1]: locks has no meaning here and was left out"]);
    let set = convert::apply::declared(message).unwrap();
    assert_eq!(
        set.targets.iter().map(|one| &*one.value.id).collect::<Vec<_>>(),
        ["orders/prod", "users/prod"]
    );
    assert_eq!(set.plans.iter().map(|one| &*one.value.id).collect::<Vec<_>>(), ["gold", "free"]);
    let acme = &set.subscribers[0];
    assert_eq!(
        (&*acme.keys[0].key.value.id, &*acme.keys[0].key.value.subscriber),
        ("acme-1", "acme")
    );
    assert_eq!(acme.keys[0].value.as_deref(), Some("an-imported-key-of-20-characters-or-more"));
    assert!(set.subscribers[1].keys.is_empty());
    assert!(set.prune.kinds.is_empty());
    assert_eq!(declared(Value::Null).unwrap().message, pb::ApplyRequest::default());
}

/// What is spoilt, and what the error must say.
type Case = (fn(&mut Value), &'static str);

#[test]
fn an_error_in_a_file_names_the_place_in_the_file() {
    let cases: &[Case] = &[
        (
            |f| f["plan"] = json!([]),
            "plan is not known: a file holds `targets`, `plans` and `subscribers`; did you mean `plans`?",
        ),
        (
            |f| f["targets"][0]["rateLimit"]["perSecond"] = json!(1),
            "targets[0].rateLimit.perSecond is not a field of RateLimit",
        ),
        (|f| f["targets"] = json!({}), "targets must be a list, not an object"),
        (
            |f| f["targets"] = Value::Null,
            "targets must be a list, not nothing: leave it out to say nothing, or write [] for none",
        ),
        (
            |f| f["targets"][1] = json!({"id": "x", "openMethods": null}),
            "targets[1].openMethods must be a list, not nothing",
        ),
        (
            |f| f["plans"][1]["entitlements"][0]["quota"]["unit"] = Value::Null,
            "plans[1].entitlements[0].quota.unit is needed",
        ),
        (|f| f["plans"][0] = json!("gold"), "plans[0] a plan must be an object, not a text"),
        (
            |f| f["plans"][0]["labels"] = Value::Null,
            "plans[0].labels must be an object, not nothing",
        ),
        (
            |f| f["subscribers"][0]["plan"] = json!("gold"),
            "subscribers[0].plan is not a field of Subscriber: did you mean `plans`?",
        ),
        (
            |f| f["subscribers"][0]["plans"] = Value::Null,
            "subscribers[0].plans must be a list, not nothing",
        ),
        (
            |f| f["subscribers"][0]["keys"] = json!("x"),
            "subscribers[0].keys must be a list, not a text",
        ),
        (
            |f| f["subscribers"][0]["keys"] = Value::Null,
            "subscribers[0].keys must be a list, not nothing",
        ),
        (
            |f| f["subscribers"][0]["keys"][0]["value"] = json!(5),
            "subscribers[0].keys[0].value must be a text, not a number",
        ),
        (
            |f| f["subscribers"][0]["keys"][0]["enabled"] = json!("no"),
            "subscribers[0].keys[0].enabled must be true or false, not \"no\"",
        ),
        (
            |f| f["subscribers"][0]["keys"][0]["enabled"] = Value::Null,
            "subscribers[0].keys[0].enabled must be true or false, not nothing",
        ),
        (|f| f["subscribers"][1] = json!("idle"), "subscribers[1] must be an object, not a text"),
        (
            |f| *f = json!([]),
            " the file must hold `targets`, `plans` and `subscribers`, not a list",
        ),
    ];
    for (row, (spoil, expected)) in cases.iter().enumerate() {
        let mut file = file();
        spoil(&mut file);
        let mistakes = declared(file).unwrap_err();
        assert_eq!(mistakes.len(), 1, "case {row}: {mistakes:?}");
        let error = mistakes[0].to_string();
        assert!(
            error.starts_with(expected),
            "case {row}: {error:?} does not start with {expected:?}"
        );
    }
}

#[test]
fn all_mistakes_of_a_file_are_found_at_once() {
    let mut file = file();
    file["targets"][0]["rateLimit"]["perSecond"] = json!(1);
    file["plans"][0]["entitlements"][0]["quotas"][0]["unit"] = json!("DAYS");
    file["plans"][1]["entitlements"][0]["quota"]["resetPolicy"] = json!("NEVER");
    file["plans"][1]["entitlements"][0]["color"] = json!("red");
    file["subscribers"][0]["keys"][0]["value"] = json!(5);
    file["subscribers"][0]["keys"][0]["enable"] = json!(true);
    file["subscribers"][0]["nam"] = json!("x");
    let fields: Vec<String> =
        declared(file).unwrap_err().into_iter().map(|mistake| mistake.field).collect();
    let expected = [
        "plans[0].entitlements[0].quotas[0].unit",
        "plans[1].entitlements[0].quota.resetPolicy",
        "plans[1].entitlements[0].color",
        "subscribers[0].nam",
        "subscribers[0].keys[0].enable",
        "subscribers[0].keys[0].value",
        "targets[0].rateLimit.perSecond",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn what_can_be_read_is_read_beside_what_cannot() {
    let mut file = file();
    file["targets"][0]["colour"] = json!("red");
    file["subscribers"][1]["plans"] = json!("gold");
    let (read, mistakes) = declared_in_part(file);
    assert_eq!(mistakes.len(), 2);
    assert_eq!(
        (read.places.targets, read.places.plans, read.places.subscribers),
        (vec![1], vec![0, 1], vec![0])
    );
    assert_eq!(
        (
            read.message.targets.len(),
            read.message.target_masks.len(),
            read.message.usage_plans.len()
        ),
        (1, 1, 2)
    );
}

#[test]
fn a_file_says_the_fields_that_it_names() {
    let file = json!({
        "targets": [{"id": "a", "rateLimit": {"requestsPerSecond": 5}}, {"id": "b", "rate_limit": null, "defaultPlan": ""}, "c"],
        "plans": [{"displayName": "Gold", "freeformTags": {"a": "b"}}, {"id": "free", "entitlements": []}],
        "subscribers": [
            {"id": "acme", "keys": [{"id": "k", "enabled": false, "expireTime": null}]},
            {"id": "zeta", "plans": [], "keys": []},
        ]
    });
    let message = declared(file).unwrap().message;
    let paths =
        |masks: &[FieldMask]| masks.iter().map(|mask| mask.paths.join(",")).collect::<Vec<_>>();
    assert_eq!(
        paths(&message.target_masks),
        ["rate_limit.requests_per_second", "rate_limit,default_plan", ""]
    );
    assert_eq!(paths(&message.usage_plan_masks), ["display_name,labels", "entitlements"]);
    let masks: Vec<FieldMask> =
        message.subscribers.iter().map(|one| one.mask.clone().unwrap()).collect();
    assert_eq!(paths(&masks), ["keys", "plans,keys"]);
    assert_eq!(
        message.subscribers[0].keys[0].mask.as_ref().unwrap().paths,
        ["enabled", "expire_time"]
    );
}
