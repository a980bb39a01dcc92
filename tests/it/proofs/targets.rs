//! The bodies of the fuzz targets: bytes that a stranger chooses, and what must hold for all of
//! them. A panic is a find.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use prost::Message;
use tollgate::catalog::{CatalogStore, Declared, EditOptions, HashKey};
use tollgate::clock::Clock;
use tollgate::config::{Config, Flags};
use tollgate::decide::ledger::{CounterId, CounterIdentity, PeriodRow};
use tollgate::decide::outcome::Outcome;
use tollgate::decide::time::{Now, SECOND_NS};
use tollgate::engine::plans::{Report, ReportSubject, Settings, Settlement};
use tollgate::engine::rules::RuleEngine;
use tollgate::engine::rules::decision::{Descriptor as Asked, Modes};
use tollgate::grpc::decision::DecisionMessages;
use tollgate::grpc::ext_authz::ExternalAuthorization;
use tollgate::grpc::pb::tollgate as pb;
use tollgate::grpc::ratelimit::RateLimiter;
use tollgate::grpc::wire::{Descriptor, Entry, RateLimitRequest};
use tollgate::grpc::{convert, json};
use tollgate::metrics::Metrics;
use tollgate::rulebook::Rulebook;
use tollgate::rules::{LoadOptions, Source, load};
use tollgate::service::decisions::Decisions;
use tollgate::service::rate_limits::{Parts, RateLimits};
use tollgate::testkit::at_once::AtOnce;
use tollgate::testkit::declared::{self, request};
use tollgate::testkit::started::StartedRules;

use super::simulation::{Bytes, House};

/// A target: its name, which is that of its seeds' folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("rules_yaml", rules_yaml),
    ("plan_json", plan_json),
    ("declared_yaml", declared_yaml),
    ("config_file", config_file),
    ("receipts", receipts),
    ("rate_limit_request", rate_limit_request),
    ("check_request", check_request),
    ("ext_authz_request", ext_authz_request),
    ("operations", operations),
];

const START: Now = Now { unix_ns: 1_795_341_607 * SECOND_NS, steady_ns: 1_000 * SECOND_NS };
const KEY: &[u8] = b"a-value-of-twenty-characters";
const LIMIT: u64 = 5;
const PLANS: &str = "{targets: [{id: t, rateLimit: {requestsPerSecond: 1000, burst: 1000}, openMethods: [{method: GET, path: /open}]}],
  plans: [{id: gold, entitlements: [{name: all, targets: [t], methodRateLimits: [{method: GET, path: '/a/{id}', requestsPerSecond: 100}],
           quotas: [{name: q, limit: 5, unit: YEAR}]}]}],
  subscribers: [{id: acme, plans: [gold], keys: [{id: k, value: a-value-of-twenty-characters}]}]}";
const RULES: &str = "domain: d
descriptors:
- key: a
  rate_limit: {unit: minute, requests_per_unit: 3}
  descriptors:
  - key: b
    value: c*
    rate_limit: {unit: second, requests_per_unit: 1}
- key: t
  rate_limit: {unit: hour, requests_per_unit: 9, algorithm: token_bucket}
";

/// What is answered without waiting for anything.
fn now<T>(answer: impl Future<Output = T>) -> T {
    match std::pin::pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits"),
    }
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// A file of rules is refused with a place, or serves the same each time it is read.
pub fn rules_yaml(data: &[u8]) {
    let read =
        || load(&[Source { name: "r.yaml".to_owned(), text: text(data) }], &LoadOptions::default());
    match read() {
        Err(wrong) => assert!(!wrong.message.is_empty() && Err(wrong) == read().map(drop)),
        Ok(loaded) => {
            let engine = RuleEngine::new(100).unwrap();
            let modes = Modes::default();
            let names: Vec<(Vec<u8>, Vec<u8>)> = vec![
                (b"a".to_vec(), b"b".to_vec()),
                (b"".to_vec(), data.iter().copied().take(20).collect()),
            ];
            for domain in loaded.rules.domains() {
                let entries = names.iter().map(|(key, value)| (&**key, &**value)).collect();
                let asked = [Asked { entries, limit_override: None, hits: 1, negative: false }];
                let decision =
                    engine.decide(&loaded.rules, domain.name().as_bytes(), &asked, modes, START);
                assert!(decision.domain_found);
            }
        }
    }
}

fn store() -> CatalogStore {
    CatalogStore::new(HashKey([1; 32]), None)
}

/// What was applied is there: the second time nothing differs.
fn applies(declared: &Declared) {
    let store = store();
    if store.edit(EditOptions::default(), START, |draft| draft.apply(declared)).is_ok() {
        let again =
            store.edit(EditOptions::default(), START, |draft| draft.apply(declared)).unwrap();
        assert!(again.answer.is_empty(), "applied twice: {:?}", again.answer);
    }
}

