//! The meaning of the files: what is wrong with it, and the tree that requests are matched against.

use std::sync::Arc;

use super::declared::{Descriptor, File, Metadata, RateLimit};
use super::matching::{Domain, Level, Node};
use super::{LevelTraits, Limit, LoadError, LoadOptions, PerUnit, Rule, RuleSet, Unit};
use crate::decide::calendar::Calendar;
use crate::decide::compiled::{CompiledQuota, QuotaIdentity};
use crate::decide::gcra;
use crate::decide::outcome::CountRule;
use crate::decide::plan::{Charge, Id, OnBreach, PeriodUnit, Weekday};
use crate::decide::time::SECOND_NS;

/// The longest window: 146 years, so that instants in nanoseconds can be added to it.
const MAX_WINDOW_NS: u64 = 1 << 62;

/// The shortest window of a durable rule, in seconds: its counters take units from the ledger ahead
/// of use, and keep the books for days.
const MIN_DURABLE_S: u64 = 60;

/// How many bytes the paths of all rules may have together. Long keys above many rules could ask
/// for any amount of memory.
const MAX_PATHS_BYTES: usize = 256 << 20;

pub(super) fn compile<'f>(
    files: impl IntoIterator<Item = &'f File> + Clone,
    options: LoadOptions,
) -> Result<RuleSet, LoadError> {
    let mut set = RuleSet::default();
    let mut paths_bytes = 0;
    for file in files.clone() {
        let place = domain_of(&mut set, file, options)?;
        let Some(domain) = set.domains.get_mut(place) else { continue };
        let mut path =
            Path { text: file.domain.clone(), composites: Vec::new(), traits: Vec::new() };
        let first = set.rules.len();
        let mut compiler = Compiler { file, rules: &mut set.rules, paths_bytes: &mut paths_bytes };
        compiler.level(&mut domain.top, &mut path, &file.descriptors)?;
        domain.has_durable |= set.rules.iter().skip(first).any(|rule| rule.durable.is_some());
        domain.has_replacing |= set.rules.iter().skip(first).any(|rule| !rule.replaces.is_empty());
    }
    agree(files, &mut set)?;
    Ok(set)
}

/// The place of the file's domain in the set.
fn domain_of(set: &mut RuleSet, file: &File, options: LoadOptions) -> Result<usize, LoadError> {
    let name = &file.domain;
    if name.is_empty() {
        return Err(LoadError::new(&file.name, None, "config file cannot have empty domain"));
    }
    if let Some(&place) = set.by_name.get(name.as_bytes()) {
        return match options.merge_domains {
            true => Ok(place),
            false => Err(LoadError::new(
                &file.name,
                file.line,
                format!("duplicate domain '{name}' in config file"),
            )),
        };
    }
    let place = set.domains.len();
    set.by_name.insert(name.as_bytes().into(), place);
    set.domains.push(Domain {
        name: name.clone(),
        all_or_nothing: false,
        has_durable: false,
        has_replacing: false,
        top: Level::default(),
    });
    Ok(place)
}

/// `all_or_nothing` of a domain is what its files say; those that say nothing follow the others.
fn agree<'f>(
    files: impl IntoIterator<Item = &'f File> + Clone,
    set: &mut RuleSet,
) -> Result<(), LoadError> {
    // Resources never say so, and there may be many.
    if files.clone().into_iter().all(|file| file.all_or_nothing.is_none()) {
        return Ok(());
    }
    for domain in &mut set.domains {
        let mut said = None;
        for file in files.clone().into_iter().filter(|file| file.domain == domain.name) {
            match (said, file.all_or_nothing) {
                (Some(before), Some(now)) if before != now => {
                    let message = format!(
                        "all_or_nothing of domain '{}' must be the same in all files",
                        domain.name
                    );
                    return Err(LoadError::new(&file.name, file.line, message));
                }
                (_, now) => said = said.or(now),
            }
        }
        domain.all_or_nothing = said.unwrap_or_default();
    }
    Ok(())
}

/// What a descriptor is called on its level.
pub(super) fn composite(descriptor: &Descriptor) -> String {
    match (descriptor.key.as_str(), descriptor.value.as_str()) {
        (key, "") => key.to_owned(),
        (key, value) => format!("{key}_{value}"),
    }
}

/// From the domain to the level that is compiled.
struct Path {
    text: String,
    composites: Vec<String>,
    traits: Vec<LevelTraits>,
}

struct Compiler<'c> {
    file: &'c File,
    rules: &'c mut Vec<Arc<Rule>>,
    paths_bytes: &'c mut usize,
}

