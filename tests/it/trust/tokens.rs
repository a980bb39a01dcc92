//! Bearer tokens.

use std::fs;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::wire::{Descriptor, Entry, RateLimitRequest};
use tollgate::testkit::declared;
use tonic::Code;

use super::{CALLS, Tokens, call, call_with, logged, make_token, refused, until, with_token};
use crate::http::{get, post};
use crate::server::Tollgate;

const KEY: &str = "a-key-of-twenty-characters-or-more";
const DECLARED: &str = "
targets: [{id: a}]
plans: [{id: gold, entitlements: [{name: all, targets: [a]}]}]
subscribers: [{id: acme, plans: [gold], keys: [{id: acme-1, value: a-key-of-twenty-characters-or-more}]}]
";

fn start(tokens: &Tokens) -> Tollgate {
    Tollgate::start(&["--tokens-file", tokens.file()], &[("TOLLGATE_FILES_POLL_MS", "10")])
}

#[tokio::test]
async fn each_call_needs_its_scope() {
    let tokens = Tokens::make(&[
        ("decider", "decide"),
        ("reporter", "report"),
        ("reader", "read"),
        ("operator", "admin"),
    ]);
    let tollgate = start(&tokens);
    let channel = tollgate.channel().await;
    // Who is let in by each of the calls.
    let table: [(&str, &[&str]); 12] = [
        // Its domain, here none, is not that of reports.
        (CALLS[0], &["decider"]),
        (CALLS[1], &["decider"]),
        (CALLS[2], &["decider"]),
        (CALLS[3], &["decider"]),
        (CALLS[4], &["reporter"]),
        (CALLS[5], &["reporter"]),
        (CALLS[6], &["reader", "operator"]),
        (CALLS[7], &["reader", "operator"]),
        (CALLS[8], &["operator"]),
        (CALLS[9], &["operator"]),
        (CALLS[10], &["reader", "operator"]),
        (CALLS[11], &["decider", "reporter", "reader", "operator"]),
    ];
    let open = "/grpc.health.v1.Health/Check";
    let mut counts = [0, 0, 0];
    for (path, admitted) in table {
        for id in ["decider", "reporter", "reader", "operator"] {
            let expected = (!admitted.contains(&id)).then_some(Code::PermissionDenied);
            assert_eq!(refused(&channel, path, Some(tokens.of(id))).await, expected, "{id} {path}");
            counts[2] += u32::from(expected.is_some());
        }
        let nobody = (path != open).then_some(Code::Unauthenticated);
        assert_eq!(refused(&channel, path, None).await, nobody, "{path}");
        assert_eq!(refused(&channel, path, Some("tgt_unknown")).await, nobody, "{path}");
        counts[0] += u32::from(nobody.is_some());
        counts[1] += u32::from(nobody.is_some());
    }
    assert_eq!(
        call(&channel, "/no.such.Service/Call", None).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        call(&channel, "/no.such.Service/Call", Some(tokens.of("operator")))
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );
    counts[0] += 1;
    let metrics = get("/metrics").send(tollgate.http_addr()).unwrap().text();
    for (reason, count) in ["missing", "unknown", "scope"].into_iter().zip(counts) {
        let line = format!("tollgate_refused_callers{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_does_not_repeat_the_token_and_waits_for_no_message() {
    let tokens = Tokens::make(&[("decider", "decide")]);
    let tollgate = start(&tokens);
    let channel = tollgate.channel().await;
    let path = "/tollgate.v1.UsagePlanService/ListUsagePlans";
    for (token, said) in [
        (None, "authorization: Bearer TOKEN"),
        (Some("tgt_unknown"), "tollgate token create"),
        (
            Some(tokens.of("decider")),
            "`decider` may not do this: give it the scope `read` or `admin`",
        ),
    ] {
        // No message ever comes: the answer does not wait for one.
        let status = call_with(&channel, path, token, tokio_stream::pending()).await.unwrap_err();
        assert!(status.message().contains(said), "{status:?}");
        assert!(!format!("{status:?}").contains("tgt_"), "{status:?}");
    }
}

fn asks(domain: &str) -> RateLimitRequest {
    let entry =
        |key: &'static str, value: &'static str| Entry { key: key.into(), value: value.into() };
    let entries = vec![entry("api_key", KEY), entry("target", "a"), entry("status", "200")];
    RateLimitRequest {
        domain: domain.to_owned().into(),
        descriptors: vec![Descriptor { entries, ..Descriptor::default() }],
        ..RateLimitRequest::default()
    }
}

#[tokio::test]
async fn the_domain_says_whether_it_is_a_decision_or_a_report() {
    let tokens =
        Tokens::make(&[("decider", "decide"), ("reporter", "report"), ("both", "decide,report")]);
    let tollgate = start(&tokens);
    let mut client = RateLimitServiceClient::new(tollgate.channel().await);
    for (domain, id, expected) in [
        ("tollgate", "decider", None),
        ("tollgate", "reporter", Some(Code::PermissionDenied)),
        ("tollgate", "both", None),
        ("tollgate-report", "decider", Some(Code::PermissionDenied)),
        ("tollgate-report", "reporter", None),
        ("tollgate-report", "both", None),
        // No rules are loaded: that is said to those who may ask.
        ("other", "decider", Some(Code::Unavailable)),
        ("other", "reporter", Some(Code::PermissionDenied)),
        ("other", "both", Some(Code::Unavailable)),
    ] {
        let answer = client.should_rate_limit(with_token(asks(domain), Some(tokens.of(id)))).await;
        assert_eq!(answer.err().map(|status| status.code()), expected, "{id} {domain}");
    }
}

#[tokio::test]
async fn the_checked_requests_own_key_is_no_token_and_the_gateways_token_is_no_key() {
    let tokens = Tokens::make(&[("gateway", "decide"), ("operator", "admin")]);
    let tollgate = start(&tokens);
    let channel = tollgate.channel().await;
    let request = with_token(declared::message(DECLARED), Some(tokens.of("operator")));
    UsagePlanServiceClient::new(channel.clone()).apply(request).await.unwrap();

    let check = |header: &str| {
        let headers = [("authorization".to_owned(), format!("Bearer {header}"))].into();
        let http = HttpRequest {
            headers,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            ..HttpRequest::default()
        };
        let request = Some(Asked { http: Some(http), ..Asked::default() });
        let context_extensions = [("target".to_owned(), "a".to_owned())].into();
        CheckRequest {
            attributes: Some(AttributeContext {
                request,
                context_extensions,
                ..AttributeContext::default()
            }),
        }
    };
    let mut client = AuthorizationClient::new(channel);
    let mut ask = async |header: &str, token: Option<&str>| {
        let answer = client.check(with_token(check(header), token)).await?;
        Ok::<_, tonic::Status>(matches!(
            answer.into_inner().http_response,
            Some(HttpResponse::OkResponse(_))
        ))
    };
    let gateway = tokens.of("gateway");
    assert!(ask(KEY, Some(gateway)).await.unwrap());
    assert!(!ask(gateway, Some(gateway)).await.unwrap(), "the gateway's token is nobody's API key");
    assert_eq!(ask(gateway, None).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(ask(gateway, Some(KEY)).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_edited_file_counts_at_once_on_open_connections_too() {
    let tokens = Tokens::make(&[("first", "decide")]);
    let tollgate = start(&tokens);
    let channel = tollgate.channel().await;
    let path = "/tollgate.v1.DecisionService/Check";
    assert_eq!(refused(&channel, path, Some(tokens.of("first"))).await, None);
    let (second, line) = make_token("second", "decide");
    assert_eq!(refused(&channel, path, Some(&second)).await, Some(Code::Unauthenticated));

    fs::write(&tokens.file, format!("{}{line}", tokens.text())).unwrap();
    until("the second token", || async { refused(&channel, path, Some(&second)).await.is_none() })
        .await;
    assert_eq!(refused(&channel, path, Some(tokens.of("first"))).await, None);

    fs::write(&tokens.file, "tokens: what").unwrap();
    let failed = || async {
        get("/metrics")
            .send(tollgate.http_addr())
            .unwrap()
            .text()
            .contains("tollgate_tokens_loads{result=\"failed\"} 1")
    };
    until("the refusal of the edit", failed).await;
    assert_eq!(refused(&channel, path, Some(&second)).await, None, "the old file stays in force");
    logged(&tollgate, "the old one stays in force: auth.tokens_file ").await;
    logged(&tollgate, "line 1: tokens must be a list").await;

    fs::write(&tokens.file, format!("tokens:\n{line}")).unwrap();
    let gone = || async {
        refused(&channel, path, Some(tokens.of("first"))).await == Some(Code::Unauthenticated)
    };
    until("the end of the first token", gone).await;
    assert_eq!(refused(&channel, path, Some(&second)).await, None);
}

#[test]
fn pages_that_decide_or_show_rules_ask_too_and_those_of_probes_do_not() {
    let tokens = Tokens::make(&[("decider", "decide"), ("reporter", "report"), ("reader", "read")]);
    let tollgate = start(&tokens);
    let to = tollgate.http_addr();
    let check = r#"{"domain": "tollgate", "descriptors": [{"entries": [{"key": "api_key", "value": "x"}, {"key": "target", "value": "a"}]}]}"#;
    let report = &check.replace("\"tollgate\"", "\"tollgate-report\"");
    let bearer = |id: &str| format!("Bearer {}", tokens.of(id));
    let json =
        |body: &str, id: &str| post("/json", body).header("authorization", bearer(id)).status(to);
    assert_eq!(post("/json", check).status(to), 401);
    assert_eq!(post("/json", check).header("authorization", "Bearer tgt_unknown").status(to), 401);
    assert_eq!(
        (json(check, "reader"), json(check, "reporter"), json(check, "decider")),
        (403, 403, 429)
    );
    assert_eq!((json(report, "decider"), json(report, "reporter")), (403, 200));
    let refused = get("/rlconfig").send(to).unwrap();
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(get("/rlconfig").header("authorization", bearer("decider")).status(to), 403);
    assert_eq!(get("/rlconfig").header("authorization", bearer("reader")).status(to), 200);
    for open in ["/", "/healthcheck", "/metrics"] {
        assert_eq!(get(open).status(to), 200, "{open}");
    }
}

#[tokio::test]
async fn without_a_tokens_file_everyone_may_do_everything_as_before() {
    let tollgate = Tollgate::start(&[], &[]);
    let channel = tollgate.channel().await;
    for path in CALLS {
        assert_eq!(refused(&channel, path, None).await, None, "{path}");
        assert_eq!(refused(&channel, path, Some("tgt_any")).await, None, "{path}");
    }
}
