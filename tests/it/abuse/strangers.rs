//! Callers that nobody knows: what they make the server hold, and what a web page can make a
//! browser send.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;
use tollgate::grpc::wire::RateLimitRequest;
use tonic::Code;

use super::raw::*;
use super::{ALONE, mebibytes, metric};
use crate::patience::until;
use crate::server::Tollgate;

const WINDOW_UPDATE: u8 = 8;
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK_STREAM: &str = "/tollgate.v1.DecisionService/CheckStream";
const REFLECTION: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
const CREATE: &str = "/tollgate.v1.UsagePlanService/CreateSubscriber";
const AUTHORIZATION: &str = "/envoy.service.auth.v3.Authorization/Check";

/// A server that lets in nobody who has no token.
fn guarded() -> (Tollgate, TempDir) {
    let made = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["token", "create", "gw", "--scope", "decide"])
        .output()
        .unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens.yaml");
    fs::write(&file, format!("tokens:\n{}", String::from_utf8(made.stderr).unwrap())).unwrap();
    (Tollgate::start(&["--tokens-file", file.to_str().unwrap()], &[]), folder)
}

/// A call that says how long its message will be, and sends of it one byte.
fn declared(stream: u32, path: &str, length: u32) -> Vec<u8> {
    let message = [&[0][..], &length.to_be_bytes(), b"x"].concat();
    [frame(HEADERS, END_HEADERS, stream, &fields(path)), frame(DATA, 0, stream, &message)].concat()
}

/// A connection whose answers can be read each by itself: their headers refer to none before.
fn open(to: SocketAddr) -> Raw {
    let mut client = Raw::connect(to);
    let settings = [&[0, 1][..], &0_u32.to_be_bytes(), &[0, 4], &65_535_u32.to_be_bytes()].concat();
    client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).unwrap();
    // From here on the server takes as much as it ever does, and has heard of that.
    client.until(|frame| frame.kind == WINDOW_UPDATE && frame.stream == 0);
    client
}

