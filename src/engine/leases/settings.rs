//! How a book of leases is set up.

use crate::decide::ledger::Holder;
use crate::decide::quota::KEEP_NS;
use crate::decide::time::SECOND_NS;

/// How a book is set up.
#[derive(Clone, Copy, Debug)]
pub struct BookSettings {
    /// Who leases.
    pub holder: Holder,
    /// How long a count is kept after its last period has ended, in nanoseconds.
    pub keep_ns: u64,
    /// The most entries. At the bound a decision that needs a new one finds none; entries that live
    /// are never pushed out.
    pub max_entries: usize,
    pub lease: LeaseSettings,
}

impl BookSettings {
    /// The default bounds.
    pub fn new(holder: Holder) -> Self {
        Self { holder, keep_ns: KEEP_NS, max_entries: 10_000_000, lease: LeaseSettings::default() }
    }
}

/// How units of quotas are leased from a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// A lease is for about so long, in nanoseconds.
    pub chunk_ns: u64,
    /// The most of limit + grants that may be held unspent, in percent. 2 units always may, and
    /// what one request costs.
    pub waste_percent: u64,
    /// Units that are admitted before the first lease of a period has come. 0: the first request
    /// waits.
    pub optimistic_units: u64,
    /// How long an answer is waited for before more is asked for ahead of use again, in
    /// nanoseconds.
    pub answer_ns: u64,
    /// The most requests for units ahead of use that are kept. At the bound they are dropped:
    /// somebody will wait instead.
    pub max_prefetches: usize,
    /// The most periods that one sweep gives back.
    pub max_ended: usize,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            chunk_ns: SECOND_NS / 2,
            waste_percent: 1,
            optimistic_units: 0,
            answer_ns: SECOND_NS,
            max_prefetches: 65_536,
            max_ended: 1 << 20,
        }
    }
}
