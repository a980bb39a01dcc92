//! The load generator against the real server: what the one has asked, the other has counted.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Shell;
use crate::http;
use crate::server::Tollgate;

/// A server with the rules that the load generator asks for.
fn ruled() -> Shell {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/load/rules");
    let server = Tollgate::start(&["--rules", rules], &[]);
    Shell { addr: server.grpc_addr().to_string(), server: Some(server) }
}

/// The sum over the series of a metric whose line has these words.
fn metric(shell: &Shell, name: &str, words: &[&str]) -> u64 {
    let page = http::get("/metrics").send(shell.tollgate().http_addr()).unwrap().text();
    let series = page
        .lines()
        .filter(|line| line.starts_with(name) && words.iter().all(|word| line.contains(word)));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn answered(load: &Value) -> (u64, u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap();
    (number(&load["asked"]), number(&load["calls"]["answered"]), number(&load["calls"]["failed"]))
}

#[test]
fn the_server_counts_what_was_asked() {
    let shell = ruled();
    let load =
        shell.json("load rls --requests 3000 --keys 50 --connections 3 --in-flight 16 --threads 2");
    assert_eq!(answered(&load), (3_000, 3_000, 0));
    assert_eq!(load["calls"]["verdicts"], serde_json::json!({"OK": 3_000}));
    assert_eq!(
        metric(&shell, "ratelimit_service_rate_limit_total_hits", &[r#"domain="load""#]),
        3_000
    );

    let unmatched = shell.run("load rls --requests 10 --descriptor nobody");
    assert!(
        unmatched.code == 0 && unmatched.stderr.contains("no rule of the domain `load` matched"),
        "{unmatched:?}"
    );
    assert!(
        unmatched
            .stderr
            .contains("ShouldRateLimit of the domain `load`, 1 descriptors; 8 connections"),
        "{unmatched:?}"
    );
    let matched = shell.run("load rls --requests 10");
    assert!(!matched.stderr.contains("no rule"), "{matched:?}");

    let several = "--descriptor limit=1,api_key --descriptor limit=2,api_key --descriptor api_key";
    let load = shell.json(&format!("load rls --requests 100 --skew 1.1 {several}"));
    assert_eq!(answered(&load), (100, 100, 0));
    assert_eq!(
        metric(&shell, "ratelimit_service_rate_limit_total_hits", &[r#"domain="load""#]),
        3_310
    );
}

#[test]
fn a_rate_is_kept_to_the_number() {
    let shell = ruled();
    let load = shell.json("load rls --rate 2000 --duration 500ms --warm-up 100ms");
    let (asked, answered, failed) = answered(&load);
    assert_eq!(asked + load["unsent"].as_u64().unwrap(), 1_000);
    assert_eq!((answered, failed), (asked, 0));
    let ran = shell.run("load rls --rate 1000 --requests 100");
    assert!(
        ran.code == 0
            && ran.stdout.contains("asked")
            && ran.stdout.contains("100 requests")
            && ran.stdout.contains("P99.9"),
        "{ran:?}"
    );
}

#[test]
fn one_command_prepares_what_it_checks() {
    // Every counter is cold, and a disk that others use is slow.
    let server = Tollgate::start(&[], &[("TOLLGATE_LEDGER_MAX_WAIT_MS", "60000")]);
    let shell = Shell { addr: server.grpc_addr().to_string(), server: Some(server) };
    let load = shell.json("load check --prepare --keys 20 --requests 500");
    assert_eq!(answered(&load), (500, 500, 0));
    assert_eq!(load["calls"]["verdicts"], serde_json::json!({"ALLOW": 500}));
    let load = shell.json("load report --prepare --keys 20 --requests 500 --errors 1");
    assert_eq!(load["reports"]["verdicts"], serde_json::json!({"REFUNDED": 500}));
    let load = shell.json("load report --keys 20 --requests 500 --errors 0");
    assert_eq!(load["reports"]["verdicts"], serde_json::json!({"COUNTED": 500}));
    // 500 checked, 500 refunded, 500 counted, by 20 subscribers with two quotas each.
    let used = |number: u32| {
        let usage = shell.json(&format!("usage --subscriber load-2-quotas-{number:010}"));
        usage["quotas"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|quota| quota["used"].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    assert_eq!((0..20).map(used).sum::<u64>(), 2 * 1_000);

    let load = shell.json("load stream --prepare --quotas 0 --keys 20 --requests 50 --batch 64");
    assert_eq!(answered(&load), (50, 50, 0));
    assert_eq!(load["calls"]["verdicts"], serde_json::json!({"ALLOW": 50 * 64}));
    let load = shell.json("load stream --keys 20 --requests 10 --batch 1000 --connections 1");
    assert_eq!(load["calls"]["verdicts"], serde_json::json!({"ALLOW": 10 * 1_000}));

    // What was made is deleted, and what others made is not.
    shell.ok("subscriber create load-2-quotas --plan load-0-quotas");
    let ran = shell.run("load check --clean");
    assert!(
        ran.code == 0
            && ran.stderr.contains("deleted 20 subscribers")
            && ran.stderr.contains("another plan covers it"),
        "{ran:?}"
    );
    shell.refused("load check --clean --quotas 0", 5, "load-2-quotas");
    assert_eq!(shell.json("subscriber list")["totalSize"], 1);
    shell.ok("subscriber delete load-2-quotas");
    shell.ok("load check --prepare --clean --keys 5 --requests 10 --quotas 0");
    for kind in ["plan", "target", "subscriber", "key"] {
        assert_eq!(shell.json(&format!("{kind} list"))["totalSize"], 0, "{kind}");
    }
}

#[test]
fn refusals_are_answers_and_no_answers_are_a_failure() {
    let shell = Shell::start();
    let ran = shell.run("load check --requests 10 --api-key nobody");
    assert!(
        ran.code == 0 && ran.stdout.contains("API_KEY_UNKNOWN") && ran.stderr.contains("--prepare"),
        "{ran:?}"
    );
    let load: Value = serde_json::from_str(
        &shell
            .run_with(
                &["load", "check", "--requests", "9", "--keys-file", "-", "--output", "json"],
                "a\nb\n",
            )
            .stdout,
    )
    .unwrap();
    assert_eq!(load["calls"]["verdicts"], serde_json::json!({"API_KEY_UNKNOWN": 9}));
    // The server has no rules.
    let ran = shell.run("load rls --requests 10");
    assert!(
        ran.code == 1
            && ran.stdout.contains("UNAVAILABLE")
            && ran.stderr.contains("nothing was answered"),
        "{ran:?}"
    );
    shell.refused("load check --keys-file no/such/file", 2, "no/such/file");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Shell::at(free).refused(
        "load rls",
        1,
        &format!("the server at {free} cannot be reached (--server, TOLLGATE_SERVER): "),
    );
}

#[test]
fn an_interrupt_ends_a_run_whenever_it_comes_and_what_was_measured_is_shown() {
    let shell = ruled();
    // At the very moment of a line of progress, too: there one was lost.
    for after in [0, 1, 2] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["load", "rls", "--rate", "100", "--duration", "10m", "--server", &shell.addr])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        for _ in 0..=after {
            said.next().unwrap().unwrap();
        }
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        // Stopped in the warm-up, nothing was measured.
        assert!(output.status.code() == Some(0) || after <= 1, "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("asked"), "after {after} lines");
    }
}
