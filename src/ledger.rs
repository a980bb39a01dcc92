//! Who may spend what, durably.
//!
//! The ledger holds, for every counter and period, `charged`: an upper bound of what was spent. A
//! holder (a running service) does not write what it has spent but what it *may* spend: it leases
//! units, which adds them to `charged`, and then admits requests from them in memory. A crash
//! therefore never forgets a charge; it wastes at most what was leased and not spent, shown as
//! `lost`.
//!
//! One interface ([`Ledger`]), three implementations ([`MemoryLedger`], [`SqliteLedger`],
//! [`PostgresLedger`]), and nothing that assumes one holder: each names itself and its epoch, amounts are cumulative so that
//! a repeat is harmless, and every operation is about the counters of one subject. [`LedgerThread`]
//! stands in front: it commits all that is waiting in one transaction, and answers by callbacks.
//!
//! A holder sends the operations on one counter in order, and repeats one only before it sends the
//! next.
//!
//! Time is an argument, in seconds since the Unix epoch. The words are those of
//! [`crate::decide::ledger`].

pub use crate::decide::ledger::{
    Balance, ChargeRequest, Counter, CounterId, CounterIdentity, DailyChange, DailyCounts,
    DailyKey, DailyName, DailyRow, Delta, GiveBack, GivenBack, GrantMade, GrantRequest, Holder,
    Lease, LeaseRequest, MAX_COUNT_RULES, Made, Mark, MarkKind, NameKind, NumberedName, Once,
    OnceKind, PeriodRow, Refused, Scope, Settle, Settled, Whose, WindowRow,
};
use crate::decide::outcome::CountRule;
use std::fmt;

mod balance;
mod catalog;
mod codes;
mod error;
pub mod faults;
mod listing;
mod memory;
mod operations;
pub mod postgres;
mod shown;
pub mod sqlite;
mod status;
mod thread;
mod times;

pub use catalog::{CatalogChange, CatalogEdit, CatalogImage, CatalogResource, RevisionConflict};
pub use error::LedgerError;
pub use listing::Stretch;
pub use memory::MemoryLedger;
pub use postgres::{PostgresLedger, PostgresSettings, Promise};
pub use sqlite::SqliteLedger;
pub use status::LedgerStatus;
pub use thread::{Callback, LedgerThread, Request};
pub use times::{Believed, Times};

/// What was made once and is kept with the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Authenticates receipts.
    pub receipt_key: [u8; 32],
    /// Hashes the values of API keys.
    pub key_hash: [u8; 32],
    /// Seeds the fingerprints of counters.
    pub fingerprint: [u8; 16],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// One thing to do. All operations of one [`Ledger::commit`] are done in their order, in one
/// transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Lease(LeaseRequest),
    GiveBack(GiveBack),
    Settle(Settle),
    Charge(ChargeRequest),
    Grant(GrantRequest),
    Edit(CatalogEdit),
    Daily(DailyReport),
    Names(NameReport),
    Windows(WindowReport),
    Remember(Remember),
    Expire(Expire),
}

/// What an operation did: the variant of the same place.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Lease(Result<Lease, Refused>),
    GiveBack(GivenBack),
    Settle(Settled),
    Charge(Result<Balance, Refused>),
    Grant(Result<GrantMade, Refused>),
    Edit(Result<u64, RevisionConflict>),
    Daily(()),
    Names(()),
    Windows(()),
    Remember(()),
    Expire(Expired),
}

/// Names that one holder and epoch has numbered. A repeat is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameReport {
    pub holder: Holder,
    pub names: Vec<NumberedName>,
}

/// Where counters of one holder stand. Each row replaces the one before: a repeat is harmless. A
/// holder that starts again takes over its own. Holders know nothing of each other's hits: what
/// must hold over all of them is leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowReport {
    pub holder: Holder,
    pub rows: Vec<WindowRow>,
}

/// Drops what is no longer needed, a bounded number of rows at a time. By default that is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expire {
    /// Marks whose receipts were all issued before this.
    pub marks_issued_before_s: u64,
    /// Periods that ended at this time or before. 48 h and the life of a receipt before now, at
    /// least.
    pub periods_ended_by_s: u64,
    /// Daily usage of days before this one.
    pub days_before: u64,
    /// Now. An epoch that is seen to be dead for the first time, or that a wrong clock saw end
    /// later, counts as ended now.
    pub now_s: Option<u64>,
    /// Names of epochs that ended before this: no receipt of theirs lives.
    pub names_ended_before_s: u64,
    /// Windows of rules that ended at this time or before.
    pub windows_ended_by_s: u64,
    /// Names of requests ([`OnceKind::Request`]) that were made before this.
    pub requests_made_before_s: u64,
    /// The same of charges.
    pub charges_made_before_s: u64,
    /// The same of checks.
    pub checks_made_before_s: u64,
    /// Kept for the next start. What cannot be old by this time, and was dropped as if it were, by
    /// a clock that was wrong, is open again from now on: periods that end later, and receipts that
    /// are issued later.
    pub believed: Option<Believed>,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub mark_rows: u64,
    pub periods: u64,
    pub counters: u64,
    pub days: u64,
    pub names: u64,
    pub windows: u64,
    pub made: u64,
    /// Periods or marks that were dropped by a wrong clock are open again, see
    /// [`Expire::believed`].
    pub reopened: bool,
    /// There may be more: ask again.
    pub more: bool,
}

