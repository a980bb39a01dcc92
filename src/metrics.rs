//! What an operator can see in numbers. The names of the rate-limit rules are those that dashboards
//! of the reference service read.

mod calls;
mod labels;
mod process;
mod rules;
mod striped;

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use parking_lot::Mutex;

pub use self::calls::CallMeter;
use self::calls::CallMeters;
pub use self::rules::RuleMeters;
use self::rules::{RuleSeries, RuleSums};
pub use self::striped::{Striped, thread_number};
use crate::engine::rules::tally::Tally;

/// From 10 µs, because a decision takes that, to the second at which every caller has given up.
const LATENCY_BUCKETS_S: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0,
];

const METADATA: Metadata<'_> = Metadata::new("tollgate", Level::INFO, None);

/// All series of the process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    calls: CallMeters,
    rules: RuleSeries,
    sums: RuleSums,
    striped: Mutex<Vec<Striped>>,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        // Fails only for an empty list of buckets.
        let builder = match builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_BUCKETS_S)
        {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self {
            recorder,
            handle,
            calls: CallMeters::default(),
            rules: RuleSeries::default(),
            sums: RuleSums::new(),
            striped: Mutex::default(),
        }
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        self.settle();
        self.rules.forget_gone();
        let mut text = self.handle.render();
        self.rules.render(&mut text);
        self.calls.render(&mut text);
        process::render(&mut text);
        text
    }

    /// A meter of calls of a method, for one thread alone. What several count of one method is
    /// shown as one.
    pub fn calls(&self, method: &str) -> Arc<CallMeter> {
        self.calls.add(method)
    }

    /// Counts what an ask of a rule came to.
    pub fn count(&self, meters: &RuleMeters, tally: Tally) {
        self.sums.count(meters, tally);
    }

    /// Folds the recorded latencies together. Call it every second or so: until then each takes
    /// memory.
    pub fn run_upkeep(&self) {
        self.settle();
        self.rules.forget_gone();
        self.handle.run_upkeep();
    }

    fn settle(&self) {
        self.sums.settle();
        self.striped.lock().iter().for_each(Striped::settle);
    }

    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    /// At most 16 series of one name, for what every decision counts.
    pub fn striped<const N: usize>(
        &self,
        name: &'static str,
        labels: &[[(&'static str, &str); N]],
    ) -> Striped {
        let striped =
            Striped::new(labels.iter().map(|labels| self.counter(name, labels)).collect());
        self.striped.lock().push(striped.clone());
        striped
    }

    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    /// Says in the exposition what a series means.
    pub fn describe_counter(&self, name: &'static str, meaning: &'static str) {
        self.recorder.describe_counter(name.into(), None, meaning.into());
    }

    /// Says in the exposition what a series means.
    pub fn describe_gauge(&self, name: &'static str, meaning: &'static str) {
        self.recorder.describe_gauge(name.into(), None, meaning.into());
    }

    /// The series of a rule that the rules files declare, for as long as somebody holds them.
    pub fn declared_rule(&self, domain: &str, levels: &[String]) -> RuleMeters {
        self.rules.declared(domain, levels)
    }

    /// The series of a rule whose name a request had a part in. Bounded: beyond the bound all share
    /// the series `other`.
    pub fn dynamic_rule(&self, domain: &str, levels: &[String]) -> RuleMeters {
        self.rules.dynamic(domain, levels)
    }

    /// How many rules have series.
    pub fn rules_with_series(&self) -> usize {
        self.rules.len()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(
        name,
        labels
            .iter()
            .map(|(name, value)| Label::new(*name, (*value).to_owned()))
            .collect::<Vec<_>>(),
    )
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_named_by_requests_are_bounded() {
        let metrics = Metrics::new();
        let hit = Tally { total_hits: 1, ..Tally::default() };
        let declared = metrics.declared_rule("domain", &["key_value".to_owned()]);
        metrics.count(&declared, hit);
        for value in 0..rules::MAX_DYNAMIC + 10 {
            metrics.count(&metrics.dynamic_rule("domain", &[format!("key_{value}")]), hit);
        }
        assert_eq!(metrics.rules.len(), rules::MAX_DYNAMIC + 2);
        let text = metrics.render();
        assert!(text.contains(
            r#"ratelimit_service_rate_limit_total_hits{domain="domain",key1="key_value"} 1"#
        ));
        assert!(
            text.contains(r#"ratelimit_service_rate_limit_total_hits{domain="other",key1=""} 10"#)
        );
    }

    #[test]
    fn latencies_have_buckets_below_a_millisecond() {
        let metrics = Metrics::new();
        metrics.histogram("some_seconds", &[]).record(0.000_03);
        metrics.run_upkeep();
        assert!(metrics.render().contains(r#"some_seconds_bucket{le="0.00005"} 1"#));
    }
}
