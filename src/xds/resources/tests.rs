use std::collections::HashMap;

use envoy_types::pb::google::protobuf::ListValue;

use super::*;

fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.to_owned(), value }
}

fn config_of(name: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig { name: name.to_owned(), domain: name.to_owned(), descriptors }
}

fn packed(config: &RateLimitConfig) -> Any {
    any(TYPE_URL, config.encode_to_vec())
}

fn response(resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse { type_url: TYPE_URL.to_owned(), resources, ..DiscoveryResponse::default() }
}

/// The reasons for which nothing was read.
fn unread(resources: Vec<Any>) -> Vec<(Option<String>, String)> {
    let read = read(&response(resources));
    assert!(read.read.is_empty(), "{:?}", read.read);
    read.unread.into_iter().map(|unread| (unread.name, unread.reason)).collect()
}

#[test]
fn every_field_of_a_resource_is_read() {
    let value = |kind| Value { kind: Some(kind) };
    let list = ListValue { values: vec![value(Kind::NumberValue(1.5)), Value { kind: None }] };
    let fields = HashMap::from([
        ("whole".to_owned(), value(Kind::NumberValue(7.0))),
        ("list".to_owned(), value(Kind::ListValue(list))),
        ("flag".to_owned(), value(Kind::BoolValue(true))),
        ("text".to_owned(), value(Kind::StringValue("t".to_owned()))),
    ]);
    let replaces = envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitReplace {
        name: "other".to_owned(),
    };
    let leaf = RateLimitDescriptor {
        key: "l".to_owned(),
        rate_limit: Some(RateLimitPolicy {
            unit: RateLimitUnit::Week.into(),
            requests_per_unit: 3,
            unlimited: false,
            name: "n".to_owned(),
            replaces: vec![replaces],
        }),
        quota_mode: true,
        detailed_metric: true,
        metadata: Some(Struct { fields: fields.into_iter().collect() }),
        ..RateLimitDescriptor::default()
    };
    let top = RateLimitDescriptor {
        key: "k".to_owned(),
        value: "v".to_owned(),
        shadow_mode: true,
        descriptors: vec![leaf],
        ..RateLimitDescriptor::default()
    };
    let read = read(&response(vec![packed(&config_of("d", vec![top]))]));
    assert!(read.unread.is_empty());
    let metadata = serde_json::json!({"whole": 7, "list": [1.5, null], "flag": true, "text": "t"});
    let leaf = Descriptor {
        key: "l".to_owned(),
        rate_limit: Some(RateLimit {
            unit: "WEEK".to_owned(),
            requests_per_unit: Some(3),
            name: "n".to_owned(),
            replaces: vec!["other".to_owned()],
            ..RateLimit::default()
        }),
        quota_mode: true,
        detailed_metric: true,
        metadata: metadata.as_object().cloned().map(Metadata::Json),
        ..Descriptor::default()
    };
    let top = Descriptor {
        key: "k".to_owned(),
        value: "v".to_owned(),
        shadow_mode: true,
        descriptors: vec![leaf],
        ..Descriptor::default()
    };
    let file = File {
        name: "d".to_owned(),
        domain: "d".to_owned(),
        descriptors: vec![top],
        ..File::default()
    };
    assert_eq!(read.read, [file]);
}

#[test]
fn units_are_those_of_the_reference() {
    let unit = |unit, unlimited| {
        rate_limit(RateLimitPolicy { unit, unlimited, ..RateLimitPolicy::default() }).unit
    };
    for (number, name) in [
        (0, "UNKNOWN"),
        (1, "SECOND"),
        (2, "MINUTE"),
        (3, "HOUR"),
        (4, "DAY"),
        (5, "MONTH"),
        (6, "YEAR"),
        (7, "WEEK"),
        (99, "99"),
    ] {
        assert_eq!(unit(number, false), name);
    }
    assert_eq!((unit(0, true).as_str(), unit(1, true).as_str()), ("", "SECOND"));
}

#[test]
fn a_wrapped_resource_is_unwrapped_and_what_is_none_is_told() {
    let good = packed(&config_of("d", vec![]));
    let wrapped = |name: &str, resource| {
        let wrapper = Resource { name: name.to_owned(), resource, ..Resource::default() };
        any(&Resource::type_url(), wrapper.encode_to_vec())
    };
    let read_one = read(&response(vec![wrapped("w", Some(good.clone()))]));
    assert_eq!((read_one.read[0].name.as_str(), read_one.unread.len()), ("d", 0));

    let broken = any(TYPE_URL, vec![0xff]);
    let told = unread(vec![
        wrapped("w", None),
        wrapped("w", Some(broken.clone())),
        broken,
        any("type.googleapis.com/envoy.config.cluster.v3.Cluster", vec![]),
        any(&Resource::type_url(), vec![0xff]),
    ]);
    assert_eq!(told[0], (Some("w".to_owned()), "it holds nothing".to_owned()));
    assert!(told[1].0.is_some() && told[1].1.starts_with("it cannot be decoded: "), "{told:?}");
    assert!(told[2].0.is_none() && told[2].1.starts_with("it cannot be decoded: "), "{told:?}");
    assert!(told[3].1.ends_with("envoy.config.cluster.v3.Cluster"), "{told:?}");
    assert!(told[4].1.starts_with("it cannot be decoded: "), "{told:?}");

    let other = DiscoveryResponse { type_url: "x".to_owned(), ..response(vec![good.clone()]) };
    assert_eq!(read(&other).unread[0].reason, "an answer of type x was not asked for");
    let unsaid = DiscoveryResponse { type_url: String::new(), ..response(vec![good]) };
    assert_eq!(read(&unsaid).read.len(), 1);
}

#[test]
fn what_nests_deeper_than_a_hundred_is_refused() {
    let nested = |levels: usize| {
        let mut descriptor = RateLimitDescriptor { key: "k".to_owned(), ..Default::default() };
        for _ in 1..levels {
            descriptor = RateLimitDescriptor {
                key: "k".to_owned(),
                descriptors: vec![descriptor],
                ..RateLimitDescriptor::default()
            };
        }
        packed(&config_of("d", vec![descriptor]))
    };
    assert_eq!(read(&response(vec![nested(99)])).read.len(), 1);
    assert!(unread(vec![nested(101)])[0].1.contains("recursion"), "too deep");
}

#[test]
fn contents_are_the_same_in_any_order_and_version() {
    let (a, b) = (packed(&config_of("a", vec![])), packed(&config_of("b", vec![])));
    let one = response(vec![a.clone(), b.clone()]);
    let other = DiscoveryResponse {
        version_info: "8".to_owned(),
        nonce: "9".to_owned(),
        ..response(vec![b.clone(), a.clone()])
    };
    assert_eq!(hash(&one), hash(&other));
    assert_ne!(hash(&one), hash(&response(vec![a.clone(), a.clone()])));
    assert_ne!(hash(&one), hash(&response(vec![a])));
    assert_ne!(
        hash(&response(vec![any("x", b"yz".to_vec())])),
        hash(&response(vec![any("xy", b"z".to_vec())]))
    );
}
