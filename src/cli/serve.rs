//! `tollgate serve`: the composition root. Resolves the settings, wires the parts, binds, serves,
//! drains.

mod borrowed;
mod bounds;
mod housekeeping;
mod listen;
mod parts;
mod services;
mod shared;
mod signals;
mod timekeeping;
mod waiting;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tonic_health::ServingStatus;

use self::borrowed::Borrowed;
use self::housekeeping::{Stalled, Watched};
use self::listen::Ports;
use self::parts::Parts;
pub(super) use self::parts::unopened;
use self::signals::{Asked, Signals};
use self::waiting::Waiting;
use super::Failure;
use super::client::output::print;
use crate::catalog::Catalog;
use crate::config::{Config, DataDir, Flags, GrpcServer};
use crate::console::{self, Console};
use crate::file_modes::{self, Holds};
use crate::grpc::plan_files::JsonFiles;
use crate::grpc::ratelimit::JsonError;
use crate::grpc::server::Server;
use crate::http::{Admin, Degraded, Health, NoAnswer, Port, Ports as PagesPorts};
use crate::ledger::LedgerError;
use crate::log::{Log, caught};
use crate::open_files;
use crate::rulebook::Wanted;
use crate::service::rate_limits::RateLimitError;
use crate::xds;

/// How long a start waits for the first leases. Those that come later are of use all the same.
const WARM_AT_MOST: Duration = Duration::from_secs(2);
/// How often it is looked whether another process has taken this one's place.
const LOOK_FOR_END: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where gRPC is served [default: 127.0.0.1:8081]
    #[arg(long, value_name = "HOST:PORT")]
    grpc_addr: Option<String>,
    /// Where plans and API keys are edited, and nowhere else [default: where gRPC is served]
    #[arg(long, value_name = "HOST:PORT")]
    admin_grpc_addr: Option<String>,
    /// Where health, metrics and /json are served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    http_addr: Option<String>,
    /// Where durable state is kept; `:memory:` keeps none [default: ./tollgate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A PostgreSQL database that keeps the ledger, instead of the data folder
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// The name of this node in a ledger in PostgreSQL [default: the machine's]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// A rules file, or a directory of them
    #[arg(long, value_name = "FILE|DIR")]
    rules: Vec<String>,
    /// Who may call, with their scopes, as `tollgate token create` prints them [default: everyone]
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<String>,
    /// Let everyone who can reach the port edit plans, also over the network
    #[arg(long)]
    insecure: bool,
    /// A file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take the place of envoyproxy/ratelimit: its ports and defaults, nothing kept, plans edited on
    /// 127.0.0.1:8082 alone. So it is too under the name `ratelimit`
    #[arg(long)]
    as_ratelimit: bool,
    /// Words behind `ratelimit` that nobody knows.
    #[arg(skip)]
    pub(super) ignored: Vec<String>,
}