/// A header field of an answer.
fn header(frame: &Frame, name: &str) -> Option<String> {
    let fields = loona_hpack::Decoder::new().decode(&frame.payload).unwrap();
    let (_, value) = fields.into_iter().find(|(known, _)| known == name.as_bytes())?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// The status of a call that is answered by it alone.
fn code(frame: &Frame) -> Option<Code> {
    header(frame, "grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

#[test]
fn a_length_that_is_declared_takes_no_memory_before_its_bytes_are_there() {
    let _alone = ALONE.blocking_lock();
    const CALLS: usize = 1_000;
    let (guarded, _folder) = guarded();
    let unguarded = Tollgate::start(&[], &[]);
    // They stay open until all is looked at.
    let mut held = Vec::new();
    for (what, tollgate, paths) in [
        (
            "without a token",
            &guarded,
            vec![WATCH, "/grpc.health.v1.Health/Check", CHECK_STREAM, CREATE],
        ),
        (
            "where everyone may call",
            &unguarded,
            vec![RATE_LIMIT, AUTHORIZATION, CHECK_STREAM, REFLECTION, CREATE],
        ),
    ] {
        let before = tollgate.resident_bytes();
        let mut clients = Vec::new();
        for path in paths {
            let mut client = open(tollgate.grpc_addr());
            let calls: Vec<u8> =
                streams().take(CALLS).flat_map(|stream| declared(stream, path, 4 << 20)).collect();
            client.send(&calls).unwrap();
            // All of it was looked at when this is answered.
            client.send(&frame(PING, 0, 0, b"are-read")).unwrap();
            client.until(|frame| frame.kind == PING && frame.payload == b"are-read");
            clients.push(client);
        }
        let grown = tollgate.resident_bytes().saturating_sub(before);
        println!(
            "{what}: {} connections with {CALLS} calls of 6 bytes each: {} more",
            clients.len(),
            mebibytes(grown)
        );
        // What a call takes that waits, whatever it declares. It was 2 MiB.
        assert!(
            grown < clients.len() as u64 * CALLS as u64 * 24 * 1024,
            "{what}: {}",
            mebibytes(grown)
        );
        held.push(clients);
    }
    // Both are shown by a look that is taken now and then.
    until("refusals that are counted", || {
        (metric(&guarded, "tollgate_pending_refused") > 0).then_some(())
    });
    until("bytes that are counted", || {
        (metric(&unguarded, "tollgate_pending_bytes") > 0).then_some(())
    });
}

#[test]
fn a_message_that_will_be_too_long_is_refused_at_once_and_health_takes_hardly_any() {
    let tollgate = Tollgate::start(&[], &[]);
    let mut client = open(tollgate.grpc_addr());
    let mut streams = streams();
    let mut answer = |path, length| {
        let stream = streams.next().unwrap();
        client.send(&declared(stream, path, length)).unwrap();
        code(&client.until(|frame| frame.stream == stream && frame.kind == HEADERS))
    };
    for path in [RATE_LIMIT, AUTHORIZATION, "/tollgate.v1.DecisionService/Check", CREATE] {
        assert_eq!(answer(path, (4 << 20) + 1), Some(Code::ResourceExhausted), "{path}");
    }
    assert_eq!(answer("/grpc.health.v1.Health/Check", 1_025), Some(Code::ResourceExhausted));
    assert_eq!(answer(WATCH, 1_025), Some(Code::ResourceExhausted));
}

#[test]
fn calls_that_wait_are_refused_when_they_hold_as_much_as_they_may_and_those_that_come_whole_are_answered()
 {
    let tollgate = Tollgate::start(&[], &[("TOLLGATE_GRPC_MAX_PENDING_BYTES", "1048576")]);
    let piece = [&[0][..], &(4_u32 << 20).to_be_bytes(), &[b'x'; 16_000]].concat();
    let mut clients = Vec::new();
    let refused = (0..100).find_map(|_| {
        let mut client = open(tollgate.grpc_addr());
        for stream in streams().take(20) {
            client
                .send(
                    &[
                        frame(HEADERS, END_HEADERS, stream, &fields(RATE_LIMIT)),
                        frame(DATA, 0, stream, &piece),
                    ]
                    .concat(),
                )
                .unwrap();
        }
        client.send(&frame(PING, 0, 0, b"are-read")).unwrap();
        let answer = client.until(|frame| {
            frame.kind == HEADERS || frame.kind == PING && frame.payload == b"are-read"
        });
        clients.push(client);
        (answer.kind == HEADERS).then(|| code(&answer))
    });
    assert_eq!(refused, Some(Some(Code::ResourceExhausted)));
    assert!(clients.len() < 10, "a connection holds a quarter of 1 MiB at most");
    until("the metric", || (metric(&tollgate, "tollgate_pending_refused") > 0).then_some(()));
    let mut neighbour = open(tollgate.grpc_addr());
    neighbour.send(&call(1, "/grpc.health.v1.Health/Check", &message(&()))).unwrap();
    assert_eq!(
        neighbour.until(|frame| frame.stream == 1 && frame.kind == DATA).payload,
        b"\0\0\0\0\x02\x08\x01"
    );
    drop(clients);
    until("all of it to be given back", || {
        (metric(&tollgate, "tollgate_pending_bytes") == 0).then_some(())
    });
}

#[test]
fn who_needs_no_token_has_few_calls_at_once() {
    let tollgate = Tollgate::start(&[], &[]);
    let mut client = open(tollgate.grpc_addr());
    for stream in streams().take(16) {
        client.send(&call(stream, WATCH, &message(&()))).unwrap();
        client.until(|frame| frame.stream == stream && frame.kind == DATA);
    }
    client.send(&call(33, WATCH, &message(&()))).unwrap();
    assert_eq!(code(&client.until(|frame| frame.stream == 33)), Some(Code::ResourceExhausted));
    // One ends, so another may begin as soon as that was seen.
    client.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).unwrap();
    let mut later = streams().skip(17);
    until("room for another", || {
        let stream = later.next().unwrap();
        client.send(&call(stream, WATCH, &message(&()))).unwrap();
        code(&client.until(|frame| frame.stream == stream && frame.kind == HEADERS))
            .is_none()
            .then_some(())
    });
    let stream = later.next().unwrap();
    // What needs a token, or would if there were any, is bounded by grpc.max_streams.
    client.send(&call(stream, RATE_LIMIT, &message(&RateLimitRequest::default()))).unwrap();
    assert_eq!(code(&client.until(|frame| frame.stream == stream)), Some(Code::InvalidArgument));
}

#[test]
fn what_a_web_page_may_send_is_no_call() {
    let tollgate = Tollgate::start(&[], &[]);
    let mut client = open(tollgate.grpc_addr());
    let mut streams = streams();
    let subscriber = b"\0\0\0\0\x0d\x0a\x0b\x0a\x09by-a-page";
    for (method, content_type, status) in [
        ("POST", Some("text/plain;charset=UTF-8"), "415"),
        ("POST", Some("application/x-www-form-urlencoded"), "415"),
        ("POST", Some("application/grpc-web-text"), "415"),
        ("POST", None, "415"),
        ("GET", Some("application/grpc"), "405"),
        ("OPTIONS", None, "405"),
    ] {
        let stream = streams.next().unwrap();
        let head = frame(HEADERS, END_HEADERS, stream, &fields_of(method, CREATE, content_type));
        client.send(&[head, frame(DATA, END_STREAM, stream, subscriber)].concat()).unwrap();
        let answer = client.until(|frame| frame.stream == stream && frame.kind == HEADERS);
        assert_eq!(
            header(&answer, ":status").as_deref(),
            Some(status),
            "{method} {content_type:?}"
        );
    }
    let listed = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["subscriber", "list", "--server", &tollgate.grpc_addr().to_string()])
        .output()
        .unwrap();
    assert!(
        listed.status.success() && !String::from_utf8_lossy(&listed.stdout).contains("by-a-page"),
        "{listed:?}"
    );
}
