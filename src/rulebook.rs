//! The rules in force: read from files and looked at again and again, or sent by a management server;
//! swapped whole.
//!
//! A reload replaces the rules of all domains at once. Files that cannot be used leave the old
//! rules in force, and that shows in the log, in the metrics and on `/rlconfig`.

mod aside;
mod files;
mod resources;
mod wanted;

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use metrics::Counter;
use parking_lot::Mutex;

use self::aside::aside;
use self::files::Found;
pub use self::wanted::Wanted;
use crate::config;
use crate::file_modes::{self, Holds};
use crate::metrics::{Metrics, RuleMeters};
use crate::rules::declared::File;
use crate::rules::{self, Limit, LoadOptions, PerUnit, Rule, RuleSet, Warning};

/// Of so many files it is looked at who else may write them.
const MOST_LOOKED_AT: usize = 1_000;

/// One load of the rules, with the series of each rule at hand.
#[derive(Debug)]
pub struct Edition {
    pub rules: RuleSet,
    /// By the number of the rule.
    meters: Vec<RuleMeters>,
    warnings: Vec<Warning>,
}

impl Edition {
    fn new(loaded: rules::Loaded, metrics: &Metrics) -> Self {
        let meters = loaded
            .rules
            .rules()
            .map(|rule| metrics.declared_rule(&rule.domain, &rule.levels))
            .collect();
        Self { rules: loaded.rules, meters, warnings: loaded.warnings }
    }

    /// The series of a rule of this edition.
    pub fn meters(&self, rule: &Rule) -> Option<&RuleMeters> {
        self.meters.get(rule.number)
    }
}

/// The rules files and what was last made of them.
#[derive(Debug)]
pub struct Rulebook {
    settings: config::Rules,
    metrics: Arc<Metrics>,
    current: ArcSwapOption<Edition>,
    seen: Mutex<Seen>,
    /// The resources in force, where rules come from a management server.
    kept: Mutex<Vec<Arc<File>>>,
    loads: Counter,
    failures: Counter,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was read last, or why it could not be. Compared with what is read next: contents are
    /// what decides, not times.
    files: Option<Result<Found, String>>,
    /// Why the files that were seen last are not in force.
    error: Option<String>,
}

impl Rulebook {
    /// Reads the rules for the first time. Without any path there are none, and every request is
    /// told so.
    ///
    /// # Errors
    /// Why the files cannot be used. A service that has never had rules must not seem to have them.
    pub fn open(settings: config::Rules, metrics: Arc<Metrics>) -> Result<Self, String> {
        metrics.describe_counter(
            "ratelimit_service_config_load_success",
            "Loads of rules that came into force",
        );
        metrics.describe_counter(
            "ratelimit_service_config_load_error",
            "Loads of rules that were refused, in part or whole",
        );
        let book = Self {
            loads: metrics.counter("ratelimit_service_config_load_success", &[]),
            failures: metrics.counter("ratelimit_service_config_load_error", &[]),
            settings,
            metrics,
            current: ArcSwapOption::empty(),
            seen: Mutex::new(Seen::default()),
            kept: Mutex::default(),
        };
        if book.settings.paths.is_empty() {
            return Ok(book);
        }
        book.refresh();
        let error = book.seen.lock().error.take();
        error.map_or(Ok(book), Err)
    }

    /// One without files.
    #[cfg(test)]
    pub fn empty(metrics: Arc<Metrics>) -> Self {
        let settings = config::Config::resolve(&config::Flags::default(), &|_| None).unwrap().rules;
        Self::open(settings, metrics).unwrap()
    }

    /// The rules in force.
    pub fn current(&self) -> arc_swap::Guard<Option<Arc<Edition>>> {
        self.current.load()
    }

    /// Is there a domain with rules?
    pub fn has_domains(&self) -> bool {
        self.current.load().as_ref().is_some_and(|edition| edition.rules.domains().next().is_some())
    }

    /// How often [`Self::refresh`] should be called, and whether at all.
    pub fn poll_ms(&self) -> Option<u64> {
        (!self.settings.paths.is_empty()).then_some(self.settings.poll_ms)
    }

