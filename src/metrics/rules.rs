//! What the asks of rules came to. Each thread adds to sums of its own, which come to the series
//! when somebody looks: threads that decide by the same rule do not wait for each other.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::labels;
use super::striped::thread_number;
use crate::engine::rules::tally::Tally;

/// Threads beyond it share.
const STRIPES: usize = 64;

/// Rules that a thread has sums for at a time, whatever the number of rules: those that share a
/// place take turns.
const PLACES: usize = 512;

/// Series of rules whose labels come from requests (`detailed_metric`, `value_to_metric`,
/// overrides). Beyond it they share one.
pub(super) const MAX_DYNAMIC: usize = 10_000;

type Read = fn(&Tally) -> u64;

/// What is counted of a rule: what follows `ratelimit_service_rate_limit_`, and how it is read.
const COUNTED: [(&str, Read); 6] = [
    ("total_hits", |tally| tally.total_hits),
    ("over_limit", |tally| tally.over_limit),
    ("near_limit", |tally| tally.near_limit),
    ("within_limit", |tally| tally.within_limit),
    ("shadow_mode", |tally| tally.shadow_mode),
    ("total_negative_hits", |tally| tally.total_negative_hits),
];

/// The series of one rule. They are there for as long as somebody holds this: those of a rule that
/// is gone go with it.
#[derive(Clone)]
pub struct RuleMeters(Arc<Series>);

struct Series {
    /// Where threads have its sums.
    place: usize,
    /// As a scrape shows them.
    labels: String,
    counted: [AtomicU64; COUNTED.len()],
    gone: Arc<AtomicUsize>,
}

