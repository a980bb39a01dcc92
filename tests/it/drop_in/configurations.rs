//! Configurations in the forms that Envoy Gateway generates, re-expressed: each descriptor that its
//! Envoy would send meets the limit that was meant.

use serde_json::json;

use crate::server::Tollgate;
use crate::xds::ask::{Asked, Entries, ask_all};
use crate::xds::management::{Management, resource};

/// A chain of descriptors, with the limit on the last: `route=route` is key and value, a word alone
/// a key; a last number is the limit, `shadow` marks every level but the first.
fn chain(words: &str) -> serde_json::Value {
    let mut words: Vec<&str> = words.split_whitespace().collect();
    let shadow = words.last() == Some(&"shadow");
    if shadow {
        words.pop();
    }
    let limit: u32 = words.pop().unwrap().parse().unwrap();
    let mut below: Option<serde_json::Value> = None;
    for (level, word) in words.iter().enumerate().rev() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let rate_limit =
            below.is_none().then(|| json!({"unit": "YEAR", "requests_per_unit": limit}));
        below = Some(json!({
            "key": key,
            "value": value,
            "rate_limit": rate_limit,
            "descriptors": below.into_iter().collect::<Vec<_>>(),
            "shadow_mode": shadow && level > 0,
            "quota_mode": false,
            "detailed_metric": false,
            "value_to_metric": false,
            "share_threshold": false,
        }));
    }
    below.unwrap()
}

/// Puts a chain into its place among others, as the translator does.
fn merge(all: &mut Vec<serde_json::Value>, chain: serde_json::Value) {
    let same =
        all.iter_mut().find(|have| have["key"] == chain["key"] && have["value"] == chain["value"]);
    match same {
        Some(have) => {
            for below in chain["descriptors"].as_array().unwrap().clone() {
                merge(have["descriptors"].as_array_mut().unwrap(), below);
            }
        }
        None => all.push(chain),
    }
}

fn entries(words: &str) -> Vec<(&str, &str)> {
    words.split_whitespace().map(|word| word.split_once('=').unwrap()).collect()
}

/// How many of these pass, up to 30.
fn passes(tollgate: &Tollgate, domain: &str, entries: Entries<'_>) -> usize {
    let over = || ask_all(tollgate, domain, &[entries], None).0 == Asked::Over;
    (0..30).position(|_| over()).unwrap_or(30)
}

