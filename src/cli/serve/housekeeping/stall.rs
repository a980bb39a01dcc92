//! A ledger that does not fail and does not get done either is noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ledger::LedgerStatus;

/// From here on the ledger is said to be slow. A transaction takes milliseconds.
const SLOW_NS: u64 = 1_000_000_000;

/// How long the ledger has been at one transaction, as far as was seen, for all who want to know.
#[derive(Clone, Debug, Default)]
pub(in crate::cli::serve) struct Stalled(Arc<AtomicU64>);

impl Stalled {
    /// In nanoseconds; 0 where there is none under way.
    pub(super) fn ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What an operator should know, where it is too long.
    pub(in crate::cli::serve) fn says(&self) -> Option<String> {
        let ns = self.ns();
        let seconds = ns / 1_000_000_000;
        (ns >= SLOW_NS).then(|| {
            format!("the ledger has been at one transaction for {seconds} s: the disk is slow or hangs, and what is not leased is not decided in time")
        })
    }
}

/// Looks at the ledger now and then.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stalled: Stalled,
    /// Transactions begun by the last look, and when the last of them was seen first.
    begun: u64,
    seen_ns: u64,
}

impl Watch {
    pub(super) fn new(stalled: Stalled) -> Self {
        Self { stalled, ..Self::default() }
    }

    /// Looks, at this moment of the steady clock.
    pub(super) fn look(&mut self, status: &LedgerStatus, steady_ns: u64) {
        let under_way = status.begun > status.commits + status.failures;
        if status.begun != self.begun {
            (self.begun, self.seen_ns) = (status.begun, steady_ns);
        }
        let ns = if under_way { steady_ns.saturating_sub(self.seen_ns) } else { 0 };
        self.stalled.0.store(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(begun: u64, commits: u64, failures: u64) -> LedgerStatus {
        LedgerStatus { begun, commits, failures, ..LedgerStatus::default() }
    }

    #[test]
    fn a_transaction_that_takes_a_second_is_said_to_be_slow_and_not_a_nanosecond_earlier() {
        let stalled = Stalled::default();
        let mut watch = Watch::new(stalled.clone());
        // Which transactions, when, and whether it is said then.
        for (status, steady_ns, slow) in [
            (status(0, 0, 0), 5, false),
            (status(1, 0, 0), 10, false),
            (status(1, 0, 0), 9 + SLOW_NS, false),
            (status(1, 0, 0), 10 + SLOW_NS, true),
            (status(1, 1, 0), 11 + SLOW_NS, false),
            (status(2, 1, 0), 20 + SLOW_NS, false),
            (status(2, 1, 0), 20 + 2 * SLOW_NS, true),
            // It failed, and the next is as long as this.
            (status(3, 1, 1), 21 + 2 * SLOW_NS, false),
            (status(3, 1, 1), 21 + 3 * SLOW_NS, true),
            (status(3, 1, 2), 21 + 9 * SLOW_NS, false),
        ] {
            watch.look(&status, steady_ns);
            assert_eq!(stalled.says().is_some(), slow, "{status:?} at {steady_ns}");
        }
    }
}
