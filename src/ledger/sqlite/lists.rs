//! What is read at the start, and for people.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};

use super::codes::{int, read_int, read_name_kind, read_packed, read_share, read_unit, read_weekday};
use super::rows::{ACCOUNTS_DROPPED_TO_S, CATALOG_REVISION, MARKS_DROPPED_TO_S, SEEN_S, VOUCHED_S};
use crate::decide::compiled::QuotaIdentity;
use crate::decide::plan::Id;
use crate::ledger::balance::Share;
use crate::ledger::operations::unspent;
use crate::ledger::{
    CatalogImage, CatalogResource, CounterId, CounterIdentity, Holder, LedgerPeriod, LedgerScope, NumberedName, PeriodRow, Times, WindowRow,
};

/// The revision and the resources, of one moment.
pub(super) fn catalog(sql: &Connection) -> Result<CatalogImage> {
    let moment = sql.unchecked_transaction()?;
    let revision = "SELECT value FROM numbers WHERE name = ?1";
    let revision = moment.query_row(revision, [CATALOG_REVISION], |row| read_int(row, 0)).optional()?;
    let mut statement = moment.prepare("SELECT kind, id, value FROM catalog ORDER BY kind, id")?;
    let rows = statement.query_map([], |row| Ok(CatalogResource { kind: row.get(0)?, id: read_id(row, 1)?, value: row.get(2)? }))?;
    Ok(CatalogImage { revision: revision.unwrap_or_default(), resources: rows.collect::<Result<_>>()? })
}

/// Where no time was kept yet, it is told by what was written last: an older program wrote it.
pub(super) fn times(sql: &Connection) -> Result<Times> {
    let moment = sql.unchecked_transaction()?;
    let mut statement = moment.prepare("SELECT value FROM numbers WHERE name = ?1")?;
    let mut number = |name| statement.query_row([name], |row| read_int(row, 0)).optional();
    let vouched_s = number(VOUCHED_S)?;
    let mut seen_s = if vouched_s.is_none() { number(SEEN_S)? } else { None };
    let (periods_dropped_to_s, marks_dropped_to_s) = (number(ACCOUNTS_DROPPED_TO_S)?.unwrap_or_default(), number(MARKS_DROPPED_TO_S)?);
    if vouched_s.or(seen_s).is_none() {
        let sql = "SELECT max((SELECT ifnull(max(active_s), 0) FROM periods), (SELECT ifnull(max(newest_s), 0) FROM marks),
                              (SELECT ifnull(max(day), -1) + 1 FROM daily_names) * 86400)";
        seen_s = moment.query_row(sql, [], |row| read_int(row, 0)).map(|newest_s| Some(newest_s).filter(|newest_s| *newest_s > 0))?;
    }
    Ok(Times { vouched_s, seen_s, periods_dropped_to_s, marks_dropped_to_s })
}

pub(super) fn count_rules(sql: &Connection) -> Result<Vec<(u16, [u64; 8])>> {
    let mut statement = sql.prepare("SELECT id, bits FROM count_rules ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let bits = read_packed(row, 1)?.try_into().map_err(|_| Error::InvalidColumnType(1, "bits".to_owned(), Type::Blob))?;
        Ok((row.get(0)?, bits))
    })?;
    rows.collect()
}

const PERIODS: &str = "SELECT counter, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, start_s, end_s, charged,
                              granted, active_s
                       FROM periods JOIN counters ON counters.id = periods.counter";

