//! What is refused: how the caller is told, and that nothing else comes of it.

use serde_json::Value;

use super::bench::{Bench, Wiring, key};
use crate::http::{self, Response};
use crate::patience::until;

in_both_wirings! {
    a_caller_without_a_usable_key_or_a_subscription_is_forbidden
    a_caller_over_a_rate_or_a_quota_is_told_when_to_come_again
    what_a_caller_sends_does_not_get_past_a_limit
    what_authentication_refuses_is_counted_nowhere
    an_open_method_needs_no_key
    a_tollgate_that_is_away_lets_pass_or_refuses_as_configured
}

fn problem(response: &Response) -> Value {
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{response:?}");
    serde_json::from_slice(&response.body).unwrap()
}

fn says_nothing_of_limits(response: &Response) -> bool {
    response.headers.iter().all(|(name, _)| !name.contains("ratelimit") && name != "retry-after")
}

fn a_caller_without_a_usable_key_or_a_subscription_is_forbidden(wiring: Wiring) {
    let bench = Bench::start(wiring, &[("alice", "quota-of-10"), ("dora", "disabled")], &[]);
    let to_orders = || http::get("/orders/a");
    let with = |api_key: &[u8]| to_orders().header("x-api-key", api_key);
    let cases = [
        ("no key", to_orders(), "API_KEY_MISSING"),
        ("an empty key", with(b""), "API_KEY_MISSING"),
        ("an unknown key", with(key("nobody").as_bytes()), "API_KEY_UNKNOWN"),
        ("a key that is not UTF-8", with(b"\xff"), "API_KEY_UNKNOWN"),
        ("a key with an overlong form", with(b"\xc0\xaf"), "API_KEY_UNKNOWN"),
        (
            "a known key and a byte more",
            with(&[key("alice").as_bytes(), b"\xff"].concat()),
            "API_KEY_UNKNOWN",
        ),
        ("a long key", with(&vec![b'k'; 50_000]), "API_KEY_UNKNOWN"),
        // Envoy's rate-limit filter passes on the first of them, external authorization all of them
        // with commas between.
        (
            "an unknown key and a known one",
            with(key("nobody").as_bytes()).header("x-api-key", key("alice")),
            "API_KEY_UNKNOWN",
        ),
        ("a disabled key", with(key("dora").as_bytes()), "API_KEY_DISABLED"),
        (
            "a target not subscribed",
            http::get("/users/a").header("x-api-key", key("alice")),
            "NOT_SUBSCRIBED",
        ),
        (
            "a long path",
            http::get(format!("/orders/{}", "x".repeat(50_000))).header("x-api-key", b"\xff"),
            "API_KEY_UNKNOWN",
        ),
    ];
    for (what, request, reason) in &cases {
        let refused = bench.send(request);
        assert_eq!(refused.status, 403, "{what}: {refused:?}");
        let problem = problem(&refused);
        assert_eq!(
            (&problem["status"], &problem["reason"]),
            (&403.into(), &(*reason).into()),
            "{what}"
        );
        assert!(says_nothing_of_limits(&refused), "{what}: {refused:?}");
    }
    let by_grpc = bench.grpc("/orders/grpc/ok", &[]);
    assert_eq!(by_grpc, Some(7), "PERMISSION_DENIED");
    bench.wait_for_reports(0);
    for path in ["/orders/a", "/users/a", "/orders/grpc/ok"] {
        assert_eq!(bench.upstream.hits(path), 0, "{path}");
    }
    assert_eq!(bench.metric("tollgate_checks", "DENY"), cases.len() as u64 + 1);
    assert_eq!(bench.usage("alice"), "0 used, 1 NOT_SUBSCRIBED");
    assert_eq!(bench.usage("dora"), "0 used, 1 API_KEY_DISABLED");
}

