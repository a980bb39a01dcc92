//! API keys and tokens are not told to anybody: real calls with distinctive ones, and then a search
//! of all that was said.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::process::{Command, Stdio};

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest as ExternalCheck};
use tempfile::TempDir;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::pb::tollgate as pb;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::wire::{Descriptor, Entry, LimitOverride, RateLimitRequest};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{Tokens, with_token};
use crate::http::{get, post};
use crate::server::Tollgate;

/// Values of API keys: known, and not.
const KEYS: [&str; 2] = ["Zq7xW2vKp9LmN4tRb8Ys3HfD", "Vu5jG1cXe6QwT0oIa2Bn7MkS"];
const KNOWN: &str = KEYS[0];
const UNKNOWN: &str = KEYS[1];
/// So many characters of one may never be seen in a row.
const SHOWN: usize = 5;

const RULES: &str = "
domain: shop
descriptors:
- {key: api_key, detailed_metric: true, rate_limit: {unit: minute, requests_per_unit: 5}}
- {key: X-Api-Key, value_to_metric: true, descriptors: [{key: path, rate_limit: {unit: minute, requests_per_unit: 5}}]}
";

/// All that was said to anybody, with what it was said about.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn note(&mut self, what: &str, said: impl Debug) {
        self.0.push((what.to_owned(), format!("{said:?}")));
    }

    fn answer<T: Debug>(&mut self, what: &str, answer: Result<Response<T>, Status>) {
        self.note(what, answer.map(Response::into_inner));
    }

    /// Fails where something was said that holds too much of a secret.
    fn search(&self, secrets: &[&str]) {
        let mut leaks = Vec::new();
        for (what, said) in &self.0 {
            for secret in secrets {
                let parts =
                    secret.as_bytes().windows(SHOWN).map(|part| std::str::from_utf8(part).unwrap());
                if let Some(part) = parts.into_iter().find(|part| said.contains(part)) {
                    let line = said
                        .split("\\n")
                        .flat_map(str::lines)
                        .find(|line| line.contains(part))
                        .unwrap_or_default();
                    leaks.push(format!("{what} tells {part} of {secret}: {line}"));
                }
            }
        }
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    }
}

struct Bench {
    channel: Channel,
    token: String,
    heard: Heard,
}

impl Bench {
    fn ask<T>(&self, message: T) -> tonic::Request<T> {
        with_token(message, Some(&self.token))
    }

