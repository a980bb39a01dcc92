//! What the asks of rules came to. Each thread adds to sums of its own, which come to the series when somebody looks: threads that decide by
//! the same rule do not wait for each other.

use std::sync::Arc;

use metrics::Counter;
use parking_lot::Mutex;

use super::striped::thread_number;
use crate::engine::rules::tally::Tally;

/// Threads beyond it share.
const STRIPES: usize = 64;

/// Rules that a thread has sums for at a time, whatever the number of rules: those that share a place take turns.
const PLACES: usize = 512;

/// The series of one rule.
#[derive(Clone)]
pub struct RuleMeters(Arc<Series>);

struct Series {
    /// Where threads have its sums.
    place: usize,
    total_hits: Counter,
    over_limit: Counter,
    near_limit: Counter,
    within_limit: Counter,
    shadow_mode: Counter,
    total_negative_hits: Counter,
}

impl RuleMeters {
    /// `number` should be another for each rule. `series` is asked by the name after `ratelimit_service_rate_limit_`.
    pub(super) fn new(number: usize, series: impl Fn(&'static str) -> Counter) -> Self {
        Self(Arc::new(Series {
            place: number % PLACES,
            total_hits: series("ratelimit_service_rate_limit_total_hits"),
            over_limit: series("ratelimit_service_rate_limit_over_limit"),
            near_limit: series("ratelimit_service_rate_limit_near_limit"),
            within_limit: series("ratelimit_service_rate_limit_within_limit"),
            shadow_mode: series("ratelimit_service_rate_limit_shadow_mode"),
            total_negative_hits: series("ratelimit_service_rate_limit_total_negative_hits"),
        }))
    }

    fn add(&self, sum: &Tally) {
        for (counter, hits) in [
            (&self.0.total_hits, sum.total_hits),
            (&self.0.over_limit, sum.over_limit),
            (&self.0.near_limit, sum.near_limit),
            (&self.0.within_limit, sum.within_limit),
            (&self.0.shadow_mode, sum.shadow_mode),
            (&self.0.total_negative_hits, sum.total_negative_hits),
        ] {
            if hits > 0 {
                counter.increment(hits);
            }
        }
    }
}

/// What the threads have counted and not yet added.
pub(super) struct RuleSums(Box<[Stripe]>);

/// The sums of one thread, apart from those of others by two cache lines, as processors fetch them. Without sums until there is a first.
#[derive(Default)]
#[repr(align(128))]
struct Stripe(Mutex<Vec<Option<Sum>>>);

struct Sum {
    of: RuleMeters,
    tally: Tally,
}

impl RuleSums {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(Stripe::default).take(STRIPES).collect())
    }

    pub(super) fn count(&self, meters: &RuleMeters, tally: Tally) {
        let Some(stripe) = self.0.get(thread_number() % STRIPES) else { return };
        let mut sums = stripe.0.lock();
        if sums.is_empty() {
            sums.resize_with(PLACES, || None);
        }
        match sums.get_mut(meters.0.place) {
            Some(Some(sum)) if Arc::ptr_eq(&sum.of.0, &meters.0) => sum.tally += tally,
            Some(place) => {
                if let Some(other) = place.replace(Sum { of: meters.clone(), tally }) {
                    other.of.add(&other.tally);
                }
            }
            None => {}
        }
    }

    /// Adds to the series what was counted until now.
    pub(super) fn settle(&self) {
        for stripe in &self.0 {
            let mut sums = stripe.0.lock();
            for sum in sums.iter_mut().filter_map(Option::take) {
                sum.of.add(&sum.tally);
            }
        }
    }
}

impl std::fmt::Debug for RuleMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RuleMeters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn hits(number: u64) -> Tally {
        Tally { total_hits: number, within_limit: number, ..Tally::default() }
    }

    fn shown(metrics: &Metrics, key: &str) -> u64 {
        let text = metrics.render();
        let start = format!("ratelimit_service_rate_limit_total_hits{{domain=\"d\",key1=\"{key}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |number| number.parse().unwrap())
    }

    #[test]
    fn what_threads_count_together_is_shown_at_once_and_never_becomes_less() {
        let metrics = Metrics::new();
        let meters = metrics.declared_rule("d", &["k".to_owned()]);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..10_000).for_each(|_| metrics.count(&meters, hits(2))))).collect();
            let mut before = 0;
            while threads.iter().any(|thread| !thread.is_finished()) {
                let now = shown(&metrics, "k");
                assert!(now >= before, "{now} after {before}");
                before = now;
            }
        });
        assert_eq!(shown(&metrics, "k"), 60_000);
        metrics.count(&meters, hits(1));
        assert_eq!(shown(&metrics, "k"), 60_001);
    }

    #[test]
    fn rules_that_share_a_place_lose_nothing() {
        let metrics = Metrics::new();
        let rules: Vec<_> = (0..=2 * PLACES).map(|number| metrics.declared_rule("d", &[format!("k{number}")])).collect();
        for _ in 0..3 {
            rules.iter().for_each(|meters| metrics.count(meters, hits(1)));
        }
        for number in [0, 1, PLACES, 2 * PLACES] {
            assert_eq!(shown(&metrics, &format!("k{number}")), 3, "k{number}");
        }
    }
}
