//! Windows of an hour and longer survive restarts. This side of it: which have changed since they
//! were written last, and what is taken over at start. Somebody calls [`RuleEngine::take_changed`]
//! every second until it has given all, and writes that; no request waits for it.
//!
//! A counter that changes is put on a list under the lock that is held anyway, once until the list
//! is taken, so that nobody has to look for it. What is kept has a bound: beyond it counters of
//! further keys live in memory alone, until others end. So do overflow counters.

use super::counter::{Counter, Keeping};
use super::{Fingerprint, Fingerprinter, RuleEngine};
use crate::decide::ledger::WindowRow;
use crate::decide::time::Now;
use crate::engine::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Keeps the fingerprints of rules apart from others under the same secret.
const PURPOSE: &[u8] = b"counters of rate-limit rules";

/// The bound on what is kept, and how far it is used.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// 0: nothing is kept.
    max_rows: usize,
    rows: AtomicUsize,
    unkept: AtomicU64,
}

impl Kept {
    pub(super) fn keeps(&self) -> bool {
        self.max_rows > 0
    }

    /// Passes on whether a counter is dead; one that is gives its row back.
    pub(super) fn forgets(&self, counter: &Counter, dead: bool) -> bool {
        if dead && matches!(counter, Counter::Window { keeping: Keeping { has_row: true, .. }, .. })
        {
            self.rows.fetch_sub(1, Ordering::Relaxed);
        }
        dead
    }

    /// Takes a counter off the list. `None`: there is no row for it.
    fn take(&self, fingerprint: Fingerprint, counter: &mut Counter) -> Option<WindowRow> {
        let Counter::Window { end_s, count, keeping } = counter else { return None };
        if !std::mem::take(&mut keeping.listed) {
            return None;
        }
        if !keeping.has_row && self.rows.load(Ordering::Relaxed) >= self.max_rows {
            self.unkept.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if !keeping.has_row {
            keeping.has_row = true;
            self.rows.fetch_add(1, Ordering::Relaxed);
        }
        Some(WindowRow {
            fingerprint: fingerprint.to_be_bytes(),
            end_s: u64::from(*end_s),
            count: *count,
        })
    }
}

impl RuleEngine {
    /// An engine whose windows of an hour and longer survive it, at most `max_rows` of them at a
    /// time. `secret` must be the same in every run, and known to nobody else. Take over what was
    /// kept with [`Self::restore`] before anything is charged.
    #[must_use]
    pub fn kept(max_counters: usize, max_rows: usize, secret: &[u8; 16]) -> Self {
        Self::with(
            Fingerprinter::keyed(secret, PURPOSE),
            max_counters,
            Kept { max_rows, ..Kept::default() },
        )
    }

    /// Takes over a window that was kept. `false`: there is no room for its counter. One that is
    /// over counts for nothing.
    pub fn restore(&self, state: &WindowRow, now: Now) -> bool {
        let Some(end_s) = u32::try_from(state.end_s).ok().filter(|_| state.end_s > now.unix_s())
        else {
            return true;
        };
        if self.live.load(Ordering::Relaxed) >= self.max_counters {
            return false;
        }
        let fingerprint = Fingerprint::from_be_bytes(state.fingerprint);
        let mut held = self.counters.lock(std::iter::once(fingerprint));
        if held.get(fingerprint).is_none() {
            let keeping = Keeping { long: true, listed: false, has_row: true };
            held.insert(fingerprint, Counter::Window { end_s, count: state.count, keeping });
            self.live.fetch_add(1, Ordering::Relaxed);
            self.kept.rows.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Where windows stand that have changed since they were taken last, in the order of their
    /// fingerprints: from a shard on, of as many shards as it takes to have `enough`. Beside them,
    /// the shard to go on from; `None`: that was all. [`Self::put_back`] those that could not be
    /// written.
    pub fn take_changed(&self, first: usize, enough: usize) -> (Vec<WindowRow>, Option<usize>) {
        let mut changed = Vec::new();
        for shard in first..self.counters.shard_count() {
            if changed.len() >= enough {
                return (changed, Some(shard));
            }
            let own = changed.len();
            self.counters.take_listed(shard, |fingerprint, counter| {
                changed.extend(self.kept.take(fingerprint, counter))
            });
            if let Some(own) = changed.get_mut(own..) {
                own.sort_unstable_by_key(|state| state.fingerprint);
            }
        }
        (changed, None)
    }

    /// These were not written: the next [`Self::take_changed`] gives them again, as they stand
    /// then.
    pub fn put_back(&self, states: &[WindowRow]) {
        for state in states {
            let fingerprint = Fingerprint::from_be_bytes(state.fingerprint);
            let mut held = self.counters.lock(std::iter::once(fingerprint));
            let list = held.get(fingerprint).is_some_and(Counter::begin);
            if list {
                held.list(fingerprint);
            }
        }
    }

    /// Counters that are kept now.
    pub fn kept_windows(&self) -> usize {
        self.kept.rows.load(Ordering::Relaxed)
    }

    /// The bound on them.
    pub fn max_kept_windows(&self) -> usize {
        self.kept.max_rows
    }

    /// Changes since the start that were not given out, because as many counters are kept as may
    /// be.
    pub fn unkept_changes(&self) -> u64 {
        self.kept.unkept.load(Ordering::Relaxed)
    }
}
