//! What the threads of the load generator share, and the connections of one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use super::job::{Job, Script};
use super::keys::{Random, Skew};
use super::tally::Tally;
use crate::clock::Clock;

/// What all threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) job: Job,
    pub(super) script: Script,
    pub(super) clock: Clock,
    pub(super) moments: Moments,
    /// How many of the calls that were asked for have not begun.
    left: AtomicU64,
    stop: AtomicBool,
    /// Verdicts so far, those of the warm-up as well.
    pub(super) decisions: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// The moments of a run, on the steady clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) start_ns: u64,
    /// The end of the warm-up.
    pub(super) measure_ns: u64,
    /// No call begins any more.
    pub(super) stop_ns: u64,
}

impl Shared {
    pub(super) fn new(job: Job, clock: Clock) -> Self {
        let start_ns = clock.now().steady_ns;
        let measure_ns = start_ns.saturating_add(job.warm_up_ns);
        let moments =
            Moments { start_ns, measure_ns, stop_ns: measure_ns.saturating_add(job.duration_ns) };
        let left = AtomicU64::new(job.requests.unwrap_or(u64::MAX));
        let script = job.script();
        Self {
            job,
            script,
            clock,
            moments,
            left,
            stop: AtomicBool::new(false),
            decisions: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Begins no further call.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Takes one of the calls that are asked for: may it begin at this moment?
    pub(super) fn draw(&self, at_ns: u64) -> bool {
        if self.is_closed(at_ns) {
            return false;
        }
        if self.job.requests.is_none() || !self.is_measured(at_ns) {
            return true;
        }
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    /// The time is over: what has not begun never will.
    pub(super) fn is_closed(&self, now_ns: u64) -> bool {
        now_ns >= self.moments.stop_ns || self.stop.load(Ordering::Relaxed)
    }

    /// No further call can be drawn.
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        self.is_closed(now_ns) || self.left.load(Ordering::Relaxed) == 0
    }

    /// Does a call that begins at this moment count?
    pub(super) fn is_measured(&self, start_ns: u64) -> bool {
        start_ns >= self.moments.measure_ns
    }
}

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) tally: RefCell<Tally>,
    pub(super) random: RefCell<Random>,
    pub(super) skew: Skew,
}

/// A connection, as those see it who give it something to do.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// When calls should have begun that have not.
    pub(super) due: RefCell<VecDeque<u64>>,
    /// How many are under way.
    pub(super) open: Cell<usize>,
    pub(super) waker: RefCell<Option<Waker>>,
}

impl Slot {
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
