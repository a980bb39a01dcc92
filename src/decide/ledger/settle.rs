//! Changes of what is charged: settlements of receipts, charges without a receipt, and grants.

use super::{Balance, Counter, CounterId, Holder, Once};
use crate::decide::calendar::Period;
use crate::decide::quota::Grant;

/// What is done for a receipt. Each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MarkKind {
    /// Charges that were made at the check were refunded or corrected.
    Corrected,
    /// Quotas that are charged at the report were charged.
    Charged,
}

/// Names a receipt, and what is done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The holder that issued the receipt, not the one that settles it.
    pub holder: Holder,
    pub shard: u8,
    pub seq: u64,
    pub kind: MarkKind,
    /// When the receipt was issued.
    pub issued_s: u64,
}

/// A change of what is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    pub counter: CounterId,
    pub period_start_s: u64,
    /// Units more (they may pass the limit) or less.
    pub units: i64,
}

/// Settles a receipt: the mark and the changes together, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub mark: Mark,
    pub deltas: Vec<Delta>,
}

/// What came of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Marked and changed. For each delta where its counter stands now; `None`: its period is not
    /// kept any more, and nothing changed there.
    Done(Vec<Option<Balance>>),
    /// It was marked before. Nothing changed.
    Duplicate,
    /// Marks of its time were dropped: whether it was settled is not known. Nothing changed.
    TooOld,
}

/// Charges units past any limit: what quotas that are charged at the report get from a report
/// without a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRequest {
    pub counter: Counter,
    pub period: Period,
    pub units: u64,
    /// Now. Orders what is loaded at the next start.
    pub now_s: u64,
    /// `None`: it is made as often as it is asked for.
    pub once: Option<Once>,
}

/// Changes what remains of a period. Unspent units should be given back first: they count as used
/// here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    pub counter: Counter,
    pub period: Period,
    pub change: Grant,
    /// Units in a period, without grants.
    pub limit: u64,
    /// Now. Orders what is loaded at the next start.
    pub now_s: u64,
    /// `None`: it is made as often as it is asked for.
    pub once: Option<Once>,
}
