//! The shapes in which Oracle's tools hand on one and the same plan: what its command line prints
//! (kebab-case, under `data`), what Terraform holds (snake_case, a block of one as a list), and the
//! file of the cloud itself.

use serde_json::{Map, Value};

use crate::decide::plan::validate::Mistakes;

type Object = Map<String, Value>;

/// What stands beside `data` in what the command line prints.
const BESIDE_DATA: &[&str] =
    &["data", "etag", "headers", "status", "opc-next-page", "opc-request-id", "opc-total-items"];
/// What Terraform calls such a plan.
const RESOURCE: &str = "oci_apigateway_usage_plan";

/// Names of the cloud, and ours that it shares or that may stand beside them, in the spelling of
/// its own file.
const PLAN: &[&str] = &[
    "displayName",
    "compartmentId",
    "freeformTags",
    "definedTags",
    "systemTags",
    "lifecycleState",
    "lifecycleDetails",
    "timeCreated",
    "timeUpdated",
    "maxWaitSeconds",
    "waitForState",
    "waitIntervalSeconds",
    "ifMatch",
    "isLockOverride",
    "usagePlanId",
];
const ENTITLEMENT: &[&str] = &["rateLimit", "methodRateLimits", "counterScope"];
const LIMIT: &[&str] = &[
    "requestsPerSecond",
    "resetPolicy",
    "operationOnBreach",
    "onBreach",
    "timeZone",
    "weekStart",
    "countStatuses",
];
const TARGET: &[&str] = &["deploymentId"];

/// The plan inside of what a tool wrapped it in; what is not wrapped as it is.
pub(in crate::grpc::json) fn unwrapped(mut value: Value) -> Value {
    let inner = match value.as_object_mut() {
        Some(fields)
            if fields.contains_key("data")
                && fields.keys().all(|name| BESIDE_DATA.contains(&name.as_str())) =>
        {
            fields.remove("data").map(only_item)
        }
        Some(fields) if fields.len() == 1 && fields.contains_key("resource") => fields
            .remove("resource")
            .and_then(|resources| named(resources, RESOURCE))
            .and_then(only),
        Some(fields) if fields.get("type").is_some_and(|kind| kind == RESOURCE) => {
            let instance = fields.remove("instances").and_then(only);
            let attributes = instance.and_then(|instance| named(instance, "attributes"));
            fields.remove("values").or(attributes)
        }
        _ => return value,
    };
    let mut inner = inner.unwrap_or(value);
    drop_nulls(&mut inner);
    inner
}

fn named(mut value: Value, name: &str) -> Option<Value> {
    value.as_object_mut()?.remove(name)
}

/// What a list of one or an object of one entry holds.
fn only(value: Value) -> Option<Value> {
    match value {
        Value::Array(items) if items.len() == 1 => items.into_iter().next(),
        Value::Object(fields) if fields.len() == 1 => fields
            .into_iter()
            .next()
            .map(|(_, value)| if value.is_array() { only(value) } else { Some(value) })?,
        _ => None,
    }
}

/// A list that the command line prints, of one plan.
fn only_item(mut data: Value) -> Value {
    match data.get_mut("items").map(Value::take) {
        Some(Value::Array(mut items)) if items.len() == 1 => items.pop().unwrap_or(data),
        Some(items) => {
            // Put back: it is refused by its name.
            if let Some(fields) = data.as_object_mut() {
                fields.insert("items".to_owned(), items);
            }
            data
        }
        None => data,
    }
}

/// Tools print null for what is not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Spells the names of a plan as the cloud's own file does, and makes lists and objects of what
/// Terraform writes otherwise.
pub(super) fn respell(plan: &mut Object, found: &mut Mistakes) {
    rename(plan, PLAN, "", found);
    if let Some(one @ Value::Object(_)) = plan.get_mut("entitlements")
        && one.get("name").is_some()
    {
        *one = Value::Array(vec![one.take()]);
    }
    let Some(Value::Array(entitlements)) = plan.get_mut("entitlements") else { return };
    for (i, entitlement) in entitlements.iter_mut().enumerate() {
        let Value::Object(entitlement) = entitlement else { continue };
        let at = format!("entitlements[{i}].");
        rename(entitlement, ENTITLEMENT, &at, found);
        for name in ["rateLimit", "quota"] {
            block(entitlement, name);
            if let Some(Value::Object(limit)) = entitlement.get_mut(name) {
                rename(limit, LIMIT, &format!("{at}{name}."), found);
            }
        }
        if let Some(one @ Value::Object(_)) = entitlement.get_mut("targets") {
            *one = Value::Array(vec![one.take()]);
        }
        if let Some(Value::Array(targets)) = entitlement.get_mut("targets") {
            for (j, target) in targets.iter_mut().enumerate() {
                if let Value::Object(target) = target {
                    rename(target, TARGET, &format!("{at}targets[{j}]."), found);
                }
            }
        }
    }
}

/// A block of Terraform: a list of one is that one, and an empty list is none.
fn block(fields: &mut Object, name: &str) {
    let Some(Value::Array(items)) = fields.get_mut(name) else { return };
    match items.len() {
        0 => {
            fields.remove(name);
        }
        1 => {
            let one = items.pop().unwrap_or_default();
            fields.insert(name.to_owned(), one);
        }
        _ => {}
    }
}

/// Renames what is in kebab-case or snake_case to one of `known`.
fn rename(fields: &mut Object, known: &[&str], at: &str, found: &mut Mistakes) {
    let names: Vec<String> =
        fields.keys().filter(|name| name.contains(['-', '_'])).cloned().collect();
    for name in names {
        let Some(right) = known.iter().find(|right| **right == camel(&name)) else { continue };
        let Some(value) = fields.remove(&name) else { continue };
        if fields.insert((*right).to_owned(), value).is_some() {
            found.add(format!("{at}{name}"), format!("and `{right}` say the same: leave one out"));
        }
    }
}

/// `display-name` and `display_name` as `displayName`.
fn camel(name: &str) -> String {
    let mut words = name.split(['-', '_']);
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}
