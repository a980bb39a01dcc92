//! Token buckets by GCRA: one 64-bit word a counter, the *theoretical arrival time* (TAT) at which
//! the bucket is full again.
//!
//! A token is worth [`RateLimit::interval_ns`], the period a token rounded **up** to a nanosecond,
//! so the bucket never gives more than was asked for (at most one nanosecond a token less), and a
//! whole burst always passes at once: both the increment and the tolerance are multiples of the one
//! interval. A refusal changes nothing.

use std::num::NonZeroU64;

use super::time::SECOND_NS;

/// The longest that an empty bucket may take to fill: 146 years, so that no sum of an instant and a
/// tolerance overflows.
const MAX_TOLERANCE_NS: u64 = 1 << 62;

/// Tokens that come back at an even pace, up to a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    interval_ns: NonZeroU64,
    burst: NonZeroU64,
}

/// Why a rate and a burst make no token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    #[error("a rate must be more than 0 per second")]
    NoRate,
    #[error("a burst must be at least 1")]
    NoBurst,
    #[error(
        "an empty bucket would take more than 146 years to fill: raise the rate or lower the burst"
    )]
    TooSlow,
}

/// What a bucket says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// It passes; charging it means storing this TAT.
    Pass { tat: u64 },
    /// It passes at `at_ns` on the same clock, and not a nanosecond earlier, if nothing else is
    /// charged until then.
    NotUntil { at_ns: u64 },
    /// It asks for more than the burst and can never pass.
    Never,
}

impl RateLimit {
    /// `tokens` per `period_ns`, at most `burst` at once.
    pub fn new(tokens: u64, period_ns: u64, burst: u64) -> Result<Self, InvalidRate> {
        if tokens == 0 || period_ns == 0 {
            return Err(InvalidRate::NoRate);
        }
        let burst = NonZeroU64::new(burst).ok_or(InvalidRate::NoBurst)?;
        let interval_ns = NonZeroU64::new(period_ns.div_ceil(tokens)).ok_or(InvalidRate::NoRate)?;
        match interval_ns.get().checked_mul(burst.get()) {
            Some(tolerance) if tolerance <= MAX_TOLERANCE_NS => Ok(Self { interval_ns, burst }),
            _ => Err(InvalidRate::TooSlow),
        }
    }

    /// Nanoseconds that one token takes to come back.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns.get()
    }

    /// The most that can pass at once.
    pub fn burst(&self) -> u64 {
        self.burst.get()
    }

    /// Nanoseconds in which an empty bucket fills.
    pub fn tolerance_ns(&self) -> u64 {
        self.interval_ns.get() * self.burst.get()
    }

    /// May `cost` tokens be taken from the bucket `tat` at `now_ns`? Cost 0 always passes and
    /// leaves the bucket as it is. `tat` is one that this limit made, or one that went through
    /// [`Self::adopt`].
    pub fn check(&self, tat: u64, now_ns: u64, cost: u64) -> Passing {
        if cost > self.burst() {
            return Passing::Never;
        }
        let charged = tat.max(now_ns).saturating_add(cost * self.interval_ns());
        let earliest = charged.saturating_sub(self.tolerance_ns());
        if earliest <= now_ns {
            Passing::Pass { tat: if cost == 0 { tat } else { charged } }
        } else {
            Passing::NotUntil { at_ns: earliest }
        }
    }

    /// Whole tokens in the bucket.
    pub fn remaining(&self, tat: u64, now_ns: u64) -> u64 {
        self.tolerance_ns().saturating_sub(tat.saturating_sub(now_ns)) / self.interval_ns()
    }

    /// Nanoseconds until the bucket is full.
    pub fn reset_after_ns(&self, tat: u64, now_ns: u64) -> u64 {
        tat.saturating_sub(now_ns)
    }

    /// Puts `tokens` back, to at most a full bucket.
    pub fn give_back(&self, tat: u64, now_ns: u64, tokens: u64) -> u64 {
        tat.saturating_sub(tokens.saturating_mul(self.interval_ns())).max(now_ns)
    }

    /// The TAT to go on from after the rate or the burst was edited: it owes at most one burst of
    /// the new limit, so that an edit costs or gives no more than that. The caller keeps it. Where
    /// nothing was edited this is `tat` itself.
    pub fn adopt(&self, tat: u64, now_ns: u64) -> u64 {
        tat.min(now_ns.saturating_add(self.tolerance_ns()))
    }
}

/// Requests per second in millionths, as a plan says them: the smallest rate is one request in a
/// million seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroRate(pub u64);

impl MicroRate {
    /// A token bucket of this rate. Without a burst, a second's worth rounded up, and at least 1.
    pub fn limit(self, burst: Option<u64>) -> Result<RateLimit, InvalidRate> {
        RateLimit::new(
            self.0,
            1_000_000 * SECOND_NS,
            burst.unwrap_or_else(|| self.0.div_ceil(1_000_000).max(1)),
        )
    }
}

#[cfg(test)]
mod tests;
