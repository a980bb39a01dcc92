use serde_json::{Value, json};

use crate::grpc::json::{Read, usage_plan};
use crate::grpc::pb::tollgate as pb;
use pb::quota::{OnBreach, Unit};

/// A plan as the cloud's own tools write it: two tiers of service over three deployments.
fn gold() -> Value {
    json!({
        "displayName": "Gold Plan (EU)",
        "compartmentId": "ocid1.compartment.oc1..aaaa",
        "freeformTags": {"team": "orders"},
        "definedTags": {"Operations": {"CostCenter": 42, "Critical": true}},
        "systemTags": {},
        "locks": [{"type": "DELETE", "message": "keep"}],
        "lifecycleState": "ACTIVE",
        "entitlements": [
            {
                "name": "reads",
                "description": "Everything that reads",
                "rateLimit": {"value": 20, "unit": "SECOND"},
                "quota": {"value": 1000, "unit": "DAY", "resetPolicy": "CALENDAR", "operationOnBreach": "REJECT"},
                "targets": [{"deploymentId": "ocid1.apideployment.oc1.iad.one"}, {"deploymentId": "ocid1.apideployment.oc1.iad.two"}]
            },
            {
                "name": "writes",
                "rateLimit": null,
                "quota": {"value": 50, "unit": "MONTH", "resetPolicy": "CALENDAR", "operationOnBreach": "ALLOW"},
                "targets": [{"deploymentId": "ocid1.apideployment.oc1.iad.three"}]
            }
        ]
    })
}

#[test]
fn the_clouds_file_is_read_as_it_is() {
    let Read { message, notes, mask: _ } = usage_plan(gold()).unwrap();
    assert_eq!(
        (message.id.as_str(), message.display_name.as_str()),
        ("gold-plan-eu", "Gold Plan (EU)")
    );
    let labels: Vec<_> =
        message.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("Operations.CostCenter", "42"),
        ("Operations.Critical", "true"),
        ("compartmentId", "ocid1.compartment.oc1..aaaa"),
        ("team", "orders"),
    ];
    assert_eq!(labels, expected);
    let [reads, writes] = message.entitlements.as_slice() else { panic!("{message:?}") };
    assert_eq!(reads.rate_limit, Some(pb::RateLimit { requests_per_second: 20.0, burst: None }));
    assert_eq!(
        reads.targets,
        ["ocid1.apideployment.oc1.iad.one", "ocid1.apideployment.oc1.iad.two"]
    );
    assert_eq!(reads.quotas.len(), 1);
    assert_eq!(
        (reads.quotas[0].name.as_str(), reads.quotas[0].limit, reads.quotas[0].unit()),
        ("day", Some(1000), Unit::Day)
    );
    assert_eq!(reads.quotas[0].on_breach(), OnBreach::Reject);
    assert_eq!(writes.rate_limit, None);
    assert_eq!(
        (writes.quotas[0].name.as_str(), writes.quotas[0].on_breach()),
        ("month", OnBreach::Allow)
    );
    assert_eq!(
        notes,
        [
            "locks has no meaning here and was left out",
            "lifecycleState has no meaning here and was left out"
        ]
    );
    assert!(crate::grpc::convert::plans::plan(message).is_ok());
}

#[test]
fn one_target_in_two_entitlements_is_refused_by_both_names() {
    let mut twice = gold();
    twice["entitlements"][1]["targets"] =
        json!([{"deploymentId": "ocid1.apideployment.oc1.iad.one"}]);
    let mistakes =
        crate::grpc::convert::plans::plan(usage_plan(twice).unwrap().message).unwrap_err();
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].field, "entitlements[1].targets[0]");
    assert!(
        mistakes[0].reason.contains("`writes`") && mistakes[0].reason.contains("`reads`"),
        "{}",
        mistakes[0]
    );
}

#[test]
fn both_vocabularies_mix() {
    let plan = json!({
        "id": "mixed",
        "labels": null,
        "freeformTags": {"a": "b"},
        "entitlements": [{
            "name": "all",
            "targets": ["orders", {"deploymentId": "users"}],
            "rateLimit": {"value": 0.5, "unit": "SECOND", "burst": 3},
            "quotas": [{"name": "daily", "limit": "7", "unit": "DAY"}],
            "quota": {"name": "yearly", "value": 9, "unit": "YEAR"}
        }]
    });
    let Read { message, notes, mask: _ } = usage_plan(plan).unwrap();
    assert!(notes.is_empty());
    assert_eq!(message.labels["a"], "b");
    let all = &message.entitlements[0];
    assert_eq!(all.targets, ["orders", "users"]);
    assert_eq!(all.rate_limit, Some(pb::RateLimit { requests_per_second: 0.5, burst: Some(3) }));
    let quotas: Vec<_> =
        all.quotas.iter().map(|quota| (quota.name.as_str(), quota.limit)).collect();
    assert_eq!(quotas, [("daily", Some(7)), ("yearly", Some(9))]);
}

