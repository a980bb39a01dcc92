//! Which rows a list shows, and in which order.

use super::{CounterIdentity, DailyKey, LedgerError, LedgerScope, PeriodRow, Secrets};
use crate::decide::plan::Id;

/// A subscriber, and one of its API keys where it counts by key. Lists are in this order, and are
/// cut between two of them.
pub type Whose = (Id, Option<Id>);

/// Which part of a list.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Periods that overlap this second and later ones,
    pub from_s: u64,
    /// up to this, which is not included.
    pub until_s: u64,
    /// The first whose periods are wanted.
    pub first: Whose,
    /// After so many rows it ends before the next subscriber or key.
    pub most: usize,
}

impl CounterIdentity {
    pub(super) fn whose(&self) -> Whose {
        (self.subscriber.clone(), self.key.clone())
    }
}

impl LedgerScope {
    pub(super) fn has(&self, identity: &CounterIdentity) -> bool {
        match self {
            Self::All => true,
            Self::Subscriber(id) => identity.subscriber == *id,
            Self::Key(id) => identity.key.as_ref() == Some(id),
            Self::Plan(id) => identity.plan == *id,
        }
    }

    pub(super) fn has_day(&self, key: &DailyKey) -> bool {
        match self {
            Self::All => true,
            Self::Subscriber(id) => key.subscriber == *id,
            Self::Key(id) => key.key == *id,
            Self::Plan(id) => key.plan == *id,
        }
    }
}

type Order<'a> = (&'a str, Option<&'a str>, &'a str, &'a str, &'a str, u64, u64);

impl PeriodRow {
    pub(super) fn order(&self) -> Order<'_> {
        let CounterIdentity { subscriber, key, plan, entitlement, quota } = &self.identity;
        (
            subscriber,
            key.as_deref(),
            plan,
            entitlement,
            &quota.name,
            self.period.start_s,
            self.counter.0,
        )
    }
}

impl Secrets {
    /// Fresh ones.
    pub(super) fn generate() -> Result<Self, LedgerError> {
        let mut secrets = Self { receipt_key: [0; 32], key_hash: [0; 32], fingerprint: [0; 16] };
        for bytes in
            [&mut secrets.receipt_key[..], &mut secrets.key_hash[..], &mut secrets.fingerprint[..]]
        {
            getrandom::fill(bytes).map_err(|wrong| {
                LedgerError::Fault(format!("the system gives no random bytes: {wrong}"))
            })?;
        }
        Ok(secrets)
    }
}
