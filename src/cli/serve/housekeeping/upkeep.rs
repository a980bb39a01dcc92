//! The ledger lets go of what is old, as far as the wall clock is believed.

use std::sync::Arc;

use crate::catalog::KEPT_NS;
use crate::cli::serve::parts::Parts;
use crate::cli::serve::timekeeping::{Timekeeping, tell_reopened};
use crate::clock::Clock;
use crate::decide::quota::KEEP_NS;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::leases::{Extra, LeaseBook};
use crate::engine::plans::{PlanEngine, REMEMBERED_NS};
use crate::ledger::{Believed, Expire, LedgerThread};

const DAY_S: u64 = 86_400;
/// How long windows of rules are kept after their end: memory forgets them earlier.
const KEEP_WINDOWS_NS: u64 = 60 * SECOND_NS;
/// What is kept for a time is kept for this much longer: by so much may the clock be wrong that is
/// believed.
const MARGIN_NS: u64 = 3600 * SECOND_NS;

/// Those that hold leases.
type Engines = (Arc<PlanEngine>, Arc<DurableRuleEngine>);

pub(super) struct Upkeep {
    ledger: Arc<LedgerThread>,
    clock: Clock,
    time: Timekeeping,
    /// They ask the ledger again for what it has opened again.
    engines: Option<Engines>,
    /// Of receipts, and of periods that have ended.
    keep_ns: u64,
    receipts_ttl_ns: u64,
    usage_days: u64,
}

impl Upkeep {
    pub(super) fn new(parts: &Parts) -> Self {
        let settings = parts.decisions.settings();
        let engines = Some((parts.plan_engine.clone(), parts.durable_engine.clone()));
        let of = Self::of(
            parts.ledger.clone(),
            parts.clock.clone(),
            parts.time.clone(),
            settings.receipts_ttl_ns,
            settings.usage_days,
        );
        Self { engines, ..of }
    }

    fn of(
        ledger: Arc<LedgerThread>,
        clock: Clock,
        time: Timekeeping,
        receipts_ttl_ns: u64,
        usage_days: u64,
    ) -> Self {
        Self {
            ledger,
            clock,
            time,
            engines: None,
            keep_ns: receipts_ttl_ns.max(KEEP_NS),
            receipts_ttl_ns,
            usage_days,
        }
    }

    pub(super) fn round(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let now = self.clock.now();
        if let Some(believed) = self.time.look(now) {
            submit(&self.ledger, self.engines.as_ref(), self.expire(believed, now.unix_ns), now);
        }
        std::future::ready(())
    }

    fn expire(&self, believed: Believed, unix_ns: u64) -> Expire {
        let believed = Some(believed);
        if !believed.is_some_and(|believed| believed.vouched) {
            return Expire { believed, ..Expire::default() };
        }
        let before_s = |age_ns: u64| unix_ns.saturating_sub(age_ns) / SECOND_NS;
        Expire {
            marks_issued_before_s: before_s(self.receipts_ttl_ns.saturating_add(MARGIN_NS)),
            periods_ended_by_s: before_s(self.keep_ns.saturating_add(MARGIN_NS)),
            days_before: (unix_ns / SECOND_NS / DAY_S).saturating_sub(self.usage_days),
            now_s: Some(unix_ns / SECOND_NS),
            names_ended_before_s: before_s(self.receipts_ttl_ns.saturating_add(MARGIN_NS)),
            windows_ended_by_s: before_s(KEEP_WINDOWS_NS),
            requests_made_before_s: before_s(KEPT_NS.saturating_add(MARGIN_NS)),
            charges_made_before_s: before_s(self.receipts_ttl_ns.saturating_add(MARGIN_NS)),
            checks_made_before_s: before_s(REMEMBERED_NS.saturating_add(MARGIN_NS)),
            believed,
        }
    }
}

/// Asks again for as long as there is more, one piece after another: what else waits for the ledger
/// comes between them.
fn submit(ledger: &Arc<LedgerThread>, engines: Option<&Engines>, expire: Expire, now: Now) {
    let (again, engines) = (Arc::clone(ledger), engines.cloned());
    ledger.submit(expire, move |done| match done {
        Ok(expired) => {
            if expired.reopened {
                tell_reopened(now);
            }
            let ended_by_s = (expired.periods > 0).then_some(expire.periods_ended_by_s);
            if let Some((plans, durable)) = &engines {
                tell(plans.leases(), expired.reopened, ended_by_s);
                tell(durable.leases(), expired.reopened, ended_by_s);
            }
            if expired.more {
                submit(&again, engines.as_ref(), expire, now);
            }
        }
        Err(error) => tracing::debug!("the ledger did not let go of what is old: {error}"),
    });
}

/// What is held here of what the ledger has opened again, or has let go of, is asked for again.
fn tell<E: Extra>(leases: &LeaseBook<E>, reopened: bool, ended_by_s: Option<u64>) {
    if reopened {
        leases.reopen();
    }
    if let Some(ended_by_s) = ended_by_s {
        leases.ask_of_periods_to(ended_by_s.saturating_mul(SECOND_NS));
    }
}

#[cfg(test)]
mod tests;
