//! Windows of rules across restarts, from the real binary.

use std::fs;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::wire::{Code, Descriptor, DescriptorStatus, Entry, RateLimitRequest};
use tonic::transport::Endpoint;

use crate::patience::until;
use crate::server::Tollgate;

/// A year, so that no test runs into the end of a window; an hour and a day are kept in the same
/// way.
fn write_rules(folder: &TempDir, yearly: u32) {
    let rules = format!(
        "
domain: shop
descriptors:
  - {{key: yearly, rate_limit: {{unit: year, requests_per_unit: {yearly}}}}}
  - {{key: biennial, rate_limit: {{unit: year, unit_multiplier: 2, requests_per_unit: 5}}}}
  - {{key: short, rate_limit: {{unit: minute, unit_multiplier: 59, requests_per_unit: 1000}}}}
"
    );
    fs::write(folder.path().join("rules.yaml"), rules).unwrap();
}

fn start(yearly: u32) -> (Tollgate, TempDir) {
    let folder = TempDir::new().unwrap();
    write_rules(&folder, yearly);
    (Tollgate::start(&["--rules", folder.path().to_str().unwrap()], &[]), folder)
}

async fn hit(
    tollgate: &Tollgate,
    key: &'static str,
    hits: u64,
    negative: bool,
) -> DescriptorStatus {
    let channel = Endpoint::from_shared(format!("http://{}", tollgate.grpc_addr()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let entry =
        Entry { key: Bytes::from_static(key.as_bytes()), value: Bytes::from_static(b"acme") };
    let descriptor = Descriptor {
        entries: vec![entry],
        hits_addend: Some(hits),
        is_negative_hits: negative,
        ..Descriptor::default()
    };
    let request = RateLimitRequest {
        domain: Bytes::from_static(b"shop"),
        descriptors: vec![descriptor],
        hits_addend: 0,
    };
    let answer =
        RateLimitServiceClient::new(channel).should_rate_limit(request).await.unwrap().into_inner();
    answer.statuses.into_iter().next().unwrap()
}

fn is_over(status: &DescriptorStatus) -> bool {
    status.code == i32::from(Code::OverLimit)
}

/// The counts that the ledger has now.
fn written(tollgate: &Tollgate) -> Vec<i64> {
    let file = tollgate.data_dir().join("ledger.sqlite");
    let sql = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = sql.prepare("SELECT count FROM windows ORDER BY count").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_clean_stop_keeps_every_hit_and_every_one_given_back() {
    let (mut tollgate, folder) = start(5);
    assert_eq!(hit(&tollgate, "yearly", 5, false).await.limit_remaining, 0);
    hit(&tollgate, "biennial", 4, false).await;
    hit(&tollgate, "biennial", 3, true).await;
    hit(&tollgate, "short", 7, false).await;
    assert_eq!(tollgate.terminate().code(), Some(0));
    assert_eq!(written(&tollgate), [1, 5]);
    tollgate.restart();
    assert!(is_over(&hit(&tollgate, "yearly", 1, false).await));
    assert_eq!(hit(&tollgate, "biennial", 0, false).await.limit_remaining, 4);
    assert_eq!(
        hit(&tollgate, "short", 0, false).await.limit_remaining,
        1000,
        "windows below an hour live in memory"
    );
    assert_eq!(tollgate.terminate().code(), Some(0));
    // Six were counted: the refused one too.
    write_rules(&folder, 8);
    tollgate.restart();
    assert_eq!(
        hit(&tollgate, "yearly", 0, false).await.limit_remaining,
        2,
        "an edit keeps the count"
    );
}

#[tokio::test]
async fn a_crash_forgets_nothing_that_was_written() {
    let (mut tollgate, _folder) = start(5);
    for round in 1..=3 {
        hit(&tollgate, "yearly", 2, false).await;
        until("the hits in the ledger", || (written(&tollgate) == [2 * round]).then_some(()));
        tollgate.kill_9();
        tollgate.restart();
        let left = hit(&tollgate, "yearly", 0, false).await;
        assert_eq!(i64::from(left.limit_remaining), (5 - 2 * round).max(0));
        assert_eq!(is_over(&left), round == 3);
    }
}
