//! The ledger in a real PostgreSQL: across kills of the service and of the database, and in all
//! that a database can do to who needs it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::{CheckResponse, Verdict};

use crate::crash::{CALLERS, Log, TARGETS, apply, check, usage};
use crate::http;
use crate::patience::{PATIENCE, until};
use crate::postgres_server::Postgres;
use crate::process::{Process, Stream};
use crate::server::{PATIENT, Tollgate, ready};

/// As node `a`, which gives its leases the time that a busy machine needs.
fn start(url: &str) -> Tollgate {
    Tollgate::start(&["--ledger", url, "--node-name", "a"], &[PATIENT])
}

async fn ask(tollgate: &Tollgate, target: &str) -> CheckResponse {
    DecisionServiceClient::new(tollgate.lazy_channel(PATIENCE))
        .check(check(target))
        .await
        .unwrap()
        .into_inner()
}

/// Waits until the ledger gives units again.
async fn until_admitted(tollgate: &Tollgate, log: &Log) {
    for _ in 0..600 {
        if ask(tollgate, TARGETS[3].0).await.verdict() == Verdict::Allow {
            log.admitted[3].fetch_add(1, Ordering::SeqCst);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the ledger does not come back: {}", tollgate.log());
}

/// Under load the service is killed, then the database, then the database is stopped; and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_quota_is_passed_and_no_refund_is_lost_whoever_is_killed() {
    let postgres = Postgres::start(&[]);
    let url = postgres.database("books");
    // What waits for the ledger is told soon that it is away.
    let wait = ("TOLLGATE_LEDGER_MAX_WAIT_MS", "500");
    let mut tollgate = Tollgate::start(&["--ledger", &url, "--node-name", "a"], &[wait]);
    apply(&tollgate, 0).await;
    let log = Arc::new(Log::default());
    for round in 0..6_u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (log, stop, channel) = (log.clone(), stop.clone(), tollgate.lazy_channel(PATIENCE));
            callers.spawn(async move { log.drive(channel, caller * 13, &stop).await });
        }
        let before = log.admitted[3].load(Ordering::SeqCst);
        until("admissions", || {
            (log.admitted[3].load(Ordering::SeqCst) >= before + 20 + 37 * round).then_some(())
        });
        match round % 3 {
            0 => tollgate.kill_9(),
            1 => postgres.kill(),
            _ => postgres.stop(),
        }
        stop.store(true, Ordering::SeqCst);
        callers.join_all().await;
        if round % 3 == 0 {
            tollgate.restart();
        } else {
            postgres.restart();
            until_admitted(&tollgate, &log).await;
        }
        // As gateways do, until they are answered: units that were held do not need the database,
        // reports do.
        let mut client = DecisionServiceClient::new(tollgate.lazy_channel(PATIENCE));
        for _ in 0..600 {
            let unanswered = std::mem::take(&mut *log.unanswered.lock().unwrap());
            if unanswered.is_empty() {
                break;
            }
            for (place, receipt) in unanswered {
                log.refund(&mut client, place, receipt, true).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(log.unanswered.lock().unwrap().is_empty(), "{}", tollgate.log());
        for (place, (name, limit)) in TARGETS.iter().enumerate() {
            let net = log.admitted[place].load(Ordering::SeqCst)
                - log.refunded[place].load(Ordering::SeqCst);
            assert!(net <= *limit, "round {round}, {name}: {net} of {limit}");
        }
    }
    let before = usage(&tollgate).await;
    assert_eq!(tollgate.terminate().code(), Some(0));
    tollgate.restart();
    let after = usage(&tollgate).await;
    for (place, (name, limit)) in TARGETS.iter().enumerate() {
        let net =
            log.admitted[place].load(Ordering::SeqCst) - log.refunded[place].load(Ordering::SeqCst);
        let row = &after[*name];
        println!("{name}: {net} admitted, used {}, lost {}, of {limit}", row.used, row.lost);
        assert!(net <= row.used + row.lost && row.used + row.lost <= *limit, "{name}: {row:?}");
        // Units whose answer was lost with the database were taken for used until this stop.
        let told = &before[*name];
        assert_eq!(row.lost, told.lost, "{name}: a clean stop lost something");
        assert!(row.used <= told.used, "{name}: {row:?} after {told:?}");
    }
}

/// To the unit: with everything given out nothing is held, so a clean stop, a kill of the database
/// and a start agree exactly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_agree_to_the_unit_and_the_last_unit_is_given_out() {
    let postgres = Postgres::start(&[]);
    let url = postgres.database("books");
    let mut tollgate = start(&url);
    apply(&tollgate, 0).await;
    for _ in 0..17 {
        assert_eq!(ask(&tollgate, "small").await.verdict(), Verdict::Allow);
    }
    assert_eq!(tollgate.terminate().code(), Some(0));
    postgres.kill();
    postgres.restart();
    tollgate.restart();
    let row = usage(&tollgate).await.remove("small").unwrap();
    assert_eq!((row.used, row.lost, row.remaining), (17, 0, 43));
    for unit in 17..60 {
        assert_eq!(ask(&tollgate, "small").await.verdict(), Verdict::Allow, "unit {unit}");
    }
    assert_eq!(ask(&tollgate, "small").await.verdict(), Verdict::Deny);
    tollgate.kill_9();
    tollgate.restart();
    assert_eq!(ask(&tollgate, "small").await.verdict(), Verdict::Deny);
    let metrics = http::get("/metrics").send(tollgate.http_addr()).unwrap().text();
    assert!(metrics.contains("tollgate_ledger_promise{promise=\"exact-single\"} 1"), "{metrics}");
}

