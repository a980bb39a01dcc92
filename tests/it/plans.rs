//! Usage plans over gRPC, from the real binary.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::outcome::{Caller, Ending, Result as Ended, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    CheckBatch, CheckRequest, CheckResponse, GetUsageRequest, Outcome, Reason, ReportRequest,
    Settlement, UpdateSubscriberRequest, Verdict, get_usage_request,
};
use tollgate::testkit::declared;
use tonic::transport::Channel;

use crate::http::get;
use crate::server::Tollgate;

const KEY: &str = "a-key-of-twenty-characters-or-more";
const DECLARED: &str = "
targets: [{id: orders/prod, openMethods: [{method: GET, path: /status}]}, {id: users/prod}, {id: nobody/prod}]
plans:
- id: gold
  entitlements:
  - name: orders
    targets: [orders/prod]
    quotas: [{name: yearly, limit: 10, unit: YEAR}]
  - name: users
    targets: [users/prod]
    rateLimit: {requestsPerSecond: 0.000001, burst: 2}
- id: thousand
  entitlements: [{name: all, targets: [orders/prod], quotas: [{name: yearly, limit: 1000, unit: YEAR}]}]
subscribers:
- {id: acme, plans: [gold], keys: [{id: acme-1, value: a-key-of-twenty-characters-or-more}]}
";

struct Bench {
    tollgate: Tollgate,
    decisions: DecisionServiceClient<Channel>,
    plans: UsagePlanServiceClient<Channel>,
}

impl Bench {
    async fn start() -> Self {
        let tollgate = Tollgate::start(&[], &[]);
        let channel = tollgate.channel().await;
        let mut plans = UsagePlanServiceClient::new(channel.clone());
        plans.apply(declared::message(DECLARED)).await.unwrap();
        Self { tollgate, decisions: DecisionServiceClient::new(channel), plans }
    }

    async fn check(&mut self, target: &str) -> CheckResponse {
        self.decisions.check(request(target)).await.unwrap().into_inner()
    }

    async fn report(&mut self, outcomes: Vec<Outcome>) -> Vec<Settlement> {
        let response =
            self.decisions.report(ReportRequest { outcomes }).await.unwrap().into_inner();
        response.results().collect()
    }

    /// Units used of the only quota of acme.
    async fn used(&mut self) -> u64 {
        let scope = Some(get_usage_request::Scope::Subscriber("acme".to_owned()));
        let usage = self
            .plans
            .get_usage(GetUsageRequest { scope, ..GetUsageRequest::default() })
            .await
            .unwrap()
            .into_inner();
        usage.quotas[0].used
    }
}

fn request(target: &str) -> CheckRequest {
    CheckRequest { api_key: KEY.into(), target: target.to_owned(), ..CheckRequest::default() }
}

fn outcome(receipt: &str, result: Ended) -> Outcome {
    Outcome {
        subject: Some(Subject::Receipt(Bytes::copy_from_slice(receipt.as_bytes()))),
        result: Some(result),
        ..Outcome::default()
    }
}

