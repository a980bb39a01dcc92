//! The words of the books: what a node and the ledger tell each other.
//!
//! A **holder** is a node, and which of its starts. A **counter** counts one quota of one subject,
//! or one key of a durable rule, by **period**. A holder **leases** units of a period ahead of use,
//! and **gives back** what it did not spend. A report **settles** a receipt: it leaves a **mark**,
//! so that it is done once, and a **delta** for each counter that changes. What a receipt carries
//! by number is a **named number**. A **window** is where a counter of a rate-limit rule stands. A
//! **daily row** is what happened to some requests on one day.
//!
//! The engine and every ledger use these types, and none of their own for the same thing.

use std::sync::Arc;

use super::calendar::Period;
use super::compiled::QuotaIdentity;
use super::plan::Id;

mod daily;
mod lease;
mod once;
mod settle;

pub use daily::{DailyChange, DailyCounts, DailyKey, DailyName, DailyRow, DailyUsage};
pub use lease::{Balance, GiveBack, GivenBack, Lease, LeaseRequest, MAX_COUNT_RULES, Refused};
pub use once::{GrantMade, Made, Once, OnceKind};
pub use settle::{ChargeRequest, Delta, GrantRequest, Mark, MarkKind, Settle, Settled};

/// Who leases: a service, and which of its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub id: u32,
    /// Counts the times that this holder joined, from 1. Earlier epochs are dead.
    pub epoch: u32,
}

/// Stands for the plan in the identity of a counter of a durable rule: its entitlement is the
/// domain, and its subscriber the name in there. No plan can have this id.
pub const RULES: &str = "(rules)";

/// Which counter. An edit of any of these starts another count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterIdentity {
    pub subscriber: Id,
    /// Where the entitlement counts by key.
    pub key: Option<Id>,
    pub plan: Id,
    pub entitlement: Id,
    pub quota: Arc<QuotaIdentity>,
}

/// The ledger's number for a counter, from 1, below 2^49. Never used for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId(pub u64);

/// A counter by its number, or by its name while the number is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    Known(CounterId),
    Named(CounterIdentity),
}

/// What a number in a receipt stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameKind {
    Key,
    Target,
}

/// The name behind a number that one holder and epoch puts into its receipts. It never gets another
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedName {
    pub kind: NameKind,
    pub number: u32,
    pub name: Id,
}

/// Where a counter of a rate-limit rule stands in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Names the counter for its holder: the same in every start of it.
    pub fingerprint: [u8; 16],
    /// When the window ends, in seconds since the Unix epoch.
    pub end_s: u64,
    /// Hits that the holder has counted in it.
    pub count: u64,
}

/// A subscriber, and one of its API keys where it counts by key. Lists of books are in this order,
/// and are cut between two of them.
pub type Whose = (Id, Option<Id>);

impl CounterIdentity {
    /// Does it count a durable rule?
    pub fn is_of_rule(&self) -> bool {
        &*self.plan == RULES
    }

    pub fn whose(&self) -> Whose {
        (self.subscriber.clone(), self.key.clone())
    }
}

/// Whose books to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Subscriber(Id),
    Key(Id),
    Plan(Id),
}

impl Scope {
    /// Is it in there? `key`: where something is counted by key.
    pub fn holds(&self, subscriber: &str, key: Option<&str>, plan: &str) -> bool {
        match self {
            Self::All => true,
            Self::Subscriber(id) => subscriber == &**id,
            Self::Key(id) => key == Some(&**id),
            Self::Plan(id) => plan == &**id,
        }
    }

    pub fn holds_counter(&self, counter: &CounterIdentity) -> bool {
        self.holds(&counter.subscriber, counter.key.as_deref(), &counter.plan)
    }

    pub fn holds_day(&self, key: &DailyKey) -> bool {
        self.holds(&key.subscriber, Some(&key.key), &key.plan)
    }
}

/// One counter in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodRow {
    pub counter: CounterId,
    pub identity: CounterIdentity,
    pub period: Period,
    pub charged: u64,
    pub granted: i64,
    /// Units of `charged` that dead epochs leased and did not tell to be spent. They cannot be
    /// spent any more.
    pub lost: u64,
    /// Units of `charged` that living epochs leased and did not tell to be spent yet.
    pub held: u64,
    /// When it was leased from or charged last.
    pub active_s: u64,
}

impl PeriodRow {
    /// Units known to be spent.
    pub fn used(&self) -> u64 {
        self.charged.saturating_sub(self.lost).saturating_sub(self.held)
    }
}

type Order<'a> = (&'a str, Option<&'a str>, &'a str, &'a str, &'a str, u64, u64);

impl PeriodRow {
    /// The order in which ledgers list them.
    pub fn order(&self) -> Order<'_> {
        let CounterIdentity { subscriber, key, plan, entitlement, quota } = &self.identity;
        (
            subscriber,
            key.as_deref(),
            plan,
            entitlement,
            &quota.name,
            self.period.start_s(),
            self.counter.0,
        )
    }
}
