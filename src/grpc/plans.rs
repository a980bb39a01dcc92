//! Usage plans as every service of the edge asks about them: one way in to the engine, with the catalog and the clock of one moment.

pub mod headers;

use std::sync::Arc;

use metrics::Counter;

use crate::catalog::CatalogStore;
use crate::clock::Clock;
use crate::config;
use crate::decide::verdict::{Decision, Reason};
use crate::engine::plans::{CheckInput, InvalidRequest, NotRecorded, PlanEngine, Report, Settlement};
use crate::metrics::Metrics;

/// Decides and settles by usage plans.
#[derive(Debug)]
pub struct Plans {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    clock: Clock,
    settings: config::Plans,
    meters: Meters,
}

struct Meters {
    admitted: Counter,
    /// By [`Reason::ALL`].
    refused: Vec<Counter>,
    /// By [`SETTLEMENTS`].
    reports: Vec<Counter>,
}

const SETTLEMENTS: [(Settlement, &str); 6] = [
    (Settlement::Counted, "COUNTED"),
    (Settlement::Refunded, "REFUNDED"),
    (Settlement::Corrected, "CORRECTED"),
    (Settlement::Duplicate, "DUPLICATE"),
    (Settlement::Expired, "EXPIRED"),
    (Settlement::Invalid, "INVALID"),
];

impl Plans {
    pub fn new(engine: Arc<PlanEngine>, catalog: Arc<CatalogStore>, clock: Clock, settings: config::Plans, metrics: &Metrics) -> Self {
        Self { engine, catalog, clock, settings, meters: Meters::new(metrics) }
    }

    /// How plans are asked about.
    pub fn settings(&self) -> &config::Plans {
        &self.settings
    }

    /// Decides one request. What is made of the decision is made while the catalog that it was made by is still there.
    ///
    /// # Errors
    /// Where the gateway's request cannot be decided, whoever the caller is.
    pub fn check<R>(&self, request: &CheckInput<'_>, answer: impl FnOnce(&Decision<'_>) -> R) -> Result<R, InvalidRequest> {
        let catalog = self.catalog.load();
        let decision = self.engine.check(&**catalog, request, self.clock.now())?;
        if let Some(note) = &decision.note {
            tracing::debug!(target = request.target, "{note}");
        }
        match decision.verdict.reason() {
            None => self.meters.admitted.increment(1),
            Some(reason) => self.meters.refused(reason),
        }
        Ok(answer(&decision))
    }

    /// Settles one report.
    ///
    /// # Errors
    /// Where the correction could not be recorded. Nothing has changed, and the gateway should report again.
    pub fn settle(&self, report: &Report<'_>) -> Result<Settlement, NotRecorded> {
        let catalog = self.catalog.load();
        let settlement = self.engine.settle(&**catalog, report, self.clock.now())?;
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

    /// Counts a check that could not even be read.
    pub fn reject_check(&self) {
        self.meters.refused(Reason::InvalidRequest);
    }
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        metrics.describe_counter("tollgate_checks", "Decisions by usage plans, by verdict and reason");
        metrics.describe_counter("tollgate_reports", "Reports, by what they did");
        let check = |reason: &str| {
            metrics.counter("tollgate_checks", &[("verdict", if reason.is_empty() { "ALLOW" } else { "DENY" }), ("reason", reason)])
        };
        Self {
            admitted: check(""),
            refused: Reason::ALL.iter().map(|reason| check(reason.name())).collect(),
            reports: SETTLEMENTS.iter().map(|(_, name)| metrics.counter("tollgate_reports", &[("result", name)])).collect(),
        }
    }

    fn refused(&self, reason: Reason) {
        let place = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.increment(1);
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
