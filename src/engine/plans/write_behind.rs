//! What a ledger is told behind the decisions, and what is taken over from it: statistics, and the
//! names behind the numbers in receipts.

use super::{PlanEngine, TakenUsage, UnwrittenUsage};
use crate::decide::ledger::{DailyRow, Holder, NumberedName, Scope};
use crate::decide::time::Now;

impl PlanEngine {
    /// How long a receipt can be settled, in nanoseconds.
    pub fn receipts_ttl_ns(&self) -> u64 {
        self.settings.receipts_ttl_ns
    }

    /// Statistics of a scope, in no order, with the numbers that a ledger knows the rows by: each
    /// takes the place of what the ledger has of that number.
    pub fn numbered_usage(&self, scope: &Scope, first_day: u64, last_day: u64) -> Vec<DailyRow> {
        self.usage.numbered(scope, first_day, last_day)
    }

    /// Rows of statistics that changed since they were written last.
    pub fn unwritten_usage(&self) -> usize {
        self.usage.unwritten()
    }

    /// Takes all of them, to be written. One caller at a time: what is taken later must be written
    /// later. Read each, and say then what came of it: [`Self::usage_written`] or
    /// [`Self::usage_not_written`].
    pub fn take_unwritten_usage(&self) -> UnwrittenUsage {
        self.usage.take()
    }

    /// A ledger keeps these, and knows them by their numbers.
    pub fn usage_written(&self, taken: TakenUsage<'_>) {
        self.usage.written(taken);
    }

    /// These may not be kept anywhere: they are to be taken again.
    pub fn usage_not_written(&self, taken: TakenUsage<'_>) {
        self.usage.not_written(taken);
    }

    /// Takes at most so many of the names that receipts were given numbers for since the last time,
    /// for the ledger to keep.
    pub fn take_fresh_names(&self, most: usize) -> Vec<NumberedName> {
        self.names.take_fresh(most)
    }

    /// Names that were taken and may not be kept anywhere: they are to be taken again.
    pub fn names_not_written(&self, names: Vec<NumberedName>) {
        self.names.put_back(names);
    }

    /// Takes over a name that a holder has numbered, at start: receipts that it issued
    /// may still be reported.
    pub fn restore_name(&self, holder: Holder, name: NumberedName, now: Now) {
        self.names.restore(holder, name, now);
    }
}
