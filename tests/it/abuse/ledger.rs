//! A ledger that takes seconds for what should take milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tollgate::catalog::CatalogStore;
use tollgate::clock::Clock;
use tollgate::decide::verdict::Reason;
use tollgate::engine::plans::PlanEngine;
use tollgate::grpc::pb::tollgate as pb;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::ledger::MemoryLedger;
use tollgate::ledger::faults::{Fault, FaultyLedger};
use tollgate::metrics::Metrics;
use tollgate::service::decisions::Decisions;
use tollgate::testkit::declared::{self, request};
use tollgate::testkit::started::{Started, settings};

use super::{catalog, scaled};
use crate::patience::until;
use crate::server::Tollgate;

const SUBSCRIBERS: usize = 50;
const QUOTA: u64 = 7;

fn plans() -> String {
    let subscribers: Vec<String> = (0..SUBSCRIBERS)
        .map(|number| {
            format!(
                "{{id: s{number}, plans: [gold], keys: [{{id: k{number}, value: {}}}]}}",
                value(number)
            )
        })
        .collect();
    format!(
        "{{plans: [{{id: gold, entitlements: [{{name: all, targets: [t], quotas: [{{name: q, limit: {QUOTA}, unit: YEAR}}]}}]}}], subscribers: [{}]}}",
        subscribers.join(", ")
    )
}

fn value(number: usize) -> String {
    format!("a-value-of-twenty-characters-{number:03}")
}

/// Plans over a ledger in memory, as a start makes them.
pub struct House {
    pub plans: Arc<Decisions>,
    pub engine: Arc<PlanEngine>,
    pub catalog: Arc<CatalogStore>,
    pub ledger: Arc<FaultyLedger>,
}

impl House {
    /// `fault` says what happens to each commit.
    pub fn new(catalog: CatalogStore, fault: impl FnMut(u64) -> Fault + Send + 'static) -> Self {
        let ledger = Arc::new(FaultyLedger::new(Arc::new(MemoryLedger::new().unwrap()), fault));
        let started = Started::over(ledger.clone(), 1, catalog, Clock::system(), settings());
        let plans = Arc::new(started.decisions(&Metrics::new()));
        let Started { engine, catalog, .. } = started;
        Self { plans, engine, catalog, ledger }
    }
}

async fn check(plans: &Decisions, number: usize) -> Option<Reason> {
    let api_key = value(number);
    let input = request(&api_key, "t");
    plans.check(&input, None, |decision| decision.verdict.reason()).await.unwrap()
}

/// What the callers were told.
#[derive(Debug, Default)]
struct Told {
    admitted: Vec<AtomicU64>,
    exhausted: AtomicU64,
    unavailable: AtomicU64,
    longest_ns: AtomicU64,
}

