//! Rules that come from a management server.

use std::sync::Arc;

use super::aside::aside;
use super::{Edition, Rulebook};
use crate::rules::resources::{Resources, accept};
use crate::rules::{LoadOptions, Loaded};

/// What is told of mistakes is bounded: it is sent to the server, and logged.
const MOST_TOLD: usize = 20;
const LONGEST_TOLD: usize = 1_000;

impl Rulebook {
    /// Puts a set of resources into the place of the one before: what is good of it comes into
    /// force, what is bad stays as it was when it was last good. Blocks while the rules are put
    /// together; calls do not wait for that.
    ///
    /// # Errors
    /// What is not in force, by name.
    pub fn take(&self, resources: Resources) -> Result<(), String> {
        let options = LoadOptions { merge_domains: self.settings.merge_domains };
        // One set after the other.
        let mut kept = self.kept.lock();
        let put_together = || {
            let accepted = accept(&kept, resources.clone(), &options)?;
            let loaded = Loaded { rules: accepted.rules, warnings: Vec::new() };
            let edition = Edition::new(loaded, &self.metrics);
            Ok::<_, crate::rules::LoadError>((edition, accepted.in_force, accepted.refused))
        };
        let done = aside(put_together).and_then(|done| done.map_err(|error| error.explained()));
        let (edition, in_force, refused) = match done {
            Ok(done) => done,
            Err(error) => return self.refuse(vec![error]),
        };
        // A server of which nothing was ever good has given no rules.
        if !in_force.is_empty() || refused.is_empty() || self.has_come() {
            tracing::info!(
                domains = edition.rules.domains().count(),
                rules = edition.rules.rules().count(),
                "rules loaded"
            );
            self.current.store(Some(Arc::new(edition)));
            *kept = in_force;
        }
        if refused.is_empty() {
            self.seen.lock().error = None;
            self.loads.increment(1);
            return Ok(());
        }
        self.refuse(refused.iter().map(|error| cut(error.explained())).collect())
    }

    fn refuse(&self, mut mistakes: Vec<String>) -> Result<(), String> {
        let more = mistakes.len().saturating_sub(MOST_TOLD);
        mistakes.truncate(MOST_TOLD);
        let mut told = mistakes.join("; ");
        if more > 0 {
            told.push_str(&format!("; and {more} more"));
        }
        self.seen.lock().error = Some(told.clone());
        self.failures.increment(1);
        Err(told)
    }

    /// Were there rules at any time, be it an empty set of them?
    pub fn has_come(&self) -> bool {
        self.current.load().is_some()
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TOLD) {
        text.truncate(end);
        text.push('…');
    }
    text
}
