//! A port of pages: its connections, with TLS or without, and who is at their other end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::access::Peer;
use crate::tls::{Protocol, Tls, client_names};

/// Handshakes under way. Beyond it, new connections wait.
const MOST_HANDSHAKES: usize = 256;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The connection of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub(super) peer: Arc<Peer>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Connection {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self::default()
    }
}

impl Connected<IncomingStream<'_, TlsPort>> for Connection {
    fn connect_info(stream: IncomingStream<'_, TlsPort>) -> Self {
        Self { peer: Arc::new(Peer::new(client_names(stream.io()))) }
    }
}

/// Serves pages until `stopped` resolves, and finishes those that are under way.
///
/// # Errors
/// The port failed.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    pages: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let pages = pages.into_make_service_with_connect_info::<Connection>();
    match tls {
        None => axum::serve(listener, pages).with_graceful_shutdown(stopped).await,
        Some(tls) => {
            let port = TlsPort { listener, tls, handshakes: JoinSet::new() };
            axum::serve(port, pages).with_graceful_shutdown(stopped).await
        }
    }
}

/// Hands out connections whose handshake is done: one that is slow keeps no other waiting.
struct TlsPort {
    listener: TcpListener,
    tls: Arc<Tls>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Listener for TlsPort {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                (stream, peer) = Listener::accept(&mut self.listener), if self.handshakes.len() < MOST_HANDSHAKES => {
                    self.handshakes.spawn(handshake(self.tls.clone(), stream, peer));
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn handshake(tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
    match timeout(HANDSHAKE, tls.accept(stream, Protocol::Pages)).await {
        Ok(Ok(stream)) => Some((stream, peer)),
        Ok(Err(error)) => {
            tracing::debug!(%peer, "connection ended: {error}");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "connection ended: its handshake took too long");
            None
        }
    }
}
