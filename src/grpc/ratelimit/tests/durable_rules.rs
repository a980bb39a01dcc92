use std::sync::mpsc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::*;
use crate::catalog::{CatalogStore, HashKey};
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::leases::Shortage;
use crate::ledger::faults::{Fault, FaultyLedger};
use crate::ledger::{Ledger, LedgerError, MemoryLedger, Scope, SqliteLedger};
use crate::service::lease_broker::LeaseBroker;
use crate::testkit::started::{self, Started};

/// A rate limiter by the clock of the system.
fn limiter(
    rules: &str,
    ledger: &Arc<dyn Ledger>,
    plans: &config::Plans,
) -> (RateLimiter, LeaseBroker<DurableRuleEngine>) {
    let (metrics, clock) = (Arc::new(Metrics::new()), Clock::system());
    let rulebook = rulebook(Some(rules), &metrics);
    let StartedRules { engine, broker } = StartedRules::over(ledger.clone(), 1, clock.clone());
    let durable = DurableRules::new(engine, broker.clone(), plans);
    let empty = crate::testkit::started::empty(clock.clone(), &metrics);
    let rule_engine = Arc::new(RuleEngine::kept(1_000, 1_000, &[4; 16]));
    let (settings, bounds) = (settings(&Json::Null), bounds(&Json::Null));
    (
        RateLimiter(Arc::new(RateLimits::new(rate_limits::Parts {
            engine: rule_engine,
            rulebook,
            clock,
            metrics,
            decisions: empty,
            durable,
            settings,
            bounds,
        }))),
        broker,
    )
}

fn plans(settings: impl FnOnce(&mut config::Plans)) -> config::Plans {
    let mut plans = crate::testkit::started::settings();
    settings(&mut plans);
    plans
}

/// Longer than any machine takes.
fn patient(plans: &mut config::Plans) {
    plans.max_wait = Duration::from_secs(60);
}

const YEARLY: &str = "{domain: d, descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1000, durable: true}}]}";
const TOGETHER: &str = "{domain: d, all_or_nothing: true, descriptors: [
    {key: k, rate_limit: {unit: year, requests_per_unit: 600, durable: true}},
    {key: l, rate_limit: {unit: year, requests_per_unit: 700, durable: true}},
    {key: m, rate_limit: {unit: year, requests_per_unit: 500}}]}";

async fn is_ok(limiter: &RateLimiter, asked: &str) -> bool {
    show(limiter.answer(&request(asked), None).await).starts_with("OK")
}

/// How many of `each` requests of 64 callers pass.
async fn passed(limiter: &RateLimiter, asked: &'static [&'static str], each: usize) -> usize {
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let limiter = limiter.clone();
        callers.spawn(async move {
            let mut passed = 0;
            for call in 0..each {
                passed += usize::from(is_ok(&limiter, asked[(caller + call) % asked.len()]).await);
            }
            passed
        });
    }
    callers.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_concurrent_callers_exactly_the_limit_passes() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new().unwrap());
    let (limiter, _) = limiter(YEARLY, &ledger, &plans(patient));
    assert_eq!(passed(&limiter, &["d | k=v"], 25).await, 1000);
}

/// The orders differ, so that locks that were taken in the order of the request would meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_or_nothing_is_exact_over_durable_and_other_counters() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new().unwrap());
    let (limiter, _) = limiter(TOGETHER, &ledger, &plans(patient));
    let orders = &["d | k=v | l=v | m=v", "d | m=v | l=v | k=v", "d | l=v | k=v | m=v"];
    assert_eq!(passed(&limiter, orders, 20).await, 500, "as many as the least allows");
    assert_eq!(
        passed(&limiter, &["d | k=v | l=v", "d | l=v | k=v"], 20).await,
        100,
        "no refused request was charged"
    );
    assert_eq!(passed(&limiter, &["d | l=v"], 20).await, 100);
}

