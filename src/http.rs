//! The admin port: health, metrics, the rules in force, and rate-limit requests in JSON.

mod port;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use self::port::Connection;
pub use self::port::serve;
use crate::access::{Access, Granted, Peer, Refusal, Scopes};
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;

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

/// The answer to a rate-limit request in JSON: over its limit or not, and the body; or why there is none.
pub type JsonAnswer = Result<(bool, String), NoAnswer>;

/// Answers `/json` for a caller that may do what is granted; `None`: everything.
pub type JsonAnswerer = Arc<dyn Fn(Bytes, Option<Granted>) -> Pin<Box<dyn Future<Output = JsonAnswer> + Send>> + Send + Sync>;

/// Says what does not work although traffic is wanted, in words for an operator. `None`: everything does.
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
    /// Who may ask `/json` and `/rlconfig`. `None`: everyone. Health and metrics are open in either case, for probes and scrapers.
    pub access: Option<Arc<Access>>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("health", &self.health).finish_non_exhaustive()
    }
}

impl Admin {
    /// All pages.
    pub fn router(self) -> Router {
        let body = DefaultBodyLimit::max(self.max_body_bytes);
        Router::new()
            .route("/", get(index))
            .route("/healthcheck", get(healthcheck))
            .route("/rlconfig", get(rlconfig))
            .route("/metrics", get(metrics))
            // The reference takes any method here.
            .route("/json", any(json))
            .layer(body)
            .with_state(self)
    }

    /// `/metrics` alone.
    pub fn metrics_router(self) -> Router {
        Router::new().route("/metrics", get(metrics)).with_state(self)
    }
}

async fn index() -> &'static str {
    "/healthcheck: 200 while traffic is wanted; OK, or DEGRADED and why; 503 where only a restart helps\n/json: a RateLimitRequest in JSON, answered\n/metrics: for Prometheus\n/rlconfig: the rules in force\n"
}

async fn healthcheck(State(admin): State<Admin>) -> Response {
    if !admin.health.is_serving() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if let Some(why) = admin.health.failure() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("FAILED\n{why}\n")).into_response();
    }
    // Still 200: what does not need the ledger is served, and a restart would not help.
    match (admin.degraded)() {
        None => "OK".into_response(),
        Some(why) => format!("DEGRADED\n{why}\n").into_response(),
    }
}

async fn rlconfig(State(admin): State<Admin>, ConnectInfo(connection): ConnectInfo<Connection>, headers: HeaderMap) -> Response {
    match granted(&admin, &headers, &connection.peer, Scopes::READ_OR_ADMIN) {
        Ok(_) => admin.rulebook.describe().into_response(),
        Err(refusal) => refused(&refusal),
    }
}

/// What the caller may do, if that is one of `needs`.
fn granted(admin: &Admin, headers: &HeaderMap, peer: &Peer, needs: Scopes) -> Result<Option<Granted>, Refusal> {
    let Some(access) = &admin.access else { return Ok(None) };
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    access.admit(authorization, peer, needs).map(|scopes| Some(Granted::new(access.clone(), scopes)))
}

fn refused(refusal: &Refusal) -> Response {
    let text = format!("{refusal}\n");
    match refusal {
        Refusal::Missing | Refusal::Unknown => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response(),
        Refusal::Lacking { .. } => (StatusCode::FORBIDDEN, text).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render()).into_response()
}

async fn json(State(admin): State<Admin>, ConnectInfo(connection): ConnectInfo<Connection>, headers: HeaderMap, body: Bytes) -> Response {
    let granted = match granted(&admin, &headers, &connection.peer, Scopes::DECIDE_OR_REPORT) {
        Ok(granted) => granted,
        Err(refusal) => return refused(&refusal),
    };
    match (admin.json)(body, granted).await {
        Ok((over_limit, answer)) => {
            let status = if over_limit { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
            (status, [(header::CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err(NoAnswer::Refused(refusal)) => refused(&refusal),
        // The reference says `Bad Request` and nothing else.
        Err(NoAnswer::Wrong(reason)) => (StatusCode::BAD_REQUEST, format!("Bad Request\n{reason}\n")).into_response(),
    }
}
