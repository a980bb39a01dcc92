//! What a transaction has read so far, and what it still has to.
//!
//! Operations are worked out in memory, by the same words as in every ledger, over rows that were
//! read and locked before. What is missing is noted, read, and the batch is worked out again: so
//! that a hundred operations cost two or three round trips, and nothing is asked one by one.

use std::collections::{BTreeSet, HashMap, HashSet};

use roaring::RoaringBitmap;

use crate::decide::outcome::CountRule;
use crate::ledger::balance::{Account, Share};
use crate::ledger::codes;
use crate::ledger::operations::MarkPlace;
use crate::ledger::{
    Counter, CounterId, CounterIdentity, Holder, Made, MarkKind, Once, OnceKind, Operation,
};

/// One counter in one period, in the order in which rows are locked.
pub(super) type Place = (CounterId, u64);

/// The columns of a mark, in the order in which rows are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct MarkKey {
    pub(super) holder: Holder,
    pub(super) shard: u8,
    pub(super) kind: i16,
    pub(super) high: u64,
}

impl From<MarkPlace> for MarkKey {
    fn from(MarkPlace { holder, shard, kind, high }: MarkPlace) -> Self {
        Self { holder, shard, kind: small(codes::kind(kind)), high }
    }
}

/// A number of a kind, which is small.
pub(super) fn small(number: i64) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// The number of a kind of operations that are done once.
pub(super) fn once_kind(kind: OnceKind) -> i16 {
    match kind {
        OnceKind::Request => 0,
        OnceKind::Charge => 1,
        OnceKind::Check => 2,
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MarkRow {
    pub(super) bits: RoaringBitmap,
    pub(super) newest_s: u64,
}

/// Rows as they are in the database. `None`: there is none.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) names: HashMap<CounterIdentity, Option<CounterId>>,
    /// The newest revision of a counter's limit.
    pub(super) limits: HashMap<CounterId, Option<u64>>,
    pub(super) accounts: HashMap<Place, Option<Account>>,
    pub(super) shares: HashMap<Place, Vec<(Holder, Share)>>,
    pub(super) marks: HashMap<MarkKey, Option<MarkRow>>,
    pub(super) made: HashMap<(OnceKind, [u8; 16]), Option<Made>>,
    pub(super) numbers: Option<HashMap<String, u64>>,
    /// The row of the catalog's revision is locked.
    pub(super) catalog_locked: bool,
}

/// The numbers of count rules, which never change, and numbers that no counter has yet: they
/// outlast a transaction.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// All of them, as far as they were read.
    pub(super) rules: HashMap<CountRule, u16>,
    /// Whether they were read in this transaction: one that is not there has no number.
    pub(super) rules_read: bool,
    pub(super) ids: Vec<CounterId>,
}

/// What has to be read. All of it in one order, so that no two wait for each other.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) names: HashSet<CounterIdentity>,
    pub(super) limits: BTreeSet<CounterId>,
    pub(super) accounts: BTreeSet<Place>,
    pub(super) marks: BTreeSet<MarkKey>,
    pub(super) made: BTreeSet<(i16, [u8; 16])>,
    pub(super) rules: bool,
    /// Numbers for counters that have to be made.
    pub(super) ids: usize,
    pub(super) numbers: bool,
    pub(super) catalog: bool,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        let Self { names, limits, accounts, marks, made, rules, ids, numbers, catalog } = self;
        names.is_empty()
            && limits.is_empty()
            && accounts.is_empty()
            && marks.is_empty()
            && made.is_empty()
            && !(*rules || *numbers || *catalog)
            && *ids == 0
    }
}

/// What the operations need and is not known, as far as it can be told before they are worked out.
pub(super) fn wanted(operations: &[Operation], known: &Known, kept: &Kept) -> Wanted {
    let mut foresight =
        Foresight { known, kept, wanted: Wanted::default(), to_make: HashSet::new() };
    foresight.wanted.numbers = known.numbers.is_none();
    operations.iter().for_each(|operation| foresight.operation(operation));
    let Foresight { mut wanted, to_make, .. } = foresight;
    wanted.ids = to_make.len().saturating_sub(kept.ids.len());
    wanted
}

struct Foresight<'a> {
    known: &'a Known,
    kept: &'a Kept,
    wanted: Wanted,
    to_make: HashSet<&'a CounterIdentity>,
}

impl<'a> Foresight<'a> {
    fn operation(&mut self, operation: &'a Operation) {
        match operation {
            Operation::Lease(request) => {
                self.counter(&request.counter, request.period.start_s());
                self.wanted.rules |=
                    !self.kept.rules_read && !self.kept.rules.contains_key(&request.count_rule);
            }
            Operation::GiveBack(back) => self.account(back.counter, back.period_start_s),
            Operation::Settle(settle) => {
                self.mark(settle.mark.holder, settle.mark.shard, settle.mark.kind, settle.mark.seq);
                settle
                    .deltas
                    .iter()
                    .for_each(|delta| self.account(delta.counter, delta.period_start_s));
            }
            Operation::Charge(request) => {
                self.counter(&request.counter, request.period.start_s());
                self.once(request.once.as_ref());
            }
            Operation::Grant(request) => {
                self.counter(&request.counter, request.period.start_s());
                self.once(request.once.as_ref());
            }
            Operation::Edit(edit) => {
                self.once(edit.once.as_ref());
                self.wanted.catalog |= !self.known.catalog_locked;
            }
            Operation::Daily(_)
            | Operation::Names(_)
            | Operation::Windows(_)
            | Operation::Remember(_)
            | Operation::Expire(_) => {}
        }
    }

    fn counter(&mut self, counter: &'a Counter, start_s: u64) {
        match counter {
            Counter::Known(id) => self.account(*id, start_s),
            Counter::Named(identity) => match self.known.names.get(identity) {
                Some(Some(id)) => self.account(*id, start_s),
                Some(None) => drop(self.to_make.insert(identity)),
                None => drop(self.wanted.names.insert(identity.clone())),
            },
        }
    }

    fn account(&mut self, counter: CounterId, start_s: u64) {
        if !self.known.accounts.contains_key(&(counter, start_s)) {
            self.wanted.accounts.insert((counter, start_s));
        }
        if !self.known.limits.contains_key(&counter) {
            self.wanted.limits.insert(counter);
        }
    }

    fn mark(&mut self, holder: Holder, shard: u8, kind: MarkKind, seq: u64) {
        let key = MarkKey::from(MarkPlace { holder, shard, kind, high: seq >> 16 });
        if !self.known.marks.contains_key(&key) {
            self.wanted.marks.insert(key);
        }
    }

    fn once(&mut self, once: Option<&Once>) {
        if let Some(once) = once
            && !self.known.made.contains_key(&(once.kind, once.name))
        {
            self.wanted.made.insert((once_kind(once.kind), once.name));
        }
    }
}
