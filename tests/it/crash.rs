//! Quotas across kill -9, restarts and clean stops: what callers were told of, added up.

mod disk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::outcome::{Result as Ended, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    CheckRequest, GetUsageRequest, GrantRequest, Outcome, QuotaUsage, ReportRequest, Settlement,
    Verdict, grant_request,
};
use tonic::transport::Channel;

use crate::patience::until;
use crate::server::Tollgate;

const KEY: &str = "a-value-of-twenty-characters";
pub const TARGETS: [(&str, u64); 4] =
    [("tiny", 7), ("small", 60), ("middle", 3_000), ("large", 1_000_000)];
pub const CALLERS: usize = 8;
const ROUNDS: u64 = 20;

/// Limits are declared anew with every round: `extra` on each of them.
fn file(extra: u64) -> String {
    let entitlements: Vec<String> = TARGETS
        .iter()
        .map(|(name, limit)| {
            format!("{{name: {name}, targets: [{name}], quotas: [{{name: yearly, limit: {}, unit: YEAR}}]}}", limit + extra)
        })
        .collect();
    format!(
        "{{plans: [{{id: gold, entitlements: [{}]}}], subscribers: [{{id: acme, plans: [gold], keys: [{{id: k, value: {KEY}}}]}}]}}",
        entitlements.join(", ")
    )
}

pub async fn apply(tollgate: &Tollgate, extra: u64) {
    tollgate.apply(&file(extra)).await;
}

pub async fn usage(tollgate: &Tollgate) -> BTreeMap<String, QuotaUsage> {
    let usage = UsagePlanServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)))
        .get_usage(GetUsageRequest::default())
        .await
        .unwrap()
        .into_inner();
    usage.quotas.into_iter().map(|row| (row.entitlement.clone(), row)).collect()
}

pub fn check(target: &str) -> CheckRequest {
    CheckRequest { api_key: KEY.into(), target: target.to_owned(), ..CheckRequest::default() }
}

fn failed(receipt: &str) -> ReportRequest {
    let subject = Some(Subject::Receipt(Bytes::copy_from_slice(receipt.as_bytes())));
    ReportRequest {
        outcomes: vec![Outcome {
            subject,
            result: Some(Ended::HttpStatus(503)),
            ..Outcome::default()
        }],
    }
}

pub async fn report(
    client: &mut DecisionServiceClient<Channel>,
    receipt: &str,
) -> Option<Settlement> {
    let answer = client.report(failed(receipt)).await.ok()?.into_inner();
    answer.results().next()
}

/// What the callers were told, and what they have asked to be refunded.
#[derive(Default)]
pub struct Log {
    pub admitted: [AtomicU64; TARGETS.len()],
    /// Distinct 5xx of which the report was answered.
    pub refunded: [AtomicU64; TARGETS.len()],
    /// Reports that got no answer: they are sent again after the restart.
    pub unanswered: Mutex<Vec<(usize, String)>>,
    answered: Mutex<Vec<String>>,
    /// Checks without an answer.
    errors: AtomicU64,
}

impl Log {
    pub async fn refund(
        &self,
        client: &mut DecisionServiceClient<Channel>,
        place: usize,
        receipt: String,
        again: bool,
    ) {
        match report(client, &receipt).await {
            Some(Settlement::Refunded) => {}
            // The first answer was lost, or this is its retry.
            Some(Settlement::Duplicate) if again => {}
            None => return self.unanswered.lock().unwrap().push((place, receipt)),
            other => panic!("a 5xx came to {other:?}"),
        }
        self.refunded[place].fetch_add(1, Ordering::SeqCst);
        self.answered.lock().unwrap().push(receipt);
    }

