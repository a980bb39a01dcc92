//! The ledger's small integers for values, so that a receipt can carry them. They outlive the
//! resources that they are of.

use std::hash::Hash;

use crate::engine::sync::DashMap;
use foldhash::quality::RandomState;

/// Values by their integers, and the other way round.
#[derive(Debug)]
pub(super) struct Names<T: Eq + Hash> {
    by_value: DashMap<T, u32, RandomState>,
    by_number: DashMap<u32, T, RandomState>,
}

impl<T: Eq + Hash + Clone> Names<T> {
    pub(super) fn new() -> Self {
        Self { by_value: DashMap::default(), by_number: DashMap::default() }
    }

    /// Takes over a number that the ledger has drawn.
    pub(super) fn learn(&self, number: u32, value: &T) {
        if self.by_number.get(&number).is_none_or(|known| *known != *value) {
            self.by_number.insert(number, value.clone());
            self.by_value.insert(value.clone(), number);
        }
    }

    /// The number of a value, if it has one.
    pub(super) fn known(&self, value: &T) -> Option<u32> {
        self.by_value.get(value).map(|number| *number)
    }

    /// The value of a number, if it was learned.
    pub(super) fn value(&self, number: u32) -> Option<T> {
        self.by_number.get(&number).map(|value| value.clone())
    }
}
