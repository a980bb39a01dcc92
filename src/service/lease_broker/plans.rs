//! What goes through the broker for plans alone: corrections, grants, edits that lower, and a clean
//! stop.

use tokio::sync::oneshot;

use super::LeaseBroker;
use crate::engine::plans::{Change, Committed, Correction, GrantPlan, PlanEngine, Settlement};
use crate::ledger::{GrantMade, LedgerError, Made, Once, OnceKind, Refused, Request};
use crate::service::patience::FOR_AN_EDIT;
use crate::service::stored::StoredForms;

/// Entries whose units are given back at once, while calls go on: until the ledger has them, what
/// needs units of these counters waits.
const FEW_AT_ONCE: usize = 256;

impl LeaseBroker<PlanEngine> {
    /// The same, which leaves the operation ids of the last minute to the next start, and takes
    /// over those of the last one.
    #[must_use]
    pub fn keeping_operations(self, forms: &'static dyn StoredForms) -> Self {
        Self { forms: Some(forms), ..self }
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

    fn call<R: Request>(
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
            let (some, next) = self.engine.leases().holding(plan, place, FEW_AT_ONCE);
            // Where it failed the others go back all the same.
            returned = returned.and(self.return_all(self.engine.leases().take_back_from(&some)));
            place = next;
        }
        returned
    }

    /// Lets go of all unspent units, and leaves the operation ids of the last minute to the next
    /// start: for a clean stop. Waits until the ledger has them.
    ///
    /// # Errors
    /// As of [`Self::hand_back`].
    pub fn put_away(&self) -> Result<(), LedgerError> {
        let returned = self.hand_back();
        if let Err(error) = self.keep_operations() {
            tracing::warn!(
                "operation ids of the last minute were not kept, and their checks are charged again if they are sent again: {error}"
            );
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
