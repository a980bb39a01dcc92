//! Between the engine, which does no I/O, and the ledger, which does nothing else: draws leases,
//! hands unspent units back, and has statistics kept.

mod plans;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::stored::StoredForms;
use crate::clock::Clock;
use crate::decide::time::Now;
use crate::engine::leases::{HoldsLeases, Need};
use crate::engine::plans::PlanEngine;
use crate::ledger::{self, GiveBack, Holder, LedgerError, LedgerThread, Refused};

pub use self::plans::GrantFailed;

/// How long what is wanted ahead of use waits for others. What is held meanwhile lasts for an
/// eighth of `ledger.chunk_ms` at least.
const GATHER: Duration = Duration::from_millis(5);
/// A ledger that has answered nobody for so long hangs, and is waited for no longer than it must be.
const STUCK: Duration = Duration::from_millis(400);
/// Give-backs that are handed over before the answers are waited for.
const AT_ONCE: usize = 4_096;

/// Draws leases for an engine: that of plans, or that of durable rules.
#[derive(Debug)]
pub struct LeaseBroker<E = PlanEngine> {
    pub(super) engine: Arc<E>,
    pub(super) ledger: Arc<LedgerThread>,
    pub(super) holder: Holder,
    pub(super) clock: Clock,
    /// Held while statistics are written: what was taken later is written later.
    pub(super) behind: Arc<Mutex<()>>,
    gathering: Arc<Gathering>,
    progress: Arc<Progress>,
    /// How the operation ids of the last minute are written down. `None`: they are not.
    pub(super) forms: Option<&'static dyn StoredForms>,
}

/// Whether the ledger gets on with the leases that it is asked for.
#[derive(Debug, Default)]
struct Progress {
    unanswered: AtomicU64,
    /// When it answered last, or was asked after it had answered everything.
    since_ns: AtomicU64,
}

impl Progress {
    fn asked(&self, now_ns: u64) {
        if self.unanswered.fetch_add(1, Ordering::AcqRel) == 0 {
            self.since_ns.store(now_ns, Ordering::Release);
        }
    }

    /// `gets_on`: not where it took nothing, having too much to do.
    fn answered(&self, now_ns: u64, gets_on: bool) {
        if gets_on {
            self.since_ns.store(now_ns, Ordering::Release);
        }
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether somebody asks for what is wanted ahead of use, and was told to.
#[derive(Debug, Default)]
struct Gathering {
    on: AtomicBool,
    asked: AtomicBool,
    wake: Notify,
}

/// Nobody gathers any more.
struct Off<'g>(&'g AtomicBool);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<E> Clone for LeaseBroker<E> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            ledger: Arc::clone(&self.ledger),
            clock: self.clock.clone(),
            behind: Arc::clone(&self.behind),
            gathering: Arc::clone(&self.gathering),
            progress: Arc::clone(&self.progress),
            ..*self
        }
    }
}

impl<E: HoldsLeases> LeaseBroker<E> {
    pub fn new(engine: Arc<E>, ledger: Arc<LedgerThread>, holder: Holder, clock: Clock) -> Self {
        Self {
            engine,
            ledger,
            holder,
            clock,
            behind: Arc::default(),
            gathering: Arc::default(),
            progress: Arc::default(),
            forms: None,
        }
    }

    /// What the ledger has done so far.
    #[cfg(test)]
    pub(super) fn ledger_status(&self) -> crate::ledger::LedgerStatus {
        self.ledger.status()
    }

