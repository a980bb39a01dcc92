//! Serves gRPC on one thread per core, each with a runtime and connections of its own.
//!
//! A connection stays on the thread that it was given to, so a call never crosses threads, and
//! answers that become ready together leave in one write. One acceptor gives each new connection to
//! the thread with the fewest: two busy connections are on two cores, always.

mod connection;
mod dispatch;
mod preface;
pub(crate) mod socket;
mod worker;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{Counter, Gauge};
use tokio::sync::watch;

pub use self::dispatch::Dispatch;
use self::socket::Accepted;
pub use self::socket::UnixSocket;
use self::worker::Worker;
use crate::config::GrpcServer;
use crate::log::caught;
use crate::metrics::Metrics;
use crate::open_files::{AcceptTroubles, PAUSE};
use crate::tls::Tls;

/// What serves gRPC, before it does.
#[derive(Debug)]
pub struct Server {
    settings: GrpcServer,
    tls: Option<Arc<Tls>>,
    unix: Option<UnixSocket>,
    meters: Meters,
}

struct Meters {
    open: Gauge,
    refused: Counter,
}

impl Server {
    pub fn new(settings: GrpcServer) -> Self {
        Self {
            settings,
            tls: None,
            unix: None,
            meters: Meters { open: Gauge::noop(), refused: Counter::noop() },
        }
    }

    /// Speaks TLS, and nothing else.
    #[must_use]
    pub fn tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// Serves a Unix socket, too.
    #[must_use]
    pub fn unix(self, unix: Option<UnixSocket>) -> Self {
        Self { unix, ..self }
    }

    /// Shows its connections there.
    #[must_use]
    pub fn measured(self, metrics: &Metrics) -> Self {
        metrics.describe_gauge("tollgate_connections", "Open connections of the gRPC port");
        metrics.describe_counter(
            "tollgate_connections_refused",
            "Connections closed at once because of grpc.max_connections",
        );
        let meters = Meters {
            open: metrics.gauge("tollgate_connections", &[]),
            refused: metrics.counter("tollgate_connections_refused", &[]),
        };
        Self { meters, ..self }
    }

    /// Serves what `services` makes, once for each thread: what the threads do not share they do
    /// not wait for.
    ///
    /// When `stopping` becomes true, nobody is accepted any more, the calls in flight are answered,
    /// and it returns when the last connection has ended. It must run within a runtime; that runs
    /// the acceptor alone.
    ///
    /// # Errors
    /// The listener cannot be used, or a thread cannot be started.
    pub async fn serve(
        self,
        listener: TcpListener,
        services: impl Fn() -> Dispatch,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let warned = connection::Warned::default();
        let start = |number| {
            Worker::start(
                number,
                self.settings,
                self.tls.clone(),
                services(),
                stopping.clone(),
                warned.clone(),
            )
        };
        let workers = (0..self.settings.threads()).map(start).collect::<io::Result<Vec<_>>>()?;
        let mut accepting = stopping;
        let accept = async {
            while caught(self.accept(&listener, &workers)).await.is_err() {
                tracing::error!("accepting connections has panicked, and goes on");
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = accept => {}
            // An error means that the sender is gone, and with it the process that wants to serve.
            _ = accepting.wait_for(|stop| *stop) => {}
        }
        // The port is free from here on.
        drop(listener);
        for worker in workers {
            worker.ended().await;
        }
        Ok(())
    }

    async fn accept(&self, listener: &tokio::net::TcpListener, workers: &[Worker]) {
        let open = Open { all: Arc::new(AtomicUsize::new(0)), gauge: self.meters.open.clone() };
        let (mut turn, mut troubles) = (0_usize, AcceptTroubles::new("gRPC"));
        loop {
            match socket::accept(listener, self.unix.as_ref()).await {
                Ok(Accepted { socket, peer }) => {
                    if open.all.load(Ordering::Relaxed) >= self.settings.max_connections {
                        self.meters.refused.increment(1);
                        tracing::debug!(%peer, "connection refused: grpc.max_connections are open");
                        continue;
                    }
                    turn = turn.wrapping_add(1);
                    if let Some(worker) = least_loaded(workers, turn) {
                        worker.take(socket, peer, open.count());
                    }
                }
                Err(error) => {
                    if troubles.is_lasting(&error) {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}

/// The worker with the fewest connections; of several, each in turn.
fn least_loaded(workers: &[Worker], turn: usize) -> Option<&Worker> {
    let first = turn.checked_rem(workers.len())?;
    let (before, after) = workers.split_at_checked(first)?;
    after.iter().chain(before).min_by_key(|worker| worker.load())
}

/// All open connections.
#[derive(Clone)]
struct Open {
    all: Arc<AtomicUsize>,
    gauge: Gauge,
}

impl Open {
    fn count(&self) -> Counted {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.gauge.increment(1.0);
        Counted(self.clone())
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Open);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.decrement(1.0);
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

#[cfg(test)]
mod tests;
