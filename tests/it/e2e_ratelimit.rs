//! What an HTTP client sees of the rate-limit rules, through a real Envoy with the files of
//! `examples/envoy`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use tempfile::TempDir;

use crate::envoy::{self, Envoy, edit};
use crate::http::{self, Response};
use crate::patience::{PATIENCE, until};
use crate::server::Tollgate;
use crate::upstream::Upstream;

const LISTENERS: [&str; 2] = ["fail_open", "fail_closed"];

/// Envoy must not give up on tollgate because a machine is slow.
const PATIENT: &[(&str, &str)] = &[("timeout: 0.1s", "timeout: 20s")];

/// Nothing here counts past the end of a minute.
const IN_ONE_WINDOW: &[(&str, &str)] = &[("unit: minute", "unit: year")];

struct Bench {
    upstream: Upstream,
    tollgate: Tollgate,
    envoy: Envoy,
    rules: PathBuf,
    _dir: TempDir,
}

impl Bench {
    fn start(rules_edits: &[(&str, &str)], envoy_edits: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let rules = dir.path().join("ratelimit.yaml");
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/envoy/rules/ratelimit.yaml");
        fs::write(&rules, edit(&fs::read_to_string(example).unwrap(), rules_edits)).unwrap();
        let upstream = Upstream::start();
        let tollgate = Tollgate::start(&["--rules", dir.path().to_str().unwrap()], &[]);
        let config = envoy::example(
            "ratelimit.yaml",
            &[(9000, upstream.addr()), (8081, tollgate.grpc_addr())],
        );
        let envoy = Envoy::start(&edit(&config, envoy_edits));
        Self { upstream, tollgate, envoy, rules, _dir: dir }
    }

    fn get(&self, path: impl AsRef<[u8]>, api_key: impl AsRef<[u8]>) -> Response {
        http::get(path).header("x-api-key", api_key).send(self.envoy.listener("fail_open")).unwrap()
    }

    /// The statuses of `count` requests, one after the other.
    fn statuses(
        &self,
        count: usize,
        path: impl AsRef<[u8]>,
        api_key: impl AsRef<[u8]>,
    ) -> Vec<u16> {
        (0..count).map(|_| self.get(&path, &api_key).status).collect()
    }
}

/// Envoy was told by tollgate, and did not let the request pass for want of an answer.
fn decided(response: &Response) -> bool {
    response.header("x-ratelimit-limit").is_some()
}

#[test]
fn a_limit_is_announced_counted_down_and_then_enforced() {
    let bench = Bench::start(IN_ONE_WINDOW, PATIENT);
    for left in (0..5).rev() {
        let passed = bench.get("/a", "alice");
        assert_eq!(passed.status, 200);
        assert_eq!(passed.text(), "upstream\n");
        assert!(passed.header("x-ratelimit-limit").unwrap().starts_with("5, "), "{passed:?}");
        assert_eq!(passed.number("x-ratelimit-remaining"), left);
        assert_eq!(passed.header("retry-after"), None);
    }
    let refused = bench.get("/a", "alice");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    let reset = refused.number("x-ratelimit-reset");
    assert!((1..=366 * 86_400).contains(&reset), "{reset}");
    assert_eq!(refused.number("retry-after"), reset);
    assert_eq!(bench.upstream.hits("/a"), 5, "what is refused does not reach the upstream");
}

