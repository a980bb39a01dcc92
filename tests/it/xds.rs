//! Rules from a management server: what is asked, what comes into force, what is refused, and what
//! happens when the server goes away.

pub mod ask;
pub mod management;
mod streams;
pub mod trusted;

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, Resource};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use prost::{Message, Name};

use self::ask::{Asked, ask, metric};
use self::management::{Came, Management, TYPE_URL, resource};
use crate::http::get;
use crate::patience::until;
use crate::server::Tollgate;

/// A tollgate that has its rules from this server.
fn start(server: &Management, env: &[(&str, &str)]) -> Tollgate {
    let target = server.target();
    let own = [("TOLLGATE_XDS_SERVER", target.as_str())];
    Tollgate::start(&[], &[&own, env].concat())
}

/// One descriptor `key`, and so many a year.
fn rules(domain: &str, requests: u32) -> Any {
    resource(&format!(
        "{{domain: {domain}, descriptors: [{{key: key, rate_limit: {{unit: year, requests_per_unit: {requests}}}}}]}}"
    ))
}

/// One whose unit is none.
fn bad(domain: &str) -> Any {
    resource(&format!(
        "{{domain: {domain}, descriptors: [{{key: key, rate_limit: {{unit: fortnight, requests_per_unit: 1}}}}]}}"
    ))
}

/// How many hits of a fresh value pass: its limit, up to 20.
fn limit_of(tollgate: &Tollgate, domain: &str, value: &str) -> usize {
    (0..20).take_while(|_| ask(tollgate, domain, &[("key", value)]) == Asked::Ok).count()
}

fn rlconfig(tollgate: &Tollgate) -> String {
    get("/rlconfig").send(tollgate.http_addr()).unwrap().text()
}

#[test]
fn the_first_request_and_the_acknowledgement_are_what_servers_expect() {
    let server = Management::start();
    server.set("7", vec![rules("a", 2)]);
    let env = [
        ("TOLLGATE_XDS_NODE_ID", "envoy-ratelimit"),
        ("TOLLGATE_XDS_NODE_METADATA", "zone=a"),
        ("TOLLGATE_XDS_HEADERS", "x-tenant:blue,authorization:Bearer token"),
    ];
    let tollgate = start(&server, &env);
    server.acked("7");
    let came = server.came();
    let Came::Opened(headers) = &came[0].1 else { panic!("{came:?}") };
    for (name, value) in [("x-tenant", "blue"), ("authorization", "Bearer token")] {
        assert!(headers.contains(&(name.to_owned(), value.to_owned())), "{headers:?}");
    }
    let zone = ("zone".to_owned(), Value { kind: Some(Kind::StringValue("a".to_owned())) });
    let node = Node {
        id: "envoy-ratelimit".to_owned(),
        metadata: Some(Struct { fields: [zone].into() }),
        ..Node::default()
    };
    let first = DiscoveryRequest {
        node: Some(node.clone()),
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    };
    let acknowledged = DiscoveryRequest {
        version_info: "7".to_owned(),
        response_nonce: "1".to_owned(),
        ..first.clone()
    };
    assert_eq!(server.asked(), [first, acknowledged]);
    assert_eq!(limit_of(&tollgate, "a", "x"), 2);
    assert_eq!(metric(&tollgate, "tollgate_xds_connected"), Some(1.0));
    assert_eq!(metric(&tollgate, "ratelimit_service_config_load_success"), Some(1.0));
    assert!(rlconfig(&tollgate).starts_with("a.key: unit=YEAR requests_per_unit=2"));
}

