//! One thread that serves connections.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::Host;
use super::{Counted, Dispatch};
use crate::config::GrpcServer;
use crate::tls::Tls;

/// A thread with a runtime of its own, as the acceptor sees it.
pub(super) struct Worker {
    load: Arc<AtomicUsize>,
    arriving: mpsc::UnboundedSender<Arrival>,
    ended: oneshot::Receiver<Infallible>,
}

/// A connection on its way to its worker. There are no more of them than there may be connections.
struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    counted: Counted,
    loading: Loading,
}

impl Worker {
    pub(super) fn start(
        number: usize,
        settings: GrpcServer,
        tls: Option<Arc<Tls>>,
        dispatch: Dispatch,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        if let Some((backlog, clock)) = dispatch.backlog() {
            let (found, its_clock) = (backlog.clone(), clock.clone());
            runtime.on_thread_park(move || backlog.looks(&clock)).on_thread_unpark(move || found.found(&its_clock));
        }
        let runtime = runtime.enable_all().build()?;
        let (arriving, arrivals) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let host = Host::new(&settings, tls, dispatch);
        std::thread::Builder::new().name(format!("grpc-{number}")).spawn(move || {
            run(&runtime, &Arc::new(host), arrivals, &stopping);
            drop(end);
        })?;
        Ok(Self { load: Arc::default(), arriving, ended })
    }

    /// Connections that it has.
    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, stream: TcpStream, peer: SocketAddr, counted: Counted) {
        let arrival = Arrival { stream, peer, counted, loading: Loading::new(&self.load) };
        // Where the thread has ended, so does the connection.
        drop(self.arriving.send(arrival));
    }

    /// Resolves when its last connection has ended. It takes no more.
    pub(super) async fn ended(self) {
        drop(self.arriving);
        // Nothing is ever sent: the thread drops the other end.
        let _ = self.ended.await;
    }
}

fn run(runtime: &Runtime, host: &Arc<Host>, mut arrivals: mpsc::UnboundedReceiver<Arrival>, stopping: &watch::Receiver<bool>) {
    runtime.block_on(async {
        let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
        while let Some(Arrival { stream, peer, counted, loading }) = arrivals.recv().await {
            let (host, stopping, alive) = (host.clone(), stopping.clone(), alive.clone());
            tokio::spawn(async move {
                let _held = (counted, loading, alive);
                if let Err(error) = host.serve(stream, stopping).await {
                    tracing::debug!(%peer, "connection ended: {error}");
                }
            });
        }
        drop(alive);
        all_ended.recv().await;
    });
}

/// Counts a connection for its worker.
struct Loading(Arc<AtomicUsize>);

impl Loading {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
