//! Counts calls by method, how long they take, how many wait, and what was refused as input, around
//! every service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::http::{HeaderMap, Response};
use metrics::Counter;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::SERVED_DESCRIPTORS;
use super::deadline::Arrived;
use super::overload::{
    Backlog, ConnectionState, ConnectionWatch, Overloaded, Sheds, Turn, is_queue, sheds,
};
use crate::clock::Clock;
use crate::metrics::{CallTimes, Metrics};

/// Observes the calls of one thread: threads that share no counter do not wait for each other.
pub struct Observe {
    metrics: Arc<Metrics>,
    clock: Clock,
    /// The busiest first.
    methods: Vec<Method>,
    /// A caller can ask for any path.
    other: Arc<CallTimes>,
    /// By code: where most calls are refused, looking it up takes longer than refusing.
    rejected: [OnceLock<Counter>; CODES],
    backlog: Arc<Backlog>,
}

/// A method that is served.
struct Method {
    path: String,
    times: Arc<CallTimes>,
    /// It may be shed.
    decides: bool,
}

/// `Ok` to `Unauthenticated`.
const CODES: usize = 17;

impl Observe {
    pub fn new(metrics: Arc<Metrics>, clock: Clock, backlog: Arc<Backlog>) -> Self {
        metrics.describe_counter(
            "tollgate_rejected_calls",
            "Calls that ended in an error, by gRPC code",
        );
        let method = |path: String| {
            let times = metrics.calls(path.rsplit('/').next().unwrap_or_default());
            Method { times, decides: sheds(&path) != Sheds::Never, path }
        };
        let methods = served_paths().into_iter().map(method).collect();
        Self {
            methods,
            other: metrics.calls("other"),
            rejected: [const { OnceLock::new() }; CODES],
            metrics,
            clock,
            backlog,
        }
    }

    /// The calls that wait for the core, and the clock that they are timed by.
    pub(super) fn backlog(&self) -> (Arc<Backlog>, Clock) {
        (self.backlog.clone(), self.clock.clone())
    }

    /// A connection to the core.
    pub(super) fn watch(&self) -> ConnectionWatch {
        ConnectionWatch::new(self.backlog.clone(), self.clock.clone())
    }

    /// A call that starts now.
    pub(super) fn begin(self: &Arc<Self>, path: &str, connection: &Arc<ConnectionState>) -> Call {
        let method = self.methods.iter().position(|known| known.path == path);
        let decides =
            method.and_then(|method| self.methods.get(method)).is_some_and(|method| method.decides);
        let turn = self.backlog.arrive(|| decides);
        Call {
            observe: self.clone(),
            method,
            start_ns: self.clock.steady_ns(),
            turn,
            began: false,
            connection: connection.clone(),
        }
    }

    /// `began_ns` where it was answered as soon as it began.
    fn end(&self, call: &Call, began_ns: Option<u64>, headers: &HeaderMap) {
        let times = call
            .method
            .and_then(|method| self.methods.get(method))
            .map_or(&self.other, |method| &method.times);
        let end_ns = self.clock.steady_ns();
        times.record(end_ns.saturating_sub(call.start_ns));
        match (call.turn, began_ns) {
            (Turn::Waits { behind }, Some(began_ns)) if is_queue(behind) => {
                self.backlog.took(end_ns.saturating_sub(began_ns))
            }
            (Turn::Waits { behind: 0 }, Some(began_ns)) => {
                self.backlog.took_at_most(end_ns.saturating_sub(began_ns))
            }
            _ => {}
        }
        if let Some(code) = error_code(headers) {
            self.reject(code);
        }
    }

    fn reject(&self, code: Code) {
        let counter =
            || self.metrics.counter("tollgate_rejected_calls", &[("code", &format!("{code:?}"))]);
        let known = usize::try_from(i32::from(code)).ok().and_then(|code| self.rejected.get(code));
        match known {
            Some(known) => known.get_or_init(counter).increment(1),
            None => counter().increment(1),
        }
    }
}

/// `/service/method` of every method that is served.
pub(super) fn served_paths() -> Vec<String> {
    let mut paths = Vec::new();
    // They are part of the program: what cannot be decoded would fail every test.
    for file in SERVED_DESCRIPTORS
        .into_iter()
        .filter_map(|set| FileDescriptorSet::decode(set).ok())
        .flat_map(|set| set.file)
    {
        for service in &file.service {
            paths.extend(
                service.method.iter().map(|method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                }),
            );
        }
    }
    paths
}

/// A call that is observed.
pub(super) struct Call {
    observe: Arc<Observe>,
    /// `None`: it asks for something that is not served.
    method: Option<usize>,
    start_ns: u64,
    turn: Turn,
    /// It was looked at.
    began: bool,
    /// Its connection.
    connection: Arc<ConnectionState>,
}

impl Call {
    /// `Some`: it was not let in, because the core has too much to do.
    pub(super) fn overloaded(&self) -> Option<Overloaded> {
        (self.turn == Turn::Refused).then(|| Overloaded(self.observe.backlog.clone()))
    }

    /// It was let in and has not begun.
    fn waits(&self) -> bool {
        !self.began && self.turn != Turn::Refused
    }

