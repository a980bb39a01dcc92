//! Clients that send and never read, and clients that hardly send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::wire::{Code, Descriptor, Entry, RateLimitRequest};

use super::raw::*;
use super::{ALONE, mebibytes, metric, scaled};
use crate::patience::until;
use crate::server::Tollgate;

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/load/rules");
const STREAMS: usize = 1_024;
/// `REFUSED_STREAM`: too many calls at once.
const REFUSED: u32 = 7;
/// What is said to the message of a call that was refused.
const STREAM_CLOSED: u32 = 5;
/// `ENHANCE_YOUR_CALM`.
const CALM: u32 = 11;

/// Sheds nothing: these floods are many calls at once for a debug build, and what is tried is what
/// they cost.
fn start(env: &[(&str, &str)]) -> Tollgate {
    let env: Vec<_> = env.iter().copied().chain([("TOLLGATE_GRPC_MAX_LAG_MS", "0")]).collect();
    Tollgate::start(&["--rules", RULES], &env)
}

fn request() -> RateLimitRequest {
    let entry = Entry { key: "api_key".into(), value: "somebody".into() };
    let descriptors = vec![Descriptor { entries: vec![entry], ..Descriptor::default() }];
    RateLimitRequest { domain: "load".into(), descriptors, hits_addend: 0 }
}

/// Somebody who behaves, on a connection of its own, for as long as this is there.
struct Neighbour {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Neighbour {
    fn of(tollgate: &Tollgate) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let address = tollgate.grpc_addr();
        let (stopped, count) = (stop.clone(), answered.clone());
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut client =
                    RateLimitServiceClient::connect(format!("http://{address}")).await.unwrap();
                while !stopped.load(Ordering::SeqCst) {
                    let answer = client.should_rate_limit(request()).await.unwrap().into_inner();
                    assert_eq!(answer.overall_code, i32::from(Code::Ok));
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
        Self { stop, answered, thread: Some(thread) }
    }

    /// Waits until so many further calls were answered.
    fn goes_on(&self, calls: u64) {
        let before = self.answered.load(Ordering::SeqCst);
        until("answers for a neighbour", || {
            (self.answered.load(Ordering::SeqCst) >= before + calls).then_some(())
        });
    }

    /// All its calls were answered.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.answered.load(Ordering::SeqCst)
    }
}

fn connections_fall_to(tollgate: &Tollgate, most: u64) {
    until("connections that end", || {
        (metric(tollgate, "tollgate_connections") <= most).then_some(())
    });
}

#[test]
fn who_reads_no_answers_has_as_many_calls_as_it_may_and_costs_their_answers() {
    let _alone = ALONE.blocking_lock();
    let tollgate = start(&[]);
    let neighbour = Neighbour::of(&tollgate);
    neighbour.goes_on(20);
    let before = tollgate.resident_bytes();
    let (clients, asked) = (scaled(200).max(10), STREAMS + 200);
    let message = message(&request());
    let mut grown = Vec::new();
    for _ in 0..6 {
        // Room for no answer: all calls stay open.
        let mut deaf: Vec<Raw> = (0..clients).map(|_| Raw::open(tollgate.grpc_addr(), 0)).collect();
        for client in &mut deaf {
            let calls: Vec<u8> = streams()
                .take(asked)
                .flat_map(|stream| call(stream, RATE_LIMIT, &message))
                .collect();
            client.send(&calls).unwrap();
        }
        // They read now, which takes nothing off: the answers wait for room on their streams.
        for client in &mut deaf {
            let (mut begun, mut refused) = (0, 0);
            while begun + refused < asked {
                let frame = client.until(|frame| frame.kind == HEADERS || frame.kind == RST_STREAM);
                if frame.kind == HEADERS {
                    begun += 1;
                } else if frame.error() == REFUSED {
                    refused += 1;
                } else {
                    assert_eq!(frame.error(), STREAM_CLOSED);
                }
            }
            assert_eq!((begun, refused), (STREAMS, asked - STREAMS));
        }
        grown.push(tollgate.resident_bytes().saturating_sub(before));
        neighbour.goes_on(100);
        drop(deaf);
        connections_fall_to(&tollgate, 1);
    }
    let calls = clients * STREAMS as u64;
    println!(
        "{clients} clients with {STREAMS} answers each that they do not take, six times: {} more, {} bytes a call; a neighbour had {} calls answered",
        grown.iter().map(|&grown| mebibytes(grown)).collect::<Vec<_>>().join(", "),
        grown[0] / calls,
        neighbour.end()
    );
    assert!(grown[0] < calls * 16 * 1024);
    // What they had is there for the next ones, but for what the allocator leaves between (twice as
    // much was seen): kept, it would be six times as much.
    assert!(grown[5] < grown[0] * 4, "{grown:?}");
}

