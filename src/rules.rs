//! Rate-limit rules: the YAML of Envoy's global rate limit service, read, checked, compiled and
//! matched.
//!
//! [`load`] goes over each file twice, as that service does: first the names of all keys and the
//! types of all leaves (`keys`), then the fields (`declared`); only when all files have passed,
//! their meaning (`compile`). The first mistake ends it. What is legal but surely not meant becomes
//! a [`Warning`]. The result is a [`RuleSet`], which never changes; [`Domain::find`] gives the rule
//! of a descriptor.

mod compile;
pub mod declared;
mod keys;
mod matching;
mod pattern;
pub mod resources;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::quality::RandomState;

pub use matching::{Domain, Match, shown};

use crate::decide::compiled::CompiledQuota;
use crate::decide::plan::PeriodUnit;

/// By texts that files declare.
type Declared<V> = HashMap<Box<[u8]>, V, RandomState>;

/// One file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Stands before every message about the file.
    pub name: String,
    pub text: String,
}

/// How files are put together.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Several files may add descriptors to one domain. They must not have the same descriptor:
    /// nothing is merged below the domain.
    pub merge_domains: bool,
}

/// Rules that can be served, and what their author should hear about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub rules: RuleSet,
    pub warnings: Vec<Warning>,
}

/// Something that is legal and surely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: u32,
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// Why files of rules cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct LoadError {
    pub file: String,
    /// From 1; `None` where the mistake is something that is not there.
    pub line: Option<u32>,
    /// In the words of the reference, where it has some.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl LoadError {
    fn new(file: &str, line: impl Into<Option<u32>>, message: impl Into<String>) -> Self {
        let line = line.into().filter(|&line| line > 0);
        Self { file: file.to_owned(), line, message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The error with its line, and with what would be right.
    pub fn explained(&self) -> String {
        // A text that cannot be read names its line in the reference's words already.
        let line =
            self.line.filter(|_| !self.message.starts_with("error loading config file: line"));
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}{line}: {}{hint}", self.file, self.message)
    }

    /// A text that is no YAML, or a field of a wrong type.
    fn unreadable(file: &str, line: u32, reason: impl fmt::Display) -> Self {
        Self::new(file, line, format!("error loading config file: line {line}: {reason}"))
    }
}

/// Reads files of rules, in this order: it decides which of several fitting wildcards comes first
/// in a merged domain.
///
/// # Errors
/// The first mistake. Nothing is loaded then.
pub fn load(sources: &[Source], options: &LoadOptions) -> Result<Loaded, LoadError> {
    let mut warnings = Vec::new();
    let files =
        sources.iter().map(|source| read(source, &mut warnings)).collect::<Result<Vec<_>, _>>()?;
    let rules = compile::compile(&files, *options)?;
    Ok(Loaded { rules, warnings })
}

fn read(source: &Source, warnings: &mut Vec<Warning>) -> Result<declared::File, LoadError> {
    let document = crate::yaml::parse(&source.text)
        .map_err(|error| LoadError::unreadable(&source.name, error.line, error.reason))?;
    keys::check(&source.name, &document.root)?;
    let (file, mut found) = declared::File::read(&source.name, &document)?;
    warnings.append(&mut found);
    Ok(file)
}

/// All domains and their rules.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    domains: Vec<Domain>,
    by_name: Declared<usize>,
    rules: Vec<Arc<Rule>>,
}

impl RuleSet {
    /// The domain of this name.
    pub fn domain(&self, name: &[u8]) -> Option<&Domain> {
        self.by_name.get(name).and_then(|&place| self.domains.get(place))
    }

    /// All domains, in the order of the files.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter()
    }

    /// All rules, in the order of the files.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }
}

/// A descriptor that has a `rate_limit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub limit: Limit,
    /// Hits are charged to this quota, through any crash: never beyond the limit, and no refused
    /// ones. `None`: they are counted in memory.
    pub durable: Option<Arc<CompiledQuota>>,
    /// What `replaces` of other rules may name; empty where it has none.
    pub name: String,
    /// The names of the rules that this one stands in for, where both match one request.
    pub replaces: Vec<String>,
    /// Counts and never refuses.
    pub shadow_mode: bool,
    /// Refuses only where all such rules of the request refuse.
    pub quota_mode: bool,
    /// What the answer tells about a request that this rule admits.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where it stands: the domain and the levels, joined by dots.
    pub path: String,
    pub domain: String,
    /// `key`, or `key_value` where the descriptor has a value, level by level. Wildcards stand as
    /// they are written.
    pub levels: Vec<String>,
    /// Where it is declared.
    pub file: String,
    pub line: u32,
    /// Its place among all rules of its set.
    pub number: usize,
    detailed_metric: bool,
    traits: Vec<LevelTraits>,
}

impl Rule {
    /// Whether its metric key is made of the request's values.
    fn has_runtime_metric(&self) -> bool {
        self.detailed_metric
            || self.traits.iter().any(|level| level.value_to_metric && !level.shares)
    }
}

/// What a descriptor on the way to a rule says about values that it does not spell out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LevelTraits {
    /// All values that fit the wildcard share one counter.
    shares: bool,
    /// The metric key holds the value of the request.
    value_to_metric: bool,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Nothing is counted.
    Unlimited,
    /// So many in each window; windows are aligned to the Unix epoch. 0 requests deny all.
    Window(PerUnit),
    /// So many in each week from Monday, month or year of UTC. The multiplier is 1.
    Calendar(PerUnit),
    /// Tokens that come back evenly, at most `burst` at once. 0 requests deny all; `burst` may be 0
    /// only then.
    Bucket { per: PerUnit, burst: u32 },
}

/// Requests in a number of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerUnit {
    pub requests: u32,
    pub unit: Unit,
    /// At least 1.
    pub multiplier: u32,
}

impl PerUnit {
    /// The length of the window. At most 146 years, so that it fits into nanoseconds.
    pub fn seconds(&self) -> u64 {
        self.unit.seconds() * u64::from(self.multiplier)
    }
}

/// A unit of time, always of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    const ALL: [Self; 7] =
        [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
            Self::Year => 31_536_000,
        }
    }

    /// As a period of a calendar.
    pub fn period(self) -> PeriodUnit {
        match self {
            Self::Second | Self::Minute => PeriodUnit::Minute,
            Self::Hour => PeriodUnit::Hour,
            Self::Day => PeriodUnit::Day,
            Self::Week => PeriodUnit::Week,
            Self::Month => PeriodUnit::Month,
            Self::Year => PeriodUnit::Year,
        }
    }

    /// In capitals, as Envoy's API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "SECOND",
            Self::Minute => "MINUTE",
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }

    /// By its name in any case.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests;
