//! How soon a refusal is sent. Servers are known that answer one at once with what was refused:
//! without a pause the two would keep each other busy for ever.

use std::time::Duration;

const LONGEST_MS: u64 = 30_000;

/// Refusals since the server last sent something good, or the stream began.
#[derive(Debug, Default)]
pub(super) struct Damping {
    in_a_row: u32,
}

impl Damping {
    /// How long to wait with a refusal: the first is sent at once, the next after 1 s, then 2 s, up
    /// to 30 s, each a quarter shorter or longer. Another set than the last one (`is_again` is
    /// false) waits for 1 s at most: what is good in it may be new.
    pub(super) fn refused(&mut self, is_again: bool, random: u32) -> Duration {
        if !is_again {
            self.in_a_row = self.in_a_row.min(1);
        }
        let doublings = self.in_a_row.checked_sub(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let Some(doublings) = doublings else { return Duration::ZERO };
        let middle_ms = 1_000_u64.checked_shl(doublings.min(16)).unwrap_or(LONGEST_MS);
        let middle_ms = middle_ms.min(LONGEST_MS);
        let spread = (middle_ms / 2 * u64::from(random)) >> 32;
        Duration::from_millis(middle_ms - middle_ms / 4 + spread)
    }

    /// Something good came, or another stream has begun.
    pub(super) fn begin(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_in_a_row_waits_longer_and_something_good_ends_the_row() {
        let mut damping = Damping::default();
        let half = u32::MAX / 2 + 1;
        let waits: Vec<u128> = (0..8).map(|at| damping.refused(at > 0, half).as_millis()).collect();
        assert_eq!(waits, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(damping.refused(false, half).as_millis(), 1_000, "another set");
        assert_eq!(damping.refused(true, half).as_millis(), 2_000, "and the same again");
        damping.begin();
        assert_eq!(damping.refused(false, 0), Duration::ZERO);
        assert_eq!(damping.refused(true, 0).as_millis(), 750);
        assert_eq!(damping.refused(true, u32::MAX).as_millis(), 2_499);
        let mut long = Damping { in_a_row: u32::MAX };
        assert_eq!(long.refused(true, half).as_millis(), 30_000);
    }
}
