//! The admin port: health, metrics, the rules in force, and rate-limit requests in JSON.
//!
//! Strangers may reach it, so it has a thread of its own, and bounds like those of the gRPC port.

mod body;
mod connection;
mod page;
mod port;
mod sender;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use self::body::Bodies;
use self::connection::{Connection, Phase};
use self::page::{Page, PageMaker};
pub use self::port::{Port, Ports};
use self::sender::{Hosts, check_content_type};
use crate::access::{Access, Granted, Peer, Refusal, Scopes};
use crate::config;
use crate::metrics::Metrics;
use crate::rulebook::{Rulebook, Wanted};

/// A body of so many bytes is answered on the thread of the pages; a larger one elsewhere, for it
/// takes a while.
const SMALL_BODY: usize = 16 * 1024;
/// Large ones that are answered at the same time. Others wait.
const LARGE_AT_ONCE: usize = 2;

/// Whether the process wants traffic. Starts as no.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Wants>);

#[derive(Debug, Default)]
struct Wants {
    traffic: AtomicBool,
    failed: ArcSwapOption<String>,
}

impl Health {
    pub fn set(&self, serving: bool) {
        self.0.traffic.store(serving, Ordering::Release);
    }

    pub fn is_serving(&self) -> bool {
        self.0.traffic.load(Ordering::Acquire)
    }

    /// Something of the process has ended that only a restart brings back.
    pub fn fail(&self, why: String) {
        self.0.failed.store(Some(Arc::new(why)));
    }

    /// What that was.
    pub fn failure(&self) -> Option<Arc<String>> {
        self.0.failed.load_full()
    }
}

/// Why a rate-limit request in JSON has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    Refused(Refusal),
    /// The request, or what it meets, is not in order.
    Wrong(String),
}

/// The answer to a rate-limit request in JSON: over its limit or not, and the body; or why there is
/// none.
pub type JsonAnswer = Result<(bool, String), NoAnswer>;

/// Answers `/json` for a caller that may do what is granted; `None`: everything.
pub type JsonAnswerer = Arc<
    dyn Fn(Bytes, Option<Granted>) -> Pin<Box<dyn Future<Output = JsonAnswer> + Send>>
        + Send
        + Sync,
>;

/// Says what does not work although traffic is wanted, in words for an operator. `None`: everything
/// does.
pub type Degraded = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    pub health: Health,
    pub degraded: Degraded,
    pub metrics: Arc<Metrics>,
    pub rulebook: Arc<Rulebook>,
    pub json: JsonAnswerer,
    pub max_body_bytes: usize,
    /// Without these rules the service is not healthy.
    pub wanted: Wanted,
    /// Who may ask `/json` and `/rlconfig`. `None`: everyone. Health and metrics are open in either
    /// case, for probes and scrapers.
    pub access: Option<Arc<Access>>,
    /// The pages for people, which look after sign-in and forms themselves.
    pub console: Option<Router>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("health", &self.health).finish_non_exhaustive()
    }
}

/// What the pages are made from, and what bounds them.
#[derive(Clone)]
struct Pages {
    admin: Admin,
    metrics: Arc<PageMaker>,
    rules: Arc<PageMaker>,
    bodies: Arc<Bodies>,
    large: Arc<Semaphore>,
    hosts: Arc<Hosts>,
}

impl Pages {
    fn new(admin: Admin, settings: &config::Pages) -> Self {
        let (metrics, rulebook) = (admin.metrics.clone(), admin.rulebook.clone());
        metrics.describe_gauge(
            "tollgate_http_body_bytes",
            "Bytes of bodies of /json that are in work, but for the first 64 KiB of each (http.max_body_bytes)",
        );
        let used = metrics.gauge("tollgate_http_body_bytes", &[]);
        Self {
            metrics: PageMaker::new(move || metrics.render()),
            rules: PageMaker::new(move || rulebook.describe()),
            bodies: Arc::new(Bodies::new(
                admin.max_body_bytes,
                settings.max_body_bytes,
                settings.request_timeout,
                used,
            )),
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            hosts: Arc::new(Hosts::new(&settings.allowed_hosts)),
            admin,
        }
    }
}

impl Admin {
    /// All pages.
    pub fn router(self, settings: &config::Pages) -> Router {
        let mut pages = Pages::new(self, settings);
        let console = pages.admin.console.take().unwrap_or_default();
        let whole = middleware::from_fn_with_state(pages.clone(), with_its_whole_body);
        Router::new()
            .merge(console.layer(whole).with_state(()))
            .route("/rlconfig", get(rlconfig))
            .route("/metrics", get(metrics))
            // The reference takes any method here.
            .route("/json", any(json))
            .route_layer(middleware::from_fn_with_state(pages.clone(), by_a_known_name))
            // Probes ask under any name, and learn nothing that a web page could use.
            .route("/", get(index))
            .route("/healthcheck", any(healthcheck))
            .with_state(pages)
    }

    /// The metrics alone.
    pub fn metrics_router(self, path: &str, settings: &config::Pages) -> Router {
        let pages = Pages::new(self, settings);
        let known = middleware::from_fn_with_state(pages.clone(), by_a_known_name);
        Router::new().route(path, get(metrics)).route_layer(known).with_state(pages)
    }

    /// What the debug port of the reference shows: the rules in force, and what there is.
    pub fn debug_router(self, settings: &config::Pages) -> Router {
        let pages = Pages::new(self, settings);
        let known = middleware::from_fn_with_state(pages.clone(), by_a_known_name);
        let index = get(async || "/rlconfig: the rules in force\n");
        Router::new()
            .route("/rlconfig", get(rlconfig))
            .route_layer(known)
            .route("/", index)
            .with_state(pages)
    }
}