#[test]
fn an_update_replaces_the_whole_set_and_counters_stay_over_rules_that_go_and_come() {
    let server = Management::start();
    server.set("1", vec![rules("a", 2), rules("b", 1)]);
    let tollgate = start(&server, &[]);
    server.acked("1");
    assert_eq!(ask(&tollgate, "a", &[("key", "x")]), Asked::Ok);

    server.set("2", vec![rules("c", 1)]);
    server.acked("2");
    assert_eq!(limit_of(&tollgate, "a", "x"), 20, "its domain is gone");
    assert_eq!(limit_of(&tollgate, "c", "x"), 1);

    server.set("3", vec![]);
    server.acked("3");
    assert_eq!(limit_of(&tollgate, "c", "x"), 20);
    assert_eq!(get("/healthcheck").status(tollgate.http_addr()), 200, "an empty set is a set");
    assert!(metric(&tollgate, "ratelimit_service_domain_not_found").is_some());

    server.set("4", vec![rules("c", 1), rules("a", 2)]);
    server.acked("4");
    assert_eq!(limit_of(&tollgate, "a", "x"), 1, "one of two was used before");
    assert_eq!(limit_of(&tollgate, "c", "x"), 0);
}

#[test]
fn good_domains_apply_bad_ones_stay_and_are_refused_by_name_and_a_fix_comes_into_force() {
    let server = Management::start();
    server.set("1", vec![rules("a", 1), rules("b", 2), rules("c", 3)]);
    let tollgate = start(&server, &[]);
    server.acked("1");

    server.set("2", vec![rules("a", 4), bad("b"), rules("c", 5)]);
    let refusal = server.refused(1);
    assert_eq!((refusal.version_info.as_str(), refusal.response_nonce.as_str()), ("1", "2"));
    let detail = refusal.error_detail.unwrap();
    assert_eq!(detail.code, 3);
    assert!(detail.message.starts_with("b: invalid rate limit unit 'UNKNOWN'"), "{detail:?}");
    assert_eq!(limit_of(&tollgate, "a", "x"), 4);
    assert_eq!(limit_of(&tollgate, "b", "x"), 2);
    assert_eq!(limit_of(&tollgate, "c", "x"), 5);
    let health = get("/healthcheck").send(tollgate.http_addr()).unwrap();
    assert_eq!(health.status, 200);
    assert!(health.text().contains("are not in force: b: invalid"), "{}", health.text());
    assert!(rlconfig(&tollgate).starts_with("# not in force: b: invalid rate limit unit"));

    // What was refused is at once sent again, and not looked at again.
    server.refused(3);
    assert_eq!(metric(&tollgate, "ratelimit_service_config_load_error"), Some(1.0));

    let fixed = Instant::now();
    server.set("3", vec![rules("a", 4), rules("b", 6), rules("c", 5)]);
    server.acked("3");
    assert!(fixed.elapsed() < Duration::from_secs(6), "{:?}", fixed.elapsed());
    assert_eq!(limit_of(&tollgate, "b", "y"), 6);
    assert_eq!(get("/healthcheck").send(tollgate.http_addr()).unwrap().text(), "OK");
    assert!(!rlconfig(&tollgate).contains("not in force"));
}

#[test]
fn a_server_that_sends_what_was_refused_again_at_once_keeps_nobody_busy() {
    let server = Management::start();
    server.set("1", vec![bad("a")]);
    let tollgate = start(&server, &[("TOLLGATE_XDS_START_WITHOUT_RULES", "true")]);
    let begun = Instant::now();
    // At once, then about 1, 2 and 4 seconds later.
    server.refused(4);
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(metric(&tollgate, "ratelimit_service_config_load_error"), Some(1.0), "looked once");
    assert!(server.sent() <= 5, "{}", server.sent());
    assert!(tollgate.cpu_ms() < 2_000, "{} ms", tollgate.cpu_ms());
}

#[test]
fn what_is_no_resource_of_rules_is_refused_and_loses_no_rule() {
    let server = Management::start();
    let wrapped =
        Resource { name: "a".to_owned(), resource: Some(rules("a", 1)), ..Resource::default() };
    let wrapped = Any { type_url: Resource::type_url(), value: wrapped.encode_to_vec() };
    server.set("1", vec![wrapped, rules("b", 2)]);
    let tollgate = start(&server, &[]);
    server.acked("1");
    assert_eq!(limit_of(&tollgate, "a", "x"), 1, "it was wrapped");

    let broken = Any { type_url: TYPE_URL.to_owned(), value: vec![0xff] };
    server.set("2", vec![broken, rules("b", 3)]);
    let message = server.refused(1).error_detail.unwrap().message;
    assert!(message.starts_with("a resource: it cannot be decoded"), "{message}");
    assert_eq!(limit_of(&tollgate, "a", "x"), 0, "the broken one may be that of a");
    assert_eq!(limit_of(&tollgate, "b", "x"), 3);

    server.set_typed("3", "type.googleapis.com/envoy.config.cluster.v3.Cluster", vec![]);
    let message = server.refused(2).error_detail.unwrap().message;
    assert!(message.contains("was not asked for") || message.contains("decoded"), "{message}");
    assert_eq!(limit_of(&tollgate, "a", "x"), 0);
}

