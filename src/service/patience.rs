//! How long a decision waits for the ledger.

use std::time::Duration;

use crate::decide::time::Now;

/// How long a request may wait for the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    since_ns: u64,
    at_most: Duration,
}

impl Patience {
    /// From now on, for at most so long, and never past what is left by the call's own deadline.
    pub fn new(now: Now, at_most: Duration, time_left: Option<Duration>) -> Self {
        Self {
            since_ns: now.steady_ns,
            at_most: time_left.map_or(at_most, |left| left.min(at_most)),
        }
    }

    /// What is left of it.
    pub fn left(self, now: Now) -> Duration {
        self.at_most
            .saturating_sub(Duration::from_nanos(now.steady_ns.saturating_sub(self.since_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_over_at_its_instant() {
        let at = |steady_ns| Now { unix_ns: 0, steady_ns };
        let (short, long) = (Duration::from_nanos(100), Duration::from_nanos(101));
        for (at_most, time_left) in [(short, None), (short, Some(long)), (long, Some(short))] {
            let patience = Patience::new(at(5), at_most, time_left);
            assert_eq!(
                [4, 5, 104, 105, 106].map(|ns| patience.left(at(ns)).as_nanos()),
                [100, 100, 1, 0, 0]
            );
        }
    }
}
