//! Statistics of days, as the ledger keeps them.

use super::Holder;
use crate::decide::plan::Id;

/// Whose days are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DailyKey {
    /// Days since 1970-01-01, UTC.
    pub day: u64,
    pub subscriber: Id,
    /// Empty where it is not known; likewise the next three.
    pub key: Id,
    pub plan: Id,
    pub entitlement: Id,
    pub target: Id,
}

/// Counts of a day. What a place means is the engine's; places are only ever added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DailyCounts {
    pub admitted: u64,
    /// By reason. Places that it lacks are 0.
    pub refused: Vec<u64>,
    /// By class, likewise.
    pub responses: Vec<u64>,
}

impl DailyCounts {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, counts: &Self) {
        self.admitted = self.admitted.saturating_add(counts.admitted);
        for (sum, counts) in
            [(&mut self.refused, &counts.refused), (&mut self.responses, &counts.responses)]
        {
            sum.resize(sum.len().max(counts.len()), 0);
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
        }
    }
}

/// What one holder and epoch counted of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyRow {
    /// The holder's, in this epoch. A holder that has let go of what it had counted, and counts the
    /// same key again, begins another row: rows of one key add up.
    pub number: u64,
    pub key: DailyKey,
    pub counts: DailyCounts,
}

/// Whose row a number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DailyName {
    /// Of a row that the ledger may not have yet.
    Told(DailyKey),
    /// The ledger has kept whose it is, and the day is this. Where it has dropped the day since,
    /// the counts are dropped, too.
    Known { day: u64 },
}

impl DailyName {
    /// Days since 1970-01-01, UTC.
    pub fn day(&self) -> u64 {
        match self {
            Self::Told(key) => key.day,
            Self::Known { day } => *day,
        }
    }
}

/// New counts of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyChange {
    pub number: u64,
    pub name: DailyName,
    /// All of the row, not the change.
    pub counts: DailyCounts,
}

/// What one holder and epoch counted. The counts take the place of those that it reported before: a
/// repeat is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyReport {
    pub holder: Holder,
    /// Best in the order of their days and numbers, in which a ledger keeps them.
    pub rows: Vec<DailyChange>,
}
