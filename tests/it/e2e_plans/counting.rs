//! What a request costs, by how it ended.

use super::bench::{Bench, SHORT_FOR_USERS, Wiring, key};

in_both_wirings! {
    a_5xx_is_not_charged_to_the_quota_and_everything_else_is
    no_answer_of_the_upstream_is_not_charged_and_a_caller_that_hangs_up_is
    a_4xx_is_charged_only_where_the_upstream_made_it
    a_grpc_call_is_charged_by_the_status_in_its_trailers
}

fn a_5xx_is_not_charged_to_the_quota_and_everything_else_is(wiring: Wiring) {
    let plan_of = [
        ("ok", "quota-of-10"),
        ("missing", "quota-of-10"),
        ("failing", "quota-of-10"),
        ("limited", "burst-of-10"),
    ];
    let bench = Bench::start(wiring, &plan_of, &[]);
    let cases = [
        ("ok", 200, "10 used, 10 2xx, 10 admitted", 429),
        ("missing", 404, "10 used, 10 4xx, 10 admitted", 429),
        ("failing", 503, "0 used, 10 5xx, 10 admitted", 200),
        ("limited", 503, "0 used, 10 5xx, 10 admitted", 429),
    ];
    for (subscriber, status, ..) in cases {
        assert_eq!(
            bench.statuses(10, format!("/orders/status/{status}"), subscriber),
            [status; 10],
            "{subscriber}"
        );
    }
    bench.wait_for_reports(40);
    for (subscriber, _, usage, eleventh) in cases {
        assert_eq!(bench.usage(subscriber), usage);
        assert_eq!(bench.get("/orders/eleventh", subscriber).status, eleventh, "{subscriber}");
    }
    bench.wait_for_reports(41);
    assert_eq!(bench.usage("ok"), "10 used, 10 2xx, 10 admitted, 1 QUOTA_EXCEEDED");
    assert_eq!(bench.usage("missing"), "10 used, 10 4xx, 10 admitted, 1 QUOTA_EXCEEDED");
    assert_eq!(bench.usage("failing"), "1 used, 1 2xx, 10 5xx, 11 admitted");
    assert_eq!(
        bench.usage("limited"),
        "0 used, 10 5xx, 10 admitted, 1 RATE_EXCEEDED",
        "the rate limit is not refunded"
    );
    assert_eq!(bench.upstream.hits("/orders/eleventh"), 1);
}

fn no_answer_of_the_upstream_is_not_charged_and_a_caller_that_hangs_up_is(wiring: Wiring) {
    let bench = Bench::start(
        wiring,
        &[("reset", "plenty"), ("slow", "plenty"), ("gone", "plenty")],
        &[SHORT_FOR_USERS],
    );
    assert_eq!(bench.get("/orders/reset", "reset").status, 503);
    assert_eq!(bench.get("/users/hang", "slow").status, 504);
    let hanging = bench.request("/orders/hang", "gone").open(bench.envoy.listener("api")).unwrap();
    bench.upstream.wait_for_hits("/orders/hang", 1);
    hanging.hang_up();
    bench.wait_for_reports_to_come(3);
    assert_eq!(bench.usage("reset"), "0 used, 1 5xx, 1 admitted");
    assert_eq!(bench.usage("slow"), "0 used, 1 5xx, 1 admitted");
    assert_eq!(bench.usage("gone"), "1 used, 1 admitted, 1 caller_gone");
    bench.wait_for_reports(3);
}

/// A filter behind tollgate's that has something to say against a request.
const VALIDATION: (&str, &str) = (
    "          - name: envoy.filters.http.router\n",
    "          - name: validation
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
              default_source_code:
                inline_string: |
                  function envoy_on_request(request)
                    local status = request:headers():get(\"x-make\")
                    if status ~= nil then
                      request:respond({[\":status\"] = status}, \"made by the gateway\")
                    end
                  end
          - name: envoy.filters.http.router
",
);

fn a_4xx_is_charged_only_where_the_upstream_made_it(wiring: Wiring) {
    let bench = Bench::start(wiring, &[("caller", "plenty"), ("gateway", "plenty")], &[VALIDATION]);
    assert_eq!(bench.get("/orders/status/400", "caller").status, 400);
    let made = bench.send(&bench.request("/orders/made", "gateway").header("x-make", "400"));
    assert_eq!((made.status, made.text().as_str()), (400, "made by the gateway"));
    bench.wait_for_reports(2);
    assert_eq!(bench.usage("caller"), "1 used, 1 4xx, 1 admitted");
    assert_eq!(bench.usage("gateway"), "0 used, 1 4xx, 1 admitted");
    assert_eq!(bench.upstream.hits("/orders/made"), 0);
}

fn a_grpc_call_is_charged_by_the_status_in_its_trailers(wiring: Wiring) {
    let cases = [
        ("ok", 0, "1 used, 1 2xx, 1 admitted"),
        ("not-found", 5, "1 used, 1 4xx, 1 admitted"),
        ("internal", 13, "0 used, 1 5xx, 1 admitted"),
        ("unavailable", 14, "0 used, 1 5xx, 1 admitted"),
        ("reset", 14, "0 used, 1 5xx, 1 admitted"),
    ];
    let bench =
        Bench::start(wiring, &cases.map(|(subscriber, ..)| (subscriber, "quota-of-10")), &[]);
    for (name, status, _) in cases {
        let path = if name == "reset" {
            "/any.Service/reset".to_owned()
        } else {
            format!("/any.Service/grpc/{name}")
        };
        let ended = bench.grpc(&path, &[("x-api-key", &key(name))]);
        assert_eq!(ended, Some(status), "{name}");
    }
    bench.wait_for_reports(5);
    for (name, _, usage) in cases {
        assert_eq!(bench.usage(name), usage, "{name}");
    }
}
