//! Connections that are cut.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};

use axum::http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use prost::Message;
use tokio::io::{DuplexStream, ReadBuf, duplex};
use tokio::task::{JoinHandle, yield_now};
use tonic::Status;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, Flags};
use crate::decide::time::Now;
use crate::grpc::observe::Observe;
use crate::grpc::overload::{Looked, Overload};
use crate::grpc::pb::rls::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use crate::grpc::wire::{RateLimitRequest, RateLimitResponse};
use crate::metrics::Metrics;

/// Of one answer; less than a tenth of it is under way at once.
const ANSWER_BYTES: usize = 64 * 1024;
const UNDER_WAY_BYTES: usize = 4 * 1024;
/// Those of a connection that is never closed.
const FEW: usize = 4;
/// More, and too few to be shed.
const MANY: usize = 12;
const MS: u64 = 1_000_000;
/// However busy the machine is.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

/// Answers with much. In the domain `wait`, when it may.
#[derive(Clone)]
struct Talks {
    begun: Arc<AtomicUsize>,
    may: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl RateLimitService for Talks {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, Status> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if &request.get_ref().domain[..] == b"wait" {
            self.may
                .clone()
                .wait_for(|may| *may)
                .await
                .map_err(|_| Status::internal("the test is over"))?;
        }
        Ok(tonic::Response::new(RateLimitResponse {
            raw_body: vec![b'x'; ANSWER_BYTES].into(),
            ..RateLimitResponse::default()
        }))
    }
}

/// A client's end that takes nothing while it is not to.
struct Ear {
    stream: DuplexStream,
    takes: Arc<Takes>,
}

#[derive(Default)]
struct Takes {
    now: AtomicBool,
    waits: Mutex<Option<Waker>>,
}

impl AsyncRead for Ear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        *self.takes.waits.lock() = Some(context.waker().clone());
        if self.takes.now.load(Ordering::Relaxed) {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        } else {
            Poll::Pending
        }
    }
}

impl AsyncWrite for Ear {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A connection to a core that is behind: it is cut when something comes after its first calls.
struct Behind {
    overload: Overload,
    begun: Arc<AtomicUsize>,
    may: watch::Sender<bool>,
    takes: Arc<Takes>,
    client: SendRequest<Full<Bytes>>,
    served: JoinHandle<Ended>,
    /// It is not told to stop.
    _stop: watch::Sender<bool>,
}

impl Behind {
    async fn new(last_answers: [Duration; 2]) -> Self {
        let overload =
            Overload::new(Some(Duration::from_nanos(1)), Some(Duration::from_millis(100)));
        let core = overload.core();
        [1, 1_000 * MS].iter().for_each(|&now_ns| core.turn(1_000 * MS, now_ns));
        let now_ns = AtomicU64::new(1_000 * MS);
        let clock = Clock::from_fn(move || Now {
            unix_ns: 0,
            steady_ns: now_ns.fetch_add(MS, Ordering::Relaxed),
        });
        close_another(|| Line::new(core.clone(), clock.clone()));
        let (begun, (may, waits)) = (Arc::new(AtomicUsize::new(0)), watch::channel(false));
        let service = RateLimitServiceServer::new(Talks { begun: begun.clone(), may: waits });
        let dispatch = Dispatch::new().serving(service).observed(Observe::new(
            Arc::new(Metrics::new()),
            clock,
            core,
        ));
        let settings = Config::resolve(&Flags::default(), &|_| None).unwrap().grpc_server;
        let host = Host { last_answers, ..Host::new(&settings, None, dispatch, Warned::default()) };

        let (ours, theirs) = duplex(UNDER_WAY_BYTES);
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(async move {
            host.drive(Prefaced::read(theirs).await?, Peer::default(), stopping).await
        });
        let takes: Arc<Takes> = Arc::default();
        let ear = Ear { stream: ours, takes: takes.clone() };
        let (client, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(ear)).await.unwrap();
        tokio::spawn(connection);
        Self { overload, begun, may, takes, client, served, _stop: stop }
    }