#[test]
fn the_limits_of_the_example_are_those_that_it_names() {
    let bench = Bench::start(&[], PATIENT);
    let passed = bench.get("/a", "alice");
    assert_eq!(passed.status, 200);
    let limits = passed.header("x-ratelimit-limit").unwrap();
    assert_eq!(limits, r#"5, 20;w=60;name="per-key", 5;w=60;name="per-path""#);
    assert!((1..=60).contains(&passed.number("x-ratelimit-reset")));
    let without_key = http::get("/a").send(bench.envoy.listener("fail_closed")).unwrap();
    let limits = without_key.header("x-ratelimit-limit").unwrap();
    assert_eq!(limits, r#"5, 20;w=60;name="no-key", 5;w=60;name="no-key-per-path""#);
}

#[test]
fn keys_and_paths_are_counted_apart() {
    let bench = Bench::start(IN_ONE_WINDOW, PATIENT);
    assert_eq!(bench.statuses(6, "/a", "alice"), [200, 200, 200, 200, 200, 429]);
    assert_eq!(bench.statuses(6, "/a", "bob"), [200, 200, 200, 200, 200, 429], "another key");
    assert_eq!(bench.statuses(5, "/b", "alice"), [200; 5], "another path");
    for same in ["/b", "/b?page=2", "//b", "/x/../b", "/%62"] {
        assert_eq!(bench.get(same, "alice").status, 429, "{same}");
    }
    // Alice has sent 16 requests, of the 20 that her key has; what is refused is counted too.
    assert_eq!(
        bench.statuses(5, "/c", "alice"),
        [200, 200, 200, 200, 429],
        "a fresh path, but not a fresh key"
    );
    assert_eq!(bench.statuses(1, "/d", "alice"), [429]);
    assert_eq!(bench.statuses(1, "/d", "bob"), [200]);

    let open = bench.envoy.listener("fail_open");
    let without_key: Vec<u16> = (0..6).map(|_| http::get("/a").status(open)).collect();
    assert_eq!(
        without_key,
        [200, 200, 200, 200, 200, 429],
        "those without a key share one counter"
    );
}

#[test]
fn bytes_that_a_caller_chooses_do_not_get_past_a_limit() {
    let bench = Bench::start(IN_ONE_WINDOW, PATIENT);
    let long = |last: &str| format!("/{}{last}", "x".repeat(50_000));
    let limited = [200, 200, 200, 200, 200, 429, 429];
    let cases = [
        ("a key that is not UTF-8", b"/a".to_vec(), b"\xff".to_vec(), limited),
        ("another such key", b"/a".to_vec(), b"\xfe".to_vec(), limited),
        ("a key with an overlong form", b"/a".to_vec(), b"k\xc0\xaf".to_vec(), limited),
        ("an empty key", b"/a".to_vec(), b"".to_vec(), limited),
        ("a long key", b"/a".to_vec(), vec![b'k'; 50_000], limited),
        ("a long path", long("1").into_bytes(), b"carol".to_vec(), limited),
        ("another long path", long("2").into_bytes(), b"carol".to_vec(), limited),
        ("a path that is escaped", b"/%ff%00".to_vec(), b"dave".to_vec(), [400; 7]),
        ("a path that is not UTF-8", b"/\xff".to_vec(), b"dave".to_vec(), [400; 7]),
        ("more than Envoy reads", vec![b'/'; 70_000], b"dave".to_vec(), [431; 7]),
    ];
    for (what, path, api_key, expected) in cases {
        assert_eq!(bench.statuses(expected.len(), &path, &api_key), expected, "{what}");
    }
}

#[test]
fn an_edit_of_the_rules_takes_effect_without_a_restart() {
    let bench = Bench::start(IN_ONE_WINDOW, PATIENT);
    assert_eq!(bench.statuses(4, "/a", "alice"), [200; 4]);
    let rules = fs::read_to_string(&bench.rules).unwrap();
    fs::write(&bench.rules, edit(&rules, &[("requests_per_unit: 5", "requests_per_unit: 2")]))
        .unwrap();

    let mut keys = 0..;
    until("the new limit", || {
        let response = bench.get("/a", format!("fresh-{}", keys.next()?));
        assert_eq!(response.status, 200, "an edit refuses nobody");
        response.header("x-ratelimit-limit").unwrap().starts_with("2, ").then_some(())
    });
    assert_eq!(bench.statuses(3, "/a", "bob"), [200, 200, 429]);
    assert_eq!(
        bench.statuses(1, "/a", "alice"),
        [429],
        "what was counted before the edit stays counted"
    );
}

/// Requests on both listeners, each with a fresh key, until `stop`.
fn traffic<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    bench: &Bench,
    stop: &'scope AtomicBool,
) -> [Receiver<Response>; 2] {
    LISTENERS.map(|name| {
        let to = bench.envoy.listener(name);
        let (sender, answers) = mpsc::channel();
        scope.spawn(move || {
            for count in 0.. {
                let answer = http::get("/traffic")
                    .header("x-api-key", format!("{name}-{count}"))
                    .send(to)
                    .unwrap();
                if stop.load(Ordering::Relaxed) || sender.send(answer).is_err() {
                    return;
                }
            }
        });
        answers
    })
}

#[test]
fn a_crash_under_traffic_lets_pass_or_refuses_as_configured_until_the_restart() {
    let mut bench = Bench::start(IN_ONE_WINDOW, PATIENT);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let answers = traffic(scope, &bench, &stop);
        // Ends the traffic also when an assertion fails: the scope waits for its threads.
        let stop = StopOnDrop(&stop);
        let wait_until = |decisions: bool| {
            for (answers, refused) in answers.iter().zip([200, 503]) {
                let mut in_a_row = 0;
                while in_a_row < 10 {
                    let answer = answers.recv_timeout(PATIENCE).expect("traffic goes on");
                    assert_eq!(
                        answer.status,
                        if decided(&answer) { 200 } else { refused },
                        "{answer:?}"
                    );
                    in_a_row = if decided(&answer) == decisions { in_a_row + 1 } else { 0 };
                }
            }
        };
        wait_until(true);
        bench.tollgate.kill_9();
        wait_until(false);
        bench.tollgate.restart();
        wait_until(true);
        drop(stop);
    });
    assert_eq!(bench.statuses(6, "/after", "alice"), [200, 200, 200, 200, 200, 429]);
    for name in LISTENERS {
        assert_eq!(
            http::get("/after").header("x-api-key", "alice").status(bench.envoy.listener(name)),
            429,
            "{name}"
        );
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tollgate_that_hangs_costs_a_request_the_timeout_of_the_filter() {
    let bench = Bench::start(IN_ONE_WINDOW, &[]);
    bench.tollgate.pause();
    for (name, expected) in LISTENERS.into_iter().zip([200, 503]) {
        let answer =
            http::get("/a").header("x-api-key", "alice").send(bench.envoy.listener(name)).unwrap();
        assert_eq!((answer.status, decided(&answer)), (expected, false), "{name}");
    }
    // Envoy keeps the same book for both.
    assert_eq!(bench.envoy.stat("cluster.upstream.ratelimit.error"), 2);
    assert_eq!(bench.envoy.stat("cluster.upstream.ratelimit.failure_mode_allowed"), 1);
    bench.tollgate.resume();
    until("a decision", || decided(&bench.get("/b", "alice")).then_some(()));
}
