//! A batch as it is worked out: what changes, over what is known.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use super::known::{Kept, Known, MarkKey, MarkRow, Place, Wanted, once_kind};
use super::numbers::{
    ACCOUNTS_DROPPED_FROM_S, ACCOUNTS_DROPPED_TO_S, CATALOG_REVISION, MARKS_DROPPED_TO_S,
};
use crate::decide::outcome::CountRule;
use crate::decide::plan::Id;
use crate::ledger::balance::{Account, Share};
use crate::ledger::codes;
use crate::ledger::operations::{MarkPlace, Rows};
use crate::ledger::{
    Believed, CatalogChange, CounterId, CounterIdentity, DailyChange, DailyCounts, DailyKey,
    DailyName, Expire, Expired, Holder, MAX_COUNT_RULES, Made, NumberedName, OnceKind, WindowRow,
};

/// A row is needed that was not read yet. It is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing;

type Result<T> = std::result::Result<T, Missing>;

/// What changes.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    known: &'a Known,
    kept: &'a Kept,
    pub(super) missing: Wanted,
    /// With the newest revisions of their limits.
    pub(super) counters: BTreeMap<CounterId, (CounterIdentity, u64)>,
    made_names: HashMap<CounterIdentity, CounterId>,
    pub(super) limits: BTreeMap<CounterId, u64>,
    pub(super) rules: HashMap<CountRule, u16>,
    pub(super) accounts: BTreeMap<Place, Account>,
    pub(super) shares: BTreeMap<(Place, Holder), Share>,
    pub(super) marks: BTreeMap<MarkKey, MarkRow>,
    pub(super) made: Vec<((OnceKind, [u8; 16]), Made)>,
    made_places: HashMap<(OnceKind, [u8; 16]), usize>,
    pub(super) catalog_revision: Option<u64>,
    pub(super) resources: BTreeMap<(u8, Id), Option<Vec<u8>>>,
    /// By day, holder and number. A name where it was told.
    pub(super) days: BTreeMap<(u64, Holder, u64), (Option<DailyKey>, DailyCounts)>,
    pub(super) names: BTreeMap<(Holder, i64, u32), Id>,
    pub(super) windows: BTreeMap<(u32, [u8; 16]), WindowRow>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(known: &'a Known, kept: &'a Kept) -> Self {
        Self {
            known,
            kept,
            missing: Wanted::default(),
            counters: BTreeMap::new(),
            made_names: HashMap::new(),
            limits: BTreeMap::new(),
            rules: HashMap::new(),
            accounts: BTreeMap::new(),
            shares: BTreeMap::new(),
            marks: BTreeMap::new(),
            made: Vec::new(),
            made_places: HashMap::new(),
            catalog_revision: None,
            resources: BTreeMap::new(),
            days: BTreeMap::new(),
            names: BTreeMap::new(),
            windows: BTreeMap::new(),
        }
    }

    /// Has the database no such account yet?
    pub(super) fn is_fresh(&self, place: &Place) -> bool {
        self.known.accounts.get(place).is_none_or(Option::is_none)
    }

    pub(super) fn is_fresh_mark(&self, key: &MarkKey) -> bool {
        self.known.marks.get(key).is_none_or(Option::is_none)
    }

    /// Was it looked for, and not there?
    pub(super) fn is_fresh_name(&self, name: &(OnceKind, [u8; 16])) -> bool {
        self.known.made.get(name).is_some_and(Option::is_none)
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>> {
        match &self.known.numbers {
            Some(numbers) => Ok(numbers.get(name).copied()),
            None => {
                self.missing.numbers = true;
                Err(Missing)
            }
        }
    }

    fn mark(&mut self, key: MarkKey) -> Result<Option<&MarkRow>> {
        if let Some(changed) = self.marks.get(&key) {
            return Ok(Some(changed));
        }
        match self.known.marks.get(&key) {
            Some(known) => Ok(known.as_ref()),
            None => {
                self.missing.marks.insert(key);
                Err(Missing)
            }
        }
    }
}