impl Expired {
    /// Sums up what was dropped, at most `most` of each kind; of a kind of which as many were
    /// dropped there may be more. `made`: the operations of [`Expired::made`], by kind.
    pub(crate) fn up_to(most: u64, dropped: Self, made: [u64; 3]) -> Self {
        let Self { mark_rows, periods, days, names, windows, .. } = dropped;
        let rows = [mark_rows, periods, days, names, windows];
        let more = rows.iter().chain(&made).any(|rows| *rows == most);
        Self { made: made.iter().sum(), more, ..dropped }
    }
}

/// What one holder and epoch counted. The counts take the place of those that it reported before: a
/// repeat is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DailyReport {
    pub holder: Holder,
    /// Best in the order of their days and numbers, in which a ledger keeps them.
    pub rows: Vec<DailyChange>,
}

/// Keeps operations that were done elsewhere. One of a name that is kept takes its place: a repeat
/// is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remember {
    pub operations: Vec<Once>,
}

/// A durable record of what may be spent. Shared by threads; two holders may use one object at
/// once.
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Starts another epoch of a holder. Its earlier epochs are dead from now on: what they leased
    /// and did not spend is lost.
    fn join(&self, holder_id: u32) -> Result<Holder, LedgerError>;

    /// The keys, made when the ledger was made.
    fn secrets(&self) -> Result<Secrets, LedgerError>;

    /// Does all operations in their order, in one transaction, and gives their answers in the same
    /// order.
    ///
    /// # Errors
    /// Nothing was done, or it cannot be known whether all of it was. Leases, give-backs,
    /// settlements and reports may be sent again.
    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError>;

    /// The same, but where one operation fails by what it needs, a row that cannot be read, the
    /// others are done all the same: in their order, in as many transactions as that takes. Gives
    /// what became of each.
    fn commit_each(&self, operations: &[Operation]) -> Vec<Result<Answer, LedgerError>> {
        match self.commit(operations) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(wrong) => operations.iter().map(|_| Err(wrong.clone())).collect(),
        }
    }

    /// The operation that was done under a name, if it is still kept.
    fn find_made(&self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, LedgerError>;

    /// What it knows of time.
    fn times(&self) -> Result<Times, LedgerError>;

    /// The operations of a kind that were done after `after_s`, the oldest first. `visit` must not
    /// touch the ledger.
    fn load_made(
        &self,
        kind: OnceKind,
        after_s: u64,
        visit: &mut dyn FnMut([u8; 16], Made),
    ) -> Result<(), LedgerError>;

    /// The catalog as it was committed last.
    fn load_catalog(&self) -> Result<CatalogImage, LedgerError>;

    /// The count rules by their numbers.
    fn load_count_rules(&self) -> Result<Vec<(u16, CountRule)>, LedgerError>;

    /// The periods that end after `now_s`, in any order. `visit` must not touch the ledger.
    fn load_live(&self, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError>;

    /// The counters with a period that ended after `after_s`, at `by_s` or before, at most so many,
    /// in no order.
    fn load_ended(
        &self,
        after_s: u64,
        by_s: u64,
        most: usize,
        visit: &mut dyn FnMut(CounterId, CounterIdentity),
    ) -> Result<(), LedgerError>;

    /// The periods of a stretch of a list, in the order of names and time, and the subscriber and
    /// key that come next, where it was cut.
    fn usage_of(
        &self,
        scope: &Scope,
        stretch: &Stretch,
    ) -> Result<(Vec<PeriodRow>, Option<Whose>), LedgerError>;

    /// All periods of a scope that overlap `from_s` (included) to `until_s` (not), in the same
    /// order.
    fn usage(
        &self,
        scope: &Scope,
        from_s: u64,
        until_s: u64,
    ) -> Result<Vec<PeriodRow>, LedgerError> {
        Ok(self
            .usage_of(
                scope,
                &Stretch { from_s, until_s, first: Whose::default(), most: usize::MAX },
            )?
            .0)
    }

    /// The daily usage of a scope from the first to the last day, both included, in the order of
    /// its keys. What several holders or epochs, or several rows of one, have counted of one key is
    /// given apart: a holder knows better what it counts itself.
    fn daily(
        &self,
        scope: &Scope,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<(Holder, DailyRow)>, LedgerError>;

    /// The names that were numbered for receipts, those of the latest epochs first, at most so
    /// many.
    fn load_names(
        &self,
        most: usize,
        visit: &mut dyn FnMut(Holder, NumberedName),
    ) -> Result<(), LedgerError>;

    /// The windows that a holder counted in, in this epoch and before, and that end after `now_s`.
    fn load_windows(
        &self,
        holder_id: u32,
        now_s: u64,
        visit: &mut dyn FnMut(WindowRow),
    ) -> Result<(), LedgerError>;

    /// Called when nothing is waiting, or much was written, on a thread of its own: for work that
    /// must not delay a commit. Commits go on meanwhile.
    fn tidy(&self) -> Result<(), LedgerError>;

    /// What is wrong with the ledger although it works, for health: rows that are damaged, a file
    /// that is not where it was.
    fn concern(&self) -> Option<String> {
        None
    }

    /// Looks whether the ledger is still where it was. Called each second; what it finds is told,
    /// and is a [`Self::concern`].
    fn look(&self) {}

    /// What an answer is worth, where that depends on how a database is set up.
    fn promise(&self) -> Option<Promise> {
        None
    }

    /// Why nothing will ever be done here again: another process has taken this one's place.
    fn ended(&self) -> Option<LedgerError> {
        None
    }

    /// How many damaged rows were met.
    fn damaged_rows(&self) -> usize {
        0
    }

    /// Was so much written that [`Self::tidy`] should be called although operations are waiting?
    fn wants_tidying(&self) -> bool {
        false
    }

    /// Bytes that [`Self::tidy`] has to put in their place.
    fn untidy_bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
pub(crate) use memory::image::{Book, Image};

#[cfg(test)]
mod tests;