impl RuleMeters {
    fn add(&self, sum: &Tally) {
        for (counter, (_, read)) in self.0.counted.iter().zip(COUNTED) {
            counter.fetch_add(read(sum), Ordering::Relaxed);
        }
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

/// The series of all rules.
#[derive(Default)]
pub(super) struct RuleSeries {
    by_labels: DashMap<[String; 3], Entry>,
    registered: AtomicUsize,
    dynamic: AtomicUsize,
    /// Series that nobody holds any more, and that still have an entry.
    gone: Arc<AtomicUsize>,
}

struct Entry {
    series: Weak<Series>,
    /// Of those that no rules file holds.
    _kept: Option<RuleMeters>,
}

impl RuleSeries {
    /// Of a rule that the rules files declare.
    pub(super) fn declared(&self, domain: &str, levels: &[String]) -> RuleMeters {
        self.get_or_make(labels::of_rule(domain, levels), false)
    }

    /// Of a rule whose name a request had a part in. Bounded: beyond the bound all share the series
    /// `other`.
    pub(super) fn dynamic(&self, domain: &str, levels: &[String]) -> RuleMeters {
        let labels = labels::of_rule(domain, levels);
        if let Some(known) = self.by_labels.get(&labels).and_then(|entry| entry.series.upgrade()) {
            return RuleMeters(known);
        }
        if self.dynamic.fetch_add(1, Ordering::Relaxed) >= MAX_DYNAMIC {
            self.dynamic.fetch_sub(1, Ordering::Relaxed);
            return self.get_or_make(labels::of_rule("other", &[]), true);
        }
        self.get_or_make(labels, true)
    }

    fn get_or_make(&self, labels: [String; 3], keep: bool) -> RuleMeters {
        let mut entry = self
            .by_labels
            .entry(labels)
            .or_insert_with(|| Entry { series: Weak::new(), _kept: None });
        if let Some(known) = entry.series.upgrade() {
            return RuleMeters(known);
        }
        let series = Series {
            place: self.registered.fetch_add(1, Ordering::Relaxed) % PLACES,
            labels: labels::shown(entry.key()),
            counted: Default::default(),
            gone: self.gone.clone(),
        };
        let made = RuleMeters(Arc::new(series));
        *entry = Entry { series: Arc::downgrade(&made.0), _kept: keep.then(|| made.clone()) };
        made
    }

    /// How many rules have series.
    pub(super) fn len(&self) -> usize {
        self.by_labels.len()
    }

    /// Forgets the series that nobody holds any more.
    pub(super) fn forget_gone(&self) {
        if self.gone.swap(0, Ordering::Relaxed) > 0 {
            self.by_labels.retain(|_, entry| entry.series.strong_count() > 0);
        }
    }

    /// Appends what a scrape reads.
    pub(super) fn render(&self, text: &mut String) {
        let mut all: Vec<_> =
            self.by_labels.iter().filter_map(|entry| entry.series.upgrade()).collect();
        all.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
        for (place, (name, _)) in COUNTED.into_iter().enumerate().filter(|_| !all.is_empty()) {
            let _ = writeln!(text, "# TYPE ratelimit_service_rate_limit_{name} counter");
            for series in &all {
                let counted =
                    series.counted.get(place).map_or(0, |counted| counted.load(Ordering::Relaxed));
                let _ = writeln!(
                    text,
                    "ratelimit_service_rate_limit_{name}{{{}}} {counted}",
                    series.labels
                );
            }
            text.push('\n');
        }
    }
}

/// What the threads have counted and not yet added.
pub(super) struct RuleSums(Box<[Stripe]>);

/// The sums of one thread, apart from those of others by two cache lines, as processors fetch them.
/// Without sums until there is a first.
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

    fn shown(metrics: &Metrics, key: &str) -> Option<u64> {
        let text = metrics.render();
        let start =
            format!("ratelimit_service_rate_limit_total_hits{{domain=\"d\",key1=\"{key}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&start))
            .map(|number| number.parse().unwrap())
    }

    #[test]
    fn what_threads_count_together_is_shown_at_once_and_never_becomes_less() {
        let metrics = Metrics::new();
        let meters = metrics.declared_rule("d", &["k".to_owned()]);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| (0..10_000).for_each(|_| metrics.count(&meters, hits(2)))))
                .collect();
            let mut before = 0;
            while threads.iter().any(|thread| !thread.is_finished()) {
                let now = shown(&metrics, "k").unwrap();
                assert!(now >= before, "{now} after {before}");
                before = now;
            }
        });
        assert_eq!(shown(&metrics, "k"), Some(60_000));
        metrics.count(&meters, hits(1));
        assert_eq!(shown(&metrics, "k"), Some(60_001));
    }

    #[test]
    fn rules_that_share_a_place_lose_nothing() {
        let metrics = Metrics::new();
        let rules: Vec<_> = (0..=2 * PLACES)
            .map(|number| metrics.declared_rule("d", &[format!("k{number}")]))
            .collect();
        for _ in 0..3 {
            rules.iter().for_each(|meters| metrics.count(meters, hits(1)));
        }
        for number in [0, 1, PLACES, 2 * PLACES] {
            assert_eq!(shown(&metrics, &format!("k{number}")), Some(3), "k{number}");
        }
    }

    #[test]
    fn series_of_rules_that_are_gone_go_with_them_and_those_that_stay_count_on() {
        let metrics = Metrics::new();
        let edition = |number: usize| -> Vec<_> {
            let names =
                (0..100).map(|rule| format!("edition-{number}-{rule}")).chain(["stays".to_owned()]);
            names.map(|name| metrics.declared_rule("d", &[name])).collect()
        };
        let mut current = edition(0);
        for number in 1..20 {
            current.iter().for_each(|meters| metrics.count(meters, hits(1)));
            // As the rulebook does: the new is there before the old goes.
            let next = edition(number);
            drop(std::mem::replace(&mut current, next));
            metrics.run_upkeep();
            assert_eq!(metrics.rules.len(), 101, "edition {number}");
            assert_eq!(shown(&metrics, &format!("edition-{}-7", number - 1)), None);
            assert_eq!(shown(&metrics, &format!("edition-{number}-7")), Some(0));
            assert_eq!(shown(&metrics, "stays"), Some(number as u64));
        }
        // One that comes back begins again, as after a restart.
        current = edition(0);
        assert_eq!(shown(&metrics, "edition-0-7"), Some(0));
        drop(current);
    }

    #[test]
    fn a_scrape_frees_what_is_gone_of_no_one_else_does() {
        let metrics = Metrics::new();
        drop(metrics.declared_rule("d", &["gone".to_owned()]));
        let kept = metrics.dynamic_rule("d", &["of a request".to_owned()]);
        drop(kept);
        metrics.render();
        assert_eq!(metrics.rules.len(), 1);
        assert_eq!(shown(&metrics, "of a request"), Some(0));
    }
}
