//! Leases: units that a holder may spend, asked for, given and given back.

use super::{Counter, CounterId, Holder};
use crate::decide::calendar::Period;
use crate::decide::outcome::CountRule;

/// Why an operation did nothing. Asking again gives the same answer until something else changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The limit was edited since: look it up and ask again.
    #[error("the limit is older than the one of revision {newest}, which the ledger has seen")]
    StaleLimit { newest: u64 },
    /// The number names no counter (any more): ask by name.
    #[error("the ledger has no counter of this number")]
    UnknownCounter,
    /// What was spent in it is not known any more. A grant opens it again.
    #[error("the books of this period were dropped: it is over, or a clock that was wrong said so")]
    PeriodDropped,
    /// [`MAX_COUNT_RULES`] different count rules were used since the ledger was made.
    #[error("the ledger holds {MAX_COUNT_RULES} different count rules, and takes no more")]
    TooManyCountRules,
    /// The `Once` of the operation: it was done before, and nothing changed.
    #[error("it was done before")]
    DoneBefore,
    /// The `Once` of the operation: something else was done under this name.
    #[error("another operation had this name")]
    OtherOperation,
}

/// How many different count rules (`countStatuses`) a ledger can number: what a receipt has room
/// for.
pub const MAX_COUNT_RULES: u16 = 1 << 13;

/// Asks for units to spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    pub counter: Counter,
    /// Which statuses the quota counts. Numbered for receipts.
    pub count_rule: CountRule,
    pub period: Period,
    pub holder: Holder,
    /// Units that this holder and epoch wants to have leased in this period, all together: what it
    /// has already included. 0 asks for the balance only; the counter gets its number and its
    /// period a row all the same.
    pub want: u64,
    /// Units of them that are spent by now. Bounds what a crash is known to have lost.
    pub spent: u64,
    /// Units in a period, without grants.
    pub limit: u64,
    /// The lease may pass limit + grants (`on_breach: ALLOW`).
    pub may_pass: bool,
    /// The catalog's revision that made the limit what it is.
    pub revision: u64,
    /// Now. Orders what is loaded at the next start.
    pub now_s: u64,
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub counter: CounterId,
    /// The number of the count rule, below [`MAX_COUNT_RULES`].
    pub rule: u16,
    /// Units that this holder and epoch has leased in this period, all together. Less than wanted:
    /// there are no more.
    pub leased: u64,
    /// Units of them that it told to be spent.
    pub spent: u64,
    pub balance: Balance,
}

/// Where a counter stands in a period, after the operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Units charged over all holders: leased, corrected, charged at reports.
    pub charged: u64,
    /// Units that an operator gave beside the limit; negative where some were taken away.
    pub granted: i64,
    /// Units of `charged` that other holders, or dead epochs, have leased and not told to be spent.
    pub others: u64,
}

/// Returns what was leased and not spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveBack {
    pub counter: CounterId,
    pub period_start_s: u64,
    pub holder: Holder,
    /// Units that this holder and epoch has spent in this period, all together. What it has leased
    /// becomes this. Less than it told before: an old message, which changes nothing.
    pub spent: u64,
}

/// What a give-back left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// Units that went back.
    pub returned: u64,
    /// What this holder and epoch has leased now.
    pub leased: u64,
    pub balance: Balance,
}