    pub async fn drive(&self, channel: Channel, seed: usize, stop: &AtomicBool) {
        let mut client = DecisionServiceClient::new(channel);
        for call in seed.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let place = call % TARGETS.len();
            let Ok(answer) = client.check(check(TARGETS[place].0)).await else {
                self.errors.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            let answer = answer.into_inner();
            if answer.verdict() != Verdict::Allow {
                continue;
            }
            self.admitted[place].fetch_add(1, Ordering::SeqCst);
            if (call / TARGETS.len()).is_multiple_of(3) {
                self.refund(&mut client, place, answer.receipt, false).await;
            }
        }
    }
}

/// Who calls until `stop`.
fn callers(tollgate: &Tollgate, log: &Arc<Log>, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let channel = tollgate.lazy_channel(Duration::from_secs(20));
        let (log, stop) = (log.clone(), stop.clone());
        callers.spawn(async move { log.drive(channel, caller * 13, &stop).await });
    }
    callers
}

/// Two leases a kill may go unaccounted for: the one that is spent, and the one that was asked for
/// ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_quota_is_passed_and_no_refund_is_lost_or_made_twice_across_kills() {
    let mut tollgate = Tollgate::start(&[], &[]);
    apply(&tollgate, 0).await;
    let log = Arc::new(Log::default());
    let mut allowed = TARGETS.map(|(_, limit)| limit);
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = callers(&tollgate, &log, &stop);
        // Raised in one round, lowered in the next, and a grant on the way. What was ever allowed
        // is what bounds the sum.
        let extra = if round % 2 == 0 { 5 } else { 0 };
        apply(&tollgate, extra).await;
        let grant = GrantRequest {
            subject: Some(grant_request::Subject::Subscriber("acme".to_owned())),
            plan: "gold".to_owned(),
            entitlement: "small".to_owned(),
            quota: "yearly".to_owned(),
            change: Some(grant_request::Change::Add(1)),
            ..GrantRequest::default()
        };
        UsagePlanServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)))
            .grant(grant)
            .await
            .unwrap();
        allowed[1] += 1;
        // Killed after some number of further admissions, another one in each round.
        let before = log.admitted[3].load(Ordering::SeqCst);
        until("admissions", || {
            (log.admitted[3].load(Ordering::SeqCst) >= before + 20 + 37 * (round % 7)).then_some(())
        });
        tollgate.kill_9();
        stop.store(true, Ordering::SeqCst);
        callers.join_all().await;
        tollgate.restart();

        let mut client = DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
        let unanswered = std::mem::take(&mut *log.unanswered.lock().unwrap());
        for (place, receipt) in unanswered {
            log.refund(&mut client, place, receipt, true).await;
        }
        assert!(
            log.unanswered.lock().unwrap().is_empty(),
            "a report is not answered although the server runs"
        );
        let replayed: Vec<String> =
            log.answered.lock().unwrap().iter().step_by(10).cloned().collect();
        for receipt in replayed.iter().rev().take(20) {
            assert_eq!(report(&mut client, receipt).await, Some(Settlement::Duplicate));
        }
        for place in 0..TARGETS.len() {
            let net = log.admitted[place].load(Ordering::SeqCst)
                - log.refunded[place].load(Ordering::SeqCst);
            let most = allowed[place] + 5;
            assert!(
                net <= most,
                "round {round}, {}: {net} admitted and not refunded, of {most}",
                TARGETS[place].0
            );
        }
    }

    // The books stay within the limits, and a clean stop changes nothing of them.
    apply(&tollgate, 5).await;
    let before = usage(&tollgate).await;
    assert_eq!(tollgate.terminate().code(), Some(0));
    tollgate.restart();
    let after = usage(&tollgate).await;
    for (place, (name, limit)) in TARGETS.iter().enumerate() {
        let net =
            log.admitted[place].load(Ordering::SeqCst) - log.refunded[place].load(Ordering::SeqCst);
        let row = &after[*name];
        println!(
            "{name}: {net} admitted and not refunded, used {}, lost {}, of {limit}",
            row.used, row.lost
        );
        assert!(
            net <= row.used + row.lost,
            "{name}: {net} admitted, and the books know only of {row:?}"
        );
        assert!(row.used + row.lost <= allowed[place] + 5, "{name}: {row:?}");
        assert_eq!(
            (row.used, row.lost),
            (before[*name].used, before[*name].lost),
            "{name}: a clean stop lost something"
        );
        // What a kill can leave unaccounted for: the units that may be held unspent.
        let bound = ROUNDS * 2_u64.max((allowed[place] + 5) / 100);
        assert!(row.lost <= bound, "{name}: {} lost, more than {bound}", row.lost);
    }
}