/// What is spoilt, and what the error must say.
type Case = (fn(&mut Value), &'static str);

#[test]
fn what_cannot_be_said_here_is_refused_by_field() {
    let cases: &[Case] = &[
        (
            |p| p["entitlements"][0]["rateLimit"]["unit"] = json!("MINUTE"),
            "entitlements[0].rateLimit.unit must be SECOND, not \"MINUTE\"",
        ),
        (
            |p| p["entitlements"][0]["rateLimit"]["requestsPerSecond"] = json!(1),
            "entitlements[0].rateLimit.value and `requestsPerSecond` say the same",
        ),
        (
            |p| p["entitlements"][1]["quota"]["resetPolicy"] = json!("ROLLING"),
            "entitlements[1].quota.resetPolicy must be CALENDAR, not \"ROLLING\"",
        ),
        (
            |p| p["entitlements"][1]["quota"]["unit"] = Value::Null,
            "entitlements[1].quota.unit is needed",
        ),
        (
            |p| p["entitlements"][1]["quota"]["limit"] = json!(1),
            "entitlements[1].quota.value and `limit` say the same",
        ),
        (
            |p| p["entitlements"][1]["quota"]["unit"] = json!("FORTNIGHT"),
            "entitlements[1].quotas[0].unit",
        ),
        (
            |p| p["entitlements"][1]["quota"]["operationOnBreach"] = json!("WARN"),
            "entitlements[1].quotas[0].onBreach",
        ),
        (
            |p| p["entitlements"][1]["quota"] = json!(5),
            "entitlements[1].quota must be an object, not a number",
        ),
        (
            |p| p["entitlements"][0]["targets"][1] = json!({"gatewayId": "x"}),
            "entitlements[0].targets[1].gatewayId cannot be kept",
        ),
        (
            |p| p["entitlements"][0]["targets"][1] = json!({"deploymentId": 5}),
            "entitlements[0].targets[1].deploymentId must be a text",
        ),
        (
            |p| p["entitlements"][0]["targets"][1] = json!({}),
            "entitlements[0].targets[1].deploymentId is needed",
        ),
        (|p| p["freeformTags"] = json!(["a"]), "freeformTags must be an object, not a list"),
        (|p| p["freeformTags"]["team"] = json!({"x": 1}), "freeformTags.team must be a text"),
        (
            |p| p["definedTags"]["Operations"] = json!("x"),
            "definedTags.Operations must be an object, not a text",
        ),
        (
            |p| p["freeformTags"]["compartmentId"] = json!("other"),
            "freeformTags.compartmentId becomes the label `compartmentId`",
        ),
        (
            |p| p["labels"] = json!({"team": "users"}),
            "freeformTags.team becomes the label `team`, which has another value already",
        ),
        (
            |p| p["displayName"] = json!("골드"),
            "id is needed: the `displayName` \"골드\" holds no letters",
        ),
        (|p| p["displayName"] = Value::Null, "id is needed, or a `displayName`"),
        (|p| p["colour"] = json!("red"), "colour is not a field of UsagePlan"),
        (
            |p| p["entitlements"][0]["color"] = json!("red"),
            "entitlements[0].color is not a field of Entitlement",
        ),
        (|p| p["entitlements"] = json!({}), "entitlements must be a list"),
    ];
    for (row, (spoil, expected)) in cases.iter().enumerate() {
        let mut plan = gold();
        spoil(&mut plan);
        let error = crate::grpc::json::sentence(&usage_plan(plan).unwrap_err());
        assert!(error.contains(expected), "case {row}: {error:?} does not say {expected:?}");
    }
}

#[test]
fn all_mistakes_of_its_words_are_named_at_once() {
    let mut plan = gold();
    plan["entitlements"][0]["rateLimit"]["unit"] = json!("HOUR");
    plan["entitlements"][1]["quota"]["resetPolicy"] = json!("NEVER");
    let error = crate::grpc::json::sentence(&usage_plan(plan).unwrap_err());
    assert!(
        error.contains("entitlements[0].rateLimit.unit")
            && error.contains("entitlements[1].quota.resetPolicy"),
        "{error}"
    );
}

/// As the cloud's command line prints it: kebab-case under `data`, and null for what is not there.
const PRINTED: &str = r#"{
  "data": {
    "compartment-id": "ocid1.compartment.oc1..aaaa", "defined-tags": {"Operations": {"CostCenter": "42"}}, "display-name": "Gold",
    "entitlements": [{
      "description": null, "name": "reads",
      "quota": {"operation-on-breach": "REJECT", "reset-policy": "CALENDAR", "unit": "DAY", "value": 1000},
      "rate-limit": {"unit": "SECOND", "value": 20},
      "targets": [{"deployment-id": "ocid1.apideployment.oc1.iad.one"}]
    }],
    "freeform-tags": {"cost-center": "7"}, "id": "ocid1.apigatewayusageplan.oc1.iad.x", "lifecycle-details": null,
    "lifecycle-state": "ACTIVE", "locks": null, "system-tags": {}, "time-created": "2026-01-02T03:04:05+00:00", "time-updated": null
  },
  "etag": "abc"
}"#;

