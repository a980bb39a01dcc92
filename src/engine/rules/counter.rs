//! One counter of a rule: sixteen bytes, a fixed window or a token bucket.

use super::durable::DurableAsk;
use super::{Ask, Mode};
use crate::decide::calendar::Calendar;
use crate::decide::gcra::{Passing, RateLimit};
use crate::decide::plan::PeriodUnit;
use crate::decide::time::{Now, SECOND_NS};

/// How long a finished window is remembered, in case the wall clock steps back into it.
const GRACE_S: u64 = 5;
/// From this length on windows survive restarts.
pub(super) const LONG_S: u64 = 3600;

/// What a counter allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// `limit` hits in each window of `length_s` seconds, windows aligned to the Unix epoch.
    Window { limit: u64, length_s: u64 },
    /// `limit` hits in each period of the calendar of UTC.
    Calendar { limit: u64, unit: PeriodUnit },
    /// A token bucket.
    Bucket(RateLimit),
}

impl Budget {
    /// Tells counters apart that must not share a count: kinds, and windows of different lengths.
    /// Rows of the ledger are found by it: it does not change.
    pub(super) fn identity(&self) -> u64 {
        match self {
            Self::Window { length_s, .. } => *length_s,
            Self::Calendar { unit, .. } => CALENDAR | u64::from(unit_number(*unit)),
            Self::Bucket(_) => 0,
        }
    }

    /// Does its count survive a restart?
    fn is_long(&self) -> bool {
        self.longest_s() >= LONG_S
    }

    /// The length of a window, or of the longest there is.
    fn longest_s(&self) -> u64 {
        match self {
            Self::Window { length_s, .. } => *length_s,
            Self::Calendar { unit, .. } => lengths_s(*unit).1,
            Self::Bucket(_) => 0,
        }
    }

    /// When the window of now ends, in seconds since the Unix epoch.
    fn end_s(&self, now: Now) -> u32 {
        match self {
            Self::Window { length_s, .. } => window_end_s(*length_s, now),
            Self::Calendar { unit, .. } => {
                u32::try_from(Calendar::utc(*unit).period(now.unix_ns).end_ns / SECOND_NS)
                    .unwrap_or(u32::MAX)
            }
            Self::Bucket(_) => 0,
        }
    }

    /// Is now certainly in the window with this end? Saves looking into the calendar.
    fn is_surely_in(&self, end_s: u32, now: Now) -> bool {
        let Self::Calendar { unit, .. } = self else { return false };
        let left_s = u64::from(end_s).saturating_sub(now.unix_s());
        left_s > 0 && left_s <= lengths_s(*unit).0
    }
}

/// What an ask came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The ask goes over the limit.
    pub over: bool,
    /// Hits in the counter before this ask.
    pub before: u64,
    /// Hits in the counter with this ask, as if it was charged.
    pub after: u64,
    /// What is left of the limit now.
    pub remaining: u64,
    /// Until the window ends; of a bucket, until the same ask can pass, or, where it passed or
    /// never can, until the bucket is full.
    pub reset_ns: u64,
}

impl Standing {
    /// The counter cannot be asked: refused, and to be asked again in a second.
    pub(in crate::engine) fn unavailable(ask: &DurableAsk<'_>) -> Self {
        Self { over: !ask.negative, before: 0, after: ask.hits, remaining: 0, reset_ns: SECOND_NS }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    /// `end_s` in seconds since the Unix epoch (until the year 2106).
    Window { end_s: u32, count: u64, keeping: Keeping },
    /// Theoretical arrival time on the steady clock.
    Bucket { tat: u64 },
}

/// What the ledger has to do with a window. In bytes that a counter has to spare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keeping {
    /// It survives restarts.
    pub(super) long: bool,
    /// It is on the list of those that have changed.
    pub(super) listed: bool,
    /// It has a row in the ledger, or the right to one.
    pub(super) has_row: bool,
}

impl Counter {
    pub(super) fn fresh(budget: &Budget, now: Now) -> Self {
        let keeping = Keeping { long: budget.is_long(), ..Keeping::default() };
        match budget {
            Budget::Window { .. } | Budget::Calendar { .. } => {
                Self::Window { end_s: budget.end_s(now), count: 0, keeping }
            }
            Budget::Bucket(_) => Self::Bucket { tat: 0 },
        }
    }

    /// The counter as it stands now: a window that is over starts from zero.
    ///
    /// When the wall clock has stepped back by less than a window, the later window goes on, so
    /// that none starts from zero twice. After a larger step it starts afresh: the clock was wrong
    /// before, and a key must not stay refused until that wrong time comes.
    pub(super) fn at(&self, budget: &Budget, now: Now) -> Self {
        match (self, budget) {
            (Self::Window { end_s, .. }, Budget::Calendar { .. })
                if budget.is_surely_in(*end_s, now) =>
            {
                *self
            }
            (Self::Window { end_s, .. }, Budget::Window { .. } | Budget::Calendar { .. }) => {
                let current = budget.end_s(now);
                let goes_on =
                    *end_s >= current && u64::from(*end_s - current) <= budget.longest_s();
                if goes_on { *self } else { Self::fresh(budget, now) }
            }
            (Self::Bucket { tat }, Budget::Bucket(limit)) => {
                Self::Bucket { tat: limit.adopt(*tat, now.steady_ns) }
            }
            _ => Self::fresh(budget, now),
        }
    }

