//! Between the engine, which does no I/O, and the ledger, which does nothing else: draws leases, hands unspent units back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::decide::outcome::CountRule;
use crate::decide::time::SECOND_NS;
use crate::engine::plans::{Counter, GiveBack, Granted, Need, PlanEngine, Restored, Scope};
use crate::ledger::{self, CounterIdentity, Holder, LeaseRequest, LedgerError, LedgerPeriod, LedgerThread};

/// Give-backs that are handed over before the answers are waited for.
const AT_ONCE: usize = 4_096;

/// Draws leases for an engine.
#[derive(Clone, Debug)]
pub struct Desk {
    engine: Arc<PlanEngine>,
    ledger: Arc<LedgerThread>,
    holder: Holder,
    clock: Clock,
}

impl Desk {
    pub fn new(engine: Arc<PlanEngine>, ledger: Arc<LedgerThread>, holder: Holder, clock: Clock) -> Self {
        Self { engine, ledger, holder, clock }
    }

    /// Asks the ledger for all of `needs`, and waits for the answers, at most so long. Whether units came shows at the next check.
    pub async fn draw(&self, needs: Vec<Need>, at_most: Duration) {
        let answers: Vec<_> = needs.into_iter().map(|need| self.ask(need)).collect();
        let all = async {
            for answer in answers {
                // An error: the ledger has stopped. The next check shows it.
                let _ = answer.await;
            }
        };
        let _ = tokio::time::timeout(at_most, all).await;
    }

    /// The last transaction of the ledger failed.
    pub fn is_failing(&self) -> bool {
        self.ledger.status().failing.is_some()
    }

    /// Asks for what the engine wants ahead of use. Nobody waits.
    pub fn prefetch(&self) {
        for need in self.engine.take_prefetches() {
            drop(self.ask(need));
        }
    }

    fn ask(&self, need: Need) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let (engine, clock) = (self.engine.clone(), self.clock.clone());
        let request = self.request(&need);
        self.ledger.submit(request, move |answer| {
            match answer {
                Ok(Ok(lease)) => {
                    let granted = Granted {
                        counter: lease.counter.0,
                        rule: lease.rule,
                        leased: lease.leased,
                        charged: lease.balance.charged,
                        granted: lease.balance.granted,
                    };
                    engine.apply_lease(&need, &granted, clock.now());
                }
                Ok(Err(refused)) => {
                    tracing::debug!("a lease was refused: {refused}");
                    engine.lease_failed(&need);
                }
                Err(error) => {
                    tracing::debug!("a lease failed: {error}");
                    engine.lease_failed(&need);
                }
            }
            // Whoever asked may be gone.
            let _ = tell.send(());
        });
        told
    }

    fn request(&self, need: &Need) -> LeaseRequest {
        LeaseRequest {
            counter: match need.number {
                Some(number) => ledger::Counter::Known(ledger::CounterId(number)),
                None => ledger::Counter::Named(identity(&need.counter)),
            },
            count_rule: need.rule.bits(),
            period: LedgerPeriod { start_s: need.period.start_ns / SECOND_NS, end_s: need.period.end_ns.div_ceil(SECOND_NS) },
            holder: self.holder,
            want: need.want,
            spent: need.spent,
            limit: need.limit,
            may_pass: need.may_pass,
            revision: need.revision,
            now_s: self.clock.now().unix_s(),
        }
    }

    /// Lets go of the unspent units of a scope, and waits until the ledger has them: for an edit that may have lowered something.
    ///
    /// # Errors
    /// The ledger did not take them. They stay charged, and are asked for no more.
    pub fn take_back(&self, scope: Scope<'_>) -> Result<(), LedgerError> {
        self.return_all(self.engine.take_back(scope))
    }

    /// Hands back the units of periods that are over.
    ///
    /// # Errors
    /// The ledger did not take them. They were of no use any more.
    pub fn return_ended(&self) -> Result<(), LedgerError> {
        self.return_all(self.engine.take_ended())
    }

    /// Through the ledger's thread, behind the leases that were asked for before: they go back too.
    fn return_all(&self, units: Vec<GiveBack>) -> Result<(), LedgerError> {
        for some in units.chunks(AT_ONCE) {
            let (tell, told) = std::sync::mpsc::channel();
            for unspent in some {
                let tell = tell.clone();
                self.ledger.submit(self.give_back(*unspent), move |answer| drop(tell.send(answer)));
            }
            drop(tell);
            told.into_iter().try_for_each(|answer| answer.map(drop))?;
        }
        Ok(())
    }

    fn give_back(&self, unspent: GiveBack) -> ledger::GiveBack {
        ledger::GiveBack {
            counter: ledger::CounterId(unspent.counter),
            period_start_s: unspent.period_start_s,
            holder: self.holder,
            spent: unspent.spent,
        }
    }

    /// Takes over the running periods, at start: an exhausted counter then answers from memory. Gives the number of them.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn restore(&self) -> Result<usize, LedgerError> {
        for (number, bits) in self.ledger.ledger().load_count_rules()? {
            self.engine.restore_rule(number, CountRule::of_bits(bits));
        }
        let now = self.clock.now();
        let mut restored = 0;
        self.ledger.ledger().load_live(now.unix_s(), &mut |row| {
            let counter = row.identity;
            let row = Restored {
                number: row.counter.0,
                period: crate::decide::calendar::Period { start_ns: row.period.start_s * SECOND_NS, end_ns: row.period.end_s * SECOND_NS },
                charged: row.charged,
                granted: row.granted,
                counter: Counter {
                    subscriber: counter.subscriber,
                    key: counter.key,
                    plan: counter.plan,
                    entitlement: counter.entitlement,
                    quota: counter.quota,
                },
            };
            // No room: the counter is cold then, and asks the ledger when it is touched.
            restored += usize::from(self.engine.restore(&row, now).is_ok());
        })?;
        Ok(restored)
    }
}

/// The ledger's name of a counter.
fn identity(counter: &Counter) -> CounterIdentity {
    let Counter { subscriber, key, plan, entitlement, quota } = counter.clone();
    CounterIdentity { subscriber, key, plan, entitlement, quota }
}