/// A database that is there and answers nothing: counters with a lease go on, others are answered in
/// time, health says so; and it is all there again when it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_answers_nothing_keeps_nobody_waiting() {
    let postgres = Postgres::start(&[]);
    let url = postgres.database("books");
    let wait = ("TOLLGATE_LEDGER_MAX_WAIT_MS", "500");
    let tollgate = Tollgate::start(&["--ledger", &url, "--node-name", "a"], &[wait]);
    apply(&tollgate, 0).await;
    let log = Log::default();
    until_admitted(&tollgate, &log).await;
    postgres.pause();
    // Its counter was never asked for: there is no lease, and none comes.
    let denied = ask(&tollgate, "middle").await;
    assert_eq!((denied.verdict(), denied.http_status), (Verdict::Deny, 503), "{denied:?}");
    until("health", || {
        let health = http::get("/healthcheck").send(tollgate.http_addr()).ok()?;
        health.text().contains("the database of the ledger").then_some(())
    });
    postgres.go_on();
    until_admitted(&tollgate, &log).await;
    until("health", || {
        let health = http::get("/healthcheck").send(tollgate.http_addr()).ok()?;
        (!health.text().contains("the database of the ledger")).then_some(())
    });
    for unit in 0..60 {
        assert_eq!(ask(&tollgate, "small").await.verdict(), Verdict::Allow, "unit {unit}");
    }
    assert_eq!(ask(&tollgate, "small").await.verdict(), Verdict::Deny);
}

/// It fails over to nothing that can be written: the ledger says so, and goes on when it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_read_only_is_told_and_left() {
    let postgres = Postgres::start(&[]);
    let url = postgres.database("books");
    let wait = ("TOLLGATE_LEDGER_MAX_WAIT_MS", "500");
    let tollgate = Tollgate::start(&["--ledger", &url, "--node-name", "a"], &[wait]);
    apply(&tollgate, 0).await;
    let log = Log::default();
    until_admitted(&tollgate, &log).await;
    postgres.set("default_transaction_read_only = on");
    until("a refusal", || {
        let health = http::get("/healthcheck").send(tollgate.http_addr()).ok()?;
        health.text().contains("read-only").then_some(())
    });
    assert_eq!(ask(&tollgate, "middle").await.http_status, 503);
    postgres.set("default_transaction_read_only = off");
    until_admitted(&tollgate, &log).await;
}

/// Two processes of one name: the first ends by itself, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_one_name_takes_the_place_of_the_first() {
    let postgres = Postgres::start(&["fsync=off"]);
    let url = postgres.database("books");
    let mut first = start(&url);
    apply(&first, 0).await;
    assert_eq!(ask(&first, "small").await.verdict(), Verdict::Allow);
    let second = start(&url);
    assert_eq!(first.wait().code(), Some(1));
    assert!(
        first.log().contains("another process has taken the ledger over from node `a`"),
        "{}",
        first.log()
    );
    let mut admitted = 0;
    while ask(&second, "small").await.verdict() == Verdict::Allow {
        admitted += 1;
    }
    let row = usage(&second).await.remove("small").unwrap();
    // What it had spent of that it could not tell any more.
    assert!(row.lost >= 1, "{row:?}");
    assert_eq!(admitted + row.lost, 60, "what the first held is lost, and nothing else");
    // A node of another name is refused: several are not there yet.
    let told = refused(&url, &[("TOLLGATE_NODE_NAME", "b")]);
    assert!(told.contains("the node `a`") && told.contains("not there yet"), "{told}");
}

/// Names and values.
type Environment<'a> = &'a [(&'a str, &'a str)];

