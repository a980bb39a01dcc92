//! Counts calls by method, how long they take, and what was refused as input, around every service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderMap, Request, Response};
use dashmap::DashMap;
use metrics::{Counter, Histogram};
use tonic::Code;
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::metrics::Metrics;

/// Methods that get series of their own. A caller can ask for any path.
const MAX_METHODS: usize = 100;

/// Wraps services to observe their calls.
#[derive(Clone, Debug)]
pub struct Observe {
    metrics: Arc<Metrics>,
    clock: Clock,
    methods: Arc<DashMap<String, Method>>,
}

#[derive(Clone)]
struct Method {
    total: Counter,
    seconds: Histogram,
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Method")
    }
}

impl Observe {
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        metrics.describe_counter("ratelimit_service_total_requests", "Calls, by method");
        metrics.describe_counter("tollgate_rejected_calls", "Calls that ended in an error, by gRPC code");
        Self { metrics, clock, methods: Arc::new(DashMap::new()) }
    }

    fn method(&self, path: &str) -> Method {
        if let Some(known) = self.methods.get(path) {
            return known.clone();
        }
        let path = if self.methods.len() < MAX_METHODS { path } else { "other" };
        let name = path.rsplit('/').next().unwrap_or(path);
        let made = Method {
            total: self.metrics.counter("ratelimit_service_total_requests", &[("grpc_method", name)]),
            seconds: self.metrics.histogram("ratelimit_service_response_time_seconds", &[("grpc_method", name)]),
        };
        self.methods.entry(path.to_owned()).or_insert(made).clone()
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, observe: self.clone() }
    }
}

/// A service whose calls are observed.
#[derive(Clone, Debug)]
pub struct Observed<S> {
    inner: S,
    observe: Observe,
}

impl<S, Q, A> Service<Request<Q>> for Observed<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let start_ns = self.observe.clock.now().steady_ns;
        let observe = self.observe.clone();
        let method = observe.method(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            method.total.increment(1);
            let taken_ns = observe.clock.now().steady_ns.saturating_sub(start_ns);
            method.seconds.record(std::time::Duration::from_nanos(taken_ns).as_secs_f64());
            if let Some(code) = answer.as_ref().ok().and_then(|answer| error_code(answer.headers())) {
                observe.metrics.counter("tollgate_rejected_calls", &[("code", &format!("{code:?}"))]).increment(1);
            }
            answer
        })
    }
}

/// The code of a call that failed before it answered anything: it then stands in the headers.
fn error_code(headers: &HeaderMap) -> Option<Code> {
    let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
    (code != Code::Ok).then_some(code)
}
