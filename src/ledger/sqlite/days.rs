//! Daily usage. Its names are written once; its counts each second, so those of [`PAGE`] numbers lie in one row of the table.

use std::collections::BTreeMap;

use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Result, Statement, params};

use super::codes::{int, pack, read_int, read_packed, unreadable};
use super::lists::{Names, column};
use crate::ledger::{DailyCounts, DailyKey, DailyRow, Holder, LedgerScope};

/// How many numbers share a page. Their admitted calls fit into a cell of SQLite's.
const PAGE: u64 = 64;

const READ: &str = "SELECT present, admitted, others FROM daily_pages WHERE day = ?1 AND holder = ?2 AND epoch = ?3 AND page = ?4";
const WRITE: &str = "INSERT INTO daily_pages (day, holder, epoch, page, present, admitted, others) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT DO UPDATE SET present = excluded.present, admitted = excluded.admitted, others = excluded.others";

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PagePlace {
    pub(super) day: u64,
    pub(super) holder: Holder,
    pub(super) page: u64,
}

/// Where the counts of a number are: their page, and their place in it.
pub(super) fn place(day: u64, holder: Holder, number: u64) -> (PagePlace, u8) {
    // Less than 64.
    let place = u8::try_from(number % PAGE).unwrap_or_default();
    (PagePlace { day, holder, page: number / PAGE }, place)
}

/// Counts of neighbouring numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// A bit for each place that is taken.
    present: u64,
    /// By place.
    admitted: Vec<u64>,
    /// Refused and responses, by place, of those that have any.
    others: BTreeMap<u8, [Vec<u64>; 2]>,
    changed: bool,
}

impl Page {
    pub(super) fn holds(&self, place: u8) -> bool {
        self.present >> place & 1 == 1
    }

    /// Sets the counts of a place.
    pub(super) fn put(&mut self, place: u8, counts: &DailyCounts) {
        let index = usize::from(place);
        if self.admitted.len() <= index {
            self.admitted.resize(index + 1, 0);
        }
        self.admitted.get_mut(index).into_iter().for_each(|admitted| *admitted = counts.admitted);
        if counts.refused.is_empty() && counts.responses.is_empty() {
            self.others.remove(&place);
        } else {
            self.others.insert(place, [counts.refused.clone(), counts.responses.clone()]);
        }
        self.present |= 1 << place;
        self.changed = true;
    }

    /// The counts of a place, where it is taken.
    fn get(&self, place: u8) -> Option<DailyCounts> {
        let admitted = self.admitted.get(usize::from(place)).filter(|_| self.holds(place))?;
        let [refused, responses] = self.others.get(&place).cloned().unwrap_or_default();
        Some(DailyCounts { admitted: *admitted, refused, responses })
    }

    pub(super) fn read(sql: &Connection, place: PagePlace) -> Result<Self> {
        read(&mut *sql.prepare_cached(READ)?, place)
    }

    /// Writes it where it has changed, and gives the number of rows that were written.
    pub(super) fn write(&self, sql: &Connection, PagePlace { day, holder, page }: PagePlace) -> Result<u64> {
        if !self.changed {
            return Ok(0);
        }
        let mut others = Vec::new();
        for (place, lists) in &self.others {
            others.push(u64::from(*place));
            for list in lists {
                others.push(list.len() as u64);
                others.extend(list);
            }
        }
        let (present, admitted, others) = (self.present.cast_signed(), pack(&self.admitted), pack(&others));
        sql.prepare_cached(WRITE)?.execute(params![int(day), holder.id, holder.epoch, int(page), present, admitted, others])?;
        Ok(1)
    }
}

fn read(statement: &mut Statement<'_>, PagePlace { day, holder, page }: PagePlace) -> Result<Page> {
    let found = statement.query_row(params![int(day), holder.id, holder.epoch, int(page)], |row| {
        let present: i64 = row.get(0)?;
        let Some(others) = others(&read_packed(row, 2)?) else { return Err(unreadable(2, row.get_ref(2)?, FromSqlError::InvalidType)) };
        Ok(Page { present: present.cast_unsigned(), admitted: read_packed(row, 1)?, others, changed: false })
    });
    Ok(found.optional()?.unwrap_or_default())
}