    /// It is looked at. When that was, for the first time; without a queue in front of it that is
    /// when it came. Of one that was not let in that is not known: it may be a report, which is
    /// taken all the same.
    fn begin(&mut self) -> Option<u64> {
        let waits = self.waits();
        if !std::mem::replace(&mut self.began, true) {
            self.connection.began();
        }
        if !waits {
            return None;
        }
        let Observe { backlog, clock, .. } = &*self.observe;
        backlog.leave();
        let queued = matches!(self.turn, Turn::Waits { behind } if is_queue(behind));
        Some(if queued { clock.steady_ns() } else { self.start_ns })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.waits() {
            self.observe.backlog.leave();
        }
        if self.began {
            self.connection.ended();
        }
    }
}

/// A call's answer, which is counted when it is there.
#[allow(missing_debug_implementations)]
pub struct Observed<F> {
    answer: F,
    call: Option<Call>,
}

impl<F> Observed<F> {
    pub(super) fn new(answer: F, call: Option<Call>) -> Self {
        Self { answer, call }
    }
}

impl<F: Future<Output = Result<Response<A>, E>> + Unpin, A, E> Future for Observed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began_ns = self.call.as_mut().and_then(Call::begin);
        let _arrived = self.call.as_ref().map(|call| Arrived::at(call.start_ns));
        let answered = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        if let (Some(call), Ok(answer)) = (self.call.take(), &answered) {
            call.observe.end(&call, began_ns, answer.headers());
        }
        Poll::Ready(answered)
    }
}

/// The code of a call that failed before it answered anything: it then stands in the headers.
fn error_code(headers: &HeaderMap) -> Option<Code> {
    // There is hardly more than one: looking through them costs less than a hash.
    let (_, status) = headers.iter().find(|(name, _)| name.as_str() == "grpc-status")?;
    let code = Code::from_bytes(status.as_bytes());
    (code != Code::Ok).then_some(code)
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").field("methods", &self.methods.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::overload::Overload;

    #[test]
    fn every_service_is_known_by_its_methods() {
        let paths = served_paths();
        assert_eq!(
            paths[..2].iter().filter(|path| path.starts_with("/envoy.service.")).count(),
            2,
            "{paths:?}"
        );
        for path in [
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            "/envoy.service.auth.v3.Authorization/Check",
            "/tollgate.v1.DecisionService/CheckStream",
            "/tollgate.v1.UsagePlanService/GetUsage",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(paths.iter().any(|known| known == path), "{path}");
        }
    }

    #[test]
    fn a_call_is_counted_when_it_is_answered_and_what_is_not_served_as_other() {
        let metrics = Arc::new(Metrics::new());
        let observe =
            Arc::new(Observe::new(metrics.clone(), Clock::system(), Overload::new(None).core()));
        let connection = Arc::default();
        for path in [
            "/tollgate.v1.DecisionService/Check",
            "/envoy.service.auth.v3.Authorization/Check",
            "/no/such",
        ] {
            observe.end(&observe.begin(path, &connection), None, &HeaderMap::new());
        }
        drop(observe.begin("/tollgate.v1.DecisionService/Check", &connection));
        let text = metrics.render();
        assert!(
            text.contains("ratelimit_service_total_requests{grpc_method=\"Check\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("ratelimit_service_total_requests{grpc_method=\"other\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("ratelimit_service_response_time_seconds_bucket{grpc_method=\"Check\",le=\"+Inf\"} 2\n"), "{text}");
        assert!(!text.contains("tollgate_rejected_calls{"), "{text}");
    }

    #[test]
    fn the_time_of_a_call_runs_from_when_it_came_and_not_from_when_its_turn_comes() {
        let now = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let told = now.clone();
        let clock = Clock::from_fn(move || crate::decide::time::Now {
            unix_ns: 1,
            steady_ns: told.load(std::sync::atomic::Ordering::Relaxed),
        });
        let observe = Arc::new(Observe::new(
            Arc::new(Metrics::new()),
            clock.clone(),
            Overload::new(None).core(),
        ));
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", "20m".parse().unwrap());
        let call = observe.begin("/tollgate.v1.DecisionService/Check", &Arc::default());
        now.store(20_000_001, std::sync::atomic::Ordering::Relaxed);
        let over =
            || crate::grpc::deadline::Deadline::of(&headers, &clock).time_left(&clock).is_err();
        let answer = std::future::poll_fn(|_| {
            Poll::Ready(Ok::<_, std::convert::Infallible>(Response::new(over())))
        });
        let answered = Pin::new(&mut Observed::new(answer, Some(call)))
            .poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(matches!(answered, Poll::Ready(Ok(response)) if *response.body()));
        assert!(!over(), "outside of it nothing has come");
    }

    #[test]
    fn a_connection_is_answering_from_when_a_call_begins_to_when_it_is_answered_or_given_up() {
        let observe = Arc::new(Observe::new(
            Arc::new(Metrics::new()),
            Clock::system(),
            Overload::new(None).core(),
        ));
        let mut context = Context::from_waker(std::task::Waker::noop());
        for answered in [true, false] {
            let connection: Arc<ConnectionState> = Arc::default();
            let call = observe.begin("/tollgate.v1.DecisionService/Check", &connection);
            let mut polls = 0;
            let mut call = Observed::new(
                std::future::poll_fn(|_| {
                    polls += 1;
                    if polls < 2 {
                        Poll::Pending
                    } else {
                        Poll::Ready(Ok::<_, std::convert::Infallible>(Response::new(())))
                    }
                }),
                Some(call),
            );
            assert!(!connection.is_answering(), "it waits");
            assert!(
                Pin::new(&mut call).poll(&mut context).is_pending() && connection.is_answering()
            );
            if answered {
                assert!(Pin::new(&mut call).poll(&mut context).is_ready());
            } else {
                drop(call);
            }
            assert!(!connection.is_answering());
        }
    }
}
