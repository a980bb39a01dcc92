//! Update masks.

use prost_types::FieldMask;

use crate::decide::plan::validate::Mistakes;

/// Fields that an update never reads, whatever the mask says.
const NEVER_READ: &[&str] = &["id", "etag", "revision", "create_time", "update_time", "last_four"];

/// The fields that an update replaces.
pub(super) enum Mask {
    All,
    Some(Vec<String>),
}

impl Mask {
    /// `editable` are the fields that can be replaced.
    pub(super) fn read(mask: Option<FieldMask>, editable: &[&str], found: &mut Mistakes) -> Self {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() || paths.iter().any(|path| path == "*") {
            return Self::All;
        }
        for path in &paths {
            if !editable.contains(&path.as_str()) && !NEVER_READ.contains(&path.as_str()) {
                let shown: String = path.chars().take(64).collect();
                found.add("update_mask", format!("names `{shown}`, which is not one of {}", editable.join(", ")));
            }
        }
        Self::Some(paths)
    }

    /// Puts `from` in the place of `to` if the update replaces this field.
    pub(super) fn take<T>(&self, field: &str, to: &mut T, from: T) {
        let replaces = match self {
            Self::All => true,
            Self::Some(paths) => paths.iter().any(|path| path == field),
        };
        if replaces {
            *to = from;
        }
    }
}