impl Args {
    fn flags(self) -> Flags {
        let rules = (!self.rules.is_empty()).then(|| self.rules.join(","));
        let given = [
            ("grpc_addr", self.grpc_addr),
            ("admin_grpc_addr", self.admin_grpc_addr),
            ("http_addr", self.http_addr),
            ("data_dir", self.data_dir),
            ("ledger.url", self.ledger),
            ("node.name", self.node_name),
            ("rules", rules),
            ("auth.tokens_file", self.tokens_file),
            ("insecure", self.insecure.then(|| "true".to_owned())),
        ];
        Flags {
            file: self.config,
            as_ratelimit: self.as_ratelimit,
            settings: given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        }
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let log = Log::start().map_err(Failure::failed)?;
    let served = run_with(args, &log);
    if let Err(failure) = &served {
        // Not straight to standard error: that may be a pipe which is full and read by nobody.
        log.say(&failure.text);
    }
    log.finish();
    served.map_err(|failure| Failure { text: String::new(), ..failure })
}

fn run_with(args: Args, log: &Log) -> Result<(), Failure> {
    let file =
        args.config.clone().or_else(|| std::env::var_os("TOLLGATE_CONFIG").map(PathBuf::from));
    let ignored = args.ignored.clone();
    let config = Config::resolve_in(&args.flags(), &std::env::vars_os().collect::<Vec<_>>())
        .map_err(Failure::unusable)?;
    log.install(&config.log_level, config.log_format).map_err(Failure::failed)?;
    if !ignored.is_empty() {
        tracing::warn!(
            "these arguments are not known, and were passed over: {}",
            ignored.join(" ")
        );
    }
    if let Some(file) = file {
        file_modes::tell(&file_modes::findings("the settings file", &file, Holds::Decisions));
    }
    // Calls have threads of their own, and so have the pages: here is what has to happen now and
    // then, and new connections.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let served = runtime.block_on(serve(config, log));
    // Whatever still runs after the drain time-out is not waited for.
    runtime.shutdown_background();
    served
}

/// What must run for as long as the process wants traffic, each with its name: how it ended.
type Running = JoinSet<(&'static str, Result<(), String>)>;

async fn serve(config: Config, log: &Log) -> Result<(), Failure> {
    // First of all: what tells the process to stop while it starts must not end it with units of
    // quotas in its hands.
    let mut signals = Signals::listen().map_err(Failure::failed)?;
    if let Some((before, after)) = open_files::raise_limit() {
        tracing::info!("the limit of open files was raised from {before} to {after}");
    }
    let ports = Ports::bind(&config.reach).map_err(Failure::failed)?;
    let drain_timeout = Duration::from_millis(config.drain_timeout_ms);
    let (config, settings) = (Arc::new(config.clone()), config);
    let waiting = Waiting::default();
    let meanwhile =
        config.shared.is_some() && !config.reach.tls.as_ref().is_some_and(|tls| tls.http);
    let meanwhile = meanwhile.then(|| ports.http_meanwhile()).transpose();
    let watched = meanwhile.map_err(Failure::failed)?;
    let asking = waiting.clone();
    let mut assembling = tokio::task::spawn_blocking(move || Parts::assemble(&settings, &asking));
    let unready = async {
        match watched {
            Some(listener) => waiting.answer(listener).await,
            None => std::future::pending().await,
        }
    };
    let assembled = tokio::select! {
        assembled = &mut assembling => assembled,
        () = unready => return Err(Failure::failed("nobody can ask for health")),
        () = signals.asked_to_stop() => {
            tracing::info!("stopping before the service was ready");
            waiting.stop();
            // Nothing is leased yet, and what the ledger is at ends with it or not at all.
            tokio::select! {
                _ = assembling => {}
                () = signals.asked_to_stop() => {}
                () = tokio::time::sleep(drain_timeout) => {}
            }
            return Ok(());
        }
    };
    let mut parts =
        assembled.map_err(|_| Failure::failed("the start panicked; the log says where"))??;
    let borrowed = Borrowed::of(&parts);
    tokio::select! {
        () = parts.broker.draw(std::mem::take(&mut parts.warm), WARM_AT_MOST) => {}
        () = signals.asked_to_stop() => {
            tracing::info!("stopping before the service was ready");
            return Ok(());
        }
    }
    if let (DataDir::Path(folder), None) = (&config.data_dir, &config.shared) {
        file_modes::tell(&file_modes::findings("data_dir", folder, Holds::Decisions));
    }
    if let Some(tls) = config.xds.as_ref().and_then(|xds| xds.tls.as_ref()) {
        file_modes::tell(&file_modes::all_findings(tls.files()));
    }
    if let Some(told) = &config.reference.honoured {
        tracing::info!("{told}");
    }
    if let Some(told) = &config.reference.without_meaning {
        tracing::warn!("{told}");
    }
    for warning in config.reach.warnings().into_iter().chain(bounds::warnings(&config)) {
        tracing::warn!("{warning}");
    }
    let services = services::services(&parts, &config)?;
    let reporter = services.reporter;
    let listeners = ports.listen().map_err(Failure::failed)?;
    let bound = |listener: &TcpListener| listener.local_addr().map_err(Failure::failed);
    let (grpc_addr, http_addr) = (bound(&listeners.grpc)?, bound(&listeners.http)?);
    let admin_grpc_addr = listeners.admin_grpc.as_ref().map(bound).transpose()?;
    let more = [
        ("admin_grpc", admin_grpc_addr),
        ("metrics", listeners.metrics.as_ref().map(bound).transpose()?),
        ("debug", listeners.debug.as_ref().map(bound).transpose()?),
    ];

    let health = Health::default();
    let mut wanted = Wanted::new(parts.rulebook.clone(), config.health_needs_rules);
    if let Some(xds) = &config.xds {
        let at_most = xds.starts_without_rules.then_some(xds.first_rules_wait);
        wanted = wanted.awaiting(&parts.clock, at_most);
    }
    let (limiter, ledger, catalog) =
        (parts.limiter.clone(), parts.ledger.clone(), parts.catalog.clone());
    let stalled = Stalled::default();
    let (slow, time) = (stalled.clone(), parts.time.clone());
    let (stop, stopping) = watch::channel(false);
    let xds = config.xds.clone().map(|settings| {
        xds::start(settings, parts.rulebook.clone(), &parts.clock, &parts.metrics, &stopping)
    });
    let degraded: Degraded = Arc::new(move || {
        let (mut status, concern) = (ledger.status(), ledger.ledger().concern());
        // Whether its file is there is looked at each second, and not only when something is
        // written.
        status.failing = status.failing.filter(|error| !matches!(error, LedgerError::Gone { .. }));
        // It knows which rows are damaged.
        status.last_row_failure = status.last_row_failure.filter(|_| concern.is_none());
        status
            .says()
            .or(concern)
            .or_else(|| unreadable(&catalog.load()))
            .or_else(|| slow.says())
            .or_else(|| time.says())
            .or_else(|| xds.as_ref().and_then(|xds| xds.says()))
    });
    let admin = Admin {
        health: health.clone(),
        degraded: degraded.clone(),
        metrics: parts.metrics.clone(),
        rulebook: parts.rulebook.clone(),
        json: Arc::new(move |body, granted| {
            let limiter = limiter.clone();
            Box::pin(async move {
                limiter.answer_json(&body, granted.as_ref()).await.map_err(no_answer)
            })
        }),
        max_body_bytes: config.grpc.max_message_bytes,
        wanted: wanted.clone(),
        access: parts.access.clone(),
        console: console(&parts, &config, http_addr, degraded.clone())?,
    };
    let (grpc_server, admin_connections, pages_settings) = bounds::within_files(&config);
    housekeeping::start(
        &parts,
        config.reach.files_poll_ms,
        Watched { stalled, degraded, log: log.clone() },
        &stopping,
    );
    let pages_tls =
        parts.tls.clone().filter(|_| config.reach.tls.as_ref().is_some_and(|tls| tls.http));
    let mut running = Running::new();
    let metrics_path = config.reach.metrics_path.as_str();
    let metrics_pages = |listener| Port {
        key: "metrics_addr",
        listener,
        pages: admin.clone().metrics_router(metrics_path, &pages_settings),
    };
    let debug_pages = |listener| Port {
        key: "debug_addr",
        listener,
        pages: admin.clone().debug_router(&pages_settings),
    };
    let others =
        listeners.metrics.map(metrics_pages).into_iter().chain(listeners.debug.map(debug_pages));
    let mut ports: Vec<Port> = others.collect();
    ports.push(Port {
        key: "http_addr",
        listener: listeners.http,
        pages: admin.router(&pages_settings),
    });
    let pages = PagesPorts { settings: pages_settings, tls: pages_tls }.start(
        ports,
        &parts.metrics,
        &stopping,
    );
    for (key, served) in pages.map_err(Failure::failed)? {
        run_on(&mut running, key, served);
    }
    services::report_health(&reporter, serving(&wanted)).await;
    let mut serve = |name, settings, listener: TcpListener, unix, services| {
        let server =
            Server::new(settings).tls(parts.tls.clone()).unix(unix).measured(&parts.metrics);
        let listener = listener.into_std().map_err(Failure::failed)?;
        run_on(&mut running, name, server.serve(listener, services, stopping.clone()));
        Ok(())
    };
    serve("grpc_addr", grpc_server, listeners.grpc, listeners.grpc_unix, services.grpc)?;
    if let (Some(listener), Some(services)) = (listeners.admin_grpc, services.admin) {
        let settings = GrpcServer { workers: 1, max_connections: admin_connections, ..grpc_server };
        serve("admin_grpc_addr", settings, listener, None, services)?;
    }

    health.set(true);
    served(&parts, &config);
    announce(grpc_addr, http_addr, &more);
    let mut ended = None;
    let mut look_for_end = tokio::time::interval(LOOK_FOR_END);
    let mut look_for_rules = tokio::time::interval(Duration::from_millis(config.rules.poll_ms));
    loop {
        tokio::select! {
            _ = look_for_rules.tick(), if wanted.may_be_missing() && health.failure().is_none() => {
                services::report_health(&reporter, serving(&wanted)).await;
            }
            _ = look_for_end.tick() => {
                ended = parts.ledger.ledger().ended();
                if ended.is_some() {
                    break;
                }
            }
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => housekeeping::reload(&parts).await,
            },
            Some(ended) = running.join_next() => {
                fall(ended, &health);
                services::report_health(&reporter, ServingStatus::NotServing).await;
            }
        }
    }

    tracing::info!(
        drain_timeout_ms = config.drain_timeout_ms,
        "stopping: no new calls are wanted, those in flight are answered"
    );
    health.set(false);
    services::report_health(&reporter, ServingStatus::NotServing).await;
    stop.send_replace(true);
    let drained = async {
        while let Some(ended) = running.join_next().await {
            if let Ok((name, Err(error))) = ended {
                tracing::error!("{name} could not be served: {error}");
            }
        }
    };
    tokio::select! {
        () = drained => tracing::info!("drained"),
        () = tokio::time::sleep(drain_timeout) => tracing::warn!("stopping with calls still in flight"),
        () = signals.asked_to_stop() => tracing::warn!("stopping at once: asked twice"),
    }
    tokio::select! {
        // Its panics are caught, so it ends.
        _ = tokio::task::spawn_blocking(|| drop(borrowed)) => tracing::info!("stopped"),
        // A disk that hangs must not keep the process for ever.
        () = signals.asked_to_stop() => tracing::error!("stopped before the ledger had everything: unspent units count as lost"),
    }
    ended.map_or(Ok(()), |why| Err(Failure::failed(why)))
}

/// The pages for people.
fn console(
    parts: &Parts,
    config: &Config,
    http_addr: SocketAddr,
    concern: Degraded,
) -> Result<Option<Router>, Failure> {
    if !config.pages.console {
        return Ok(None);
    }
    let pages = console::Parts {
        edits: parts.edits.clone(),
        usage: parts.usage.clone(),
        files: Arc::new(JsonFiles),
        clock: parts.clock.clone(),
        concern,
        access: parts.access.clone(),
        on_loopback: http_addr.ip().to_canonical().is_loopback(),
        over_tls: config.reach.tls.as_ref().is_some_and(|tls| tls.http),
    };
    let console = Console::new(pages, &parts.metrics).map_err(Failure::failed)?;
    Ok(Some(console.router()))
}

/// What is kept and cannot be read, for health.
fn unreadable(catalog: &Catalog) -> Option<String> {
    let mut all =
        catalog.unreadable_resources().map(|(kind, id)| format!("{} `{id}`", kind.word()));
    let first = all.next()?;
    let more = all.count();
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Some(format!(
        "the ledger holds what cannot be read, and refuses what needs it: {first}{more}. Declare it again, or restore a backup"
    ))
}

/// Runs something that must not end before the stop.
fn run_on<E: Display + Send + 'static>(
    running: &mut Running,
    name: &'static str,
    work: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    running.spawn(async move {
        match caught(work).await {
            Ok(Ok(())) => (name, Ok(())),
            Ok(Err(error)) => (name, Err(error.to_string())),
            Err(panicked) => (name, Err(panicked.to_string())),
        }
    });
}

