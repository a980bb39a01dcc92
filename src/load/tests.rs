//! The load generator against a real server of tonic's, in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::{Calls, DescriptorEntry, Job, Order, Run, Tally, Traffic};
use crate::clock::Clock;
use crate::grpc::pb::rls::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use crate::grpc::wire::{self, RateLimitRequest, RateLimitResponse};

/// What the server does, by the domain that it is asked about.
#[derive(Debug, Default)]
struct Seen {
    calls: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    /// Lets the calls of `held` go on.
    release: Notify,
}

#[derive(Clone, Debug, Default)]
struct Desk(Arc<Seen>);

#[tonic::async_trait]
impl RateLimitService for Desk {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let call = self.0.calls.fetch_add(1, Ordering::SeqCst);
        let under_way = self.0.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        let request = request.into_inner();
        match &*request.domain {
            b"refused" => return Err(Status::resource_exhausted("too much")),
            b"held" if call == 0 => self.0.release.notified().await,
            b"never" => std::future::pending().await,
            _ => tokio::task::yield_now().await,
        }
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        // Every third key is over its limit.
        let value = &request.descriptors[0].entries[0].value;
        let number: u64 = std::str::from_utf8(&value[value.len() - 10..]).unwrap().parse().unwrap();
        let code = if number.is_multiple_of(3) { wire::Code::OverLimit } else { wire::Code::Ok };
        Ok(Response::new(RateLimitResponse {
            overall_code: code.into(),
            ..RateLimitResponse::default()
        }))
    }
}

/// A server; it ends with its runtime. The first `dropped` connections are hung up at once.
fn serve(most_streams: Option<u32>, dropped: usize) -> (Runtime, SocketAddr, Arc<Seen>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let desk = Desk::default();
    let seen = desk.0.clone();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let mut count = 0;
    let incoming = TcpListenerStream::new(listener).filter(move |_| {
        count += 1;
        count > dropped
    });
    let mut server = Server::builder().max_concurrent_streams(most_streams);
    runtime
        .spawn(server.add_service(RateLimitServiceServer::new(desk)).serve_with_incoming(incoming));
    (runtime, address, seen)
}

fn asking(server: SocketAddr, domain: &str) -> Job {
    let descriptors = vec![vec![DescriptorEntry { key: "api_key".to_owned(), value: None }]];
    Job {
        server: server.to_string(),
        token: None,
        traffic: Traffic::RateLimit { domain: domain.to_owned(), descriptors },
        connections: 3,
        in_flight: 7,
        threads: 2,
        rate: None,
        requests: Some(2_000),
        duration_ns: u64::MAX,
        warm_up_ns: 0,
        timeout_ns: 60_000_000_000,
        deadline_ms: None,
        keys: 90,
        order: Order::Skewed(0.0),
    }
}

fn made(job: Job) -> Tally {
    Run::start(job, Clock::system()).unwrap().finish().unwrap().tally
}

fn within_and_over(calls: &Calls) -> (u64, u64) {
    (calls.verdicts[1], calls.verdicts[2])
}

#[test]
fn as_many_are_asked_as_was_said_and_each_is_answered_once() {
    let (_runtime, address, seen) = serve(None, 0);
    let tally = made(asking(address, "any"));
    let (within, over) = within_and_over(&tally.calls);
    assert_eq!(
        (tally.asked, tally.calls.answered(), tally.calls.decisions(), tally.calls.failed()),
        (2_000, 2_000, 2_000, 0)
    );
    assert_eq!((seen.calls.load(Ordering::SeqCst), tally.reconnects, tally.unsent), (2_000, 0, 0));
    assert!(
        within + over == 2_000 && (500..850).contains(&over),
        "a third of the keys is over its limit: {over}"
    );
}

#[test]
fn a_server_that_takes_few_streams_is_asked_few_at_a_time() {
    let (_runtime, address, seen) = serve(Some(2), 0);
    let tally = made(asking(address, "any"));
    assert_eq!((tally.calls.answered(), tally.calls.failed()), (2_000, 0));
    assert!(seen.most_under_way.load(Ordering::SeqCst) <= 3 * 2);
}

#[test]
fn a_lost_connection_is_made_again() {
    let (_runtime, address, seen) = serve(None, 2);
    let tally = made(asking(address, "any"));
    // What was on its way when the connection was lost failed, all else was answered.
    assert_eq!((tally.asked, tally.calls.answered() + tally.calls.failed()), (2_000, 2_000));
    assert_eq!(tally.calls.failed(), tally.calls.failed_with(Code::Unavailable));
    assert_eq!(seen.calls.load(Ordering::SeqCst) as u64, tally.calls.answered());
    assert!(tally.reconnects <= 2);
}

