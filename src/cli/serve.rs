//! `tollgate serve`: the composition root. Resolves the settings, wires the parts, binds, serves, drains.

mod housekeeping;
mod listen;
mod parts;
mod services;
mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic_health::ServingStatus;
use tracing_subscriber::EnvFilter;

use self::housekeeping::Stalled;
use self::listen::Listeners;
use self::parts::Parts;
pub(super) use self::parts::unopened;
use self::signals::StopSignals;
use super::Failure;
use crate::config::{Config, Flags, GrpcServer, LogFormat};
use crate::grpc::ratelimit::{JsonError, RateLimitError};
use crate::grpc::server::Server;
use crate::http::{Admin, Health, NoAnswer};

/// How long a start waits for the first leases. Those that come later are of use all the same.
const WARM_AT_MOST: Duration = Duration::from_secs(2);

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
}

impl Args {
    fn flags(self) -> Flags {
        let rules = (!self.rules.is_empty()).then(|| self.rules.join(","));
        let given = [
            ("grpc_addr", self.grpc_addr),
            ("admin_grpc_addr", self.admin_grpc_addr),
            ("http_addr", self.http_addr),
            ("data_dir", self.data_dir),
            ("rules", rules),
            ("auth.tokens_file", self.tokens_file),
            ("insecure", self.insecure.then(|| "true".to_owned())),
        ];
        Flags { file: self.config, settings: given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect() }
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = Config::resolve(&args.flags(), &|name| std::env::var(name).ok()).map_err(Failure::unusable)?;
    start_log(&config);
    // Calls have threads of their own: here are the pages, what has to happen now and then, and new connections.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    let served = runtime.block_on(serve(config));
    // Whatever still runs after the drain time-out is not waited for.
    runtime.shutdown_background();
    served
}

fn start_log(config: &Config) {
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_default();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    signals::outlive_file_size_limits().map_err(Failure::failed)?;
    let mut parts = Parts::assemble(&config)?;
    parts.desk.draw(std::mem::take(&mut parts.warm), WARM_AT_MOST).await;
    for warning in config.reach.warnings() {
        tracing::warn!("{warning}");
    }
    let services = services::services(&parts, &config)?;
    let reporter = services.reporter;
    let listeners = Listeners::bind(&config.reach).await.map_err(Failure::failed)?;
    let bound = |listener: &TcpListener| listener.local_addr().map_err(Failure::failed);
    let (grpc_addr, http_addr) = (bound(&listeners.grpc)?, bound(&listeners.http)?);
    let admin_grpc_addr = listeners.admin_grpc.as_ref().map(bound).transpose()?;

    let health = Health::default();
    let (limiter, ledger) = (parts.limiter.clone(), parts.ledger.clone());
    let stalled = Stalled::default();
    let slow = stalled.clone();
    let admin = Admin {
        health: health.clone(),
        degraded: Arc::new(move || ledger.status().failing.map(|error| error.to_string()).or_else(|| slow.says())),
        metrics: parts.metrics.clone(),
        rulebook: parts.rulebook.clone(),
        json: Arc::new(move |body, granted| {
            let limiter = limiter.clone();
            Box::pin(async move { limiter.answer_json(&body, granted.as_ref()).await.map_err(no_answer) })
        }),
        max_body_bytes: config.grpc.max_message_bytes,
        access: parts.access.clone(),
    };
    let (stop, stopping) = watch::channel(false);
    housekeeping::start(&parts, config.reach.files_poll_ms, &stalled, &stopping);
    let pages_tls = parts.tls.clone().filter(|_| config.reach.tls.as_ref().is_some_and(|tls| tls.http));
    let mut pages = JoinSet::new();
    if let Some(listener) = listeners.metrics {
        pages.spawn(listen::serve_pages(listener, pages_tls.clone(), admin.clone().metrics_router(), stopping.clone()));
    }
    pages.spawn(listen::serve_pages(listeners.http, pages_tls, admin.router(), stopping.clone()));
    services::report_health(&reporter, ServingStatus::Serving).await;
    let serve = |settings, listener: TcpListener, services| {
        let server = Server::new(settings).tls(parts.tls.clone()).metered(&parts.metrics);
        Ok(tokio::spawn(server.serve(listener.into_std().map_err(Failure::failed)?, services, stopping.clone())))
    };
    let mut grpc = vec![serve(config.grpc_server, listeners.grpc, services.grpc)?];
    if let (Some(listener), Some(services)) = (listeners.admin_grpc, services.admin) {
        grpc.push(serve(GrpcServer { workers: 1, ..config.grpc_server }, listener, services)?);
    }

    // Before the announcement: whoever reads it may ask to stop at once.
    let mut signals = StopSignals::listen().map_err(Failure::failed)?;
    health.set(true);
    announce(grpc_addr, http_addr, admin_grpc_addr);
    signals.asked_to_stop().await;

    tracing::info!(drain_timeout_ms = config.drain_timeout_ms, "stopping: no new calls are wanted, those in flight are answered");
    health.set(false);
    services::report_health(&reporter, ServingStatus::NotServing).await;
    stop.send_replace(true);
    let drained = async {
        for grpc in grpc {
            if let Ok(Err(error)) = grpc.await {
                tracing::error!("gRPC could not be served: {error}");
            }
        }
        pages.join_all().await;
    };
    tokio::select! {
        () = drained => tracing::info!("drained"),
        () = tokio::time::sleep(Duration::from_millis(config.drain_timeout_ms)) => tracing::warn!("stopping with calls still in flight"),
        () = signals.asked_to_stop() => tracing::warn!("stopping at once: asked twice"),
    }
    // The engine lets go of them first, so that nothing which still runs can spend them: a clean stop wastes nothing.
    let put_away = tokio::task::spawn_blocking(move || put_away(&parts)).await;
    if let Err(error) = put_away {
        tracing::error!("stopped; unspent units were not handed back, or the windows of rules and the statistics not written: {error}");
    }
    Ok(())
}

/// Leaves the ledger as the next start should find it. Blocks on it.
fn put_away(parts: &Parts) {
    for desk in [&parts.desk, &parts.durable_desk] {
        if let Err(error) = desk.put_away() {
            tracing::warn!("unspent units were not handed back, and count as lost: {error}");
        }
    }
    if let Err(error) = parts.windows.write() {
        tracing::warn!("the last hits on the windows of rules were not written: {error}");
    }
    if let Err(error) = parts.desk.write_behind() {
        tracing::warn!("statistics of the last second were not written: {error}");
    }
    tracing::info!("stopped");
}

/// Resolves when the process is told to stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process that wants to serve.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// The one line on standard output.
#[allow(clippy::print_stdout)]
fn announce(grpc: SocketAddr, http: SocketAddr, admin_grpc: Option<SocketAddr>) {
    let admin_grpc = admin_grpc.map(|address| format!(" admin_grpc={address}")).unwrap_or_default();
    println!("tollgate ready grpc={grpc} http={http}{admin_grpc}");
}

fn no_answer(error: JsonError) -> NoAnswer {
    match error {
        JsonError::Request(RateLimitError::Refused(refusal)) => NoAnswer::Refused(refusal),
        error => NoAnswer::Wrong(error.to_string()),
    }
}