/// What it is about, the chains that are configured, and what Envoy sends with how many of it pass.
type Case = (&'static str, &'static [&'static str], &'static [(&'static str, usize)]);

const CASES: &[Case] = &[
    (
        "no selectors",
        &["r=r rule-0-match--1=rule-0-match--1 5"],
        &[
            ("r=r rule-0-match--1=rule-0-match--1", 5),
            ("other=other rule-0-match--1=rule-0-match--1", 30),
        ],
    ),
    (
        "a header with a value",
        &["r=r rule-0-match-0=rule-0-match-0 5"],
        &[("r=r rule-0-match-0=rule-0-match-0", 5), ("r=r rule-0-match-0=else", 30)],
    ),
    (
        "a header, distinct: each value counts by itself",
        &["r=r rule-0-match-0 5"],
        &[
            ("r=r rule-0-match-0=alice", 5),
            ("r=r rule-0-match-0=bob", 5),
            ("r=r rule-0-match-0=alice", 0),
        ],
    ),
    (
        "several headers and a CIDR",
        &[
            "r=r rule-0-match-0=rule-0-match-0 rule-0-match-1=rule-0-match-1 masked_remote_address=0.0.0.0/0 5",
        ],
        &[
            (
                "r=r rule-0-match-0=rule-0-match-0 rule-0-match-1=rule-0-match-1 masked_remote_address=0.0.0.0/0",
                5,
            ),
            ("r=r rule-0-match-0=rule-0-match-0 masked_remote_address=0.0.0.0/0", 30),
        ],
    ),
    (
        "headers, method, path and CIDR",
        &[
            "r=r rule-0-match-0=rule-0-match-0 rule-0-method=rule-0-method rule-0-path=rule-0-path masked_remote_address=0.0.0.0/0 5",
        ],
        &[
            (
                "r=r rule-0-match-0=rule-0-match-0 rule-0-method=rule-0-method rule-0-path=rule-0-path masked_remote_address=0.0.0.0/0",
                5,
            ),
            ("r=r rule-0-match-0=rule-0-match-0 rule-0-method=rule-0-method", 30),
        ],
    ),
    (
        "a CIDR, distinct: each address counts by itself",
        &["r=r masked_remote_address=192.168.0.0/16 remote_address 5"],
        &[
            ("r=r masked_remote_address=192.168.0.0/16 remote_address=192.168.0.1", 5),
            ("r=r masked_remote_address=192.168.0.0/16 remote_address=192.168.0.2", 5),
            ("r=r masked_remote_address=10.0.0.0/8 remote_address=10.0.0.1", 30),
        ],
    ),
    (
        "all but a CIDR",
        &["r=r masked_remote_address=invert:192.168.0.0/24 5"],
        &[
            ("r=r masked_remote_address=invert:192.168.0.0/24", 5),
            ("r=r masked_remote_address=192.168.0.0/24", 30),
        ],
    ),
    (
        "two CIDRs of two rules",
        &["r=r masked_remote_address=192.168.0.0/24 5", "r=r masked_remote_address=10.0.0.0/8 2"],
        &[
            ("r=r masked_remote_address=192.168.0.0/24", 5),
            ("r=r masked_remote_address=10.0.0.0/8", 2),
        ],
    ),
    (
        "distinct, and other limits for some of the values",
        &[
            "r=r rule-0-match-0 rule-0-method=rule-0-method rule-0-path=rule-0-path 10",
            "r=r rule-0-match-0=client-a rule-0-method=rule-0-method rule-0-path=rule-0-path 15",
            "r=r rule-0-match-0=client-b rule-0-method=rule-0-method rule-0-path=rule-0-path 20",
        ],
        &[
            ("r=r rule-0-match-0=client-a rule-0-method=rule-0-method rule-0-path=rule-0-path", 15),
            ("r=r rule-0-match-0=client-b rule-0-method=rule-0-method rule-0-path=rule-0-path", 20),
            ("r=r rule-0-match-0=client-c rule-0-method=rule-0-method rule-0-path=rule-0-path", 10),
            ("r=r rule-0-match-0=client-d rule-0-method=rule-0-method rule-0-path=rule-0-path", 10),
        ],
    ),
    (
        "query parameters",
        &["r=r ns/p/rule/0=ns/p/rule/0 rule-0-match-0=rule-0-match-0 rule-0-match-1 5"],
        &[
            ("r=r ns/p/rule/0=ns/p/rule/0 rule-0-match-0=rule-0-match-0 rule-0-match-1=x", 5),
            ("r=r ns/p/rule/0=ns/p/rule/0 rule-0-match-0=rule-0-match-0 rule-0-match-1=y", 5),
        ],
    ),
    (
        "two rules of one route",
        &["r=r rule-0-match-0=rule-0-match-0 5", "r=r rule-1-match-0=rule-1-match-0 2"],
        &[("r=r rule-0-match-0=rule-0-match-0", 5), ("r=r rule-1-match-0=rule-1-match-0", 2)],
    ),
    (
        "two routes",
        &["r=r rule-0-match-0=rule-0-match-0 5", "s=s rule-0-match-0=rule-0-match-0 2"],
        &[("r=r rule-0-match-0=rule-0-match-0", 5), ("s=s rule-0-match-0=rule-0-match-0", 2)],
    ),
    (
        "any host: the route's name holds a star, in key and value",
        &[
            "h/*=h/* rule-0-match--1=rule-0-match--1 5",
            "h/www_example_com=h/www_example_com rule-0-match--1=rule-0-match--1 2",
        ],
        &[
            ("h/www_example_com=h/www_example_com rule-0-match--1=rule-0-match--1", 2),
            ("h/*=h/* rule-0-match--1=rule-0-match--1", 5),
        ],
    ),
    (
        "shadow mode on every level of a chain",
        &["r=r rule-0-match-0=rule-0-match-0 masked_remote_address=0.0.0.0/0 5 shadow"],
        &[("r=r rule-0-match-0=rule-0-match-0 masked_remote_address=0.0.0.0/0", 30)],
    ),
];

#[test]
fn each_descriptor_meets_the_limit_that_was_meant() {
    let server = Management::start();
    let resources = CASES.iter().enumerate().map(|(at, (_, chains, _))| {
        let mut descriptors = Vec::new();
        chains.iter().for_each(|words| merge(&mut descriptors, chain(words)));
        let domain = format!("ns/gateway/listener-{at}");
        resource(&json!({"name": domain, "domain": domain, "descriptors": descriptors}).to_string())
    });
    // Those of a policy that several routes share have a domain of their own.
    let shared = json!({"name": "ns/policy", "domain": "ns/policy", "descriptors": [
        chain("ns/policy/rule/0=ns/policy/rule/0 rule-0-match-0=rule-0-match-0 5"),
        chain("ns/policy/rule/2=ns/policy/rule/2 rule-1-match-0=rule-1-match-0 2"),
    ]});
    server.set("1", resources.chain([resource(&shared.to_string())]).collect());
    let target = server.target();
    let tollgate = Tollgate::start(&[], &[("TOLLGATE_XDS_SERVER", target.as_str())]);
    server.acked("1");
    for (at, (what, _, sent)) in CASES.iter().enumerate() {
        let domain = format!("ns/gateway/listener-{at}");
        for (words, limit) in *sent {
            assert_eq!(passes(&tollgate, &domain, &entries(words)), *limit, "{what}: {words}");
        }
    }
    for (words, limit) in [
        ("ns/policy/rule/0=ns/policy/rule/0 rule-0-match-0=rule-0-match-0", 5),
        ("ns/policy/rule/2=ns/policy/rule/2 rule-1-match-0=rule-1-match-0", 2),
    ] {
        assert_eq!(passes(&tollgate, "ns/policy", &entries(words)), limit, "{words}");
    }
}

#[test]
fn one_cidr_twice_in_a_route_refuses_that_listener_by_name_and_no_other() {
    let server = Management::start();
    let twice = json!({"name": "ns/g/a", "domain": "ns/g/a", "descriptors": [{"key": "r", "value": "r", "descriptors": [
        {"key": "masked_remote_address", "value": "10.0.0.0/8", "rate_limit": {"unit": "HOUR", "requests_per_unit": 1}},
        {"key": "masked_remote_address", "value": "10.0.0.0/8", "descriptors": [{"key": "remote_address", "rate_limit": {"unit": "HOUR", "requests_per_unit": 1}}]},
    ]}]});
    let other = json!({"name": "ns/g/b", "domain": "ns/g/b", "descriptors": [chain("r=r rule-0-match--1=rule-0-match--1 1")]});
    server.set("1", vec![resource(&twice.to_string()), resource(&other.to_string())]);
    let target = server.target();
    let tollgate = Tollgate::start(&[], &[("TOLLGATE_XDS_SERVER", target.as_str())]);
    let message = server.refused(1).error_detail.unwrap().message;
    assert_eq!(
        message,
        "ns/g/a: duplicate descriptor composite key 'ns/g/a.r_r.masked_remote_address_10.0.0.0/8'"
    );
    let entries = entries("r=r rule-0-match--1=rule-0-match--1");
    assert_eq!(passes(&tollgate, "ns/g/b", &entries), 1);
}
