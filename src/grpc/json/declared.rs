//! What people write in files: a plan, or targets, plans and subscribers with their keys.

use prost::Message;
use prost_types::FieldMask;
use serde_json::{Map, Value, json};

use super::{kind_of, oci, read};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::Mistakes;
use crate::grpc::pb::tollgate as pb;
use crate::near::near;
use pb::apply_request::Kind;

type Object = Map<String, Value>;

/// A message that was read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Read<T> {
    pub message: T,
    /// What the file says and the message does not, a sentence each.
    pub notes: Vec<String>,
    /// The fields that the file says.
    pub mask: FieldMask,
}

/// A file of resources, as a set to apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// With a mask of what it says for each resource.
    pub message: pb::ApplyRequest,
    /// What the file says and the message does not, a sentence each.
    pub notes: Vec<String>,
    /// The kinds that it has a list of, be it empty.
    pub kinds: Vec<Kind>,
    /// Which resources of the file those of the message are: all of them, unless some cannot be
    /// read.
    pub places: Places,
}

/// Where in the lists of a file the resources of a message stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    pub targets: Vec<usize>,
    pub plans: Vec<usize>,
    pub subscribers: Vec<usize>,
}

/// A plan in our JSON or in that of Oracle's cloud; or every field that is wrong.
pub fn usage_plan(value: Value) -> Result<Read<pb::UsagePlan>, Vec<Invalid>> {
    named_usage_plan(value, None)
}

/// The same; `id` takes the place of the file's.
pub fn named_usage_plan(
    value: Value,
    id: Option<String>,
) -> Result<Read<pb::UsagePlan>, Vec<Invalid>> {
    let mut notes = Vec::new();
    let mut value = oci::unwrapped(value);
    if let (Value::Object(fields), Some(id)) = (&mut value, id) {
        fields.insert("id".to_owned(), Value::String(id));
    }
    let (message, mask) = plan(value, &mut notes)?;
    Ok(Read { message, notes, mask })
}

/// The plan, and the fields that the file says of it.
fn plan(value: Value, notes: &mut Vec<String>) -> Result<(pb::UsagePlan, FieldMask), Vec<Invalid>> {
    let mut found = Mistakes::default();
    let mut value = oci::unwrapped(value);
    match &mut value {
        Value::Object(plan) => oci::normalise(plan, &mut found, notes),
        other => found.add("", format!("a plan must be an object, not {}", kind_of(other))),
    }
    // Both, so that all mistakes are told at once. What the first has found, the second may see as
    // another.
    let (plan, mask) = match (found.count(), resource("tollgate.v1.UsagePlan", &value, PLAN)) {
        (0, read) => read?,
        (_, Ok(read)) => read,
        (_, Err(more)) => {
            let known = found.fields();
            more.into_iter()
                .filter(|one| !known.contains(&one.field))
                .for_each(|one| found.add(one.field, one.reason));
            return Err(found.or_else(()).err().unwrap_or_default());
        }
    };
    found.or_else((plan, mask))
}

/// A file of `targets`, `plans` and `subscribers`; or every field that is wrong, as the file names
/// it.
pub fn declared(value: Value) -> Result<File, Vec<Invalid>> {
    let (file, mistakes) = declared_in_part(value);
    if mistakes.is_empty() { Ok(file) } else { Err(mistakes) }
}