#[tokio::test]
async fn what_ended_in_a_5xx_is_given_back_and_everything_else_stays_charged() {
    let mut bench = Bench::start().await;
    let mut receipts = Vec::new();
    for _ in 0..10 {
        let answer = bench.check("orders/prod").await;
        assert_eq!(
            (answer.verdict(), answer.http_status, answer.plan.as_str()),
            (Verdict::Allow, 200, "gold")
        );
        receipts.push(answer.receipt);
    }
    let refused = bench.check("orders/prod").await;
    assert_eq!(
        (refused.verdict(), refused.reason(), refused.http_status, refused.never),
        (Verdict::Deny, Reason::QuotaExceeded, 429, false)
    );
    assert!(
        refused.receipt.is_empty() && refused.retry_after.is_some() && refused.limits[0].violated
    );
    let retry_after: u64 = refused
        .headers
        .iter()
        .find(|header| header.name == "retry-after")
        .unwrap()
        .value
        .parse()
        .unwrap();
    assert!(refused.retry_after.unwrap().seconds.unsigned_abs() <= retry_after);

    let other = if receipts[0].as_bytes()[20] == b'A' { "B" } else { "A" };
    let forged = format!("{}{other}{}", &receipts[0][..20], &receipts[0][21..]);
    let mut too_high = outcome(&receipts[9], Ended::HttpStatus(200));
    too_high.result = Some(Ended::HttpStatus(600));
    let stranger = Outcome {
        subject: Some(Subject::Caller(Caller {
            api_key: "who".into(),
            target: "orders/prod".into(),
        })),
        ..Outcome::default()
    };
    let results = bench
        .report(vec![
            outcome(&receipts[0], Ended::HttpStatus(200)),
            outcome(&receipts[1], Ended::HttpStatus(404)),
            outcome(&receipts[2], Ended::HttpStatus(503)),
            outcome(&receipts[2], Ended::HttpStatus(503)),
            outcome(&receipts[3], Ended::GrpcStatus(14)),
            outcome(&receipts[4], Ended::GrpcStatus(5)),
            outcome(&receipts[5], Ended::Ending(Ending::NoResponse.into())),
            outcome(&receipts[6], Ended::Ending(Ending::CallerGone.into())),
            Outcome { made_by_gateway: true, ..outcome(&receipts[7], Ended::HttpStatus(400)) },
            Outcome { cost: Some(5), ..outcome(&receipts[8], Ended::HttpStatus(200)) },
            outcome(&forged, Ended::HttpStatus(503)),
            too_high,
            stranger,
            Outcome::default(),
        ])
        .await;
    use Settlement::{Corrected, Counted, Duplicate, Invalid, Refunded};
    assert_eq!(
        results,
        [
            Counted, Counted, Refunded, Duplicate, Refunded, Counted, Refunded, Counted, Refunded,
            Corrected, Invalid, Invalid, Invalid, Invalid
        ]
    );
    // Ten charged, four given back, four more for the one that cost five.
    assert_eq!(bench.used().await, 10);
    assert_eq!(bench.check("orders/prod").await.verdict(), Verdict::Deny);
}