#[tokio::test]
async fn the_cases_of_durable_rules_hold_with_leases() {
    let cases = crate::yaml::parse(include_str!("../cases.yaml")).unwrap().root.to_json().unwrap();
    let mut calls = 0;
    for case in cases.as_array().unwrap().iter().filter(|case| case.to_string().contains("durable"))
    {
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new().unwrap());
        let durable = |clock: Clock, plans: &config::Plans| {
            let StartedRules { engine, broker } = StartedRules::over(ledger.clone(), 1, clock);
            DurableRules::new(engine, broker, plans)
        };
        let rules = case["rules"].to_string();
        let bench = Bench::with(
            Some(&rules),
            settings(&case["settings"]),
            bounds(&case["bounds"]),
            durable,
        );
        for call in case["calls"].as_array().unwrap() {
            let (asked, expected) = call.as_str().unwrap().split_once(" -> ").unwrap();
            let (s, asked) = asked.split_once('|').unwrap();
            bench.at(s.trim().parse().unwrap());
            assert_eq!(
                show(bench.limiter.answer(&request(asked), None).await),
                expected,
                "{}: {call}",
                case["name"]
            );
            calls += 1;
        }
    }
    assert!(calls > 40, "the table was read");
}

#[tokio::test]
async fn a_ledger_that_fails_is_never_an_error_and_is_noticed_when_it_works_again() {
    let full = || Fault::Before(LedgerError::Full("ledger.sqlite".into()));
    for (on_failure, passes) in [(Shortage::Deny, false), (Shortage::Allow, true)] {
        let failing = Arc::new(Mutex::new(true));
        let fails = Arc::clone(&failing);
        let faulty = FaultyLedger::new(Arc::new(MemoryLedger::new().unwrap()), move |_| {
            if *fails.lock() { full() } else { Fault::None }
        });
        let ledger: Arc<dyn Ledger> = Arc::new(faulty);
        let plans = plans(|plans| {
            patient(plans);
            plans.on_failure = on_failure;
        });
        let (limiter, _) = limiter(YEARLY, &ledger, &plans);
        for _ in 0..5 {
            let answer = limiter.answer(&request("d | k=v"), None).await.unwrap();
            assert_eq!(answer.overall_code == 1, passes);
            let reset = answer.statuses[0].duration_until_reset.unwrap().seconds;
            assert!(passes || reset == 1, "to be asked again soon, and not in {reset} s");
        }
        *failing.lock() = false;
        while !is_ok(&limiter, "d | k=v").await {}
    }
}

#[tokio::test]
async fn a_slow_ledger_is_waited_for_no_longer_than_said() {
    let (go_on, told) = mpsc::channel();
    let mut told = Some(told);
    let faulty = FaultyLedger::new(Arc::new(MemoryLedger::new().unwrap()), move |_| {
        told.take().map_or(Fault::None, Fault::Wait)
    });
    let ledger: Arc<dyn Ledger> = Arc::new(faulty);
    let (limiter, _) =
        limiter(YEARLY, &ledger, &plans(|plans| plans.max_wait = Duration::from_millis(5)));
    let asked = request("d | k=v");
    for time_left in [None, Some(Duration::ZERO), Some(Duration::from_secs(60))] {
        assert!(
            show(limiter.answer(&asked, time_left).await).starts_with("OVER | OVER 1000 of 1000"),
            "{time_left:?}"
        );
    }
    drop(go_on);
    while !is_ok(&limiter, "d | k=v").await {}
}

/// The ledger, as soon as the service before has let go of it: its last callbacks may outlive it.
fn open(folder: &std::path::Path) -> SqliteLedger {
    loop {
        match SqliteLedger::open(folder) {
            Err(LedgerError::InUse { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_gives_out_the_last_unit_and_nothing_is_listed_as_a_subscriber() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut total = 0;
    for _ in 0..4 {
        let ledger: Arc<dyn Ledger> = Arc::new(open(folder.path()));
        let (limiter, broker) = limiter(YEARLY, &ledger, &plans(patient));
        for _ in 0..260 {
            total += u32::from(is_ok(&limiter, "d | k=v").await);
        }
        let kept = ledger.usage(&Scope::All, 0, u64::MAX).unwrap();
        assert_eq!(kept.len(), 1);
        let catalog = CatalogStore::new(HashKey([1; 32]), None);
        let of_plans =
            Started::over(ledger.clone(), 2, catalog, Clock::system(), started::settings());
        let all = crate::ledger::Stretch {
            from_s: 0,
            until_s: u64::MAX,
            first: Default::default(),
            most: usize::MAX,
        };
        assert_eq!(
            of_plans.broker.usage(&**of_plans.catalog.load(), vec![], &Scope::All, &all).unwrap(),
            (vec![], None)
        );
        tokio::task::spawn_blocking(move || broker.hand_back()).await.unwrap().unwrap();
    }
    assert_eq!(total, 1000);
}