    async fn edits(&mut self) {
        let mut plans = UsagePlanServiceClient::new(self.channel.clone());
        let plan = pb::UsagePlan { id: "gold".to_owned(), ..pb::UsagePlan::default() };
        let create = pb::CreateUsagePlanRequest { usage_plan: Some(plan), ..Default::default() };
        plans.create_usage_plan(self.ask(create)).await.unwrap();
        let acme = pb::Subscriber {
            id: "acme".to_owned(),
            plans: vec!["gold".to_owned()],
            ..pb::Subscriber::default()
        };
        let create = pb::CreateSubscriberRequest { subscriber: Some(acme), ..Default::default() };
        plans.create_subscriber(self.ask(create)).await.unwrap();
        let attach = pb::AttachTargetRequest {
            plan: "gold".to_owned(),
            target: "a".to_owned(),
            ..Default::default()
        };
        self.heard.answer("attach", plans.attach_target(self.ask(attach)).await);

        let key = |id: &str| {
            Some(pb::ApiKey {
                id: id.to_owned(),
                subscriber: "acme".to_owned(),
                ..pb::ApiKey::default()
            })
        };
        let spaced = format!("{UNKNOWN} {UNKNOWN}");
        for (id, value) in [
            ("k1", KNOWN.to_owned()),
            ("k1", UNKNOWN.to_owned()),
            ("k2", KNOWN.to_owned()),
            ("k3", UNKNOWN[..19].to_owned()),
            ("k3", UNKNOWN.repeat(6)),
            ("k3", spaced),
            ("k3", format!("{UNKNOWN}ö")),
            (UNKNOWN, UNKNOWN.to_owned()),
        ] {
            // The last is a value that somebody takes for an id as well: a mistake, and it is
            // refused for another reason.
            let subscriber = if id == UNKNOWN { "nobody" } else { "acme" };
            let api_key =
                key(id).map(|key| pb::ApiKey { subscriber: subscriber.to_owned(), ..key });
            let import = pb::ImportApiKeyRequest {
                api_key,
                value,
                request_id: "once".to_owned(),
                ..Default::default()
            };
            self.heard
                .answer(&format!("import {id}"), plans.import_api_key(self.ask(import)).await);
        }
        for value in [KNOWN, UNKNOWN] {
            let id = value.to_owned();
            self.heard.answer(
                "get by value",
                plans.get_api_key(self.ask(pb::GetApiKeyRequest { id: id.clone() })).await,
            );
            let delete = pb::DeleteApiKeyRequest { id: id.clone(), ..Default::default() };
            self.heard.answer("delete by value", plans.delete_api_key(self.ask(delete)).await);
            let update = pb::UpdateApiKeyRequest { api_key: key(value), ..Default::default() };
            self.heard.answer("update by value", plans.update_api_key(self.ask(update)).await);
            let usage = pb::GetUsageRequest {
                scope: Some(pb::get_usage_request::Scope::ApiKey(id.clone())),
                ..Default::default()
            };
            self.heard.answer("usage by value", plans.get_usage(self.ask(usage)).await);
            let grant = pb::GrantRequest {
                subject: Some(pb::grant_request::Subject::ApiKey(id)),
                ..Default::default()
            };
            self.heard.answer("grant by value", plans.grant(self.ask(grant)).await);
            for filter in
                [format!("value={value}"), value.to_owned(), format!("label.x={value} {value}")]
            {
                let list = pb::ListApiKeysRequest {
                    filter,
                    page_token: value.to_owned(),
                    order_by: value.to_owned(),
                    ..Default::default()
                };
                self.heard.answer("list by value", plans.list_api_keys(self.ask(list)).await);
            }
        }
        let with_value = |id: &str, value: &str| pb::ApiKeyWithValue {
            api_key: key(id),
            value: value.to_owned(),
            mask: None,
        };
        let acme = pb::Subscriber {
            id: "acme".to_owned(),
            plans: vec!["gold".to_owned()],
            ..pb::Subscriber::default()
        };
        for keys in [
            vec![with_value("k4", KNOWN)],
            vec![with_value("k5", UNKNOWN), with_value("k6", UNKNOWN)],
            vec![with_value("k7", &UNKNOWN[..12])],
            vec![with_value("", UNKNOWN)],
        ] {
            let subscribers =
                vec![pb::SubscriberWithKeys { subscriber: Some(acme.clone()), keys, mask: None }];
            let apply = pb::ApplyRequest { subscribers, ..Default::default() };
            self.heard.answer("apply", plans.apply(self.ask(apply)).await);
        }
    }

    async fn decisions(&mut self) {
        let mut decisions = DecisionServiceClient::new(self.channel.clone());
        for value in [KNOWN, UNKNOWN] {
            let api_key = Bytes::copy_from_slice(value.as_bytes());
            for (target, cost) in
                [("a", Some(1)), ("b", None), ("a", Some(u64::MAX)), (value, None)]
            {
                let check = pb::CheckRequest {
                    api_key: api_key.clone(),
                    target: target.to_owned(),
                    cost,
                    operation_id: "the-same".into(),
                    method: "GET".into(),
                    ..Default::default()
                };
                self.heard.answer("check", decisions.check(self.ask(check)).await);
            }
            let batch = pb::CheckBatch {
                api_keys: vec![api_key.clone(); 3],
                targets: vec!["a".to_owned(); 2],
                ..Default::default()
            };
            let answers = decisions.check_stream(self.ask(tokio_stream::once(batch))).await;
            let said = match answers {
                Ok(answers) => format!("{:?}", answers.into_inner().message().await),
                Err(status) => format!("{status:?}"),
            };
            self.heard.note("check stream", said);
            let of_caller = pb::outcome::Caller { api_key: api_key.clone(), target: "a".into() };
            let subjects =
                [pb::outcome::Subject::Caller(of_caller), pb::outcome::Subject::Receipt(api_key)];
            let ended = Some(pb::outcome::Result::HttpStatus(200));
            let outcomes = subjects.into_iter().map(|subject| pb::Outcome {
                subject: Some(subject),
                result: ended,
                ..Default::default()
            });
            let report = pb::ReportRequest { outcomes: outcomes.collect() };
            self.heard.answer("report", decisions.report(self.ask(report)).await);
        }
    }

