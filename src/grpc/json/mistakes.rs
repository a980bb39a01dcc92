//! What in a JSON value cannot be read as a message: every field, and what would be right.

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::kind_of;
use crate::decide::plan::validate::Mistakes;
use crate::near::near;

/// Characters of a wrong value that are shown.
const SHOWN: usize = 60;

/// Looks for what is wrong in `value`, which stands `at` a place that ends without a dot.
pub(super) fn of_message(
    message: &MessageDescriptor,
    value: &Value,
    at: &str,
    found: &mut Mistakes,
) {
    if message.full_name().starts_with("google.protobuf.") {
        if DynamicMessage::deserialize(message.clone(), value).is_err() {
            found.add(at, format!("must be {}, not {}", well_known(message), shown(value)));
        }
        return;
    }
    let Value::Object(fields) = value else {
        return found.add(at, format!("must be an object, not {}", kind_of(value)));
    };
    for (name, value) in fields {
        let at = below(at, name);
        match message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name)) {
            None => found.add(at, unknown(message, name)),
            Some(field) => of_field(message, &field, name, value, &at, found),
        }
    }
}

/// Looks for fields that are said in both spellings: of the two values one would be lost.
pub(super) fn twice(message: &MessageDescriptor, value: &Value, at: &str, found: &mut Mistakes) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let by_json = message.get_field_by_json_name(name);
        let Some(field) = by_json.clone().or_else(|| message.get_field_by_name(name)) else {
            continue;
        };
        if by_json.is_none() && fields.contains_key(field.json_name()) {
            found.add(
                below(at, name),
                format!("and `{}` are the same field: leave one out", field.json_name()),
            );
        }
        match (field.kind(), value) {
            (Kind::Message(inner), Value::Array(items)) if field.is_list() => {
                items.iter().enumerate().for_each(|(i, item)| {
                    twice(&inner, item, &format!("{}[{i}]", below(at, name)), found)
                });
            }
            (Kind::Message(inner), Value::Object(_)) if !field.is_map() => {
                twice(&inner, value, &below(at, name), found)
            }
            _ => {}
        }
    }
}

/// A field of what stands `at` a place.
fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// What there is in the place of a field that there is not.
fn unknown(message: &MessageDescriptor, name: &str) -> String {
    let names: Vec<String> = message.fields().map(|field| field.json_name().to_owned()).collect();
    let meant = near(name, names.iter().map(String::as_str));
    let hint = match meant.as_slice() {
        [] => format!("it has {}", names.join(", ")),
        [one] => format!("did you mean `{one}`?"),
        many => format!("did you mean one of {}?", many.join(", ")),
    };
    format!("is not a field of {}: {hint}", message.name())
}

fn of_field(
    message: &MessageDescriptor,
    field: &FieldDescriptor,
    name: &str,
    value: &Value,
    at: &str,
    found: &mut Mistakes,
) {
    match (field.kind(), value) {
        // The same as to leave it out.
        (_, Value::Null) => {}
        (kind, Value::Array(items)) if field.is_list() => {
            for (i, item) in items.iter().enumerate() {
                of_value(&kind, item, &format!("{at}[{i}]"), found);
            }
        }
        (_, value) if field.is_list() => {
            found.add(at, format!("must be a list, not {}", kind_of(value)))
        }
        (Kind::Message(entry), Value::Object(pairs)) if field.is_map() => {
            let value_of = entry.map_entry_value_field();
            pairs.iter().for_each(|(key, value)| {
                of_value(&value_of.kind(), value, &format!("{at}.{key}"), found)
            });
        }
        (_, value) if field.is_map() => {
            found.add(at, format!("must be an object, not {}", kind_of(value)))
        }
        // It may be the value of an API key, and is not repeated.
        (Kind::String, value) if name == "value" && !value.is_string() => {
            found.add(at, format!("must be a text, not {}", kind_of(value)))
        }
        (kind, value) => {
            let before = found.count();
            of_value(&kind, value, at, found);
            let alone = Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
            if found.count() == before
                && DynamicMessage::deserialize(message.clone(), &alone).is_err()
            {
                found.add(at, format!("must be {}, not {}", wanted(&kind), shown(value)));
            }
        }
    }
}

fn of_value(kind: &Kind, value: &Value, at: &str, found: &mut Mistakes) {
    match (kind, value) {
        (Kind::Message(message), value) => of_message(message, value, at, found),
        (Kind::Enum(members), value) if !is_member(members, value) => {
            let names = members_of(members);
            let meant = value
                .as_str()
                .map(|given| near(given, names.iter().map(String::as_str)))
                .unwrap_or_default();
            let meant =
                meant.first().map_or(String::new(), |one| format!(" (did you mean {one}?)"));
            found.add(
                at,
                format!("must be one of {}, not {}{meant}", names.join(", "), shown(value)),
            );
        }
        (Kind::String, value) if !value.is_string() => {
            let quoted = if matches!(value, Value::Number(_) | Value::Bool(_)) {
                ": put it in quotes"
            } else {
                ""
            };
            found.add(at, format!("must be a text, not {}{quoted}", shown(value)));
        }
        (Kind::Bool, value) if !value.is_boolean() => {
            found.add(at, format!("must be true or false, not {}", shown(value)))
        }
        _ => {}
    }
}

fn is_member(members: &EnumDescriptor, value: &Value) -> bool {
    match value {
        Value::String(name) => members.get_value_by_name(name).is_some(),
        Value::Number(number) => number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
            .is_some_and(|number| members.get_value(number).is_some()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The names that can be given: all but the one that says nothing.
fn members_of(members: &EnumDescriptor) -> Vec<String> {
    members
        .values()
        .filter(|member| member.number() != 0)
        .map(|member| member.name().to_owned())
        .collect()
}

fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double | Kind::Float => "a number",
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => "a whole number, 0 or more",
        Kind::Int32
        | Kind::Int64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Sfixed32
        | Kind::Sfixed64 => "a whole number",
        Kind::Bool => "true or false",
        Kind::String => "a text",
        Kind::Bytes => "base64",
        Kind::Message(_) => "an object",
        Kind::Enum(_) => "one of its names",
    }
}

fn well_known(message: &MessageDescriptor) -> &'static str {
    match message.name() {
        "Timestamp" => "an instant such as 2026-11-22T09:30:00Z",
        "Duration" => "a length of time such as 1.5s",
        "FieldMask" => "names of fields, separated by commas",
        _ => "another value",
    }
}

/// A wrong value, in short.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let cut: String = text.chars().take(SHOWN).collect();
            format!("{cut:?}{}", if cut.len() < text.len() { "..." } else { "" })
        }
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
    }
}
