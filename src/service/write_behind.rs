//! What is written behind the decisions: statistics by day, and the names behind the numbers in
//! receipts.

use std::collections::{BTreeMap, HashSet};

use super::lease_broker::{LeaseBroker, engine_counter, wire_scope};
use crate::decide::outcome::Class;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Reason;
use crate::engine::plans::{
    DailyUsage, NameKind, NumberedName, NumberedUsage, Scope, UsageChange, UsageCounts,
};
use crate::ledger::{
    self, DailyChange, DailyCounts, DailyKey, DailyName, DailyReport, DailyRow, LedgerError,
    NameReport,
};

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
            let report =
                NameReport { holder: self.holder, names: names.iter().map(wire_name).collect() };
            if let Err(error) = self.ledger.call(report) {
                self.engine.names_not_written(names);
                return Err(error);
            }
        }
    }

    fn write_usage(&self) -> Result<(), LedgerError> {
        let mut outcome = Ok(());
        for some in self.engine.take_unwritten_usage().parts(USAGE_AT_ONCE) {
            let report = DailyReport {
                holder: self.holder,
                rows: some.changes().map(wire_change).collect(),
            };
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
        scope: Scope<'_>,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<DailyUsage>, LedgerError> {
        let mut sums: BTreeMap<DailyKey, DailyCounts> = BTreeMap::new();
        let mut live = HashSet::new();
        // Memory first: what it lets go of meanwhile is in the ledger, and what it holds now takes
        // the place of what the ledger has of it.
        for row in self.engine.numbered_usage(scope, first_day, last_day) {
            let DailyRow { number, key, counts } = wire_row(row);
            sums.entry(key).or_default().add(&counts);
            live.insert(number);
        }
        for (holder, row) in self.ledger.ledger().daily(&wire_scope(scope), first_day, last_day)? {
            if holder != self.holder || !live.contains(&row.number) {
                sums.entry(row.key).or_default().add(&row.counts);
            }
        }
        Ok(sums.into_iter().map(daily_usage).collect())
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
            &mut |counter, identity| {
                self.engine.restore_owner(counter.0, &engine_counter(identity), now);
            },
        )?;
        self.ledger.ledger().load_names(MAX_EARLIER, &mut |holder, named| {
            let kind = match named.kind {
                ledger::NameKind::Key => NameKind::Key,
                ledger::NameKind::Target => NameKind::Target,
            };
            self.engine.restore_name(
                holder.id,
                holder.epoch,
                NumberedName { kind, number: named.number, name: named.name },
                now,
            );
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

fn wire_change(change: UsageChange) -> DailyChange {
    match change {
        UsageChange::Told(row) => {
            let DailyRow { number, key, counts } = wire_row(row);
            DailyChange { number, name: DailyName::Told(key), counts }
        }
        UsageChange::Known { number, day, counts } => {
            DailyChange { number, name: DailyName::Known { day }, counts: wire_counts(&counts) }
        }
    }
}

fn wire_row(NumberedUsage { number, usage }: NumberedUsage) -> DailyRow {
    let DailyUsage { day, subscriber, key, plan, entitlement, target, counts } = usage;
    DailyRow {
        number,
        key: DailyKey { day, subscriber, key, plan, entitlement, target },
        counts: wire_counts(&counts),
    }
}

/// Most rows count admissions alone, and need no lists.
fn wire_counts(counts: &UsageCounts) -> DailyCounts {
    let list = |counts: &[u64]| {
        if counts.iter().all(|count| *count == 0) { Vec::new() } else { counts.to_vec() }
    };
    DailyCounts {
        admitted: counts.admitted,
        refused: list(&counts.refused),
        responses: list(&counts.responses),
    }
}

fn daily_usage((key, counts): (DailyKey, DailyCounts)) -> DailyUsage {
    let DailyKey { day, subscriber, key, plan, entitlement, target } = key;
    let (mut refused, mut responses) = ([0; Reason::ALL.len()], [0; Class::ALL.len()]);
    // Places that this program does not know were added by a newer one.
    refused.iter_mut().zip(counts.refused).for_each(|(place, count)| *place = count);
    responses.iter_mut().zip(counts.responses).for_each(|(place, count)| *place = count);
    let counts = UsageCounts { admitted: counts.admitted, refused, responses };
    DailyUsage { day, subscriber, key, plan, entitlement, target, counts }
}

#[cfg(test)]
mod tests;
