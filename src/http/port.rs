//! The ports of the pages: a thread of their own, and bounds on who may connect.
//!
//! A port takes everyone: at its bound the connection that has been idle longest makes room, so
//! that a flood of idle ones does not keep a probe out, which asks as soon as it is connected.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use axum::Router;
use metrics::{Counter, Gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::connection::{self, Activity, End, stopped};
use crate::config::Pages as Settings;
use crate::log::caught;
use crate::metrics::Metrics;
use crate::open_files::{AcceptTroubles, PAUSE};
use crate::tls::Tls;

/// Threads that make what takes long to make: a page of metrics, the rules, the answers to large
/// bodies.
const MAKERS: usize = 4;
/// Of two threads on one core, one that is this much nicer gets a tenth of it, and all of it when
/// the other waits.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// What is still under way when the process no longer waits for the pages is not waited for here
/// either.
const NO_LONGER: Duration = Duration::ZERO;

/// Where pages are served.
#[derive(Debug)]
pub struct Port {
    /// The setting that says where.
    pub key: &'static str,
    pub listener: TcpListener,
    pub pages: Router,
}

/// How the ports are served.
#[derive(Clone, Debug)]
pub struct Ports {
    pub settings: Settings,
    /// `None`: in the clear.
    pub tls: Option<Arc<Tls>>,
}

impl Ports {
    /// Serves pages on a thread of their own until `stopping` says so, and finishes those that are
    /// under way. For each port: how that ended.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        self,
        ports: Vec<Port>,
        metrics: &Metrics,
        stopping: &watch::Receiver<bool>,
    ) -> io::Result<Vec<(&'static str, Served)>> {
        let meters = Meters::new(metrics);
        let settings = Arc::new(self.settings);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAKERS)
            .on_thread_start(be_nice)
            .build()?;
        let (mut serving, mut served) = (Vec::new(), Vec::new());
        for Port { key, listener, pages } in ports {
            let (ended, end) = oneshot::channel();
            let (settings, tls, meters, stopping) =
                (settings.clone(), self.tls.clone(), meters.clone(), stopping.clone());
            serving.push((
                listener.into_std()?,
                Serving { key, pages, settings, tls, meters, stopping },
                ended,
            ));
            served.push((key, Served(end)));
        }
        thread::Builder::new().name("pages".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut ports = JoinSet::new();
                for (listener, serving, ended) in serving {
                    ports.spawn(async move {
                        let listener =
                            TcpListener::from_std(listener).map_err(|error| error.to_string());
                        let served = match listener {
                            Ok(listener) => caught(serving.run(listener))
                                .await
                                .map_err(|panicked| panicked.to_string()),
                            Err(error) => Err(error),
                        };
                        // Nobody may wait for it any more.
                        let _ = ended.send(served);
                    });
                }
                ports.join_all().await;
            });
            runtime.shutdown_timeout(NO_LONGER);
        })?;
        Ok(served)
    }
}

/// How a port ended.
#[derive(Debug)]
pub struct Served(oneshot::Receiver<Result<(), String>>);

impl Future for Served {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |_| Err("the thread of the pages has ended".to_owned());
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or_else(gone))
    }
}

/// The threads that make pages make way for calls. Where that is not allowed, they do not.
fn be_nice() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
}

#[derive(Clone)]
struct Meters {
    open: Gauge,
    /// For others, because of `http.max_connections`.
    idlest: Counter,
    overdue: Counter,
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        metrics.describe_gauge(
            "tollgate_http_connections",
            "Open connections of http_addr and metrics_addr",
        );
        metrics.describe_counter(
            "tollgate_http_connections_closed",
            "Connections of http_addr and metrics_addr that were closed: as the idlest, for others (http.max_connections), or because a request, an answer or a pause took too long",
        );
        let closed =
            |reason| metrics.counter("tollgate_http_connections_closed", &[("reason", reason)]);
        Self {
            open: metrics.gauge("tollgate_http_connections", &[]),
            idlest: closed("idlest"),
            overdue: closed("time"),
        }
    }
}

/// One port.
struct Serving {
    key: &'static str,
    pages: Router,
    settings: Arc<Settings>,
    tls: Option<Arc<Tls>>,
    meters: Meters,
    stopping: watch::Receiver<bool>,
}

impl Serving {
    async fn run(self, listener: TcpListener) {
        let mut open = Open {
            tasks: JoinSet::new(),
            by_task: HashMap::new(),
            moves: Arc::default(),
            meters: self.meters.clone(),
        };
        let mut troubles = AcceptTroubles::new(self.key);
        let mut stopped = pin!(stopped(self.stopping.clone()));
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if open.by_task.len() >= self.settings.max_connections {
                            open.drop_the_idlest().await;
                        }
                        open.add(&self, stream);
                    }
                    Err(error) => if troubles.is_lasting(&error) {
                        // Files may be what is short, and this gives one back.
                        open.drop_the_idlest().await;
                        tokio::time::sleep(PAUSE).await;
                    },
                },
                Some(ended) = open.tasks.join_next_with_id(), if !open.tasks.is_empty() => open.remove(&ended),
                () = &mut stopped => break,
            }
        }
        // The port is free from here on.
        drop(listener);
        while let Some(ended) = open.tasks.join_next_with_id().await {
            open.remove(&ended);
        }
    }
}

/// The open connections of a port.
struct Open {
    tasks: JoinSet<End>,
    by_task: HashMap<Id, (AbortHandle, Arc<Activity>)>,
    moves: Arc<AtomicU64>,
    meters: Meters,
}

impl Open {
    fn add(&mut self, port: &Serving, stream: TcpStream) {
        // Answers are written whole, and nothing is gained by waiting for more. Where it cannot be
        // set, they are late.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::new(&self.moves));
        let (settings, stopping) = (port.settings.clone(), port.stopping.clone());
        let served = connection::serve(
            stream,
            port.tls.clone(),
            port.pages.clone(),
            activity.clone(),
            settings,
            stopping,
        );
        let task = self.tasks.spawn(served);
        self.by_task.insert(task.id(), (task, activity));
        self.meters.open.increment(1.0);
    }

    fn remove(&mut self, ended: &Result<(Id, End), JoinError>) {
        let task = match ended {
            Ok((task, end)) => {
                if *end == End::Overdue {
                    self.meters.overdue.increment(1);
                }
                *task
            }
            // It was dropped, or it panicked, which is in the log.
            Err(error) => error.id(),
        };
        if self.by_task.remove(&task).is_some() {
            self.meters.open.decrement(1.0);
        }
    }

    async fn drop_the_idlest(&mut self) {
        let idlest = self
            .by_task
            .iter()
            .min_by_key(|(_, (_, activity))| activity.last_move())
            .map(|(&task, _)| task);
        if let Some((task, _)) = idlest.and_then(|task| self.by_task.remove(&task)) {
            task.abort();
            self.meters.open.decrement(1.0);
            self.meters.idlest.increment(1);
            // The runtime closes it now.
            tokio::task::yield_now().await;
        }
    }
}