fn a_caller_over_a_rate_or_a_quota_is_told_when_to_come_again(wiring: Wiring) {
    let bench = Bench::start(wiring, &[("rita", "burst-of-2"), ("quentin", "quota-of-2")], &[]);
    let year_s = 366 * 86_400;
    for (subscriber, limit, reason, longest_s) in
        [("rita", "rate", "RATE_EXCEEDED", 1000), ("quentin", "yearly", "QUOTA_EXCEEDED", year_s)]
    {
        for left in [1, 0] {
            let passed = bench.get("/orders/a", subscriber);
            assert_eq!(passed.status, 200, "{passed:?}");
            let (policy, now) =
                (passed.header("ratelimit-policy").unwrap(), passed.header("ratelimit").unwrap());
            assert!(policy.contains(&format!("\"{limit}\";q=2;w=")), "{policy}");
            assert!(now.contains(&format!("\"{limit}\";r={left};t=")), "{now}");
            assert!(
                passed
                    .header("x-ratelimit-limit")
                    .is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit())),
                "{passed:?}"
            );
            assert_eq!(passed.number("x-ratelimit-remaining"), left);
            assert!(
                (1..=2 * longest_s).contains(&passed.number("x-ratelimit-reset")),
                "{passed:?}"
            );
            assert_eq!(passed.header("retry-after"), None);
        }
        let refused = bench.get("/orders/refused", subscriber);
        assert_eq!(refused.status, 429, "{refused:?}");
        let problem = problem(&refused);
        assert_eq!((&problem["status"], &problem["reason"]), (&429.into(), &reason.into()));
        assert_eq!(problem["violated-policies"], serde_json::json!([limit]));
        assert!((1..=longest_s).contains(&refused.number("retry-after")), "{refused:?}");
        assert!(
            refused.header("ratelimit").unwrap().contains(&format!("\"{limit}\";r=0;")),
            "{refused:?}"
        );
        assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    }
    bench.wait_for_reports(4);
    assert_eq!(bench.upstream.hits("/orders/refused"), 0);
    assert_eq!(bench.usage("rita"), "2 used, 2 2xx, 2 admitted, 1 RATE_EXCEEDED");
    assert_eq!(bench.usage("quentin"), "2 used, 2 2xx, 2 admitted, 1 QUOTA_EXCEEDED");

    let by_grpc = bench.grpc("/orders/grpc/ok", &[("x-api-key", &key("quentin"))]);
    assert_eq!(by_grpc, Some(8), "RESOURCE_EXHAUSTED");
    bench.wait_for_reports(4);
}

fn what_a_caller_sends_does_not_get_past_a_limit(wiring: Wiring) {
    let long = |last: &str| format!("/orders/{}{last}", "x".repeat(50_000)).into_bytes();
    let cases = [
        ("long", "a long path", [long("1"), long("2"), long("3")], [200, 200, 429]),
        (
            "escaped",
            "escapes that are no UTF-8",
            [b"/orders/%ff".to_vec(), b"/orders/%c0%af".to_vec(), b"/orders/%fe".to_vec()],
            [200, 200, 429],
        ),
        (
            "bytes",
            "bytes that are no UTF-8",
            [b"/orders/\xff".to_vec(), b"/orders/\xfe".to_vec(), b"/orders/%00".to_vec()],
            [400; 3],
        ),
        (
            "query",
            "a query",
            [b"/orders?a".to_vec(), b"/orders?%ff".to_vec(), b"/orders?".to_vec()],
            [200, 200, 429],
        ),
        (
            "huge",
            "more than Envoy reads",
            [vec![b'/'; 70_000], vec![b'/'; 70_000], vec![b'/'; 70_000]],
            [431; 3],
        ),
    ];
    let mut subscribers: Vec<_> =
        cases.iter().map(|(subscriber, ..)| (*subscriber, "burst-of-2")).collect();
    subscribers.push(("item", "one-item"));
    let bench = Bench::start(wiring, &subscribers, &[]);
    for (subscriber, what, paths, expected) in &cases {
        let seen = paths.iter().map(|path| bench.get(path, subscriber).status);
        assert_eq!(seen.collect::<Vec<_>>(), expected, "{what}");
    }
    assert_eq!(bench.get("/orders/item", "item").status, 200);
    for same in [
        "/orders/item",
        "/orders/item?page=2",
        "//orders///item",
        "/orders/x/../item",
        "/orders/%69tem",
        "/orders/./item",
    ] {
        let refused = bench.get(same, "item");
        assert_eq!(
            (refused.status, problem(&refused)["reason"].as_str()),
            (429, Some("METHOD_RATE_EXCEEDED")),
            "{same}"
        );
    }
    assert_eq!(bench.get("/orders/other", "item").status, 200);
    bench.wait_for_reports(3 * 2 + 2);
    assert_eq!(bench.usage("long"), "2 used, 2 2xx, 2 admitted, 1 RATE_EXCEEDED");
    assert_eq!(bench.usage("bytes"), "0 used");
}

