//! Statistics of days.

use crate::decide::outcome::Class;
use crate::decide::plan::Id;
use crate::decide::verdict::Reason;

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

/// What happened to some requests. Places are only ever added at the end: a newer program may have
/// counted more than this one knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DailyCounts {
    pub admitted: u64,
    /// By [`Reason`], in the order of [`Reason::ALL`]. Places that it lacks are 0.
    pub refused: Vec<u64>,
    /// By [`Class`], in the order of [`Class::ALL`], likewise.
    pub responses: Vec<u64>,
}

impl DailyCounts {
    /// How many were refused for a reason.
    pub fn refused_for(&self, reason: Reason) -> u64 {
        let place = Reason::ALL.iter().position(|known| *known == reason);
        place.and_then(|place| self.refused.get(place)).copied().unwrap_or_default()
    }

    /// How many ended in a class.
    pub fn ended_in(&self, class: Class) -> u64 {
        let place = Class::ALL.iter().position(|known| *known == class);
        place.and_then(|place| self.responses.get(place)).copied().unwrap_or_default()
    }

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

/// What happened on one day to the requests of one key under one entitlement to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyUsage {
    pub of: DailyKey,
    pub counts: DailyCounts,
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
