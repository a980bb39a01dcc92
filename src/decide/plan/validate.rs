//! Which declarations can be used. Every mistake is collected and names its field, so that a person
//! mends a file in one go.

use std::collections::{BTreeMap, HashSet};

use super::{About, ApiKey, Id, OpenMethod, Subscriber, Target};
use crate::decide::invalid::Invalid;
use crate::decide::method::{Shape, is_any};

mod entitlements;
mod limits;
mod statuses;

pub use entitlements::plan;
pub use limits::micro_rate;
pub use statuses::{count_statuses, written_statuses};

/// Characters in an id.
pub const MAX_ID: usize = 256;
/// Characters in a display name.
pub const MAX_DISPLAY_NAME: usize = 256;
/// Characters in a description.
pub const MAX_DESCRIPTION: usize = 4_096;
/// Labels of a resource.
pub const MAX_LABELS: usize = 64;
/// Characters in the key of a label.
pub const MAX_LABEL_KEY: usize = 128;
/// Characters in the value of a label.
pub const MAX_LABEL_VALUE: usize = 1_024;
/// Entitlements of a plan.
pub const MAX_ENTITLEMENTS: usize = 100;
/// Targets of an entitlement.
pub const MAX_TARGETS: usize = 10_000;
/// Method rate limits of an entitlement or a target, and open methods of a target.
pub const MAX_METHODS: usize = 1_000;
/// Quotas of an entitlement.
pub const MAX_QUOTAS: usize = 16;
/// Plans of a subscriber.
pub const MAX_PLANS: usize = 100;
/// Requests that a quota can allow in a period: what JSON numbers hold exactly.
pub const MAX_QUOTA_LIMIT: u64 = 1 << 53;
/// Bytes in the value of an API key.
pub const KEY_VALUE_BYTES: std::ops::RangeInclusive<usize> = 20..=128;

/// Mistakes after which no more are collected: nobody reads on, and a hostile file must not cost
/// more than its own size.
const MAX_MISTAKES: usize = 100;

/// The mistakes found so far.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Invalid>);

impl Mistakes {
    /// Notes that `field` cannot be used. `reason` completes "`field` …".
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < MAX_MISTAKES {
            self.0.push(Invalid::new(field, reason));
        }
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were found and kept.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The fields that have one.
    pub fn fields(&self) -> HashSet<String> {
        self.0.iter().map(|mistake| mistake.field.clone()).collect()
    }

    /// Every mistake, seen from the resource or file that holds these declarations.
    pub fn add_within(&mut self, outer: &str, inner: Mistakes) {
        self.add_all_within(outer, inner.0);
    }

    /// The same, for mistakes that were found before.
    pub fn add_all_within(&mut self, outer: &str, inner: Vec<Invalid>) {
        for mistake in inner {
            let mistake = mistake.within(outer);
            self.add(mistake.field, mistake.reason);
        }
    }

