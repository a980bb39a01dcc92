//! What was used, by day, across restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::get_usage_request::Scope;
use tollgate::grpc::pb::tollgate::outcome::{Result as Ended, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    CheckRequest, DailyUsage, GetUsageRequest, Outcome, ReportRequest, Settlement, Verdict,
};
use tonic::transport::Channel;

use crate::patience::until;
use crate::server::Tollgate;

const FILE: &str = "{
    plans: [{id: gold, entitlements: [{name: all, targets: [orders, users], quotas: [{name: yearly, limit: 20, unit: YEAR}]}]}],
    subscribers: [{id: acme, plans: [gold], keys: [
        {id: k1, value: the-value-of-the-key-k1}, {id: k2, value: the-value-of-the-key-k2}]}]}";

async fn started() -> Tollgate {
    let tollgate = Tollgate::start(&[], &[]);
    tollgate.apply(FILE).await;
    tollgate
}

/// Asks once; an admission has a receipt.
async fn check(
    client: &mut DecisionServiceClient<Channel>,
    key: &str,
    target: &str,
) -> Option<String> {
    let api_key = format!("the-value-of-the-key-{key}").into();
    let request = CheckRequest { api_key, target: target.to_owned(), ..CheckRequest::default() };
    let answer = client.check(request).await.unwrap().into_inner();
    (answer.verdict() == Verdict::Allow).then_some(answer.receipt)
}

async fn report(
    client: &mut DecisionServiceClient<Channel>,
    receipt: &str,
    status: u32,
) -> Option<Settlement> {
    let subject = Some(Subject::Receipt(Bytes::copy_from_slice(receipt.as_bytes())));
    let outcomes =
        vec![Outcome { subject, result: Some(Ended::HttpStatus(status)), ..Outcome::default() }];
    client.report(ReportRequest { outcomes }).await.unwrap().into_inner().results().next()
}

async fn days(tollgate: &Tollgate, scope: Option<Scope>) -> Vec<DailyUsage> {
    // A test may run over midnight.
    let request = GetUsageRequest {
        scope,
        start_date: "2020-01-01".to_owned(),
        end_date: String::new(),
        ..GetUsageRequest::default()
    };
    UsagePlanServiceClient::new(tollgate.channel().await)
        .get_usage(request)
        .await
        .unwrap()
        .into_inner()
        .days
}

fn admitted(days: &[DailyUsage]) -> u64 {
    days.iter().map(|day| day.admitted).sum()
}

/// The ledger's file, beside the service.
fn ledger(tollgate: &Tollgate) -> Connection {
    let path: PathBuf = tollgate.data_dir().join("ledger.sqlite");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// What was admitted, by the pages of the ledger's file.
fn kept_admitted(tollgate: &Tollgate) -> u64 {
    let sql = ledger(tollgate);
    let mut pages = sql.prepare("SELECT admitted FROM daily_pages").unwrap();
    let pages = pages.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    pages
        .flat_map(|page| {
            page.unwrap()
                .as_chunks()
                .0
                .iter()
                .map(|count| u64::from_le_bytes(*count))
                .collect::<Vec<_>>()
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_keeps_every_count() {
    let mut tollgate = started().await;
    for round in 1..=3 {
        {
            let mut client = DecisionServiceClient::new(tollgate.channel().await);
            for (key, target) in
                [("k1", "orders"), ("k1", "orders"), ("k2", "orders"), ("k2", "users")]
            {
                let receipt = check(&mut client, key, target).await.unwrap();
                assert_eq!(report(&mut client, &receipt, 200).await, Some(Settlement::Counted));
            }
            assert_eq!(check(&mut client, "k1", "nothing-of-the-plan").await, None);
        }
        let before = days(&tollgate, None).await;
        assert_eq!(
            (
                admitted(&before),
                admitted(&days(&tollgate, Some(Scope::ApiKey("k2".to_owned()))).await)
            ),
            (4 * round, 2 * round)
        );
        let sum = |map: fn(&DailyUsage) -> Option<&u64>| before.iter().filter_map(map).sum::<u64>();
        assert_eq!(
            (sum(|day| day.responses.get("2xx")), sum(|day| day.refused.get("NOT_SUBSCRIBED"))),
            (4 * round, round)
        );
        assert_eq!(tollgate.terminate().code(), Some(0));
        assert_eq!(kept_admitted(&tollgate), 4 * round);
        tollgate.restart();
        assert_eq!(days(&tollgate, None).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_what_was_not_written_yet_and_nothing_else() {
    let mut tollgate = started().await;
    let mut asked = 0;
    for _ in 0..3 {
        let mut client = DecisionServiceClient::new(tollgate.channel().await);
        for _ in 0..3 {
            assert!(check(&mut client, "k1", "orders").await.is_some());
        }
        asked += 3;
        let kept = admitted(&days(&tollgate, None).await);
        until("the ledger to keep what was counted", || {
            (kept_admitted(&tollgate) == kept).then_some(())
        });
        // This may be written, or not.
        assert!(check(&mut client, "k1", "orders").await.is_some());
        asked += 1;
        tollgate.kill_9();
        tollgate.restart();
        let after = admitted(&days(&tollgate, None).await);
        assert!((kept..=kept + 1).contains(&after), "{kept} were kept, {after} are there");
        assert_eq!(after, kept_admitted(&tollgate), "counted twice, or not from the ledger");
        assert!(after <= asked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_reported_after_a_restart_is_counted_for_its_key_and_target() {
    let mut tollgate = started().await;
    // Numbers are drawn in another order after each restart.
    let mut orders = [("k1", "orders"), ("k2", "users")];
    for killed in [true, false] {
        let mut receipts = Vec::new();
        {
            let mut client = DecisionServiceClient::new(tollgate.channel().await);
            for (key, target) in orders {
                receipts.push(check(&mut client, key, target).await.unwrap());
            }
        }
        if killed {
            let names = || {
                ledger(&tollgate)
                    .query_row("SELECT count(*) FROM names", [], |row| row.get::<_, i64>(0))
                    .unwrap()
            };
            until("the names in the ledger", || (names() == 4).then_some(()));
            tollgate.kill_9();
        } else {
            assert_eq!(tollgate.terminate().code(), Some(0));
        }
        tollgate.restart();
        orders.reverse();
        let mut client = DecisionServiceClient::new(tollgate.channel().await);
        for (key, target) in orders {
            assert!(check(&mut client, key, target).await.is_some());
        }
        assert_eq!(report(&mut client, &receipts[0], 200).await, Some(Settlement::Counted));
        assert_eq!(report(&mut client, &receipts[1], 503).await, Some(Settlement::Refunded));
        orders.reverse();
    }
    let days = days(&tollgate, None).await;
    let mut responses = BTreeMap::new();
    for day in &days {
        for (class, count) in &day.responses {
            *responses
                .entry((day.api_key.as_str(), day.target.as_str(), class.as_str()))
                .or_default() += count;
        }
    }
    assert_eq!(
        responses,
        BTreeMap::from([(("k1", "orders", "2xx"), 2), (("k2", "users", "5xx"), 2)])
    );
}