/// With the quota used up nothing is held unspent, so after each kill the books must agree to the
/// unit: a mark without its refund, or a refund without its mark, shows at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_a_storm_of_refunds_leaves_every_refund_made_once() {
    const LIMIT: u64 = 60;
    // A busy machine is not what is tried here.
    let mut tollgate = Tollgate::start(&[], &[("TOLLGATE_LEDGER_MAX_WAIT_MS", "60000")]);
    apply(&tollgate, 0).await;
    for round in 0..12 {
        let mut open: Vec<String> = Vec::new();
        let mut client = DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
        loop {
            let answer = client.check(check("small")).await.unwrap().into_inner();
            if answer.verdict() != Verdict::Allow {
                break;
            }
            open.push(answer.receipt);
        }
        assert_eq!(open.len() as u64, LIMIT, "round {round}: all of it is there again");

        let (log, answered) = (Arc::new(Log::default()), Arc::new(AtomicU64::new(0)));
        let mut reporters = JoinSet::new();
        for share in open.chunks(open.len().div_ceil(CALLERS)) {
            let (log, answered, mut client, share) = (
                log.clone(),
                answered.clone(),
                DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20))),
                share.to_vec(),
            );
            reporters.spawn(async move {
                for receipt in share {
                    log.refund(&mut client, 1, receipt, false).await;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let enough = 1 + round * 7 % 40;
        until("refunds", || (answered.load(Ordering::SeqCst) >= enough).then_some(()));
        tollgate.kill_9();
        reporters.join_all().await;
        tollgate.restart();

        let mut client = DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
        let unanswered = std::mem::take(&mut *log.unanswered.lock().unwrap());
        let again = unanswered.len();
        for (place, receipt) in unanswered {
            log.refund(&mut client, place, receipt, true).await;
        }
        assert_eq!(log.refunded[1].load(Ordering::SeqCst), LIMIT);
        let row = usage(&tollgate).await.remove("small").unwrap();
        assert_eq!(
            row.remaining, LIMIT,
            "round {round}, {again} reports sent again: each refund is made once"
        );
    }
}

// More than one thread: a client that is blocked does not let go of its connection, and the server
// waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_loses_nothing_and_the_last_unit_is_given_out() {
    let mut tollgate = Tollgate::start(&[], &[]);
    apply(&tollgate, 0).await;
    for round in 1..=3 {
        let mut client = DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
        for _ in 0..if round == 1 { 7 } else { 0 } {
            assert_eq!(
                client.check(check("tiny")).await.unwrap().into_inner().verdict(),
                Verdict::Allow
            );
        }
        for _ in 0..17 {
            assert_eq!(
                client.check(check("small")).await.unwrap().into_inner().verdict(),
                Verdict::Allow
            );
        }
        assert_eq!(tollgate.terminate().code(), Some(0));
        tollgate.restart();
        let mut rows = usage(&tollgate).await;
        let row = rows.remove("small").unwrap();
        assert_eq!((row.used, row.lost, row.remaining), (17 * round, 0, 60 - 17 * round));
        let row = rows.remove("tiny").unwrap();
        assert_eq!((row.used, row.lost, row.remaining), (7, 0, 0), "used up before the stop");
    }
    let mut client = DecisionServiceClient::new(tollgate.lazy_channel(Duration::from_secs(20)));
    for unit in 0..10 {
        let verdict = client.check(check("small")).await.unwrap().into_inner().verdict();
        assert_eq!(verdict, if unit < 9 { Verdict::Allow } else { Verdict::Deny }, "unit {unit}");
    }
}