#[test]
fn who_does_not_read_at_all_is_not_read_either_and_is_closed_where_pings_are_on() {
    let _alone = ALONE.blocking_lock();
    const MOST: u64 = 64 << 20;
    for (pings, what) in [(false, "pings"), (false, "calls"), (true, "calls")] {
        let tollgate = start(if pings {
            &[("TOLLGATE_GRPC_PING_MS", "500"), ("TOLLGATE_GRPC_KEEPALIVE_TIMEOUT_MS", "500")]
        } else {
            &[]
        });
        let neighbour = Neighbour::of(&tollgate);
        neighbour.goes_on(20);
        let before = tollgate.resident_bytes();
        let message = message(&request());
        let floods: Vec<_> = (0..scaled(200))
            .map(|_| {
                let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
                let bytes: Vec<u8> = match what {
                    "pings" => frame(PING, 0, 0, &[7; 8]).repeat(64),
                    _ => streams()
                        .take(50_000)
                        .flat_map(|stream| call(stream, RATE_LIMIT, &message))
                        .collect(),
                };
                thread::spawn(move || {
                    let sent = if what == "pings" {
                        client.flood(&bytes, MOST)
                    } else {
                        client.send_some(&bytes)
                    };
                    (client, sent)
                })
            })
            .collect();
        let flooded: Vec<_> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
        let grown = tollgate.resident_bytes().saturating_sub(before);
        let sent: Vec<u64> = flooded.iter().map(|(_, sent)| *sent).collect();
        println!(
            "{} clients that send {what} and read nothing, pings of ours {pings}: {} more; bytes taken: {sent:?}",
            sent.len(),
            mebibytes(grown)
        );
        assert!(sent.iter().all(|&sent| sent < MOST), "somebody is read without end");
        assert!(grown < sent.len() as u64 * (24 << 20), "{}", mebibytes(grown));
        neighbour.goes_on(100);
        if pings {
            connections_fall_to(&tollgate, 1);
        }
        drop(flooded);
        connections_fall_to(&tollgate, 1);
        neighbour.end();
    }
}

#[test]
fn who_writes_a_byte_now_and_then_is_answered_when_all_has_come_and_closed_before_it_speaks_http2()
{
    let _alone = ALONE.blocking_lock();
    let tollgate = start(&[("TOLLGATE_GRPC_HANDSHAKE_TIMEOUT_MS", "300")]);
    let neighbour = Neighbour::of(&tollgate);
    // However often a byte comes: the preface has its time as a whole.
    let mut slow = Raw::connect(tollgate.grpc_addr());
    let cut = PREFACE.iter().position(|&byte| {
        thread::sleep(std::time::Duration::from_millis(50));
        slow.send(&[byte]).is_err()
    });
    println!("a preface of {} bytes, 20 a second: closed after {cut:?}", PREFACE.len());
    slow.wait_for_end();

    let mut slow = Raw::open(tollgate.grpc_addr(), 65_535);
    for byte in call(1, RATE_LIMIT, &message(&request())) {
        slow.send(&[byte]).unwrap();
    }
    assert_eq!(slow.until(|frame| frame.stream == 1).kind, HEADERS);

    // Those that stop in the middle hold a connection, as those do that ask nothing.
    let before = tollgate.resident_bytes();
    let whole = call(1, RATE_LIMIT, &message(&request()));
    let half = [fields(RATE_LIMIT).len(), whole.len() - 5];
    let clients = scaled(5_000);
    let stopped: Vec<Raw> = (0..clients)
        .map(|number| {
            let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
            client.send(&whole[..half[number as usize % 2]]).unwrap();
            client
        })
        .collect();
    until("all of them", || {
        (metric(&tollgate, "tollgate_connections") >= clients + 2).then_some(())
    });
    neighbour.goes_on(100);
    let grown = tollgate.resident_bytes().saturating_sub(before);
    println!(
        "{clients} clients in the middle of headers or of a message: {} more, {} bytes each",
        mebibytes(grown),
        grown / clients
    );
    assert!(grown < clients * 256 * 1024, "{}", mebibytes(grown));
    drop((stopped, slow));
    connections_fall_to(&tollgate, 1);
    neighbour.end();
}

