//! Durable rules across kill -9 and clean stops, from the real binary: what callers were told of,
//! added up.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::pb::tollgate::GetUsageRequest;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::wire::{Code, Descriptor, Entry, RateLimitRequest};
use tonic::transport::Channel;

use crate::patience::until;
use crate::server::Tollgate;

/// A year, so that no test runs into the end of a window.
const LIMITS: [(&str, u64); 3] = [("small", 40), ("middle", 2_000), ("large", 1_000_000)];
const CALLERS: usize = 6;
const ROUNDS: u64 = 6;

fn start() -> (Tollgate, TempDir) {
    let folder = TempDir::new().unwrap();
    let rules: Vec<String> = LIMITS
        .iter()
        .map(|(key, limit)| format!("{{key: {key}, rate_limit: {{unit: year, requests_per_unit: {limit}, durable: true}}}}"))
        .collect();
    fs::write(
        folder.path().join("rules.yaml"),
        format!("{{domain: shop, descriptors: [{}]}}", rules.join(", ")),
    )
    .unwrap();
    (
        Tollgate::start(
            &["--rules", folder.path().to_str().unwrap()],
            &[("TOLLGATE_LEDGER_MAX_WAIT_MS", "10000")],
        ),
        folder,
    )
}

/// `None`: there was no answer.
async fn passes(client: &mut RateLimitServiceClient<Channel>, key: &str) -> Option<bool> {
    let entry =
        Entry { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::from_static(b"acme") };
    let descriptors = vec![Descriptor { entries: vec![entry], ..Descriptor::default() }];
    let request =
        RateLimitRequest { domain: Bytes::from_static(b"shop"), descriptors, hits_addend: 0 };
    Some(
        client.should_rate_limit(request).await.ok()?.into_inner().overall_code
            == i32::from(Code::Ok),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_durable_rule_is_passed_across_kills() {
    let (mut tollgate, _folder) = start();
    let admitted: Arc<[AtomicU64; 3]> = Arc::default();
    for _ in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (admitted, stop, channel) =
                (admitted.clone(), stop.clone(), tollgate.lazy_channel(Duration::from_secs(20)));
            callers.spawn(async move {
                let mut client = RateLimitServiceClient::new(channel);
                for call in caller.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let place = call % LIMITS.len();
                    if passes(&mut client, LIMITS[place].0).await == Some(true) {
                        admitted[place].fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let before = admitted[2].load(Ordering::SeqCst);
        until("admissions", || (admitted[2].load(Ordering::SeqCst) >= before + 50).then_some(()));
        tollgate.kill_9();
        stop.store(true, Ordering::SeqCst);
        callers.join_all().await;
        for (count, (key, limit)) in admitted.iter().zip(LIMITS) {
            let count = count.load(Ordering::SeqCst);
            assert!(count <= limit, "{key}: {count} of {limit}");
        }
        tollgate.restart();
    }
    // What is left is given out, less what a crash may have cost: two leases of at most two units,
    // for a limit as small as this.
    let mut client = RateLimitServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
    while passes(&mut client, "small").await == Some(true) {
        admitted[0].fetch_add(1, Ordering::SeqCst);
    }
    let small = admitted[0].load(Ordering::SeqCst);
    assert!(
        small <= 40 && small + 4 * ROUNDS + u64::try_from(CALLERS).unwrap() * ROUNDS >= 40,
        "{small} of 40"
    );
    let usage = UsagePlanServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)))
        .get_usage(GetUsageRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(usage.quotas.is_empty(), "rules are no subscribers: {:?}", usage.quotas);
}

#[tokio::test]
async fn a_clean_stop_loses_no_unit_of_a_durable_rule() {
    let (mut tollgate, _folder) = start();
    for round in 0..3 {
        let mut client =
            RateLimitServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
        for _ in 0..13 {
            assert_eq!(passes(&mut client, "small").await, Some(true), "round {round}");
        }
        assert_eq!(tollgate.terminate().code(), Some(0));
        tollgate.restart();
    }
    let mut client = RateLimitServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
    assert_eq!(passes(&mut client, "small").await, Some(true), "the last unit");
    assert_eq!(passes(&mut client, "small").await, Some(false));
}
