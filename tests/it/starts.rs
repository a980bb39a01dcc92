//! Starts that fail or are ended cost nothing; signals mean what operators expect.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::{CheckRequest, Verdict};

use crate::http::get;
use crate::patience::{PATIENCE, until};
use crate::server::{ANY_PORT, PATIENT, Tollgate, serve_at};

const LIMIT: u64 = 100;
const SUBSCRIBERS: u64 = 20;

fn key(number: u64) -> String {
    format!("a-value-of-twenty-characters-{number}")
}

/// Every subscriber has a quota of a year, and has used one unit of it: each start leases for all
/// of them.
async fn declare(tollgate: &Tollgate) {
    let subscribers: Vec<String> = (0..SUBSCRIBERS)
        .map(|number| {
            format!(
                "{{id: s{number}, plans: [gold], keys: [{{id: k{number}, value: {}}}]}}",
                key(number)
            )
        })
        .collect();
    let file = format!(
        "{{plans: [{{id: gold, entitlements: [{{name: all, targets: [t], quotas: [{{name: q, limit: {LIMIT}, unit: YEAR}}]}}]}}],
           subscribers: [{}]}}",
        subscribers.join(", ")
    );
    tollgate.apply(&file).await;
    for number in 0..SUBSCRIBERS {
        assert!(check(tollgate, number).await);
    }
}

async fn check(tollgate: &Tollgate, number: u64) -> bool {
    let request = CheckRequest {
        api_key: key(number).into(),
        target: "t".to_owned(),
        ..CheckRequest::default()
    };
    let answer = DecisionServiceClient::new(tollgate.channel().await)
        .check(request)
        .await
        .unwrap()
        .into_inner();
    answer.verdict() == Verdict::Allow
}

/// How many requests each of two subscribers is admitted from here on.
async fn admitted(tollgate: &Tollgate) -> [u64; 2] {
    let mut admitted = [0; 2];
    for (number, count) in (0..).zip(&mut admitted) {
        while check(tollgate, number).await {
            *count += 1;
            assert!(*count <= LIMIT);
        }
    }
    admitted
}

fn serve(data: &Path, grpc: SocketAddr, http: SocketAddr, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(serve_at(grpc, http, data))
        .args(more)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn starts_on_a_busy_port_cost_nothing_and_name_the_flag() {
    let mut tollgate = Tollgate::start(&[], &[PATIENT]);
    declare(&tollgate).await;
    assert_eq!(tollgate.terminate().code(), Some(0));
    let other = TcpListener::bind(SocketAddr::from(ANY_PORT)).unwrap();
    let busy = other.local_addr().unwrap();
    for _ in 0..6 {
        let (code, said) = end(serve(tollgate.data_dir(), busy, ANY_PORT.into(), &[]));
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.starts_with(&format!("tollgate: --grpc-addr {busy} cannot be bound")),
            "{said}"
        );
        assert!(said.contains("grpc_addr") && said.contains("another program"), "{said}");
    }
    // Nobody listens yet when it is bound, so these two find out only when all is leased.
    let both = other.local_addr().unwrap();
    drop(other);
    for _ in 0..6 {
        let (code, said) = end(serve(tollgate.data_dir(), both, both, &[]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("tollgate: --http-addr {both} cannot be bound")), "{said}");
    }
    tollgate.restart();
    assert_eq!(admitted(&tollgate).await, [LIMIT - 1; 2]);
}

/// A job in the background of a shell ignores SIGINT, and so does what it starts, until it listens.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

#[tokio::test]
async fn a_start_that_is_told_to_stop_stops_in_order_and_costs_nothing() {
    let mut tollgate = Tollgate::start(&[], &[PATIENT]);
    declare(&tollgate).await;
    assert_eq!(tollgate.terminate().code(), Some(0));
    let mut in_order = 0;
    let may_interrupt = !is_ignored(Signal::INT);
    for round in 0..40 {
        let child = serve(tollgate.data_dir(), ANY_PORT.into(), ANY_PORT.into(), &[]);
        // Wherever in its start it is then. A start takes some tens of milliseconds.
        std::thread::sleep(Duration::from_millis(3 * round));
        let signal = if round % 2 == 1 && may_interrupt { Signal::INT } else { Signal::TERM };
        kill_process(Pid::from_child(&child), signal).unwrap();
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        // Before it looks at signals it has nothing.
        assert!(status.code() == Some(0) || status.signal() == Some(signal.as_raw()), "{status:?}");
        in_order += u64::from(status.code() == Some(0));
        assert!(!String::from_utf8(stderr).unwrap().contains("panic"));
    }
    assert!(in_order > 0, "no start came so far");
    tollgate.restart();
    assert_eq!(admitted(&tollgate).await, [LIMIT - 1; 2]);
}

#[test]
fn a_start_that_fails_before_it_needs_a_data_folder_makes_none() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let bad = folder.path().join("bad.yaml");
    fs::write(&bad, "domain: [").unwrap();
    let bad = bad.to_str().unwrap();
    let other = TcpListener::bind(SocketAddr::from(ANY_PORT)).unwrap();
    let busy = other.local_addr().unwrap();
    for (grpc, http, more, code, named) in [
        (busy, ANY_PORT.into(), &[][..], 1, "--grpc-addr"),
        (ANY_PORT.into(), busy, &[], 1, "--http-addr"),
        (
            ANY_PORT.into(),
            ANY_PORT.into(),
            &["--admin-grpc-addr", &busy.to_string()],
            1,
            "--admin-grpc-addr",
        ),
        (ANY_PORT.into(), ANY_PORT.into(), &["--rules", bad], 2, "bad.yaml"),
        (ANY_PORT.into(), ANY_PORT.into(), &["--tokens-file", bad], 2, "bad.yaml"),
        (ANY_PORT.into(), ANY_PORT.into(), &["--config", bad], 2, "bad.yaml"),
    ] {
        let (ended, said) = end(serve(&data, grpc, http, more));
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(named) && said.contains("tollgate: "), "{said}");
        assert!(!data.exists(), "{more:?}: {said}");
    }
}

#[test]
fn a_hang_up_reads_the_files_again_and_a_broken_pipe_is_nothing() {
    let folder = TempDir::new().unwrap();
    let rules = folder.path().join("rules.yaml");
    let write = |limit: u32| {
        fs::write(&rules, format!("domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: hour, requests_per_unit: {limit}}}}}]\n"))
            .unwrap();
    };
    write(11);
    // By itself it looks once in an hour.
    let slow = [("TOLLGATE_RULES_POLL_MS", "3600000"), ("TOLLGATE_FILES_POLL_MS", "3600000")];
    let mut tollgate = Tollgate::start(&["--rules", rules.to_str().unwrap()], &slow);
    let shown = |tollgate: &Tollgate| get("/rlconfig").send(tollgate.http_addr()).unwrap().text();
    assert!(shown(&tollgate).contains("requests_per_unit=11"));
    let pid = Pid::from_raw(tollgate.process_id().try_into().unwrap()).unwrap();
    for limit in [12, 13] {
        write(limit);
        kill_process(pid, Signal::PIPE).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        until("the edit", || {
            shown(&tollgate).contains(&format!("requests_per_unit={limit}")).then_some(())
        });
    }
    until("a line of it", || tollgate.log().contains("SIGHUP: ").then_some(()));
    assert_eq!(tollgate.terminate().code(), Some(0), "in less than {PATIENCE:?}");
}
