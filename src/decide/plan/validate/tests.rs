use std::sync::Arc;

use super::super::{
    Dates, Entitlement, LastFour, MethodRate, PeriodUnit, Plan, Quota, Rate, Weekday,
};
use super::*;
use crate::decide::gcra::MicroRate;
use crate::testkit::declared;

fn a_quota(name: &str) -> Quota {
    declared::quota(name, 100, PeriodUnit::Day)
}

fn a_method_rate(method: &str, path: &str) -> MethodRate {
    MethodRate {
        method: method.to_owned(),
        path: path.to_owned(),
        target: None,
        rate: a_rate(5, Some(5)),
        replaces_general: true,
    }
}

fn a_rate(per_second: u64, burst: Option<u64>) -> Rate {
    Rate { rate: MicroRate(per_second * 1_000_000), burst }
}

fn an_entitlement(name: &str, targets: &[&str]) -> Entitlement {
    Entitlement {
        rate_limit: Some(a_rate(20, Some(40))),
        method_rate_limits: vec![a_method_rate("GET", "/users/{id}")],
        quotas: vec![a_quota("daily"), a_quota("second")],
        ..declared::entitlement(name, targets)
    }
}

fn a_plan() -> Plan {
    declared::plan(
        "gold",
        vec![
            an_entitlement("orders", &["orders/prod"]),
            an_entitlement("users", &["users/prod", "users/test"]),
        ],
    )
}

fn a_target() -> Target {
    Target {
        rate_limit: Some(a_rate(5_000, None)),
        method_rate_limits: vec![a_method_rate("*", "/files/*")],
        open_methods: vec![OpenMethod { method: "GET".to_owned(), path: "/health".to_owned() }],
        default_plan: Some("free".into()),
        ..declared::target("orders/prod")
    }
}

fn a_subscriber() -> Subscriber {
    declared::subscriber("acme", &["gold", "free"])
}

fn a_key() -> ApiKey {
    ApiKey {
        dates: Dates { not_before_ns: Some(10), expire_ns: Some(11) }.into(),
        last_four: LastFour::new("abcd").unwrap(),
        ..declared::key("acme-1", "acme")
    }
}

fn mistakes_of<T>(value: &T, check: fn(&T, &mut Mistakes)) -> Vec<Invalid> {
    let mut found = Mistakes::default();
    check(value, &mut found);
    found.or_else(()).err().unwrap_or_default()
}

/// What is spoilt, the field that must be named, and a part of the reason.
type Case<T> = (fn(&mut T), &'static str, &'static str);

/// Each case breaks one thing; the answer must be exactly one mistake, in that field, whose reason
/// holds that text.
fn refuses<T>(make: fn() -> T, check: fn(&T, &mut Mistakes), cases: &[Case<T>]) {
    assert_eq!(mistakes_of(&make(), check), [], "the declaration that the cases start from");
    for (row, (spoil, field, reason)) in cases.iter().enumerate() {
        let mut value = make();
        spoil(&mut value);
        let found = mistakes_of(&value, check);
        assert_eq!(found.len(), 1, "case {row}, `{field}`: {found:?}");
        assert_eq!(found[0].field, *field, "case {row}: {found:?}");
        assert!(found[0].reason.contains(reason), "case {row}: {found:?} does not say {reason:?}");
    }
}

fn long(characters: usize) -> String {
    "é".repeat(characters)
}