impl Rows for Draft<'_> {
    type Error = Missing;

    fn find_counter(&mut self, identity: &CounterIdentity) -> Result<Option<CounterId>> {
        if let Some(made) = self.made_names.get(identity) {
            return Ok(Some(*made));
        }
        match self.known.names.get(identity) {
            Some(known) => Ok(*known),
            None => {
                self.missing.names.insert(identity.clone());
                Err(Missing)
            }
        }
    }

    fn make_counter(&mut self, identity: &CounterIdentity) -> Result<CounterId> {
        let Some(id) = self.kept.ids.get(self.counters.len()).copied() else {
            self.missing.ids += 1;
            return Err(Missing);
        };
        self.counters.insert(id, (identity.clone(), 0));
        self.made_names.insert(identity.clone(), id);
        Ok(id)
    }

    fn limit_revision(&mut self, counter: CounterId) -> Result<Option<u64>> {
        if let Some((_, revision)) = self.counters.get(&counter) {
            return Ok(Some(*revision));
        }
        if let Some(revision) = self.limits.get(&counter) {
            return Ok(Some(*revision));
        }
        match self.known.limits.get(&counter) {
            Some(known) => Ok(*known),
            None => {
                self.missing.limits.insert(counter);
                Err(Missing)
            }
        }
    }

    fn set_limit_revision(&mut self, counter: CounterId, revision: u64) -> Result<()> {
        match self.counters.get_mut(&counter) {
            Some((_, known)) => *known = revision,
            None => drop(self.limits.insert(counter, revision)),
        }
        Ok(())
    }

    fn count_rule(&mut self, rule: &CountRule) -> Result<Option<u16>> {
        if let Some(known) = self.rules.get(rule).or_else(|| self.kept.rules.get(rule)) {
            return Ok(Some(*known));
        }
        if !self.kept.rules_read {
            self.missing.rules = true;
            return Err(Missing);
        }
        // Behind the last: where a process was ended between two, a number is missing.
        let last = self.kept.rules.values().chain(self.rules.values()).max();
        let next = last.map_or(Some(0), |last| last.checked_add(1));
        let next = next.filter(|next| *next < MAX_COUNT_RULES);
        if let Some(next) = next {
            self.rules.insert(*rule, next);
        }
        Ok(next)
    }

    fn account(&mut self, counter: CounterId, start_s: u64) -> Result<Option<Account>> {
        let place = (counter, start_s);
        if let Some(changed) = self.accounts.get(&place) {
            return Ok(Some(*changed));
        }
        if self.counters.contains_key(&counter) {
            return Ok(None);
        }
        match self.known.accounts.get(&place) {
            Some(known) => Ok(*known),
            None => {
                self.missing.accounts.insert(place);
                Err(Missing)
            }
        }
    }

    fn put_account(&mut self, counter: CounterId, start_s: u64, account: &Account) -> Result<()> {
        self.accounts.insert((counter, start_s), *account);
        Ok(())
    }

    fn shares(&mut self, counter: CounterId, start_s: u64) -> Result<Vec<(Holder, Share)>> {
        let place = (counter, start_s);
        // Read with the account.
        let mut shares = self.known.shares.get(&place).cloned().unwrap_or_default();
        let of_place =
            (place, Holder { id: 0, epoch: 0 })..=(place, Holder { id: u32::MAX, epoch: u32::MAX });
        for ((_, holder), changed) in self.shares.range(of_place) {
            match shares.iter_mut().find(|(known, _)| known == holder) {
                Some((_, share)) => *share = *changed,
                None => shares.push((*holder, *changed)),
            }
        }
        Ok(shares)
    }

    fn put_share(
        &mut self,
        counter: CounterId,
        start_s: u64,
        holder: Holder,
        share: &Share,
    ) -> Result<()> {
        self.shares.insert(((counter, start_s), holder), *share);
        Ok(())
    }

    fn dropped_ends_s(&mut self) -> Result<Option<RangeInclusive<u64>>> {
        let Some(to_s) = self.number(ACCOUNTS_DROPPED_TO_S)? else { return Ok(None) };
        let from_s = self.number(ACCOUNTS_DROPPED_FROM_S)?.unwrap_or_default();
        Ok(Some(from_s..=to_s))
    }

    fn is_marked(&mut self, place: MarkPlace, low: u16) -> Result<bool> {
        Ok(self.mark(place.into())?.is_some_and(|row| row.bits.contains(low.into())))
    }

    fn put_mark(&mut self, place: MarkPlace, low: u16, issued_s: u64) -> Result<()> {
        let key = place.into();
        if !self.marks.contains_key(&key) {
            let known = self.mark(key)?.cloned().unwrap_or_default();
            self.marks.insert(key, known);
        }
        let row = self.marks.entry(key).or_default();
        row.bits.insert(low.into());
        row.newest_s = row.newest_s.max(issued_s);
        Ok(())
    }

    fn marks_dropped_to_s(&mut self) -> Result<Option<u64>> {
        self.number(MARKS_DROPPED_TO_S)
    }

    fn catalog_revision(&mut self) -> Result<u64> {
        if !self.known.catalog_locked {
            self.missing.catalog = true;
            return Err(Missing);
        }
        let known = self.number(CATALOG_REVISION)?;
        Ok(self.catalog_revision.or(known).unwrap_or_default())
    }

    fn set_catalog_revision(&mut self, revision: u64) -> Result<()> {
        self.catalog_revision = Some(revision);
        Ok(())
    }

    fn put_resource(&mut self, change: &CatalogChange) -> Result<()> {
        let CatalogChange { kind, id, value } = change;
        self.resources.insert((*kind, id.clone()), value.clone());
        Ok(())
    }

    fn put_day(&mut self, holder: Holder, row: &DailyChange) -> Result<()> {
        let known = self
            .days
            .entry((row.name.day(), holder, row.number))
            .or_insert_with(|| (None, DailyCounts::default()));
        if let DailyName::Told(key) = &row.name {
            known.0 = Some(key.clone());
        }
        known.1.clone_from(&row.counts);
        Ok(())
    }

    fn put_names(&mut self, holder: Holder, names: &[NumberedName]) -> Result<()> {
        for NumberedName { kind, number, name } in names {
            self.names.insert((holder, codes::name_kind(*kind), *number), name.clone());
        }
        Ok(())
    }

    fn put_window(&mut self, holder_id: u32, row: &WindowRow) -> Result<()> {
        self.windows.insert((holder_id, row.fingerprint), *row);
        Ok(())
    }

    fn find_made(&mut self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>> {
        let name = (kind, *name);
        if let Some((_, made)) = self.made_places.get(&name).and_then(|place| self.made.get(*place))
        {
            return Ok(Some(made.clone()));
        }
        match self.known.made.get(&name) {
            Some(known) => Ok(known.clone()),
            None => {
                self.missing.made.insert((once_kind(kind), name.1));
                Err(Missing)
            }
        }
    }

    fn put_made(&mut self, kind: OnceKind, name: &[u8; 16], made: &Made) -> Result<()> {
        let name = (kind, *name);
        match self.made_places.get(&name).and_then(|place| self.made.get_mut(*place)) {
            Some((_, known)) => known.clone_from(made),
            None => {
                self.made_places.insert(name, self.made.len());
                self.made.push((name, made.clone()));
            }
        }
        Ok(())
    }

    /// An expiry is done by statements of its own, see [`super::expire`], and not worked out here.
    fn believe(&mut self, _: Believed) -> Result<bool> {
        Err(Missing)
    }

    /// Likewise.
    fn expire(&mut self, _: &Expire, _: u64) -> Result<Expired> {
        Err(Missing)
    }
}