#[tokio::test]
async fn every_refusal_says_why() {
    let mut bench = Bench::start().await;
    for (request, reason, status) in [
        (
            CheckRequest { api_key: Bytes::new(), ..request("orders/prod") },
            Reason::ApiKeyMissing,
            403,
        ),
        (
            CheckRequest { api_key: Bytes::from_static(b"\xff\xfe"), ..request("orders/prod") },
            Reason::ApiKeyUnknown,
            403,
        ),
        (
            CheckRequest { api_key: vec![b'x'; 1 << 20].into(), ..request("orders/prod") },
            Reason::ApiKeyUnknown,
            403,
        ),
        (request("nobody/prod"), Reason::NotSubscribed, 403),
        (request("no such target"), Reason::NotSubscribed, 403),
        (CheckRequest { cost: Some(11), ..request("orders/prod") }, Reason::QuotaExceeded, 429),
        (CheckRequest { cost: Some(u64::MAX), ..request("users/prod") }, Reason::RateExceeded, 429),
    ] {
        let answer = bench.decisions.check(request).await.unwrap().into_inner();
        assert_eq!(
            (answer.verdict(), answer.reason(), answer.http_status, answer.never),
            (Verdict::Deny, reason, status, true)
        );
        assert!(answer.headers.iter().all(|header| header.name != "retry-after"));
    }
    let no_target = bench.decisions.check(request("")).await.unwrap_err();
    assert_eq!(no_target.code(), tonic::Code::InvalidArgument);
    assert!(no_target.message().contains("target"), "{no_target}");

    let open = CheckRequest {
        api_key: Bytes::new(),
        method: "GET".into(),
        path: "/status?x".into(),
        ..request("orders/prod")
    };
    let answer = bench.decisions.check(open).await.unwrap().into_inner();
    assert_eq!(
        (answer.verdict(), answer.receipt.as_str(), answer.subscriber.as_str()),
        (Verdict::Allow, "", "")
    );
    let metrics = get("/metrics").send(bench.tollgate.http_addr()).unwrap().text();
    for line in [
        "tollgate_checks{verdict=\"DENY\",reason=\"NOT_SUBSCRIBED\"} 2",
        "tollgate_checks{verdict=\"ALLOW\",reason=\"\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn the_same_operation_twice_is_charged_once() {
    let mut bench = Bench::start().await;
    let once = CheckRequest { operation_id: "call-1".into(), ..request("orders/prod") };
    let first = bench.decisions.check(once.clone()).await.unwrap().into_inner();
    let second = bench.decisions.check(once.clone()).await.unwrap().into_inner();
    assert_eq!(first.receipt, second.receipt);
    assert_eq!(bench.used().await, 1);
    let other = CheckRequest { cost: Some(2), ..once };
    assert_eq!(
        bench.decisions.check(other).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

#[tokio::test]
async fn an_edit_takes_effect_on_the_next_decision() {
    let mut bench = Bench::start().await;
    assert_eq!(bench.check("orders/prod").await.plan, "gold");
    let subscriber = bench
        .plans
        .get_subscriber(tollgate::grpc::pb::tollgate::GetSubscriberRequest {
            id: "acme".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    let mut edited = subscriber.clone();
    edited.plans = vec!["thousand".to_owned(), "gold".to_owned()];
    let update =
        UpdateSubscriberRequest { subscriber: Some(edited), ..UpdateSubscriberRequest::default() };
    bench.plans.update_subscriber(update.clone()).await.unwrap();
    assert_eq!(bench.check("orders/prod").await.plan, "thousand");
    assert_eq!(
        bench.plans.update_subscriber(update).await.unwrap_err().code(),
        tonic::Code::Aborted,
        "the etag is an old one"
    );
}

#[tokio::test]
async fn a_stream_answers_batches_in_order_and_a_bad_item_spoils_no_other() {
    let mut bench = Bench::start().await;
    let (send, batches) = mpsc::channel(4);
    let mut answers =
        bench.decisions.check_stream(ReceiverStream::new(batches)).await.unwrap().into_inner();
    let targets =
        ["orders/prod", "", "users/prod", "nobody/prod", "orders/prod"].map(str::to_owned).to_vec();
    send.send(CheckBatch {
        id: 7,
        api_keys: vec![KEY.into(); 5],
        targets,
        ..CheckBatch::default()
    })
    .await
    .unwrap();
    let answer = answers.next().await.unwrap().unwrap();
    use Verdict::{Allow, Deny};
    assert_eq!(
        (answer.id, answer.verdicts().collect::<Vec<_>>()),
        (7, vec![Allow, Deny, Allow, Deny, Allow])
    );
    let none = Reason::Unspecified;
    assert_eq!(
        answer.reasons().collect::<Vec<_>>(),
        [none, Reason::InvalidRequest, none, Reason::NotSubscribed, none]
    );
    assert_eq!(
        answer.receipts.iter().map(String::is_empty).collect::<Vec<_>>(),
        [false, true, true, true, false]
    );

    // One target for all items; arrays that fit nothing; an empty batch; then the stream goes on.
    let batch = |id, count, targets: usize| CheckBatch {
        id,
        api_keys: vec![KEY.into(); count],
        targets: vec!["users/prod".to_owned(); targets],
        costs: vec![0],
        ..CheckBatch::default()
    };
    for batch in [batch(8, 3, 1), batch(9, 3, 2), batch(10, 10_001, 1), batch(11, 0, 0)] {
        send.send(batch).await.unwrap();
    }
    let shared = answers.next().await.unwrap().unwrap();
    assert_eq!(
        (shared.id, shared.verdicts.len(), shared.reasons.len(), shared.receipts.len()),
        (8, 3, 0, 0)
    );
    for (id, error) in
        [(9, "targets: 2 entries fit neither"), (10, "api_keys: 10001 items are more"), (11, "")]
    {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.verdicts.len()), (id, 0));
        assert!(answer.error.starts_with(error), "{}", answer.error);
    }
    drop(send);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn reports_stream_too() {
    let mut bench = Bench::start().await;
    let receipts =
        [bench.check("orders/prod").await.receipt, bench.check("orders/prod").await.receipt];
    let reports: Vec<_> = receipts
        .iter()
        .map(|receipt| ReportRequest { outcomes: vec![outcome(receipt, Ended::HttpStatus(500))] })
        .collect();
    let answers =
        bench.decisions.report_stream(tokio_stream::iter(reports)).await.unwrap().into_inner();
    let results: Vec<Vec<Settlement>> =
        answers.map(|answer| answer.unwrap().results().collect()).collect().await;
    assert_eq!(results, [[Settlement::Refunded], [Settlement::Refunded]]);
    assert_eq!(bench.used().await, 0);
    let many = ReportRequest { outcomes: vec![Outcome::default(); 10_001] };
    assert_eq!(
        bench.decisions.report(many).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

/// 64 callers, a quota of 1000, and every third response a 5xx: it takes exactly 1000 that were not
/// refunded to use it up, and at no moment were more charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_concurrent_callers_exactly_the_quota_stays_charged() {
    let mut bench = Bench::start().await;
    let mut subscriber =
        tollgate::grpc::pb::tollgate::Subscriber { id: "acme".to_owned(), ..Default::default() };
    subscriber.plans = vec!["thousand".to_owned()];
    bench
        .plans
        .update_subscriber(UpdateSubscriberRequest {
            subscriber: Some(subscriber),
            ..Default::default()
        })
        .await
        .unwrap();

    let (admitted, refunded) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // Charged for certain: admitted as far as the callers know, less what they have asked to be
    // refunded.
    let charged = Arc::new(AtomicI64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..64_u64 {
        let (admitted, refunded, charged) = (admitted.clone(), refunded.clone(), charged.clone());
        let mut client = DecisionServiceClient::new(bench.tollgate.channel().await);
        tasks.spawn(async move {
            // Refunds of others may still come in: a refusal ends a caller only when it is the
            // third in a row.
            let mut refusals = 0;
            for call in 0.. {
                let answer = client.check(request("orders/prod")).await.unwrap().into_inner();
                if answer.verdict() == Verdict::Deny {
                    refusals += 1;
                    if refusals == 3 {
                        return;
                    }
                    continue;
                }
                refusals = 0;
                admitted.fetch_add(1, Ordering::Relaxed);
                assert!(
                    charged.fetch_add(1, Ordering::SeqCst) < 1000,
                    "more than the quota are charged"
                );
                if (caller + call) % 3 == 0 {
                    charged.fetch_sub(1, Ordering::SeqCst);
                    let report = ReportRequest {
                        outcomes: vec![outcome(&answer.receipt, Ended::HttpStatus(503))],
                    };
                    let results: Vec<_> =
                        client.report(report).await.unwrap().into_inner().results().collect();
                    assert_eq!(results, [Settlement::Refunded]);
                    refunded.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    tasks.join_all().await;
    // Whoever came last may have left units that were refunded after the others had gone.
    let mut last = 0;
    while bench.check("orders/prod").await.verdict() == Verdict::Allow {
        last += 1;
    }
    assert_eq!(admitted.load(Ordering::Relaxed) + last - refunded.load(Ordering::Relaxed), 1000);
    assert_eq!(bench.used().await, 1000);
}