#[test]
fn a_plan_with_a_mistake_is_refused_by_field() {
    refuses(
        a_plan,
        plan,
        &[
            (|p| p.id = "".into(), "id", "is needed"),
            (|p| p.id = "-gold".into(), "id", "must start with a letter"),
            (|p| p.id = "go ld".into(), "id", "must not hold ' '"),
            (|p| p.id = "gøld".into(), "id", "must not hold 'ø'"),
            (|p| p.id = "a".repeat(257).into(), "id", "at most 256 characters, not 257"),
            (
                |p| p.about.display_name = long(257),
                "display_name",
                "at most 256 characters, not 257",
            ),
            (|p| p.about.display_name = "a\nb".to_owned(), "display_name", "control characters"),
            (
                |p| p.about.description = "x".repeat(1_000_000),
                "description",
                "at most 4096 characters, not 1000000",
            ),
            (
                |p| p.about.labels = (0..65).map(|i| (i.to_string(), String::new())).collect(),
                "labels",
                "at most 64, not 65",
            ),
            (|p| p.about.labels = [(String::new(), String::new())].into(), "labels", "empty key"),
            (
                |p| p.about.labels = [(long(129), String::new())].into(),
                "labels",
                "at most 128 characters, not 129",
            ),
            (
                |p| p.about.labels = [("a".to_owned(), long(1_025))].into(),
                "labels[\"a\"]",
                "at most 1024 characters, not 1025",
            ),
            (
                |p| {
                    p.entitlements =
                        (0..101).map(|i| an_entitlement(&format!("e{i}"), &[])).collect()
                },
                "entitlements",
                "at most 100, not 101",
            ),
            (
                |p| p.entitlements[1].name = "orders".into(),
                "entitlements[1].name",
                "is `orders`, as entitlements[0].name is",
            ),
            (
                |p| p.entitlements[1].name = "/x".into(),
                "entitlements[1].name",
                "must start with a letter",
            ),
            (
                |p| p.entitlements[0].description = long(4_097),
                "entitlements[0].description",
                "at most 4096",
            ),
            (
                |p| p.entitlements[0].targets.push("a b".into()),
                "entitlements[0].targets[1]",
                "must not hold ' '",
            ),
            (
                |p| p.entitlements[0].targets.push("orders/prod".into()),
                "entitlements[0].targets[1]",
                "names the target `orders/prod` again",
            ),
            (
                |p| p.entitlements[1].targets.push("orders/prod".into()),
                "entitlements[1].targets[2]",
                "in the entitlement `users`, and the entitlement `orders` names it too",
            ),
            (
                |p| {
                    p.entitlements[0].targets =
                        (0..10_001).map(|i| format!("t{i}").into()).collect()
                },
                "entitlements[0].targets",
                "at most 10000, not 10001",
            ),
        ],
    );
}

#[test]
fn a_limit_with_a_mistake_is_refused_by_field() {
    refuses(
        a_plan,
        plan,
        &[
            (
                |p| p.entitlements[0].rate_limit = Some(Rate { rate: MicroRate(0), burst: None }),
                "entitlements[0].rate_limit.requests_per_second",
                "0.000001 to 1,000,000,000",
            ),
            (
                |p| {
                    p.entitlements[0].rate_limit =
                        Some(Rate { rate: MicroRate(1_000_000_000_000_001), burst: None })
                },
                "entitlements[0].rate_limit.requests_per_second",
                "0.000001 to 1,000,000,000",
            ),
            (
                |p| p.entitlements[0].rate_limit = Some(a_rate(1, Some(0))),
                "entitlements[0].rate_limit.burst",
                "at least 1",
            ),
            (
                |p| p.entitlements[0].rate_limit = Some(a_rate(1, Some(u64::MAX))),
                "entitlements[0].rate_limit.burst",
                "146 years",
            ),
            (
                |p| p.entitlements[0].method_rate_limits[0].rate.burst = Some(0),
                "entitlements[0].method_rate_limits[0].burst",
                "at least 1",
            ),
            (
                |p| {
                    p.entitlements[0].method_rate_limits =
                        (0..1_001).map(|i| a_method_rate("GET", &format!("/{i}"))).collect()
                },
                "entitlements[0].method_rate_limits",
                "at most 1000, not 1001",
            ),
            (
                |p| p.entitlements[0].method_rate_limits[0].target = Some("users/prod".into()),
                "entitlements[0].method_rate_limits[0].target",
                "names `users/prod`, which is not a target of this entitlement",
            ),
            (
                |p| p.entitlements[0].method_rate_limits.push(a_method_rate("GET", "/users/{id}")),
                "entitlements[0].method_rate_limits[1]",
                "limits `GET /users/{id}` again",
            ),
            (
                |p| {
                    p.entitlements[0]
                        .method_rate_limits
                        .push(a_method_rate("GET", "/users/{other}/"))
                },
                "entitlements[0].method_rate_limits[1]",
                "limits `GET /users/{other}/` again, after `GET /users/{id}`",
            ),
            (
                |p| {
                    p.entitlements[0].method_rate_limits =
                        vec![a_method_rate("ANY", "/x"), a_method_rate("GET", "/x")]
                },
                "entitlements[0].method_rate_limits[1]",
                "is never met, because `ANY /x` stands before it",
            ),
            (
                |p| {
                    let special = MethodRate {
                        target: Some("orders/prod".into()),
                        ..a_method_rate("GET", "/users/{x}")
                    };
                    p.entitlements[0].method_rate_limits.push(special);
                },
                "entitlements[0].method_rate_limits[1]",
                "is never met",
            ),
            (
                |p| p.entitlements[0].method_rate_limits[0].method = "get".into(),
                "entitlements[0].method_rate_limits[0].method",
                "in capitals",
            ),
            (
                |p| p.entitlements[0].method_rate_limits[0].method = "ALL".into(),
                "entitlements[0].method_rate_limits[0].method",
                "must be `*`",
            ),
            (
                |p| p.entitlements[0].quotas = (0..17).map(|i| a_quota(&format!("q{i}"))).collect(),
                "entitlements[0].quotas",
                "at most 16, not 17",
            ),
            (
                |p| p.entitlements[0].quotas[1].name = "daily".into(),
                "entitlements[0].quotas[1].name",
                "is `daily`, as quotas[0].name is",
            ),
            (
                |p| p.entitlements[0].quotas[1].name = "".into(),
                "entitlements[0].quotas[1].name",
                "is needed",
            ),
            (
                |p| p.entitlements[0].quotas[0].limit = (1 << 53) + 1,
                "entitlements[0].quotas[0].limit",
                "at most 9007199254740992",
            ),
            (
                |p| p.entitlements[0].quotas[0].time_zone = "Mars/Olympus".into(),
                "entitlements[0].quotas[0].time_zone",
                "`Mars/Olympus` is not known",
            ),
            (
                |p| p.entitlements[0].quotas[0].week_start = Weekday::Sunday,
                "entitlements[0].quotas[0].week_start",
                "only for the unit WEEK",
            ),
        ],
    );
}

