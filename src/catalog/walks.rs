//! Lists that somebody walks in an order, or through a filter, that no index has. To find the next
//! page by a search would make the whole walk quadratic: what follows is searched once, and its ids
//! are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::kind::Kind;
use crate::decide::plan::Id;

/// Walks that are kept; the one that was used least recently makes room.
const WALKS: usize = 4;
/// Ids that are kept of a walk. What is behind them is searched again.
pub(super) const MOST: usize = 250_000;
/// So many edits later a walk is searched again from where it is.
const EDITS: u64 = 1_000;

/// What follows on the pages of some lists, whoever asks.
#[derive(Debug, Default)]
pub(super) struct Walks {
    kept: Mutex<Vec<Arc<Walk>>>,
    /// Held by who looks through a whole list.
    turn: Mutex<()>,
}

/// Which list: the kind, the filter and the order, as they were asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    pub(super) kind: Kind,
    pub(super) filter: &'a str,
    pub(super) order_by: &'a str,
}

/// Ids in the order of a list, as it was at one revision.
#[derive(Debug)]
pub(super) struct Walk {
    kind: Kind,
    filter: String,
    order_by: String,
    revision: u64,
    pub(super) ids: Vec<Id>,
    /// There is nothing behind them.
    pub(super) is_whole: bool,
    /// Resources on all pages.
    pub(super) total: usize,
    /// Where the last page ended.
    last: AtomicUsize,
}

impl Walk {
    pub(super) fn new(
        list: List<'_>,
        revision: u64,
        ids: Vec<Id>,
        is_whole: bool,
        total: usize,
    ) -> Self {
        let List { kind, filter, order_by } = list;
        Self {
            kind,
            filter: filter.into(),
            order_by: order_by.into(),
            revision,
            ids,
            is_whole,
            total,
            last: AtomicUsize::new(0),
        }
    }

    fn is_of(&self, list: List<'_>) -> bool {
        self.kind == list.kind && self.filter == list.filter && self.order_by == list.order_by
    }

    /// The place behind an id. Mostly the page before ended there.
    fn behind(&self, id: &str) -> Option<usize> {
        let is_it = |place: &usize| self.ids.get(*place).is_some_and(|known| **known == *id);
        let place = Some(self.last.load(Ordering::Relaxed)).filter(is_it);
        place.or_else(|| self.ids.iter().position(|known| **known == *id)).map(|place| place + 1)
    }

    /// A page ended there.
    pub(super) fn ended_at(&self, place: usize) {
        self.last.store(place, Ordering::Relaxed);
    }
}

impl Walks {
    /// The walk that goes on behind an id, and where.
    pub(super) fn find(
        &self,
        list: List<'_>,
        revision: u64,
        id: &str,
    ) -> Option<(Arc<Walk>, usize)> {
        let mut walks = self.kept.lock();
        walks.retain(|walk| revision.abs_diff(walk.revision) <= EDITS);
        let (place, behind) = walks
            .iter()
            .enumerate()
            .filter(|(_, walk)| walk.is_of(list))
            .find_map(|(place, walk)| Some((place, walk.behind(id)?)))?;
        let walk = walks.remove(place);
        walks.push(Arc::clone(&walk));
        Some((walk, behind))
    }

    /// One at a time looks through a whole list.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    pub(super) fn keep(&self, walk: Arc<Walk>) {
        let mut walks = self.kept.lock();
        if walks.len() >= WALKS {
            walks.remove(0);
        }
        walks.push(walk);
    }

    /// It was walked to its end.
    pub(super) fn forget(&self, walk: &Arc<Walk>) {
        self.kept.lock().retain(|kept| !Arc::ptr_eq(kept, walk));
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.lock().len()
    }
}
