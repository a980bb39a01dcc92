//! One connection, from its first byte to its last.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::Dispatch;
use super::dispatch::Calls;
use super::preface::Prefaced;
use super::socket::{Io, Socket};
use crate::access::Peer;
use crate::clock::Clock;
use crate::config::GrpcServer;
use crate::grpc::overload::{Backlog, Calmed, ConnectionState, ConnectionWatch};
use crate::tls::{Protocol, Tls, client_names};

/// What the connections of one worker have in common.
pub(super) struct Host {
    http2: http2::Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    dispatch: Arc<Dispatch>,
    handshake_timeout: Duration,
    keepalive: Option<Keepalive>,
    age: Age,
    warned: Warned,
}

/// How the kernel finds out that a peer is gone. Unlike pings of HTTP/2 it costs the calls nothing.
struct Keepalive {
    asking: TcpKeepalive,
    /// For answers that are not acknowledged.
    gone: Duration,
}

/// When it was said that somebody speaks something else, on all threads: once a minute is enough.
#[derive(Clone, Debug, Default)]
pub(super) struct Warned(Arc<Mutex<Option<u64>>>);

impl Warned {
    fn again(&self, now_ns: u64) -> bool {
        let mut last_ns = self.0.lock();
        let again = last_ns.is_none_or(|last_ns| now_ns.saturating_sub(last_ns) >= WARNED_NS);
        if again {
            *last_ns = Some(now_ns);
        }
        again
    }
}

const WARNED_NS: u64 = 60_000_000_000;

/// How long a connection may be open.
struct Age {
    most: Option<Duration>,
    /// For calls that are under way then.
    grace: Duration,
}

impl Age {
    /// Resolves when a connection that is opened now is too old. Each has an age of its own, a
    /// tenth more or less, so that not all end at once.
    async fn over(&self) {
        let Some(most) = self.most else { return std::future::pending().await };
        let part = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        tokio::time::sleep(most.mul_f64(0.9 + 0.2 * part)).await;
    }
}

/// How long it may take to tell a peer why its connection is closed.
const LAST_WORD: Duration = Duration::from_millis(100);

/// When a server stops it waits no longer than this for calls that may be on their way.
const SILENCE: Duration = Duration::from_millis(250);

/// How often the kernel asks before it gives up.
const PROBES: u32 = 3;

impl Keepalive {
    fn new(silence: Duration, patience: Duration) -> Self {
        // The kernel counts in whole seconds.
        let seconds = |time: Duration| time.max(Duration::from_secs(1));
        let asking = TcpKeepalive::new()
            .with_time(seconds(silence))
            .with_interval(seconds(patience / PROBES))
            .with_retries(PROBES);
        Self { asking, gone: seconds(silence) + seconds(patience) }
    }

    fn set(&self, stream: &std::net::TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&self.asking)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.gone))?;
        Ok(())
    }
}

type Ended = Result<(), Box<dyn Error + Send + Sync>>;

enum Opened {
    Plain(Box<Prefaced<Io>>),
    Tls(Box<Prefaced<TlsStream<Io>>>, Peer),
}

impl Host {
    pub(super) fn new(
        settings: &GrpcServer,
        tls: Option<Arc<Tls>>,
        dispatch: Dispatch,
        warned: Warned,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            // A gateway whose patience ends while the server stalls cancels all its calls at once.
            // That is no attack.
            .max_pending_accept_reset_streams(
                usize::try_from(settings.max_streams).unwrap_or(usize::MAX),
            )
            .max_header_list_size(settings.max_header_bytes)
            .initial_stream_window_size(settings.stream_window_bytes)
            .initial_connection_window_size(settings.connection_window_bytes)
            .max_send_buf_size(settings.send_buffer_bytes)
            .keep_alive_interval(settings.ping)
            .keep_alive_timeout(settings.keepalive_timeout)
            // gRPC has no use for it.
            .auto_date_header(false);
        let keepalive =
            settings.keepalive.map(|silence| Keepalive::new(silence, settings.keepalive_timeout));
        let age =
            Age { most: settings.max_connection_age, grace: settings.max_connection_age_grace };
        let (dispatch, handshake_timeout) = (Arc::new(dispatch), settings.handshake_timeout);
        Self { http2, tls, dispatch, handshake_timeout, keepalive, age, warned }
    }

