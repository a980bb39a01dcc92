//! Opens a ledger that lies in a database, which may come later than the service.

use std::time::Duration;

use super::waiting::Waiting;
use crate::clock::Clock;
use crate::config::SharedLedger;
use crate::ledger::{LedgerError, PostgresLedger};

/// Epochs count from 2020 on, so that a database which has forgotten some gives none twice.
const EPOCHS_FROM_S: u64 = 1_577_836_800;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(50);

/// The ledger, and the number of this node in it.
pub(super) fn open(
    shared: &SharedLedger,
    clock: &Clock,
    waiting: &Waiting,
) -> Result<(PostgresLedger, u32), LedgerError> {
    let mut waited = Duration::ZERO;
    let mut told = None;
    loop {
        let began_ns = clock.now().steady_ns;
        let wrong = match try_open(shared, clock) {
            Ok(opened) => return Ok(opened),
            Err(wrong) => wrong,
        };
        waited += Duration::from_nanos(clock.now().steady_ns.saturating_sub(began_ns));
        let may_pass = matches!(
            wrong,
            LedgerError::Away { .. }
                | LedgerError::Standby { .. }
                | LedgerError::OtherNode { .. }
                | LedgerError::Late
        );
        if !may_pass || waited >= shared.start_wait {
            return Err(wrong);
        }
        if told.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&wrong)) {
            tracing::warn!(
                "the start waits for the ledger, at most {} s: {wrong}",
                shared.start_wait.as_secs_f64()
            );
        }
        waiting.says(wrong.to_string());
        told = Some(wrong);
        let mut left = BETWEEN_TRIES;
        while left > Duration::ZERO {
            if waiting.is_stopped() {
                return Err(LedgerError::Stopped);
            }
            std::thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
        waited += BETWEEN_TRIES;
    }
}

fn try_open(shared: &SharedLedger, clock: &Clock) -> Result<(PostgresLedger, u32), LedgerError> {
    let now_s = clock.now().unix_s();
    let least = u32::try_from(now_s.saturating_sub(EPOCHS_FROM_S)).unwrap_or(u32::MAX);
    let ledger = PostgresLedger::open(&shared.postgres, least)?;
    let id = ledger.enter(&shared.node)?;
    Ok((ledger, id))
}
