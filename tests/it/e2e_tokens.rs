//! Tokens of a language model through a real Envoy with `examples/envoy/tokens.yaml`: what a
//! response says that it used is charged when it has ended.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::envoy::{self, Envoy, edit};
use crate::http;
use crate::patience::until;
use crate::server::{PATIENT, Tollgate};
use crate::upstream::Upstream;

const KEY: &str = "a-token-key-of-twenty-characters-or-more";

struct Bench {
    _upstream: Upstream,
    tollgate: Tollgate,
    envoy: Envoy,
    _rules: TempDir,
}

impl Bench {
    fn start() -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/envoy/tokens");
        let rules = TempDir::new().unwrap();
        // Nothing here counts past the end of a minute.
        let text = std::fs::read_to_string(examples.join("rules.yaml")).unwrap();
        std::fs::write(
            rules.path().join("rules.yaml"),
            edit(&text, &[("unit: minute", "unit: year")]),
        )
        .unwrap();
        let upstream = Upstream::start();
        let tollgate = Tollgate::start(&["--rules", rules.path().to_str().unwrap()], &[PATIENT]);
        let plan = std::fs::read_to_string(examples.join("plan.yaml")).unwrap();
        let file = rules.path().join("plan.not-rules");
        std::fs::write(&file, edit(&plan, &[("limit: 1000000", "limit: 1000")])).unwrap();
        tollgate_command(&tollgate, &["apply", "-f", file.to_str().unwrap()]);
        let config =
            envoy::example("tokens.yaml", &[(9000, upstream.addr()), (8081, tollgate.grpc_addr())]);
        // Envoy must not give up on tollgate because a machine is slow.
        let envoy = Envoy::start(&edit(
            &config,
            &[("timeout: 0.1s", "timeout: 20s"), ("timeout: 5s", "timeout: 50s")],
        ));
        Self { _upstream: upstream, tollgate, envoy, _rules: rules }
    }

    fn ask(&self, listener: &str, headers: &[(&str, &str)], path: &str) -> u16 {
        let request = headers
            .iter()
            .fold(http::get(path), |request, (name, value)| request.header(name, value));
        request.send(self.envoy.listener(listener)).unwrap().status
    }

    /// The hits that a rule was asked about, of all users.
    fn hits(&self) -> u64 {
        let page = http::get("/metrics").send(self.tollgate.http_addr()).unwrap().text();
        let series = r#"ratelimit_service_rate_limit_total_hits{domain="tokens""#;
        page.lines()
            .filter(|line| line.starts_with(series))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    fn used(&self) -> u64 {
        let usage = tollgate_command(&self.tollgate, &["usage", "--subscriber", "tokens-acme"]);
        let usage: Value = serde_json::from_str(&usage).unwrap();
        usage["quotas"].as_array().unwrap().iter().map(|one| one["used"].as_u64().unwrap()).sum()
    }
}

fn tollgate_command(tollgate: &Tollgate, args: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(args)
        .args(["--server", &tollgate.grpc_addr().to_string(), "--output", "json"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_rule_counts_the_tokens_of_responses_and_refuses_when_they_are_used_up() {
    let bench = Bench::start();
    let ann = [("x-model", "large"), ("x-user", "ann")];
    assert_eq!(bench.ask("rules", &ann, "/tokens/600"), 200);
    until("600 tokens are charged", || (bench.hits() == 600).then_some(()));
    // What is left is less than the next one takes; nobody can know that before.
    assert_eq!(bench.ask("rules", &ann, "/tokens/600"), 200);
    until("1,200 tokens are charged", || (bench.hits() == 1_200).then_some(()));
    assert_eq!(bench.ask("rules", &ann, "/tokens/1"), 429);
    // Another user, another model, and a response that says nothing of tokens.
    assert_eq!(bench.ask("rules", &[("x-model", "large"), ("x-user", "bob")], "/tokens/1"), 200);
    assert_eq!(bench.ask("rules", &[("x-model", "small"), ("x-user", "ann")], "/"), 200);
    until("one more token is charged", || (bench.hits() == 1_201).then_some(()));
}

#[test]
fn a_plan_takes_one_token_at_first_and_what_it_really_was_by_the_report() {
    let bench = Bench::start();
    let key = [("x-api-key", KEY)];
    assert_eq!(bench.ask("plans", &key, "/tokens/400"), 200);
    until("400 tokens are used", || (bench.used() == 400).then_some(()));
    // A failure is refunded whole.
    assert_eq!(bench.ask("plans", &key, "/status/503"), 503);
    until("the refund", || (bench.used() == 400).then_some(()));
    // One that says nothing costs the one of the check.
    assert_eq!(bench.ask("plans", &key, "/"), 200);
    until("401 tokens are used", || (bench.used() == 401).then_some(()));
    // The last may pass the limit; it is recorded in full, and the next is refused.
    assert_eq!(bench.ask("plans", &key, "/tokens/700"), 200);
    until("1,101 tokens are used", || (bench.used() == 1_101).then_some(()));
    assert_eq!(bench.ask("plans", &key, "/tokens/1"), 429);
    assert_eq!(bench.ask("plans", &[], "/tokens/1"), 403);
}