    /// Whether it is time to say again that somebody speaks something else.
    pub(super) fn warns(&self) -> bool {
        self.dispatch.backlog().is_some_and(|(_, clock)| self.warned.again(clock.steady_ns()))
    }

    /// What measures how late turns come here.
    pub(super) fn pulse(&self) -> Option<(Arc<Backlog>, Clock)> {
        self.dispatch.backlog()
    }

    /// Serves a connection to its end. When `stopping` becomes true, the calls in flight are its
    /// last.
    ///
    /// # Errors
    /// How it ended otherwise.
    pub(super) async fn serve(&self, socket: Socket, mut stopping: watch::Receiver<bool>) -> Ended {
        // In a box, which goes when it is open: most connections are idle, and a handshake of TLS is
        // larger than all that they need.
        let open = Box::pin(self.open(socket));
        let opened = tokio::select! {
            opened = timeout(self.handshake_timeout, open) => opened.map_err(|_| "no HTTP/2 within grpc.handshake_timeout_ms")?,
            () = stopped(&mut stopping) => return Ok(()),
        };
        match opened? {
            Opened::Plain(stream) => self.drive(stream, Peer::default(), stopping).await,
            Opened::Tls(stream, peer) => self.drive(stream, peer, stopping).await,
        }
    }

    async fn open(&self, socket: Socket) -> Result<Opened, Box<dyn Error + Send + Sync>> {
        if let Socket::Tcp(stream) = &socket {
            // Without it small answers wait for acknowledgements.
            stream.set_nodelay(true)?;
            if let Some(keepalive) = &self.keepalive {
                keepalive.set(stream)?;
            }
        }
        let stream = socket.open()?;
        Ok(match &self.tls {
            Some(tls) => {
                let stream = tls.accept(stream, Protocol::Grpc).await?;
                let peer = Peer::new(client_names(&stream));
                Opened::Tls(Box::new(Prefaced::http2(stream).await?), peer)
            }
            None => Opened::Plain(Box::new(Prefaced::http2(stream).await?)),
        })
    }

    async fn drive<S>(
        &self,
        mut stream: Box<Prefaced<S>>,
        peer: Peer,
        mut stopping: watch::Receiver<bool>,
    ) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let watched = self.dispatch.watch();
        let state = watched.as_ref().map(ConnectionWatch::state).unwrap_or_default();
        state.stops_with(stopping.clone());
        let is_observed = watched.is_some();
        let calls = Calls::new(self.dispatch.clone(), peer, state.clone());
        stream.set_watched(watched);
        // In a box of its own: what is made and then moved into the task would be in it twice.
        let mut connection = Box::pin(self.http2.serve_connection(TokioIo::new(stream), calls));
        let whole = tokio::select! {
            biased;
            whole = until_calmed(connection.as_mut(), &state) => whole?,
            () = stopped(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    whole = until_calmed(connection.as_mut(), &state) => whole?,
                    () = silence(&state), if is_observed => return Ok(()),
                }
            }
            () = self.age.over() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    whole = until_calmed(connection.as_mut(), &state) => whole?,
                    // Who has heard of it calls elsewhere by now.
                    () = stopped_and_silent(&mut stopping, &state), if is_observed => return Ok(()),
                    () = tokio::time::sleep(self.age.grace) => return Err("it was open for grpc.max_connection_age_ms and the grace after it".into()),
                }
            }
        };
        if whole {
            return Ok(());
        }
        let _ = timeout(LAST_WORD, connection).await;
        Err(Calmed.into())
    }
}

/// A connection to its end, or, `false`, until it is to be closed.
async fn until_calmed(
    mut connection: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    state: &ConnectionState,
) -> hyper::Result<bool> {
    poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Pending if state.is_calmed() => Poll::Ready(Ok(false)),
        ended => ended.map_ok(|()| true),
    })
    .await
}

/// Resolves when nothing is in work on a connection, and nothing has come or gone on it for a
/// while. A peer that does not say that it has heard of the stop is not waited for any longer.
async fn silence(state: &ConnectionState) {
    loop {
        let moved = state.moved();
        tokio::time::sleep(SILENCE).await;
        if state.moved() == moved && !state.is_answering() {
            return;
        }
    }
}

async fn stopped_and_silent(stopping: &mut watch::Receiver<bool>, state: &ConnectionState) {
    stopped(stopping).await;
    silence(state).await;
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process that wants to serve.
    let _ = stopping.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