/// As Terraform holds it: snake_case, blocks as lists, tags with their space.
const TERRAFORM: &str = r#"{
  "address": "oci_apigateway_usage_plan.gold", "type": "oci_apigateway_usage_plan", "name": "gold",
  "values": {
    "compartment_id": "ocid1.compartment.oc1..aaaa", "defined_tags": {"Operations.CostCenter": "42"}, "display_name": "Gold",
    "entitlements": [{
      "description": "", "name": "reads",
      "quota": [{"operation_on_breach": "REJECT", "reset_policy": "CALENDAR", "unit": "DAY", "value": 1000}],
      "rate_limit": [{"unit": "SECOND", "value": 20}],
      "targets": [{"deployment_id": "ocid1.apideployment.oc1.iad.one"}]
    }],
    "freeform_tags": {"cost-center": "7"}, "id": "ocid1.apigatewayusageplan.oc1.iad.x", "lifecycle_details": null, "locks": [],
    "state": "ACTIVE", "system_tags": {}, "time_created": "2026-01-02 03:04:05 +0000 UTC", "timeouts": null
  }
}"#;

#[test]
fn what_the_clouds_tools_print_is_read_as_it_is() {
    let read = |text: &str| usage_plan(serde_json::from_str(text).unwrap()).unwrap();
    let (printed, terraform) = (read(PRINTED), read(TERRAFORM));
    assert_eq!(printed.message, terraform.message);
    let plan = printed.message;
    assert_eq!(
        (plan.id.as_str(), plan.display_name.as_str()),
        ("ocid1.apigatewayusageplan.oc1.iad.x", "Gold")
    );
    assert_eq!(
        plan.labels.keys().collect::<Vec<_>>(),
        ["Operations.CostCenter", "compartmentId", "cost-center"]
    );
    let [reads] = plan.entitlements.as_slice() else { panic!("{plan:?}") };
    assert_eq!((reads.targets.len(), reads.rate_limit.unwrap().requests_per_second), (1, 20.0));
    assert_eq!(
        (reads.quotas[0].name.as_str(), reads.quotas[0].limit, reads.quotas[0].on_breach()),
        ("day", Some(1000), OnBreach::Reject)
    );
    assert_eq!(printed.mask.paths, ["display_name", "labels", "entitlements"]);
    let left_out: Vec<_> =
        printed.notes.iter().map(|note| note.split(' ').next().unwrap()).collect();
    assert_eq!(left_out, ["lifecycleState", "timeCreated"]);

    let listed: Value =
        json!({"data": {"items": [serde_json::from_str::<Value>(PRINTED).unwrap()["data"]]}});
    assert_eq!(usage_plan(listed).unwrap().message, plan);
    let configured: Value = json!({"resource": {"oci_apigateway_usage_plan": {"gold": {
        "display_name": "Gold", "compartment_id": "c",
        "entitlements": {"name": "reads", "targets": {"deployment_id": "a"}, "rate_limit": {"unit": "SECOND", "value": 20}}
    }}}});
    let configured = usage_plan(configured).unwrap().message;
    assert_eq!(
        (configured.id.as_str(), configured.entitlements[0].targets.as_slice()),
        ("gold", &["a".to_owned()][..])
    );
}

#[test]
fn the_skeleton_of_its_command_line_is_read_and_what_it_does_not_know_is_refused() {
    let mut skeleton = gold();
    for (name, value) in [
        ("maxWaitSeconds", json!(0)),
        ("waitForState", json!(["SUCCEEDED"])),
        ("waitIntervalSeconds", json!(30)),
        ("ifMatch", json!("string")),
        ("force", json!(true)),
    ] {
        skeleton[name] = value;
    }
    let read = usage_plan(skeleton.clone()).unwrap();
    assert!(
        read.notes.iter().any(|note| note == "maxWaitSeconds has no meaning here and was left out"),
        "{:?}",
        read.notes
    );
    skeleton["display-names"] = json!("x");
    skeleton["entitlements"][0]["rate-limits"] = json!(5);
    skeleton["entitlements"][0]["quota"]["reset_policies"] = json!(5);
    let mistakes = usage_plan(skeleton).unwrap_err();
    let said: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert!(
        said[0]
            .starts_with("display-names is not a field of UsagePlan: did you mean `displayName`?"),
        "{said:?}"
    );
    assert!(
        said.iter().any(|said| said
            .contains("rate-limits is not a field of Entitlement: did you mean `rateLimit`?")),
        "{said:?}"
    );
    assert!(said.iter().any(|said| said.contains("reset_policies is not a field")), "{said:?}");
}

#[test]
fn slugs() {
    let cases = [
        ("Gold", "gold"),
        ("  Gold -- Plan!! ", "gold-plan"),
        ("Café №5", "caf-5"),
        ("a/b.c", "a-b-c"),
        ("---", ""),
    ];
    for (name, expected) in cases {
        assert_eq!(super::slug(name), expected, "{name:?}");
    }
    assert_eq!(super::slug(&"x".repeat(300)).len(), 256);
}
