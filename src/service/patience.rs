//! How long a decision waits for the ledger.

use std::time::Duration;

use crate::decide::time::Now;

/// How long an edit, a grant or a report that corrects waits for the ledger. What it asked for goes on.
pub(crate) const FOR_AN_EDIT: Duration = Duration::from_secs(10);

/// So many times as long a request waits for a ledger that is slow and gets on: a busy disk refuses
/// nobody who comes for the first time.
const LONGER: u32 = 10;
/// How often it does. Who needs more answers of the ledger than this has waited long enough.
const FIRST_DRAWS: u32 = 2;

/// How long a request may wait for the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    since_ns: u64,
    at_most: Duration,
    /// Where the ledger gets on.
    longest: Duration,
    draws: u32,
}

impl Patience {
    /// From now on, for at most so long, and never past what is left by the call's own deadline.
    pub fn new(now: Now, at_most: Duration, time_left: Option<Duration>) -> Self {
        let within = |time: Duration| time_left.map_or(time, |left| left.min(time));
        Self {
            since_ns: now.steady_ns,
            at_most: within(at_most),
            longest: within(at_most.saturating_mul(LONGER)),
            draws: 0,
        }
    }

    /// What is left of it.
    pub fn left(self, now: Now) -> Duration {
        self.left_of(self.at_most, now)
    }

    /// The ledger is asked. How long for is said by [`Self::left_in_draw`].
    pub fn draws(&mut self) {
        self.draws = self.draws.saturating_add(1);
    }

    /// What is left for what the ledger was asked last. `gets_on`: how long a ledger that gets on as
    /// it did is worth waiting for.
    pub fn left_in_draw(self, now: Now, gets_on: Duration) -> Duration {
        let left = self.left(now);
        if self.draws > FIRST_DRAWS {
            return left;
        }
        left.max(self.left_of(self.longest, now).min(gets_on))
    }

    /// Whether the ledger is asked no more.
    pub fn is_over(self, now: Now) -> bool {
        let most = if self.draws < FIRST_DRAWS { self.longest } else { self.at_most };
        self.left_of(most, now).is_zero()
    }

    fn left_of(self, most: Duration, now: Now) -> Duration {
        most.saturating_sub(Duration::from_nanos(now.steady_ns.saturating_sub(self.since_ns)))
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

    #[test]
    fn the_first_answers_of_a_ledger_that_gets_on_are_waited_for_longer() {
        let at = |steady_ns| Now { unix_ns: 0, steady_ns };
        let left = |patience: Patience, ns, gets_on| {
            patience.left_in_draw(at(ns), Duration::from_nanos(gets_on)).as_nanos()
        };
        let mut patience = Patience::new(at(5), Duration::from_nanos(100), None);
        for _ in 0..2 {
            patience.draws();
            assert_eq!([0, 50, 500].map(|gets_on| left(patience, 104, gets_on)), [1, 50, 500]);
            assert_eq!([0, 1, 500].map(|gets_on| left(patience, 105, gets_on)), [0, 1, 500]);
            assert_eq!([1003, 1004, 1005].map(|ns| left(patience, ns, 500)), [2, 1, 0]);
        }
        assert_eq!([104, 105].map(|ns| patience.is_over(at(ns))), [false, true]);
        patience.draws();
        assert_eq!([104, 105].map(|ns| left(patience, ns, 500)), [1, 0], "it has had two answers");
        let own = Some(Duration::from_nanos(150));
        let mut patience = Patience::new(at(5), Duration::from_nanos(100), own);
        patience.draws();
        assert_eq!([105, 154, 155].map(|ns| patience.is_over(at(ns))), [false, false, true]);
        assert_eq!([104, 154, 155].map(|ns| left(patience, ns, 500)), [51, 1, 0]);
    }
}
