//! The kinds of resource, and how an id that the service made is told from a value.

/// The kinds of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Target,
    Plan,
    Subscriber,
    Key,
}

impl Kind {
    /// The word of the contract: `plan`, `target`, `subscriber`, `key`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Plan => "plan",
            Self::Subscriber => "subscriber",
            Self::Key => "key",
        }
    }
}

/// Begins every id that is made here.
pub(super) const ID_PREFIX: &str = "key-";

/// What is shown of a value: its last four characters.
pub(super) fn last_four(value: &str) -> String {
    let start = value.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    value.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_characters_are_shown() {
        assert_eq!(last_four("tg_0123456789"), "6789");
        assert_eq!(last_four("abc"), "abc");
    }
}
