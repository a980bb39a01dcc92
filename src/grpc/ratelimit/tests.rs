mod durable_rules;
mod reference;

use std::io::Write;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use serde_json::Value as Json;

use tonic::Status;

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::rules::RuleEngine;
use crate::grpc::wire::{Code, DescriptorStatus, Entry, LimitOverride};
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;
use crate::service::durable_rules::DurableRules;
use crate::testkit::started::StartedRules;
use crate::testkit::told_clock::ToldClock;

const UNITS: [&str; 8] = ["UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK"];

/// A rate limiter over one rules text, with a clock that the test sets.
pub(super) struct Bench {
    pub(super) limiter: RateLimiter,
    metrics: Arc<Metrics>,
    told: ToldClock,
    is_durable: bool,
}

impl Bench {
    fn new(rules: Option<&str>, settings: config::RateLimit, bounds: config::GrpcBounds) -> Self {
        Self::with(rules, settings, bounds, StartedRules::durable)
    }

    /// With the durable rules that `durable` makes.
    pub(super) fn with(
        rules: Option<&str>,
        settings: config::RateLimit,
        bounds: config::GrpcBounds,
        durable: impl FnOnce(Clock, &config::Plans) -> DurableRules,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let rulebook = rulebook(rules, &metrics);
        let engine = Arc::new(RuleEngine::new(1000).unwrap());
        let told = ToldClock::at(instant(0.0));
        let clock = told.clock();
        let decisions = crate::testkit::started::empty(clock.clone(), &metrics);
        let durable = durable(clock.clone(), decisions.settings());
        let limits = RateLimits::new(rate_limits::Parts {
            engine,
            rulebook,
            clock,
            metrics: metrics.clone(),
            decisions,
            durable,
            settings,
            bounds,
        });
        let is_durable = rules.is_some_and(|rules| rules.contains("durable"));
        Self { limiter: RateLimiter(Arc::new(limits)), metrics, told, is_durable }
    }

    fn answer(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, RateLimitError> {
        self.finished(self.limiter.answer(request, None))
    }

    fn answer_json(&self, body: &[u8]) -> Result<(bool, String), JsonError> {
        self.finished(self.limiter.answer_json(body, None))
    }

    /// Only durable rules may have to wait: for their ledger.
    fn finished<T: Send>(&self, answer: impl Future<Output = T> + Send) -> T {
        if !self.is_durable {
            return now_or_never(answer);
        }
        // On a thread of its own: the one that a test runs on may run other futures.
        let finish = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(answer)
        };
        std::thread::scope(|scope| scope.spawn(finish).join().unwrap())
    }

    pub(super) fn at(&self, s: f64) {
        self.told.set(instant(s));
    }
}

/// The rules of a text, or none.
fn rulebook(rules: Option<&str>, metrics: &Arc<Metrics>) -> Arc<Rulebook> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(rules.unwrap_or_default().as_bytes()).unwrap();
    let files = config::Rules {
        paths: rules.map(|_| file.path().to_owned()).into_iter().collect(),
        merge_domains: false,
        ignore_dotfiles: true,
        any_extension: false,
        prefix: String::new(),
        poll_ms: 1000,
    };
    Arc::new(Rulebook::open(files, metrics.clone()).unwrap())
}

/// Other rules are answered without waiting for anything.
fn now_or_never<T>(answer: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(answer).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

/// Seconds after the midnight that starts day 20,001.
fn instant(s: f64) -> Now {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ns = (s * 1e9).round() as u64;
    Now { unix_ns: 20_001 * 86_400 * SECOND_NS + ns, steady_ns: 1 + ns }
}

pub(super) fn settings(json: &Json) -> config::RateLimit {
    let on = |key: &str| json.get(key).and_then(Json::as_bool).unwrap_or(false);
    let names = config::HeaderNames {
        limit: "RateLimit-Limit".to_owned(),
        remaining: "RateLimit-Remaining".to_owned(),
        reset: "RateLimit-Reset".to_owned(),
    };
    config::RateLimit {
        stop_when_over_limit: false,
        shadow_mode: on("shadow_mode"),
        quota_mode: on("quota_mode"),
        near_limit_ratio: 0.8,
        dynamic_metadata: on("dynamic_metadata"),
        headers: on("headers").then_some(names),
    }
}

pub(super) fn bounds(json: &Json) -> config::GrpcBounds {
    let bound = |key: &str, default| {
        json.get(key).and_then(Json::as_u64).map_or(default, |bound| bound.try_into().unwrap())
    };
    config::GrpcBounds {
        max_message_bytes: 4 << 20,
        max_apply_bytes: 4 << 20,
        max_descriptors: bound("max_descriptors", 100),
        max_entries: bound("max_entries", 100),
    }
}

/// `d hits=3 | k=v,l=w hits=1 | …`
pub(super) fn request(text: &str) -> RateLimitRequest {
    let mut parts = text.split('|');
    let mut head = parts.next().unwrap().trim().split(" hits=");
    RateLimitRequest {
        domain: Bytes::copy_from_slice(head.next().unwrap().as_bytes()),
        hits_addend: head.next().map_or(0, |hits| hits.parse().unwrap()),
        descriptors: parts.map(descriptor).collect(),
    }
}

fn descriptor(text: &str) -> wire::Descriptor {
    let mut words = text.trim().split(' ');
    let mut descriptor = wire::Descriptor::default();
    for entry in words.next().unwrap().split(',').filter(|entry| !entry.is_empty()) {
        let (key, value) = entry.split_once('=').unwrap();
        descriptor.entries.push(Entry {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        });
    }
    for word in words {
        match word.split_once('=') {
            None => descriptor.is_negative_hits = word == "negative",
            Some(("hits", hits)) => descriptor.hits_addend = Some(hits.parse().unwrap()),
            Some((_, limit)) => {
                let (requests, unit) = limit.split_once('/').unwrap();
                let unit = UNITS
                    .iter()
                    .position(|name| *name == unit)
                    .map_or_else(|| unit.parse().unwrap(), |unit| unit.try_into().unwrap());
                descriptor.limit =
                    Some(LimitOverride { requests_per_unit: requests.parse().unwrap(), unit });
            }
        }
    }
    descriptor
}

fn code(code: i32) -> &'static str {
    match Code::try_from(code) {
        Ok(Code::Ok) => "OK",
        Ok(Code::OverLimit) => "OVER",
        _ => "UNKNOWN",
    }
}