    /// Asks the ledger for all of `needs`, and waits for the answers, at most so long. Whether
    /// units came shows at the next check.
    pub async fn draw(&self, needs: Vec<Need>, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.ask_all(needs)).await;
    }

    /// The same for as long as `left` says, which is told how long the ledger is worth waiting for:
    /// one that is slow, and gets on. One whose last transaction failed is asked all the same,
    /// which is how it is noticed that it works again, but waiting would only cost the caller's
    /// time. `false`: it fails, or did not answer in time.
    pub async fn draw_unless_failing(
        &self,
        needs: Vec<Need>,
        left: impl Fn(Now, Duration) -> Duration,
    ) -> bool {
        let fails = self.ledger.is_failing();
        let mut answers = std::pin::pin!(self.ask_all(needs));
        loop {
            let now = self.clock.now();
            let left = if fails { Duration::ZERO } else { left(now, self.gets_on(now)) };
            let answered = tokio::time::timeout(left, &mut answers).await.is_ok();
            if answered || left.is_zero() {
                return answered && !fails;
            }
        }
    }

    /// Asks at once, and waits for the answers.
    fn ask_all(&self, needs: Vec<Need>) -> impl Future<Output = ()> + use<E> {
        let answers: Vec<_> = needs.into_iter().map(|need| self.ask(need)).collect();
        async {
            for answer in answers {
                // An error: the ledger has stopped. The next check shows it.
                let _ = answer.await;
            }
        }
    }

    /// How long the ledger is worth waiting for. Nothing is left of it where it has answered nobody
    /// for so long.
    fn gets_on(&self, now: Now) -> Duration {
        let since_ns = self.progress.since_ns.load(Ordering::Acquire);
        STUCK.saturating_sub(Duration::from_nanos(now.steady_ns.saturating_sub(since_ns)))
    }

    /// Asks for what the engine wants ahead of use, or lets [`Self::gather`] do it. Nobody waits.
    pub fn prefetch(&self) {
        if !self.gathering.on.load(Ordering::Acquire)
            || self.engine.leases().has_urgent_prefetches()
        {
            self.prefetch_now();
        } else if !self.gathering.asked.load(Ordering::Relaxed)
            && !self.gathering.asked.swap(true, Ordering::AcqRel)
        {
            self.gathering.wake.notify_one();
        }
    }

    /// From now on, until it is dropped, what is not urgent is asked for some milliseconds later,
    /// together: a wake-up of the ledger's thread, and a transaction, cost more than what they are
    /// for.
    pub async fn gather(&self) {
        self.gathering.on.store(true, Ordering::Release);
        let _off = Off(&self.gathering.on);
        // Whoever gathered before may have been told, and dropped.
        self.gathering.asked.store(false, Ordering::Release);
        loop {
            self.gathering.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            // Before they are taken: what comes after asks again.
            self.gathering.asked.store(false, Ordering::Release);
            self.prefetch_now();
        }
    }

    fn prefetch_now(&self) {
        for need in self.engine.leases().take_prefetches() {
            drop(self.ask(need));
        }
    }

    fn ask(&self, need: Need) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.submit(need, tell);
        told
    }

    fn submit(&self, need: Need, tell: oneshot::Sender<()>) {
        let broker = self.clone();
        let now = self.clock.now();
        self.progress.asked(now.steady_ns);
        self.ledger.submit(need.request(self.holder, now.unix_s()), move |answer| {
            let gets_on = !matches!(answer, Err(LedgerError::Busy | LedgerError::Stopped));
            broker.progress.answered(broker.steady_ns(), gets_on);
            match answer {
                Ok(Ok(lease)) => {
                    broker.engine.leases().apply_lease(&need, &lease, broker.clock.now())
                }
                // The ledger let go of the counter after its last period: by its name it gets
                // another number.
                Ok(Err(Refused::UnknownCounter)) if need.number.is_some() => {
                    let mut by_name = need;
                    by_name.number = None;
                    return broker.submit(by_name, tell);
                }
                Ok(Err(Refused::PeriodDropped)) => {
                    broker.engine.leases().period_dropped(&need, broker.clock.now())
                }
                Ok(Err(refused)) => {
                    tracing::debug!("a lease was refused: {refused}");
                    broker.engine.leases().lease_failed(&need);
                }
                Err(error) => {
                    tracing::debug!("a lease failed: {error}");
                    broker.engine.leases().lease_failed(&need);
                }
            }
            // Whoever asked may be gone.
            let _ = tell.send(());
        });
    }

    fn steady_ns(&self) -> u64 {
        self.clock.now().steady_ns
    }

    /// Lets go of all unspent units, for a clean stop. Waits until the ledger has them.
    ///
    /// # Errors
    /// The ledger did not take them. They stay charged, and are asked for no more.
    pub fn hand_back(&self) -> Result<(), LedgerError> {
        let first = self.return_all(self.engine.leases().put_away());
        // What was leased meanwhile, and what was asked for the first time and had no number yet:
        // behind this, all of it is answered.
        let answered =
            self.ledger.call(ledger::WindowReport { holder: self.holder, rows: Vec::new() });
        first.and(answered).and(self.return_all(self.engine.leases().put_away()))
    }

    /// Sweeps the engine, and closes the periods that are over with the ledger.
    ///
    /// # Errors
    /// The ledger did not take them. They are found again by the next sweep.
    pub fn sweep(&self) -> Result<(), LedgerError> {
        loop {
            let is_more = self.engine.sweep(self.clock.now());
            self.return_all(self.engine.leases().take_ended())?;
            if !is_more {
                return Ok(());
            }
        }
    }

    /// Through the ledger's thread, behind the leases that were asked for before: they go back too.
    /// Waits until all of them are back.
    fn return_all(&self, mut units: Vec<GiveBack>) -> Result<(), LedgerError> {
        // In the order that the ledger keeps them in: one page of its file holds dozens of
        // neighbours.
        units.sort_unstable_by_key(|unspent| (unspent.counter, unspent.period_start_s));
        let mut returned = Ok(());
        for some in units.chunks(AT_ONCE) {
            let (tell, told) = std::sync::mpsc::channel();
            for unspent in some {
                let (tell, engine, unspent) = (tell.clone(), Arc::clone(&self.engine), *unspent);
                self.ledger.submit(unspent, move |answer| {
                    // Also where nobody waits for it any more.
                    match &answer {
                        Ok(_) => engine.leases().gave_back(unspent),
                        Err(_) => engine.leases().give_back_failed(unspent),
                    }
                    drop(tell.send(answer.map(drop)));
                });
            }
            drop(tell);
            for answer in told {
                returned = returned.and(answer);
            }
        }
        returned
    }
}

#[cfg(test)]
mod tests;
