//! What the reference answered to 4,500 requests (`tests/reference`), asked of our service: from
//! the bytes of a call to the bytes of its answer.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::UInt64Value;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use prost::Message;
use tonic::codegen::Service;

use super::*;
use crate::grpc::inbound::Inbound;

const ANSWERS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/answers.jsonl"));
const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// The settings that a line names as the reference does. The headers are on in all of them.
fn named_settings(names: &Json) -> config::RateLimit {
    let mut settings = settings(&serde_json::json!({"headers": true}));
    for (name, value) in names.as_object().unwrap() {
        match (name.as_str(), value.as_str().unwrap()) {
            ("SHADOW_MODE", value) => settings.shadow_mode = value.parse().unwrap(),
            ("QUOTA_MODE", value) => settings.quota_mode = value.parse().unwrap(),
            ("NEAR_LIMIT_RATIO", value) => settings.near_limit_ratio = value.parse().unwrap(),
            (name, _) => panic!("{name} is no setting that was recorded"),
        }
    }
    settings
}

fn number<N: TryFrom<u64, Error: std::fmt::Debug>>(json: &Json) -> N {
    json.as_u64().unwrap().try_into().unwrap()
}

fn text(json: &Json) -> String {
    json.as_str().unwrap().to_owned()
}

fn recorded_descriptor(json: &Json) -> RateLimitDescriptor {
    let entry = |entry: &Json| Entry { key: text(&entry[0]), value: text(&entry[1]) };
    RateLimitDescriptor {
        entries: json["entries"].as_array().unwrap().iter().map(entry).collect(),
        limit: json.get("limit").map(|limit| RateLimitOverride {
            requests_per_unit: number(&limit[0]),
            unit: number(&limit[1]),
        }),
        hits_addend: json.get("hits").map(|hits| UInt64Value { value: number(hits) }),
        ..RateLimitDescriptor::default()
    }
}

fn recorded_request(json: &Json) -> RateLimitRequest {
    RateLimitRequest {
        domain: text(&json["domain"]),
        descriptors: json["descriptors"]
            .as_array()
            .unwrap()
            .iter()
            .map(recorded_descriptor)
            .collect(),
        hits_addend: number(&json["hits"]),
    }
}

fn call(service: &mut RateLimitGrpc, request: &RateLimitRequest) -> RateLimitResponse {
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&message);
    let call =
        Request::post(SHOULD_RATE_LIMIT).body(Inbound::of(Full::new(Bytes::from(body)))).unwrap();
    let answered = now_or_never(async {
        let body = service.call(call).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(
            Status::from_header_map(body.trailers().unwrap()).unwrap().code(),
            tonic::Code::Ok
        );
        body.to_bytes()
    });
    RateLimitResponse::decode(&answered[5..]).unwrap()
}

/// An answer in the form of the recording.
fn in_short(answer: &RateLimitResponse) -> Json {
    let status = |status: &envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus| {
        let (requests, unit, name) =
            status.current_limit.as_ref().map_or((0, 0, ""), |limit| (limit.requests_per_unit, limit.unit, limit.name.as_str()));
        serde_json::json!([status.code, requests, unit, name, status.limit_remaining])
    };
    let mut headers: Vec<_> = answer
        .response_headers_to_add
        .iter()
        .map(|header| (header.key.to_lowercase(), header.value.clone()))
        .collect();
    headers.retain(|(name, _)| name != "ratelimit-reset");
    headers.sort();
    serde_json::json!({
        "code": answer.overall_code,
        "statuses": answer.statuses.iter().map(status).collect::<Vec<_>>(),
        "headers": headers,
    })
}

/// The series of rules on the metrics page that are not 0, as `domain.key1.key2.statistic`.
fn statistics(page: &str) -> BTreeMap<String, u64> {
    let series = page.lines().filter_map(|line| line.strip_prefix("ratelimit_service_rate_limit_"));
    let shown = series.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (statistic, labels) = series.strip_suffix('}').unwrap().split_once('{').unwrap();
        let (names, values): (Vec<&str>, Vec<&str>) =
            labels.split(',').map(|label| label.split_once('=').unwrap()).unzip();
        assert!(["domain", "key1", "key2"].starts_with(&names), "{line}");
        let values: Vec<&str> = values
            .iter()
            .map(|value| value.strip_prefix('"').unwrap().strip_suffix('"').unwrap())
            .collect();
        (format!("{}.{statistic}", values.join(".")), value.parse().unwrap())
    });
    shown.filter(|(_, value)| *value > 0).collect()
}

#[test]
fn every_recorded_request_is_answered_as_the_reference_answered_it() {
    let mut failures = Vec::new();
    let (mut calls, mut series) = (0, 0);
    for (index, line) in ANSWERS.lines().enumerate() {
        let line_number = index + 1;
        let recorded: Json = serde_json::from_str(line).unwrap();
        let bench = Bench::new(
            recorded["rules"].as_str(),
            named_settings(&recorded["settings"]),
            bounds(&Json::Null),
        );
        let mut service = RateLimitGrpc::new(bench.limiter.clone());
        for (index, request) in recorded["requests"].as_array().unwrap().iter().enumerate() {
            let answered = in_short(&call(&mut service, &recorded_request(request)));
            for (part, answered) in answered.as_object().unwrap() {
                if *answered != request[part] {
                    failures.push(format!(
                        "line {line_number}, request {index}: {part} {answered} instead of {}",
                        request[part]
                    ));
                }
            }
            calls += 1;
        }
        let expected: BTreeMap<String, u64> =
            serde_json::from_value(recorded["statistics"].clone()).unwrap();
        let shown = statistics(&bench.metrics.render());
        if shown != expected {
            failures.push(format!(
                "line {line_number}: statistics {shown:?}\n  instead of {expected:?}"
            ));
        }
        series += expected.len();
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    assert_eq!((calls, series), (4500, 2398), "all of the recording was read");
}
