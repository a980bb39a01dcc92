//! A ledger without a file: it ends with the process.

mod days;
mod made;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::RangeInclusive;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use self::days::Days;
use self::made::MadeOnce;
use super::balance::{Account, Share};
use super::operations::{MarkPlace, Rows, perform, unspent};
use super::{
    Answer, Believed, CatalogChange, CatalogImage, CatalogResource, CounterId, CounterIdentity,
    DailyChange, DailyName, DailyRow, Expire, Expired, Holder, Ledger, LedgerError,
    MAX_COUNT_RULES, Made, NameKind, NumberedName, OnceKind, Operation, PeriodRow, Scope, Secrets,
    Stretch, Times, Whose, WindowRow,
};
use crate::decide::calendar::Period;
use crate::decide::outcome::CountRule;
use crate::decide::plan::Id;

/// Keeps everything in memory.
#[derive(Debug)]
pub struct MemoryLedger {
    secrets: Secrets,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct State {
    epochs: HashMap<u32, u32>,
    by_name: HashMap<CounterIdentity, CounterId>,
    counters: BTreeMap<CounterId, CounterState>,
    /// The number given last.
    last_counter: u64,
    count_rules: Vec<CountRule>,
    vouched_s: Option<u64>,
    seen_s: Option<u64>,
    /// When the first and the last of the accounts ended that were dropped.
    accounts_dropped_s: Option<(u64, u64)>,
    marks: HashMap<MarkPlace, MarkRow>,
    marks_dropped_to_s: Option<u64>,
    catalog_revision: u64,
    catalog: BTreeMap<(u8, Id), Vec<u8>>,
    days: Days,
    names: BTreeMap<Holder, Numbered>,
    /// By holder and fingerprint.
    windows: BTreeMap<(u32, [u8; 16]), WindowRow>,
    made: MadeOnce,
}

/// The names that one epoch has numbered.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Numbered {
    ended_s: Option<u64>,
    names: BTreeMap<(NameKind, u32), Id>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct CounterState {
    identity: CounterIdentity,
    limit_revision: u64,
    /// By the start of the period.
    periods: BTreeMap<u64, (Account, Vec<(Holder, Share)>)>,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct MarkRow {
    bits: RoaringBitmap,
    newest_s: u64,
}

impl MemoryLedger {
    /// An empty ledger with fresh secrets.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new() -> Result<Self, LedgerError> {
        Ok(Self { secrets: Secrets::generate()?, state: Mutex::default() })
    }
}

impl Ledger for MemoryLedger {
    fn join(&self, holder_id: u32) -> Result<Holder, LedgerError> {
        let mut state = self.state.lock();
        let epoch = state.epochs.entry(holder_id).or_default();
        *epoch += 1;
        Ok(Holder { id: holder_id, epoch: *epoch })
    }

    fn secrets(&self) -> Result<Secrets, LedgerError> {
        Ok(self.secrets.clone())
    }

    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        let mut state = self.state.lock();
        Ok(operations
            .iter()
            .map(|operation| perform(&mut *state, operation).unwrap_or_else(|never| match never {}))
            .collect())
    }