    /// `value` when nothing was wrong, else all that was.
    pub fn or_else<T>(self, value: T) -> Result<T, Vec<Invalid>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// A target's own declaration. Whether its default plan covers it is the catalog's to say.
pub fn target(target: &Target, found: &mut Mistakes) {
    id("id", &target.id, found);
    about(&target.about, found);
    if let Some(limit) = &target.rate_limit {
        limits::rate("rate_limit", limit, found);
    }
    limits::method_rates("method_rate_limits", &target.method_rate_limits, None, found);
    open_methods(&target.open_methods, found);
    if let Some(plan) = &target.default_plan {
        id("default_plan", plan, found);
    }
}

fn open_methods(open: &[OpenMethod], found: &mut Mistakes) {
    at_most("open_methods", open.len(), MAX_METHODS, found);
    let mut seen = HashSet::new();
    for (i, call) in open.iter().take(MAX_METHODS).enumerate() {
        let at = format!("open_methods[{i}]");
        limits::method(&format!("{at}.method"), &call.method, found);
        limits::path(&format!("{at}.path"), &call.path, found);
        let method = if is_any(&call.method) { "*" } else { call.method.as_str() };
        if !seen.insert((method, Shape::of(&call.path))) {
            found.add(at, format!("names `{} {}` again", call.method, call.path));
        }
    }
}

/// A subscriber's own declaration. Whether its plans exist is the catalog's to say.
pub fn subscriber(subscriber: &Subscriber, found: &mut Mistakes) {
    id("id", &subscriber.id, found);
    about(&subscriber.about, found);
    at_most("plans", subscriber.plans.len(), MAX_PLANS, found);
    let mut seen = HashSet::new();
    for (i, plan) in subscriber.plans.iter().take(MAX_PLANS).enumerate() {
        id(&format!("plans[{i}]"), plan, found);
        if !seen.insert(plan) {
            found.add(format!("plans[{i}]"), format!("names the plan `{plan}` again"));
        }
    }
}

/// An API key's own declaration, without its value.
pub fn api_key(key: &ApiKey, found: &mut Mistakes) {
    id("id", &key.id, found);
    id("subscriber", &key.subscriber, found);
    about(&key.about, found);
    if let (Some(from), Some(to)) = (key.dates.not_before_ns, key.dates.expire_ns)
        && to <= from
    {
        found.add("expire_time", "must be after `not_before`");
    }
}

/// What a caller presents: 20 to 128 visible ASCII characters.
pub fn key_value(field: &str, value: &str, found: &mut Mistakes) {
    if !KEY_VALUE_BYTES.contains(&value.len()) {
        found.add(field, format!("must be 20 to 128 characters, not {}", value.chars().count()));
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        found.add(field, "must be visible ASCII characters, without spaces");
    }
}

/// An id: 1 to 256 characters of `A-Z a-z 0-9 . _ ~ : / -`, a letter or a digit first.
pub fn id(field: &str, text: &str, found: &mut Mistakes) {
    if let Some(reason) = wrong_id(text) {
        found.add(field, reason);
    }
}

fn wrong_id(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is needed".to_owned());
    }
    if text.len() > MAX_ID {
        return Some(format!("must be at most {MAX_ID} characters, not {}", text.chars().count()));
    }
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Some("must start with a letter or a digit (A-Z, a-z, 0-9)".to_owned());
    }
    let wrong = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._~:/-".contains(*c)))?;
    Some(format!("must not hold {wrong:?}: use A-Z a-z 0-9 . _ ~ : / -"))
}

fn about(about: &About, found: &mut Mistakes) {
    // A name that was left out is the id.
    let name = &about.display_name;
    if !longer("display_name", name, MAX_DISPLAY_NAME, found) && name.chars().any(char::is_control)
    {
        found.add("display_name", "must not hold control characters");
    }
    longer("description", &about.description, MAX_DESCRIPTION, found);
    labels(&about.labels, found);
}

fn labels(labels: &BTreeMap<String, String>, found: &mut Mistakes) {
    at_most("labels", labels.len(), MAX_LABELS, found);
    for (key, value) in labels.iter().take(MAX_LABELS) {
        if key.is_empty() {
            found.add("labels", "must not hold an empty key");
        } else if !longer("labels", key, MAX_LABEL_KEY, found) {
            longer(&format!("labels[{key:?}]"), value, MAX_LABEL_VALUE, found);
        }
    }
}

/// Notes a text of more than `most` characters.
fn longer(field: &str, text: &str, most: usize, found: &mut Mistakes) -> bool {
    // A text is never shorter in bytes than in characters, so most texts need no count.
    let long = text.len() > most && text.chars().count() > most;
    if long {
        found
            .add(field, format!("must be at most {most} characters, not {}", text.chars().count()));
    }
    long
}

fn at_most(field: &str, count: usize, most: usize, found: &mut Mistakes) {
    if count > most {
        found.add(field, format!("must be at most {most}, not {count}"));
    }
}

/// Where each text stood first.
fn first_places<'a>(
    texts: impl Iterator<Item = (String, &'a Id)>,
    mut again: impl FnMut(String, &str, &Id),
) {
    let mut seen: std::collections::HashMap<&Id, String> = std::collections::HashMap::new();
    for (place, text) in texts {
        if let Some(first) = seen.get(text) {
            again(place, first, text);
        } else {
            seen.insert(text, place);
        }
    }
}

#[cfg(test)]
mod tests;
