//! Durable rules: decided from leases in memory, and where there are none, after the ledger was
//! asked.

use std::sync::Arc;
use std::time::Duration;

use super::lease_broker::LeaseBroker;
use super::patience::Patience;
use crate::clock::Clock;
use crate::config;
use crate::engine::durable_rules::{AtOnce, DurableRuleEngine, Leased};
use crate::engine::leases::{Need, Shortage};

/// The counters of durable rules, and the way to the ledger.
#[derive(Debug)]
pub struct DurableRules {
    engine: Arc<DurableRuleEngine>,
    broker: LeaseBroker<DurableRuleEngine>,
    max_wait: Duration,
    on_failure: Shortage,
}

/// How a request is decided this time.
pub(crate) enum Try<'d> {
    /// Asks for what is missing.
    Ask(Leased<'d>),
    /// For the last time.
    Last(AtOnce<'d>),
}

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    patience: Patience,
    /// The ledger fails, or does not answer in time: it is not waited for.
    in_vain: bool,
}

impl DurableRules {
    /// `settings` say how long a request waits, and what becomes of it where the ledger cannot
    /// answer.
    pub fn new(
        engine: Arc<DurableRuleEngine>,
        broker: LeaseBroker<DurableRuleEngine>,
        settings: &config::Plans,
    ) -> Self {
        Self { engine, broker, max_wait: settings.max_wait, on_failure: settings.on_failure }
    }

    pub fn waiting(&self, clock: &Clock, time_left: Option<Duration>) -> Waiting {
        Waiting { patience: Patience::new(clock.now(), self.max_wait, time_left), in_vain: false }
    }

    /// `None`: it has not waited yet.
    pub(crate) fn next_try(&self, waiting: Option<Waiting>, clock: &Clock) -> Try<'_> {
        let over =
            waiting.is_some_and(|waiting| waiting.in_vain || waiting.patience.is_over(clock.now()));
        if over {
            Try::Last(AtOnce { engine: &self.engine, shortage: self.on_failure })
        } else {
            Try::Ask(Leased(&self.engine))
        }
    }

    /// Has the ledger asked, and waits for it.
    pub async fn wait(&self, needs: Vec<Need>, waiting: &mut Waiting) {
        waiting.patience.draws();
        let patience = waiting.patience;
        let left = |now, gets_on| patience.left_in_draw(now, gets_on);
        waiting.in_vain = !self.broker.draw_unless_failing(needs, left).await;
    }

    /// Asks for what the last decisions want ahead of use.
    pub fn look_ahead(&self) {
        if self.engine.leases().has_prefetches() {
            self.broker.prefetch();
        }
    }
}
