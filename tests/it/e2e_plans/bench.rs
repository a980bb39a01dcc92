//! An Envoy between a client and an upstream, and a tollgate that knows a few plans.

use std::cell::Cell;
use std::collections::BTreeMap;

use tokio::runtime::Runtime;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{GetUsageRequest, get_usage_request};
use tollgate::testkit::declared;
use tonic::transport::Channel;

use super::relay::Relay;
use crate::envoy::{self, Envoy, edit};
use crate::http::{self, Response};
use crate::patience::until;
use crate::server::{self, Tollgate};
use crate::upstream::Upstream;

/// Limits that nothing replenishes while a test runs.
const PLANS: &str = r#"
targets: [{id: orders/prod, openMethods: [{method: GET, path: /orders/open}]}, {id: users/prod}, {id: rpc/prod}]
plans:
- id: quota-of-10
  entitlements: [{name: all, targets: [orders/prod, rpc/prod], quotas: [{name: yearly, limit: 10, unit: YEAR}]}]
- id: quota-of-2
  entitlements: [{name: all, targets: [orders/prod, rpc/prod], quotas: [{name: yearly, limit: 2, unit: YEAR}]}]
- id: burst-of-10
  entitlements:
  - name: all
    targets: [orders/prod]
    rateLimit: {requestsPerSecond: 0.001, burst: 10}
    quotas: [{name: yearly, limit: 10, unit: YEAR}]
- id: burst-of-2
  entitlements:
  - name: all
    targets: [orders/prod]
    rateLimit: {requestsPerSecond: 0.001, burst: 2}
    quotas: [{name: yearly, limit: 10, unit: YEAR}]
- id: one-item
  entitlements:
  - name: all
    targets: [orders/prod]
    methodRateLimits: [{method: GET, path: "/orders/item", requestsPerSecond: 0.001, burst: 1}]
- id: plenty
  entitlements:
  - {name: all, targets: [orders/prod, users/prod, rpc/prod], quotas: [{name: yearly, limit: 1000000, unit: YEAR}]}
subscribers:
"#;

/// Whose key the requests have that only mark a point in time.
const MARK: &str = "mark";

/// Envoy must not give up on tollgate, nor on the upstream, because a machine is slow.
const PATIENT: &[(&str, &str)] = &[
    ("timeout: 0.1s", "timeout: 20s"),
    ("timeout: 5s", "timeout: 50s"),
    ("connect_timeout: 0.5s", "connect_timeout: 20s"),
];

/// An edit after which requests for users are given up early.
pub const SHORT_FOR_USERS: (&str, &str) = (
    "tollgate: { target: users/prod } } }\n                route: { cluster: upstream, timeout: 5s }",
    "tollgate: { target: users/prod } } }\n                route: { cluster: upstream, timeout: 0.6s }",
);

/// How Envoy asks about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    RateLimitFilters,
    ExtAuthz,
}

impl Wiring {
    fn example(self) -> &'static str {
        match self {
            Self::RateLimitFilters => "usage-plans.yaml",
            Self::ExtAuthz => "ext-authz.yaml",
        }
    }
}

pub struct Bench {
    pub upstream: Upstream,
    pub tollgate: Tollgate,
    pub envoy: Envoy,
    pub runtime: Runtime,
    /// What the reports pass, where [`Self::start_with_relay`] started this.
    relay: Option<Relay>,
    plans: UsagePlanServiceClient<Channel>,
    marks: Cell<u64>,
}

/// The value of the only key of a subscriber.
pub fn key(subscriber: &str) -> String {
    format!("{subscriber}-key-of-twenty-characters-or-more")
}

impl Bench {
    /// Starts everything, with these subscribers, each with its plan, and with edits of Envoy's
    /// configuration.
    pub fn start(wiring: Wiring, subscribers: &[(&str, &str)], edits: &[(&str, &str)]) -> Self {
        Self::build(wiring, subscribers, edits, false)
    }

    /// Reports go through a relay, the first of whose connections brings back no answers.
    pub fn start_with_relay(
        wiring: Wiring,
        subscribers: &[(&str, &str)],
        edits: &[(&str, &str)],
    ) -> Self {
        Self::build(wiring, subscribers, edits, true)
    }

    fn build(
        wiring: Wiring,
        subscribers: &[(&str, &str)],
        edits: &[(&str, &str)],
        relayed: bool,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let upstream = Upstream::start();
        let tollgate = Tollgate::start(&[], &[server::PATIENT]);
        let plans = runtime.block_on(declare(&tollgate, subscribers));
        let servers =
            [(9000, upstream.addr()), (9001, upstream.addr()), (8081, tollgate.grpc_addr())];
        let mut config = edit(&envoy::example(wiring.example(), &servers), edits);
        let relay = relayed.then(|| Relay::start(tollgate.grpc_addr()));
        if let Some(relay) = &relay {
            let (before, reports) = config.split_once("- name: tollgate_report\n").unwrap();
            let port = |port: u16| format!("port_value: {port} ");
            let reports =
                edit(reports, &[(&port(tollgate.grpc_addr().port()), &port(relay.addr().port()))]);
            config = format!("{before}- name: tollgate_report\n{reports}");
        }
        let envoy = Envoy::start(&edit(&config, PATIENT));
        Self { upstream, tollgate, envoy, runtime, relay, plans, marks: Cell::new(0) }
    }

