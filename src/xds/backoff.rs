//! How long it is waited until the server is tried again.

use std::time::Duration;

/// The middle of the first wait.
const FIRST_MS: u64 = 300;

/// Waits that double, each spread so that many nodes do not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    middle_ms: u64,
    max_ms: u64,
}

impl Backoff {
    pub(super) fn new(max: Duration) -> Self {
        let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX).max(FIRST_MS);
        Self { middle_ms: FIRST_MS, max_ms }
    }

    /// From a third to five thirds of the middle: 0.1 to 0.5 s at first, and never above the bound.
    /// `random` spreads it.
    pub(super) fn next(&mut self, random: u32) -> Duration {
        let (low, high) = (self.middle_ms / 3, self.middle_ms.saturating_mul(5) / 3);
        let share = u64::from(random) + 1;
        let spread = (u128::from(high.saturating_sub(low)) * u128::from(share)) >> 32;
        let wait = low.saturating_add(u64::try_from(spread).unwrap_or(u64::MAX));
        self.middle_ms = self.middle_ms.saturating_mul(2).min(self.max_ms);
        Duration::from_millis(wait.min(self.max_ms))
    }

    pub(super) fn reset(&mut self) {
        self.middle_ms = FIRST_MS;
    }
}

/// Any number. Where the system gives none, some number.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_is_short_and_further_ones_double_up_to_the_bound() {
        for (random, waits) in [
            (0, [100, 200, 400, 800, 1_600, 3_200, 3_333]),
            (u32::MAX, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]),
        ] {
            let mut backoff = Backoff::new(Duration::from_secs(10));
            let got = [(); 7].map(|()| backoff.next(random).as_millis());
            assert_eq!(got, waits, "{random}");
            backoff.reset();
            assert_eq!(backoff.next(random).as_millis(), waits[0]);
        }
        let mut shortest = Backoff::new(Duration::from_secs(1));
        let total: u128 = (0..10).map(|_| shortest.next(0).as_millis()).sum();
        assert!(total > 2_500, "also the shortest bound leaves a pause: {total}");
    }
}