    /// Calls, and how long their answers are, or that there are none.
    fn ask(&self, calls: usize, domain: &'static str) -> Vec<JoinHandle<Option<usize>>> {
        let message = RateLimitRequest { domain: domain.into(), ..RateLimitRequest::default() }
            .encode_to_vec();
        let framed = Bytes::from(
            [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat(),
        );
        let call = |_| {
            let post = Request::post(
                "http://server/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            );
            let request = post
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(framed.clone()))
                .unwrap();
            let mut client = self.client.clone();
            tokio::spawn(async move {
                Some(
                    client
                        .send_request(request)
                        .await
                        .ok()?
                        .into_body()
                        .collect()
                        .await
                        .ok()?
                        .to_bytes()
                        .len(),
                )
            })
        };
        (0..calls).map(call).collect()
    }

    fn take(&self) {
        self.takes.now.store(true, Ordering::Relaxed);
        self.takes.waits.lock().take().into_iter().for_each(Waker::wake);
    }

    /// Asks for as much again and again until the connection is cut.
    async fn ask_until_cut(&self, domain: &'static str) -> Vec<JoinHandle<Option<usize>>> {
        // For so few nobody is closed.
        let mut calls = self.ask(FEW, domain);
        settle().await;
        assert_eq!((self.begun(), self.overload.closed()), (FEW, 1));
        while self.overload.closed() == 1 {
            calls.extend(self.ask(MANY, domain));
            settle().await;
        }
        calls
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

/// Everybody does what there is to do.
async fn settle() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

/// For a second from then on, the core closes who lay unread, also when turns come in time.
fn close_another(line: impl Fn() -> Line) {
    let is_closed = |_: &i32| {
        let mut line = line();
        assert_eq!(line.read(b""), Looked::All);
        (0..MANY).for_each(|_| line.ends().came());
        line.dry();
        line.read(b"") == Looked::Nothing
    };
    // Of a thousand one is kept.
    assert_eq!((0..2).filter(is_closed).count(), 1);
}

/// How long the answers are of those that were answered.
async fn lengths(calls: Vec<JoinHandle<Option<usize>>>) -> Vec<usize> {
    let mut lengths = Vec::new();
    for call in calls {
        lengths.extend(call.await.unwrap());
    }
    lengths
}

#[tokio::test]
async fn all_that_was_answered_before_the_cut_is_written_and_nothing_is_begun_after() {
    let all = Behind::new([SHORT, LONG]).await;
    let calls = all.ask_until_cut("").await;
    // The end is told in the meantime.
    tokio::time::sleep(50 * SHORT).await;
    let (asked, begun) = (calls.len(), all.begun());
    assert!((FEW..asked).contains(&begun), "{begun} of {asked}");
    all.take();
    let answered = lengths(calls).await;
    assert!(
        answered.len() == begun && answered.iter().all(|&length| length > ANSWER_BYTES),
        "{answered:?}"
    );
    assert_eq!(all.begun(), begun);
}

#[tokio::test]
async fn what_had_begun_is_waited_for() {
    // Calls whose messages were not read any more are waited for, too.
    let all = Behind::new([Duration::from_secs(2), LONG]).await;
    let calls = all.ask_until_cut("wait").await;
    let begun = all.begun();
    all.may.send_replace(true);
    all.take();
    assert_eq!((lengths(calls).await.len(), all.begun()), (begun, begun));
}

#[tokio::test]
async fn nobody_is_waited_for_for_long() {
    for domain in ["", "wait"] {
        let all = Behind::new([SHORT; 2]).await;
        let _calls = all.ask_until_cut(domain).await;
        assert_eq!(all.served.await.unwrap().unwrap_err().to_string(), Cut.to_string());
    }
}

#[test]
fn a_warning_comes_once_a_minute() {
    let warned = Warned::default();
    let all = warned.clone();
    let again =
        [5, 6, 5 + WARNED_NS - 1, 5 + WARNED_NS, 6 + WARNED_NS].map(|now_ns| all.again(now_ns));
    assert_eq!(again, [true, false, false, true, false]);
}

#[tokio::test]
async fn connections_grow_as_old_as_they_may_a_tenth_more_or_less() {
    let age = Age { most: Some(Duration::from_millis(100)), grace: Duration::ZERO };
    let clock = Clock::system();
    for _ in 0..5 {
        let begin_ns = clock.steady_ns();
        age.over().await;
        // A busy machine takes longer, and nothing is sooner.
        assert!(clock.steady_ns() - begin_ns >= 90 * MS);
    }
    assert!(timeout(Duration::from_millis(200), Age { most: None, ..age }.over()).await.is_err());
}
