//! More load than a server can carry.

use std::task::Poll;

use tollgate::clock::Clock;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::outcome::{Caller as Reported, Result as Ended, Subject};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    CheckRequest, GetUsageRequest, Outcome, Reason, ReportRequest, Verdict,
};
use tollgate::grpc::wire::{Descriptor, Entry, RateLimitRequest};
use tollgate::load::{ApiKeys, Caller, DescriptorEntry, Job, Order, Run, Summary, Traffic};
use tollgate::testkit::declared;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{ALONE, metric, scaled};
use crate::patience::until;
use crate::server::Tollgate;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/load/rules");
const KEY: &str = "a-value-of-twenty-characters";
const PLANS: &str = "{plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [{name: q, limit: 3000, unit: YEAR}]}]}],
  subscribers: [{id: acme, plans: [gold], keys: [{id: k, value: a-value-of-twenty-characters}]}]}";
/// One core, on which hardly anyone may wait.
const NARROW: [(&str, &str); 2] =
    [("TOLLGATE_GRPC_WORKERS", "1"), ("TOLLGATE_GRPC_MAX_LAG_MS", "2")];
const DESCRIPTORS: u64 = 100;

/// Many calls at once.
fn storm(tollgate: &Tollgate, traffic: Traffic, requests: u64) -> Run {
    let job = Job {
        server: tollgate.grpc_addr().to_string(),
        token: None,
        traffic,
        connections: 8,
        in_flight: 500,
        threads: 1,
        rate: None,
        requests: Some(requests),
        duration_ns: u64::MAX,
        warm_up_ns: 0,
        timeout_ns: 60_000_000_000,
        deadline_ms: None,
        keys: 100,
        order: Order::Skewed(0.0),
    };
    Run::start(job, Clock::system()).unwrap()
}

/// Requests with so many descriptors each, none of which is ever over its limit.
fn heavy() -> Traffic {
    let entry = |key: &str, value: Option<String>| DescriptorEntry { key: key.to_owned(), value };
    let descriptors = (0..DESCRIPTORS)
        .map(|number| vec![entry("limit", Some(number.to_string())), entry("api_key", None)]);
    Traffic::RateLimit { domain: "load".to_owned(), descriptors: descriptors.collect() }
}

fn report() -> ReportRequest {
    let subject = Subject::Caller(Reported { api_key: KEY.into(), target: "t".into() });
    ReportRequest {
        outcomes: vec![Outcome {
            subject: Some(subject),
            result: Some(Ended::HttpStatus(200)),
            ..Outcome::default()
        }],
    }
}

/// The same, as an Envoy reports.
fn envoy_report() -> RateLimitRequest {
    let entry =
        |key: &'static str, value: &'static str| Entry { key: key.into(), value: value.into() };
    let entries = vec![entry("api_key", KEY), entry("target", "t"), entry("status", "200")];
    let descriptors = vec![Descriptor { entries, ..Descriptor::default() }];
    RateLimitRequest { domain: "tollgate-report".into(), descriptors, hits_addend: 0 }
}

/// What somebody sees who calls in a storm, over and over again.
#[derive(Debug, Default)]
struct Seen {
    healthy: u64,
    reported: u64,
    decided: u64,
    shed: u64,
}

impl Seen {
    async fn look(&mut self, channel: &Channel) {
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
        self.healthy += 1;
        DecisionServiceClient::new(channel.clone()).report(report()).await.unwrap();
        RateLimitServiceClient::new(channel.clone())
            .should_rate_limit(envoy_report())
            .await
            .unwrap();
        self.reported += 2;
        let stranger = CheckRequest {
            api_key: "nobody".into(),
            target: "t".to_owned(),
            ..CheckRequest::default()
        };
        match DecisionServiceClient::new(channel.clone()).check(stranger).await {
            Ok(answer) => {
                assert_eq!(answer.into_inner().reason(), Reason::ApiKeyUnknown);
                self.decided += 1;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(status.message().starts_with("overloaded: "), "{status}");
                self.shed += 1;
            }
        }
    }

    /// Looks during a storm of heavy requests, and what became of those.
    async fn beside(tollgate: &Tollgate, requests: u64) -> (Self, Summary) {
        let channel = tollgate.channel().await;
        let mut storm = storm(tollgate, heavy(), requests);
        let seen = Self::during(&mut storm, &channel).await;
        // The load has ended: the next call is let in.
        let probe = RateLimitRequest { domain: "load".into(), ..envoy_report() };
        RateLimitServiceClient::new(channel).should_rate_limit(probe).await.unwrap();
        (seen, storm.finish().unwrap())
    }

