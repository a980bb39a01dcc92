//! Finding the rule of a descriptor. What it costs depends on the descriptor, and not on the number
//! of rules; wildcards beside each other are tried one by one.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::pattern::Pattern;
use super::{Declared, LevelTraits, Rule};

/// A domain and its descriptors.
#[derive(Clone, Debug)]
pub struct Domain {
    pub(super) name: String,
    pub(super) all_or_nothing: bool,
    pub(super) has_durable: bool,
    pub(super) has_replacing: bool,
    pub(super) top: Level,
}

/// Descriptors beside each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// By `key`, or `key_value`.
    by_composite: Declared<usize>,
    /// One bit for each length that a composite has; from 63 on they share one.
    lengths: u64,
    /// Those with a `*`, in the order of the file.
    patterns: Vec<(Pattern, usize)>,
    nodes: Vec<Node>,
}

/// A descriptor of a file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) below: Level,
}

impl Domain {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the descriptors of one request are charged all or none.
    pub fn all_or_nothing(&self) -> bool {
        self.all_or_nothing
    }

    /// Whether any of its rules is durable.
    pub fn has_durable(&self) -> bool {
        self.has_durable
    }

    /// Whether any of its rules stands in for others.
    pub fn has_replacing(&self) -> bool {
        self.has_replacing
    }

    /// The rule for the entries (key and value) of a descriptor. At each level `key_value` is
    /// looked up, then the wildcards are tried in the order of the file, then `key` alone is looked
    /// up; what was found is never taken back. The rule must stand at exactly the depth of the last
    /// entry.
    pub fn find<'r, 'q>(&'r self, entries: &'q [(&'q [u8], &'q [u8])]) -> Option<Match<'r, 'q>> {
        let (last, before) = entries.split_last()?;
        let mut level = &self.top;
        for entry in before {
            level = &level.find(*entry)?.below;
        }
        let rule = level.find(*last)?.rule.as_ref()?;
        Some(Match { rule, entries })
    }
}

impl Level {
    pub(super) fn has(&self, composite: &str) -> bool {
        self.by_composite.contains_key(composite.as_bytes())
    }

    /// `composite` must not be there yet.
    pub(super) fn add(&mut self, composite: &str, node: Node) {
        let place = self.nodes.len();
        self.by_composite.insert(composite.as_bytes().into(), place);
        self.lengths |= length_bit(composite.len());
        self.patterns.extend(Pattern::new(composite).map(|pattern| (pattern, place)));
        self.nodes.push(node);
    }

    fn find(&self, (key, value): (&[u8], &[u8])) -> Option<&Node> {
        if self.nodes.is_empty() {
            return None;
        }
        // Most levels have keys alone, or values of other lengths: then there is no text to be put
        // together.
        let length = key.len() + 1 + value.len();
        let place = if self.patterns.is_empty() && self.lengths & length_bit(length) == 0 {
            None
        } else {
            let mut composite: SmallVec<[u8; 128]> = SmallVec::with_capacity(length);
            composite.extend_from_slice(key);
            composite.push(b'_');
            composite.extend_from_slice(value);
            let by_pattern = || {
                self.patterns
                    .iter()
                    .find(|(pattern, _)| pattern.fits(&composite))
                    .map(|(_, place)| place)
            };
            self.by_composite.get(&*composite).or_else(by_pattern)
        };
        self.nodes.get(*place.or_else(|| self.by_composite.get(key))?)
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// A rule, and the entries that it was found for.
#[derive(Clone, Copy, Debug)]
pub struct Match<'r, 'q> {
    pub rule: &'r Arc<Rule>,
    entries: &'q [(&'q [u8], &'q [u8])],
}

impl Match<'_, '_> {
    /// Feeds the identity of the counter to `level`, in pieces that belong together: `key`, `_` and
    /// `value` of the request at each level, or the wildcard where all its values share one
    /// counter. As in Envoy's service, (`a`, `b_c`) and (`a_b`, `c`) are one counter, so nothing
    /// may be put between the pieces of one level; two levels must be kept apart by their lengths.
    pub fn counter_levels(&self, mut level: impl FnMut(&[&[u8]])) {
        for ((key, value), composite, traits) in self.levels() {
            if traits.shares {
                level(&[composite.as_bytes()]);
            } else {
                level(&[key, b"_", value]);
            }
        }
    }

    /// The levels of the metric key, where it is another than the rule's path. Bytes that are not
    /// UTF-8 are replaced.
    pub fn metric_levels(&self) -> Option<Vec<String>> {
        if !self.rule.has_runtime_metric() {
            return None;
        }
        let detailed = self.rule.detailed_metric;
        // As in the reference: an empty value is shown as `key_` in a detailed metric, and as `key`
        // where any level shares its threshold.
        let shows_empty = detailed && !self.rule.traits.iter().any(|traits| traits.shares);
        let metric: Vec<String> = self
            .levels()
            .map(|((key, value), composite, traits)| match (lossy(key), shown(key, value)) {
                _ if traits.shares => composite.to_owned(),
                (key, value) if detailed || traits.value_to_metric => {
                    if value.is_empty() && !shows_empty {
                        key.into_owned()
                    } else {
                        format!("{key}_{value}")
                    }
                }
                _ => composite.to_owned(),
            })
            .collect();
        (metric != self.rule.levels).then_some(metric)
    }

    fn levels(&self) -> impl Iterator<Item = ((&[u8], &[u8]), &str, LevelTraits)> {
        let declared = self.rule.levels.iter().zip(&self.rule.traits);
        self.entries
            .iter()
            .zip(declared)
            .map(|(&entry, (composite, &traits))| (entry, composite.as_str(), traits))
    }
}

/// Descriptor keys whose values are credentials, whatever their case and their dashes.
const CREDENTIALS: [&[u8]; 3] = [b"api_key", b"x_api_key", b"authorization"];

/// The value of an entry as metrics show it. Bytes that are not UTF-8 are replaced, and of a
/// credential are shown the last four characters.
pub fn shown<'v>(key: &[u8], value: &'v [u8]) -> Cow<'v, str> {
    let same = |name: &[u8]| {
        name.len() == key.len()
            && name.iter().zip(key).all(|(name, key)| {
                *name == if *key == b'-' { b'_' } else { key.to_ascii_lowercase() }
            })
    };
    let text = lossy(value);
    if !CREDENTIALS.into_iter().any(same) {
        return text;
    }
    let hidden = text.chars().count().saturating_sub(4);
    if hidden == 0 {
        text
    } else {
        Cow::Owned(format!("…{}", text.chars().skip(hidden).collect::<String>()))
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