    /// A request of a subscriber.
    pub fn request(&self, path: impl AsRef<[u8]>, subscriber: &str) -> http::Request {
        http::get(path).header("x-api-key", key(subscriber))
    }

    pub fn send(&self, request: &http::Request) -> Response {
        request.send(self.envoy.listener("api")).unwrap()
    }

    pub fn get(&self, path: impl AsRef<[u8]>, subscriber: &str) -> Response {
        self.send(&self.request(path, subscriber))
    }

    /// The statuses of `count` requests, one after the other.
    pub fn statuses(&self, count: usize, path: impl AsRef<[u8]>, subscriber: &str) -> Vec<u16> {
        (0..count).map(|_| self.get(&path, subscriber).status).collect()
    }

    /// The gRPC status that a call ends with.
    pub fn grpc(&self, path: &str, headers: &[(&str, &str)]) -> Option<u32> {
        http::grpc_call(self.envoy.listener("api"), path, headers).grpc_status
    }

    /// The sum of a counter of tollgate over all its labels, or of those that hold `label`.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let text = http::get("/metrics").send(self.tollgate.http_addr()).unwrap().text();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        lines
            .filter(|(labels, _)| labels.contains(label))
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum()
    }

    /// Waits until the reports of all requests so far have been settled, and sees that they are
    /// `count`, each sent once.
    pub fn wait_for_reports(&self, count: u64) {
        // Envoy's one worker does everything in order: what this request follows has been reported
        // before it is.
        let mark = self.request("/orders/mark", MARK).header("x-login", "mark");
        assert_eq!(self.send(&mark).status, 200);
        self.marks.set(self.marks.get() + 1);
        let expected = count + self.marks.get();
        self.wait_for_reports_to_come(expected);
        assert_eq!(
            self.envoy.stat("cluster.tollgate_report.upstream_rq_total"),
            expected,
            "reports as Envoy has sent them"
        );
    }

    /// Waits until tollgate has settled `count` reports, those that [`Self::wait_for_reports`]
    /// causes included.
    pub fn wait_for_reports_to_come(&self, count: u64) {
        until("every report", || {
            let settled = self.metric("tollgate_reports", "");
            assert!(settled <= count, "{settled} reports instead of {count}");
            (settled == count).then_some(())
        });
    }

    /// What is said of a subscriber over all days:
    /// `2 used, 1 2xx, 1 4xx, 2 admitted, 1 QUOTA_EXCEEDED`.
    pub fn usage(&self, subscriber: &str) -> String {
        let request = GetUsageRequest {
            scope: Some(get_usage_request::Scope::Subscriber(subscriber.to_owned())),
            start_date: "2020-01-01".to_owned(),
            end_date: "2200-01-01".to_owned(),
            ..GetUsageRequest::default()
        };
        let usage =
            self.runtime.block_on(self.plans.clone().get_usage(request)).unwrap().into_inner();
        let mut counts = BTreeMap::<String, u64>::new();
        for day in usage.days {
            let refused = day.refused.into_iter();
            for (what, count) in
                refused.chain(day.responses).chain([("admitted".to_owned(), day.admitted)])
            {
                *counts.entry(what).or_default() += count;
            }
        }
        // Reasons are in capitals: what was admitted first, in small letters.
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(what, _)| what.starts_with(|first: char| first.is_ascii_uppercase()));
        let used = usage.quotas.iter().map(|quota| quota.used).sum();
        let all = std::iter::once(("used".to_owned(), used)).chain(counts);
        all.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }

    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("started without a relay")
    }

    /// A connection to tollgate itself.
    pub async fn channel(&self) -> Channel {
        self.tollgate.channel().await
    }
}

/// `(subscriber, plan)`: the plan `disabled` is `plenty` with a key that is switched off.
async fn declare(
    tollgate: &Tollgate,
    subscribers: &[(&str, &str)],
) -> UsagePlanServiceClient<Channel> {
    let mut text = PLANS.to_owned();
    for (id, plan) in subscribers.iter().chain(&[(MARK, "plenty")]) {
        let (plan, enabled) = if *plan == "disabled" { ("plenty", false) } else { (*plan, true) };
        text.push_str(&format!("- {{id: {id}, plans: [{plan}], keys: [{{id: {id}-1, value: {}, enabled: {enabled}}}]}}\n", key(id)));
    }
    let mut plans = UsagePlanServiceClient::new(tollgate.channel().await);
    plans.apply(declared::message(&text)).await.unwrap();
    plans
}
