//! Binding ports, and what is spoken on them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::stopped;
use crate::config::Config;
use crate::grpc::server::{Pem, Tls};

/// The bound ports.
pub(super) struct Listeners {
    pub(super) grpc: TcpListener,
    pub(super) http: TcpListener,
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds all, or says which could not be bound.
    pub(super) async fn bind(config: &Config) -> Result<Self, String> {
        Ok(Self {
            grpc: bind(config.grpc_addr, "grpc_addr").await?,
            http: bind(config.http_addr, "http_addr").await?,
            metrics: match config.metrics_addr {
                Some(address) => Some(bind(address, "metrics_addr").await?),
                None => None,
            },
        })
    }
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{key} {address} cannot be bound: {error}"))
}

/// Serves pages until told to stop, and finishes those that are under way.
pub(super) async fn serve_pages(listener: TcpListener, pages: Router, stopping: watch::Receiver<bool>) {
    let served = axum::serve(listener, pages).with_graceful_shutdown(stopped(stopping)).await;
    if let Err(error) = served {
        tracing::error!("the admin port failed: {error}");
    }
}

/// The TLS settings of the gRPC port, with their files read.
pub(super) fn tls(config: &Config) -> Result<Option<Arc<Tls>>, String> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let (cert, key) = (read(&tls.cert, "tls.cert")?, read(&tls.key, "tls.key")?);
    let client_ca = tls.client_ca.as_ref().map(|path| read(path, "tls.client_ca")).transpose()?;
    let tls = Tls::new(&Pem { cert: &cert, key: &key, client_ca: client_ca.as_deref() });
    Ok(Some(Arc::new(tls.map_err(|error| error.to_string())?)))
}

fn read(path: &Path, key: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{key} {} cannot be read: {error}", path.display()))
}