/// A usage plan in our JSON or Oracle's is refused with its mistakes, or is the same after it was
/// written and read again.
pub fn plan_json(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let Ok(read) = json::usage_plan(value) else { return };
    let declared =
        pb::ApplyRequest { usage_plans: vec![read.message.clone()], ..pb::ApplyRequest::default() };
    let Ok(declared) = convert::apply::declared(declared) else { return };
    applies(&declared);
    let store = store();
    if store.edit(EditOptions::default(), START, |draft| draft.apply(&declared)).is_ok() {
        let written = store
            .load()
            .plans()
            .iter_after(None)
            .map(|plan| convert::plans::to_wire(plan))
            .collect();
        let again = pb::ApplyRequest { usage_plans: written, ..pb::ApplyRequest::default() };
        assert_eq!(convert::apply::declared(again).unwrap().plans, declared.plans);
    }
}

/// A declarative file.
pub fn declared_yaml(data: &[u8]) {
    let Ok(document) = tollgate::yaml::parse(&text(data)) else { return };
    let Ok(value) = document.root.to_json() else { return };
    let Ok(read) = json::declared(value) else { return };
    if let Ok(declared) = convert::apply::declared(read.message) {
        applies(&declared);
    }
}

/// A file of settings is refused with all its mistakes, or can be used.
pub fn config_file(data: &[u8]) {
    for suffix in [".yaml", ".toml"] {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.write_all(data).unwrap();
        let flags =
            Flags { file: Some(file.path().to_owned()), settings: vec![], ..Flags::default() };
        match Config::resolve(&flags, &|_| None) {
            Ok(config) => {
                assert!(config.grpc.max_descriptors >= 1 && config.plans.receipts_ttl_ns > 0)
            }
            Err(mistakes) => assert!(!mistakes.0.is_empty()),
        }
    }
}

/// Everything that decides. All units are leased: nothing is waited for.
struct Services {
    at_once: AtOnce,
    catalog: Arc<CatalogStore>,
    plans: Arc<Decisions>,
    limiter: RateLimiter,
}

/// Leases all that is left of the one quota.
fn lease_all(at_once: &AtOnce, catalog: &CatalogStore) {
    let catalog = catalog.load();
    let quota = &catalog.plans().get("gold").unwrap().value.entitlements[0].quotas[0];
    let row = PeriodRow {
        counter: CounterId(1),
        identity: CounterIdentity {
            subscriber: "acme".into(),
            key: None,
            plan: "gold".into(),
            entitlement: "all".into(),
            quota: quota.identity.clone(),
        },
        period: quota.calendar.period(START.unix_ns),
        charged: 0,
        granted: 0,
        lost: 0,
        held: 0,
        active_s: 0,
    };
    at_once.engine.leases().restore(&row, START).unwrap();
    let mut need = at_once.engine.warm(&**catalog, &row, START).unwrap();
    (need.number, need.want) = (None, LIMIT);
    at_once.draw(vec![need], START);
}

fn services() -> Services {
    let settings = Config::resolve(&Flags::default(), &|_| None).unwrap();
    let catalog = Arc::new(store());
    declared::apply(PLANS, &catalog, START);
    let own = Settings { max_entries: 16, ..Settings::new([2; 32], [3; 16]) };
    let at_once = AtOnce::new(own);
    lease_all(&at_once, &catalog);
    let metrics = Arc::new(Metrics::new());
    let passed_ns = AtomicU64::new(0);
    let clock = Clock::from_fn(move || {
        let ns = passed_ns.fetch_add(1_000, Ordering::Relaxed);
        Now { unix_ns: START.unix_ns + ns, steady_ns: START.steady_ns + ns }
    });
    let plans = Arc::new(Decisions::new(
        at_once.engine.clone(),
        catalog.clone(),
        clock.clone(),
        settings.plans,
        at_once.broker(clock.clone()),
        &metrics,
    ));
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(RULES.as_bytes()).unwrap();
    let rules = tollgate::config::Rules { paths: vec![file.path().to_owned()], ..settings.rules };
    let rulebook = Arc::new(Rulebook::open(rules, metrics.clone()).unwrap());
    let rule_engine = Arc::new(RuleEngine::new(100).unwrap());
    let durable = StartedRules::durable(clock.clone(), plans.settings());
    let limits = RateLimits::new(Parts {
        engine: rule_engine,
        rulebook,
        clock,
        metrics,
        decisions: plans.clone(),
        durable,
        settings: settings.rate_limit,
        bounds: settings.grpc,
    });
    let limiter = RateLimiter(Arc::new(limits));
    Services { at_once, catalog, plans, limiter }
}

thread_local! {
    /// Made once: what a call leaves behind is there for the next, as in a server.
    static SERVICES: Services = services();
}

impl Services {
    /// Units of the one quota.
    fn used(&self) -> u64 {
        let usage = self.at_once.engine.quota_usage(
            &**self.catalog.load(),
            &tollgate::decide::ledger::Scope::All,
            0..u64::MAX,
            ("", None),
        );
        usage.iter().map(|usage| usage.row.used).sum()
    }

    fn report(&self, receipt: &[u8]) -> Settlement {
        let report = Report {
            subject: ReportSubject::Receipt(receipt),
            outcome: Outcome::http(503),
            cost: None,
        };
        self.at_once.settle(&**self.catalog.load(), &report, START).unwrap()
    }
}

