//! The wire contract: programs that were built from the first protos (`tests/wire/v0`) and programs
//! of today understand each other.

mod calls;
mod comments;
mod contract;
mod envoy_descriptors;

use std::path::Path;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    MethodDescriptor, Value,
};
use tollgate::grpc::TOLLGATE_DESCRIPTORS;

/// The contract as old programs have it.
fn v0() -> DescriptorPool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/v0");
    let files =
        protox::compile(["tollgate/v1/decision.proto", "tollgate/v1/usage_plans.proto"], [root])
            .unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

/// The contract as it is.
fn today() -> DescriptorPool {
    DescriptorPool::decode(TOLLGATE_DESCRIPTORS).unwrap()
}

/// Every method, with its service: `tollgate.v1.UsagePlanService/GetTarget`.
fn methods(pool: &DescriptorPool) -> Vec<(String, MethodDescriptor)> {
    let named = |method: MethodDescriptor| {
        (format!("{}/{}", method.parent_service().full_name(), method.name()), method)
    };
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).map(named).collect()
}

/// A message with every field set, no two alike and none to its default. Of each `oneof` it has the
/// part of this number.
fn filled(message: &MessageDescriptor, part: usize) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let parts: Vec<u32> = field
            .containing_oneof()
            .iter()
            .flat_map(|parts| parts.fields().collect::<Vec<_>>())
            .map(|f| f.number())
            .collect();
        if parts.is_empty() || parts[part % parts.len()] == field.number() {
            filled.set_field(&field, value(&field, part));
        }
    }
    filled
}

/// The most parts that a `oneof` in a message has.
fn parts(message: &MessageDescriptor) -> usize {
    let below = message.fields().filter_map(|field| field.kind().as_message().map(parts));
    message.oneofs().map(|parts| parts.fields().len()).chain(below).max().unwrap_or(1)
}

fn value(field: &FieldDescriptor, part: usize) -> Value {
    if field.is_map() {
        let entry = field.kind().as_message().unwrap().map_entry_value_field();
        return Value::Map(
            [(MapKey::String(format!("{}-key", field.name())), one(&entry, part, 0))].into(),
        );
    }
    if field.is_list() {
        Value::List(vec![one(field, part, 0), one(field, part, 1)])
    } else {
        one(field, part, 0)
    }
}

fn one(field: &FieldDescriptor, part: usize, nth: u32) -> Value {
    let number = field.number() + 100 * (nth + 1);
    match field.kind() {
        Kind::Double => Value::F64(f64::from(number) + 0.5),
        Kind::Int32 => Value::I32(number.try_into().unwrap()),
        Kind::Int64 => Value::I64(-i64::from(number)),
        Kind::Uint32 => Value::U32(number),
        Kind::Uint64 => Value::U64(u64::from(number) << 33),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("{} {nth}", field.name())),
        Kind::Bytes => Value::Bytes(field.name().as_bytes().to_vec().into()),
        Kind::Enum(values) => Value::EnumNumber(values.values().last().unwrap().number()),
        Kind::Message(message) => Value::Message(filled(&message, part)),
        other => panic!("no field was of {other:?} before: say here what it is filled with"),
    }
}
