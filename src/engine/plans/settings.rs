//! How an engine of plans is set up: secrets, names and bounds.

use std::fmt;

use crate::decide::ledger::Holder;
use crate::decide::time::SECOND_NS;
use crate::engine::leases::LeaseSettings;

/// How an engine is set up.
#[derive(Clone)]
pub struct Settings {
    /// Who leases, and issues the receipts: no two engines that issue any may have the same with
    /// the same receipt key.
    pub holder: Holder,
    /// Secret key of receipts.
    pub receipt_key: [u8; 32],
    /// Secret key of fingerprints.
    pub hash_key: [u8; 16],
    /// How long a receipt can be settled, in nanoseconds.
    pub receipts_ttl_ns: u64,
    /// The most (subject, entitlement) entries. At the bound a check that needs a new one is
    /// refused as `LEDGER_UNAVAILABLE`; entries that live are never pushed out.
    pub max_entries: usize,
    /// The most admissions that are remembered by operation id. At the bound the oldest is
    /// forgotten: its retry is charged again.
    pub max_operations: usize,
    /// The most rows of marks, each of 65,536 sequence numbers and 16 KiB. At the bound a mark is
    /// not remembered here: a second report for the same receipt asks the ledger, which knows.
    pub max_mark_rows: usize,
    /// The most rows of daily statistics in memory, where they stay until they are written and two
    /// days old. At the bound new rows are not counted.
    pub max_usage_rows: usize,
    /// The most API keys and the most targets that receipts can name, those of earlier epochs
    /// apart. At the bound the responses of others are missing in the statistics.
    pub max_names: u32,
    /// How units of quotas are leased.
    pub lease: LeaseSettings,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Settings {
    /// The default bounds.
    pub fn new(receipt_key: [u8; 32], hash_key: [u8; 16]) -> Self {
        Self {
            holder: Holder { id: 1, epoch: 1 },
            receipt_key,
            hash_key,
            receipts_ttl_ns: 3600 * SECOND_NS,
            max_entries: 10_000_000,
            max_operations: 1_000_000,
            max_mark_rows: 65_536,
            max_usage_rows: 10_000_000,
            max_names: 10_000_000,
            lease: LeaseSettings::default(),
        }
    }
}
