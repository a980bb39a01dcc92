//! Grants: what an operator gives or takes in the current period of one counter.

use crate::decide::calendar::Period;
use crate::decide::plan::{Id, PeriodUnit};
use crate::decide::quota::Grant as Change;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    pub whose: Whose,
    pub plan: String,
    pub entitlement: String,
    pub quota: String,
    pub change: Change,
}

/// Whose counter is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    Subscriber(String),
    Key(String),
}

/// A change of the current period of one counter that the catalog knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub subscriber: Id,
    /// Set where the entitlement counts by key.
    pub key: Option<Id>,
    pub plan: Id,
    pub entitlement: Id,
    pub quota: Id,
    /// At most 2^53 units.
    pub change: Change,
}

/// The period of a counter after a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantAnswer {
    pub subscriber: Id,
    /// Where the entitlement counts by key.
    pub key: Option<Id>,
    pub plan: Id,
    pub entitlement: Id,
    pub quota: Id,
    pub unit: PeriodUnit,
    pub period: Period,
    /// Units in a period, without grants.
    pub limit: u64,
    pub granted: i64,
    /// Units beyond 2^53 are shown as that.
    pub used: u64,
    pub remaining: u64,
}
