//! What a caller may do.

use std::fmt;

/// What a caller may do. None includes another, but what can be read can also be read by `admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// Ask for decisions.
    Decide,
    /// Report how requests ended.
    Report,
    /// Read plans, targets, subscribers, API keys (never their values) and usage.
    Read,
    /// Edit them, and grant units.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Decide, Self::Report, Self::Read, Self::Admin];

    /// As the tokens file and the command line spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Report => "report",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Decide => 1,
            Self::Report => 2,
            Self::Read => 4,
            Self::Admin => 8,
        }
    }
}

/// Several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    pub const NONE: Self = Self(0);
    pub const DECIDE: Self = Self(Scope::Decide.bit());
    pub const REPORT: Self = Self(Scope::Report.bit());
    pub const ADMIN: Self = Self(Scope::Admin.bit());
    pub const DECIDE_OR_REPORT: Self = Self::DECIDE.union(Self::REPORT);
    pub const READ_OR_ADMIN: Self = Self(Scope::Read.bit()).union(Self::ADMIN);

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Whether one of `needs` is among them.
    pub const fn meets(self, needs: Self) -> bool {
        self.0 & needs.0 != 0
    }

    /// Whether all of `others` are among them.
    pub const fn holds(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// `decide or report`, in backquotes.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0).enumerate();
        for (index, scope) in named {
            write!(f, "{}`{}`", if index == 0 { "" } else { " or " }, scope.name())?;
        }
        Ok(())
    }
}