fn status(status: &DescriptorStatus) -> String {
    let code = code(status.code);
    match (&status.current_limit, &status.duration_until_reset) {
        (None, None) if status.limit_remaining == u32::MAX => format!("{code} unlimited"),
        (None, None) => code.to_owned(),
        (Some(limit), Some(reset)) => {
            let times = limit
                .unit_multiplier
                .map(|multiplier| format!("{multiplier}x"))
                .unwrap_or_default();
            let unit = UNITS[usize::try_from(limit.unit).unwrap()];
            let nanos = if reset.nanos == 0 {
                String::new()
            } else {
                format!(".{:09}", reset.nanos).trim_end_matches('0').to_owned()
            };
            let name =
                if limit.name.is_empty() { String::new() } else { format!(" {}", limit.name) };
            format!(
                "{code} {} of {}/{times}{unit} {}{nanos}s{name}",
                status.limit_remaining, limit.requests_per_unit, reset.seconds
            )
        }
        _ => format!("{code} with half a limit"),
    }
}

fn json(value: &Value) -> Json {
    match value.kind.as_ref().unwrap() {
        Kind::NullValue(_) => Json::Null,
        Kind::NumberValue(value) => (*value).into(),
        Kind::StringValue(value) => value.as_str().into(),
        Kind::BoolValue(value) => (*value).into(),
        Kind::StructValue(value) => object(value),
        Kind::ListValue(value) => value.values.iter().map(json).collect(),
    }
}

fn object(value: &Struct) -> Json {
    value.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

pub(super) fn show(answer: Result<RateLimitResponse, RateLimitError>) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let status = Status::from(error);
            return format!("error {:?} {}", status.code(), status.message());
        }
    };
    let mut text = code(answer.overall_code).to_owned();
    for shown in answer.statuses.iter().map(status) {
        text += &format!(" | {shown}");
    }
    if !answer.response_headers_to_add.is_empty() {
        let headers: Vec<String> = answer
            .response_headers_to_add
            .iter()
            .map(|header| format!("{}: {}", header.key, header.value))
            .collect();
        text += &format!(" ; headers {}", headers.join(", "));
    }
    if let Some(metadata) = &answer.dynamic_metadata {
        text += &format!(" ; metadata {}", object(metadata).to_string().replace('"', "'"));
    }
    text
}

