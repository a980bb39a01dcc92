//! Usage plans as every service of the edge asks about them: one way in to the engine, with the
//! catalog and the clock of one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::Guard;
use metrics::Counter;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::lease_broker::LeaseBroker;
use super::patience::Patience;
use crate::catalog::{Caller, Catalog, CatalogStore, Recent, Room, Who};
use crate::clock::Clock;
use crate::config;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{Decision, Reason};
use crate::engine::plans::{
    CheckInput, EntryHandle, InvalidRequest, Need, PlanEngine, Report, Settled, Settlement,
    Shortage,
};
use crate::ledger::LedgerError;
use crate::metrics::{Metrics, Striped, thread_number};

/// Decides and settles by usage plans.
#[derive(Debug)]
pub struct Decisions {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    clock: Clock,
    settings: config::Plans,
    broker: LeaseBroker,
    meters: Meters,
    /// Of each thread its own; threads beyond these share.
    recent: Box<[Mutex<Recent<EntryHandle>>]>,
    room: Room,
}

/// So many threads remember callers, each those that it sees: the callers of one connection are
/// seen by one thread.
const REMEMBERING_THREADS: usize = 64;

/// Why a report was not settled. It may come again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSettled {
    #[error("the correction was not recorded: {0}. Send the report again")]
    Ledger(LedgerError),
    /// With a receipt or an operation id it counts once, however often it is sent.
    #[error(
        "it is not known whether the report was recorded: the ledger did not answer in time. Send it again if it has a receipt or an operation_id"
    )]
    NotKnown,
}

impl From<LedgerError> for NotSettled {
    fn from(error: LedgerError) -> Self {
        if error == LedgerError::Late { Self::NotKnown } else { Self::Ledger(error) }
    }
}

/// What the first try came to.
#[derive(Debug)]
pub enum Tried<R, F> {
    Answered(R),
    /// For [`Decisions::answer_later`]. The answer is not made yet.
    Later(Open, F),
}

/// A request that waits for the ledger. It has charged nothing.
#[derive(Debug)]
pub struct Open {
    needs: Vec<Need>,
    patience: Patience,
}

/// A decision's answer, or what it needs and the answer that is not made yet.
type Decided<R, F> = Result<R, (Vec<Need>, F)>;

/// The callers of so many requests of a batch come from memory at once.
const AHEAD: usize = 16;

/// Decisions by one catalog at one moment.
struct Context<'p> {
    service: &'p Decisions,
    catalog: Guard<Arc<Catalog>>,
    /// This thread's own, held meanwhile.
    recent: Option<MutexGuard<'p, Recent<EntryHandle>>>,
    shortage: Shortage,
    now: Now,
    /// Counted together at the end.
    admitted: u64,
}