#[test]
fn failures_are_counted_by_code_with_what_was_said() {
    let (_runtime, address, _) = serve(None, 0);
    let tally = made(asking(address, "refused"));
    assert_eq!(
        (tally.calls.answered(), tally.calls.failed_with(Code::ResourceExhausted)),
        (0, 2_000)
    );
    assert_eq!(&**tally.calls.reasons.get(&8).unwrap(), "too much");
}

#[test]
fn an_answer_is_not_waited_for_longer_than_was_said() {
    let (_runtime, address, seen) = serve(None, 0);
    let tally =
        made(Job { requests: Some(30), timeout_ns: 20_000_000, ..asking(address, "never") });
    assert_eq!((tally.calls.answered(), tally.calls.failed_with(Code::DeadlineExceeded)), (0, 30));
    assert_eq!(seen.calls.load(Ordering::SeqCst), 30);
    assert!(
        tally.calls.failure_latency.low() > 0 && tally.calls.failure_latency.min() >= 19_000_000
    );
}

#[test]
fn a_call_that_found_no_place_in_time_fails_without_being_sent() {
    let (_runtime, address, seen) = serve(None, 0);
    let job = Job {
        connections: 1,
        in_flight: 1,
        requests: Some(20),
        rate: Some(1_000.0),
        timeout_ns: 20_000_000,
        ..asking(address, "never")
    };
    let tally = made(job);
    assert_eq!(
        (tally.asked, tally.calls.failed_with(Code::DeadlineExceeded), tally.unsent),
        (20, 20, 0)
    );
    let sent = seen.calls.load(Ordering::SeqCst);
    assert!((1..20).contains(&sent), "{sent}");
    assert!(tally.calls.failure_latency.min() >= 19_000_000);
}

#[test]
fn the_server_is_told_of_the_deadline() {
    let (_runtime, address, _) = serve(None, 0);
    let tally = made(Job { requests: Some(30), deadline_ms: Some(20), ..asking(address, "never") });
    // The server gives up first.
    assert_eq!((tally.calls.answered(), tally.calls.failed()), (0, 30));
    assert!(tally.calls.failure_latency.max() < 60_000_000_000);
}

/// Twenty calls on one connection, one at a time, the first of which is held for longer than all of
/// them should take.
fn stalled(rate: Option<f64>) -> Tally {
    const HELD_NS: u64 = 200_000_000;
    let (_runtime, address, seen) = serve(None, 0);
    let job =
        Job { connections: 1, in_flight: 1, requests: Some(20), rate, ..asking(address, "held") };
    let run = Run::start(job, Clock::system()).unwrap();
    while run.progress().elapsed_ns < HELD_NS {
        std::thread::yield_now();
    }
    seen.release.notify_one();
    run.finish().unwrap().tally
}

#[test]
fn a_stall_is_not_hidden_by_calls_that_were_not_made_because_of_it() {
    let tally = stalled(Some(1_000.0));
    // The last should have begun after 19 ms, and the stall took 200.
    assert!(tally.calls.answered() == 20 && tally.late >= 19, "{}", tally.late);
    assert!(tally.calls.latency.min() >= 175_000_000, "{}", tally.calls.latency.min());
    let tally = stalled(None);
    assert_eq!((tally.calls.answered(), tally.late), (20, 0));
    assert_eq!(
        tally.calls.latency.count_between(175_000_000, u64::MAX),
        1,
        "the closed loop saw it once"
    );
}

#[test]
fn a_run_ends_with_its_time_and_what_had_no_place_is_counted() {
    let (_runtime, address, seen) = serve(None, 0);
    let job = Job {
        connections: 1,
        in_flight: 1,
        requests: None,
        duration_ns: 400_000_000,
        warm_up_ns: 200_000_000,
        rate: Some(1_000.0),
        timeout_ns: 1_000_000_000,
        ..asking(address, "never")
    };
    let run = Run::start(job, Clock::system()).unwrap();
    let tally = run.finish().unwrap().tally;
    // The first call, of the warm-up, held the only place.
    assert_eq!((tally.calls.answered(), seen.calls.load(Ordering::SeqCst)), (0, 1));
    assert_eq!((tally.asked, tally.unsent), (0, 400));
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Run::start(asking(free, "any"), Clock::system()).unwrap_err();
    assert!(error.starts_with(&format!("the server at {free} cannot be reached")), "{error}");
}
