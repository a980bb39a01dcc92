//! How one ask shows in a rule's counters, by the arithmetic of the reference.

use std::ops::AddAssign;

use super::decision::LimitMet;

/// What to add to each series of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub total_hits: u64,
    pub over_limit: u64,
    pub near_limit: u64,
    pub within_limit: u64,
    pub shadow_mode: u64,
    pub total_negative_hits: u64,
}

/// Beyond 64 bits it starts over, as a counter does.
impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.total_hits = self.total_hits.wrapping_add(more.total_hits);
        self.over_limit = self.over_limit.wrapping_add(more.over_limit);
        self.near_limit = self.near_limit.wrapping_add(more.near_limit);
        self.within_limit = self.within_limit.wrapping_add(more.within_limit);
        self.shadow_mode = self.shadow_mode.wrapping_add(more.shadow_mode);
        self.total_negative_hits = self.total_negative_hits.wrapping_add(more.total_negative_hits);
    }
}

impl Tally {
    /// `near_limit_ratio` of the limit, rounded down, is where hits start to count as near it.
    pub fn of(met: &LimitMet<'_, '_>, near_limit_ratio: f32) -> Self {
        if met.negative {
            return Self { total_negative_hits: met.hits, ..Self::default() };
        }
        let (hits, before, after) = (met.hits, met.standing.before, met.standing.after);
        let limit = u64::from(met.per.requests);
        let near = near_threshold(met.per.requests, near_limit_ratio);
        let mut tally = Self { total_hits: hits, ..Self::default() };
        if met.standing.over {
            let over = if before >= limit { hits } else { after.saturating_sub(limit).min(hits) };
            if met.shadowed {
                tally.shadow_mode = over;
            }
            tally.over_limit = over;
            if before < limit {
                tally.near_limit = limit.saturating_sub(near.max(before));
            }
        } else {
            tally.within_limit = hits;
            if after > near {
                tally.near_limit = if before >= near { hits } else { after - near };
            }
        }
        tally
    }
}

/// As the reference computes it: in 32-bit floating point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn near_threshold(limit: u32, ratio: f32) -> u64 {
    (limit as f32 * ratio).floor() as u64
}
