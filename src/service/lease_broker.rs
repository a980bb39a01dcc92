//! Between the engine, which does no I/O, and the ledger, which does nothing else: draws leases,
//! hands unspent units back, and has statistics kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::patience::FOR_AN_EDIT;
use super::stored::StoredForms;
use crate::clock::Clock;
use crate::decide::time::Now;
use crate::engine::plans::{
    Change, Committed, Correction, GrantPlan, Need, PlanEngine, Settlement,
};
use crate::ledger::{
    self, GiveBack, GrantMade, Holder, LedgerError, LedgerThread, Made, Once, OnceKind, Refused,
};

/// How long what is wanted ahead of use waits for others. What is held meanwhile lasts for an
/// eighth of `ledger.chunk_ms` at least.
const GATHER: Duration = Duration::from_millis(5);
/// A ledger that has answered nobody for so long hangs, and is waited for no longer than it must be.
const STUCK: Duration = Duration::from_millis(400);
/// Give-backs that are handed over before the answers are waited for.
const AT_ONCE: usize = 4_096;
/// The same while calls go on: until the ledger has them, what needs units of these counters waits.
const FEW_AT_ONCE: usize = 256;

/// Draws leases for an engine.
#[derive(Clone, Debug)]
pub struct LeaseBroker {
    pub(super) engine: Arc<PlanEngine>,
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

impl LeaseBroker {
    pub fn new(
        engine: Arc<PlanEngine>,
        ledger: Arc<LedgerThread>,
        holder: Holder,
        clock: Clock,
    ) -> Self {
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

    /// The same, which leaves the operation ids of the last minute to the next start, and takes
    /// over those of the last one.
    #[must_use]
    pub fn keeping_operations(self, forms: &'static dyn StoredForms) -> Self {
        Self { forms: Some(forms), ..self }
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
    fn ask_all(&self, needs: Vec<Need>) -> impl Future<Output = ()> + use<> {
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
        if !self.gathering.on.load(Ordering::Acquire) || self.engine.has_urgent_prefetches() {
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
        for need in self.engine.take_prefetches() {
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
                Ok(Ok(lease)) => broker.engine.apply_lease(&need, &lease, broker.clock.now()),
                // The ledger let go of the counter after its last period: by its name it gets
                // another number.
                Ok(Err(Refused::UnknownCounter)) if need.number.is_some() => {
                    let mut by_name = need;
                    by_name.number = None;
                    return broker.submit(by_name, tell);
                }
                Ok(Err(Refused::PeriodDropped)) => {
                    broker.engine.period_dropped(&need, broker.clock.now())
                }
                Ok(Err(refused)) => {
                    tracing::debug!("a lease was refused: {refused}");
                    broker.engine.lease_failed(&need);
                }
                Err(error) => {
                    tracing::debug!("a lease failed: {error}");
                    broker.engine.lease_failed(&need);
                }
            }
            // Whoever asked may be gone.
            let _ = tell.send(());
        });
    }

    /// Has the ledger commit a correction, and makes it count here. Once begun it goes on, also
    /// when the report's caller has gone: what the ledger refunds must be spendable here too.
    ///
    /// # Errors
    /// The ledger did not commit it, or not all of it. The same report may come again.
    pub async fn correct(&self, correction: Correction) -> Result<Settlement, LedgerError> {
        // Handed over before anything is waited for: of two reports for one receipt the first
        // corrects.
        let answers: Vec<_> = correction.changes.iter().map(|change| self.commit(change)).collect();
        let broker = self.clone();
        let done = tokio::spawn(async move {
            let mut committed = Vec::with_capacity(answers.len());
            for answer in answers {
                committed.push(answer.await?);
            }
            Ok(broker.engine.conclude_correction(&correction, &committed, broker.clock.now()))
        });
        in_time(done).await.unwrap_or_else(Err)
    }

    /// Has the ledger commit a change, and applies it at once: on the ledger's thread, in the order
    /// of what it made.
    fn commit(
        &self,
        change: &Change,
    ) -> impl Future<Output = Result<Committed, LedgerError>> + Send + use<> {
        let (tell, told) = oneshot::channel();
        let (broker, applied) = (self.clone(), change.clone());
        let apply = move |made: Result<Committed, LedgerError>| {
            match made {
                Ok(committed) => {
                    broker.engine.apply_change(&applied, committed, broker.clock.now())
                }
                Err(_) => broker.engine.change_failed(&applied),
            }
            // Whoever reported may be gone.
            let _ = tell.send(made);
        };
        match change {
            Change::Settle(settle) => {
                self.ledger.submit(settle.clone(), move |answer| {
                    apply(answer.map(|settled| Committed::from(&settled)))
                });
            }
            Change::Charge(charge) => {
                self.ledger.submit(charge.request(), move |answer| {
                    apply(answer.and_then(|charged| {
                        Committed::try_from(charged)
                            .map_err(|refused| LedgerError::Fault(refused.to_string()))
                    }));
                });
            }
        }
        async move { told.await.unwrap_or(Err(LedgerError::Stopped)) }
    }

    /// Makes a grant: unspent units go back first, so that they do not count as used. Once begun it
    /// goes on, also when the caller has gone.
    ///
    /// `once` names the request: it is made once, however often it is asked for. The answer says
    /// what came of it the first time.
    ///
    /// # Errors
    /// The ledger did not make it, or is not known to have made it; or another request had the
    /// name.
    pub async fn grant(&self, plan: GrantPlan, once: Option<Once>) -> Result<Made, GrantFailed> {
        let broker = self.clone();
        let done = tokio::spawn(async move {
            let answered = broker.give_back_and_grant(&plan, once.clone()).await;
            let Ok(GrantMade { balance: Some(balance), first }) = &answered else {
                // Where it was made in a period that is over, too, the ledger knows better.
                broker.engine.grant_failed(&plan);
                return answered
                    .and_then(|GrantMade { first, .. }| first.ok_or(LedgerError::Stopped.into()));
            };
            if let Err(full) = broker.engine.apply_grant(&plan, *balance, broker.clock.now()) {
                // The ledger has it: the next lease tells.
                tracing::debug!("a grant was made, and is not known here yet: {full}");
            }
            let now = || Made {
                charged: balance.charged,
                granted: balance.granted,
                note: once.map(|once| once.note).unwrap_or_default(),
                ..Made::default()
            };
            Ok(first.clone().unwrap_or_else(now))
        });
        in_time(done).await.unwrap_or_else(|wrong| Err(wrong.into()))
    }

    async fn give_back_and_grant(
        &self,
        plan: &GrantPlan,
        once: Option<Once>,
    ) -> Result<GrantMade, GrantFailed> {
        if let Some(unspent) = plan.give_back {
            self.call(unspent).await?;
        }
        let request = plan.request(once, self.clock.now().unix_s());
        self.call(request).await?.map_err(|refused| match refused {
            Refused::OtherOperation => GrantFailed::OtherRequest,
            refused => LedgerError::Fault(refused.to_string()).into(),
        })
    }

    /// What was made under the name of a request. Blocks on the ledger's file.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn find_request(&self, name: &[u8; 16]) -> Result<Option<Made>, LedgerError> {
        self.ledger.ledger().find_made(OnceKind::Request, name)
    }