#[test]
fn who_stops_in_the_middle_is_closed_where_pings_are_on() {
    let _alone = ALONE.blocking_lock();
    let tollgate =
        start(&[("TOLLGATE_GRPC_PING_MS", "300"), ("TOLLGATE_GRPC_KEEPALIVE_TIMEOUT_MS", "300")]);
    let whole = call(1, RATE_LIMIT, &message(&request()));
    for sent in [0, 5, 50, whole.len() - 1] {
        let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
        client.send(&whole[..sent]).unwrap();
        client.wait_for_end();
    }
}

#[test]
fn headers_without_end_end_the_connection_and_large_ones_the_call() {
    let _alone = ALONE.blocking_lock();
    let tollgate = start(&[]);
    let neighbour = Neighbour::of(&tollgate);
    let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
    let large = [fields(RATE_LIMIT), field("x-large", &"x".repeat(16 * 1024))].concat();
    let (first, second) = large.split_at(16_000);
    client.send(&frame(HEADERS, END_STREAM, 1, first)).unwrap();
    client.send(&frame(CONTINUATION, END_HEADERS, 1, second)).unwrap();
    let refused = client.until(|frame| frame.stream == 1);
    println!("17 KiB of headers: {refused:?}");
    client.send(&call(3, RATE_LIMIT, &message(&request()))).unwrap();
    assert_eq!(
        client.until(|frame| frame.stream == 3 && frame.kind == DATA).flags & END_STREAM,
        0,
        "the connection goes on"
    );

    let before = tollgate.resident_bytes();
    let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
    client.send(&frame(HEADERS, 0, 1, &fields(RATE_LIMIT))).unwrap();
    let more = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(1_000)));
    let sent = client.flood(&more, 64 << 20);
    println!(
        "headers without end: {} taken, {} more",
        mebibytes(sent),
        mebibytes(tollgate.resident_bytes().saturating_sub(before))
    );
    assert!(sent < 64 << 20);
    client.wait_for_end();
    neighbour.goes_on(100);
    neighbour.end();
}

#[test]
fn calls_that_are_given_up_as_fast_as_they_are_made_are_bounded_too() {
    let _alone = ALONE.blocking_lock();
    let tollgate = start(&[]);
    let neighbour = Neighbour::of(&tollgate);
    neighbour.goes_on(20);
    let before = tollgate.resident_bytes();
    let calls = scaled(1_000_000) as usize;
    let mut client = Raw::open(tollgate.grpc_addr(), 65_535);
    let flood = streams().take(calls).flat_map(|stream| {
        [
            frame(HEADERS, END_HEADERS, stream, &fields(RATE_LIMIT)),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    let flood: Vec<u8> = flood.collect();
    let taken = client.send(&flood).is_ok();
    let grown = tollgate.resident_bytes().saturating_sub(before);
    neighbour.goes_on(100);
    // All of them were taken, or it was told to calm down.
    let told = if taken {
        client.send(&frame(PING, 0, 0, &[1; 8])).ok();
        client
            .frames()
            .find(|frame| frame.kind == GOAWAY || (frame.kind == PING && frame.payload == [1; 8]))
    } else {
        client.frames().find(|frame| frame.kind == GOAWAY)
    };
    println!("{calls} calls given up at once: {} more, then {told:?}", mebibytes(grown));
    assert!(told.is_none_or(|frame| frame.kind == PING || frame.error() == CALM));
    assert!(grown < 64 << 20, "{}", mebibytes(grown));
    neighbour.end();
}
