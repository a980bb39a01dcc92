//! The usage-plan file of Oracle's cloud, as a superset of our own: what it says in its words is
//! put into ours, and what we do not have is refused by the name of its field. What is in our words
//! already passes through.

use serde_json::{Map, Value, json};

mod shapes;

use super::kind_of;
use crate::decide::plan::validate::{MAX_ID, Mistakes};
pub(super) use shapes::unwrapped;

type Object = Map<String, Value>;

/// What the cloud fills in, and what has no meaning here.
const NOT_KEPT: &[&str] = &[
    "locks",
    "lifecycleState",
    "lifecycleDetails",
    "timeCreated",
    "timeUpdated",
    "systemTags",
    // Of its command line.
    "maxWaitSeconds",
    "waitForState",
    "waitIntervalSeconds",
    "force",
    "ifMatch",
    "isLockOverride",
    "usagePlanId",
    // Of Terraform.
    "state",
    "timeouts",
];

/// Puts a plan into our words. `notes` says what was left out.
pub(super) fn normalise(plan: &mut Object, found: &mut Mistakes, notes: &mut Vec<String>) {
    shapes::respell(plan, found);
    for name in NOT_KEPT {
        if plan.remove(*name).is_some_and(|value| !is_empty(&value)) {
            notes.push(format!("{name} has no meaning here and was left out"));
        }
    }
    labels(plan, found);
    id(plan, found);
    if let Some(Value::Array(entitlements)) = plan.get_mut("entitlements") {
        for (i, entitlement) in entitlements.iter_mut().enumerate() {
            if let Value::Object(entitlement) = entitlement {
                let mut inner = Mistakes::default();
                self::entitlement(entitlement, &mut inner);
                found.add_within(&format!("entitlements[{i}]"), inner);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The id is made of the display name where there is none.
fn id(plan: &mut Object, found: &mut Mistakes) {
    if plan.get("id").is_some_and(|id| !is_empty(id)) {
        return;
    }
    let Some(name) = plan.get("displayName").and_then(Value::as_str) else {
        return found.add("id", "is needed, or a `displayName` to make it of");
    };
    let slug = slug(name);
    if slug.is_empty() {
        return found.add("id", format!("is needed: the `displayName` {name:?} holds no letters a to z or digits to make one of"));
    }
    plan.insert("id".to_owned(), Value::String(slug));
}

/// Letters and digits in lower case, and one `-` for whatever else is between them.
fn slug(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join("-");
    slug.truncate(MAX_ID);
    slug
}

fn labels(plan: &mut Object, found: &mut Mistakes) {
    let mut made = Vec::new();
    let says_some = ["compartmentId", "freeformTags", "definedTags"]
        .iter()
        .any(|name| plan.get(*name).is_some_and(|tags| !tags.is_null()));
    match plan.remove("compartmentId") {
        None | Some(Value::Null) => {}
        Some(value) => tag("compartmentId", "compartmentId", &value, &mut made, found),
    }
    for (name, value) in tags("freeformTags", plan, found) {
        tag(&format!("freeformTags.{name}"), &name, &value, &mut made, found);
    }
    for (space, inner) in tags("definedTags", plan, found) {
        // Terraform writes `space.name` at once.
        if space.contains('.') && !inner.is_object() {
            tag(&format!("definedTags.{space}"), &space, &inner, &mut made, found);
            continue;
        }
        let Value::Object(inner) = inner else {
            found.add(
                format!("definedTags.{space}"),
                format!("must be an object, not {}", kind_of(&inner)),
            );
            continue;
        };
        for (name, value) in inner {
            tag(
                &format!("definedTags.{space}.{name}"),
                &format!("{space}.{name}"),
                &value,
                &mut made,
                found,
            );
        }
    }
    if !says_some {
        return;
    }
    if plan.get("labels").is_none_or(Value::is_null) {
        plan.insert("labels".to_owned(), json!({}));
    }
    // Labels that are no object are refused when the plan is read.
    let Some(Value::Object(labels)) = plan.get_mut("labels") else { return };
    for (field, key, value) in made {
        if labels.get(&key).is_some_and(|other| *other != value) {
            found.add(field, format!("becomes the label `{key}`, which has another value already"));
        }
        labels.insert(key, value);
    }
}

fn tags(field: &str, plan: &mut Object, found: &mut Mistakes) -> Object {
    match plan.remove(field) {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(tags)) => tags,
        Some(other) => {
            found.add(field, format!("must be an object, not {}", kind_of(&other)));
            Object::new()
        }
    }
}

/// Notes the label that a tag becomes: its field, key and value.
fn tag(
    field: &str,
    key: &str,
    value: &Value,
    made: &mut Vec<(String, String, Value)>,
    found: &mut Mistakes,
) {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => {
            return found.add(
                field,
                format!("must be a text, a number or a boolean, not {}", kind_of(other)),
            );
        }
    };
    if let Some((other, ..)) =
        made.iter().find(|(_, known, value)| known == key && value.as_str() != Some(&text))
    {
        return found
            .add(field, format!("becomes the label `{key}`, as {other} does with another value"));
    }
    made.push((field.to_owned(), key.to_owned(), Value::String(text)));
}

fn entitlement(entitlement: &mut Object, found: &mut Mistakes) {
    if let Some(Value::Array(targets)) = entitlement.get_mut("targets") {
        for (i, target) in targets.iter_mut().enumerate() {
            self::target(&format!("targets[{i}]"), target, found);
        }
    }
    for name in ["rateLimit", "rate_limit"] {
        if let Some(Value::Object(limit)) = entitlement.get_mut(name) {
            rate_limit(name, limit, found);
        }
    }
    match entitlement.remove("quota") {
        None | Some(Value::Null) => {}
        Some(Value::Object(quota)) => {
            let quota = self::quota(quota, found);
            match entitlement.entry("quotas").or_insert_with(|| json!([])) {
                Value::Array(quotas) => quotas.push(quota),
                other => *other = json!([quota]),
            }
        }
        Some(other) => found.add("quota", format!("must be an object, not {}", kind_of(&other))),
    }
}

/// `{deploymentId: "x"}` is the target `x`.
fn target(at: &str, target: &mut Value, found: &mut Mistakes) {
    let Value::Object(fields) = target else { return };
    if let Some(other) = fields.keys().find(|name| *name != "deploymentId") {
        return found.add(
            format!("{at}.{other}"),
            "cannot be kept: a target is its id, as a text or as `deploymentId`",
        );
    }
    match fields.remove("deploymentId") {
        Some(id @ Value::String(_)) => *target = id,
        Some(other) => found
            .add(format!("{at}.deploymentId"), format!("must be a text, not {}", kind_of(&other))),
        None => found.add(format!("{at}.deploymentId"), "is needed"),
    }
}

/// `{value: 10, unit: SECOND}` is ten requests per second.
fn rate_limit(at: &str, limit: &mut Object, found: &mut Mistakes) {
    match limit.remove("unit") {
        None | Some(Value::Null) => {}
        Some(unit) if unit == "SECOND" => {}
        Some(unit) => found.add(
            format!("{at}.unit"),
            format!("must be SECOND, not {unit}: say a longer time as a fraction of a second"),
        ),
    }
    if let Some(value) = limit.remove("value") {
        if limit.contains_key("requestsPerSecond") || limit.contains_key("requests_per_second") {
            found.add(format!("{at}.value"), "and `requestsPerSecond` say the same: leave one out");
        }
        limit.insert("requestsPerSecond".to_owned(), value);
    }
}

/// A quota is named by its unit.
fn quota(mut quota: Object, found: &mut Mistakes) -> Value {
    match quota.remove("resetPolicy") {
        None | Some(Value::Null) => {}
        Some(policy) if policy == "CALENDAR" => {}
        Some(policy) => found.add(
            "quota.resetPolicy",
            format!("must be CALENDAR, not {policy}: quotas follow the calendar"),
        ),
    }
    let mut rename = |from: &str, to: &str| {
        if let Some(value) = quota.remove(from) {
            if quota.contains_key(to) {
                found.add(
                    format!("quota.{from}"),
                    format!("and `{to}` say the same: leave one out"),
                );
            }
            quota.insert(to.to_owned(), value);
        }
    };
    rename("value", "limit");
    rename("operationOnBreach", "onBreach");
    match quota.get("unit").and_then(Value::as_str) {
        Some(unit) => {
            let name = unit.to_ascii_lowercase();
            quota.entry("name").or_insert(Value::String(name));
        }
        None => found.add("quota.unit", "is needed: MINUTE, HOUR, DAY, WEEK, MONTH or YEAR"),
    }
    Value::Object(quota)
}

#[cfg(test)]
mod tests;
