//! Frames that are no calls: who sends too many is told so and closed, who sends what clients send
//! is not, and neighbours are served.

use std::thread;
use std::time::{Duration, Instant};

use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;

use super::neighbour::request;
use super::raw::*;
use super::{ALONE, metric};
use crate::patience::until;
use crate::server::Tollgate;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/load/rules");
const WINDOW_UPDATE: u8 = 8;
const PRIORITY: u8 = 2;
/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

fn settings(window: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat())
}

/// Streams that stay open, without a token where one is needed for nothing else.
fn open_streams(count: usize) -> Vec<u8> {
    let path = "/tollgate.v1.DecisionService/CheckStream";
    streams()
        .take(count)
        .flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &fields(path)))
        .collect()
}

#[test]
fn who_sends_too_many_frames_that_are_no_calls_is_told_so_and_closed() {
    let _alone = ALONE.blocking_lock();
    let tollgate = Tollgate::start(&[], &[]);
    let floods = [
        ("settings", [settings(0), settings(65_535)].concat()),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("answers to pings", frame(PING, 1, 0, &[7; 8])),
        ("room", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])),
        ("what nobody knows", frame(99, 0, 0, b"?")),
    ];
    for (number, (what, one)) in floods.iter().enumerate() {
        let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
        client.send(&open_streams(100)).unwrap();
        let flood = one.repeat(20_000);
        let mut reader = client.reader();
        let sends = thread::spawn(move || drop(client.send(&flood)));
        let told = reader.frames().find(|frame| frame.kind == GOAWAY);
        // The connection may be reset before that is read, as more comes.
        assert!(told.is_none_or(|told| told.error() == CALM), "{what}");
        sends.join().unwrap();
        until("the count", || {
            (metric(&tollgate, "tollgate_calmed_connections") == number as u64 + 1).then_some(())
        });
    }
    until("the end of all of them", || {
        (metric(&tollgate, "tollgate_connections") == 0).then_some(())
    });
}

#[test]
fn what_clients_send_beside_their_calls_closes_nobody() {
    let _alone = ALONE.blocking_lock();
    let tollgate =
        Tollgate::start(&["--rules", RULES], &[("TOLLGATE_GRPC_MAX_CONTROL_FRAMES", "100")]);
    let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
    let message = message(&request());
    // For each call a ping, and room for its answer, on the connection and on its stream: far more
    // in all than may be sent without calls.
    for stream in streams().take(2_000) {
        client.send(&call(stream, RATE_LIMIT, &message)).unwrap();
        let room = [
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 50]),
            frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 50]),
        ]
        .concat();
        client.send(&[room, frame(PING, 0, 0, &[1; 8])].concat()).unwrap();
        client.until(|frame| frame.kind == PING);
    }
    assert_eq!(metric(&tollgate, "tollgate_calmed_connections"), 0);
}

/// How long calls of a gateway take, one after the other: the one in the middle, and how many were
/// answered.
async fn calls(tollgate: &Tollgate) -> (Duration, usize) {
    let mut client = RateLimitServiceClient::new(tollgate.channel().await);
    let mut took = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        client.should_rate_limit(request()).await.unwrap();
        took.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    took.sort_unstable();
    (took[took.len() / 2], took.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_is_served_while_others_send_what_is_no_call_over_many_streams() {
    let _alone = ALONE.lock().await;
    let tollgate = Tollgate::start(&["--rules", RULES], &[]);
    let alone = calls(&tollgate).await;
    // As long as they are let, and until somebody has had enough of them.
    let strangers: Vec<_> = (0..4)
        .map(|_| {
            let address = tollgate.grpc_addr();
            thread::spawn(move || {
                let mut client = Raw::open(address, 65_535);
                let _ = client.send(&open_streams(1_000));
                client.flood(&[settings(0), settings(65_535)].concat().repeat(100), 64 << 20)
            })
        })
        .collect();
    let beside = calls(&tollgate).await;
    strangers
        .into_iter()
        .for_each(|stranger| assert!(stranger.join().unwrap() < 64 << 20, "nobody was closed"));
    println!(
        "a neighbour's calls: {alone:?} alone, {beside:?} beside four connections that send settings"
    );
    assert!(metric(&tollgate, "tollgate_calmed_connections") >= 4);
    // It was a hundred times as long, and half of the calls were not answered.
    assert!(beside.0 < alone.0 * 20 + Duration::from_millis(20), "{alone:?} {beside:?}");
}
