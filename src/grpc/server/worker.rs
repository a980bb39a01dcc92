//! One thread that serves connections.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Host, Warned};
use super::preface::Foreign;
use super::socket::{From, Socket};
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
    socket: Socket,
    peer: From,
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
        warned: Warned,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (arriving, arrivals) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let host = Host::new(&settings, tls, dispatch, warned);
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

    pub(super) fn take(&self, socket: Socket, peer: From, counted: Counted) {
        let arrival = Arrival { socket, peer, counted, loading: Loading::new(&self.load) };
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

fn run(
    runtime: &Runtime,
    host: &Arc<Host>,
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    stopping: &watch::Receiver<bool>,
) {
    if let Some((backlog, clock)) = host.pulse() {
        // It ends with the runtime.
        runtime.spawn(async move { backlog.measure(&clock).await });
    }
    let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
    let take_all = async || {
        while let Some(Arrival { socket, peer, counted, loading }) = arrivals.recv().await {
            let (host, stopping, alive) = (host.clone(), stopping.clone(), alive.clone());
            tokio::spawn(async move {
                let _held = (counted, loading, alive);
                if let Err(error) = host.serve(socket, stopping).await {
                    match error.downcast_ref::<Foreign>() {
                        Some(foreign) if host.warns() => tracing::warn!(%peer, "{foreign}"),
                        _ => tracing::debug!(%peer, "connection ended: {error}"),
                    }
                }
            });
        }
    };
    // What panics in a connection ends that one alone. What panics beside them must not end the
    // thread: it would take no more connections, and be given them all the same, for nobody has
    // fewer.
    unless_it_panics(runtime, take_all);
    drop(alive);
    unless_it_panics(runtime, async || {
        all_ended.recv().await;
    });
}

/// Runs it again until it ends without a panic; connections go on meanwhile.
fn unless_it_panics(runtime: &Runtime, mut work: impl AsyncFnMut()) {
    while catch_unwind(AssertUnwindSafe(|| runtime.block_on(work()))).is_err() {
        tracing::error!("a thread of connections has panicked, and goes on");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_goes_on_with_the_connections_that_it_has() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (tell, told) = oneshot::channel();
        let (mut told, mut tell) = (Some(told), Some(tell));
        let mut rounds = 0;
        unless_it_panics(&runtime, async || {
            rounds += 1;
            match rounds {
                // What was spawned before the panic is what answers after it.
                1 => {
                    let tell = tell.take().unwrap();
                    tokio::spawn(async move { tell.send("answered").unwrap() });
                    assert_eq!(rounds, 2, "the first round panics");
                }
                _ => assert_eq!(told.take().unwrap().await.unwrap(), "answered"),
            }
        });
        assert_eq!(rounds, 2);
    }
}
