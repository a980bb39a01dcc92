//! All that a ledger in memory keeps, to go back to: for searches that try every order of events.

use std::hash::{Hash, Hasher};

use super::{MemoryLedger, State};
use crate::ledger::Holder;

type Period = (super::Account, Vec<(Holder, super::Share)>);

/// A ledger at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Image(State);

/// One counter in one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Book {
    pub(crate) start_s: u64,
    pub(crate) charged: u64,
    pub(crate) granted: i64,
    /// Holder, leased, spent as it was told.
    pub(crate) shares: Vec<(Holder, u64, u64)>,
}

impl MemoryLedger {
    pub(crate) fn image(&self) -> Image {
        Image(self.state.lock().clone())
    }

    pub(crate) fn return_to(&self, image: &Image) {
        *self.state.lock() = image.0.clone();
    }

    pub(crate) fn books(&self) -> Vec<Book> {
        let state = self.state.lock();
        let book = |(start_s, (account, shares)): (&u64, &Period)| {
            let mut shares: Vec<_> =
                shares.iter().map(|(holder, share)| (*holder, share.leased, share.spent)).collect();
            shares.sort_unstable();
            Book { start_s: *start_s, charged: account.charged, granted: account.granted, shares }
        };
        state.counters.values().flat_map(|counter| counter.periods.iter()).map(book).collect()
    }

    /// All that decides what it will do.
    pub(crate) fn imprint(&self, into: &mut impl Hasher) {
        self.books().hash(into);
        let state = self.state.lock();
        state.counters.values().for_each(|counter| counter.limit_revision.hash(into));
        let mut marks: Vec<_> = state
            .marks
            .iter()
            .map(|(place, row)| (place.holder, row.bits.iter().collect::<Vec<_>>()))
            .collect();
        marks.sort_unstable();
        marks.hash(into);
        state.count_rules.len().hash(into);
    }
}
