//! Answers of a management server, as resources of rules.

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use prost::{Message, Name};
use serde_json::{Map, Number};

use crate::rules::declared::{Descriptor, File, Metadata, RateLimit};
use crate::rules::resources::{Resources, Unread};

/// The type of resource that rules are.
pub(super) const TYPE_URL: &str =
    "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Whole numbers that a float has exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// What the answer says, whatever the order of its resources and its version: servers shuffle the
/// one and count the other.
pub(super) fn hash(response: &DiscoveryResponse) -> blake3::Hash {
    let mut hashes: Vec<[u8; 32]> = response
        .resources
        .iter()
        .map(|any| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(blake3::hash(any.type_url.as_bytes()).as_bytes());
            hasher.update(&any.value);
            *hasher.finalize().as_bytes()
        })
        .collect();
    hashes.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(response.type_url.as_bytes()).as_bytes());
    hashes.iter().for_each(|hash| {
        hasher.update(hash);
    });
    hasher.finalize()
}

/// The resources of an answer, those that cannot be read apart. An answer of another type has none
/// that can.
pub(super) fn read(response: &DiscoveryResponse) -> Resources {
    let mut resources = Resources::default();
    if !response.type_url.is_empty() && response.type_url != TYPE_URL {
        let reason = format!("an answer of type {} was not asked for", response.type_url);
        resources.unread.push(Unread { name: None, reason });
        return resources;
    }
    for any in &response.resources {
        match read_one(any) {
            Ok(file) => resources.read.push(file),
            Err(unread) => resources.unread.push(unread),
        }
    }
    resources
}

fn read_one(any: &Any) -> Result<File, Unread> {
    if any.type_url == Resource::type_url() {
        let wrapper = Resource::decode(any.value.as_slice()).map_err(|error| Unread {
            name: None,
            reason: format!("it cannot be decoded: {error}"),
        })?;
        let name = Some(wrapper.name).filter(|name| !name.is_empty());
        return match &wrapper.resource {
            Some(inner) => config(inner).map_err(|reason| Unread { name, reason }),
            None => Err(Unread { name, reason: "it holds nothing".to_owned() }),
        };
    }
    config(any).map_err(|reason| Unread { name: None, reason })
}

fn config(any: &Any) -> Result<File, String> {
    if any.type_url != TYPE_URL {
        return Err(format!("unexpected resource type {}", any.type_url));
    }
    // Prost refuses what nests deeper than 100.
    RateLimitConfig::decode(any.value.as_slice())
        .map(file)
        .map_err(|error| format!("it cannot be decoded: {error}"))
}

fn file(config: RateLimitConfig) -> File {
    let RateLimitConfig { name, domain, descriptors } = config;
    File {
        name: if name.is_empty() { domain.clone() } else { name },
        domain,
        descriptors: descriptors.into_iter().map(descriptor).collect(),
        ..File::default()
    }
}

fn descriptor(from: RateLimitDescriptor) -> Descriptor {
    Descriptor {
        key: from.key,
        value: from.value,
        rate_limit: from.rate_limit.map(rate_limit),
        shadow_mode: from.shadow_mode,
        quota_mode: from.quota_mode,
        detailed_metric: from.detailed_metric,
        metadata: from.metadata.map(|metadata| Metadata::Json(object(metadata))),
        descriptors: from.descriptors.into_iter().map(descriptor).collect(),
        ..Descriptor::default()
    }
}

fn rate_limit(from: RateLimitPolicy) -> RateLimit {
    let unit = match RateLimitUnit::try_from(from.unit) {
        // To be no unit is right where there is no limit.
        Ok(RateLimitUnit::Unknown) if from.unlimited => String::new(),
        Ok(unit) => unit.as_str_name().to_owned(),
        Err(_) => from.unit.to_string(),
    };
    RateLimit {
        unit,
        requests_per_unit: Some(from.requests_per_unit),
        unlimited: from.unlimited,
        name: from.name,
        replaces: from.replaces.into_iter().map(|replaces| replaces.name).collect(),
        ..RateLimit::default()
    }
}

fn object(from: Struct) -> Map<String, serde_json::Value> {
    from.fields.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn json(from: Value) -> serde_json::Value {
    match from.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::StructValue(fields)) => object(fields).into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::NumberValue(number)) => self::number(number),
    }
}

/// A whole number is written as one.
#[allow(clippy::cast_possible_truncation)]
fn number(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        return (number as i64).into();
    }
    Number::from_f64(number).map_or(serde_json::Value::Null, Into::into)
}

#[cfg(test)]
mod tests;
