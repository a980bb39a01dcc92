//! One connection to the pages: what it is at, how long that may take, and HTTP/1.1 on it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::Peer;
use crate::config::Pages as Settings;
use crate::tls::{Protocol, Tls, client_names};

/// Header fields of one request.
const MOST_HEADERS: usize = 100;
/// When the server stops: what is no request yet, or not the whole of one, gets so long, and an
/// answer that is on its way.
const LEAVE: Duration = Duration::from_secs(1);
const LEAVE_TO_ANSWER: Duration = Duration::from_secs(3);
/// Who takes no whole body in time is told so, and only then is the connection closed.
const TELL: Duration = Duration::from_secs(1);

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of the next request has come.
    Idle,
    /// The head of a request is coming, or a handshake.
    Head,
    /// The body is coming.
    Body,
    /// The answer is made and taken.
    Answer,
}

impl Phase {
    fn limit(self, settings: &Settings, stopping: bool) -> Duration {
        match self {
            Self::Answer if stopping => settings.answer_timeout.min(LEAVE_TO_ANSWER),
            _ if stopping => LEAVE,
            Self::Idle => settings.idle_timeout,
            Self::Head => settings.request_timeout,
            Self::Body => settings.request_timeout + TELL,
            Self::Answer => settings.answer_timeout,
        }
    }
}

/// What is seen of a connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// Counts the moves of all connections of a port: of two of them, the one whose last move has
    /// the lower number has been idle longer.
    moves: Arc<AtomicU64>,
    moved: AtomicU64,
    phase: watch::Sender<Phase>,
}

impl Activity {
    /// Of a new connection: its first request is awaited as if it had begun.
    pub(super) fn new(moves: &Arc<AtomicU64>) -> Self {
        let activity = Self {
            moves: moves.clone(),
            moved: AtomicU64::new(0),
            phase: watch::Sender::new(Phase::Head),
        };
        activity.moves_now();
        activity
    }

    pub(super) fn last_move(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn moves_now(&self) {
        self.moved.store(self.moves.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn is_at(&self, phase: Phase) {
        self.phase.send_if_modified(|at| std::mem::replace(at, phase) != phase);
    }

    fn bytes_came(&self) {
        self.moves_now();
        self.phase.send_if_modified(|at| {
            *at == Phase::Idle && std::mem::replace(at, Phase::Head) == Phase::Idle
        });
    }

    /// Resolves when the connection has been at one thing for too long.
    async fn overdue(&self, settings: &Settings, stopping: watch::Receiver<bool>) {
        let mut phase = self.phase.subscribe();
        let mut stopped = pin!(stopped(stopping));
        let mut stop = false;
        loop {
            let limit = phase.borrow_and_update().limit(settings, stop);
            tokio::select! {
                changed = timeout(limit, phase.changed()) => if changed.is_err() {
                    return;
                },
                () = &mut stopped, if !stop => stop = true,
            }
        }
    }
}

/// The connection of a request, as those who answer see it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: Arc<Peer>,
    pub(super) activity: Arc<Activity>,
}

/// How a connection ended that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Whatever was under way is done, or the client left.
    Over,
    /// It took too long.
    Overdue,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    pages: Router,
    activity: Arc<Activity>,
    settings: Arc<Settings>,
    stopping: watch::Receiver<bool>,
) -> End {
    let address = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
    let watched = Watched { stream, activity: activity.clone() };
    let stop = stopping.clone();
    let work = async {
        match tls {
            None => {
                let peer = Peer::default().at(address);
                speak(watched, peer, pages, &activity, &settings, stop).await;
            }
            Some(tls) => match tls.accept(watched, Protocol::Pages).await {
                Ok(stream) => {
                    let peer = Peer::new(client_names(&stream)).at(address);
                    speak(stream, peer, pages, &activity, &settings, stop).await;
                }
                Err(error) => tracing::debug!("connection of the pages ended: {error}"),
            },
        }
    };
    tokio::select! {
        () = work => End::Over,
        () = activity.overdue(&settings, stopping) => End::Overdue,
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    pages: Router,
    activity: &Arc<Activity>,
    settings: &Settings,
    stopping: watch::Receiver<bool>,
) {
    let connection = Connection { peer: Arc::new(peer), activity: activity.clone() };
    let pages = TowerToHyperService::new(pages);
    let service = service_fn(move |mut request: Request<Incoming>| {
        connection.activity.is_at(Phase::Answer);
        let under_way = UnderWay(connection.activity.clone());
        request.extensions_mut().insert(connection.clone());
        let answer = pages.call(request);
        async move {
            answer.await.map(|answer| answer.map(|body| Answer { body, _under_way: under_way }))
        }
    });
    let mut http = http1::Builder::new();
    http.half_close(false)
        .header_read_timeout(None)
        .max_headers(MOST_HEADERS)
        .max_buf_size(settings.max_header_bytes);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let (mut stopped, mut stop) = (pin!(stopped(stopping)), false);
    loop {
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!("connection of the pages ended: {error}");
                }
                return;
            }
            () = &mut stopped, if !stop => {
                stop = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A request that is not answered yet.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_at(Phase::Idle);
    }
}

/// An answer, under way for as long as it is here.
struct Answer {
    body: axum::body::Body,
    _under_way: UnderWay,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose moves are seen.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.activity.moves_now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?;
        self.activity.moves_now();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Resolves when the process is told to stop.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process that wants to serve.
    let _ = stopping.wait_for(|stop| *stop).await;
}