#[test]
fn the_cases_hold() {
    let cases = crate::yaml::parse(include_str!("cases.yaml")).unwrap().root.to_json().unwrap();
    let mut failures = String::new();
    let mut calls = 0;
    for case in cases.as_array().unwrap() {
        let rules = case.get("rules").map(Json::to_string);
        let bench =
            Bench::new(rules.as_deref(), settings(&case["settings"]), bounds(&case["bounds"]));
        for call in case["calls"].as_array().unwrap() {
            let (asked, expected) = call.as_str().unwrap().split_once(" -> ").unwrap();
            let (s, asked) = asked.split_once('|').unwrap();
            bench.at(s.trim().parse().unwrap());
            let answered = show(bench.answer(&request(asked)));
            if answered != expected {
                failures += &format!("\n{}: {call}\n  answered {answered}", case["name"]);
            }
            calls += 1;
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(calls > 100, "the table was read");
}

fn one_rule(per_minute: u32) -> Bench {
    let rules = format!(
        "{{domain: d, descriptors: [{{key: k, rate_limit: {{unit: minute, requests_per_unit: {per_minute}}}}}]}}"
    );
    Bench::new(Some(&rules), settings(&Json::Null), bounds(&Json::Null))
}

#[test]
fn any_bytes_of_any_length_are_matched_and_counted() {
    let bench = one_rule(1);
    for value in [&b"\xff\xfe"[..], b"", &[0; 50_000], &[b'x'; 1_000_000], "\u{10ffff}".as_bytes()]
    {
        let mut request = request("d | k=");
        request.descriptors[0].entries[0].value = Bytes::copy_from_slice(value);
        assert_eq!(show(bench.answer(&request)), "OK | OK 0 of 1/MINUTE 60s");
        assert_eq!(show(bench.answer(&request)), "OVER | OVER 0 of 1/MINUTE 60s");
    }
    let mut unknown = request("d | k=v");
    unknown.domain = Bytes::from_static(b"\xff");
    assert_eq!(show(bench.answer(&unknown)), "OK | OK");
}

#[test]
fn the_series_of_a_rule_add_up_as_in_the_reference() {
    let bench = one_rule(10);
    // Near starts at 8. 5: within; 4: within, 1 of them near; 3: 1 within the limit is near, 2
    // over; 1: over.
    for (hits, series) in
        [(5, [5, 0, 0, 5]), (4, [9, 0, 1, 9]), (3, [12, 2, 2, 9]), (1, [13, 3, 2, 9])]
    {
        bench.answer(&request(&format!("d | k=v hits={hits}"))).unwrap();
        let text = bench.metrics.render();
        for (name, value) in
            ["total_hits", "over_limit", "near_limit", "within_limit"].iter().zip(series)
        {
            let line =
                format!("ratelimit_service_rate_limit_{name}{{domain=\"d\",key1=\"k\"}} {value}\n");
            assert!(text.contains(&line), "after {hits}: {line}{text}");
        }
    }
    bench.answer(&request("d | k=v hits=2 negative")).unwrap();
    bench.answer(&request("nowhere | k=v")).unwrap();
    let text = bench.metrics.render();
    assert!(
        text.contains(
            "ratelimit_service_rate_limit_total_negative_hits{domain=\"d\",key1=\"k\"} 2\n"
        )
    );
    assert!(text.contains("ratelimit_service_rate_limit_total_hits{domain=\"d\",key1=\"k\"} 13\n"));
    assert!(text.contains("ratelimit_service_domain_not_found 1\n"));
}

#[test]
fn errors_are_counted_under_the_name_of_the_reference_from_zero() {
    let bench = one_rule(10);
    let shown = |err_type: &str| {
        let (text, start) = (
            bench.metrics.render(),
            format!("ratelimit_service_should_rate_limit_error{{err_type=\"{err_type}\"}} "),
        );
        text.lines()
            .find_map(|line| line.strip_prefix(&start))
            .map(|number| number.parse::<u64>().unwrap())
    };
    assert_eq!(
        (shown("service_error"), shown("redis_error")),
        (Some(0), Some(0)),
        "an alert on a series that is not there never fires"
    );
    bench.answer(&RateLimitRequest::default()).unwrap_err();
    assert_eq!(shown("service_error"), Some(1));
    bench.answer_json(b"{}").unwrap_err();
    assert_eq!(shown("service_error"), Some(2));
    bench.answer(&request("d | k=v hits=11")).unwrap();
    assert_eq!(
        (shown("service_error"), shown("redis_error")),
        (Some(2), Some(0)),
        "over a limit is no error"
    );
}

#[test]
fn overrides_are_counted_under_their_own_bounded_series() {
    let bench = one_rule(10);
    bench.answer(&request("d | k=a,l=b limit=5/MINUTE")).unwrap();
    assert!(bench.metrics.render().contains(
        "ratelimit_service_rate_limit_total_hits{domain=\"d\",key1=\"k_a\",key2=\"l_b\"} 1\n"
    ));
}

#[test]
fn json_speaks_protobufs_mapping() {
    let bench = one_rule(1);
    let body = r#"{"domain": "d", "hitsAddend": 1, "descriptors": [{"entries": [{"key": "k", "value": "v"}]}]}"#;
    let (over_limit, answer) = bench.answer_json(body.as_bytes()).unwrap();
    assert!(!over_limit);
    let limit =
        r#""currentLimit":{"requestsPerUnit":1,"unit":"MINUTE"},"durationUntilReset":"60s""#;
    assert_eq!(answer, format!(r#"{{"overallCode":"OK","statuses":[{{"code":"OK",{limit}}}]}}"#));
    assert!(bench.answer_json(body.as_bytes()).unwrap().0);
    for bad in [
        "",
        "{",
        "[]",
        r#"{"domains": "d"}"#,
        r#"{"domain": "d"}"#,
        r#"{"domain": 5}"#,
        &format!("{body} x"),
    ] {
        assert!(bench.answer_json(bad.as_bytes()).is_err(), "{bad}");
    }
}