    /// Looks until the storm is over.
    async fn during(storm: &mut Run, channel: &Channel) -> Self {
        let mut seen = Self::default();
        let mut over = std::pin::pin!(storm.ended());
        loop {
            seen.look(channel).await;
            if std::future::poll_fn(|context| Poll::Ready(over.as_mut().poll(context).is_ready()))
                .await
            {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_shed_and_the_rest_is_answered_right() {
    let _alone = ALONE.lock().await;
    let tollgate = Tollgate::start(&["--rules", RULES], &NARROW);
    let (requests, before_ms) = (scaled(500_000), tollgate.cpu_ms());
    let (seen, summary) = Seen::beside(&tollgate, requests).await;
    let cpu_ms = tollgate.cpu_ms() - before_ms;
    let calls = &summary.tally.calls;
    let at = |quantile: f64| {
        (
            calls.latency.value_at_quantile(quantile) / 1_000,
            calls.failure_latency.value_at_quantile(quantile) / 1_000,
        )
    };
    println!(
        "{requests} requests of {DESCRIPTORS} descriptors, 4,000 at a time on one core: {} answered, {} shed, in {} ms; {} ms of \
         the server's processor; p50 and p99 µs of answered and shed: {:?} {:?}; beside them {seen:?}",
        calls.answered(),
        calls.failed(),
        summary.elapsed_ns / 1_000_000,
        cpu_ms,
        at(0.5),
        at(0.99),
    );
    assert_eq!(calls.answered() + calls.failed(), requests);
    assert_eq!(calls.failed(), calls.failed_with(Code::Unavailable));
    assert!(calls.failed() > 0 && calls.answered() > 0);
    assert_eq!(calls.admitted(&heavy()), calls.answered());
    assert!(seen.healthy > 0);
    // What was shed has charged nothing.
    until("all hits", || {
        (metric(&tollgate, "ratelimit_service_rate_limit_total_hits")
            == calls.answered() * DESCRIPTORS)
            .then_some(())
    });
    until("all that was shed", || {
        (metric(&tollgate, "tollgate_shed_calls") == calls.failed() + seen.shed).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shed_is_charged_nowhere_and_a_quota_stays_exact() {
    let _alone = ALONE.lock().await;
    // A busy machine is not what is tried here.
    let env = [NARROW[0], NARROW[1], ("TOLLGATE_LEDGER_MAX_WAIT_MS", "60000")];
    let tollgate = Tollgate::start(&[], &env);
    let channel = tollgate.channel().await;
    UsagePlanServiceClient::new(channel.clone()).apply(declared::message(PLANS)).await.unwrap();
    let traffic = Traffic::Check(Caller {
        api_keys: ApiKeys::Listed(vec![KEY.to_owned()]),
        target: "t".to_owned(),
    });
    let mut storm = storm(&tollgate, traffic.clone(), scaled(500_000));
    let seen = Seen::during(&mut storm, &channel).await;
    let calls = storm.finish().unwrap().tally.calls;
    let mut admitted = calls.admitted(&traffic);
    println!(
        "{} checks answered, {admitted} admitted, {} shed; beside them {seen:?}",
        calls.answered(),
        calls.failed()
    );
    assert_eq!(calls.failed(), calls.failed_with(Code::Unavailable));
    assert!(calls.failed() > 0);

    let used = async || {
        let usage = UsagePlanServiceClient::new(channel.clone())
            .get_usage(GetUsageRequest::default())
            .await
            .unwrap();
        usage.into_inner().quotas[0].used
    };
    assert_eq!(used().await, admitted);
    let check =
        CheckRequest { api_key: KEY.into(), target: "t".to_owned(), ..CheckRequest::default() };
    while DecisionServiceClient::new(channel.clone())
        .check(check.clone())
        .await
        .unwrap()
        .into_inner()
        .verdict()
        == Verdict::Allow
    {
        admitted += 1;
    }
    assert_eq!((admitted, used().await), (3_000, 3_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_to_be_shed_nothing_is() {
    let _alone = ALONE.lock().await;
    let tollgate =
        Tollgate::start(&["--rules", RULES], &[NARROW[0], ("TOLLGATE_GRPC_MAX_LAG_MS", "0")]);
    let requests = scaled(250_000);
    let summary = storm(&tollgate, heavy(), requests).finish().unwrap();
    let calls = summary.tally.calls;
    println!(
        "{requests} requests answered in {} ms, with {} ms of the server's processor",
        summary.elapsed_ns / 1_000_000,
        tollgate.cpu_ms()
    );
    assert_eq!((calls.answered(), calls.failed()), (requests, 0));
}
