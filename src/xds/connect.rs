//! The connection to a management server.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::config::{Xds, XdsServer, XdsTls};
use crate::plain_file;

/// From the look-up of the name to the end of the handshakes.
const CONNECT: Duration = Duration::from_secs(10);
/// A silent peer is asked by TCP whether it is there.
const SILENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(10);
const ASKS: u32 = 3;
/// A peer that is there and hangs is noticed by pings of HTTP/2, as often as servers of gRPC allow:
/// once in 5 minutes.
const PING: Duration = Duration::from_secs(330);
const PING_TIMEOUT: Duration = Duration::from_secs(30);
/// What was sent and is not acknowledged for so long ends the connection.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// What the server may send ahead. A set of rules comes in one message.
const WINDOW_BYTES: u32 = 1 << 20;

/// Connects, with the certificates that the files hold now.
pub(super) async fn connect(settings: &Xds) -> Result<Channel, String> {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let authority = match &settings.server {
        XdsServer::Unix(_) => "localhost".to_owned(),
        tcp @ XdsServer::Tcp { .. } => tcp.to_string(),
    };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
        .map_err(|error| chain(&error))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    if let Some(files) = &settings.tls {
        endpoint = endpoint.tls_config(tls(files)?).map_err(|error| chain(&error))?;
    }
    let connecting = endpoint.connect_with_connector(Connector(settings.server.clone()));
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no connection in {} s", CONNECT.as_secs())),
    }
}

fn tls(files: &XdsTls) -> Result<ClientTlsConfig, String> {
    let tls = match &files.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(
            ca,
            "xds.tls_ca",
            "CERTIFICATE",
        )?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let tls = match &files.identity {
        Some((cert, key)) => tls.identity(Identity::from_pem(
            read(cert, "xds.tls_cert", "CERTIFICATE")?,
            read(key, "xds.tls_key", "PRIVATE KEY")?,
        )),
        None => tls,
    };
    Ok(match &files.server_name {
        Some(name) => tls.domain_name(name),
        None => tls,
    })
}

/// A PEM file, which must hold something of that kind: one without any would be taken for one that
/// trusts nobody.
fn read(path: &Path, setting: &str, kind: &str) -> Result<Vec<u8>, String> {
    let place = || format!("{setting} {}", path.display());
    let pem = plain_file::read(path, "file of certificates or keys")
        .map_err(|error| format!("{} cannot be read: {error}", place()))?;
    let end = format!("{kind}-----");
    if !pem.windows(end.len()).any(|part| part == end.as_bytes()) {
        return Err(format!("{} holds no {} in PEM", place(), kind.to_lowercase()));
    }
    Ok(pem)
}

/// An error with all that it comes from: the outermost says no more than that there was one.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut below = error.source();
    while let Some(error) = below {
        let text = error.to_string();
        // Some say again what is below them.
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        below = error.source();
    }
    texts.join(": ")
}

/// TCP that notices a peer which is gone, or a Unix socket.
struct Connector(XdsServer);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Connected = TokioIo<Box<dyn Io>>;

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Connected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            Ok(TokioIo::new(match server {
                XdsServer::Unix(path) => Box::new(UnixStream::connect(path).await?) as Box<dyn Io>,
                XdsServer::Tcp { host, port } => Box::new(tcp(&host, port).await?),
            }))
        })
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let asking = TcpKeepalive::new().with_time(SILENCE).with_interval(ASK_AGAIN).with_retries(ASKS);
    socket.set_tcp_keepalive(&asking)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}