/// What is not a receipt, or not quite one, is invalid and changes nothing.
pub fn receipts(data: &[u8]) {
    let house = services();
    assert_eq!(house.report(data), Settlement::Invalid);
    let input = request(KEY, "t");
    let receipt = house
        .at_once
        .check(&**house.catalog.load(), &input, START)
        .unwrap()
        .receipt
        .clone()
        .unwrap()
        .into_bytes();
    let mut altered = receipt.clone();
    for change in data.chunks_exact(2) {
        let place = usize::from(change[0]);
        match (change[1], altered.get_mut(place)) {
            (0, _) => altered.truncate(place),
            (1, _) => altered.push(change[0]),
            (with, Some(byte)) => *byte ^= with,
            (_, None) => {}
        }
    }
    if altered != receipt {
        assert_eq!(
            (house.report(&altered), house.used()),
            (Settlement::Invalid, 1),
            "{}",
            text(&altered)
        );
    }
    assert_eq!((house.report(&receipt), house.used()), (Settlement::Refunded, 0));
    assert_eq!((house.report(&receipt), house.used()), (Settlement::Duplicate, 0));
}

/// A request of Envoy's rate limit service, as bytes; and a well-formed one with these bytes where
/// a caller can put some.
pub fn rate_limit_request(data: &[u8]) {
    SERVICES.with(|house| {
        if let Ok(request) = RateLimitRequest::decode(data) {
            assert_eq!(RateLimitRequest::decode(&*request.encode_to_vec()).unwrap(), request);
            let many = request.descriptors.len();
            if let Ok(answer) = now(house.limiter.answer(&request, None)) {
                assert!(
                    answer.statuses.len() >= many || *request.domain != *b"d",
                    "{} statuses for {many} descriptors",
                    answer.statuses.len()
                );
            }
        }
        for (domain, key) in [
            ("d", "a"),
            ("d", "t"),
            ("tollgate", "api_key"),
            ("tollgate", "path"),
            ("tollgate", "cost"),
            ("tollgate", "target"),
        ] {
            let mut entries =
                vec![Entry { key: key.as_bytes().to_vec().into(), value: data.to_vec().into() }];
            if domain == "tollgate" && key != "target" {
                entries.push(Entry { key: b"target".to_vec().into(), value: b"t".to_vec().into() });
            }
            let descriptors = vec![Descriptor { entries, ..Descriptor::default() }];
            let request = RateLimitRequest {
                domain: domain.as_bytes().to_vec().into(),
                descriptors,
                hits_addend: 0,
            };
            let answer = now(house.limiter.answer(&request, None));
            // A target is the gateway's own word: an empty one is its mistake.
            assert!(
                answer.is_ok() || key == "target",
                "{key}: an error that a caller can cause: {answer:?}"
            );
        }
        assert!(house.used() <= LIMIT, "more was admitted than the quota");
    });
}

/// `CheckRequest` as it is read: no text of a caller or a gateway makes a message unreadable, also
/// where another takes its place.
#[derive(Clone, PartialEq, Message)]
struct Readable {
    #[prost(bytes = "vec", repeated, tag = "1")]
    api_key: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    target: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    method: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    path: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "5")]
    cost: Option<u64>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    operation_id: Vec<Vec<u8>>,
}

/// Our own check and report, as bytes.
pub fn check_request(data: &[u8]) {
    SERVICES.with(|house| {
        let service = Arc::new(DecisionMessages(house.plans.clone()));
        let any = prost::bytes::Bytes::copy_from_slice(data);
        let read = Readable::decode(data).is_ok();
        match now(service.answer_check(any.clone())) {
            Ok(answer) => assert!(
                read && pb::CheckResponse::decode(&*answer).is_ok(),
                "an answer to what is no request"
            ),
            Err(status) => assert_eq!(status.code(), tonic::Code::InvalidArgument),
        }
        let request = pb::CheckRequest {
            api_key: KEY.to_vec().into(),
            target: "t".to_owned(),
            path: data.to_vec().into(),
            ..pb::CheckRequest::default()
        };
        let answered = now(service.answer_check(request.encode_to_vec().into()));
        assert!(answered.is_ok(), "an error that a caller can cause");
        let reported = now(service.answer_report(any));
        assert_eq!(reported.is_ok(), pb::ReportRequest::decode(data).is_ok(), "{reported:?}");
        assert!(house.used() <= LIMIT, "more was admitted than the quota");
    });
}

/// Envoy's external authorization, as bytes.
pub fn ext_authz_request(data: &[u8]) {
    SERVICES.with(|house| {
        drop(now(ExternalAuthorization(house.plans.clone())
            .answer_check(prost::bytes::Bytes::copy_from_slice(data))));
        assert!(house.used() <= LIMIT, "more was admitted than the quota");
    });
}

/// What happens to a node, chosen by the bytes: every answer is what it should be.
pub fn operations(data: &[u8]) {
    House::new(Bytes(data), None).run(2_000).unwrap_or_else(|wrong| panic!("{wrong}"));
}
