//! What is written behind the decisions: statistics by day, and the names behind the numbers in receipts.

use std::collections::{BTreeMap, HashSet};

use super::{Desk, engine_counter, wire_scope};
use crate::decide::outcome::Class;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Reason;
use crate::engine::plans::{DailyUsage, NameKind, NumberedName, Scope, UsagePart};
use crate::ledger::{self, DailyCounts, DailyKey, DailyReport, DailyRow, LedgerError, NameReport};

/// Rows in one operation: it keeps a lease that waits behind it for some milliseconds.
const ROWS_AT_ONCE: usize = 500;
/// The most names, and the most counters, that a start takes over for the receipts of earlier ones. Without theirs, a response is missing in the
/// statistics.
const MAX_EARLIER: usize = 1_000_000;

impl Desk {
    /// Has the ledger keep what was counted since the last time, and the names that receipts were given numbers for. Blocks until the ledger
    /// has it. What is counted meanwhile waits for the next time.
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
            let names = self.engine.take_fresh_names(ROWS_AT_ONCE);
            if names.is_empty() {
                return Ok(());
            }
            let report = NameReport { holder: self.holder, names: names.iter().map(wire_name).collect() };
            if let Err(error) = self.ledger.call(report) {
                self.engine.names_not_written(names);
                return Err(error);
            }
        }
    }

    fn write_usage(&self) -> Result<(), LedgerError> {
        let mut left = self.engine.unwritten_usage();
        while left > 0 {
            let mut taken = self.engine.take_unwritten_usage(left.min(ROWS_AT_ONCE));
            if taken.parts.is_empty() {
                break;
            }
            left = left.saturating_sub(taken.parts.len());
            let report = DailyReport { holder: self.holder, rows: taken.parts.drain(..).map(wire_row).collect() };
            if let Err(error) = self.ledger.call(report) {
                self.engine.usage_not_written(&taken);
                return Err(error);
            }
            self.engine.usage_written(&taken);
        }
        Ok(())
    }

    /// Statistics by day, from the first to the last day since 1970-01-01 (UTC), both included: the ledger's, with those of this engine as it
    /// counts them now. Blocks on the ledger's file.
    ///
    /// # Errors
    /// The ledger cannot be read. What memory holds alone would look like the whole, so it is not shown.
    pub fn daily_usage(&self, scope: Scope<'_>, first_day: u64, last_day: u64) -> Result<Vec<DailyUsage>, LedgerError> {
        let mut sums: BTreeMap<DailyKey, DailyCounts> = BTreeMap::new();
        let mut live = HashSet::new();
        // Memory first: what it lets go of meanwhile is in the ledger, and what it holds now takes the place of what the ledger has of it.
        for part in self.engine.usage_parts(scope, first_day, last_day) {
            let DailyRow { key, part, counts } = wire_row(part);
            sums.entry(key.clone()).or_default().add(&counts);
            live.insert((key, part));
        }
        for (holder, row) in self.ledger.ledger().daily(&wire_scope(scope), first_day, last_day)? {
            let place = (row.key, row.part);
            if holder != self.holder || !live.contains(&place) {
                sums.entry(place.0).or_default().add(&row.counts);
            }
        }
        Ok(sums.into_iter().map(daily_usage).collect())
    }

    /// Takes over what receipts of earlier epochs name: API keys, targets, and counters of which no period runs any more. For statistics alone,
    /// after the running periods.
    pub(super) fn restore_receipts(&self, now: Now) -> Result<(), LedgerError> {
        let now_s = now.unix_s();
        let after_s = now_s.saturating_sub(self.engine.receipts_ttl_ns().div_ceil(SECOND_NS));
        self.ledger.ledger().load_ended(after_s, now_s, MAX_EARLIER, &mut |counter, identity| {
            self.engine.restore_owner(counter.0, &engine_counter(identity), now);
        })?;
        self.ledger.ledger().load_names(MAX_EARLIER, &mut |holder, named| {
            let kind = match named.kind {
                ledger::NameKind::Key => NameKind::Key,
                ledger::NameKind::Target => NameKind::Target,
            };
            self.engine.restore_name(holder.id, holder.epoch, NumberedName { kind, number: named.number, name: named.name }, now);
        })
    }
}

fn wire_name(name: &NumberedName) -> ledger::NumberedName {
    let kind = match name.kind {
        NameKind::Key => ledger::NameKind::Key,
        NameKind::Target => ledger::NameKind::Target,
    };
    ledger::NumberedName { kind, number: name.number, name: name.name.clone() }
}

fn wire_row(part: UsagePart) -> DailyRow {
    let DailyUsage { day, subscriber, key, plan, entitlement, target, admitted, refused, responses } = part.usage;
    let counts = DailyCounts { admitted, refused: refused.to_vec(), responses: responses.to_vec() };
    DailyRow { key: DailyKey { day, subscriber, key, plan, entitlement, target }, part: part.part, counts }
}

fn daily_usage((key, counts): (DailyKey, DailyCounts)) -> DailyUsage {
    let DailyKey { day, subscriber, key, plan, entitlement, target } = key;
    let (mut refused, mut responses) = ([0; Reason::ALL.len()], [0; Class::ALL.len()]);
    // Places that this program does not know were added by a newer one, and those that the row lacks were added since.
    refused.iter_mut().zip(counts.refused).for_each(|(place, count)| *place = count);
    responses.iter_mut().zip(counts.responses).for_each(|(place, count)| *place = count);
    DailyUsage { day, subscriber, key, plan, entitlement, target, admitted: counts.admitted, refused, responses }
}

#[cfg(test)]
mod tests;
