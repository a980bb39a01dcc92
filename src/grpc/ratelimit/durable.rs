//! Durable rules: decided from leases in memory, and where there are none, after the ledger was asked.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config;
use crate::engine::plans::durable::{AtOnce, Leased};
use crate::engine::plans::{Need, PlanEngine, Shortage};
use crate::grpc::plans::desk::Desk;

/// The counters of durable rules, and the way to the ledger.
#[derive(Debug)]
pub struct DurableRules {
    engine: Arc<PlanEngine>,
    /// `None`: the counters live in this engine's memory alone.
    desk: Option<Desk>,
    max_wait: Duration,
    on_failure: Shortage,
}

/// How a request is decided this time.
pub(super) enum Try<'d> {
    /// Asks for what is missing.
    Ask(Leased<'d>),
    /// For the last time.
    Last(AtOnce<'d>),
}

/// How long a request has waited, and may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    started_ns: u64,
    at_most: Duration,
    over: bool,
}

impl DurableRules {
    /// `engine` must keep nothing else. `settings` say how long a request waits, and what becomes of it where the ledger cannot answer.
    pub fn new(engine: Arc<PlanEngine>, desk: Option<Desk>, settings: &config::Plans) -> Self {
        Self { engine, desk, max_wait: settings.max_wait, on_failure: settings.on_failure }
    }

    pub(super) fn patience(&self, clock: &Clock, time_left: Option<Duration>) -> Patience {
        let at_most = time_left.map_or(self.max_wait, |left| left.min(self.max_wait));
        Patience { started_ns: clock.now().steady_ns, at_most, over: false }
    }

    /// `None`: it has not waited yet.
    pub(super) fn next_try(&self, patience: Option<Patience>, clock: &Clock) -> Try<'_> {
        let over = patience.is_some_and(|patience| patience.over || patience.left(clock).is_zero());
        if over || self.desk.is_none() {
            Try::Last(AtOnce { engine: &self.engine, shortage: self.on_failure })
        } else {
            Try::Ask(Leased(&self.engine))
        }
    }

    /// Has the ledger asked, and waits for it, but not for one that fails: that is asked all the same, so that it is noticed when it works
    /// again.
    pub(super) async fn wait(&self, needs: Vec<Need>, patience: &mut Patience, clock: &Clock) {
        let Some(desk) = &self.desk else { return };
        patience.over = desk.is_failing();
        let at_most = if patience.over { Duration::ZERO } else { patience.left(clock) };
        desk.draw(needs, at_most).await;
    }

    /// Asks for what the last decisions want ahead of use.
    pub(super) fn look_ahead(&self) {
        if let Some(desk) = self.desk.as_ref().filter(|_| self.engine.has_prefetches()) {
            desk.prefetch();
        }
    }
}

impl Patience {
    fn left(&self, clock: &Clock) -> Duration {
        let waited = Duration::from_nanos(clock.now().steady_ns.saturating_sub(self.started_ns));
        self.at_most.saturating_sub(waited)
    }
}

#[cfg(test)]
mod tests;
