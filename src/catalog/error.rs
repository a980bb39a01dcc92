//! Why an edit was refused.

use std::fmt;

use super::kind::{ID_PREFIX, Kind, last_four};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::KEY_VALUE_BYTES;

/// Those that are named in a refusal.
pub const MAX_NAMED: usize = 10;

/// Why an edit was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// What was declared cannot be used.
    #[error("{}", Listed(.0))]
    Invalid(Vec<Invalid>),
    #[error("there is no {} `{id}`", kind.word())]
    NotFound { kind: Kind, id: String },
    #[error("the {} `{id}` exists already", kind.word())]
    Exists { kind: Kind, id: String },
    #[error("the value is in use by the key `{id}`")]
    ValueInUse { id: String },
    #[error("the {} `{id}` was edited since: its etag is `{current}`, not `{given}`. Read it again and repeat the edit", kind.word())]
    Stale { kind: Kind, id: String, given: String, current: String },
    /// Others depend on it. `by` names at most [`MAX_NAMED`] of them, `count` says how many there
    /// are.
    #[error("the {} `{id}` {why}: {}", kind.word(), Named { by, count: *count })]
    InUse { kind: Kind, id: String, why: &'static str, by: Vec<String>, count: usize },
    /// What is not named would be most of a kind. `by` names at most [`MAX_NAMED`] of the `count`
    /// that would go.
    #[error(
        "prune would delete {count} of {of} {}s, more than half, and nothing was changed: {}. Say prune_all (--prune-all) where that is meant",
        kind.word(),
        Named { by, count: *count }
    )]
    MostOf { kind: Kind, by: Vec<String>, count: usize, of: usize },
    /// It is not known to be kept. It may be: reading the resource tells.
    #[error(
        "the edit could not be kept: {0}. Read the resource, and repeat the edit if it is not there"
    )]
    NotKept(String),
    /// Those before it wait for the ledger.
    #[error(
        "the edits before this one wait for the ledger, which does not answer: nothing was changed. Repeat the edit when the ledger works again"
    )]
    Waiting,
    #[error("the operating system gave no random bytes: {0}")]
    NoRandom(String),
}

impl EditError {
    /// One field that cannot be used.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![Invalid::new(field, reason)])
    }

    pub(super) fn not_found(kind: Kind, id: &str) -> Self {
        // Somebody may have taken the value of an API key for its id.
        let may_be_value =
            kind == Kind::Key && KEY_VALUE_BYTES.contains(&id.len()) && !id.starts_with(ID_PREFIX);
        Self::NotFound {
            kind,
            id: if may_be_value { format!("…{}", last_four(id)) } else { clipped(id) },
        }
    }
}

impl From<Vec<Invalid>> for EditError {
    fn from(mistakes: Vec<Invalid>) -> Self {
        Self::Invalid(mistakes)
    }
}

/// Ids in messages come from callers: they are kept short.
pub(super) fn clipped(id: &str) -> String {
    const MOST: usize = 256;
    if id.len() <= MOST {
        id.to_owned()
    } else {
        id.chars().take(MOST).chain("…".chars()).collect()
    }
}

struct Listed<'a>(&'a [Invalid]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 20;
        for (i, mistake) in self.0.iter().take(MOST).enumerate() {
            write!(f, "{}{mistake}", if i == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

struct Named<'a> {
    by: &'a [String],
    count: usize,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.by.join(", "))?;
        match self.count.saturating_sub(self.by.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