/// Place, number of reasons and their counts, number of classes and theirs; and so on.
fn others(mut words: &[u64]) -> Option<BTreeMap<u8, [Vec<u64>; 2]>> {
    fn list(words: &mut &[u64]) -> Option<Vec<u64>> {
        let count = usize::try_from(*words.split_off_first()?).ok()?;
        words.split_off(..count).map(<[u64]>::to_vec)
    }
    let mut others = BTreeMap::new();
    while let Some(place) = words.split_off_first() {
        others.insert(u8::try_from(*place).ok()?, [list(&mut words)?, list(&mut words)?]);
    }
    Some(others)
}

/// The rows of a scope, in the order of their keys.
pub(super) fn list(sql: &Connection, scope: &LedgerScope, first_day: u64, last_day: u64) -> Result<Vec<(Holder, DailyRow)>> {
    let moment = sql.unchecked_transaction()?;
    let (condition, id) = column(scope).unwrap_or(("?3 = ''", ""));
    let mut statement = moment.prepare(&format!(
        "SELECT day, subscriber, key, plan, entitlement, target, holder, epoch, number FROM daily_names
         WHERE day BETWEEN ?1 AND ?2 AND {condition}"
    ))?;
    let mut pages = moment.prepare(READ)?;
    // Names come as their numbers do, mostly: a page is read once for its neighbours.
    let mut last: Option<(PagePlace, Page)> = None;
    let mut names = Names::default();
    let mut found = Vec::new();
    let mut rows = statement.query(params![int(first_day), int(last_day), id])?;
    while let Some(row) = rows.next()? {
        let mut name = |column| names.id(row, column);
        let (subscriber, key, plan, entitlement, target) = (name(1)?, name(2)?, name(3)?, name(4)?, name(5)?);
        let key = DailyKey { day: read_int(row, 0)?, subscriber, key, plan, entitlement, target };
        let (holder, number) = (Holder { id: row.get(6)?, epoch: row.get(7)? }, read_int(row, 8)?);
        let (page, place) = place(key.day, holder, number);
        if last.as_ref().is_none_or(|(known, _)| *known != page) {
            last = Some((page, read(&mut pages, page)?));
        }
        if let Some(counts) = last.as_ref().and_then(|(_, page)| page.get(place)) {
            found.push((holder, DailyRow { number, key, counts }));
        }
    }
    found.sort_unstable_by(|(holder, row), (other, than)| (&row.key, holder, row.number).cmp(&(&than.key, other, than.number)));
    Ok(found)
}

/// Brings counts that have a row each into pages.
pub(super) fn gather(sql: &Connection) -> Result<()> {
    let rows = "SELECT day, holder, epoch, number, admitted, refused, responses FROM daily_counts ORDER BY day, holder, epoch, number";
    let mut statement = sql.prepare(rows)?;
    let mut rows = statement.query([])?;
    let mut last: Option<(PagePlace, Page)> = None;
    while let Some(row) = rows.next()? {
        let holder = Holder { id: row.get(1)?, epoch: row.get(2)? };
        let (page, place) = place(read_int(row, 0)?, holder, read_int(row, 3)?);
        if last.as_ref().is_none_or(|(known, _)| *known != page) {
            last.iter().try_for_each(|(place, page)| page.write(sql, *place).map(drop))?;
            last = Some((page, Page::default()));
        }
        let counts = DailyCounts { admitted: read_int(row, 4)?, refused: read_packed(row, 5)?, responses: read_packed(row, 6)? };
        last.iter_mut().for_each(|(_, page)| page.put(place, &counts));
    }
    last.iter().try_for_each(|(place, page)| page.write(sql, *place).map(drop))
}
