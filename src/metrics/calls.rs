//! Calls and how long they took, counted so cheaply that every call can be.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Upper bounds in nanoseconds: from 10 µs, because a decision takes that, to the second at which
/// every caller has given up.
const BOUNDS_NS: [u64; 16] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
];

/// A histogram of one method and one thread, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CallTimes {
    /// Calls by the first bound that they do not exceed.
    within: [AtomicU64; BOUNDS_NS.len()],
    longer: AtomicU64,
    sum_ns: AtomicU64,
}

impl CallTimes {
    /// Counts one call.
    pub fn record(&self, ns: u64) {
        let place = BOUNDS_NS.iter().position(|&bound| ns <= bound);
        place
            .and_then(|place| self.within.get(place))
            .unwrap_or(&self.longer)
            .fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// Those of all threads, by method.
#[derive(Debug, Default)]
pub(super) struct AllCallTimes(Mutex<BTreeMap<String, Vec<Arc<CallTimes>>>>);

impl AllCallTimes {
    pub(super) fn add(&self, method: &str) -> Arc<CallTimes> {
        let times = Arc::new(CallTimes::default());
        self.0.lock().entry(method.to_owned()).or_default().push(times.clone());
        times
    }

    /// Appends what a scrape reads; of methods that were called.
    pub(super) fn render(&self, text: &mut String) {
        let all = self.0.lock();
        let called: Vec<_> = all
            .iter()
            .map(|(method, all)| (method, Sum::of(all)))
            .filter(|(_, sum)| sum.count > 0)
            .collect();
        if called.is_empty() {
            return;
        }
        text.push_str("# HELP ratelimit_service_total_requests Calls, by method\n# TYPE ratelimit_service_total_requests counter\n");
        for (method, sum) in &called {
            let _ = writeln!(
                text,
                "ratelimit_service_total_requests{{grpc_method=\"{method}\"}} {}",
                sum.count
            );
        }
        text.push_str("\n# TYPE ratelimit_service_response_time_seconds histogram\n");
        for (method, sum) in &called {
            sum.render(method, text);
        }
        text.push('\n');
    }
}

/// What the threads counted together.
struct Sum {
    within: [u64; BOUNDS_NS.len()],
    count: u64,
    ns: u64,
}

impl Sum {
    fn of(all: &[Arc<CallTimes>]) -> Self {
        let mut sum = Self { within: [0; BOUNDS_NS.len()], count: 0, ns: 0 };
        for times in all {
            for (all, one) in sum.within.iter_mut().zip(&times.within) {
                *all += one.load(Ordering::Relaxed);
            }
            sum.count += times.longer.load(Ordering::Relaxed);
            sum.ns += times.sum_ns.load(Ordering::Relaxed);
        }
        sum.count += sum.within.iter().sum::<u64>();
        sum
    }

    #[allow(clippy::cast_precision_loss)]
    fn render(&self, method: &str, text: &mut String) {
        const NAME: &str = "ratelimit_service_response_time_seconds";
        let mut so_far = 0;
        for (bound_ns, calls) in BOUNDS_NS.iter().zip(self.within) {
            so_far += calls;
            let _ = writeln!(
                text,
                "{NAME}_bucket{{grpc_method=\"{method}\",le=\"{}\"}} {so_far}",
                *bound_ns as f64 / 1e9
            );
        }
        let _ =
            writeln!(text, "{NAME}_bucket{{grpc_method=\"{method}\",le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{NAME}_sum{{grpc_method=\"{method}\"}} {}", self.ns as f64 / 1e9);
        let _ = writeln!(text, "{NAME}_count{{grpc_method=\"{method}\"}} {}", self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_threads_count_is_shown_as_one_histogram() {
        let all = AllCallTimes::default();
        let (one, other) = (all.add("Check"), all.add("Check"));
        all.add("NeverCalled");
        one.record(10_000);
        other.record(10_001);
        other.record(2_000_000_000);
        let mut text = String::new();
        all.render(&mut text);
        let shown: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains("_bucket") || line.contains("le=\"0.0000"))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        # HELP ratelimit_service_total_requests Calls, by method
        # TYPE ratelimit_service_total_requests counter
        ratelimit_service_total_requests{grpc_method="Check"} 3

        # TYPE ratelimit_service_response_time_seconds histogram
        ratelimit_service_response_time_seconds_bucket{grpc_method="Check",le="0.00001"} 1
        ratelimit_service_response_time_seconds_bucket{grpc_method="Check",le="0.000025"} 2
        ratelimit_service_response_time_seconds_bucket{grpc_method="Check",le="0.00005"} 2
        ratelimit_service_response_time_seconds_sum{grpc_method="Check"} 2.000020001
        ratelimit_service_response_time_seconds_count{grpc_method="Check"} 3
        "#);
        assert!(text.contains("le=\"1\"} 2\n") && text.contains("le=\"+Inf\"} 3\n"), "{text}");
    }
}