impl Compiler<'_> {
    /// As deep as the YAML, which is bounded.
    fn level(
        &mut self,
        level: &mut Level,
        path: &mut Path,
        descriptors: &[Descriptor],
    ) -> Result<(), LoadError> {
        let outer = path.text.len();
        for descriptor in descriptors {
            let composite = self.composite(descriptor)?;
            path.text.push('.');
            path.text.push_str(&composite);
            if level.has(&composite) {
                return Err(self.error(
                    descriptor.line,
                    format!("duplicate descriptor composite key '{}'", path.text),
                ));
            }
            path.traits.push(LevelTraits {
                shares: descriptor.share_threshold,
                value_to_metric: descriptor.value_to_metric,
            });
            path.composites.push(composite);
            let rule = self.rule(descriptor, path)?;
            let mut below = Level::default();
            self.level(&mut below, path, &descriptor.descriptors)?;
            path.traits.pop();
            if let Some(composite) = path.composites.pop() {
                level.add(&composite, Node { rule, below });
            }
            path.text.truncate(outer);
        }
        Ok(())
    }

    fn composite(&self, descriptor: &Descriptor) -> Result<String, LoadError> {
        if descriptor.key.is_empty() {
            return Err(self.error(descriptor.line, "descriptor has empty key"));
        }
        Ok(composite(descriptor))
    }

    /// The checks are in the order of the peer's.
    fn rule(
        &mut self,
        descriptor: &Descriptor,
        path: &Path,
    ) -> Result<Option<Arc<Rule>>, LoadError> {
        let limit =
            descriptor.rate_limit.as_ref().map(|declared| self.limit(declared)).transpose()?;
        let composite = path.composites.last().map(String::as_str).unwrap_or_default();
        if descriptor.share_threshold && !composite.contains('*') {
            let message = format!(
                "share_threshold can only be used with wildcard values (containing '*'), but found key '{composite}'"
            );
            return Err(self.error(descriptor.line, message));
        }
        let metadata = self.metadata(descriptor)?;
        let (Some(limit), Some(declared)) = (limit, &descriptor.rate_limit) else {
            return Ok(None);
        };
        let durable = if declared.durable == Some(true) {
            Some(Arc::new(self.durable(declared.line, limit)?))
        } else {
            None
        };
        self.reserve(path, declared.line)?;
        let rule = Arc::new(Rule {
            limit,
            durable,
            name: declared.name.clone(),
            replaces: declared.replaces.clone(),
            shadow_mode: descriptor.shadow_mode,
            quota_mode: descriptor.quota_mode,
            metadata,
            path: path.text.clone(),
            domain: self.file.domain.clone(),
            levels: path.composites.clone(),
            file: self.file.name.clone(),
            line: declared.line,
            number: self.rules.len(),
            detailed_metric: descriptor.detailed_metric,
            traits: path.traits.clone(),
        });
        self.rules.push(Arc::clone(&rule));
        Ok(Some(rule))
    }

    fn metadata(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<serde_json::Map<String, serde_json::Value>>, LoadError> {
        let node = match &descriptor.metadata {
            None => return Ok(None),
            Some(Metadata::Json(object)) => return Ok(Some(object.clone())),
            Some(Metadata::Yaml(node)) => node,
        };
        match node.to_json() {
            Ok(serde_json::Value::Object(object)) => Ok(Some(object)),
            Ok(_) => Err(self.error(
                node.line,
                format!("error parsing metadata: it must be a mapping, but is {}", node.describe()),
            )),
            Err(error) => Err(self.error(error.line, format!("error parsing metadata: {error}"))),
        }
    }

    fn reserve(&mut self, path: &Path, line: u32) -> Result<(), LoadError> {
        *self.paths_bytes = self.paths_bytes.saturating_add(path.text.len());
        if *self.paths_bytes > MAX_PATHS_BYTES {
            return Err(self.error(line, format!("the paths of all rules are longer than {MAX_PATHS_BYTES} bytes: use shorter keys")));
        }
        Ok(())
    }

    fn limit(&self, declared: &RateLimit) -> Result<Limit, LoadError> {
        let error = |message: String| Err(self.error(declared.line, message));
        let limit = match (Unit::named(&declared.unit), declared.unlimited) {
            (Some(_), true) => {
                return error("should not specify rate limit unit when unlimited".to_owned());
            }
            (None, true) => self.unlimited(declared)?,
            (None, false) => {
                let invalid = self
                    .error(declared.line, format!("invalid rate limit unit '{}'", declared.unit));
                return Err(invalid.hint("one of second, minute, hour, day, week, month, year"));
            }
            (Some(unit), false) => self.limited(declared, unit)?,
        };
        for name in &declared.replaces {
            if name.is_empty() {
                return error("should not have an empty replaces entry".to_owned());
            }
            if *name == declared.name {
                return error("replaces should not contain name of same descriptor".to_owned());
            }
        }
        Ok(limit)
    }

    fn unlimited(&self, declared: &RateLimit) -> Result<Limit, LoadError> {
        let given = [
            ("algorithm", declared.algorithm.is_some()),
            ("burst", declared.burst.is_some()),
            ("unit_multiplier", declared.unit_multiplier.is_some()),
            ("calendar", declared.calendar.is_some()),
            ("durable", declared.durable.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => {
                Err(self.error(declared.line, format!("should not specify {key} when unlimited")))
            }
            None => Ok(Limit::Unlimited),
        }
    }

    fn limited(&self, declared: &RateLimit, unit: Unit) -> Result<Limit, LoadError> {
        let error = |message: String| Err(self.error(declared.line, message));
        let multiplier = declared.unit_multiplier.unwrap_or(1);
        if multiplier == 0 {
            return error("unit_multiplier must be at least 1".to_owned());
        }
        let per =
            PerUnit { requests: declared.requests_per_unit.unwrap_or_default(), unit, multiplier };
        let Some(window_ns) =
            per.seconds().checked_mul(SECOND_NS).filter(|window| *window <= MAX_WINDOW_NS)
        else {
            return error(format!(
                "unit_multiplier {multiplier} makes a window of more than 146 years"
            ));
        };
        match declared.algorithm.as_deref() {
            None | Some("fixed_window") if declared.burst.is_some() => {
                error("burst can only be used with algorithm token_bucket".to_owned())
            }
            None | Some("fixed_window") if declared.calendar == Some(true) => {
                self.calendar(declared, per)
            }
            Some("token_bucket") if declared.calendar == Some(true) => {
                error("calendar cannot be used with algorithm token_bucket".to_owned())
            }
            None | Some("fixed_window") => Ok(Limit::Window(per)),
            Some("token_bucket") => self.bucket(declared, per, window_ns),
            Some(other) => error(format!(
                "invalid rate limit algorithm '{other}': use fixed_window or token_bucket"
            )),
        }
    }

    /// Days and what is shorter are the same in UTC, and so is their count.
    fn calendar(&self, declared: &RateLimit, per: PerUnit) -> Result<Limit, LoadError> {
        if per.multiplier != 1 {
            return Err(self.error(declared.line, "calendar cannot be used with unit_multiplier"));
        }
        Ok(match per.unit {
            Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => Limit::Window(per),
            Unit::Week | Unit::Month | Unit::Year => Limit::Calendar(per),
        })
    }

    fn durable(&self, line: u32, limit: Limit) -> Result<CompiledQuota, LoadError> {
        let (per, name, calendar) = match limit {
            Limit::Bucket { .. } | Limit::Unlimited => {
                return Err(self.error(
                    line,
                    "durable cannot be used with algorithm token_bucket: rates live in memory only",
                ));
            }
            Limit::Window(per) if per.seconds() < MIN_DURABLE_S => {
                return Err(self
                    .error(line, "durable can only be used with windows of a minute and longer"));
            }
            Limit::Window(per) => {
                (per, format!("{}s", per.seconds()), Calendar::fixed(per.seconds()))
            }
            Limit::Calendar(per) => (per, "calendar".to_owned(), Calendar::utc(per.unit.period())),
        };
        // The length is in the name of a window: its unit says nothing more.
        let unit = if matches!(limit, Limit::Calendar(_)) {
            per.unit.period()
        } else {
            PeriodUnit::Minute
        };
        let identity = QuotaIdentity {
            name: Id::from(name),
            unit,
            time_zone: Id::from("UTC"),
            week_start: Weekday::Monday,
        };
        Ok(CompiledQuota {
            identity: Arc::new(identity),
            limit: per.requests.into(),
            calendar,
            on_breach: OnBreach::Reject,
            charge: Charge::AtCheck,
            counts: CountRule::DEFAULT,
        })
    }

    fn bucket(
        &self,
        declared: &RateLimit,
        per: PerUnit,
        window_ns: u64,
    ) -> Result<Limit, LoadError> {
        if declared.burst == Some(0) {
            return Err(self.error(declared.line, "burst must be at least 1"));
        }
        let burst = declared.burst.unwrap_or(per.requests);
        if per.requests > 0 {
            gcra::RateLimit::new(per.requests.into(), window_ns, burst.into()).map_err(
                |reason| self.error(declared.line, format!("invalid token bucket: {reason}")),
            )?;
        }
        Ok(Limit::Bucket { per, burst })
    }

    fn error(&self, line: u32, message: impl Into<String>) -> LoadError {
        LoadError::new(&self.file.name, line, message)
    }
}
