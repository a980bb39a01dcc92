//! JSON to messages of `tollgate.v1` and back, by their descriptors: the names of the proto's JSON
//! mapping, or those of the proto itself.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, SerializeOptions,
};
use serde_json::Value;

use super::TOLLGATE_DESCRIPTORS;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::Mistakes;

mod declared;
mod mistakes;
mod oci;

pub use declared::{File, Places, Read, declared, declared_in_part, named_usage_plan, usage_plan};

/// The descriptors of `tollgate.v1`.
fn pool() -> Result<&'static DescriptorPool, String> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        DescriptorPool::decode(TOLLGATE_DESCRIPTORS).map_err(|error| error.to_string())
    });
    pool.as_ref().map_err(Clone::clone)
}

fn descriptor(full_name: &str) -> Result<MessageDescriptor, String> {
    pool()?.get_message_by_name(full_name).ok_or_else(|| format!("there is no message {full_name}"))
}

/// The message of that name, for example `tollgate.v1.UsagePlan`, that `value` describes; or all
/// that is wrong, by field.
pub fn read<T: Message + Default>(full_name: &str, value: &Value) -> Result<T, Vec<Invalid>> {
    let whole = |reason: String| vec![Invalid::new("", reason)];
    let descriptor = descriptor(full_name).map_err(whole)?;
    let mut found = Mistakes::default();
    mistakes::twice(&descriptor, value, "", &mut found);
    let message = DynamicMessage::deserialize(descriptor.clone(), value);
    if message.is_err() {
        mistakes::of_message(&descriptor, value, "", &mut found);
    }
    found.or_else(())?;
    message
        .map_err(|error| whole(error.to_string()))?
        .transcode_to()
        .map_err(|error| whole(error.to_string()))
}

/// The same, with what is wrong as one sentence.
pub fn from_json<T: Message + Default>(full_name: &str, value: Value) -> Result<T, String> {
    read(full_name, &value).map_err(|mistakes| sentence(&mistakes))
}

/// All that is wrong, one after the other.
pub fn sentence(mistakes: &[Invalid]) -> String {
    mistakes
        .iter()
        .map(|mistake| mistake.to_string().trim_start().to_owned())
        .collect::<Vec<_>>()
        .join("; ")
}

/// What the message of that name looks like in JSON. Every field is there: numbers that are 0,
/// empty texts, lists and maps, and null for a message or a value that is not set. Numbers of 64
/// bits are numbers and not texts: all that are declared fit into 53 bits.
pub fn to_json<T: Message>(full_name: &str, message: &T) -> Result<Value, String> {
    let mut dynamic = DynamicMessage::new(descriptor(full_name)?);
    dynamic.transcode_from(message).map_err(|error| error.to_string())?;
    let options =
        SerializeOptions::new().stringify_64_bit_integers(false).skip_default_fields(false);
    let mut value = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| error.to_string())?;
    say_what_is_not_set(&dynamic.descriptor(), &mut value);
    Ok(value)
}

/// Puts null for each field that can be unset and is.
fn say_what_is_not_set(message: &MessageDescriptor, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    if message.full_name().starts_with("google.protobuf.") {
        return;
    }
    for field in message.fields() {
        let value = fields.entry(field.json_name()).or_insert(Value::Null);
        match (field.kind(), value) {
            (Kind::Message(inner), Value::Array(items)) => {
                items.iter_mut().for_each(|item| say_what_is_not_set(&inner, item))
            }
            (Kind::Message(inner), value) if !field.is_map() => say_what_is_not_set(&inner, value),
            _ => {}
        }
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
