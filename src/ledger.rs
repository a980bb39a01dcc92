//! Who may spend what, durably.
//!
//! The ledger holds, for every counter and period, `charged`: an upper bound of what was spent. A
//! holder (a running service) does not write what it has spent but what it *may* spend: it leases
//! units, which adds them to `charged`, and then admits requests from them in memory. A crash
//! therefore never forgets a charge; it wastes at most what was leased and not spent, shown as
//! `lost`.
//!
//! One interface ([`Ledger`]), two implementations ([`MemoryLedger`], [`SqliteLedger`]), and
//! nothing that assumes one holder: each names itself and its epoch, amounts are cumulative so that
//! a repeat is harmless, and every operation is about the counters of one subject. [`LedgerThread`]
//! stands in front: it commits all that is waiting in one transaction, and answers by callbacks.
//!
//! A holder sends the operations on one counter in order, and repeats one only before it sends the
//! next.
//!
//! Time is an argument, in seconds since the Unix epoch.

use std::fmt;
use std::sync::Arc;

use crate::decide::compiled::QuotaIdentity;
use crate::decide::plan::Id;
use crate::decide::quota::Grant;

mod balance;
mod catalog;
mod daily;
mod error;
pub mod faults;
mod listing;
mod memory;
mod once;
mod operations;
mod shown;
pub mod sqlite;
mod status;
mod thread;
mod times;

pub use catalog::{CatalogChange, CatalogEdit, CatalogImage, CatalogResource, RevisionConflict};
pub use daily::{DailyChange, DailyCounts, DailyKey, DailyName, DailyReport, DailyRow};
pub use error::LedgerError;
pub use listing::{Stretch, Whose};
pub use memory::MemoryLedger;
pub use once::{GrantMade, Made, Once, OnceKind, Remember};
pub use sqlite::SqliteLedger;
pub use status::LedgerStatus;
pub use thread::{Callback, LedgerThread, Request};
pub use times::{Believed, Times};

/// Who leases: a service, and which of its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub id: u32,
    /// Counts the times that this holder joined, from 1. Earlier epochs are dead.
    pub epoch: u32,
}

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

/// A period of a counter, seconds since the Unix epoch. Its start names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LedgerPeriod {
    pub start_s: u64,
    /// The first second of the next period.
    pub end_s: u64,
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

/// Why an operation did nothing. Asking again gives the same answer until something else changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The limit was edited since: look it up and ask again.
    #[error("the limit is older than the one of revision {newest}, which the ledger has seen")]
    StaleLimit { newest: u64 },
    /// The number names no counter (any more): ask by name.
    #[error("the ledger has no counter of this number")]
    UnknownCounter,
    /// What was spent in it is not known any more. A grant opens it again.
    #[error("the books of this period were dropped: it is over, or a clock that was wrong said so")]
    PeriodDropped,
    /// [`MAX_COUNT_RULES`] different count rules were used since the ledger was made.
    #[error("the ledger holds {MAX_COUNT_RULES} different count rules, and takes no more")]
    TooManyCountRules,
    /// The [`Once`] of the operation: it was done before, and nothing changed.
    #[error("it was done before")]
    DoneBefore,
    /// The [`Once`] of the operation: something else was done under this name.
    #[error("another operation had this name")]
    OtherOperation,
}

/// How many different count rules (`countStatuses`) a ledger can number: what a receipt has room
/// for.
pub const MAX_COUNT_RULES: u16 = 1 << 13;

/// Asks for units to spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    pub counter: Counter,
    /// Which statuses the quota counts ([`crate::decide::outcome::CountRule`], one bit for each of
    /// 100 to 599). Numbered for receipts.
    pub count_rule: [u64; 8],
    pub period: LedgerPeriod,
    pub holder: Holder,
    /// Units that this holder and epoch wants to have leased in this period, all together: what it
    /// has already included. 0 asks for the balance only; the counter gets its number and its
    /// period a row all the same.
    pub want: u64,
    /// Units of them that are spent by now. Bounds what a crash is known to have lost.
    pub spent: u64,
    /// Units in a period, without grants.
    pub limit: u64,
    /// The lease may pass limit + grants (`on_breach: ALLOW`).
    pub may_pass: bool,
    /// The catalog's revision that made the limit what it is.
    pub revision: u64,
    /// Now. Orders what is loaded at the next start.
    pub now_s: u64,
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub counter: CounterId,
    /// The number of the count rule, below [`MAX_COUNT_RULES`].
    pub rule: u16,
    /// Units that this holder and epoch has leased in this period, all together. Less than wanted:
    /// there are no more.
    pub leased: u64,
    /// Units of them that it told to be spent.
    pub spent: u64,
    pub balance: Balance,
}

