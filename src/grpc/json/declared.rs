//! What people write in files: a plan, or targets, plans and subscribers with their keys.

use serde_json::{Map, Value, json};

use super::{from_json, kind_of, oci};
use crate::decide::plan::validate::Mistakes;
use crate::grpc::pb::tollgate as pb;

/// A message that was read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Read<T> {
    pub message: T,
    /// What the file says and the message does not, a sentence each.
    pub notes: Vec<String>,
}

/// A plan in our JSON or in that of Oracle's cloud. The error names every field that is wrong.
pub fn usage_plan(value: Value) -> Result<Read<pb::UsagePlan>, String> {
    let mut notes = Vec::new();
    let message = plan(value, &mut notes)?;
    Ok(Read { message, notes })
}

fn plan(mut value: Value, notes: &mut Vec<String>) -> Result<pb::UsagePlan, String> {
    let mut found = Mistakes::default();
    match &mut value {
        Value::Object(plan) => oci::normalise(plan, &mut found, notes),
        other => return Err(format!("a plan must be an object, not {}", kind_of(other))),
    }
    found.or_else(()).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    from_json("tollgate.v1.UsagePlan", value)
}

/// A file of `targets`, `plans` and `subscribers`, as a set to apply. The error names the field that is wrong, as the file names it.
pub fn declared(value: Value) -> Result<Read<pb::ApplyRequest>, String> {
    let fields = match value {
        Value::Null => Map::new(),
        Value::Object(fields) => fields,
        other => return Err(format!("the file must hold `targets`, `plans` and `subscribers`, not {}", kind_of(&other))),
    };
    let (mut message, mut notes) = (pb::ApplyRequest::default(), Vec::new());
    for (name, value) in fields {
        match name.as_str() {
            "targets" => message.targets = each("targets", value, |_, item| target(item))?,
            "plans" => message.usage_plans = each("plans", value, |at, item| noted_plan(at, item, &mut notes))?,
            "subscribers" => message.subscribers = each("subscribers", value, |_, item| subscriber(item))?,
            other => return Err(format!("{other} is not known: a file holds `targets`, `plans` and `subscribers`")),
        }
    }
    Ok(Read { message, notes })
}

fn each<T>(field: &str, value: Value, mut read: impl FnMut(&str, Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        other => return Err(format!("{field} must be a list, not {}", kind_of(&other))),
    };
    let one = |(i, item)| {
        let at = format!("{field}[{i}]");
        read(&at, item).map_err(|error| format!("{at}: {error}"))
    };
    items.into_iter().enumerate().map(one).collect()
}

/// An id alone is a target with nothing more to say.
fn target(value: Value) -> Result<pb::Target, String> {
    let value = if value.is_string() { json!({ "id": value }) } else { value };
    from_json("tollgate.v1.Target", value)
}

fn noted_plan(at: &str, value: Value, notes: &mut Vec<String>) -> Result<pb::UsagePlan, String> {
    let mut own = Vec::new();
    let plan = plan(value, &mut own)?;
    notes.extend(own.into_iter().map(|note| format!("{at}: {note}")));
    Ok(plan)
}

fn subscriber(mut value: Value) -> Result<pb::SubscriberWithKeys, String> {
    let keys = value.as_object_mut().and_then(|fields| fields.remove("keys")).unwrap_or_default();
    let subscriber = from_json("tollgate.v1.Subscriber", value)?;
    Ok(pb::SubscriberWithKeys { subscriber: Some(subscriber), keys: each("keys", keys, |_, item| key(item))? })
}

fn key(mut value: Value) -> Result<pb::ApiKeyWithValue, String> {
    let secret = value.as_object_mut().and_then(|fields| fields.remove("value"));
    let secret = match secret {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(secret)) => secret,
        Some(other) => return Err(format!("value must be a text, not {}", kind_of(&other))),
    };
    Ok(pb::ApiKeyWithValue { api_key: Some(from_json("tollgate.v1.ApiKey", value)?), value: secret })
}