#[test]
fn one_domain_in_two_resources_is_refused_unless_domains_are_merged() {
    let first = || {
        resource(
            "{name: one, domain: d, descriptors: [{key: key, rate_limit: {unit: year, requests_per_unit: 1}}]}",
        )
    };
    let second = || {
        resource(
            "{name: two, domain: d, descriptors: [{key: other, rate_limit: {unit: year, requests_per_unit: 1}}]}",
        )
    };
    let server = Management::start();
    server.set("1", vec![second(), first()]);
    let tollgate = start(&server, &[]);
    let message = server.refused(1).error_detail.unwrap().message;
    assert_eq!(message, "two: duplicate domain 'd' in config file");
    assert!(rlconfig(&tollgate).contains("d.key:") && !rlconfig(&tollgate).contains("d.other:"));
    drop(tollgate);

    let server = Management::start();
    server.set("1", vec![second(), first()]);
    let env = [("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("MERGE_DOMAIN_CONFIG", "true")];
    let target = server.target();
    let env = [&env[..], &[("CONFIG_GRPC_XDS_SERVER_URL", &target)]].concat();
    let tollgate = Tollgate::start(&[], &env);
    server.acked("1");
    assert!(rlconfig(&tollgate).contains("d.key:") && rlconfig(&tollgate).contains("d.other:"));
}

#[test]
fn no_warning_is_made_of_modes_on_every_level() {
    let server = Management::start();
    server.set("1", vec![resource(
        "{domain: d, descriptors: [{key: k, value: k, shadow_mode: true, descriptors: [{key: l, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}]}]}",
    )]);
    let tollgate = start(&server, &[]);
    server.acked("1");
    until("the rules", || rlconfig(&tollgate).contains("d.k_k.l:").then_some(()));
    assert!(!tollgate.log().contains("has no effect"), "{}", tollgate.log());
}

#[test]
fn quota_mode_and_metadata_are_as_in_files() {
    let server = Management::start();
    server.set("1", vec![resource(
        "{domain: ai-gateway-quota, descriptors: [{key: backend_name, value: ns/backend, descriptors: [{key: model_name_override, value: m, metadata: {tier: gold}, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 1}}, {key: model_name_override, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 2}}]}]}",
    )]);
    let tollgate = start(&server, &[("RESPONSE_DYNAMIC_METADATA", "true")]);
    server.acked("1");
    let (one, other) = (
        [("backend_name", "ns/backend"), ("model_name_override", "m")],
        [("backend_name", "ns/backend"), ("model_name_override", "n")],
    );
    let both = |at: usize| ask::ask_all(&tollgate, "ai-gateway-quota", &[&one, &other], at.into());
    assert_eq!(ask::ask_all(&tollgate, "ai-gateway-quota", &[&one], Some(1)).0, Asked::Ok);
    let (code, text) = both(1);
    assert_eq!(code, Asked::Ok, "one of two quotas has room: {text}");
    assert!(text.contains("gold") || !text.contains("metadata"), "{text}");
    assert_eq!(both(1).0, Asked::Ok);
    assert_eq!(both(1).0, Asked::Over, "neither has room");
}

#[test]
fn a_server_on_a_unix_socket_is_asked_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let server = Management::start_at(folder.path().join("xds.sock"));
    server.set("1", vec![rules("a", 2)]);
    let tollgate = start(&server, &[]);
    server.acked("1");
    assert_eq!(limit_of(&tollgate, "a", "x"), 2);
}