/// What a start says that does not come about, with 0 s to wait.
fn refused(url: &str, env: Environment<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .args(["--ledger", url])
        .current_dir(folder.path())
        .env_clear()
        .env("TOLLGATE_LEDGER_START_WAIT_MS", "0")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started: {told}");
    told
}

#[test]
fn a_start_that_cannot_be_says_why_and_never_the_password() {
    let postgres = Postgres::start(&["fsync=off"]);
    postgres.database("books");
    postgres.sql(
        "postgres",
        "CREATE ROLE clerk LOGIN PASSWORD 'right' CONNECTION LIMIT 1; CREATE ROLE nobody LOGIN;
         GRANT CREATE ON DATABASE books TO clerk",
    );
    postgres.set_access(
        "host all clerk all scram-sha-256\nhost all tollgate all trust\nhost all nobody all trust\n",
    );
    let at = |who: &str, database: &str| {
        format!("postgres://{who}@127.0.0.1:{}/{database}?sslmode=disable", postgres.port())
    };
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "hidden\n").unwrap();
    let file = [("TOLLGATE_LEDGER_PASSWORD_FILE", password.to_str().unwrap())];
    let cases: [(String, Environment<'_>, &str); 7] = [
        (at("clerk:hidden", "books"), &[], "password authentication failed"),
        (at("clerk", "books"), &file, "password authentication failed"),
        (at("tollgate:hidden", "nowhere"), &[], "\"nowhere\" does not exist"),
        (at("nobody:hidden", "books"), &[], "tollgate ledger migrate"),
        ("postgres://me:hidden@127.0.0.1:1/books".to_owned(), &[], "cannot be reached"),
        ("postgres://me:hidden@127.0.0.1/books?sslmode=x".to_owned(), &[], "sslmode"),
        (at("clerk:right", "books"), &[], "too many connections"),
    ];
    for (url, env, words) in cases {
        let told = refused(&url, env);
        assert!(told.contains(words), "{url}: {told}");
        assert!(!told.contains("hidden"), "{told}");
    }
    // The right one, out of a file, and connections for all that is needed.
    postgres.sql("postgres", "ALTER ROLE clerk CONNECTION LIMIT 9");
    std::fs::write(&password, "right\n").unwrap();
    let url = at("clerk", "books");
    let mut tollgate = Tollgate::start(&["--ledger", &url], &file);
    assert_eq!(tollgate.terminate().code(), Some(0));
}

/// It waits, says so, and is not ready meanwhile; and ends when it is told to.
#[test]
fn a_start_waits_for_its_database() {
    let postgres = Postgres::start(&["fsync=off"]);
    let url = postgres.database("books");
    postgres.stop();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let http_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let folder = tempfile::tempdir().unwrap();
    let begin = || {
        Process::spawn(
            "tollgate",
            Command::new(env!("CARGO_BIN_EXE_tollgate"))
                .args([
                    "serve",
                    "--grpc-addr",
                    "127.0.0.1:0",
                    "--http-addr",
                    &http_addr.to_string(),
                ])
                .args(["--ledger", &url])
                .current_dir(folder.path())
                .env_clear(),
        )
    };
    let waits =
        |_: Stream, line: &str| line.contains("the start waits for the ledger").then_some(());
    let mut tollgate = begin();
    tollgate.wait_for("waiting", waits);
    let told = until("a refusal", || {
        let health = http::get("/healthcheck").send(http_addr).ok()?;
        (health.status == 503 && health.text().contains("cannot be reached")).then(|| health.text())
    });
    assert!(told.contains("waiting for the ledger"), "{told}");
    assert_eq!(tollgate.terminate().code(), Some(0), "{}", tollgate.log());
    let mut tollgate = begin();
    tollgate.wait_for("waiting", waits);
    postgres.restart();
    tollgate.wait_for(
        "its ready line",
        |stream, line| {
            if stream == Stream::Stdout { ready(line) } else { None }
        },
    );
    assert_eq!(http::get("/healthcheck").status(http_addr), 200);
    assert_eq!(tollgate.terminate().code(), Some(0));
}

/// The tables are made by one role, and used by another, which may not make any.
#[test]
fn an_operator_makes_the_tables_beforehand() {
    let postgres = Postgres::start(&["fsync=off"]);
    let url = postgres.database("books");
    let migrate = || {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["ledger", "migrate", "--ledger", &url])
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(migrate().contains("has the tables of version 1 now"));
    assert!(migrate().contains("is of version 1 already"));
    postgres.sql(
        "books",
        "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA tollgate TO clerk;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tollgate TO clerk;
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA tollgate TO clerk",
    );
    let mut tollgate = start(&url.replace("tollgate@", "clerk@"));
    assert_eq!(tollgate.terminate().code(), Some(0));
}
