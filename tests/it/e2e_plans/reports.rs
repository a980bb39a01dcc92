//! Reports that come late, or twice.

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::wire::{Descriptor, Entry, RateLimitRequest};

use super::bench::{Bench, SHORT_FOR_USERS, Wiring, key};
use crate::patience::until;

in_both_wirings! {
    a_report_waits_for_a_tollgate_that_hangs
    a_report_that_envoy_sends_again_refunds_once
    the_very_same_report_twice_refunds_once
}

fn a_report_waits_for_a_tollgate_that_hangs(wiring: Wiring) {
    let bench = Bench::start(wiring, &[("alice", "plenty")], &[SHORT_FOR_USERS]);
    let pending = bench.request("/users/hang", "alice").open(bench.envoy.listener("api")).unwrap();
    // Decided, and not ended yet.
    bench.upstream.wait_for_hits("/users/hang", 1);
    bench.tollgate.pause();
    assert_eq!(pending.answer().unwrap().status, 504, "nobody waits for a report");
    until("the report on its way", || {
        (bench.envoy.stat("cluster.tollgate_report.upstream_rq_total") == 1).then_some(())
    });
    bench.tollgate.resume();
    bench.wait_for_reports(1);
    assert_eq!(bench.usage("alice"), "0 used, 1 5xx, 1 admitted");
}

fn a_report_that_envoy_sends_again_refunds_once(wiring: Wiring) {
    let bench = Bench::start_with_relay(wiring, &[("alice", "plenty")], &[]);
    assert_eq!(bench.get("/orders/status/503", "alice").status, 503);
    bench.wait_for_reports_to_come(1);
    assert_eq!(bench.usage("alice"), "0 used, 1 5xx, 1 admitted");
    // Envoy never learns that the report has arrived.
    bench.relay().cut();
    bench.wait_for_reports_to_come(2);
    for (result, count) in [("REFUNDED", 1), ("DUPLICATE", 1)] {
        assert_eq!(bench.metric("tollgate_reports", result), count, "{result}");
    }
    assert_eq!(bench.envoy.stat("cluster.tollgate_report.upstream_rq_retry"), 1);
    assert_eq!(bench.get("/orders/status/200", "alice").status, 200);
    bench.wait_for_reports_to_come(3);
    assert_eq!(
        bench.usage("alice"),
        "1 used, 1 2xx, 1 5xx, 2 admitted",
        "what was refunded once is one unit"
    );
}

fn text(metadata: &Struct, name: &str) -> String {
    match &metadata.fields[name].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

fn rate_limit_request(domain: &str, entries: &[(&str, &str)]) -> RateLimitRequest {
    let entries = entries
        .iter()
        .map(|(key, value)| Entry { key: key.to_string().into(), value: value.to_string().into() });
    let descriptor = Descriptor { entries: entries.collect(), ..Descriptor::default() };
    RateLimitRequest {
        domain: domain.to_owned().into(),
        descriptors: vec![descriptor],
        hits_addend: 0,
    }
}

/// Asks as Envoy does, and says which receipt Envoy gets.
async fn receipt(bench: &Bench, wiring: Wiring) -> String {
    let alice = key("alice");
    let metadata = match wiring {
        Wiring::RateLimitFilters => {
            let entries = [
                ("target", "orders/prod"),
                ("method", "GET"),
                ("path", "/orders/a"),
                ("api_key", &alice),
            ];
            let request = rate_limit_request("tollgate", &entries);
            RateLimitServiceClient::new(bench.channel().await)
                .should_rate_limit(request)
                .await
                .unwrap()
                .into_inner()
                .dynamic_metadata
        }
        Wiring::ExtAuthz => {
            let headers = [("x-api-key".to_owned(), alice)].into();
            let http = HttpRequest {
                method: "GET".to_owned(),
                path: "/orders/a".to_owned(),
                headers,
                ..HttpRequest::default()
            };
            let attributes = AttributeContext {
                request: Some(Request { http: Some(http), ..Request::default() }),
                context_extensions: [("target".to_owned(), "orders/prod".to_owned())].into(),
                ..AttributeContext::default()
            };
            let request = CheckRequest { attributes: Some(attributes) };
            AuthorizationClient::new(bench.channel().await)
                .check(request)
                .await
                .unwrap()
                .into_inner()
                .dynamic_metadata
        }
    };
    text(&metadata.unwrap(), "receipt")
}

fn the_very_same_report_twice_refunds_once(wiring: Wiring) {
    let bench = Bench::start(wiring, &[("alice", "plenty")], &[]);
    bench.runtime.block_on(async {
        let receipts = [receipt(&bench, wiring).await, receipt(&bench, wiring).await];
        let mut client = RateLimitServiceClient::new(bench.channel().await);
        for receipt in [&receipts[0], &receipts[0], &receipts[1]] {
            let status = if *receipt == receipts[0] { "503" } else { "200" };
            let entries = [
                ("target", "orders/prod"),
                ("receipt", receipt),
                ("status", status),
                ("details", "via_upstream"),
            ];
            client
                .should_rate_limit(rate_limit_request("tollgate-report", &entries))
                .await
                .unwrap();
        }
    });
    for (result, count) in [("REFUNDED", 1), ("DUPLICATE", 1), ("COUNTED", 1)] {
        assert_eq!(bench.metric("tollgate_reports", result), count, "{result}");
    }
    assert_eq!(bench.usage("alice"), "1 used, 1 2xx, 1 5xx, 2 admitted");
}
