//! A decision as the messages of Envoy's rate limit service.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Duration, ListValue, Struct, Value};

use crate::config;
use crate::decide::time::SECOND_NS;
use crate::engine::rules::decision::{Decision, LimitMet, Met, Status};
use crate::grpc::wire::{
    Code, CurrentLimit, Descriptor, DescriptorStatus, Entry, LimitOverride, RateLimitRequest,
    RateLimitResponse,
};
use crate::rules::Unit;

pub(super) fn build(
    request: &RateLimitRequest,
    decision: &Decision<'_, '_>,
    settings: &config::RateLimit,
) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code(decision.over_limit).into(),
        statuses: decision.statuses.iter().map(status).collect(),
        response_headers_to_add: settings
            .headers
            .as_ref()
            .map(|names| headers(decision, names))
            .unwrap_or_default(),
        dynamic_metadata: settings.dynamic_metadata.then(|| dynamic_metadata(request, decision)),
        ..RateLimitResponse::default()
    }
}

fn code(over_limit: bool) -> Code {
    if over_limit { Code::OverLimit } else { Code::Ok }
}

fn status(status: &Status<'_, '_>) -> DescriptorStatus {
    let code = code(status.over_limit).into();
    match &status.met {
        Met::Nothing => DescriptorStatus { code, ..DescriptorStatus::default() },
        Met::Unlimited(_) => {
            DescriptorStatus { code, limit_remaining: u32::MAX, ..DescriptorStatus::default() }
        }
        Met::Limit(met) => DescriptorStatus {
            code,
            current_limit: Some(CurrentLimit {
                requests_per_unit: met.per.requests,
                unit: unit_number(met.per.unit),
                name: met.rule().map(|rule| rule.name.clone()).unwrap_or_default(),
                unit_multiplier: (met.per.multiplier != 1).then_some(met.per.multiplier),
            }),
            limit_remaining: remaining(met),
            duration_until_reset: Some(duration(met.standing.reset_ns)),
        },
    }
}

fn remaining(met: &LimitMet<'_, '_>) -> u32 {
    u32::try_from(met.standing.remaining).unwrap_or(u32::MAX)
}

pub(super) fn duration(ns: u64) -> Duration {
    Duration {
        seconds: i64::try_from(ns / SECOND_NS).unwrap_or(i64::MAX),
        nanos: i32::try_from(ns % SECOND_NS).unwrap_or(0),
    }
}

/// `envoy.service.ratelimit.v3.RateLimitResponse.RateLimit.Unit`.
fn unit_number(unit: Unit) -> i32 {
    match unit {
        Unit::Second => 1,
        Unit::Minute => 2,
        Unit::Hour => 3,
        Unit::Day => 4,
        Unit::Month => 5,
        Unit::Year => 6,
        Unit::Week => 7,
    }
}

/// The three headers, from the descriptor with the least left; one that is over its limit, and no
/// quota, goes before, the last of them first.
fn headers(decision: &Decision<'_, '_>, names: &config::HeaderNames) -> Vec<HeaderValue> {
    let mut chosen: Option<(&LimitMet<'_, '_>, bool)> = None;
    for status in &decision.statuses {
        let Met::Limit(met) = &status.met else { continue };
        let over = status.over_limit && !status.quota;
        let replaces = match chosen {
            None => true,
            Some((other, other_over)) => over || (!other_over && remaining(met) < remaining(other)),
        };
        if replaces {
            chosen = Some((met, over));
        }
    }
    let header = |key: &str, value: u64| HeaderValue {
        key: key.to_owned(),
        value: value.to_string(),
        ..HeaderValue::default()
    };
    chosen.map_or_else(Vec::new, |(met, _)| {
        vec![
            header(&names.limit, met.per.requests.into()),
            header(&names.remaining, remaining(met).into()),
            header(&names.reset, met.standing.reset_ns.div_ceil(SECOND_NS)),
        ]
    })
}

/// The request, and the `metadata` of the rules that it passed, for the filters behind.
fn dynamic_metadata(request: &RateLimitRequest, decision: &Decision<'_, '_>) -> Struct {
    let mut fields = BTreeMap::new();
    fields.insert("domain".to_owned(), text(&request.domain));
    fields.insert("descriptors".to_owned(), list(request.descriptors.iter().map(descriptor)));
    if request.hits_addend != 0 {
        fields.insert("hitsAddend".to_owned(), number(request.hits_addend.into()));
    }
    let mut merged = BTreeMap::new();
    let passed = decision.statuses.iter().filter(|status| !status.over_limit);
    for metadata in passed.filter_map(|status| match &status.met {
        Met::Limit(met) => met.rule()?.metadata.as_ref(),
        _ => None,
    }) {
        merge(&mut merged, metadata);
    }
    if !merged.is_empty() {
        fields.insert("metadata".to_owned(), object(merged));
    }
    Struct { fields: fields.into_iter().collect() }
}

fn descriptor(descriptor: &Descriptor) -> Value {
    let mut fields = BTreeMap::new();
    fields.insert("entries".to_owned(), list(descriptor.entries.iter().map(entry)));
    if let Some(LimitOverride { requests_per_unit, unit }) = descriptor.limit {
        let unit = ["UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK"]
            .get(usize::try_from(unit).unwrap_or(0))
            .copied()
            .unwrap_or("UNKNOWN");
        fields.insert(
            "limit".to_owned(),
            string(format!("requests_per_unit:{requests_per_unit} unit:{unit}")),
        );
    }
    if let Some(hits) = descriptor.hits_addend {
        fields.insert("hitsAddend".to_owned(), number(hits));
    }
    object(fields)
}

fn entry(entry: &Entry) -> Value {
    string(format!(
        "{}={}",
        String::from_utf8_lossy(&entry.key),
        String::from_utf8_lossy(&entry.value)
    ))
}

/// The first value of a key wins; objects are merged into each other.
fn merge(into: &mut BTreeMap<String, Value>, from: &serde_json::Map<String, serde_json::Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (None, value) => {
                into.insert(key.clone(), json(value));
            }
            (
                Some(Value { kind: Some(Kind::StructValue(inner)) }),
                serde_json::Value::Object(more),
            ) => {
                let mut fields: BTreeMap<_, _> =
                    std::mem::take(&mut inner.fields).into_iter().collect();
                merge(&mut fields, more);
                inner.fields = fields.into_iter().collect();
            }
            _ => {}
        }
    }
}

fn json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(values) => return list(values.iter().map(json)),
        Json::Object(values) => {
            return object(values.iter().map(|(key, value)| (key.clone(), json(value))).collect());
        }
    };
    Value { kind: Some(kind) }
}

fn text(bytes: &[u8]) -> Value {
    string(String::from_utf8_lossy(bytes).into_owned())
}

fn string(value: String) -> Value {
    Value { kind: Some(Kind::StringValue(value)) }
}

/// A number of a `Struct` is a double, whatever it was.
#[allow(clippy::cast_precision_loss)]
fn number(value: u64) -> Value {
    Value { kind: Some(Kind::NumberValue(value as f64)) }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values: values.collect() })) }
}

fn object(fields: BTreeMap<String, Value>) -> Value {
    Value { kind: Some(Kind::StructValue(Struct { fields: fields.into_iter().collect() })) }
}

/// Texts by key.
pub(crate) fn string_struct<'t>(texts: impl Iterator<Item = (&'static str, &'t str)>) -> Struct {
    Struct {
        fields: texts.map(|(key, value)| (key.to_owned(), string(value.to_owned()))).collect(),
    }
}