    /// Which rows of the ledger are damaged, where some are.
    pub fn damage(&self) -> Option<String> {
        let ledger = self.ledger.ledger();
        ledger.concern().filter(|_| ledger.damaged_rows() > 0)
    }

    fn call<R: ledger::Request>(
        &self,
        request: R,
    ) -> impl Future<Output = Result<R::Answer, LedgerError>> + Send + use<R> {
        let (tell, told) = oneshot::channel();
        self.ledger.submit(request, move |answer| drop(tell.send(answer)));
        async move { told.await.unwrap_or(Err(LedgerError::Stopped)) }
    }

    /// Lets go of the unspent units of a plan, some after the others, until the ledger has them
    /// all: for an edit that has lowered something.
    ///
    /// # Errors
    /// The ledger did not take them. They stay charged, and are asked for no more.
    pub fn take_back(&self, plan: &str) -> Result<(), LedgerError> {
        let (mut returned, mut place) = (Ok(()), usize::MAX);
        while place > 0 {
            let (some, next) = self.engine.holding(plan, place, FEW_AT_ONCE);
            // Where it failed the others go back all the same.
            returned = returned.and(self.return_all(self.engine.take_back_from(&some)));
            place = next;
        }
        returned
    }

    fn steady_ns(&self) -> u64 {
        self.clock.now().steady_ns
    }

    /// Lets go of all unspent units, and leaves the operation ids of the last minute to the next
    /// start: for a clean stop. Waits until the ledger has them.
    ///
    /// # Errors
    /// As of [`Self::take_back`].
    pub fn put_away(&self) -> Result<(), LedgerError> {
        let first = self.return_all(self.engine.put_away());
        // What was leased meanwhile, and what was asked for the first time and had no number yet:
        // behind this, all of it is answered.
        let answered =
            self.ledger.call(ledger::WindowReport { holder: self.holder, rows: Vec::new() });
        let returned = first.and(answered).and(self.return_all(self.engine.put_away()));
        if let Err(error) = self.keep_operations() {
            tracing::warn!(
                "operation ids of the last minute were not kept, and their checks are charged again if they are sent again: {error}"
            );
        }
        returned
    }

    /// Sweeps the engine, and closes the periods that are over with the ledger.
    ///
    /// # Errors
    /// The ledger did not take them. They are found again by the next sweep.
    pub fn sweep(&self) -> Result<(), LedgerError> {
        loop {
            let is_more = self.engine.sweep(self.clock.now());
            self.return_all(self.engine.take_ended())?;
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
                        Ok(_) => engine.gave_back(unspent),
                        Err(_) => engine.give_back_failed(unspent),
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

/// What came of some work, which goes on where it takes too long.
async fn in_time<T>(work: tokio::task::JoinHandle<T>) -> Result<T, LedgerError> {
    match tokio::time::timeout(FOR_AN_EDIT, work).await {
        Ok(done) => done.map_err(|_| LedgerError::Stopped),
        Err(_) => Err(LedgerError::Late),
    }
}

/// Why a grant was not made.
#[derive(Debug, thiserror::Error)]
pub enum GrantFailed {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("another request had this name")]
    OtherRequest,
}