/// Where a counter stands in a period, after the operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Units charged over all holders: leased, corrected, charged at reports.
    pub charged: u64,
    /// Units that an operator gave beside the limit; negative where some were taken away.
    pub granted: i64,
    /// Units of `charged` that other holders, or dead epochs, have leased and not told to be spent.
    pub others: u64,
}

/// Returns what was leased and not spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveBack {
    pub counter: CounterId,
    pub period_start_s: u64,
    pub holder: Holder,
    /// Units that this holder and epoch has spent in this period, all together. What it has leased
    /// becomes this. Less than it told before: an old message, which changes nothing.
    pub spent: u64,
}

/// What a give-back left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// Units that went back.
    pub returned: u64,
    /// What this holder and epoch has leased now.
    pub leased: u64,
    pub balance: Balance,
}

/// What is done for a receipt. Each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MarkKind {
    /// Charges that were made at the check were refunded or corrected.
    Corrected,
    /// Quotas that are charged at the report were charged.
    Charged,
}

/// Names a receipt, and what is done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The holder that issued the receipt, not the one that settles it.
    pub holder: Holder,
    pub shard: u8,
    pub seq: u64,
    pub kind: MarkKind,
    /// When the receipt was issued.
    pub issued_s: u64,
}

/// A change of what is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    pub counter: CounterId,
    pub period_start_s: u64,
    /// Units more (they may pass the limit) or less.
    pub units: i64,
}

/// Settles a receipt: the mark and the changes together, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub mark: Mark,
    pub deltas: Vec<Delta>,
}

/// What came of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Marked and changed. For each delta where its counter stands now; `None`: its period is not
    /// kept any more, and nothing changed there.
    Done(Vec<Option<Balance>>),
    /// It was marked before. Nothing changed.
    Duplicate,
    /// Marks of its time were dropped: whether it was settled is not known. Nothing changed.
    TooOld,
}

/// Charges units past any limit: what quotas that are charged at the report get from a report
/// without a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRequest {
    pub counter: Counter,
    pub period: LedgerPeriod,
    pub units: u64,
    /// Now. Orders what is loaded at the next start.
    pub now_s: u64,
    /// `None`: it is made as often as it is asked for.
    pub once: Option<Once>,
}

/// Changes what remains of a period. Unspent units should be given back first: they count as used
/// here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    pub counter: Counter,
    pub period: LedgerPeriod,
    pub change: Grant,
    /// Units in a period, without grants.
    pub limit: u64,
    /// Now. Orders what is loaded at the next start.
    pub now_s: u64,
    /// `None`: it is made as often as it is asked for.
    pub once: Option<Once>,
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

/// Names that one holder and epoch has numbered. A repeat is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameReport {
    pub holder: Holder,
    pub names: Vec<NumberedName>,
}

/// Where a counter of a rate-limit rule stands in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Names the counter for its holder.
    pub fingerprint: [u8; 16],
    /// When the window ends, in seconds since the Unix epoch.
    pub end_s: u64,
    /// Hits that the holder has counted in it.
    pub count: u64,
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

/// Whose books to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerScope {
    All,
    Subscriber(Id),
    Key(Id),
    Plan(Id),
}

/// One counter in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodRow {
    pub counter: CounterId,
    pub identity: CounterIdentity,
    pub period: LedgerPeriod,
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
    fn load_count_rules(&self) -> Result<Vec<(u16, [u64; 8])>, LedgerError>;

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
        scope: &LedgerScope,
        stretch: &Stretch,
    ) -> Result<(Vec<PeriodRow>, Option<Whose>), LedgerError>;

    /// All periods of a scope that overlap `from_s` (included) to `until_s` (not), in the same
    /// order.
    fn usage(
        &self,
        scope: &LedgerScope,
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
        scope: &LedgerScope,
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
