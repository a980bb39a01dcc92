//! Update masks.

use prost_types::FieldMask;

use crate::catalog::{Field, Fields};
use crate::decide::plan::validate::Mistakes;
use crate::grpc::pb::tollgate::RateLimit;

/// Puts those fields of `$from` into `$to` that an update replaces.
macro_rules! take {
    ($mask:ident, $to:ident, $from:ident: $($field:ident),+) => {
        $($mask.take(stringify!($field), &mut $to.$field, $from.$field);)+
    };
}
pub(super) use take;

/// Fields that an update never reads, whatever the mask says.
const NEVER_READ: &[&str] = &["id", "etag", "revision", "create_time", "update_time", "last_four"];

/// The fields that an update replaces.
pub(super) enum Mask {
    /// Those that are set.
    Set,
    All,
    Some(Vec<String>),
}

impl Mask {
    /// `editable` are the fields that can be replaced.
    pub(super) fn read(mask: Option<FieldMask>, editable: &[&str], found: &mut Mistakes) -> Self {
        Self::read_at("update_mask", mask, editable, found)
    }

    /// The mask of the field `at`.
    pub(super) fn read_at(
        at: &str,
        mask: Option<FieldMask>,
        editable: &[&str],
        found: &mut Mistakes,
    ) -> Self {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            return Self::Set;
        }
        if paths.iter().any(|path| path == "*") {
            return Self::All;
        }
        for path in &paths {
            if !editable.contains(&path.as_str()) && !NEVER_READ.contains(&path.as_str()) {
                let shown: String = path.chars().take(64).collect();
                found.add(
                    at,
                    format!("names `{shown}`, which is not one of {}", editable.join(", ")),
                );
            }
        }
        Self::Some(paths)
    }

    /// Whether the update replaces a field, which in the message is set or not.
    fn replaces(&self, field: &str, set: bool) -> bool {
        match self {
            Self::Set => set,
            Self::All => true,
            Self::Some(paths) => paths.iter().any(|path| path == field),
        }
    }

    /// Puts `from` in the place of `to` if the update replaces this field.
    pub(super) fn take<T: Default + PartialEq>(&self, field: &str, to: &mut T, from: T) {
        if self.replaces(field, from != T::default()) {
            *to = from;
        }
    }

    /// The same for a rate limit: where the rate is replaced and the burst is not said, the burst
    /// stays.
    pub(super) fn take_rate(&self, to: &mut Option<RateLimit>, from: Option<RateLimit>) {
        let rate_alone = match self {
            Self::Set => from.is_some(),
            Self::All => false,
            Self::Some(_) => {
                !self.replaces("rate_limit", false)
                    && self.replaces(Field::RequestsPerSecond.path(), false)
            }
        };
        if rate_alone {
            let burst = to.as_ref().and_then(|limit| limit.burst);
            *to = from.map(|limit| RateLimit { burst: limit.burst.or(burst), ..limit });
        } else {
            self.take("rate_limit", to, from);
        }
    }

    /// The fields that are said, of those that are set or named.
    pub(super) fn fields(&self, set: &[(Field, bool)]) -> Fields {
        match self {
            Self::All => Fields::ALL,
            Self::Some(paths) => Fields::of(paths.iter().map(String::as_str)),
            Self::Set => {
                let mut fields = Fields::default();
                set.iter().filter(|(_, set)| *set).for_each(|(field, _)| fields.add(*field));
                fields
            }
        }
    }
}
