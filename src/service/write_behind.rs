//! What is written behind the decisions: statistics by day, and the names behind the numbers in
//! receipts.

use std::collections::{BTreeMap, HashSet};

use super::lease_broker::LeaseBroker;
use crate::decide::ledger::{DailyCounts, DailyKey, DailyRow, DailyUsage, Scope};
use crate::decide::time::{Now, SECOND_NS};
use crate::ledger::{DailyReport, LedgerError, NameReport};

/// Names in one operation: it keeps a lease that waits behind it for some milliseconds.
const NAMES_AT_ONCE: usize = 500;
/// Rows of statistics in one operation, likewise: some 440 new ones, or 3,500 that are known and
/// lie together.
const USAGE_AT_ONCE: usize = 4_000;
/// The most names, and the most counters, that a start takes over for the receipts of earlier ones.
/// Without theirs, a response is missing in the statistics.
const MAX_EARLIER: usize = 1_000_000;

impl LeaseBroker {
    /// Has the ledger keep what was counted since the last time, and the names that receipts were
    /// given numbers for. Blocks until the ledger has it. What is counted meanwhile waits for the
    /// next time.
    ///
    /// # Errors
    /// The ledger did not take all of it. The rest is written the next time.
    pub fn write_behind(&self) -> Result<(), LedgerError> {
        let _one_at_a_time = self.behind.lock();
        self.write_names()?;
        self.write_usage()
    }

    fn write_names(&self) -> Result<(), LedgerError> {
        loop {
            let names = self.engine.take_fresh_names(NAMES_AT_ONCE);
            if names.is_empty() {
                return Ok(());
            }
            let report = NameReport { holder: self.holder, names: names.clone() };
            if let Err(error) = self.ledger.call(report) {
                self.engine.names_not_written(names);
                return Err(error);
            }
        }
    }

    fn write_usage(&self) -> Result<(), LedgerError> {
        let mut outcome = Ok(());
        for some in self.engine.take_unwritten_usage().parts(USAGE_AT_ONCE) {
            let report = DailyReport { holder: self.holder, rows: some.changes().collect() };
            // After a failure the rest waits for the next time.
            outcome = outcome.and_then(|()| self.ledger.call(report));
            match outcome {
                Ok(()) => self.engine.usage_written(some),
                Err(_) => self.engine.usage_not_written(some),
            }
        }
        outcome
    }

    /// Statistics by day, from the first to the last day since 1970-01-01 (UTC), both included: the
    /// ledger's, with those of this engine as it counts them now. Blocks on the ledger's file.
    ///
    /// # Errors
    /// The ledger cannot be read. What memory holds alone would look like the whole, so it is not
    /// shown.
    pub fn daily_usage(
        &self,
        scope: &Scope,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<DailyUsage>, LedgerError> {
        let mut sums: BTreeMap<DailyKey, DailyCounts> = BTreeMap::new();
        let mut live = HashSet::new();
        // Memory first: what it lets go of meanwhile is in the ledger, and what it holds now takes
        // the place of what the ledger has of it.
        for row in self.engine.numbered_usage(scope, first_day, last_day) {
            let DailyRow { number, key, counts } = row;
            sums.entry(key).or_default().add(&counts);
            live.insert(number);
        }
        for (holder, row) in self.ledger.ledger().daily(scope, first_day, last_day)? {
            if holder != self.holder || !live.contains(&row.number) {
                sums.entry(row.key).or_default().add(&row.counts);
            }
        }
        Ok(sums.into_iter().map(|(of, counts)| DailyUsage { of, counts }).collect())
    }

    /// Takes over what receipts of earlier epochs name: API keys, targets, and counters of which no
    /// period runs any more. For statistics alone, after the running periods.
    pub(super) fn restore_receipts(&self, now: Now) -> Result<(), LedgerError> {
        let now_s = now.unix_s();
        let after_s = now_s.saturating_sub(self.engine.receipts_ttl_ns().div_ceil(SECOND_NS));
        self.ledger.ledger().load_ended(
            after_s,
            now_s,
            MAX_EARLIER,
            &mut |counter, identity| self.engine.leases().restore_owner(counter, &identity, now),
        )?;
        self.ledger.ledger().load_names(MAX_EARLIER, &mut |holder, named| {
            self.engine.restore_name(holder, named, now);
        })
    }
}

#[cfg(test)]
mod tests;
