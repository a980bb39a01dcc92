//! What an operator can see in numbers. The names of the rate-limit rules are those that dashboards
//! of the reference service read.

mod calls;
mod extra;
mod labels;
mod process;
mod rules;
mod striped;

use std::sync::Arc;

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

use self::calls::AllCallTimes;
pub use self::calls::CallTimes;
pub use self::extra::ExtraLabels;
pub use self::rules::RuleMeters;
use self::rules::{RuleSeries, RuleSums};
pub use self::striped::{Striped, thread_number};
use crate::engine::rules::tally::Tally;

const METADATA: Metadata<'_> = Metadata::new("tollgate", Level::INFO, None);

/// All series of the process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    calls: AllCallTimes,
    rules: RuleSeries,
    sums: RuleSums,
    striped: Mutex<Vec<Striped>>,
    extra: ExtraLabels,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        Self::with_labels(ExtraLabels::default())
    }

    /// Every series has these labels.
    #[must_use]
    pub fn with_labels(extra: ExtraLabels) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self {
            recorder,
            handle,
            calls: AllCallTimes::default(),
            rules: RuleSeries::default(),
            sums: RuleSums::new(),
            striped: Mutex::default(),
            extra,
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
        self.extra.give_to(text)
    }

    /// How long calls of a method took, for one thread alone. What several count of one method is
    /// shown as one.
    pub fn calls(&self, method: &str) -> Arc<CallTimes> {
        self.calls.add(method)
    }

    /// Counts what an ask of a rule came to.
    pub fn count(&self, meters: &RuleMeters, tally: Tally) {
        self.sums.count(meters, tally);
    }

    /// Adds up what the threads counted, and forgets the series of rules that are gone. Call it
    /// every second or so: nobody may ever ask for the text.
    pub fn run_upkeep(&self) {
        self.settle();
        self.rules.forget_gone();
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
}