/// What must run has ended. The process goes on for what else runs, and asks to be replaced.
fn fall(ended: Result<(&'static str, Result<(), String>), JoinError>, health: &Health) {
    let why = match ended {
        Ok((name, Ok(()))) => format!("{name} is served no more"),
        Ok((name, Err(error))) => format!("{name} is served no more: {error}"),
        Err(error) => format!("a port is served no more: {error}"),
    };
    tracing::error!("{why}; health says so, and a restart is needed");
    health.fail(why);
}

/// Is the service healthy, as far as it needs rules for that?
fn serving(wanted: &Wanted) -> ServingStatus {
    if wanted.missing().is_none() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

/// Resolves when the process is told to stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process that wants to serve.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Says in the log what is served.
fn served(parts: &Parts, config: &Config) {
    let edition = parts.rulebook.current();
    let catalog = parts.catalog.load();
    tracing::info!(
        tls = config.reach.tls.is_some(),
        tokens = config.reach.tokens_file.is_some(),
        rules = edition.as_ref().map_or(0, |edition| edition.rules.rules().count()),
        plans = catalog.plans().len(),
        subscribers = catalog.subscribers().len(),
        "everything is there",
    );
}

/// The whole path, so that a log tells which of two folders of one name it was.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The one line on standard output. It is for whoever started the process, and no caller depends on
/// it: where it cannot be written, or waits in a pipe that nobody reads, the service goes on.
fn announce(grpc: SocketAddr, http: SocketAddr, more: &[(&str, Option<SocketAddr>)]) {
    let more: String = more
        .iter()
        .filter_map(|(name, address)| address.map(|address| format!(" {name}={address}")))
        .collect();
    let line = format!("tollgate ready grpc={grpc} http={http}{more}\n");
    tracing::info!("{}", line.trim_end());
    let told = std::thread::Builder::new().name("ready".to_owned()).spawn(move || {
        if let Err(failure) = print(&line) {
            tracing::warn!("the ready line is lost: {}", failure.text);
        }
    });
    if let Err(error) = told {
        tracing::warn!("the ready line is lost, the system gives no thread: {error}");
    }
}

fn no_answer(error: JsonError) -> NoAnswer {
    match error {
        JsonError::Request(RateLimitError::Refused(refusal)) => NoAnswer::Refused(refusal),
        error => NoAnswer::Wrong(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn falls(stop_is_wanted: bool) -> Result<(), String> {
        assert!(stop_is_wanted, "the port panicked");
        Err("the port failed".to_owned())
    }

    #[tokio::test]
    async fn what_ends_before_the_stop_shows_in_health_also_when_it_panicked() {
        for (fails, why) in [
            (true, "grpc_addr is served no more: the port failed"),
            (false, "grpc_addr is served no more: it panicked"),
        ] {
            let (health, mut running) = (Health::default(), Running::new());
            assert_eq!(health.failure(), None);
            run_on(&mut running, "grpc_addr", falls(fails));
            fall(running.join_next().await.unwrap(), &health);
            assert_eq!(health.failure().unwrap().as_str(), why);
        }
    }
}
