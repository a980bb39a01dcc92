//! Sheds decisions that come to a core with more work than anyone should wait for.
//!
//! A core answers calls one after the other, in the order in which they came. So a call that comes waits for as many as were let in and have
//! not begun, each for as long as calls take. Only work that was let in counts, and not how long calls really wait: where most are shed they
//! wait for the shedding, and a core that went by that would let in nobody.
//!
//! Nothing has to recover: when no call waits, the next one is let in. Where refusing is too much as well, `unread` closes connections.

mod unread;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderMap, Response};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use self::unread::{Reading, Unread};
use super::budget::{Budget, Holding};
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
    max_unread: Option<Duration>,
    budget: Arc<Budget>,
    cores: Mutex<Vec<Arc<Backlog>>>,
}

impl Overload {
    /// Sheds calls that would wait longer than `max_lag`, and closes connections where calls come to wait for longer than `max_unread` all the
    /// same; for longer than twice `max_lag` in any case. `None`: never; where no call is shed, no connection is closed.
    pub fn new(max_lag: Option<Duration>, max_unread: Option<Duration>) -> Self {
        Self { max_lag, max_unread, budget: Arc::default(), cores: Mutex::default() }
    }

    /// Refuses calls that would have to be kept, where all that are kept hold more than `bytes`.
    #[must_use]
    pub fn holding(self, bytes: u64) -> Self {
        Self { budget: Arc::new(Budget::new(bytes)), ..self }
    }

    /// A core more.
    pub fn core(&self) -> Arc<Backlog> {
        let ns = |time: Option<Duration>| time.map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        // Who lets calls wait for longer does not want connections closed for it.
        let max_unread = self.max_lag.and_then(|lag| Some(self.max_unread?.max(2 * lag)));
        let core = Arc::new(Backlog { budget: self.budget.clone(), ..Backlog::new(ns(self.max_lag), ns(max_unread)) });
        self.cores.lock().push(core.clone());
        core
    }

    /// Calls that were shed since the start.
    pub fn shed(&self) -> u64 {
        self.cores.lock().iter().map(|core| core.shed.load(Ordering::Relaxed)).sum()
    }

