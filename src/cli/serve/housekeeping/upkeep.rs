//! The ledger lets go of what is old, and a wall clock that leaps is noticed.

use std::sync::Arc;

use metrics::Counter;

use crate::catalog::KEPT_NS;
use crate::cli::serve::parts::Parts;
use crate::clock::Clock;
use crate::decide::quota::KEEP_NS;
use crate::decide::time::{Now, SECOND_NS};
use crate::ledger::{Expire, LedgerThread};

const DAY_S: u64 = 86_400;
/// How long windows of rules are kept after their end: memory forgets them earlier.
const KEEP_WINDOWS_NS: u64 = 60 * SECOND_NS;
/// A step of the wall clock, against the steady one, that is more than a correction.
const LEAP_NS: u64 = 3600 * SECOND_NS;

pub(super) struct Upkeep {
    ledger: Arc<LedgerThread>,
    clock: Clock,
    /// Of receipts, and of periods that have ended.
    keep_ns: u64,
    receipts_ttl_ns: u64,
    usage_days: u64,
    start: Now,
    before: Now,
    leaps: Counter,
}

impl Upkeep {
    pub(super) fn new(parts: &Parts) -> Self {
        let receipts_ttl_ns = parts.plans.settings().receipts_ttl_ns;
        parts.metrics.describe_counter("tollgate_clock_leaps", "Steps of the wall clock of more than an hour, forward or back");
        Self {
            ledger: parts.ledger.clone(),
            keep_ns: receipts_ttl_ns.max(KEEP_NS),
            receipts_ttl_ns,
            usage_days: parts.plans.settings().usage_days,
            start: parts.clock.now(),
            before: parts.clock.now(),
            clock: parts.clock.clone(),
            leaps: parts.metrics.counter("tollgate_clock_leaps", &[]),
        }
    }

    pub(super) fn round(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let now = self.clock.now();
        if has_leapt(self.before, now) {
            tracing::warn!(from_unix_s = self.before.unix_s(), to_unix_s = now.unix_s(), "the wall clock has stepped by more than an hour");
            self.leaps.increment(1);
        }
        self.expire(trusted_unix_ns(self.start, now));
        self.before = now;
        std::future::ready(())
    }

    fn expire(&self, unix_ns: u64) {
        let before_s = |age_ns: u64| unix_ns.saturating_sub(age_ns) / SECOND_NS;
        let expire = Expire {
            marks_issued_before_s: before_s(self.receipts_ttl_ns.saturating_add(LEAP_NS)),
            periods_ended_by_s: before_s(self.keep_ns.saturating_add(LEAP_NS)),
            days_before: (unix_ns / SECOND_NS / DAY_S).saturating_sub(self.usage_days),
            now_s: unix_ns / SECOND_NS,
            names_ended_before_s: before_s(self.receipts_ttl_ns.saturating_add(LEAP_NS)),
            windows_ended_by_s: before_s(KEEP_WINDOWS_NS),
            requests_made_before_s: before_s(KEPT_NS.saturating_add(LEAP_NS)),
            charges_made_before_s: before_s(self.receipts_ttl_ns.saturating_add(LEAP_NS)),
        };
        submit(&self.ledger, expire);
    }
}

/// Asks again for as long as there is more, one piece after another: what else waits for the ledger comes between them.
fn submit(ledger: &Arc<LedgerThread>, expire: Expire) {
    let again = Arc::clone(ledger);
    ledger.submit(expire, move |done| match done {
        Ok(expired) if expired.more => submit(&again, expire),
        Ok(_) => {}
        Err(error) => tracing::debug!("the ledger did not let go of what is old: {error}"),
    });
}

/// What is old is told by the wall clock, but not by one that has leapt ahead since the start: a period that is dropped does not come back.
fn trusted_unix_ns(start: Now, now: Now) -> u64 {
    let steady_ns = now.steady_ns.saturating_sub(start.steady_ns);
    now.unix_ns.min(start.unix_ns.saturating_add(steady_ns).saturating_add(LEAP_NS))
}

/// The wall clock went another way than the steady one.
fn has_leapt(before: Now, now: Now) -> bool {
    let steady_ns = now.steady_ns.saturating_sub(before.steady_ns);
    now.unix_ns.abs_diff(before.unix_ns.saturating_add(steady_ns)) > LEAP_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_leapt_ahead_makes_nothing_old() {
        let at = |unix_s: u64, steady_s: u64| Now { unix_ns: unix_s * SECOND_NS, steady_ns: steady_s * SECOND_NS };
        let start = at(1_000_000, 10);
        for (now, trusted_s) in [(at(1_000_060, 70), 1_000_060), (at(9_000_000, 70), 1_003_660), (at(900_000, 70), 900_000)] {
            assert_eq!(trusted_unix_ns(start, now), trusted_s * SECOND_NS, "{now:?}");
        }
    }

    #[test]
    fn a_leap_is_more_than_an_hour_against_the_steady_clock() {
        let at = |unix_s: u64, steady_s: u64| Now { unix_ns: unix_s * SECOND_NS, steady_ns: steady_s * SECOND_NS };
        let before = at(1_000_000, 10);
        for (now, leapt) in [
            (at(1_000_060, 70), false),
            (at(1_003_660, 70), false),
            (at(1_003_661, 70), true),
            (at(996_460, 70), false),
            (at(996_459, 70), true),
            (at(1_100_000, 100_010), false),
        ] {
            assert_eq!(has_leapt(before, now), leapt, "{now:?}");
        }
    }
}