    fn find_made(&self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, LedgerError> {
        Ok(self.state.lock().made.find(kind, name))
    }

    fn times(&self) -> Result<Times, LedgerError> {
        let State { vouched_s, seen_s, accounts_dropped_s, marks_dropped_to_s, .. } =
            *self.state.lock();
        let periods_dropped_to_s = accounts_dropped_s.map_or(0, |(_, last_s)| last_s);
        let seen_s = vouched_s.is_none().then_some(seen_s).flatten();
        Ok(Times { vouched_s, seen_s, periods_dropped_to_s, marks_dropped_to_s })
    }

    fn load_made(
        &self,
        kind: OnceKind,
        after_s: u64,
        visit: &mut dyn FnMut([u8; 16], Made),
    ) -> Result<(), LedgerError> {
        self.state.lock().made.each(kind, after_s, visit);
        Ok(())
    }

    fn load_catalog(&self) -> Result<CatalogImage, LedgerError> {
        let state = self.state.lock();
        let resource = |((kind, id), value): (&(u8, Id), &Vec<u8>)| CatalogResource {
            kind: *kind,
            id: id.clone(),
            value: value.clone(),
        };
        Ok(CatalogImage {
            revision: state.catalog_revision,
            resources: state.catalog.iter().map(resource).collect(),
            damaged: Vec::new(),
        })
    }

    fn load_count_rules(&self) -> Result<Vec<(u16, CountRule)>, LedgerError> {
        Ok((0..).zip(self.state.lock().count_rules.iter().copied()).collect())
    }

    fn load_live(&self, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError> {
        self.state
            .lock()
            .list(&Scope::All, |period| period.end_s() > now_s)
            .into_iter()
            .for_each(visit);
        Ok(())
    }

    fn load_ended(
        &self,
        after_s: u64,
        by_s: u64,
        most: usize,
        visit: &mut dyn FnMut(CounterId, CounterIdentity),
    ) -> Result<(), LedgerError> {
        let state = self.state.lock();
        let has_ended =
            |(account, _): &(Account, _)| after_s < account.end_s && account.end_s <= by_s;
        let ended =
            state.counters.iter().filter(|(_, state)| state.periods.values().any(has_ended));
        ended.take(most).for_each(|(counter, state)| visit(*counter, state.identity.clone()));
        Ok(())
    }

    fn usage_of(
        &self,
        scope: &Scope,
        stretch: &Stretch,
    ) -> Result<(Vec<PeriodRow>, Option<Whose>), LedgerError> {
        let Stretch { from_s, until_s, first: (subscriber, key), most } = stretch;
        let mut rows = self
            .state
            .lock()
            .list(scope, |period| period.start_s() < *until_s && *from_s < period.end_s());
        rows.retain(|row| (&row.identity.subscriber, &row.identity.key) >= (subscriber, key));
        rows.sort_by(|one, other| one.order().cmp(&other.order()));
        let last =
            most.checked_sub(1).and_then(|last| rows.get(last)).map(|row| row.identity.whose());
        let rest = last
            .map_or(rows.len(), |last| rows.partition_point(|row| row.identity.whose() <= last));
        let next = rows.get(rest).map(|row| row.identity.whose());
        rows.truncate(rest);
        Ok((rows, next))
    }

    fn daily(
        &self,
        scope: &Scope,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<(Holder, DailyRow)>, LedgerError> {
        let state = self.state.lock();
        let wanted = state.days.of(first_day..=last_day).filter(|(_, key, _)| scope.holds_day(key));
        let mut rows: Vec<_> = wanted.map(|(holder, _, row)| (holder, row())).collect();
        rows.sort_by(|(one_holder, one), (other_holder, other)| {
            (&one.key, one_holder, one.number).cmp(&(&other.key, other_holder, other.number))
        });
        Ok(rows)
    }

    fn load_names(
        &self,
        most: usize,
        visit: &mut dyn FnMut(Holder, NumberedName),
    ) -> Result<(), LedgerError> {
        let state = self.state.lock();
        let mut epochs: Vec<_> = state.names.iter().collect();
        epochs.sort_by_key(|(holder, _)| Reverse(holder.epoch));
        let named = |(&(kind, number), name): (&(NameKind, u32), &Id)| NumberedName {
            kind,
            number,
            name: name.clone(),
        };
        let names = epochs.into_iter().flat_map(|(holder, numbered)| {
            numbered.names.iter().map(|name| (*holder, named(name)))
        });
        names.take(most).for_each(|(holder, name)| visit(holder, name));
        Ok(())
    }

    fn load_windows(
        &self,
        holder_id: u32,
        now_s: u64,
        visit: &mut dyn FnMut(WindowRow),
    ) -> Result<(), LedgerError> {
        let rows: Vec<_> = self
            .state
            .lock()
            .windows
            .range((holder_id, [0; 16])..=(holder_id, [u8::MAX; 16]))
            .map(|(_, row)| *row)
            .collect();
        rows.into_iter().filter(|row| row.end_s > now_s).for_each(visit);
        Ok(())
    }

    fn tidy(&self) -> Result<(), LedgerError> {
        Ok(())
    }
}

impl State {
    fn list(&self, scope: &Scope, wanted: impl Fn(Period) -> bool) -> Vec<PeriodRow> {
        let mut rows = Vec::new();
        for (&counter, state) in
            self.counters.iter().filter(|(_, state)| scope.holds_counter(&state.identity))
        {
            for (&start_s, (account, shares)) in &state.periods {
                let period = Period::of_seconds(start_s, account.end_s);
                if !wanted(period) {
                    continue;
                }
                let (lost, held) = unspent(shares.iter().copied(), |id| {
                    self.epochs.get(&id).copied().unwrap_or_default()
                });
                let Account { charged, granted, active_s, .. } = *account;
                rows.push(PeriodRow {
                    counter,
                    identity: state.identity.clone(),
                    period,
                    charged,
                    granted,
                    lost,
                    held,
                    active_s,
                });
            }
        }
        rows
    }

    fn expire_marks(&mut self, before_s: u64, most: usize) -> u64 {
        let old = self
            .marks
            .iter()
            .filter(|(_, row)| row.newest_s < before_s)
            .map(|(place, row)| (*place, row.newest_s));
        let old: Vec<_> = old.take(most).collect();
        for (place, newest_s) in &old {
            self.marks.remove(place);
            self.marks_dropped_to_s = self.marks_dropped_to_s.max(Some(*newest_s));
        }
        old.len().try_into().unwrap_or(u64::MAX)
    }

    fn expire_periods(&mut self, ended_by_s: u64, most: usize) -> (u64, u64) {
        let periods = self.counters.iter().flat_map(|(counter, state)| {
            state
                .periods
                .iter()
                .map(|(start_s, (account, _))| (account.end_s, *counter, *start_s))
                .filter(|(end_s, ..)| *end_s <= ended_by_s)
        });
        let old: Vec<_> = periods.take(most).collect();
        let mut counters = 0;
        for (end_s, counter, start_s) in &old {
            let (first_s, last_s) = self.accounts_dropped_s.unwrap_or((*end_s, *end_s));
            self.accounts_dropped_s = Some((first_s.min(*end_s), last_s.max(*end_s)));
            let Some(state) = self.counters.get_mut(counter) else { continue };
            state.periods.remove(start_s);
            if state.periods.is_empty() {
                self.by_name.remove(&state.identity);
                self.counters.remove(counter);
                counters += 1;
            }
        }
        (old.len().try_into().unwrap_or(u64::MAX), counters)
    }

    fn expire_names(&mut self, expire: &Expire, most: usize) -> u64 {
        let epochs = &self.epochs;
        let dead =
            |holder: &Holder| epochs.get(&holder.id).is_some_and(|&current| holder.epoch < current);
        for (_, numbered) in self.names.iter_mut().filter(|(holder, _)| dead(holder)) {
            numbered.ended_s = expire
                .now_s
                .map(|now_s| numbered.ended_s.map_or(now_s, |ended_s| ended_s.min(now_s)))
                .or(numbered.ended_s);
        }
        let mut left = most;
        for numbered in self.names.values_mut() {
            if numbered.ended_s.is_some_and(|ended_s| ended_s < expire.names_ended_before_s) {
                while left > 0 && numbered.names.pop_first().is_some() {
                    left -= 1;
                }
            }
        }
        self.names.retain(|_, numbered| !numbered.names.is_empty());
        (most - left).try_into().unwrap_or(u64::MAX)
    }
}

impl Rows for State {
    type Error = Infallible;

    fn find_counter(
        &mut self,
        identity: &CounterIdentity,
    ) -> Result<Option<CounterId>, Infallible> {
        Ok(self.by_name.get(identity).copied())
    }

    fn make_counter(&mut self, identity: &CounterIdentity) -> Result<CounterId, Infallible> {
        self.last_counter += 1;
        let id = CounterId(self.last_counter);
        self.by_name.insert(identity.clone(), id);
        self.counters.insert(
            id,
            CounterState {
                identity: identity.clone(),
                limit_revision: 0,
                periods: BTreeMap::new(),
            },
        );
        Ok(id)
    }

    fn limit_revision(&mut self, counter: CounterId) -> Result<Option<u64>, Infallible> {
        Ok(self.counters.get(&counter).map(|state| state.limit_revision))
    }

    fn set_limit_revision(&mut self, counter: CounterId, revision: u64) -> Result<(), Infallible> {
        if let Some(state) = self.counters.get_mut(&counter) {
            state.limit_revision = revision;
        }
        Ok(())
    }

    fn count_rule(&mut self, rule: &CountRule) -> Result<Option<u16>, Infallible> {
        if let Some(place) = self.count_rules.iter().position(|known| known == rule) {
            return Ok(u16::try_from(place).ok());
        }
        let place =
            u16::try_from(self.count_rules.len()).ok().filter(|place| *place < MAX_COUNT_RULES);
        if place.is_some() {
            self.count_rules.push(*rule);
        }
        Ok(place)
    }

    fn account(&mut self, counter: CounterId, start_s: u64) -> Result<Option<Account>, Infallible> {
        Ok(self
            .counters
            .get(&counter)
            .and_then(|state| state.periods.get(&start_s))
            .map(|(account, _)| *account))
    }

    fn put_account(
        &mut self,
        counter: CounterId,
        start_s: u64,
        account: &Account,
    ) -> Result<(), Infallible> {
        if let Some(state) = self.counters.get_mut(&counter) {
            state.periods.entry(start_s).or_insert_with(|| (*account, Vec::new())).0 = *account;
        }
        Ok(())
    }

    fn shares(
        &mut self,
        counter: CounterId,
        start_s: u64,
    ) -> Result<Vec<(Holder, Share)>, Infallible> {
        let period = self.counters.get(&counter).and_then(|state| state.periods.get(&start_s));
        Ok(period.map(|(_, shares)| shares.clone()).unwrap_or_default())
    }

    fn put_share(
        &mut self,
        counter: CounterId,
        start_s: u64,
        holder: Holder,
        share: &Share,
    ) -> Result<(), Infallible> {
        let period =
            self.counters.get_mut(&counter).and_then(|state| state.periods.get_mut(&start_s));
        if let Some((_, shares)) = period {
            shares.retain(|(other, _)| *other != holder);
            shares.push((holder, *share));
        }
        Ok(())
    }

    fn dropped_ends_s(&mut self) -> Result<Option<RangeInclusive<u64>>, Infallible> {
        Ok(self.accounts_dropped_s.map(|(first_s, last_s)| first_s..=last_s))
    }

    fn is_marked(&mut self, place: MarkPlace, low: u16) -> Result<bool, Infallible> {
        Ok(self.marks.get(&place).is_some_and(|row| row.bits.contains(low.into())))
    }

    fn put_mark(&mut self, place: MarkPlace, low: u16, issued_s: u64) -> Result<(), Infallible> {
        let row = self.marks.entry(place).or_default();
        row.bits.insert(low.into());
        row.newest_s = row.newest_s.max(issued_s);
        Ok(())
    }

    fn marks_dropped_to_s(&mut self) -> Result<Option<u64>, Infallible> {
        Ok(self.marks_dropped_to_s)
    }

    fn catalog_revision(&mut self) -> Result<u64, Infallible> {
        Ok(self.catalog_revision)
    }

    fn set_catalog_revision(&mut self, revision: u64) -> Result<(), Infallible> {
        self.catalog_revision = revision;
        Ok(())
    }

    fn put_resource(&mut self, change: &CatalogChange) -> Result<(), Infallible> {
        let name = (change.kind, change.id.clone());
        match &change.value {
            Some(value) => self.catalog.insert(name, value.clone()),
            None => self.catalog.remove(&name),
        };
        Ok(())
    }

    fn put_day(&mut self, holder: Holder, row: &DailyChange) -> Result<(), Infallible> {
        match &row.name {
            DailyName::Told(key) => self.days.put(holder, row.number, key, &row.counts),
            DailyName::Known { day } => self.days.change(*day, holder, row.number, &row.counts),
        }
        Ok(())
    }

    fn put_names(&mut self, holder: Holder, names: &[NumberedName]) -> Result<(), Infallible> {
        let known = &mut self.names.entry(holder).or_default().names;
        known.extend(
            names
                .iter()
                .map(|NumberedName { kind, number, name }| ((*kind, *number), name.clone())),
        );
        Ok(())
    }

    fn put_window(&mut self, holder_id: u32, row: &WindowRow) -> Result<(), Infallible> {
        self.windows.insert((holder_id, row.fingerprint), *row);
        Ok(())
    }

    fn find_made(&mut self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, Infallible> {
        Ok(self.made.find(kind, name))
    }

    fn put_made(&mut self, kind: OnceKind, name: &[u8; 16], made: &Made) -> Result<(), Infallible> {
        self.made.put(kind, *name, made.clone());
        Ok(())
    }

    fn believe(&mut self, Believed { now_s, vouched }: Believed) -> Result<bool, Infallible> {
        *(if vouched { &mut self.vouched_s } else { &mut self.seen_s }) = Some(now_s);
        let accounts_to_s = self.accounts_dropped_s.map_or(0, |(_, last_s)| last_s);
        let reopened = accounts_to_s.max(self.marks_dropped_to_s.unwrap_or_default()) > now_s;
        self.accounts_dropped_s =
            self.accounts_dropped_s.map(|(first_s, last_s)| (first_s, last_s.min(now_s)));
        self.marks_dropped_to_s = self.marks_dropped_to_s.map(|dropped_s| dropped_s.min(now_s));
        Ok(reopened)
    }

    fn expire(&mut self, expire: &Expire, most: u64) -> Result<Expired, Infallible> {
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let mark_rows = self.expire_marks(expire.marks_issued_before_s, limit);
        let (periods, counters) = self.expire_periods(expire.periods_ended_by_s, limit);
        let days = self.days.drop_oldest(expire.days_before, limit);
        let names = self.expire_names(expire, limit);
        let ended = self
            .windows
            .iter()
            .filter(|(_, row)| row.end_s <= expire.windows_ended_by_s)
            .map(|(place, _)| *place);
        let ended: Vec<_> = ended.take(limit).collect();
        self.windows.retain(|place, _| ended.binary_search(place).is_err());
        let windows = u64::try_from(ended.len()).unwrap_or(u64::MAX);
        let requests = self.made.expire(OnceKind::Request, expire.requests_made_before_s, limit);
        let charges = self.made.expire(OnceKind::Charge, expire.charges_made_before_s, limit);
        let checks = self.made.expire(OnceKind::Check, expire.checks_made_before_s, limit);
        let none = Expired::default();
        let dropped = Expired { mark_rows, periods, counters, days, names, windows, ..none };
        Ok(Expired::up_to(most, dropped, [requests, charges, checks]))
    }
}

#[cfg(test)]
pub(super) mod image;
