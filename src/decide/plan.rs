//! The model of usage plans: what an operator declares, already checked.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use super::few::Few;
use super::gcra::MicroRate;
use super::rare::{Nothing, Rare};

pub mod validate;

/// A text that names something: 1 to 256 characters of `A-Z a-z 0-9 . _ ~ : / -`, a letter or a
/// digit first.
pub type Id = std::sync::Arc<str>;

/// What every resource carries beside its own fields, and most leave out.
pub type About = Rare<Said>;

/// What is said of a resource for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Empty: it is the id. See [`Said::name`].
    pub display_name: String,
    pub description: String,
    pub labels: BTreeMap<String, String>,
}

impl Nothing for Said {
    const NOTHING: &'static Self =
        &Self { display_name: String::new(), description: String::new(), labels: BTreeMap::new() };
}

impl Said {
    /// The display name of the resource with this id.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        if self.display_name.is_empty() { id } else { &self.display_name }
    }
}

/// A named set of entitlements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub id: Id,
    pub about: About,
    pub entitlements: Vec<Entitlement>,
}

impl Plan {
    /// May less of any quota be used than when the plan was `before`? Units of such a quota that
    /// somebody holds ahead of use may be too many.
    pub fn lowers(&self, before: &Self) -> bool {
        before.entitlements.iter().any(|was| {
            let kept = self
                .entitlements
                .iter()
                .find(|now| now.name == was.name && now.counter_scope == was.counter_scope);
            let quotas = kept.map_or(&[] as &[Quota], |now| &now.quotas);
            was.quotas.iter().any(|was| {
                !quotas.iter().any(|now| {
                    now.limit >= was.limit && Quota { limit: was.limit, ..now.clone() } == *was
                })
            })
        })
    }
}

/// A set of targets with what may be asked of them. Its counters are shared by its targets. No
/// limit and no quota: unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    pub name: Id,
    pub description: String,
    pub targets: Vec<Id>,
    pub rate_limit: Option<Rate>,
    pub method_rate_limits: Vec<MethodRate>,
    pub quotas: Vec<Quota>,
    pub counter_scope: CounterScope,
}

/// Who shares the counters of an entitlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterScope {
    #[default]
    Subscriber,
    Key,
}

/// A rate limit as it was declared. `burst: None` is the default, max(1, ceil(rate)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub rate: MicroRate,
    pub burst: Option<u64>,
}

/// A rate limit for the calls of one method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodRate {
    /// In capitals, or `*`.
    pub method: String,
    /// `/users/{id}`, `/files/*`.
    pub path: String,
    /// Only for calls to this target.
    pub target: Option<Id>,
    pub rate: Rate,
    /// In the place of the general rate limit, or beside it.
    pub replaces_general: bool,
}

/// A number of requests in a calendar period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub name: Id,
    pub limit: u64,
    pub unit: PeriodUnit,
    /// An IANA name; `UTC` by default.
    pub time_zone: Id,
    pub week_start: Weekday,
    pub on_breach: OnBreach,
    /// `None`: 1xx to 4xx count, 5xx and no response do not.
    pub count_statuses: Option<CountStatuses>,
    pub charge: Charge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeriodUnit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Weekday {
    #[default]
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnBreach {
    #[default]
    Reject,
    Allow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Charge {
    #[default]
    AtCheck,
    AtReport,
}

/// Which responses a quota counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountStatuses {
    /// `classes[0]` is 1xx.
    pub classes: [bool; 5],
    /// Single codes beside the classes, sorted.
    pub codes: Vec<u16>,
    /// Every class that is not named by a class or a code.
    pub others: bool,
}

/// An API deployment or stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: Id,
    pub about: About,
    pub rate_limit: Option<Rate>,
    /// `target` is `None` in each.
    pub method_rate_limits: Vec<MethodRate>,
    pub open_methods: Vec<OpenMethod>,
    pub default_plan: Option<Id>,
}

/// A call that needs no API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenMethod {
    pub method: String,
    pub path: String,
}

/// A customer.
// There may be millions: what most do not have is a word, and what a decision reads is in front,
// together. Likewise below.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Subscriber {
    pub id: Id,
    /// The first that covers a target decides.
    pub plans: Few<Id>,
    pub about: About,
}

const _: () = assert!(size_of::<Subscriber>() == 40);

/// A credential of a subscriber. The value is not here: the catalog keeps a keyed hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ApiKey {
    pub dates: Rare<Dates>,
    pub enabled: bool,
    pub last_four: LastFour,
    pub id: Id,
    pub subscriber: Id,
    pub about: About,
}

const _: () = assert!(size_of::<ApiKey>() == 56);

/// When an API key is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// Nanoseconds since the Unix epoch; valid from this instant on.
    pub not_before_ns: Option<u64>,
    /// Nanoseconds since the Unix epoch; not valid from this instant on.
    pub expire_ns: Option<u64>,
}

impl Nothing for Dates {
    const NOTHING: &'static Self = &Self { not_before_ns: None, expire_ns: None };
}

/// The last four characters of the value of an API key. Empty: it has none yet.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct LastFour([u8; 4]);

impl LastFour {
    /// `None`: it is neither empty nor four characters of ASCII, which every value is made of.
    pub fn new(text: &str) -> Option<Self> {
        match *text.as_bytes() {
            [] => Some(Self::default()),
            [a, b, c, d] if text.is_ascii() && a != 0 => Some(Self([a, b, c, d])),
            _ => None,
        }
    }

    /// Those of a value.
    pub fn of(value: &str) -> Option<Self> {
        value.len().checked_sub(4).and_then(|start| Self::new(value.get(start..)?))
    }
}

impl Deref for LastFour {
    type Target = str;

    fn deref(&self) -> &str {
        let is_empty = self.0 == [0; 4];
        // It is ASCII.
        std::str::from_utf8(&self.0).ok().filter(|_| !is_empty).unwrap_or_default()
    }
}

impl fmt::Debug for LastFour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        str::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