    /// Charges an ask, as far as its mode charges it, and says what it came to.
    ///
    /// In [`Mode::Each`] a window behaves as the reference does: a refused ask is counted too, and
    /// a peek looks at what was counted so far. In [`Mode::AllOrNothing`] and for buckets a peek
    /// decides as one hit would.
    pub(super) fn charge(&mut self, ask: &Ask<'_>, mode: Mode, now: Now) -> Standing {
        match (self, &ask.budget) {
            (
                Self::Window { end_s, count, .. },
                Budget::Window { limit, .. } | Budget::Calendar { limit, .. },
            ) => {
                let before = *count;
                *count = if ask.negative {
                    before.saturating_sub(ask.hits)
                } else {
                    before.saturating_add(ask.hits)
                };
                let compared = match mode {
                    Mode::AllOrNothing if ask.hits == 0 => count.saturating_add(1),
                    _ => *count,
                };
                let over = !ask.negative && compared > *limit;
                Standing {
                    over,
                    before,
                    after: *count,
                    remaining: limit.saturating_sub(*count),
                    reset_ns: until_end_ns(*end_s, now),
                }
            }
            (Self::Bucket { tat }, Budget::Bucket(limit)) => {
                charge_bucket(tat, limit, ask, now.steady_ns)
            }
            // `at` never leaves a counter of another kind than its budget.
            (counter, budget) => {
                *counter = Self::fresh(budget, now);
                Standing { over: true, before: 0, after: 0, remaining: 0, reset_ns: 0 }
            }
        }
    }

    /// What stands where the request of this ask was refused, and so nothing of it charged.
    pub(super) fn without(&self, ask: &Ask<'_>, would_be: Standing, now: Now) -> Standing {
        let remaining = match (self, &ask.budget) {
            (
                Self::Window { count, .. },
                Budget::Window { limit, .. } | Budget::Calendar { limit, .. },
            ) => limit.saturating_sub(*count),
            (Self::Bucket { tat }, Budget::Bucket(limit)) => limit.remaining(*tat, now.steady_ns),
            _ => 0,
        };
        Standing { remaining, ..would_be }
    }

    /// Takes over the state that `next` has come to. Is there a change that the ledger should hear
    /// of, and is not about to?
    pub(super) fn advance(&mut self, next: Self) -> bool {
        let before = *self;
        *self = next;
        match (before, self) {
            (
                Self::Window { end_s: old_end_s, count: old, keeping: known },
                Self::Window { end_s, count, keeping },
            ) => {
                *keeping = Keeping { long: keeping.long, ..known };
                (old_end_s, old) != (*end_s, *count) && keeping.list()
            }
            _ => false,
        }
    }

    /// The same for a counter that was not there before.
    pub(super) fn begin(&mut self) -> bool {
        if let Self::Window { keeping, .. } = self { keeping.list() } else { false }
    }

    /// Nothing was ever charged: it need not be kept.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self, Self::Window { count: 0, .. } | Self::Bucket { tat: 0 })
    }

    /// It can refuse nothing any more: forgetting it changes no answer.
    pub(super) fn is_dead(&self, now: Now) -> bool {
        match self {
            Self::Window { end_s, .. } => u64::from(*end_s) + GRACE_S <= now.unix_s(),
            Self::Bucket { tat } => *tat <= now.steady_ns,
        }
    }
}

impl Keeping {
    /// Is it to be listed, and was not yet?
    pub(super) fn list(&mut self) -> bool {
        let list = self.long && !self.listed;
        self.listed |= list;
        list
    }
}

fn charge_bucket(tat: &mut u64, limit: &RateLimit, ask: &Ask<'_>, now_ns: u64) -> Standing {
    let before = limit.burst() - limit.remaining(*tat, now_ns);
    if ask.negative {
        *tat = limit.give_back(*tat, now_ns, ask.hits);
        let remaining = limit.remaining(*tat, now_ns);
        return Standing {
            over: false,
            before,
            after: limit.burst() - remaining,
            remaining,
            reset_ns: limit.reset_after_ns(*tat, now_ns),
        };
    }
    let (over, reset_ns) = match limit.check(*tat, now_ns, ask.hits.max(1)) {
        Passing::Pass { tat: charged } => {
            if ask.hits > 0 {
                *tat = charged;
            }
            (false, limit.reset_after_ns(*tat, now_ns))
        }
        Passing::NotUntil { at_ns } => (true, at_ns - now_ns),
        Passing::Never => (true, limit.reset_after_ns(*tat, now_ns)),
    };
    Standing {
        over,
        before,
        after: before.saturating_add(ask.hits),
        remaining: limit.remaining(*tat, now_ns),
        reset_ns,
    }
}

/// The bit that no length of a window has.
const CALENDAR: u64 = 1 << 63;

/// Never another for a unit.
fn unit_number(unit: PeriodUnit) -> u8 {
    match unit {
        PeriodUnit::Minute => 1,
        PeriodUnit::Hour => 2,
        PeriodUnit::Day => 3,
        PeriodUnit::Week => 4,
        PeriodUnit::Month => 5,
        PeriodUnit::Year => 6,
    }
}

/// The shortest and the longest period of a unit.
fn lengths_s(unit: PeriodUnit) -> (u64, u64) {
    const DAY_S: u64 = 86_400;
    match unit {
        PeriodUnit::Minute => (60, 60),
        PeriodUnit::Hour => (3600, 3600),
        PeriodUnit::Day => (DAY_S, DAY_S),
        PeriodUnit::Week => (7 * DAY_S, 7 * DAY_S),
        PeriodUnit::Month => (28 * DAY_S, 31 * DAY_S),
        PeriodUnit::Year => (365 * DAY_S, 366 * DAY_S),
    }
}

fn window_end_s(length_s: u64, now: Now) -> u32 {
    let length_s = length_s.max(1);
    u32::try_from((now.unix_s() / length_s + 1).saturating_mul(length_s)).unwrap_or(u32::MAX)
}

fn until_end_ns(end_s: u32, now: Now) -> u64 {
    u64::from(end_s).saturating_sub(now.unix_s()).saturating_mul(SECOND_NS)
}
