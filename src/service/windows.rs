//! Writes the windows of rules behind, and takes them over at start: between the engine, which does
//! no I/O, and the ledger.
//!
//! What has changed is written each second, in pieces, so that leases do not wait behind it. A
//! crash forgets what was counted since the last round; a clean stop writes everything.

use std::sync::Arc;

use metrics::Counter;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::engine::rules::RuleEngine;
use crate::ledger::{Holder, LedgerError, LedgerThread, WindowReport, WindowRow};
use crate::metrics::Metrics;

/// Rows in one piece: a few milliseconds of the ledger's time.
const PIECE: usize = 512;

/// Keeps the windows of rules in a ledger.
#[derive(Debug)]
pub struct WindowKeeper {
    engine: Arc<RuleEngine>,
    ledger: Arc<LedgerThread>,
    holder: Holder,
    /// One round at a time: an older state must not be written after a newer one.
    round: Mutex<()>,
    written: Counter,
}

/// What a start has taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    pub windows: u64,
    /// For those the engine had no room: their keys start from zero.
    pub without_room: u64,
}

impl WindowKeeper {
    pub fn new(
        engine: Arc<RuleEngine>,
        ledger: Arc<LedgerThread>,
        holder: Holder,
        metrics: &Metrics,
    ) -> Self {
        metrics
            .describe_counter("tollgate_windows_written", "Windows of rules written to the ledger");
        Self {
            engine,
            ledger,
            holder,
            round: Mutex::new(()),
            written: metrics.counter("tollgate_windows_written", &[]),
        }
    }

    /// Takes over the windows that go on, before anything is charged.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn restore(&self, clock: &Clock) -> Result<TakenOver, LedgerError> {
        let now = clock.now();
        let mut taken = TakenOver::default();
        self.ledger.ledger().load_windows(self.holder.id, now.unix_s(), &mut |row| {
            let place = match self.engine.restore(&row, now) {
                true => &mut taken.windows,
                false => &mut taken.without_room,
            };
            *place += 1;
        })?;
        Ok(taken)
    }

    /// Writes all that has changed since the last call, and waits until it is written.
    ///
    /// # Errors
    /// The ledger did not take it, or not all of it. The next call writes the rest.
    pub fn write(&self) -> Result<(), LedgerError> {
        let _alone = self.round.lock();
        let mut first = Some(0);
        // A few pieces at a time: all that has changed may be all that there is.
        while let Some(from) = first {
            let (changed, next) = self.engine.take_changed(from, PIECE);
            self.write_all(&changed)?;
            first = next;
        }
        Ok(())
    }

    /// Writes these, in pieces.
    fn write_all(&self, mut rest: &[WindowRow]) -> Result<(), LedgerError> {
        while let Some((piece, behind)) =
            rest.split_at_checked(PIECE.min(rest.len())).filter(|(piece, _)| !piece.is_empty())
        {
            self.ledger
                .call(WindowReport { holder: self.holder, rows: piece.to_vec() })
                .inspect_err(|_| self.engine.put_back(rest))?;
            self.written.increment(u64::try_from(piece.len()).unwrap_or_default());
            rest = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