/// The resources of a file that can be read, and what is wrong with the others.
pub fn declared_in_part(value: Value) -> (File, Vec<Invalid>) {
    let fields = match value {
        Value::Null => Map::new(),
        Value::Object(fields) => fields,
        other => {
            let reason = format!(
                "the file must hold `targets`, `plans` and `subscribers`, not {}",
                kind_of(&other)
            );
            return (File::default(), vec![Invalid::new("", reason)]);
        }
    };
    let (mut file, mut found) = (File::default(), Mistakes::default());
    let message = &mut file.message;
    for (name, value) in fields {
        match name.as_str() {
            "targets" => {
                file.kinds.push(Kind::Target);
                (message.targets, message.target_masks) =
                    each("targets", value, &mut found, &mut file.places.targets, |_, item| {
                        target(item)
                    })
                    .into_iter()
                    .unzip();
            }
            "plans" => {
                file.kinds.push(Kind::Plan);
                let plans = each("plans", value, &mut found, &mut file.places.plans, |at, item| {
                    noted_plan(at, item, &mut file.notes)
                });
                (message.usage_plans, message.usage_plan_masks) = plans.into_iter().unzip();
            }
            "subscribers" => {
                file.kinds.push(Kind::Subscriber);
                message.subscribers = each(
                    "subscribers",
                    value,
                    &mut found,
                    &mut file.places.subscribers,
                    |_, item| subscriber(item),
                );
            }
            other => found.add(other, unknown(other)),
        }
    }
    (file, found.or_else(()).err().unwrap_or_default())
}

fn unknown(name: &str) -> String {
    const NAMES: [&str; 3] = ["targets", "plans", "subscribers"];
    let meant =
        near(name, NAMES).first().map_or(String::new(), |one| format!("; did you mean `{one}`?"));
    format!("is not known: a file holds `targets`, `plans` and `subscribers`{meant}")
}

/// The items that can be read, and which of the list they are.
fn each<T>(
    field: &str,
    value: Value,
    found: &mut Mistakes,
    places: &mut Vec<usize>,
    mut read: impl FnMut(&str, Value) -> Result<T, Vec<Invalid>>,
) -> Vec<T> {
    let items = match value {
        Value::Array(items) => items,
        Value::Null => {
            found.add(
                field,
                "must be a list, not nothing: leave it out to say nothing, or write [] for none",
            );
            Vec::new()
        }
        other => {
            found.add(field, format!("must be a list, not {}", kind_of(&other)));
            Vec::new()
        }
    };
    let mut all = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let at = format!("{field}[{i}]");
        match read(&at, item) {
            Ok(item) => {
                all.push(item);
                places.push(i);
            }
            Err(mistakes) => found.add_all_within(&at, mistakes),
        }
    }
    all
}

/// An id alone is a target with nothing more to say.
fn target(value: Value) -> Result<(pb::Target, FieldMask), Vec<Invalid>> {
    let value = if value.is_string() { json!({ "id": value }) } else { value };
    resource("tollgate.v1.Target", &value, TARGET)
}

fn noted_plan(
    at: &str,
    value: Value,
    notes: &mut Vec<String>,
) -> Result<(pb::UsagePlan, FieldMask), Vec<Invalid>> {
    let mut own = Vec::new();
    let plan = plan(value, &mut own)?;
    notes.extend(own.into_iter().map(|note| format!("{at}: {note}")));
    Ok(plan)
}

fn subscriber(mut value: Value) -> Result<pb::SubscriberWithKeys, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let own_keys = value.as_object_mut().and_then(|fields| fields.remove("keys"));
    let says_keys = own_keys.is_some();
    let keys = own_keys.map_or_else(Vec::new, |keys| {
        each("keys", keys, &mut found, &mut Vec::new(), |_, item| key(item))
    });
    match resource("tollgate.v1.Subscriber", &value, SUBSCRIBER) {
        Ok((subscriber, mut mask)) => {
            mask.paths.extend(says_keys.then(|| "keys".to_owned()));
            found.or_else(pb::SubscriberWithKeys {
                subscriber: Some(subscriber),
                keys,
                mask: Some(mask),
            })
        }
        Err(mut mistakes) => {
            mistakes.extend(found.or_else(()).err().unwrap_or_default());
            Err(mistakes)
        }
    }
}