/// Refuses what is asked under a name that somebody may have led here.
async fn by_a_known_name(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    match pages.hosts.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(unmeant) => unmeant.into_response(),
    }
}

/// What a form sends is let through when it comes from a page of this server, and all of it is
/// there.
async fn with_its_whole_body(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let Some(connection) = head.extensions.get::<Connection>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    head.extensions.insert(connection.peer.clone());
    if head.method.is_safe() {
        return next.run(Request::from_parts(head, Body::empty())).await;
    }
    if let Err(unmeant) = pages.hosts.check_origin(&head.headers) {
        pages.bodies.throw_away(body);
        return unmeant.into_response();
    }
    connection.activity.is_at(Phase::Body);
    let read = match pages.bodies.read(&head.headers, body).await {
        Ok(read) => read,
        Err(unread) => return unread.into_response(),
    };
    connection.activity.is_at(Phase::Answer);
    let (bytes, taken) = read.into_parts();
    let answer = next.run(Request::from_parts(head, Body::from(bytes))).await;
    drop(taken);
    answer
}

async fn index() -> &'static str {
    "/console/: plans and targets, for people\n/healthcheck: 200 while traffic is wanted; OK, or DEGRADED and why; 503 where only a restart helps\n/json: a RateLimitRequest in JSON, answered\n/metrics: for Prometheus\n/rlconfig: the rules in force\n"
}

async fn healthcheck(State(pages): State<Pages>) -> Response {
    if !pages.admin.health.is_serving() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if let Some(missing) = pages.admin.wanted.missing() {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{missing}\n")).into_response();
    }
    if let Some(why) = pages.admin.health.failure() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("FAILED\n{why}\n")).into_response();
    }
    // Still 200: what does not need the ledger is served, and a restart would not help.
    match (pages.admin.degraded)() {
        None => "OK".into_response(),
        Some(why) => format!("DEGRADED\n{why}\n").into_response(),
    }
}

async fn rlconfig(
    State(pages): State<Pages>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    match granted(&pages.admin, &headers, &connection.peer, Scopes::READ_OR_ADMIN) {
        Ok(_) => sent(pages.rules.ask().await, "text/plain; charset=utf-8"),
        Err(refusal) => refused(&refusal),
    }
}

/// What the caller may do, if that is one of `needs`.
fn granted(
    admin: &Admin,
    headers: &HeaderMap,
    peer: &Peer,
    needs: Scopes,
) -> Result<Option<Granted>, Refusal> {
    let Some(access) = &admin.access else { return Ok(None) };
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    access
        .admit(authorization, peer, needs)
        .map(|scopes| Some(Granted::new(access.clone(), scopes)))
}

fn refused(refusal: &Refusal) -> Response {
    let text = format!("{refusal}\n");
    match refusal {
        Refusal::Missing | Refusal::Unknown => {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response()
        }
        Refusal::Lacking { .. } => (StatusCode::FORBIDDEN, text).into_response(),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    sent(pages.metrics.ask().await, "text/plain; version=0.0.4")
}

fn sent(made: Result<Page, JoinError>, content_type: &'static str) -> Response {
    match made {
        Ok(page) => ([(header::CONTENT_TYPE, content_type)], page.into_body()).into_response(),
        Err(error) => {
            tracing::error!("a page could not be made: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made: see the log\n")
                .into_response()
        }
    }
}

/// What the caller of `/json` may do, or what it is told instead.
fn meant_and_granted(
    pages: &Pages,
    headers: &HeaderMap,
    peer: &Peer,
) -> Result<Option<Granted>, Box<Response>> {
    let meant = pages.hosts.check_origin(headers).and_then(|()| check_content_type(headers));
    meant.map_err(|unmeant| Box::new(unmeant.into_response()))?;
    granted(&pages.admin, headers, peer, Scopes::DECIDE_OR_REPORT)
        .map_err(|refusal| Box::new(refused(&refusal)))
}

/// Who may not ask is told so before the body is read.
async fn json(
    State(pages): State<Pages>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let granted = match meant_and_granted(&pages, &head.headers, &connection.peer) {
        Ok(granted) => granted,
        Err(answer) => {
            pages.bodies.throw_away(body);
            return *answer;
        }
    };
    connection.activity.is_at(Phase::Body);
    let body = match pages.bodies.read(&head.headers, body).await {
        Ok(body) => body,
        Err(unread) => return unread.into_response(),
    };
    connection.activity.is_at(Phase::Answer);
    match answer(&pages, body, granted).await {
        Ok((over_limit, answer)) => {
            let status = if over_limit { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
            (status, [(header::CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err(NoAnswer::Refused(refusal)) => refused(&refusal),
        // The reference says `Bad Request` and nothing else.
        Err(NoAnswer::Wrong(reason)) => {
            (StatusCode::BAD_REQUEST, format!("Bad Request\n{reason}\n")).into_response()
        }
    }
}

async fn answer(pages: &Pages, body: body::Read, granted: Option<Granted>) -> JsonAnswer {
    let answerer = pages.admin.json.clone();
    if body.bytes.len() <= SMALL_BODY {
        return answerer(body.bytes.into(), granted).await;
    }
    let failed = |_| NoAnswer::Wrong("the answer could not be made: see the log".to_owned());
    // It is never closed.
    let permit = pages
        .large
        .clone()
        .acquire_owned()
        .await
        .map_err(|_| NoAnswer::Wrong("the server stops".to_owned()))?;
    let runtime = tokio::runtime::Handle::current();
    let answered = tokio::task::spawn_blocking(move || {
        let (bytes, taken) = body.into_parts();
        let answer = runtime.block_on(answerer(Bytes::from(bytes), granted));
        drop((taken, permit));
        answer
    });
    answered.await.map_err(failed)?
}
