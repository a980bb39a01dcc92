//! What health does not tell of a ledger: transactions that failed between two looks at it, and
//! operations that fail one by one.

use crate::ledger::LedgerStatus;

/// What goes on and on is said again after so long.
const AGAIN_NS: u64 = 10_000_000_000;

/// A count that grows, told at once and then now and then.
#[derive(Debug, Default)]
struct Growth {
    told: u64,
    told_ns: Option<u64>,
}

impl Growth {
    /// By how much it has grown since that was told last, if it is time to tell.
    fn look(&mut self, count: u64, steady_ns: u64) -> Option<u64> {
        let grown = count.saturating_sub(self.told);
        let due = self.told_ns.is_none_or(|told_ns| steady_ns.saturating_sub(told_ns) >= AGAIN_NS);
        if grown == 0 || !due {
            return None;
        }
        (self.told, self.told_ns) = (count, Some(steady_ns));
        Some(grown)
    }
}

/// Looks at the ledger each second.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: Growth,
    rows: Growth,
}

impl Trouble {
    pub(super) fn look(&mut self, status: &LedgerStatus, steady_ns: u64) {
        // While it fails, health says so.
        if status.failing.is_none()
            && let Some(failed) = self.failures.look(status.failures, steady_ns)
        {
            let last = status.last_failure.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                failed,
                "transactions of the ledger failed, and it works again, the last: {last}"
            );
        }
        if let Some(failed) = self.rows.look(status.row_failures, steady_ns) {
            let last = status.last_row_failure.as_deref().unwrap_or_default();
            tracing::error!(
                failed,
                "operations of the ledger fail because rows that they need cannot be read, the last: {last}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn what_grows_is_told_at_once_and_then_now_and_then_with_all_of_it() {
        let mut growth = Growth::default();
        let looks = [
            (0, 1, None),
            (3, 2, Some(3)),
            (5, 3, None),
            (9, 1 + AGAIN_NS, None),
            (9, 2 + AGAIN_NS, Some(6)),
            (9, 90 * SECOND_NS, None),
        ];
        for (count, steady_ns, told) in looks {
            assert_eq!(growth.look(count, steady_ns), told, "{count} at {steady_ns}");
        }
    }
}