/// Stands for whatever a gateway authenticates callers with.
const AUTHENTICATION: (&str, &str) = (
    "what it refuses is not asked about, and is counted nowhere.\n",
    "what it refuses is not asked about, and is counted nowhere.
          - name: authentication
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
              default_source_code:
                inline_string: |
                  function envoy_on_request(request)
                    if request:headers():get(\"x-login\") == nil then
                      request:respond({[\":status\"] = \"401\"}, \"who are you?\")
                    end
                  end
",
);

fn what_authentication_refuses_is_counted_nowhere(wiring: Wiring) {
    let bench = Bench::start(wiring, &[("alice", "quota-of-2")], &[AUTHENTICATION]);
    for _ in 0..3 {
        let refused = bench.get("/orders/a", "alice");
        assert_eq!((refused.status, refused.text().as_str()), (401, "who are you?"));
    }
    assert_eq!(bench.metric("tollgate_checks", ""), 0);
    assert_eq!(bench.envoy.stat("cluster.tollgate_report.upstream_rq_total"), 0);
    assert_eq!(bench.usage("alice"), "0 used");
    let known = bench.request("/orders/a", "alice").header("x-login", "yes");
    let seen: Vec<_> = (0..3).map(|_| bench.send(&known).status).collect();
    assert_eq!(seen, [200, 200, 429]);
    bench.wait_for_reports(2);
    assert_eq!(bench.usage("alice"), "2 used, 2 2xx, 2 admitted, 1 QUOTA_EXCEEDED");
    assert_eq!(bench.upstream.hits("/orders/a"), 2);
}

fn an_open_method_needs_no_key(wiring: Wiring) {
    let bench = Bench::start(wiring, &[], &[]);
    let without_key = |path: &str| bench.send(&http::get(path)).status;
    assert_eq!(without_key("/orders/open"), 200);
    assert_eq!(without_key("/orders/open/"), 200);
    for other in ["/orders/Open", "/orders/open/../secret", "/orders/secret?/orders/open"] {
        assert_eq!(without_key(other), 403, "{other}");
    }
    // Envoy reports what tollgate has no use for.
    until("an answer to the report", || {
        (bench.envoy.stat("cluster.tollgate_report.upstream_rq_completed") == 2).then_some(())
    });
    assert_eq!(bench.metric("tollgate_reports", ""), 0);
}

/// A gateway may let a request say what it costs.
const COST: (&str, &str) = (
    "                - request_headers: { header_name: \":path\", descriptor_key: path }\n",
    "                - request_headers: { header_name: \":path\", descriptor_key: path }
                - request_headers: { header_name: x-cost, descriptor_key: cost, skip_if_absent: true }
",
);

/// External authorization has no cost.
#[test]
fn a_cost_is_charged_and_a_bad_one_is_a_bad_request() {
    let bench = Bench::start(Wiring::RateLimitFilters, &[("alice", "quota-of-10")], &[COST]);
    let costing =
        |cost: &[u8]| bench.send(&bench.request("/orders/a", "alice").header("x-cost", cost));
    assert_eq!(costing(b"7").status, 200);
    for bad in [b"-1".as_slice(), b"1.5", b"", b"\xff", b"18446744073709551616"] {
        let refused = costing(bad);
        assert_eq!(
            (refused.status, problem(&refused)["reason"].as_str()),
            (400, Some("INVALID_REQUEST")),
            "{bad:?}"
        );
    }
    let too_much = costing(b"11");
    assert_eq!(
        (too_much.status, too_much.header("retry-after")),
        (429, None),
        "waiting does not help"
    );
    assert_eq!(costing(b"4").status, 429);
    assert_eq!(costing(b"3").status, 200);
    let by_grpc =
        bench.grpc("/orders/grpc/ok", &[("x-api-key", &key("alice")), ("x-cost", "much")]);
    assert_eq!(by_grpc, Some(3), "INVALID_ARGUMENT");
    bench.wait_for_reports(2);
    assert_eq!(bench.usage("alice"), "10 used, 2 2xx, 2 admitted, 2 QUOTA_EXCEEDED");
}

fn a_tollgate_that_is_away_lets_pass_or_refuses_as_configured(wiring: Wiring) {
    let mut bench = Bench::start(wiring, &[("alice", "quota-of-2")], &[]);
    bench.tollgate.kill_9();
    let answer = bench.get("/orders/a", "alice");
    assert_eq!(answer.status, if wiring == Wiring::ExtAuthz { 503 } else { 200 });
    assert!(says_nothing_of_limits(&answer), "{answer:?}");
}
