//! Binding ports, and what is spoken on them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::stopped;
use crate::config::Reach;
use crate::http;
use crate::tls::Tls;

/// The bound ports.
pub(super) struct Listeners {
    pub(super) grpc: TcpListener,
    pub(super) admin_grpc: Option<TcpListener>,
    pub(super) http: TcpListener,
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds all, or says which could not be bound.
    pub(super) async fn bind(reach: &Reach) -> Result<Self, String> {
        Ok(Self {
            grpc: bind(reach.grpc_addr, "grpc_addr").await?,
            admin_grpc: bind_if(reach.admin_grpc_addr, "admin_grpc_addr").await?,
            http: bind(reach.http_addr, "http_addr").await?,
            metrics: bind_if(reach.metrics_addr, "metrics_addr").await?,
        })
    }
}

async fn bind_if(address: Option<SocketAddr>, key: &str) -> Result<Option<TcpListener>, String> {
    match address {
        Some(address) => bind(address, key).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{key} {address} cannot be bound: {error}"))
}

/// Serves pages until told to stop, and finishes those that are under way.
pub(super) async fn serve_pages(listener: TcpListener, tls: Option<Arc<Tls>>, pages: Router, stopping: watch::Receiver<bool>) {
    if let Err(error) = http::serve(listener, tls, pages, stopped(stopping)).await {
        tracing::error!("the admin port failed: {error}");
    }
}
