//! How full the engine is, and what did not fit: for metrics.

use super::PlanEngine;
use crate::engine::sync::atomic::Ordering;

impl PlanEngine {
    /// Operation ids that are remembered.
    pub fn live_operations(&self) -> usize {
        self.operations.len()
    }

    /// Operation ids that were forgotten before their 60 s were over.
    pub fn operations_forgotten(&self) -> u64 {
        self.operations.forgotten()
    }

    /// Rows of marks of corrections, each of 65,536 sequence numbers.
    pub fn mark_rows(&self) -> usize {
        self.marks.rows()
    }

    /// Marks of corrections that found no room here. The ledger has them all.
    pub fn marks_refused(&self) -> u64 {
        self.marks.refused()
    }

    /// Rows of daily statistics.
    pub fn usage_rows(&self) -> usize {
        self.usage.rows()
    }

    /// Names of earlier epochs that live receipts may carry the numbers of.
    pub fn earlier_names(&self) -> usize {
        self.names.earlier_names()
    }

    /// Names of this epoch that receipts may carry the numbers of.
    pub fn receipt_names(&self) -> usize {
        self.names.numbered()
    }

    /// Receipts whose key or target got no number, because there were too many.
    pub fn receipt_names_refused(&self) -> u64 {
        self.names.refused()
    }

    /// Events that found no room in the statistics.
    pub fn usage_dropped(&self) -> u64 {
        self.usage.dropped()
    }

    /// Units that reports carried after their receipts had expired.
    pub fn expired_units(&self) -> u64 {
        self.events.expired_units.load(Ordering::Relaxed)
    }

    /// Reports that could not be used.
    pub fn invalid_reports(&self) -> u64 {
        self.events.invalid_reports.load(Ordering::Relaxed)
    }

    /// Charges at reports that found no room for their counter here. The ledger has them.
    pub fn dropped_settlements(&self) -> u64 {
        self.events.dropped_settlements.load(Ordering::Relaxed)
    }

    /// Admissions that got no receipt, because the ledger had not numbered their counter yet.
    pub fn without_receipt(&self) -> u64 {
        self.events.without_receipt.load(Ordering::Relaxed)
    }
}