#[test]
fn a_target_with_a_mistake_is_refused_by_field() {
    refuses(
        a_target,
        target,
        &[
            (|t| t.id = "{x}".into(), "id", "must start with a letter"),
            (|t| t.default_plan = Some("a plan".into()), "default_plan", "must not hold ' '"),
            (|t| t.rate_limit = Some(a_rate(1, Some(0))), "rate_limit.burst", "at least 1"),
            (
                |t| t.method_rate_limits[0].target = Some("orders/prod".into()),
                "method_rate_limits[0].target",
                "must be left out",
            ),
            (
                |t| t.open_methods[0].path = "health".to_owned(),
                "open_methods[0].path",
                "must start with `/`",
            ),
            (
                |t| t.open_methods[0].method = "get it".to_owned(),
                "open_methods[0].method",
                "must be an HTTP method",
            ),
            (
                |t| t.open_methods.push(t.open_methods[0].clone()),
                "open_methods[1]",
                "names `GET /health` again",
            ),
            (
                |t| {
                    t.open_methods
                        .push(OpenMethod { method: "GET".to_owned(), path: "/health/".to_owned() })
                },
                "open_methods[1]",
                "names `GET /health/` again",
            ),
            (
                |t| {
                    t.open_methods = (0..1_001)
                        .map(|i| OpenMethod { method: "GET".to_owned(), path: format!("/{i}") })
                        .collect()
                },
                "open_methods",
                "at most 1000, not 1001",
            ),
        ],
    );
}

#[test]
fn a_subscriber_or_a_key_with_a_mistake_is_refused_by_field() {
    refuses(
        a_subscriber,
        subscriber,
        &[
            (|s| s.id = "a\u{0}".into(), "id", "must not hold '\\0'"),
            (|s| s.plans.insert(9, "gold".into()), "plans[2]", "names the plan `gold` again"),
            (|s| s.plans.insert(9, "".into()), "plans[2]", "is needed"),
            (
                |s| s.plans = (0..101).map(|i| format!("p{i}").into()).collect(),
                "plans",
                "at most 100, not 101",
            ),
        ],
    );
    refuses(
        a_key,
        api_key,
        &[
            (|k| k.id = "".into(), "id", "is needed"),
            (|k| k.subscriber = "".into(), "subscriber", "is needed"),
            (|k| k.dates.expire_ns = Some(10), "expire_time", "after `not_before`"),
            (|k| k.dates.expire_ns = Some(9), "expire_time", "after `not_before`"),
        ],
    );
}