impl Told {
    async fn ask(&self, plans: &Decisions, number: usize) -> Option<Reason> {
        let start = Instant::now();
        let reason = check(plans, number).await;
        self.longest_ns.fetch_max(start.elapsed().as_nanos() as u64, Ordering::SeqCst);
        match reason {
            None => self.admitted[number].fetch_add(1, Ordering::SeqCst),
            Some(Reason::QuotaExceeded) => self.exhausted.fetch_add(1, Ordering::SeqCst),
            Some(Reason::LedgerUnavailable) => self.unavailable.fetch_add(1, Ordering::SeqCst),
            other => panic!("{other:?}"),
        };
        reason
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_takes_seconds_makes_nobody_wait_for_it_and_admits_nothing_twice() {
    let delay = Duration::from_millis(scaled(5_000).max(2_000));
    let slow = Arc::new(AtomicBool::new(false));
    let slowed = slow.clone();
    let house = House::new(catalog(&plans()), move |_| {
        if slowed.load(Ordering::SeqCst) {
            // It is what is tried here.
            std::thread::sleep(delay);
        }
        Fault::None
    });
    let told = Arc::new(Told {
        admitted: (0..SUBSCRIBERS).map(|_| AtomicU64::new(0)).collect(),
        ..Told::default()
    });
    // The first have a lease, the others are cold.
    for number in 0..5 {
        assert_eq!(told.ask(&house.plans, number).await, None);
    }
    told.longest_ns.store(0, Ordering::SeqCst);
    slow.store(true, Ordering::SeqCst);
    let (begun, stop) = (house.ledger.commits(), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for caller in 0..SUBSCRIBERS {
        let (told, plans, stop) = (told.clone(), house.plans.clone(), stop.clone());
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                told.ask(&plans, caller).await;
                tokio::task::yield_now().await;
            }
        });
    }
    until("three slow commits", || (house.ledger.commits() >= begun + 3).then_some(()));
    let unavailable = told.unavailable.load(Ordering::SeqCst);
    let longest = Duration::from_nanos(told.longest_ns.load(Ordering::SeqCst));
    slow.store(false, Ordering::SeqCst);
    stop.store(true, Ordering::SeqCst);
    callers.join_all().await;
    println!(
        "commits of {delay:?}: {unavailable} checks refused as LEDGER_UNAVAILABLE, the longest answered after {longest:?}"
    );
    assert!(unavailable > 0 && longest < delay, "{longest:?}");

    // It works again: everyone has what is left, to the unit.
    for number in 0..SUBSCRIBERS {
        loop {
            match told.ask(&house.plans, number).await {
                Some(Reason::QuotaExceeded) => break,
                None | Some(Reason::LedgerUnavailable) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told.admitted[number].load(Ordering::SeqCst), QUOTA, "subscriber {number}");
    }
}

fn health(tollgate: &Tollgate) -> String {
    crate::http::get("/healthcheck").send(tollgate.http_addr()).unwrap().text()
}

/// Somebody else holds the file of the ledger: a commit waits for two seconds, and then fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_held_up_shows_in_the_health_and_needs_no_restart() {
    let tollgate = Tollgate::start(&[], &[]);
    let channel = tollgate.channel().await;
    UsagePlanServiceClient::new(channel.clone()).apply(declared::message(&plans())).await.unwrap();
    let ask = async |number: usize| {
        let request = pb::CheckRequest {
            api_key: value(number).into(),
            target: "t".to_owned(),
            ..Default::default()
        };
        let start = Instant::now();
        let answer =
            DecisionServiceClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        ((answer.verdict() == pb::Verdict::Deny).then(|| answer.reason()), start.elapsed())
    };
    assert_eq!(health(&tollgate), "OK");
    let file = rusqlite::Connection::open(tollgate.data_dir().join("ledger.sqlite")).unwrap();
    file.busy_timeout(crate::patience::PATIENCE).unwrap();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut longest = Duration::ZERO;
    let mut refused = 0;
    let degraded = loop {
        for number in 0..SUBSCRIBERS {
            let (reason, took) = ask(number).await;
            assert_eq!(reason, Some(pb::Reason::LedgerUnavailable));
            longest = longest.max(took);
            refused += 1;
        }
        let health = health(&tollgate);
        if health != "OK" {
            break health;
        }
    };
    println!(
        "{refused} checks refused, the longest after {longest:?}; then the health: {degraded:?}"
    );
    assert!(degraded.starts_with("DEGRADED\nthe ledger "), "{degraded}");
    file.execute_batch("ROLLBACK").unwrap();
    for number in 0..SUBSCRIBERS {
        let mut admitted = 0;
        loop {
            match ask(number).await.0 {
                None => admitted += 1,
                Some(pb::Reason::LedgerUnavailable) => {}
                Some(reason) => {
                    assert_eq!(reason, pb::Reason::QuotaExceeded);
                    break;
                }
            }
        }
        assert_eq!(admitted, QUOTA, "subscriber {number}");
    }
    until("a health that is in order", || (health(&tollgate) == "OK").then_some(()));
}
