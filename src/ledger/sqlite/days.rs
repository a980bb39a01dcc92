//! Daily usage. Its names are written once; its counts each second, so those of [`PAGE`] numbers
//! lie in one row of the table.

use std::collections::BTreeMap;

use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Result, Row, Statement, params};

use super::checksum::{BadRow, intact};
use super::codes::{int, is_unreadable, pack, read_int, read_packed, unreadable};
use super::reading::{Names, OnBad, column, sound};
use crate::ledger::{DailyCounts, DailyKey, DailyRow, Holder, Scope};

const NAMED: &str =
    "SELECT 1 FROM daily_names WHERE day = ?1 AND holder = ?2 AND epoch = ?3 AND number = ?4";

/// How many numbers share a page. Their admitted calls fit into a cell of SQLite's.
const PAGE: u64 = 64;

const READ: &str =
    "SELECT present, admitted, others, checksum IS checksum('daily_pages', day, holder, epoch, page, present, admitted, others)
    FROM daily_pages WHERE day = ?1 AND holder = ?2 AND epoch = ?3 AND page = ?4";
const WRITE: &str = "INSERT INTO daily_pages (day, holder, epoch, page, present, admitted, others, checksum)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, checksum('daily_pages', ?1, ?2, ?3, ?4, ?5, ?6, ?7))
    ON CONFLICT DO UPDATE SET present = excluded.present, admitted = excluded.admitted, others = excluded.others, checksum = excluded.checksum";
/// Where pages have no checksum yet.
const WRITE_BARE: &str = "INSERT INTO daily_pages (day, holder, epoch, page, present, admitted, others) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

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

/// Whether a number has a name.
pub(super) fn is_named(sql: &Connection, day: u64, holder: Holder, number: u64) -> Result<bool> {
    sql.prepare_cached(NAMED)?.exists(params![int(day), holder.id, holder.epoch, int(number)])
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
    /// Whether a place is taken.
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

    /// The page as it is, or an empty one where it cannot be read: its rows are written again as
    /// they change, and what else is in the transaction, leases before all, must not wait for
    /// somebody who mends statistics.
    pub(super) fn read_or_begin(sql: &Connection, place: PagePlace) -> Result<Self> {
        match read(&mut *sql.prepare_cached(READ)?, place) {
            Err(wrong) if is_unreadable(&wrong) => Ok(Self::default()),
            read => read,
        }
    }

    /// Writes it where it has changed, and gives the number of rows that were written.
    pub(super) fn write(&self, sql: &Connection, place: PagePlace) -> Result<u64> {
        self.write_by(WRITE, sql, place)
    }

    fn write_by(
        &self,
        statement: &str,
        sql: &Connection,
        PagePlace { day, holder, page }: PagePlace,
    ) -> Result<u64> {
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
        let (present, admitted, others) =
            (self.present.cast_signed(), pack(&self.admitted), pack(&others));
        sql.prepare_cached(statement)?.execute(params![
            int(day),
            holder.id,
            holder.epoch,
            int(page),
            present,
            admitted,
            others
        ])?;
        Ok(1)
    }
}