fn key(mut value: Value) -> Result<pb::ApiKeyWithValue, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let secret = match value.as_object_mut().and_then(|fields| fields.remove("value")) {
        None => String::new(),
        Some(Value::String(secret)) => secret,
        Some(other) => {
            found.add("value", format!("must be a text, not {}", kind_of(&other)));
            String::new()
        }
    };
    match resource("tollgate.v1.ApiKey", &value, KEY) {
        Ok((key, mask)) => found.or_else(pb::ApiKeyWithValue {
            api_key: Some(key),
            value: secret,
            mask: Some(mask),
        }),
        Err(mut mistakes) => {
            mistakes.extend(found.or_else(()).err().unwrap_or_default());
            Err(mistakes)
        }
    }
}

/// A field that a resource of a file can say, and what `null` behind it means.
struct Sayable {
    json: &'static str,
    path: &'static str,
    null: Null,
}

enum Null {
    /// There is to be none.
    Clears,
    /// Refused: the words say what to write.
    Refused(&'static str),
}

const fn clears(json: &'static str, path: &'static str) -> Sayable {
    Sayable { json, path, null: Null::Clears }
}

const fn refused(json: &'static str, path: &'static str, instead: &'static str) -> Sayable {
    Sayable { json, path, null: Null::Refused(instead) }
}

const NO_LIST: &str =
    "must be a list, not nothing: leave it out to keep what there is, or write [] for none";
const NO_MAP: &str =
    "must be an object, not nothing: leave it out to keep what there is, or write {} for none";
const NO_SWITCH: &str = "must be true or false, not nothing: leave it out to keep what it is";

const PLAN: &[Sayable] = &[
    clears("displayName", "display_name"),
    clears("description", "description"),
    refused("labels", "labels", NO_MAP),
    refused("entitlements", "entitlements", NO_LIST),
];
const TARGET: &[Sayable] = &[
    clears("displayName", "display_name"),
    clears("description", "description"),
    refused("labels", "labels", NO_MAP),
    clears("rateLimit", "rate_limit"),
    refused("methodRateLimits", "method_rate_limits", NO_LIST),
    refused("openMethods", "open_methods", NO_LIST),
    clears("defaultPlan", "default_plan"),
];
const SUBSCRIBER: &[Sayable] = &[
    clears("displayName", "display_name"),
    clears("description", "description"),
    refused("labels", "labels", NO_MAP),
    refused("plans", "plans", NO_LIST),
];
const KEY: &[Sayable] = &[
    clears("displayName", "display_name"),
    clears("description", "description"),
    refused("labels", "labels", NO_MAP),
    refused("enabled", "enabled", NO_SWITCH),
    clears("notBefore", "not_before"),
    clears("expireTime", "expire_time"),
];

/// A resource, and the fields that are said of it. A rate limit that says no burst leaves the
/// burst.
fn resource<T: Message + Default>(
    full_name: &str,
    value: &Value,
    sayable: &[Sayable],
) -> Result<(T, FieldMask), Vec<Invalid>> {
    let (mut found, mut mask) = (Mistakes::default(), FieldMask::default());
    let empty = Object::new();
    let fields = value.as_object().unwrap_or(&empty);
    for one in sayable {
        let said = [one.json, one.path]
            .into_iter()
            .find_map(|name| fields.get(name).map(|value| (name, value)));
        match (said, &one.null) {
            (None, _) => {}
            (Some((name, Value::Null)), Null::Refused(instead)) => found.add(name, *instead),
            (Some((_, Value::Object(limit))), _)
                if one.path == "rate_limit" && !limit.contains_key("burst") =>
            {
                mask.paths.push("rate_limit.requests_per_second".to_owned());
            }
            (Some(_), _) => mask.paths.push(one.path.to_owned()),
        }
    }
    match read(full_name, value) {
        Ok(message) => found.or_else((message, mask)),
        Err(mut mistakes) => {
            mistakes.extend(found.or_else(()).err().unwrap_or_default());
            Err(mistakes)
        }
    }
}
