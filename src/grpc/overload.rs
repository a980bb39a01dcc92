//! Sheds decisions that come to a core with more work than anyone should wait for.
//!
//! A core answers calls one after the other, in the order in which they came. So a call that comes
//! waits for as many as were let in and have not begun, each for as long as calls take. Only work
//! that was let in counts, and not how long calls really wait: where most are shed they wait for
//! the shedding, and a core that went by that would let in nobody.
//!
//! Nothing has to recover: when no call waits, the next one is let in. Far beyond what a core can
//! answer, refusing takes all of its time: then calls wait in their sockets, unread, for longer than
//! any bound, until callers give up or ask elsewhere.

mod connection;
mod control;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderMap, Response};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;

pub(super) use self::connection::{Calmed, ConnectionState, ConnectionWatch};
pub(super) use self::control::CALM;
use super::budget::Budget;
use crate::clock::Clock;

/// What HTTP/2 takes for a call beside its answer, which alone is measured.
const HTTP2_NS: u64 = 5_000;
/// While no more than this wait, nobody is shed, and nobody reads a clock for it.
const FEW: u64 = 16;
/// What a call takes is smoothed over about so many.
const SMOOTHED: u64 = 32;

/// The backlogs of all cores.
#[derive(Debug)]
pub struct Overload {
    max_lag: Option<Duration>,
    budget: Arc<Budget>,
    control_per_second: u64,
    cores: Mutex<Vec<Arc<Backlog>>>,
}

impl Overload {
    /// Sheds calls that would wait longer than `max_lag`. `None`: sheds none.
    pub fn new(max_lag: Option<Duration>) -> Self {
        Self { max_lag, budget: Arc::default(), control_per_second: 0, cores: Mutex::default() }
    }

    /// Refuses calls that would have to be kept, where all that are kept hold more than `bytes`.
    #[must_use]
    pub fn holding(self, bytes: u64) -> Self {
        Self { budget: Arc::new(Budget::new(bytes)), ..self }
    }

    /// Closes connections that send more frames a second that belong to no call than these, beside
    /// those that their calls allow. 0: never.
    #[must_use]
    pub fn calming(self, control_per_second: u64) -> Self {
        Self { control_per_second, ..self }
    }

    /// A core more.
    pub fn core(&self) -> Arc<Backlog> {
        let max_lag_ns = self
            .max_lag
            .map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let core = Arc::new(Backlog {
            budget: self.budget.clone(),
            control_per_second: self.control_per_second,
            ..Backlog::new(max_lag_ns)
        });
        self.cores.lock().push(core.clone());
        core
    }