    /// Reads the files, and where they differ from what was read last, tries to bring them into
    /// force. Blocks on the file system.
    pub fn refresh(&self) {
        let files = files::read(&self.settings);
        let mut seen = self.seen.lock();
        if seen.files.as_ref() == Some(&files) {
            return;
        }
        let options = LoadOptions { merge_domains: self.settings.merge_domains };
        let load = |found: &Found| {
            let mut loaded = rules::load(&found.sources, &options)?;
            loaded.warnings.extend(found.skipped.iter().cloned());
            Ok::<_, rules::LoadError>(Edition::new(loaded, &self.metrics))
        };
        // Many rules take a while, and the calls of that while must not wait for them.
        let loaded = files
            .as_ref()
            .map_err(String::clone)
            .and_then(|files| aside(|| load(files))?.map_err(|error| error.explained()));
        let paths = self.paths(&files);
        // First what is in force, then what was seen, then what is said of it: whatever stops this
        // halfway, the next look finds the edit again.
        match loaded {
            Ok(edition) => {
                let edition = Arc::new(edition);
                self.current.store(Some(edition.clone()));
                (seen.files, seen.error) = (Some(files), None);
                drop(seen);
                self.loads.increment(1);
                for warning in &edition.warnings {
                    tracing::warn!(
                        file = warning.file,
                        line = warning.line,
                        "rules: {}",
                        warning.text
                    );
                }
                file_modes::tell(&file_modes::all_findings(
                    paths.iter().map(|path| ("rules", path.as_path(), Holds::Decisions)),
                ));
                tracing::info!(
                    domains = edition.rules.domains().count(),
                    rules = edition.rules.rules().count(),
                    "rules loaded"
                );
            }
            Err(error) => {
                (seen.files, seen.error) = (Some(files), Some(error.clone()));
                drop(seen);
                self.failures.increment(1);
                // At the start the caller says so, and ends.
                if self.current.load().is_some() {
                    tracing::error!(
                        "the rules were not loaded, the old ones stay in force: {error}"
                    );
                }
            }
        }
    }

    /// Whoever may change one of them decides.
    fn paths(&self, files: &Result<Found, String>) -> Vec<PathBuf> {
        let read =
            files.iter().flat_map(|found| &found.sources).map(|file| PathBuf::from(&file.name));
        self.settings.paths.iter().cloned().chain(read).take(MOST_LOOKED_AT).collect()
    }

    /// How many rules are in force, in a line.
    pub fn summary(&self) -> String {
        let current = self.current.load();
        let Some(edition) = &*current else { return "no rules".to_owned() };
        let count = |number: usize, of: &str| {
            format!("{number} {of}{}", if number == 1 { "" } else { "s" })
        };
        let warnings = if edition.warnings.is_empty() {
            "no warnings".to_owned()
        } else {
            count(edition.warnings.len(), "warning")
        };
        let rules = count(edition.rules.rules().count(), "rule");
        format!("{rules} in {}, {warnings}", count(edition.rules.domains().count(), "domain"))
    }

    /// The rules in force as text, a line each, in the form of the reference; before them, as
    /// comments, what is wrong with the files.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        if let Some(error) = &self.seen.lock().error {
            let _ = writeln!(text, "# not in force: {error}");
        }
        let current = self.current.load();
        let Some(edition) = &*current else {
            text.push_str("# no rate limit configuration loaded\n");
            return text;
        };
        for warning in &edition.warnings {
            let _ = writeln!(text, "# warning: {warning}");
        }
        let mut lines: Vec<String> = edition.rules.rules().map(|rule| describe(rule)).collect();
        lines.sort_unstable();
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

fn describe(rule: &Rule) -> String {
    let per = |per: &PerUnit| {
        let multiplier = if per.multiplier == 1 {
            String::new()
        } else {
            format!(" unit_multiplier={}", per.multiplier)
        };
        format!("unit={}{multiplier} requests_per_unit={}", per.unit.name(), per.requests)
    };
    let limit = match &rule.limit {
        Limit::Unlimited => "unlimited".to_owned(),
        Limit::Window(window) => per(window),
        Limit::Calendar(window) => format!("{} calendar=true", per(window)),
        Limit::Bucket { per: rate, burst } => format!("{} burst={burst}", per(rate)),
    };
    let durable = if rule.durable.is_some() { ", durable: true" } else { "" };
    format!(
        "{}: {limit}, shadow_mode: {}, quota_mode: {}{durable}",
        rule.path, rule.shadow_mode, rule.quota_mode
    )
}

#[cfg(test)]
mod tests;