#[test]
fn what_stands_at_a_bound_is_accepted() {
    let mut at_bounds = a_plan();
    at_bounds.id = "a".repeat(256).into();
    at_bounds.about.display_name = long(256);
    at_bounds.about.description = long(4_096);
    at_bounds.about.labels = (0..64).map(|i| (format!("{i:0>128}"), long(1_024))).collect();
    at_bounds.entitlements = (0..100).map(|i| an_entitlement(&format!("e{i}"), &[])).collect();
    at_bounds.entitlements[0].quotas = (0..16).map(|i| a_quota(&format!("q{i}"))).collect();
    at_bounds.entitlements[0].quotas[0].limit = 1 << 53;
    at_bounds.entitlements[0].quotas[1].limit = 0;
    at_bounds.entitlements[0].quotas[2].time_zone = "Asia/Seoul".into();
    at_bounds.entitlements[0].quotas[3].unit = PeriodUnit::Week;
    at_bounds.entitlements[0].quotas[3].week_start = Weekday::Sunday;
    at_bounds.entitlements[0].method_rate_limits =
        (0..1_000).map(|i| a_method_rate("GET", &format!("/{i}"))).collect();
    at_bounds.entitlements[0].rate_limit = Some(Rate { rate: MicroRate(1), burst: Some(1) });
    at_bounds.entitlements[1].rate_limit = Some(a_rate(1_000_000_000, None));
    assert_eq!(mistakes_of(&at_bounds, plan), []);
    assert_eq!(
        mistakes_of(&Plan { entitlements: Vec::new(), ..a_plan() }, plan),
        [],
        "a plan may be without entitlements"
    );
}

#[test]
fn all_mistakes_are_reported_at_once_and_only_so_many() {
    let mut spoilt = a_plan();
    spoilt.about.display_name = long(257);
    spoilt.entitlements[0].rate_limit = Some(a_rate(1, Some(0)));
    spoilt.entitlements[1].quotas[1].time_zone = "Nowhere".into();
    let fields: Vec<String> =
        mistakes_of(&spoilt, plan).into_iter().map(|mistake| mistake.field).collect();
    assert_eq!(
        fields,
        ["display_name", "entitlements[0].rate_limit.burst", "entitlements[1].quotas[1].time_zone"]
    );

    spoilt.entitlements[0].targets = (0..500).map(|i| format!("-{i}").into()).collect();
    assert_eq!(mistakes_of(&spoilt, plan).len(), MAX_MISTAKES);
}

#[test]
fn path_patterns() {
    let cases: &[(&str, Option<&str>)] = &[
        ("/", None),
        ("*", None),
        ("/users", None),
        ("/users/", None),
        ("/users/{id}", None),
        ("/users/{}", None),
        ("/users/{id}/orders/{order}", None),
        ("/files/*", None),
        ("/files*", None),
        ("/*", None),
        ("/a%20b/é", None),
        ("", Some("is needed")),
        ("users", Some("must start with `/`")),
        ("/users?x=1", Some("must not hold `?`")),
        ("/users#top", Some("must not hold `?` or `#`")),
        ("/a b", Some("must not hold ' '")),
        ("/a\n", Some("must not hold '\\n'")),
        ("/files/*/x", Some("at its end only")),
        ("/files/**", Some("at its end only")),
        ("/users/x{id}", Some("as a whole segment")),
        ("/users/{id", Some("as a whole segment")),
        ("/users/id}", Some("as a whole segment")),
        ("/users/{{id}}", Some("as a whole segment")),
    ];
    let too_long = format!("/{}", "x".repeat(1_024));
    let bounds = [(&too_long[..1_024], None), (&too_long[..], Some("at most 1024 bytes"))];
    for (path, reason) in cases.iter().chain(&bounds) {
        let mut found = Mistakes::default();
        limits::path("path", path, &mut found);
        match (reason, found.or_else(())) {
            (None, Ok(())) => {}
            (Some(reason), Err(mistakes)) => {
                assert!(mistakes[0].reason.contains(reason), "{path:?}: {mistakes:?}")
            }
            (_, found) => panic!("{path:?}: {found:?}"),
        }
    }
}

