//! What the first protos say stays so: names, numbers, types, and what a method takes and gives.
//! The types of requests may get other names.

use std::collections::BTreeSet;

use prost::Message;

use super::*;

/// What of `old` is no longer so in `new`, a line for each.
fn broken(old: &DescriptorPool, new: &DescriptorPool) -> Vec<String> {
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for service in old.services() {
        let now = new.get_service_by_name(service.full_name());
        for method in service.methods() {
            let at = format!("{}.{}", service.name(), method.name());
            match now.as_ref().and_then(|now| now.methods().find(|now| now.name() == method.name()))
            {
                None => broken.push(format!("{at} is gone")),
                Some(now) => {
                    let streams = |method: &MethodDescriptor| {
                        (method.is_client_streaming(), method.is_server_streaming())
                    };
                    if streams(&method) != streams(&now) {
                        broken.push(format!("{at} streams otherwise"));
                    }
                    messages(&method.input(), &now.input(), &mut seen, &mut broken);
                    messages(&method.output(), &now.output(), &mut seen, &mut broken);
                }
            }
        }
    }
    broken
}

fn messages(
    old: &MessageDescriptor,
    new: &MessageDescriptor,
    seen: &mut BTreeSet<(String, String)>,
    broken: &mut Vec<String>,
) {
    if !seen.insert((old.full_name().to_owned(), new.full_name().to_owned())) {
        return;
    }
    for field in old.fields() {
        let at = format!("{}.{}", old.name(), field.name());
        let Some(now) = new.get_field(field.number()) else {
            broken.push(format!("{at} is gone from {}", new.name()));
            continue;
        };
        let names =
            |field: &FieldDescriptor| (field.name().to_owned(), field.json_name().to_owned());
        if names(&field) != names(&now) {
            broken.push(format!("{at} is called {} now", now.name()));
        }
        let oneof =
            |field: &FieldDescriptor| field.containing_oneof().map(|parts| parts.name().to_owned());
        let shape = |field: &FieldDescriptor| {
            (
                field.cardinality(),
                field.supports_presence(),
                field.is_packed(),
                field.is_map(),
                oneof(field),
            )
        };
        if shape(&field) != shape(&now) {
            broken.push(format!("{at} is repeated, present or one of several otherwise"));
        }
        match (field.kind(), now.kind()) {
            (Kind::Message(old), Kind::Message(new)) => messages(&old, &new, seen, broken),
            (Kind::Enum(old), Kind::Enum(new)) => {
                for value in old.values().filter(|old| {
                    new.get_value(old.number()).is_none_or(|new| new.name() != old.name())
                }) {
                    broken.push(format!("{at} can no longer be {}", value.name()));
                }
            }
            (old, new) if old != new => broken.push(format!("{at} is of another type")),
            _ => {}
        }
    }
}

#[test]
fn all_that_the_first_contract_says_still_holds() {
    let wrong = broken(&v0(), &today());
    assert!(wrong.is_empty(), "programs that are in use would break:\n{}", wrong.join("\n"));
    assert_eq!(methods(&v0()).len(), 30, "all of the first contract was read");
}

