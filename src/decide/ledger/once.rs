//! Operations that are not safe to repeat by their nature, and what makes a repeat safe: the name
//! of each is kept in its own transaction.

use super::Balance;

/// What is named. Each kind has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnceKind {
    /// An operator's request: a grant, or an edit of the catalog.
    Request,
    /// A charge of a report without a receipt.
    Charge,
    /// An admission with an operation id, written at a clean stop.
    Check,
}

impl OnceKind {
    /// Of each kind the newest so many are kept; an expiry drops older ones.
    pub fn max_kept(self) -> u64 {
        match self {
            Self::Request => 10_000,
            Self::Charge => 1_000_000,
            Self::Check => 100_000,
        }
    }
}

/// Names an operation: it is done once, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    pub kind: OnceKind,
    /// A hash of the name that it was given.
    pub name: [u8; 16],
    /// A hash of all that is asked: under one name only one thing is done.
    pub fields: [u8; 16],
    /// What a repeat is answered with. The ledger does not read it.
    pub note: Vec<u8>,
    pub now_s: u64,
}

/// What is kept of an operation that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub fields: [u8; 16],
    pub note: Vec<u8>,
    pub made_s: u64,
    /// Where its counter stood after it. 0 of an edit.
    pub charged: u64,
    pub granted: i64,
}

impl Once {
    /// What is kept of it.
    pub fn made(&self, balance: Balance) -> Made {
        let Balance { charged, granted, .. } = balance;
        Made { fields: self.fields, note: self.note.clone(), made_s: self.now_s, charged, granted }
    }
}

/// What a grant did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantMade {
    /// Where the counter stands now. `None`: it was made before, and the ledger keeps nothing of
    /// the period that is asked about now.
    pub balance: Option<Balance>,
    /// It was made before, and nothing changed: what it came to then.
    pub first: Option<Made>,
}
