//! The arithmetic of leases: what both ledgers do to a period and to a holder's share of it.

use super::{Balance, Holder};
use crate::decide::calendar::Period;
use crate::decide::quota::{Grant, Row};

/// The most units that a count can hold: what SQLite's integers can. Greater amounts stand for it.
pub(super) const MAX_UNITS: u64 = i64::MAX as u64;

/// One period of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) end_s: u64,
    pub(super) charged: u64,
    pub(super) granted: i64,
    pub(super) active_s: u64,
}

/// What one holder and epoch has of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// All units that it has leased and not given back.
    pub(super) leased: u64,
    /// Units of them that it told to be spent.
    pub(super) spent: u64,
}

impl Share {
    /// Units that may be spent or not: nobody told.
    pub(super) fn unspent(&self) -> u64 {
        self.leased.saturating_sub(self.spent)
    }

    /// Spending only grows: an old message takes nothing back.
    fn tell_spent(&mut self, spent: u64) {
        self.spent = self.spent.max(spent.min(self.leased));
    }
}

impl Account {
    pub(super) fn new(period: Period) -> Self {
        Self { end_s: period.end_s(), charged: 0, granted: 0, active_s: 0 }
    }

    fn row(&self) -> Row {
        Row { period: Period { start_ns: 0, end_ns: 0 }, used: self.charged, granted: self.granted }
    }

    /// Leases until the share is `want` units, or until limit and grants are all charged.
    pub(super) fn lease(
        &mut self,
        share: &mut Share,
        want: u64,
        spent: u64,
        limit: u64,
        may_pass: bool,
    ) {
        share.tell_spent(spent);
        let wanted = want.min(MAX_UNITS).saturating_sub(share.leased);
        let room = if may_pass { MAX_UNITS } else { self.row().remaining(limit) };
        let units = wanted.min(room).min(MAX_UNITS.saturating_sub(self.charged));
        self.charged += units;
        share.leased += units;
    }

    /// Takes back what the share has not spent, and gives the number of units.
    pub(super) fn give_back(&mut self, share: &mut Share, spent: u64) -> u64 {
        if spent < share.spent {
            return 0;
        }
        share.tell_spent(spent);
        let units = share.unspent();
        share.leased -= units;
        self.charged = self.charged.saturating_sub(units);
        units
    }

    /// Charges units, whatever the limit, or refunds them.
    pub(super) fn change(&mut self, units: i64) {
        self.charged = self.charged.saturating_add_signed(units).min(MAX_UNITS);
    }

    pub(super) fn grant(&mut self, change: Grant, limit: u64) {
        let mut row = self.row();
        row.grant(change, limit);
        self.granted = row.granted;
    }

    /// How it stands, as one holder sees it, or nobody in particular.
    pub(super) fn balance(&self, shares: &[(Holder, Share)], asking: Option<Holder>) -> Balance {
        let others = shares.iter().filter(|(holder, _)| Some(*holder) != asking);
        Balance {
            charged: self.charged,
            granted: self.granted,
            others: others.map(|(_, share)| share.unspent()).fold(0, u64::saturating_add),
        }
    }
}
