//! Small integers for names, so that a receipt can carry them. They outlive the resources that they
//! name.

use std::hash::Hash;

use crate::engine::sync::{
    DashMap,
    atomic::{AtomicU32, Ordering},
};
use foldhash::quality::RandomState;

/// Integers for values, from 1 on. 0 stands for a value that found no room.
#[derive(Debug)]
pub(super) struct Names<T: Eq + Hash> {
    by_value: DashMap<T, u32, RandomState>,
    by_number: DashMap<u32, T, RandomState>,
    used: AtomicU32,
    max: u32,
}

impl<T: Eq + Hash + Clone> Names<T> {
    pub(super) fn new(max: u32) -> Self {
        Self {
            by_value: DashMap::default(),
            by_number: DashMap::default(),
            used: AtomicU32::new(0),
            max,
        }
    }

    /// The number of a value: the same each time. 0: there are as many as there may be.
    pub(super) fn number(&self, value: &T) -> u32 {
        if let Some(number) = self.by_value.get(value) {
            return *number;
        }
        if self.used.load(Ordering::Relaxed) >= self.max {
            return 0;
        }
        *self.by_value.entry(value.clone()).or_insert_with(|| {
            // Threads that race here may pass the bound by their number.
            let number = self.used.fetch_add(1, Ordering::Relaxed) + 1;
            self.by_number.insert(number, value.clone());
            number
        })
    }

    /// Takes over a number that was drawn elsewhere.
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

    /// The value of a number. `None` for 0, unless it was learned.
    pub(super) fn value(&self, number: u32) -> Option<T> {
        self.by_number.get(&number).map(|value| value.clone())
    }
}