/// Those that end after `now_s`.
pub(super) fn live(sql: &Connection, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<()> {
    // Nearly all rows are live: `+` keeps SQLite from an index that would lead it to them in another order.
    all_periods(sql, "+end_s > ?1", params![int(now_s)], visit)
}

/// Few of all periods: they are found by when they end, and each counter is given once.
pub(super) fn ended(
    sql: &Connection,
    after_s: u64,
    by_s: u64,
    most: usize,
    visit: &mut dyn FnMut(CounterId, CounterIdentity),
) -> Result<()> {
    let mut statement = sql.prepare(
        "SELECT id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start FROM counters
         WHERE id IN (SELECT counter FROM periods WHERE end_s > ?1 AND end_s <= ?2) LIMIT ?3",
    )?;
    let mut names = Names::default();
    let mut rows = statement.query(params![int(after_s), int(by_s), i64::try_from(most).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        visit(CounterId(read_int(row, 0)?), identity(row, &mut names)?);
    }
    Ok(())
}

pub(super) fn usage(sql: &Connection, scope: &LedgerScope, from_s: u64, until_s: u64) -> Result<Vec<PeriodRow>> {
    let (from_s, until_s) = (int(from_s), int(until_s));
    let mut rows = Vec::new();
    let mut visit = |row| rows.push(row);
    match column(scope) {
        None => all_periods(sql, "start_s < ?1 AND +end_s > ?2", params![until_s, from_s], &mut visit),
        Some((column, id)) => {
            let condition = format!("start_s < ?1 AND end_s > ?2 AND {column}");
            some_periods(sql, &condition, params![until_s, from_s, id], &mut visit)
        }
    }?;
    rows.sort_by(|one, other| one.order().cmp(&other.order()));
    Ok(rows)
}

/// A condition on the third parameter, and the parameter. `key <> ''` lets SQLite use the index of keys.
pub(super) fn column(scope: &LedgerScope) -> Option<(&'static str, &str)> {
    match scope {
        LedgerScope::All => None,
        LedgerScope::Subscriber(id) => Some(("subscriber = ?3", id)),
        LedgerScope::Key(id) => Some(("key = ?3 AND key <> ''", id)),
        LedgerScope::Plan(id) => Some(("plan = ?3", id)),
    }
}

/// Few of many: the shares of each are looked up.
fn some_periods(sql: &Connection, condition: &str, values: impl rusqlite::Params, visit: &mut dyn FnMut(PeriodRow)) -> Result<()> {
    let moment = sql.unchecked_transaction()?;
    let mut shares = moment.prepare("SELECT holder, epoch, leased, spent FROM shares WHERE counter = ?1 AND start_s = ?2")?;
    periods(&moment, condition, values, visit, |counter, start_s| {
        let found = shares.query_map([int(counter.0), int(start_s)], |row| read_share(row, 0))?;
        found.collect()
    })
}

/// Most of all: the shares of all are read beside them, in the same order.
fn all_periods(sql: &Connection, condition: &str, values: impl rusqlite::Params, visit: &mut dyn FnMut(PeriodRow)) -> Result<()> {
    let moment = sql.unchecked_transaction()?;
    let mut shares = moment.prepare("SELECT counter, start_s, holder, epoch, leased, spent FROM shares ORDER BY counter, start_s")?;
    let shares = shares.query_map([], |row| Ok(((CounterId(read_int(row, 0)?), read_int(row, 1)?), read_share(row, 2)?)))?;
    let mut shares = shares.peekable();
    periods(&moment, &format!("{condition} ORDER BY counter, start_s"), values, visit, |counter, start_s| {
        let mut found = Vec::new();
        while let Some(row) = shares.next_if(|row| row.as_ref().map_or(true, |(place, _)| *place <= (counter, start_s))) {
            let (place, share) = row?;
            if place == (counter, start_s) {
                found.push(share);
            }
        }
        Ok(found)
    })
}

fn periods(
    sql: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
    visit: &mut dyn FnMut(PeriodRow),
    mut shares: impl FnMut(CounterId, u64) -> Result<Vec<(Holder, Share)>>,
) -> Result<()> {
    let epochs = epochs(sql)?;
    let mut statement = sql.prepare(&format!("{PERIODS} WHERE {condition}"))?;
    let mut names = Names::default();
    let mut rows = statement.query(values)?;
    while let Some(row) = rows.next()? {
        let mut period = period(row, &mut names)?;
        let shares = shares(period.counter, period.period.start_s)?;
        (period.lost, period.held) = unspent(shares, |id| epochs.get(&id).copied().unwrap_or_default());
        visit(period);
    }
    Ok(())
}

fn epochs(sql: &Connection) -> Result<HashMap<u32, u32>> {
    let mut statement = sql.prepare("SELECT id, epoch FROM holders")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// As many as [`PERIODS`] and the list of days have, at most.
const COLUMNS: usize = 16;

/// Names that many counters share are kept once.
#[derive(Default)]
pub(super) struct Names {
    ids: HashMap<Box<str>, Id>,
    quotas: HashMap<QuotaIdentity, Arc<QuotaIdentity>>,
    /// The name of the row before, by column: the rows of one subscriber lie together, and most of a plan's counters are alike.
    before: [Option<Id>; COLUMNS],
    quota_before: Option<Arc<QuotaIdentity>>,
}

impl Names {
    pub(super) fn id(&mut self, row: &Row<'_>, column: usize) -> Result<Id> {
        self.again(row, column, |names, name| {
            let known = names.ids.get(name).cloned();
            known.unwrap_or_else(|| {
                let id = Id::from(name);
                names.ids.insert(name.into(), Arc::clone(&id));
                id
            })
        })
    }

    /// A name that only neighbours share: there are as many as there are subscribers.
    fn own(&mut self, row: &Row<'_>, column: usize) -> Result<Id> {
        self.again(row, column, |_, name| Id::from(name))
    }

    fn again(&mut self, row: &Row<'_>, column: usize, make: impl FnOnce(&mut Self, &str) -> Id) -> Result<Id> {
        let name = row.get_ref(column)?.as_str().map_err(|_| not_text(column))?;
        if let Some(Some(before)) = self.before.get(column)
            && **before == *name
        {
            return Ok(Arc::clone(before));
        }
        let id = make(self, name);
        if let Some(before) = self.before.get_mut(column) {
            *before = Some(Arc::clone(&id));
        }
        Ok(id)
    }

    fn quota(&mut self, quota: QuotaIdentity) -> Arc<QuotaIdentity> {
        if let Some(before) = self.quota_before.as_ref().filter(|before| ***before == quota) {
            return Arc::clone(before);
        }
        let quota = self.quotas.entry(quota).or_insert_with_key(|quota| Arc::new(quota.clone()));
        self.quota_before = Some(Arc::clone(quota));
        Arc::clone(quota)
    }
}

/// From the second column on.
fn identity(row: &Row<'_>, names: &mut Names) -> Result<CounterIdentity> {
    let key = names.own(row, 2)?;
    let quota = QuotaIdentity {
        name: names.id(row, 5)?,
        unit: read_unit(row, 6)?,
        time_zone: names.id(row, 7)?,
        week_start: read_weekday(row, 8)?,
    };
    Ok(CounterIdentity {
        subscriber: names.own(row, 1)?,
        key: Some(key).filter(|key| !key.is_empty()),
        plan: names.id(row, 3)?,
        entitlement: names.id(row, 4)?,
        quota: names.quota(quota),
    })
}

fn period(row: &Row<'_>, names: &mut Names) -> Result<PeriodRow> {
    Ok(PeriodRow {
        counter: CounterId(read_int(row, 0)?),
        identity: identity(row, names)?,
        period: LedgerPeriod { start_s: read_int(row, 9)?, end_s: read_int(row, 10)? },
        charged: read_int(row, 11)?,
        granted: row.get(12)?,
        lost: 0,
        held: 0,
        active_s: read_int(row, 13)?,
    })
}

fn read_id(row: &Row<'_>, column: usize) -> Result<Id> {
    Ok(Id::from(row.get_ref(column)?.as_str().map_err(|_| not_text(column))?))
}

fn not_text(column: usize) -> Error {
    Error::InvalidColumnType(column, "a name".to_owned(), Type::Text)
}

pub(super) fn windows(sql: &Connection, holder_id: u32, now_s: u64, visit: &mut dyn FnMut(WindowRow)) -> Result<()> {
    // Nearly all windows go on: `+` keeps SQLite from going by an index.
    let mut statement = sql.prepare("SELECT fingerprint, end_s, count FROM windows WHERE holder = ?1 AND +end_s > ?2")?;
    let mut rows = statement.query(params![holder_id, int(now_s)])?;
    while let Some(row) = rows.next()? {
        visit(WindowRow { fingerprint: row.get(0)?, end_s: read_int(row, 1)?, count: read_int(row, 2)? });
    }
    Ok(())
}

/// The names of the latest epochs first. Epoch by epoch: nothing has to be sorted.
pub(super) fn names(sql: &Connection, most: usize, visit: &mut dyn FnMut(Holder, NumberedName)) -> Result<()> {
    let moment = sql.unchecked_transaction()?;
    let mut epochs = moment.prepare("SELECT holder, epoch FROM naming_epochs ORDER BY epoch DESC, holder")?;
    let epochs: Vec<Holder> = epochs.query_map([], |row| Ok(Holder { id: row.get(0)?, epoch: row.get(1)? }))?.collect::<Result<_>>()?;
    let mut statement = moment.prepare("SELECT kind, number, name FROM names WHERE holder = ?1 AND epoch = ?2 LIMIT ?3")?;
    let mut left = most;
    for holder in epochs {
        let mut rows = statement.query(params![holder.id, holder.epoch, i64::try_from(left).unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            visit(holder, NumberedName { kind: read_name_kind(row, 0)?, number: row.get(1)?, name: read_id(row, 2)? });
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}
