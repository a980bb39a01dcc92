//! A run of the load generator, from the first connection to the last answer.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::job::Job;
use super::tally::Tally;
use super::thread::work;
use super::worker::Shared;
use crate::clock::Clock;

/// Load that is being made.
#[derive(Debug)]
pub struct Run {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Tally, String>>>,
    /// Closed when all threads have ended.
    ended: mpsc::Receiver<()>,
}

/// What was done so far, the warm-up included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Verdicts that came.
    pub decisions: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Since the start.
    pub elapsed_ns: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    pub tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub elapsed_ns: u64,
    pub(crate) job: Job,
}

impl Run {
    /// Connects, and begins to ask.
    ///
    /// # Errors
    /// There is no such server, or it does not take the connections.
    pub fn start(job: Job, clock: Clock) -> Result<Self, String> {
        let mut sockets: Vec<Vec<TcpStream>> = Vec::new();
        let threads = job.threads.min(job.connections).max(1);
        sockets.resize_with(threads, Vec::new);
        for index in 0..job.connections {
            if let Some(own) = sockets.get_mut(index % threads) {
                own.push(connect(&job)?);
            }
        }
        let shared = Arc::new(Shared::new(job, clock));
        let (end, ended) = mpsc::channel(1);
        let mut threads = Vec::new();
        for (index, own) in sockets.into_iter().enumerate() {
            let (shared, end) = (shared.clone(), end.clone());
            let thread =
                std::thread::Builder::new().name(format!("load-{index}")).spawn(move || {
                    let tally = work(shared, index, own);
                    drop(end);
                    tally
                });
            threads.push(thread.map_err(|error| error.to_string())?);
        }
        Ok(Self { shared, threads, ended })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            decisions: self.shared.decisions.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            elapsed_ns: self
                .shared
                .clock
                .now()
                .steady_ns
                .saturating_sub(self.shared.moments.start_ns),
        }
    }

    /// Begins no further call. Those under way are waited for.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Waits until all is answered that will be.
    pub async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Waits for the end, and says what came of it.
    ///
    /// # Errors
    /// A thread could not do its work.
    pub fn finish(self) -> Result<Summary, String> {
        let mut tally = Tally::new()?;
        for thread in self.threads {
            tally.add(
                thread
                    .join()
                    .map_err(|_| "a thread of the load generator panicked".to_owned())??,
            );
        }
        let elapsed_ns = tally.last_ns.saturating_sub(self.shared.moments.measure_ns);
        Ok(Summary { tally, elapsed_ns, job: self.shared.job.clone() })
    }
}

fn connect(job: &Job) -> Result<TcpStream, String> {
    let timeout = Duration::from_nanos(job.timeout_ns);
    let connected = job.server.to_socket_addrs().and_then(|addresses| {
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    });
    let ready = connected.and_then(|socket| {
        // Without it small messages wait for each other.
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    ready.map_err(|error| {
        format!(
            "the server at {} cannot be reached (--server, TOLLGATE_SERVER): {error}",
            job.server
        )
    })
}
