//! One thread of the load generator: its connections, and what they share.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::task::LocalSet;

use super::job::{Job, Script};
use super::keys::{Random, Skew};
use super::lane::Lane;
use super::pace;
use super::tally::Tally;
use crate::clock::Clock;

/// How often connections are woken to look at the clock, at most.
const TICK: Duration = Duration::from_millis(20);

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

/// Does the work of thread `index` over these connections, and says what it has counted.
///
/// # Errors
/// The operating system has no runtime or timer for it.
pub(super) fn work(
    shared: Arc<Shared>,
    index: usize,
    sockets: Vec<TcpStream>,
) -> Result<Tally, String> {
    let failed = |error: std::io::Error| error.to_string();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let worker = Rc::new(Worker {
        tally: RefCell::new(Tally::new()?),
        random: RefCell::new(Random::new(index as u64)),
        skew: Skew::new(shared.script.keys, shared.job.order),
        shared,
    });
    let local = LocalSet::new();
    local.block_on(&runtime, drive(&worker, index, sockets)).map_err(failed)?;
    drop(local);
    Rc::into_inner(worker)
        .map(|worker| worker.tally.into_inner())
        .ok_or_else(|| "a connection goes on without its thread".to_owned())
}

async fn drive(worker: &Rc<Worker>, index: usize, sockets: Vec<TcpStream>) -> std::io::Result<()> {
    let slots: Vec<Rc<Slot>> = sockets.iter().map(|_| Rc::new(Slot::default())).collect();
    let mut lanes = Vec::new();
    for (slot, socket) in slots.iter().zip(sockets) {
        lanes.push(tokio::task::spawn_local(Lane::new(worker.clone(), slot.clone()).run(socket)));
    }
    let ticks = tokio::task::spawn_local(tick(worker.shared.job.timeout_ns, slots.clone()));
    if let Some(rate) = worker.shared.job.rate {
        let threads = worker.shared.job.threads.min(worker.shared.job.connections);
        pace::pace(worker, &slots, pace::Beat::of_thread(rate, threads, index)).await?;
    }
    for lane in lanes {
        if let Err(error) = lane.await {
            return Err(std::io::Error::other(error));
        }
    }
    // What was handed to a connection that saw the end of the time before the pace did.
    let left = slots
        .iter()
        .flat_map(|slot| slot.due.take())
        .filter(|start_ns| worker.shared.is_measured(*start_ns))
        .count();
    worker.tally.borrow_mut().unsent += left as u64;
    ticks.abort();
    let _ = ticks.await;
    Ok(())
}

/// Wakes every connection now and then, to see what took too long and whether the time is over.
async fn tick(timeout_ns: u64, slots: Vec<Rc<Slot>>) {
    let period = Duration::from_nanos(timeout_ns / 4).clamp(Duration::from_millis(1), TICK);
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        slots.iter().for_each(|slot| slot.wake());
    }
}
