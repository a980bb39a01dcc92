//! One receipt, reported a million times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;
use tollgate::decide::ledger::Scope;
use tollgate::decide::outcome::{Ending, Outcome};
use tollgate::engine::plans::{Report, ReportSubject, Settlement};
use tollgate::grpc::pb::tollgate as pb;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::outcome::{Result as Ended, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::ledger::faults::Fault;
use tollgate::testkit::declared::request;

use super::ledger::House;
use super::{ALONE, catalog, scaled};
use crate::server::Tollgate;

const KEY: &str = "a-value-of-twenty-characters";
const QUOTA: u64 = 10;
const PLANS: &str = "{plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [{name: q, limit: 10, unit: YEAR}]}]}],
  subscribers: [{id: acme, plans: [gold], keys: [{id: k, value: a-value-of-twenty-characters}]}]}";
const CALLERS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_replayed_has_one_effect_and_costs_one_transaction() {
    let _alone = ALONE.lock().await;
    let house = House::new(catalog(PLANS), |_| Fault::None);
    let input = request(KEY, "t");
    let mut receipts = Vec::new();
    while let Some(receipt) =
        house.plans.check(&input, None, |decision| decision.receipt.clone()).await.unwrap()
    {
        receipts.push(receipt);
    }
    assert_eq!(receipts.len() as u64, QUOTA);
    let commits = house.ledger.commits();
    let each = scaled(1_000_000) / CALLERS;
    let refunded = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (plans, refunded, receipt) =
            (house.plans.clone(), refunded.clone(), receipts[3].clone());
        callers.spawn(async move {
            for number in 0..each {
                // Now as one failure, now as another, now at another price.
                let ending = if number % 2 == 0 { Ending::Http(503) } else { Ending::NoResponse };
                let cost = (number % 3 == 0).then_some(number);
                let outcome = Outcome { ending, made_by_gateway: false };
                let report =
                    Report { subject: ReportSubject::Receipt(receipt.as_bytes()), outcome, cost };
                match plans.settle(&report).await.unwrap() {
                    Settlement::Refunded => drop(refunded.fetch_add(1, Ordering::SeqCst)),
                    other => assert_eq!(other, Settlement::Duplicate),
                }
            }
        });
    }
    callers.join_all().await;
    let took = start.elapsed();
    let committed = house.ledger.commits() - commits;
    println!(
        "{} reports of one receipt by {CALLERS} callers in {took:?}, {:.0} a second: {} refunded, {committed} transactions",
        each * CALLERS,
        (each * CALLERS) as f64 / took.as_secs_f64(),
        refunded.load(Ordering::SeqCst)
    );
    assert_eq!(refunded.load(Ordering::SeqCst), 1);
    // Those that came while the first was on its way may have asked as well.
    assert!(committed <= CALLERS, "{committed}");
    let used = || {
        house.engine.quota_usage(&**house.catalog.load(), &Scope::All, 0..u64::MAX, ("", None))[0]
            .row
            .used
    };
    assert_eq!(used(), QUOTA - 1);
    let mut again = 0;
    while house.plans.check(&input, None, |decision| decision.verdict.is_allowed()).await.unwrap() {
        again += 1;
    }
    assert_eq!((again, used()), (1, QUOTA), "one unit came back, and one alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_replayed_over_the_network_and_after_a_kill_has_one_effect() {
    let _alone = ALONE.lock().await;
    const OUTCOMES: usize = 10_000;
    let mut tollgate = Tollgate::start(&[], &[("TOLLGATE_LEDGER_MAX_WAIT_MS", "60000")]);
    tollgate.apply(PLANS).await;
    let check =
        pb::CheckRequest { api_key: KEY.into(), target: "t".to_owned(), ..Default::default() };
    let receipt = DecisionServiceClient::new(tollgate.channel().await)
        .check(check)
        .await
        .unwrap()
        .into_inner()
        .receipt;
    let subject = Some(Subject::Receipt(Bytes::copy_from_slice(receipt.as_bytes())));
    let outcome =
        pb::Outcome { subject, result: Some(Ended::HttpStatus(503)), ..Default::default() };
    let report = pb::ReportRequest { outcomes: vec![outcome; OUTCOMES] };
    let (mut refunded, mut reports) = (0, 0);
    let start = Instant::now();
    for killed in [false, true] {
        if killed {
            tollgate.kill_9();
            tollgate.restart();
        }
        let mut callers = JoinSet::new();
        for _ in 0..(scaled(1_000_000) / OUTCOMES as u64 / 2).max(1) {
            let (channel, report) = (tollgate.channel().await, report.clone());
            callers.spawn(async move {
                DecisionServiceClient::new(channel).report(report).await.unwrap().into_inner()
            });
        }
        for answer in callers.join_all().await {
            let results: Vec<_> = answer.results().collect();
            assert!(results.iter().all(|result| matches!(
                result,
                pb::Settlement::Refunded | pb::Settlement::Duplicate
            )));
            refunded +=
                results.iter().filter(|&&result| result == pb::Settlement::Refunded).count();
            reports += results.len();
        }
    }
    println!(
        "{reports} reports of one receipt in {:?}, half of them after a kill: {refunded} refunded",
        start.elapsed()
    );
    assert_eq!(refunded, 1);
    let usage = UsagePlanServiceClient::new(tollgate.channel().await)
        .get_usage(pb::GetUsageRequest::default())
        .await
        .unwrap();
    assert_eq!(usage.into_inner().quotas[0].used, 0);
}
