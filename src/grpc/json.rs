//! JSON to messages of `tollgate.v1` and back, by their descriptors: the names of the proto's JSON mapping, or those of the proto itself.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};

use super::TOLLGATE_DESCRIPTORS;

mod declared;
mod oci;

pub use declared::{Read, declared, usage_plan};

/// The descriptors of `tollgate.v1`.
fn pool() -> Result<&'static DescriptorPool, String> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(TOLLGATE_DESCRIPTORS).map_err(|error| error.to_string()));
    pool.as_ref().map_err(Clone::clone)
}

fn descriptor(full_name: &str) -> Result<MessageDescriptor, String> {
    pool()?.get_message_by_name(full_name).ok_or_else(|| format!("there is no message {full_name}"))
}

/// The message of that name, for example `tollgate.v1.UsagePlan`, that `value` describes. The error names the field that is wrong.
pub fn from_json<T: Message + Default>(full_name: &str, value: Value) -> Result<T, String> {
    let descriptor = descriptor(full_name)?;
    let read = DynamicMessage::deserialize(descriptor.clone(), &value);
    let message = read.map_err(|error| wrong_field(&descriptor, &value, "").unwrap_or_else(|| error.to_string()))?;
    message.transcode_to().map_err(|error| error.to_string())
}

/// What the message of that name looks like in JSON. Numbers of 64 bits are numbers and not texts: all that are declared fit into 53 bits.
pub fn to_json<T: Message>(full_name: &str, message: &T) -> Result<Value, String> {
    let mut dynamic = DynamicMessage::new(descriptor(full_name)?);
    dynamic.transcode_from(message).map_err(|error| error.to_string())?;
    let options = SerializeOptions::new().stringify_64_bit_integers(false);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

/// The first field of `value` that cannot be read as one of the message, and why.
fn wrong_field(message: &MessageDescriptor, value: &Value, at: &str) -> Option<String> {
    if message.full_name().starts_with("google.protobuf.") {
        return DynamicMessage::deserialize(message.clone(), value).err().map(|error| format!("{at}: {error}"));
    }
    let Value::Object(fields) = value else {
        return Some(format!("{}must be an object, not {}", if at.is_empty() { String::new() } else { format!("{at} ") }, kind_of(value)));
    };
    fields.iter().find_map(|(name, value)| {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name)) {
            Some(field) => wrong_value(message, &field, name, value, &at),
            None => Some(format!("{at} is not a field of {}", message.name())),
        }
    })
}

fn wrong_value(message: &MessageDescriptor, field: &FieldDescriptor, name: &str, value: &Value, at: &str) -> Option<String> {
    let alone = || {
        let alone = Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
        DynamicMessage::deserialize(message.clone(), &alone).err().map(|error| format!("{at}: {error}"))
    };
    match (field.kind(), value) {
        // It may be the value of an API key, and is not repeated.
        (Kind::String, value) if name == "value" && !value.is_string() => Some(format!("{at} must be a text, not {}", kind_of(value))),
        (_, Value::Null) => alone(),
        (Kind::Message(inner), Value::Array(items)) if field.is_list() => {
            items.iter().enumerate().find_map(|(i, item)| wrong_field(&inner, item, &format!("{at}[{i}]")))
        }
        (Kind::Message(inner), _) if !field.is_list() && !field.is_map() => wrong_field(&inner, value, at),
        (_, value) if field.is_list() && !value.is_array() => Some(format!("{at} must be a list, not {}", kind_of(value))),
        _ => alone(),
    }
}

/// The word for what a value is.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