    async fn envoy(&mut self) {
        let mut limits = RateLimitServiceClient::new(self.channel.clone());
        for value in [KNOWN, UNKNOWN] {
            for (domain, key, unit) in [
                ("tollgate", "api_key", 2),
                ("tollgate-report", "api_key", 2),
                ("tollgate-report", "receipt", 2),
                ("shop", "api_key", 2),
                ("shop", "api_key", 99),
                ("shop", "API-KEY", 2),
                ("shop", "x-api-key", 2),
                ("shop", "X-Api-Key", 2),
                ("shop", "authorization", 2),
                (value, "api_key", 2),
            ] {
                let entry = |key: &str, value: &str| Entry {
                    key: Bytes::copy_from_slice(key.as_bytes()),
                    value: Bytes::copy_from_slice(value.as_bytes()),
                };
                for limit in [None, Some(LimitOverride { requests_per_unit: 3, unit })] {
                    let entries = vec![entry(key, value), entry("path", "/")];
                    let request = RateLimitRequest {
                        domain: Bytes::copy_from_slice(domain.as_bytes()),
                        descriptors: [entries.clone(), entries[..1].to_vec()]
                            .map(|entries| Descriptor { entries, limit, ..Descriptor::default() })
                            .into(),
                        ..RateLimitRequest::default()
                    };
                    self.heard
                        .answer("rate limit", limits.should_rate_limit(self.ask(request)).await);
                }
            }
            let mut external = AuthorizationClient::new(self.channel.clone());
            for (name, value) in
                [("x-api-key", value.to_owned()), ("authorization", format!("Bearer {value}"))]
            {
                let http = HttpRequest {
                    headers: [(name.to_owned(), value)].into(),
                    ..HttpRequest::default()
                };
                let request = Some(Asked { http: Some(http), ..Asked::default() });
                let check = ExternalCheck {
                    attributes: Some(AttributeContext { request, ..AttributeContext::default() }),
                };
                self.heard.answer("external authorization", external.check(self.ask(check)).await);
            }
        }
    }

    async fn what_is_read(&mut self) {
        let mut plans = UsagePlanServiceClient::new(self.channel.clone());
        let get = pb::GetApiKeyRequest { id: "k1".to_owned() };
        let key = plans.get_api_key(self.ask(get)).await.unwrap();
        assert_eq!(key.get_ref().last_four, KNOWN[20..]);
        self.heard.answer("get", Ok(key));
        self.heard
            .answer("list", plans.list_api_keys(self.ask(pb::ListApiKeysRequest::default())).await);
        self.heard.answer("usage", plans.get_usage(self.ask(pb::GetUsageRequest::default())).await);
    }
}

fn json_pages(tollgate: &Tollgate, token: &str, heard: &mut Heard) {
    let entry = |value: &str| {
        format!(
            r#"{{"domain": "shop", "descriptors": [{{"entries": [{{"key": "api_key", "value": {value}}}]}}]"#
        )
    };
    let quoted = format!("\"{UNKNOWN}\"");
    let bodies = [
        format!("{}}}", entry(&quoted)),
        entry(&quoted),
        format!("{}, \"hitsAddend\": {quoted}}}", entry(&quoted)),
        format!("{}, {quoted}: 1}}", entry(&quoted)),
        format!("{}}}", entry(&format!("[{quoted}]"))),
        format!("{}}} {UNKNOWN}", entry(&quoted)),
        quoted.clone(),
        UNKNOWN.to_owned(),
        format!("{{\"descriptors\": {quoted}}}"),
        format!("{{\"descriptors\": [{{\"limit\": {{\"unit\": {quoted}}}}}]}}"),
        format!("{}, \"hitsAddend\": {}}}", entry(&quoted), "9".repeat(400)),
    ];
    for body in bodies {
        for token in [Some(token), Some(UNKNOWN), None] {
            let mut request = post("/json", &body);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            heard.note("/json", request.send(tollgate.http_addr()).unwrap().text());
        }
    }
    for path in ["/metrics", "/rlconfig", "/healthcheck"] {
        let request = get(path).header("authorization", format!("Bearer {token}"));
        heard.note(path, request.send(tollgate.http_addr()).unwrap().text());
    }
}