#[test]
fn methods() {
    for (method, right) in [
        ("GET", true),
        ("*", true),
        ("M-SEARCH", true),
        ("", false),
        ("get", false),
        ("G*", false),
        ("GET ", false),
    ] {
        let mut found = Mistakes::default();
        limits::method("method", method, &mut found);
        assert_eq!(found.is_empty(), right, "{method:?}");
    }
}

#[test]
fn rates_are_what_their_decimals_say() {
    let cases: &[(f64, Result<u64, &str>)] = &[
        (1.0, Ok(1_000_000)),
        (0.29, Ok(290_000)),
        (0.1 + 0.2, Ok(300_000)),
        (0.000007, Ok(7)),
        (0.000001, Ok(1)),
        (0.0000019999, Ok(1)),
        (1.9999999, Ok(1_999_999)),
        (33.333333333, Ok(33_333_333)),
        (999_999_999.999_999, Ok(999_999_999_999_999)),
        (1e9, Ok(1_000_000_000_000_000)),
        (1e9 + 0.000_001, Err("at most")),
        (0.000_000_999, Err("at least 0.000001")),
        (f64::MIN_POSITIVE, Err("at least 0.000001")),
        (0.0, Err("more than 0")),
        (-0.0, Err("more than 0")),
        (-1.0, Err("more than 0")),
        (f64::NAN, Err("finite")),
        (f64::INFINITY, Err("finite")),
        (f64::NEG_INFINITY, Err("finite")),
        (f64::MAX, Err("at most")),
    ];
    for &(given, expected) in cases {
        match (micro_rate(given), expected) {
            (Ok(MicroRate(rate)), Ok(wanted)) => assert_eq!(rate, wanted, "{given}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{given}: {reason}"),
            (found, _) => panic!("{given}: {found:?} is not {expected:?}"),
        }
    }
}

#[test]
fn the_values_of_keys() {
    let cases: &[(&str, bool)] = &[
        ("12345678901234567890", true),
        ("1234567890123456789", false),
        ("1234567890 234567890", false),
        ("1234567890\t234567890", false),
        ("12345678901234567é9", false),
        ("!~{}'\"\\/?&=+-_.,;:<>", true),
    ];
    for (value, right) in cases {
        let mut found = Mistakes::default();
        key_value("value", value, &mut found);
        assert_eq!(found.is_empty(), *right, "{value:?}");
    }
    for (length, right) in [(128, true), (129, false)] {
        let mut found = Mistakes::default();
        key_value("value", &"x".repeat(length), &mut found);
        assert_eq!(found.is_empty(), right, "{length}");
    }
}

#[test]
fn counted_statuses_are_read_and_written() {
    let text = |statuses: &[&str]| statuses.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
    let read = |statuses: &[&str]| {
        let mut found = Mistakes::default();
        let read = count_statuses("count_statuses", &text(statuses), &mut found);
        found.or_else(read)
    };
    assert_eq!(read(&[]), Ok(None));
    let some = read(&["404", "2xx", "others", "201", "404", "5xx"]).unwrap();
    assert_eq!(written_statuses(some.as_ref()), ["2xx", "5xx", "201", "404", "others"]);
    assert_eq!(written_statuses(None), Vec::<String>::new());
    for wrong in ["0xx", "6xx", "+2xx", "2XX", "99", "600", "0404", "+404", "", "other", "x2x"] {
        let mistakes = read(&["2xx", wrong]).unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert_eq!(mistakes[0].field, "count_statuses[1]", "{wrong:?}");
    }
    let all: Arc<[String]> = text(&["100", "599"]).into();
    assert!(
        count_statuses("x", &all, &mut Mistakes::default())
            .is_some_and(|read| read.codes == [100, 599])
    );
}