#[test]
fn what_breaks_a_contract_is_found() {
    let pool = |source: &str| {
        let source = format!("syntax = \"proto3\"; package p; {source}");
        let file = protox::file::File::from_source("p.proto", &source).unwrap();
        DescriptorPool::from_file_descriptor_set(prost_types::FileDescriptorSet {
            file: vec![file.into()],
        })
        .unwrap()
    };
    let old = pool(
        "service S { rpc M(A) returns (stream A); } enum E { ZERO = 0; ONE = 1; }
         message A { string a = 1; optional int32 b = 2; repeated int32 c = 3; B d = 4; E e = 5; oneof o { string f = 6; } }
         message B { bool g = 1; }",
    );
    let same = "service S { rpc M(Other) returns (stream A); rpc New(A) returns (B); } enum E { ZERO = 0; ONE = 1; TWO = 2; }
         message Other { string a = 1; optional int32 b = 2; repeated int32 c = 3; B d = 4; E e = 5; oneof o { string f = 6; int32 n = 8; } string m = 7; }
         message A { string a = 1; optional int32 b = 2; repeated int32 c = 3; B d = 4; E e = 5; oneof o { string f = 6; } }
         message B { bool g = 1; string h = 2; }";
    assert_eq!(
        broken(&old, &pool(same)),
        [""; 0],
        "what is more, and another name of a request, breaks nothing"
    );
    for (from, to, expected) in [
        ("rpc M", "rpc N", "S.M is gone"),
        ("(stream A)", "(A)", "S.M streams otherwise"),
        ("message Other { string a = 1", "message Other { string z = 1", "A.a is called z now"),
        ("message Other { string a = 1", "message Other { string a = 9", "A.a is gone from Other"),
        ("message Other { string a = 1", "message Other { bytes a = 1", "A.a is of another type"),
        (
            "message Other { string a = 1",
            "message Other { repeated string a = 1",
            "A.a is repeated, present or one of several otherwise",
        ),
        (
            "string a = 1; optional int32 b",
            "string a = 1; int32 b",
            "A.b is repeated, present or one of several otherwise",
        ),
        (
            "oneof o { string f = 6; int32 n = 8; }",
            "string f = 6;",
            "A.f is repeated, present or one of several otherwise",
        ),
        ("ONE = 1;", "EINS = 1;", "A.e can no longer be ONE"),
        ("bool g = 1", "int32 g = 1", "B.g is of another type"),
    ] {
        let changed = same.replacen(from, to, 1);
        assert_ne!(changed, same);
        assert!(
            broken(&old, &pool(&changed)).iter().any(|line| line == expected),
            "{from} -> {to}: {:?}",
            broken(&old, &pool(&changed))
        );
    }
}

/// Methods that take what another takes, or no request: streams of the same as the method without
/// `Stream`, and the batches of checks.
const TAKE_ANOTHERS: [(&str, &str); 3] = [
    ("ApplyStream", "ApplyRequest"),
    ("CheckStream", "CheckBatch"),
    ("ReportStream", "ReportRequest"),
];

#[test]
fn every_method_has_a_request_message_of_its_own() {
    let others: Vec<(String, String)> = methods(&today())
        .into_iter()
        .map(|(_, method)| (method.name().to_owned(), method.input().name().to_owned()))
        .filter(|(method, request)| *request != format!("{method}Request"))
        .collect();
    for (method, request) in &others {
        let known = TAKE_ANOTHERS.contains(&(method, request));
        assert!(
            known,
            "{method} takes {request}: give it a {method}Request, so that it can get fields that no other method has"
        );
    }
    assert_eq!(others.len(), TAKE_ANOTHERS.len(), "{others:?}");
}

/// Reads a message with the other side's descriptor, and gives its bytes back.
fn passed_on(bytes: &[u8], by: &MessageDescriptor) -> Vec<u8> {
    let read = DynamicMessage::decode(by.clone(), bytes).unwrap();
    read.encode_to_vec()
}

#[test]
fn every_field_of_every_method_is_read_by_the_other_side() {
    let (old, new) = (v0(), today());
    let mut fields = 0;
    for (name, was) in methods(&old) {
        let now = methods(&new).into_iter().find(|(now, _)| *now == name).unwrap().1;
        for (old, new) in [(was.input(), now.input()), (was.output(), now.output())] {
            for part in 0..parts(&old).max(parts(&new)) {
                let message = filled(&old, part);
                let read = DynamicMessage::decode(new.clone(), message.encode_to_vec().as_slice())
                    .unwrap();
                assert_eq!(
                    read.unknown_fields().count(),
                    0,
                    "{name}: {} knows all of {}",
                    new.name(),
                    old.name()
                );
                let back =
                    DynamicMessage::decode(old.clone(), read.encode_to_vec().as_slice()).unwrap();
                assert_eq!(back, message, "{name}");
                fields += message.fields().count();
                // What is newer than the old side is passed on by it as it came.
                let newer = filled(&new, part);
                let back = DynamicMessage::decode(
                    new.clone(),
                    passed_on(&newer.encode_to_vec(), &old).as_slice(),
                )
                .unwrap();
                assert_eq!(back, newer, "{name}");
            }
        }
    }
    assert!(fields > 250, "only {fields} fields were sent");
}