impl Context<'_> {
    /// One try.
    fn decide<R, F: FnOnce(&Decision<'_>) -> R>(
        &mut self,
        request: &CheckInput<'_>,
        answer: F,
    ) -> Result<Decided<R, F>, InvalidRequest> {
        let who = self.who(request);
        self.decide_for(who, request, answer)
    }

    /// What the caller of a request is remembered by.
    fn who(&self, request: &CheckInput<'_>) -> Option<Who> {
        self.recent.as_ref()?.who(request.api_key, request.target)
    }

    fn decide_for<R, F: FnOnce(&Decision<'_>) -> R>(
        &mut self,
        who: Option<Who>,
        request: &CheckInput<'_>,
        answer: F,
    ) -> Result<Decided<R, F>, InvalidRequest> {
        let service = self.service;
        let (recent, called) = (self.recent.as_mut().zip(who), (request.api_key, request.target));
        let caller =
            recent.and_then(|(recent, who)| recent.find(&self.catalog, who, called, self.now));
        let mut decision = unavailable();
        let known = caller.map(Caller::covered);
        let needs = service.engine.check_into(
            &**self.catalog,
            known,
            request,
            self.shortage,
            self.now,
            &mut decision,
        )?;
        if let Some(needs) = needs {
            return Ok(Err((needs, answer)));
        }
        if let Some(note) = &decision.note {
            tracing::debug!(target = request.target, "{note}");
        }
        match decision.verdict.reason() {
            None => self.admitted += 1,
            Some(reason) => service.meters.refused(reason),
        }
        if service.engine.leases().has_prefetches() {
            service.broker.prefetch();
        }
        Ok(Ok(answer(&decision)))
    }

    /// One try for each; which are short of units, and of what.
    fn decide_each<'r>(
        mut self,
        mut requests: impl Iterator<Item = (usize, CheckInput<'r>)>,
        answer: &mut impl FnMut(usize, Option<&Decision<'_>>),
    ) -> Vec<(usize, Vec<Need>)> {
        let mut open = Vec::new();
        loop {
            let some: SmallVec<[_; AHEAD]> = requests
                .by_ref()
                .take(AHEAD)
                .map(|(place, request)| (place, self.who(&request), request))
                .collect();
            if some.is_empty() {
                return open;
            }
            if let Some(recent) = &mut self.recent {
                recent.touch(some.iter().filter_map(|(_, who, _)| *who), |handle| handle.touch());
            }
            for (place, who, request) in some {
                match self.decide_for(who, &request, |decision| answer(place, Some(decision))) {
                    Ok(Ok(())) => {}
                    Ok(Err((needs, _))) => open.push((place, needs)),
                    Err(_) => {
                        self.service.reject_check();
                        answer(place, None);
                    }
                }
            }
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if self.admitted > 0 {
            self.service.meters.checks.add(ADMITTED, self.admitted);
        }
    }
}

fn unavailable<'a>() -> Decision<'a> {
    Decision::refused(Reason::LedgerUnavailable, Some(SECOND_NS))
}

struct Meters {
    /// Admissions, then refusals by [`Reason::ALL`].
    checks: Striped,
    /// By [`SETTLEMENTS`].
    reports: Vec<Counter>,
    /// Of the refusals, those as [`Reason::LedgerUnavailable`]: what the log tells of.
    without_ledger: AtomicU64,
}

/// Where admissions are among the checks.
const ADMITTED: usize = 0;

const SETTLEMENTS: [(Settlement, &str); 6] = [
    (Settlement::Counted, "COUNTED"),
    (Settlement::Refunded, "REFUNDED"),
    (Settlement::Corrected, "CORRECTED"),
    (Settlement::Duplicate, "DUPLICATE"),
    (Settlement::Expired, "EXPIRED"),
    (Settlement::Invalid, "INVALID"),
];

impl Decisions {
    pub fn new(
        engine: Arc<PlanEngine>,
        catalog: Arc<CatalogStore>,
        clock: Clock,
        settings: config::Plans,
        broker: LeaseBroker,
        metrics: &Metrics,
    ) -> Self {
        let room = Room::default();
        let recent = std::iter::repeat_with(|| Mutex::new(catalog.recent(&room)))
            .take(REMEMBERING_THREADS)
            .collect();
        Self {
            engine,
            catalog,
            clock,
            settings,
            broker,
            meters: Meters::new(metrics),
            recent,
            room,
        }
    }

    /// Lets go of callers who did not call since this was last called. It keeps nobody waiting for
    /// long.
    pub fn forget_idle_callers(&self) {
        for recent in &self.recent {
            let mut part = 0;
            while recent.lock().sweep(part) {
                part += 1;
            }
        }
    }

    /// How many callers are remembered, those of each thread apart.
    pub fn remembered_callers(&self) -> usize {
        self.room.held()
    }

    /// The clock that decisions are made by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How plans are asked about.
    pub fn settings(&self) -> &config::Plans {
        &self.settings
    }

    /// Decides one request, within `time_left`. What is made of the decision is made while the
    /// catalog that it was made by is still there.
    ///
    /// With a lease in hand nothing is waited for. Else the ledger is asked, and the request starts
    /// again at the first step, with a new `now`: while it waits it holds no lock and has charged
    /// nothing, so a call that is cancelled meanwhile costs nothing.
    ///
    /// # Errors
    /// Where the gateway's request cannot be decided, whoever the caller is.
    pub async fn check<R>(
        &self,
        request: &CheckInput<'_>,
        time_left: Option<Duration>,
        answer: impl FnOnce(&Decision<'_>) -> R,
    ) -> Result<R, InvalidRequest> {
        match self.first_try(request, time_left, answer)? {
            Tried::Answered(answered) => Ok(answered),
            // Apart, because it is rare, and what it has to remember would make every check larger.
            Tried::Later(open, answer) => Box::pin(self.answer_later(request, open, answer)).await,
        }
    }

    /// The part of [`Self::check`] that waits for nothing: nearly always all of it.
    ///
    /// # Errors
    /// As there.
    pub fn first_try<R, F: FnOnce(&Decision<'_>) -> R>(
        &self,
        request: &CheckInput<'_>,
        time_left: Option<Duration>,
        answer: F,
    ) -> Result<Tried<R, F>, InvalidRequest> {
        let now = self.clock.now();
        let patience = Patience::new(now, self.settings.max_wait, time_left);
        let asks = !patience.left(now).is_zero();
        let shortage = if asks { Shortage::Ask } else { self.settings.on_failure };
        Ok(match self.context(shortage, now).decide(request, answer)? {
            Ok(answered) => Tried::Answered(answered),
            Err((needs, answer)) if asks => Tried::Later(Open { needs, patience }, answer),
            Err((_, answer)) => Tried::Answered(answer(&unavailable())),
        })
    }

    /// The rest of it.
    ///
    /// # Errors
    /// As there.
    pub async fn answer_later<R>(
        &self,
        request: &CheckInput<'_>,
        Open { needs, patience }: Open,
        answer: impl FnOnce(&Decision<'_>) -> R,
    ) -> Result<R, InvalidRequest> {
        self.wait(needs, request, patience, answer).await
    }

    /// Decides `count` requests by one catalog and one reading of the clock, for as long as nothing
    /// is waited for. Those that wait for the ledger wait together, and hold up no others: all of
    /// them no longer than one would, and within `time_left`. `answer` is told the place of a
    /// request, and `None` of one that cannot be decided, whoever the caller is.
    pub async fn check_all<'r>(
        &self,
        count: usize,
        time_left: Option<Duration>,
        request: impl Fn(usize) -> CheckInput<'r>,
        mut answer: impl FnMut(usize, Option<&Decision<'_>>),
    ) {
        let now = self.clock.now();
        let mut patience = Patience::new(now, self.settings.max_wait, time_left);
        let asks = !patience.left(now).is_zero();
        let shortage = if asks { Shortage::Ask } else { self.settings.on_failure };
        let mut open = self
            .context(shortage, now)
            .decide_each((0..count).map(|place| (place, request(place))), &mut answer);
        while asks && !open.is_empty() {
            let needs = open.iter_mut().flat_map(|(_, needs)| std::mem::take(needs)).collect();
            patience.draws();
            let left = |now, gets_on| patience.left_in_draw(now, gets_on);
            let works = self.broker.draw_unless_failing(needs, left).await;
            let now = self.clock.now();
            let last = !works || patience.is_over(now);
            let shortage = if last { self.settings.on_failure } else { Shortage::Ask };
            let again = open.iter().map(|&(place, _)| (place, request(place)));
            open = self.context(shortage, now).decide_each(again, &mut answer);
            if last {
                break;
            }
        }
        open.iter().for_each(|&(place, _)| answer(place, Some(&unavailable())));
    }

    /// Draws what a decision needs and tries again, until it has it or its time is over.
    async fn wait<R, F: FnOnce(&Decision<'_>) -> R>(
        &self,
        mut needs: Vec<Need>,
        request: &CheckInput<'_>,
        mut patience: Patience,
        mut answer: F,
    ) -> Result<R, InvalidRequest> {
        loop {
            patience.draws();
            let left = |now, gets_on| patience.left_in_draw(now, gets_on);
            let works = self.broker.draw_unless_failing(needs, left).await;
            let now = self.clock.now();
            if !works || patience.is_over(now) {
                break;
            }
            match self.context(Shortage::Ask, now).decide(request, answer)? {
                Ok(answered) => return Ok(answered),
                Err(still) => (needs, answer) = still,
            }
        }
        match self.context(self.settings.on_failure, self.clock.now()).decide(request, answer)? {
            Ok(answered) => Ok(answered),
            Err((_, answer)) => Ok(answer(&unavailable())),
        }
    }

    fn context(&self, shortage: Shortage, now: Now) -> Context<'_> {
        let recent = self.recent.get(thread_number() % REMEMBERING_THREADS).map(Mutex::lock);
        Context { service: self, catalog: self.catalog.load(), recent, shortage, now, admitted: 0 }
    }

    /// Settles one report. A correction is answered when the ledger has committed it, its mark with
    /// it; a report that changes nothing waits for nothing.
    ///
    /// # Errors
    /// Where the correction could not be recorded. The gateway should report again.
    pub async fn settle(&self, report: &Report<'_>) -> Result<Settlement, NotSettled> {
        let settled = {
            let catalog = self.catalog.load();
            self.engine.settle(&**catalog, report, self.clock.now())
        };
        let settlement = match settled {
            Settled::Done(settlement) => settlement,
            Settled::Commit(correction) => self.broker.correct(*correction).await?,
        };
        let place = SETTLEMENTS.iter().position(|(known, _)| *known == settlement);
        if let Some(counter) = place.and_then(|place| self.meters.reports.get(place)) {
            counter.increment(1);
        }
        Ok(settlement)
    }

    /// Counts a report that could not even be read.
    pub fn reject_report(&self) -> Settlement {
        if let Some(counter) = self.meters.reports.last() {
            counter.increment(1);
        }
        Settlement::Invalid
    }

    /// Checks that were refused as `LEDGER_UNAVAILABLE` so far.
    pub fn refused_without_ledger(&self) -> u64 {
        self.meters.without_ledger.load(Ordering::Relaxed)
    }

    /// Counts a check that could not even be read.
    pub fn reject_check(&self) {
        self.meters.refused(Reason::InvalidRequest);
    }
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        metrics
            .describe_counter("tollgate_checks", "Decisions by usage plans, by verdict and reason");
        metrics.describe_counter("tollgate_reports", "Reports, by what they did");
        let refused =
            Reason::ALL.iter().map(|reason| [("verdict", "DENY"), ("reason", reason.name())]);
        let checks: Vec<_> =
            std::iter::once([("verdict", "ALLOW"), ("reason", "")]).chain(refused).collect();
        Self {
            checks: metrics.striped("tollgate_checks", &checks),
            without_ledger: AtomicU64::new(0),
            reports: SETTLEMENTS
                .iter()
                .map(|(_, name)| metrics.counter("tollgate_reports", &[("result", name)]))
                .collect(),
        }
    }

    fn refused(&self, reason: Reason) {
        if reason == Reason::LedgerUnavailable {
            self.without_ledger.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = Reason::ALL.iter().position(|known| *known == reason) {
            self.checks.add(ADMITTED + 1 + place, 1);
        }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

#[cfg(test)]
pub(crate) mod tests;
