//! Counters that every decision adds to. Each thread adds to cells of its own, which come to the
//! series when somebody looks: threads that decide at the same time do not wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::Counter;

/// Threads beyond it share.
const STRIPES: usize = 64;
/// The most series of one.
const PLACES: usize = 16;

/// Some series, each known by its place.
#[derive(Clone)]
pub struct Striped(Arc<Inner>);

struct Inner {
    series: Vec<Counter>,
    stripes: Box<[Stripe]>,
}

/// The cells of one thread, apart from those of others by two cache lines, as processors fetch
/// them.
#[derive(Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; PLACES]);

impl Striped {
    /// Of at most 16 series.
    pub(super) fn new(series: Vec<Counter>) -> Self {
        debug_assert!(series.len() <= PLACES, "{} series", series.len());
        Self(Arc::new(Inner {
            series,
            stripes: std::iter::repeat_with(Stripe::default).take(STRIPES).collect(),
        }))
    }

    pub fn add(&self, place: usize, number: u64) {
        if let Some(cell) =
            self.0.stripes.get(thread_number() % STRIPES).and_then(|stripe| stripe.0.get(place))
        {
            cell.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Adds to the series what was counted until now.
    pub(super) fn settle(&self) {
        for stripe in &self.0.stripes {
            for (cell, series) in stripe.0.iter().zip(&self.0.series) {
                let counted = cell.swap(0, Ordering::Relaxed);
                if counted > 0 {
                    series.increment(counted);
                }
            }
        }
    }
}

/// Another for each thread.
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl std::fmt::Debug for Striped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Striped")
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    #[test]
    fn what_threads_count_together_is_shown() {
        let metrics = Metrics::new();
        let counters =
            metrics.striped("tollgate_checks", &[[("verdict", "ALLOW")], [("verdict", "DENY")]]);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    (0..1000).for_each(|number| counters.add(usize::from(number % 10 == 0), 2))
                });
            }
        });
        for added in [0, 1] {
            counters.add(0, added);
            let text = metrics.render();
            assert!(
                text.contains(&format!("tollgate_checks{{verdict=\"ALLOW\"}} {}\n", 5400 + added)),
                "{text}"
            );
            assert!(text.contains("tollgate_checks{verdict=\"DENY\"} 600\n"), "{text}");
        }
    }
}
