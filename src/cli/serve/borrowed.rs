//! What a start has taken out of the ledger.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::parts::Parts;
use crate::engine::durable_rules::DurableRuleEngine;
use crate::ledger::LedgerError;
use crate::service::lease_broker::LeaseBroker;
use crate::service::windows::WindowKeeper;

/// Leases, windows of rules, and statistics. Dropped, it leaves the ledger as the next start should
/// find it, and blocks for that: so it is on every way out, after an error and in a panic too.
pub(super) struct Borrowed {
    broker: LeaseBroker,
    durable_broker: LeaseBroker<DurableRuleEngine>,
    windows: Arc<WindowKeeper>,
}

impl Borrowed {
    pub(super) fn of(parts: &Parts) -> Self {
        Self {
            broker: parts.broker.clone(),
            durable_broker: parts.durable_broker.clone(),
            windows: parts.windows.clone(),
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // The engines let go of units first, so that nothing which still runs can spend them: a
        // clean stop wastes nothing.
        put_away("unspent units were not handed back, and count as lost", || {
            self.broker.put_away()
        });
        put_away("unspent units of durable rules were not handed back, and count as lost", || {
            self.durable_broker.hand_back()
        });
        put_away("the last hits on the windows of rules were not written", || self.windows.write());
        put_away("statistics of the last second were not written", || self.broker.write_behind());
    }
}

/// One after the other, whatever becomes of those before. A panic here would end the process while
/// it unwinds.
fn put_away(otherwise: &str, work: impl FnOnce() -> Result<(), LedgerError>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("{otherwise}: {error}"),
        Err(_) => tracing::error!("{otherwise}: it panicked"),
    }
}
