//! What strangers cost a gateway beside them: its calls, its new connections, the probes, and the
//! memory of the server, each beside the same server left alone.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::wire::{Descriptor, Entry, RateLimitRequest};

use super::raw::*;
use super::{ALONE, mebibytes};
use crate::http::get;
use crate::server::Tollgate;

/// How often each is done for one figure.
const TIMES: usize = 100;

pub(super) fn request() -> RateLimitRequest {
    let entry = Entry { key: "api_key".into(), value: "somebody".into() };
    let descriptors = vec![Descriptor { entries: vec![entry], ..Descriptor::default() }];
    RateLimitRequest { domain: "load".into(), descriptors, hits_addend: 0 }
}

/// The middle of what each takes.
#[derive(Debug)]
struct Took {
    call: Duration,
    connection: Duration,
    probe: Duration,
}

fn middle(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

async fn measure(tollgate: &Tollgate) -> Took {
    let mut client = RateLimitServiceClient::new(tollgate.channel().await);
    let (mut calls, mut connections, mut probes) = (vec![], vec![], vec![]);
    for time in 0..TIMES {
        let begin = Instant::now();
        client.should_rate_limit(request()).await.unwrap();
        calls.push(begin.elapsed());
        if time % 5 == 0 {
            let begin = Instant::now();
            RateLimitServiceClient::new(tollgate.channel().await)
                .should_rate_limit(request())
                .await
                .unwrap();
            connections.push(begin.elapsed());
            let begin = Instant::now();
            assert_eq!(get("/healthcheck").status(tollgate.http_addr()), 200);
            probes.push(begin.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Took { call: middle(calls), connection: middle(connections), probe: middle(probes) }
}

/// Strangers that go on until they are told to stop. What they hold goes with them.
type Attack = fn(&Tollgate, Arc<AtomicBool>) -> Vec<JoinHandle<()>>;

fn strangers(
    count: usize,
    over: Arc<AtomicBool>,
    act: impl Fn(&AtomicBool) + Clone + Send + 'static,
) -> Vec<JoinHandle<()>> {
    let one = |_| {
        let (over, act) = (over.clone(), act.clone());
        thread::spawn(move || act(&over))
    };
    (0..count).map(one).collect()
}

fn hold(held: Vec<TcpStream>, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(10));
    }
    drop(held);
}

fn having_sent(to: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).ok()?;
    // Whom the server has closed already holds nothing.
    stream.write_all(bytes).ok()?;
    Some(stream)
}

/// Lengths that are declared, over calls that never send them.
fn declared_lengths(tollgate: &Tollgate, over: Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let to = tollgate.grpc_addr();
    strangers(2, over, move |over| {
        let head = [&[0][..], &(4_u32 << 20).to_be_bytes(), b"x"].concat();
        let call = |stream| {
            [
                frame(HEADERS, END_HEADERS, stream, &fields(RATE_LIMIT)),
                frame(DATA, 0, stream, &head),
            ]
            .concat()
        };
        let calls: Vec<u8> = streams().take(1_000).flat_map(call).collect();
        let bytes = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), calls].concat();
        hold(having_sent(to, &bytes).into_iter().collect(), over);
    })
}

/// Scrapers of a large page, one after the other without end.
fn scrapers(tollgate: &Tollgate, over: Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let to = tollgate.http_addr();
    strangers(4, over, move |over| {
        while !over.load(Ordering::Acquire) {
            let _ = get("/metrics").send(to);
        }
    })
}

/// Requests without an end, and bodies that do not come.
fn halves(tollgate: &Tollgate, over: Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let to = tollgate.http_addr();
    strangers(1, over, move |over| {
        let body = [
            &b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n"[..],
            &[b' '; 100_000],
        ]
        .concat();
        let halves = (0..300)
            .filter_map(|i| having_sent(to, if i % 3 == 0 { &body } else { b"GET /metrics HT" }));
        hold(halves.collect(), over);
    })
}

/// Connections on which nothing happens.
fn idle(tollgate: &Tollgate, over: Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let to = tollgate.grpc_addr();
    let preface = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    strangers(1, over, move |over| {
        hold((0..300).filter_map(|_| having_sent(to, &preface)).collect(), over)
    })
}

/// Two thousand rules, and so a large page of metrics.
fn rules() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let more: String = (0..2_000)
        .map(|i| format!("- {{key: rule-{i}, rate_limit: {{unit: hour, requests_per_unit: 5}}}}\n"))
        .collect();
    let rules = format!(
        "domain: load\ndescriptors:\n- {{key: api_key, rate_limit: {{unit: hour, requests_per_unit: 1000000}}}}\n{more}"
    );
    std::fs::write(folder.path().join("a.yaml"), rules).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cost_a_neighbour_little() {
    let _alone = ALONE.lock().await;
    let folder = rules();
    let attacks: [(&str, Attack, u64); 4] = [
        ("declared lengths", declared_lengths, 48),
        ("scrapers", scrapers, 96),
        ("halves", halves, 96),
        ("idle connections", idle, 48),
    ];
    for (what, attack, most_mebibytes) in attacks {
        let tollgate = Tollgate::start(&["--rules", folder.path().to_str().unwrap()], &[]);
        let alone = measure(&tollgate).await;
        let before = tollgate.resident_bytes();
        let over = Arc::new(AtomicBool::new(false));
        let attackers = attack(&tollgate, over.clone());
        let beside = measure(&tollgate).await;
        let grown = tollgate.resident_bytes().saturating_sub(before);
        over.store(true, Ordering::Release);
        attackers.into_iter().for_each(|attacker| attacker.join().unwrap());
        println!("{what}: {alone:?} alone, {beside:?} beside them, {} more", mebibytes(grown));
        // They took seconds, or were not answered at all.
        for (alone, beside) in [
            (alone.call, beside.call),
            (alone.connection, beside.connection),
            (alone.probe, beside.probe),
        ] {
            assert!(
                beside < alone * 20 + Duration::from_millis(50),
                "{what}: {alone:?} alone, {beside:?} beside them"
            );
        }
        assert!(grown < most_mebibytes << 20, "{what}: {} MiB more", mebibytes(grown));
    }
}