    /// Connections that were closed since the start, because calls lay unread for too long.
    pub fn closed(&self) -> u64 {
        self.cores.lock().iter().map(|core| core.closed.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that calls hold that are kept.
    pub fn held(&self) -> u64 {
        self.budget.held()
    }

    /// Calls that were refused since the start, because those that are kept hold too much.
    pub fn refused(&self) -> u64 {
        self.budget.refused()
    }

    /// The longest that a call was to wait, on any core, since this was asked last, in nanoseconds; 0 where no more than a few waited.
    pub fn take_lag_ns(&self) -> u64 {
        self.cores.lock().iter().map(|core| core.longest_ns.swap(0, Ordering::Relaxed)).max().unwrap_or(0)
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
    longest_ns: AtomicU64,
    shed: AtomicU64,
    unread: Unread,
    closed: AtomicU64,
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
    pub(super) fn new(max_lag_ns: u64, max_unread_ns: u64) -> Self {
        let zero = || AtomicU64::new(0);
        let unread = Unread::new(max_unread_ns, max_lag_ns.min(max_unread_ns));
        Self {
            max_lag_ns,
            waiting: zero(),
            smoothed_ns: zero(),
            longest_ns: zero(),
            shed: zero(),
            unread,
            closed: zero(),
            refusal: OnceLock::new(),
            budget: Arc::default(),
        }
    }

    /// A call comes. It is refused where it would have to wait too long, and may be.
    pub(super) fn arrive(&self, may_be_refused: impl FnOnce() -> bool) -> Turn {
        let behind = self.waiting.load(Ordering::Relaxed);
        if behind > FEW {
            let lag_ns = behind.saturating_mul(self.call_ns());
            self.longest_ns.fetch_max(lag_ns, Ordering::Relaxed);
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

    /// The turn of a call came after so long.
    pub(super) fn turn(&self, waited_ns: u64, now_ns: u64) {
        self.unread.turn(waited_ns, now_ns);
    }

    /// The core looks what there is to do.
    pub(super) fn looks(&self, clock: &Clock) {
        self.unread.looks(|| clock.steady_ns());
    }

    /// There is something to do.
    pub(super) fn found(&self, clock: &Clock) {
        self.unread.found(|| clock.steady_ns());
    }

    /// Whether the turns of calls came late of late: then it matters of each when it comes.
    pub(super) fn is_late(&self) -> bool {
        self.unread.matters()
    }

    /// An answer took this long, from its beginning.
    pub(super) fn took(&self, ns: u64) {
        let smoothed_ns = self.smoothed_ns.load(Ordering::Relaxed);
        // One answer, or a pause of the whole machine in one, says little: it counts for no more than two of those before. And a few of its
        // kind may always wait.
        let usual_ns = smoothed_ns / SMOOTHED;
        let ns = ns.min(usual_ns.saturating_mul(2).saturating_add(HTTP2_NS)).min(self.max_lag_ns / FEW);
        self.smoothed_ns.store((smoothed_ns - smoothed_ns / SMOOTHED).saturating_add(ns), Ordering::Relaxed);
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

/// A connection, as the core sees it that has to read it.
#[derive(Debug)]
pub(super) struct Line {
    core: Arc<Backlog>,
    clock: Clock,
    reading: Reading,
    ends: Arc<LineEnds>,
}

/// What those who read a connection and those who answer its calls know together.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    /// Calls that have come, but for those that are spared.
    calls: AtomicU64,
    /// Calls that have begun and are not answered.
    begun: AtomicU64,
    /// It is to be closed, and what has not begun of what it asked for is not answered any more.
    cut: AtomicBool,
    /// The peer has to take something before more can be written.
    writing: AtomicBool,
    /// Nothing more is sent on it.
    over: AtomicBool,
    /// The peer was told so, behind all that was answered.
    told: AtomicBool,
    /// Bytes that came and went, as far as they are counted.
    moved: AtomicU64,
    holding: Holding,
    stopping: OnceLock<watch::Receiver<bool>>,
}

impl LineEnds {
    pub(super) fn holding_of(budget: Arc<Budget>) -> Self {
        Self { holding: Holding::new(budget), ..Self::default() }
    }

    /// What its calls hold.
    pub(super) fn holding(&self) -> &Holding {
        &self.holding
    }

    /// It is told there when the server stops.
    pub(super) fn stops_with(&self, stopping: watch::Receiver<bool>) {
        drop(self.stopping.set(stopping));
    }

    pub(super) fn stopping(&self) -> Option<&watch::Receiver<bool>> {
        self.stopping.get()
    }

    /// A call came, to the one thread that serves the connection.
    pub(super) fn came(&self) {
        self.calls.store(self.calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A call has begun.
    pub(super) fn began(&self) {
        self.begun.store(self.begun.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A call that had begun is answered, or given up.
    pub(super) fn ended(&self) {
        self.begun.store(self.begun.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Bytes came, or went.
    pub(super) fn moves(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.moved.store(self.moved.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }

    /// How many did. If it is the same twice, nothing has moved in between.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Calls have begun and are not answered.
    pub(super) fn is_answering(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Something waits to be written.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    /// Nothing more is to be answered, and all answers are written.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whoever asks for a stream of answers begins each of them by itself.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Begun, Cut> {
        if self.is_cut() {
            return Err(Cut);
        }
        self.began();
        Ok(Begun(self.clone()))
    }

    /// All is written, and the peer was told that it was all.
    pub(super) fn tell(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

impl Line {
    pub(super) fn new(core: Arc<Backlog>, clock: Clock) -> Self {
        let ends = Arc::new(LineEnds::holding_of(core.budget.clone()));
        Self { core, clock, reading: Reading::default(), ends }
    }

    pub(super) fn ends(&self) -> Arc<LineEnds> {
        self.ends.clone()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.ends.is_cut()
    }

    pub(super) fn is_over(&self) -> bool {
        self.ends.is_over()
    }

    /// So much was written, or, `None`, it has to wait.
    pub(super) fn writes(&self, written: Option<usize>) {
        self.ends.writing.store(written.is_none(), Ordering::Relaxed);
        self.ends.moves(written.unwrap_or_default());
    }

    /// The peer was told that nothing more is sent.
    pub(super) fn told(&self) {
        self.ends.tell();
    }

    /// All that had come was read.
    pub(super) fn dry(&mut self) {
        self.reading.dry(&self.core.unread, || self.clock.steady_ns());
    }

    /// So much was read. `false`: the connection is cut, and neither this nor what comes after it is to be looked at.
    pub(super) fn read(&mut self, bytes: usize) -> bool {
        self.ends.moves(bytes);
        let calls = self.ends.calls.load(Ordering::Relaxed);
        if !self.is_cut() && self.reading.read(calls, &self.core.unread, || self.clock.steady_ns()) {
            self.core.closed.fetch_add(1, Ordering::Relaxed);
            self.ends.cut();
        }
        !self.is_cut()
    }
}

/// An answer of a stream that has begun, for as long as it is not there.
#[derive(Debug)]
pub(super) struct Begun(Arc<LineEnds>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Why a connection is closed whose calls lay unread for too long, and what came by it was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed, because the core is further behind than grpc.max_unread_ms; connect and ask again")]
pub(super) struct Cut;

/// Whether it is worth a reading of the clock to know what a call takes.
pub(super) fn is_queue(behind: u64) -> bool {
    behind >= FEW
}

/// Why a decision was not made. It has charged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("overloaded: a decision would wait longer than the {max_lag_ms} ms of grpc.max_lag_ms; ask again later")]
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

/// Decisions may be shed. Reports are not: with one a refund would be lost. Nor is what operators and probes ask.
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
        || (path.starts_with("/grpc.") && (path.ends_with("/Watch") || path.ends_with("/ServerReflectionInfo")))
}

/// Connections are not closed for these, where they make no other calls: reports, and what operators do.
pub(super) fn is_spared(path: &str) -> bool {
    path.starts_with("/tollgate.v1.DecisionService/Report") || path.starts_with("/tollgate.v1.UsagePlanService/")
}

#[cfg(test)]
mod tests;