    /// Calls that were shed since the start.
    pub fn shed(&self) -> u64 {
        self.cores.lock().iter().map(|core| core.shed.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that calls hold that are kept.
    pub fn held(&self) -> u64 {
        self.budget.held()
    }

    /// Calls that were refused since the start, because those that are kept hold too much.
    pub fn refused(&self) -> u64 {
        self.budget.refused()
    }

    /// Connections that were closed since the start, because they sent too many frames that belong
    /// to no call.
    pub fn calmed(&self) -> u64 {
        self.cores.lock().iter().map(|core| core.calmed.load(Ordering::Relaxed)).sum()
    }

    /// How late turns came at most, on any core, since this was asked last, in nanoseconds:
    /// measured, whatever it was that kept the core.
    pub fn take_lag_ns(&self, now_ns: u64) -> u64 {
        self.cores.lock().iter().map(|core| core.pulse.take_ns(now_ns)).max().unwrap_or(0)
    }
}

/// The calls that wait for one core. It is used by that core alone, and shown to others.
#[derive(Debug)]
#[repr(align(64))]
pub struct Backlog {
    max_lag_ns: u64,
    /// Calls that were let in and have not begun.
    waiting: AtomicU64,
    /// [`SMOOTHED`] times what an answer takes.
    smoothed_ns: AtomicU64,
    pulse: Pulse,
    shed: AtomicU64,
    control_per_second: u64,
    calmed: AtomicU64,
    /// What calls that are shed are answered.
    refusal: OnceLock<HeaderMap>,
    budget: Arc<Budget>,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was let in behind so many, and waits.
    Waits { behind: u64 },
    /// It is not let in.
    Refused,
}

impl Backlog {
    pub(super) fn new(max_lag_ns: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            max_lag_ns,
            waiting: zero(),
            smoothed_ns: zero(),
            pulse: Pulse::default(),
            shed: zero(),
            control_per_second: 0,
            calmed: zero(),
            refusal: OnceLock::new(),
            budget: Arc::default(),
        }
    }

    /// A call comes. It is refused where it would have to wait too long, and may be.
    pub(super) fn arrive(&self, may_be_refused: impl FnOnce() -> bool) -> Turn {
        let behind = self.waiting.load(Ordering::Relaxed);
        if behind > FEW {
            let lag_ns = behind.saturating_mul(self.call_ns());
            if lag_ns > self.max_lag_ns && may_be_refused() {
                return Turn::Refused;
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Turn::Waits { behind }
    }

    /// A call that was let in begins, or is given up.
    pub(super) fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Measures how late turns come on this core, for ever.
    pub(super) async fn measure(&self, clock: &Clock) {
        loop {
            self.pulse.begin(clock.steady_ns());
            tokio::time::sleep(PULSE).await;
            self.pulse.end(clock.steady_ns());
        }
    }

    /// An answer took this long, from its beginning.
    pub(super) fn took(&self, ns: u64) {
        let smoothed_ns = self.smoothed_ns.load(Ordering::Relaxed);
        // One answer, or a pause of the whole machine in one, says little: it counts for no more
        // than two of those before. And a few of its kind may always wait.
        let usual_ns = smoothed_ns / SMOOTHED;
        let ns =
            ns.min(usual_ns.saturating_mul(2).saturating_add(HTTP2_NS)).min(self.max_lag_ns / FEW);
        self.smoothed_ns
            .store((smoothed_ns - smoothed_ns / SMOOTHED).saturating_add(ns), Ordering::Relaxed);
    }

    /// An answer took no longer than this: what was learned of dearer calls is forgotten.
    pub(super) fn took_at_most(&self, ns: u64) {
        if ns.saturating_mul(SMOOTHED) < self.smoothed_ns.load(Ordering::Relaxed) {
            self.took(ns);
        }
    }

    fn call_ns(&self) -> u64 {
        HTTP2_NS + self.smoothed_ns.load(Ordering::Relaxed) / SMOOTHED
    }
}

/// How often it is looked how late turns come. It takes a core a thousandth of its time.
const PULSE: Duration = Duration::from_millis(10);
/// A timer of the runtime may be this late by itself.
const TIMER_NS: u64 = 2_000_000;

/// How late turns come: something that is to happen every [`PULSE`] has its turn behind all that
/// the core has to do.
#[derive(Debug, Default)]
struct Pulse {
    /// When the next turn is to come. 0: nobody measures.
    due_ns: AtomicU64,
    latest_ns: AtomicU64,
}

impl Pulse {
    fn begin(&self, now_ns: u64) {
        let due_ns = now_ns
            .saturating_add(u64::try_from(PULSE.as_nanos()).unwrap_or(u64::MAX))
            .saturating_add(TIMER_NS);
        self.due_ns.store(due_ns, Ordering::Relaxed);
    }

    fn end(&self, now_ns: u64) {
        self.latest_ns.fetch_max(
            now_ns.saturating_sub(self.due_ns.load(Ordering::Relaxed)),
            Ordering::Relaxed,
        );
    }

    /// The latest since this was asked last, or the one that has not come yet.
    fn take_ns(&self, now_ns: u64) -> u64 {
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        let waits_ns = if due_ns == 0 { 0 } else { now_ns.saturating_sub(due_ns) };
        self.latest_ns.swap(0, Ordering::Relaxed).max(waits_ns)
    }
}

/// Whether it is worth a reading of the clock to know what a call takes.
pub(super) fn is_queue(behind: u64) -> bool {
    behind >= FEW
}

/// Why a decision was not made. It has charged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "overloaded: a decision would wait longer than the {max_lag_ms} ms of grpc.max_lag_ms; ask again later"
)]
pub(super) struct Shed {
    max_lag_ms: u64,
}

/// Goes with a call that was not let in.
#[derive(Clone, Debug)]
pub(super) struct Overloaded(pub(super) Arc<Backlog>);

impl Overloaded {
    /// Sheds the call: its answer.
    pub(super) fn shed(&self) -> Response<Body> {
        self.0.shed.fetch_add(1, Ordering::Relaxed);
        // Written once: what is refused should cost little.
        let headers = self.0.refusal.get_or_init(|| {
            let shed = Shed { max_lag_ms: self.0.max_lag_ns / 1_000_000 };
            Status::from(shed).into_http::<Body>().headers().clone()
        });
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = headers.clone();
        response
    }
}

/// What may become of a call on a core that has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sheds {
    Never,
    AtOnce,
    /// Its message says whether it is a decision or a report.
    ByMessage,
}

/// Decisions may be shed. Reports are not: with one a refund would be lost. Nor is what operators
/// and probes ask.
pub(super) fn sheds(path: &str) -> Sheds {
    match path {
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" => Sheds::ByMessage,
        "/envoy.service.auth.v3.Authorization/Check"
        | "/tollgate.v1.DecisionService/Check"
        | "/tollgate.v1.DecisionService/CheckStream" => Sheds::AtOnce,
        _ => Sheds::Never,
    }
}

/// Calls whose messages are answered each by itself, or that are answered more than once.
pub(super) fn is_stream(path: &str) -> bool {
    (path.ends_with("Stream") && path.starts_with("/tollgate.v1.DecisionService/"))
        || (path.starts_with("/grpc.")
            && (path.ends_with("/Watch") || path.ends_with("/ServerReflectionInfo")))
}

#[cfg(test)]
mod tests;