/// Commands that are given keys in the wrong places.
fn commands(tollgate: &Tollgate, token: &str, heard: &mut Heard) {
    let files = [
        format!("subscribers: [{{id: b, keys: [{{id: x, value: [{UNKNOWN}]}}]}}]"),
        format!("subscribers: [{{id: b, keys: [{{id: x, value: {{{UNKNOWN}: 1}}}}]}}]"),
        format!("subscribers: [{{id: b, keys: [{{id: x, value: {UNKNOWN}, value: {UNKNOWN}}}]}}]"),
        format!("subscribers: [{{id: b, keys: [{{id: x, value: \"{UNKNOWN} {UNKNOWN}\"}}]}}]"),
        format!("subscribers: [{{id: b, keys: [{{id: x, value: {KNOWN}}}]}}]"),
    ];
    let import = format!("key import k9 --subscriber acme --value {KNOWN}");
    let short = format!("key import k9 --subscriber acme --value {}", &UNKNOWN[..15]);
    let check = format!("check --key {UNKNOWN} --target a --output json");
    let mut runs: Vec<(&str, &str)> =
        files.iter().map(|file| ("apply -f -", file.as_str())).collect();
    runs.extend([
        (import.as_str(), ""),
        (&short, ""),
        (&check, ""),
        ("key list", ""),
        ("key list --output json", ""),
        ("usage", ""),
    ]);
    for (line, stdin) in runs {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(line.split_whitespace())
            .env_clear()
            .envs([
                ("TOLLGATE_SERVER", tollgate.grpc_addr().to_string()),
                ("TOLLGATE_TOKEN", token.to_owned()),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        heard.note(
            line.split(" --value").next().unwrap(),
            (String::from_utf8(output.stdout), String::from_utf8(output.stderr)),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_keys_nor_tokens_are_seen_anywhere() {
    let rules = TempDir::new().unwrap();
    fs::write(rules.path().join("rules.yaml"), RULES).unwrap();
    let tokens = Tokens::make(&[("all", "decide,report,read,admin")]);
    let args = ["--rules", rules.path().to_str().unwrap(), "--tokens-file", tokens.file()];
    let mut tollgate = Tollgate::start(
        &args,
        &[("TOLLGATE_LOG_LEVEL", "trace"), ("TOLLGATE_FILES_POLL_MS", "10")],
    );
    let token = tokens.of("all").to_owned();
    let mut bench =
        Bench { channel: tollgate.channel().await, token: token.clone(), heard: Heard::default() };
    bench.edits().await;
    bench.decisions().await;
    bench.envoy().await;
    // A token that is not known, and one that stands in the file.
    for token in [UNKNOWN, KNOWN] {
        let status = super::call(&bench.channel, "/tollgate.v1.DecisionService/Check", Some(token))
            .await
            .unwrap_err();
        bench.heard.note("an unknown token", status);
    }
    fs::write(
        &tokens.file,
        format!("{}- {{id: {UNKNOWN}, hash: {token}, {token}: 1}}\n", tokens.text()),
    )
    .unwrap();
    super::until("the refusal of the edit", || async {
        tollgate.log().contains("the old one stays in force")
    })
    .await;
    bench.what_is_read().await;
    let Bench { mut heard, channel, .. } = bench;
    json_pages(&tollgate, &token, &mut heard);
    commands(&tollgate, &token, &mut heard);
    drop(channel);
    assert_eq!(tollgate.terminate().code(), Some(0));
    let log = tollgate.log();
    // The log is that of everything: what is looked for was not switched off.
    assert!(log.lines().filter(|line| line.contains("TRACE")).count() > 100, "{log}");
    heard.0.extend(log.lines().map(|line| ("the log".to_owned(), line.to_owned())));
    let kinds: BTreeMap<&str, usize> =
        heard.0.iter().map(|(what, said)| (what.as_str(), said.len())).collect();
    assert!(kinds.len() > 20 && kinds.values().all(|length| *length > 0), "{kinds:?}");
    heard.search(&[KNOWN, UNKNOWN, &token]);
}

#[test]
fn a_leak_would_be_found() {
    let mut heard = Heard::default();
    heard.note("a line", format!("…{}", &KNOWN[20..]));
    heard.search(&KEYS);
    heard.note("another", &KNOWN[10..15]);
    assert!(std::panic::catch_unwind(|| heard.search(&KEYS)).is_err());
}