fn read(statement: &mut Statement<'_>, PagePlace { day, holder, page }: PagePlace) -> Result<Page> {
    let found = statement.query_row(params![int(day), holder.id, holder.epoch, int(page)], |row| {
        intact(row, 3, "daily_pages", || {
            format!("(day {day}, holder {}, epoch {}, page {page})", holder.id, holder.epoch)
        })?;
        let present: i64 = row.get(0)?;
        let mut page = Page {
            present: present.cast_unsigned(),
            admitted: read_packed(row, 1)?,
            ..Page::default()
        };
        if page.admitted.len() != 64 - page.present.leading_zeros() as usize {
            return Err(unreadable(1, row.get_ref(1)?, FromSqlError::InvalidType));
        }
        let others = others(&read_packed(row, 2)?)
            .filter(|others| others.keys().all(|place| *place < 64 && page.holds(*place)));
        let Some(others) = others else {
            return Err(unreadable(2, row.get_ref(2)?, FromSqlError::InvalidType));
        };
        page.others = others;
        Ok(page)
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

/// Decodes all pages.
pub(super) fn pages(sql: &Connection, on_bad: OnBad<'_>) -> Result<()> {
    let mut places = sql.prepare("SELECT day, holder, epoch, page FROM daily_pages")?;
    let mut statement = sql.prepare(READ)?;
    let mut rows = places.query([])?;
    while let Some(row) = rows.next()? {
        let place = || -> Result<_> {
            Ok(PagePlace {
                day: read_int(row, 0)?,
                holder: Holder { id: row.get(1)?, epoch: row.get(2)? },
                page: read_int(row, 3)?,
            })
        };
        if let Err(wrong) = place().and_then(|place| read(&mut statement, place)) {
            let key = format!("(day {:?}, page {:?})", row.get_ref(0)?, row.get_ref(3)?);
            let bad = BadRow::of(&wrong).cloned();
            on_bad(bad.unwrap_or_else(|| BadRow {
                table: "daily_pages",
                key,
                what: Some(wrong.to_string()),
            }))?;
        }
    }
    Ok(())
}

/// The rows of a scope, in the order of their keys. Those of a damaged page are left out.
pub(super) fn list(
    sql: &Connection,
    scope: &Scope,
    first_day: u64,
    last_day: u64,
    on_bad: OnBad<'_>,
) -> Result<Vec<(Holder, DailyRow)>> {
    let moment = sql.unchecked_transaction()?;
    let (condition, id) = column(scope).unwrap_or(("?3 = ''", ""));
    let mut statement = moment.prepare(&format!(
        "SELECT day, subscriber, key, plan, entitlement, target, holder, epoch, number,
                checksum IS checksum('daily_names', day, holder, epoch, number, subscriber, key, plan, entitlement, target)
         FROM daily_names
         WHERE day BETWEEN ?1 AND ?2 AND {condition}"
    ))?;
    let mut pages = moment.prepare(READ)?;
    // Names come as their numbers do, mostly: a page is read once for its neighbours.
    let mut last: Option<(PagePlace, Page)> = None;
    let mut names = Names::default();
    let mut found = Vec::new();
    let mut rows = statement.query(params![int(first_day), int(last_day), id])?;
    while let Some(row) = rows.next()? {
        let name = || {
            let number = |column| row.get::<_, i64>(column).unwrap_or_default();
            format!(
                "(day {}, holder {}, epoch {}, number {})",
                number(0),
                number(6),
                number(7),
                number(8)
            )
        };
        let named = intact(row, 9, "daily_names", name).and_then(|()| named(row, &mut names));
        let Some((key, holder, number)) = sound(named, "daily_names", name, on_bad)? else {
            continue;
        };
        let (page, place) = place(key.day, holder, number);
        if last.as_ref().is_none_or(|(known, _)| *known != page) {
            let read = read(&mut pages, page);
            // Of one that cannot be read nothing is shown.
            last = Some((page, sound(read, "daily_pages", name, on_bad)?.unwrap_or_default()));
        }
        if let Some(counts) = last.as_ref().and_then(|(_, page)| page.get(place)) {
            found.push((holder, DailyRow { number, key, counts }));
        }
    }
    found.sort_unstable_by(|(holder, row), (other, than)| {
        (&row.key, holder, row.number).cmp(&(&than.key, other, than.number))
    });
    Ok(found)
}

fn named(row: &Row<'_>, names: &mut Names) -> Result<(DailyKey, Holder, u64)> {
    let mut name = |column| names.id(row, column);
    let (subscriber, key, plan, entitlement, target) =
        (name(1)?, name(2)?, name(3)?, name(4)?, name(5)?);
    let key = DailyKey { day: read_int(row, 0)?, subscriber, key, plan, entitlement, target };
    Ok((key, Holder { id: row.get(6)?, epoch: row.get(7)? }, read_int(row, 8)?))
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
            last.iter()
                .try_for_each(|(place, page)| page.write_by(WRITE_BARE, sql, *place).map(drop))?;
            last = Some((page, Page::default()));
        }
        let counts = || -> Result<_> {
            Ok(DailyCounts {
                admitted: read_int(row, 4)?,
                refused: read_packed(row, 5)?,
                responses: read_packed(row, 6)?,
            })
        };
        let counts = match counts() {
            // Its name is left, without counts: a check says so. A service that does not start
            // would be worse.
            Err(wrong) if is_unreadable(&wrong) => continue,
            counts => counts?,
        };
        last.iter_mut().for_each(|(_, page)| page.put(place, &counts));
    }
    last.iter().try_for_each(|(place, page)| page.write_by(WRITE_BARE, sql, *place).map(drop))
}

/// Pages and names of daily usage that are not as they are written. One page for each 64 numbers,
/// as long as its last place.
pub(super) const QUESTIONS: [(&str, &str); 2] = [
    (
        "SELECT count(*) FROM daily_pages WHERE length(admitted) NOT BETWEEN 8 AND 512 OR length(admitted) % 8 <> 0 OR length(others) % 8 <> 0
             OR (length(admitted) < 512 AND present >> length(admitted) / 8 <> 0) OR present >> length(admitted) / 8 - 1 & 1 = 0",
        "pages of daily usage are cut off",
    ),
    (
        "SELECT count(*) FROM daily_names AS name LEFT JOIN daily_pages AS page
             ON page.day = name.day AND page.holder = name.holder AND page.epoch = name.epoch AND page.page = name.number / 64
         WHERE ifnull(page.present >> name.number % 64 & 1, 0) = 0",
        "rows of daily usage have no counts",
    ),
];
