//! Rows within a transaction.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use roaring::RoaringBitmap;
use rusqlite::types::Type;
use rusqlite::{Error, OptionalExtension, Result, params};

use super::checksum::{BadRow, intact};
use super::codes::{int, kind, name_kind, pack, read_int, read_share, unit, weekday};
use super::days::{self, Page, PagePlace};
use super::made;
use super::reading::{OnBad, named_counter};
use crate::decide::outcome::CountRule;
use crate::ledger::balance::{Account, Share};
use crate::ledger::operations::{MarkPlace, Rows};
use crate::ledger::{
    Believed, CatalogChange, CounterId, CounterIdentity, DailyChange, DailyKey, DailyName, Expire,
    Expired, Holder, MAX_COUNT_RULES, Made, NumberedName, OnceKind, WindowRow,
};

/// Names of the table `numbers`.
pub(super) const CATALOG_REVISION: &str = "catalog_revision";
pub(super) const ACCOUNTS_DROPPED_TO_S: &str = "periods_dropped_to_s";
const ACCOUNTS_DROPPED_FROM_S: &str = "periods_dropped_from_s";
pub(super) const MARKS_DROPPED_TO_S: &str = "marks_dropped_to_s";
pub(super) const VOUCHED_S: &str = "clock_vouched_s";
pub(super) const SEEN_S: &str = "clock_seen_s";
/// How many transactions were committed.
pub(super) const COMMITS: &str = "commits";

/// What one transaction has read and will write at its end.
pub(super) struct Transaction<'a> {
    pub(super) sql: &'a rusqlite::Transaction<'a>,
    marks: HashMap<MarkPlace, MarkRow>,
    /// Written in their order.
    days: BTreeMap<PagePlace, Page>,
    count_rules: HashMap<CountRule, u16>,
    numbers: HashMap<&'static str, Option<u64>>,
    /// Periods of counters that have no row yet.
    fresh: HashSet<(CounterId, u64)>,
    written: u64,
}

#[derive(Default)]
struct MarkRow {
    bits: RoaringBitmap,
    newest_s: u64,
    changed: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(sql: &'a rusqlite::Transaction<'a>) -> Self {
        Self {
            sql,
            marks: HashMap::new(),
            days: BTreeMap::new(),
            count_rules: HashMap::new(),
            numbers: HashMap::new(),
            fresh: HashSet::new(),
            written: 0,
        }
    }

    /// Writes what was kept back, and gives the number of rows that the transaction has written.
    pub(super) fn finish(&mut self) -> Result<u64> {
        let sql = "INSERT INTO marks (holder, epoch, shard, kind, high, newest_s, bits, checksum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, checksum('marks', ?1, ?2, ?3, ?4, ?5, ?6, ?7))
                   ON CONFLICT DO UPDATE SET newest_s = excluded.newest_s, bits = excluded.bits, checksum = excluded.checksum";
        for (place, row) in self.marks.iter().filter(|(_, row)| row.changed) {
            let mut bits = Vec::with_capacity(row.bits.serialized_size());
            row.bits
                .serialize_into(&mut bits)
                .map_err(|wrong| Error::ToSqlConversionFailure(Box::new(wrong)))?;
            let MarkPlace { holder, shard, kind: of, high } = *place;
            let values = params![
                holder.id,
                holder.epoch,
                shard,
                kind(of),
                int(high),
                int(row.newest_s),
                bits
            ];
            self.sql.prepare_cached(sql)?.execute(values)?;
            self.written += 1;
        }
        for (place, page) in &self.days {
            self.written += page.write(self.sql, *place)?;
        }
        Ok(self.written)
    }

    pub(super) fn write(&mut self, sql: &str, values: impl rusqlite::Params) -> Result<u64> {
        let rows = self.sql.prepare_cached(sql)?.execute(values)?.try_into().unwrap_or(u64::MAX);
        self.written += rows;
        Ok(rows)
    }

    fn number(&mut self, name: &'static str) -> Result<Option<u64>> {
        if let Some(known) = self.numbers.get(name) {
            return Ok(*known);
        }
        let value = read_number(self.sql, name)?;
        self.numbers.insert(name, value);
        Ok(value)
    }

    /// Writes which transaction this is.
    pub(super) fn set_commits(&mut self, commits: u64) -> Result<()> {
        self.set_number(COMMITS, commits)
    }

    /// Another epoch of a holder, later than `after`.
    pub(super) fn join(&mut self, holder_id: u32, after: u32) -> Result<Holder> {
        let sql =
            "SELECT epoch, checksum IS checksum('holders', id, epoch) FROM holders WHERE id = ?1";
        let known = self.sql.query_row(sql, [holder_id], |row| {
            intact(row, 1, "holders", || format!("(id {holder_id})"))?;
            row.get::<_, u32>(0)
        });
        let known = match known.optional()? {
            Some(known) => known,
            None => {
                whole(
                    self.sql,
                    "holders",
                    "SELECT id FROM holders WHERE checksum IS NOT checksum('holders', id, epoch)",
                )?;
                0
            }
        };
        let epoch = known.max(after).saturating_add(1);
        let sql =
            "INSERT INTO holders (id, epoch, checksum) VALUES (?1, ?2, checksum('holders', ?1, ?2))
                   ON CONFLICT DO UPDATE SET epoch = excluded.epoch, checksum = excluded.checksum";
        self.write(sql, params![holder_id, epoch])?;
        Ok(Holder { id: holder_id, epoch })
    }

    /// Whether the index knows a period that the table does not: the row is there, and what names
    /// it is damaged. A count must not start from 0 again beside it.
    fn is_lost(&mut self, counter: CounterId, start_s: u64, end_s: u64) -> Result<bool> {
        let sql = "SELECT 1 FROM periods INDEXED BY periods_by_end WHERE end_s = ?1 AND counter = ?2 AND start_s = ?3";
        self.sql.prepare_cached(sql)?.exists([int(end_s), int(counter.0), int(start_s)])
    }

    fn set_number(&mut self, name: &'static str, value: u64) -> Result<()> {
        self.numbers.insert(name, Some(value));
        self.write(
            "INSERT INTO numbers (name, value, checksum) VALUES (?1, ?2, checksum('numbers', ?1, ?2))
             ON CONFLICT DO UPDATE SET value = excluded.value, checksum = excluded.checksum",
            params![name, int(value)],
        )?;
        Ok(())
    }

    /// Numbers that only grow.
    fn raise_number(&mut self, name: &'static str, value: Option<u64>) -> Result<()> {
        let known = self.number(name)?;
        match value {
            Some(value) if Some(value) > known => self.set_number(name, value),
            _ => Ok(()),
        }
    }

    fn mark_row(&mut self, place: MarkPlace) -> Result<&mut MarkRow> {
        if !self.marks.contains_key(&place) {
            let MarkPlace { holder, shard, kind: of, high } = place;
            let sql = "SELECT newest_s, bits, checksum IS checksum('marks', holder, epoch, shard, kind, high, newest_s, bits) FROM marks
                       WHERE holder = ?1 AND epoch = ?2 AND shard = ?3 AND kind = ?4 AND high = ?5";
            let mut statement = self.sql.prepare_cached(sql)?;
            let row = statement.query_row(
                params![holder.id, holder.epoch, shard, kind(of), int(high)],
                |row| {
                    intact(row, 2, "marks", || {
                        format!(
                            "(holder {}, epoch {}, shard {shard}, kind {}, high {high})",
                            holder.id,
                            holder.epoch,
                            kind(of)
                        )
                    })?;
                    let bytes: Vec<u8> = row.get(1)?;
                    Ok(MarkRow {
                        newest_s: read_int(row, 0)?,
                        bits: bitmap(&bytes)?,
                        changed: false,
                    })
                },
            );
            let row = row.optional()?.unwrap_or_default();
            self.marks.insert(place, row);
        }
        Ok(self.marks.entry(place).or_default())
    }

    fn expire_marks(&mut self, before_s: u64, most: u64) -> Result<u64> {
        let sql = "SELECT max(newest_s) FROM (SELECT newest_s FROM marks WHERE newest_s < ?1 ORDER BY newest_s LIMIT ?2)";
        let newest: Option<i64> =
            self.sql.query_row(sql, [int(before_s), int(most)], |row| row.get(0))?;
        self.raise_number(
            MARKS_DROPPED_TO_S,
            newest.and_then(|newest| u64::try_from(newest).ok()),
        )?;
        let sql = "DELETE FROM marks WHERE rowid IN (SELECT rowid FROM marks WHERE newest_s < ?1 ORDER BY newest_s LIMIT ?2)";
        self.write(sql, [int(before_s), int(most)])
    }

    fn expire_periods(&mut self, ended_by_s: u64, most: u64) -> Result<(u64, u64)> {
        // One that is damaged may not be as old as it says.
        let sql = "SELECT counter, start_s, end_s FROM periods
                   WHERE end_s <= ?1 AND checksum IS checksum('periods', counter, start_s, end_s, charged, granted, active_s)
                   ORDER BY end_s LIMIT ?2";
        let mut statement = self.sql.prepare_cached(sql)?;
        let old = statement.query_map([int(ended_by_s), int(most)], |row| {
            Ok((row.get(0)?, row.get(1)?, read_int(row, 2)?))
        })?;
        let old: Vec<(i64, i64, u64)> = old.collect::<Result<_>>()?;
        drop(statement);
        if let Some((.., first_s)) = old.first() {
            let from_s = self.dropped_ends_s()?.map_or(*first_s, |ends_s| *ends_s.start());
            self.set_number(ACCOUNTS_DROPPED_FROM_S, from_s.min(*first_s))?;
        }
        self.raise_number(ACCOUNTS_DROPPED_TO_S, old.last().map(|(.., end_s)| *end_s))?;
        let mut counters = 0;
        for (counter, start_s, _) in &old {
            self.write(
                "DELETE FROM periods WHERE counter = ?1 AND start_s = ?2",
                [counter, start_s],
            )?;
            self.write(
                "DELETE FROM shares WHERE counter = ?1 AND start_s = ?2",
                [counter, start_s],
            )?;
            let sql = "DELETE FROM counters WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM periods WHERE counter = ?1)";
            counters += self.write(sql, [counter])?;
        }
        Ok((old.len().try_into().unwrap_or(u64::MAX), counters))
    }

    fn expire_days(&mut self, before: u64, most: u64) -> Result<u64> {
        let sql = "DELETE FROM daily_names WHERE (day, holder, epoch, number) IN
                   (SELECT day, holder, epoch, number FROM daily_names WHERE day < ?1 ORDER BY day, holder, epoch, number LIMIT ?2)";
        let dropped = self.write(sql, [int(before), int(most)])?;
        // Pages go with the last of their names.
        let sql = "SELECT day, holder, epoch, number FROM daily_names WHERE day < ?1 ORDER BY day, holder, epoch, number LIMIT 1";
        let left = self.sql.prepare_cached(sql)?.query_row([int(before)], |row| {
            Ok(days::place(
                read_int(row, 0)?,
                Holder { id: row.get(1)?, epoch: row.get(2)? },
                read_int(row, 3)?,
            )
            .0)
        });
        match left.optional()? {
            Some(PagePlace { day, holder, page }) => {
                let sql =
                    "DELETE FROM daily_pages WHERE (day, holder, epoch, page) < (?1, ?2, ?3, ?4)";
                self.write(sql, params![int(day), holder.id, holder.epoch, int(page)])?
            }
            None => self.write("DELETE FROM daily_pages WHERE day < ?1", [int(before)])?,
        };
        Ok(dropped)
    }

    fn expire_names(&mut self, expire: &Expire, most: u64) -> Result<u64> {
        if let Some(now_s) = expire.now_s {
            let sql = "UPDATE naming_epochs SET ended_s = ?1, checksum = checksum('naming_epochs', holder, epoch, ?1)
                       WHERE ifnull(ended_s > ?1, true) AND checksum IS checksum('naming_epochs', holder, epoch, ended_s)
                       AND epoch < (SELECT epoch FROM holders WHERE id = naming_epochs.holder)";
            self.write(sql, [int(now_s)])?;
        }
        let mut statement = self
            .sql
            .prepare_cached("SELECT holder, epoch FROM naming_epochs WHERE ended_s < ?1")?;
        let ended = statement
            .query_map([int(expire.names_ended_before_s)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let ended: Vec<(u32, u32)> = ended.collect::<Result<_>>()?;
        drop(statement);
        let mut dropped = 0;
        for (holder, epoch) in ended {
            let sql = "DELETE FROM names WHERE (holder, epoch, kind, number) IN
                       (SELECT holder, epoch, kind, number FROM names WHERE holder = ?1 AND epoch = ?2 LIMIT ?3)";
            dropped +=
                self.write(sql, params![holder, epoch, int(most.saturating_sub(dropped))])?;
            let sql = "DELETE FROM naming_epochs WHERE holder = ?1 AND epoch = ?2
                       AND NOT EXISTS (SELECT 1 FROM names WHERE holder = ?1 AND epoch = ?2)";
            self.write(sql, params![holder, epoch])?;
        }
        Ok(dropped)
    }
}

impl Rows for Transaction<'_> {
    type Error = Error;

    fn find_counter(&mut self, identity: &CounterIdentity) -> Result<Option<CounterId>> {
        // By the index, and not by the row, which may be damaged: it is looked at where its limit
        // is.
        let sql = "SELECT id FROM counters WHERE subscriber = ?1 AND key = ?2 AND plan = ?3 AND entitlement = ?4 AND quota = ?5
                   AND unit = ?6 AND time_zone = ?7 AND week_start = ?8";
        let mut statement = self.sql.prepare_cached(sql)?;
        statement.query_row(columns(identity), |row| Ok(CounterId(read_int(row, 0)?))).optional()
    }

    fn make_counter(&mut self, identity: &CounterIdentity) -> Result<CounterId> {
        // The number that SQLite would give, which the checksum needs.
        let sql =
            "INSERT INTO counters (id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, limit_revision, checksum)
                   SELECT id, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, checksum('counters', id, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0)
                   FROM (SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'counters'), 0),
                                    ifnull((SELECT max(id) FROM counters), 0)) + 1 AS id)
                   RETURNING id";
        self.written += 1;
        self.sql
            .prepare_cached(sql)?
            .query_row(columns(identity), |row| Ok(CounterId(read_int(row, 0)?)))
    }

    fn limit_revision(&mut self, counter: CounterId) -> Result<Option<u64>> {
        let sql = "SELECT limit_revision, subscriber, quota,
                          checksum IS checksum('counters', id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, limit_revision)
                   FROM counters WHERE id = ?1";
        let mut statement = self.sql.prepare_cached(sql)?;
        let revision = statement.query_row([int(counter.0)], |row| {
            intact(row, 3, "counters", || named_counter(row, counter.0, 1, 2))?;
            read_int(row, 0)
        });
        revision.optional()
    }

    fn set_limit_revision(&mut self, counter: CounterId, revision: u64) -> Result<()> {
        // What is not as it was written gets no checksum that says it is.
        let sql = "UPDATE counters SET limit_revision = ?2,
                          checksum = checksum('counters', id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, ?2)
                   WHERE id = ?1 AND
                         checksum IS checksum('counters', id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, limit_revision)";
        match self.write(sql, [int(counter.0), int(revision)])? {
            1 => Ok(()),
            _ => Err(BadRow::new("counters", format!("(id {})", counter.0)).into()),
        }
    }

    fn count_rule(&mut self, rule: &CountRule) -> Result<Option<u16>> {
        if let Some(known) = self.count_rules.get(rule) {
            return Ok(Some(*known));
        }
        let packed = pack(&rule.bits());
        let sql = "SELECT id, checksum IS checksum('count_rules', id, bits) FROM count_rules WHERE bits = ?1";
        let known = self.sql.prepare_cached(sql)?.query_row([&packed], |row| {
            let id: u16 = row.get(0)?;
            intact(row, 1, "count_rules", || format!("(id {id})")).map(|()| id)
        });
        let number = match known.optional()? {
            Some(known) => known,
            None => {
                let next: i64 = self.sql.query_row(
                    "SELECT coalesce(max(id) + 1, 0) FROM count_rules",
                    [],
                    |row| row.get(0),
                )?;
                let Some(next) = u16::try_from(next).ok().filter(|next| *next < MAX_COUNT_RULES)
                else {
                    return Ok(None);
                };
                let sql = "INSERT INTO count_rules (id, bits, checksum) VALUES (?1, ?2, checksum('count_rules', ?1, ?2))";
                self.write(sql, params![next, packed])?;
                next
            }
        };
        self.count_rules.insert(*rule, number);
        Ok(Some(number))
    }

    fn account(&mut self, counter: CounterId, start_s: u64) -> Result<Option<Account>> {
        let sql =
            "SELECT end_s, charged, granted, active_s, checksum IS checksum('periods', counter, start_s, end_s, charged, granted, active_s)
                   FROM periods WHERE counter = ?1 AND start_s = ?2";
        let mut statement = self.sql.prepare_cached(sql)?;
        let account = statement.query_row([int(counter.0), int(start_s)], |row| {
            intact(row, 4, "periods", || period_key(counter, start_s))?;
            Ok(Account {
                end_s: read_int(row, 0)?,
                charged: read_int(row, 1)?,
                granted: row.get(2)?,
                active_s: read_int(row, 3)?,
            })
        });
        let account = account.optional()?;
        if account.is_none() {
            self.fresh.insert((counter, start_s));
        }
        Ok(account)
    }

    fn put_account(&mut self, counter: CounterId, start_s: u64, account: &Account) -> Result<()> {
        let sql = "INSERT INTO periods (counter, start_s, end_s, charged, granted, active_s, checksum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, checksum('periods', ?1, ?2, ?3, ?4, ?5, ?6))
                   ON CONFLICT DO UPDATE SET charged = excluded.charged, granted = excluded.granted, active_s = excluded.active_s,
                       checksum = excluded.checksum";
        let Account { end_s, charged, granted, active_s } = *account;
        if self.fresh.remove(&(counter, start_s)) && self.is_lost(counter, start_s, end_s)? {
            return Err(BadRow::new("periods", period_key(counter, start_s)).into());
        }
        self.write(
            sql,
            [int(counter.0), int(start_s), int(end_s), int(charged), granted, int(active_s)],
        )?;
        Ok(())
    }

    fn shares(&mut self, counter: CounterId, start_s: u64) -> Result<Vec<(Holder, Share)>> {
        let sql = "SELECT holder, epoch, leased, spent, checksum IS checksum('shares', counter, start_s, holder, epoch, leased, spent) FROM shares
                   WHERE counter = ?1 AND start_s = ?2";
        let mut statement = self.sql.prepare_cached(sql)?;
        let shares = statement.query_map([int(counter.0), int(start_s)], |row| {
            intact(row, 4, "shares", || {
                let number = |column| row.get::<_, i64>(column).unwrap_or_default();
                format!(
                    "(counter {}, start_s {start_s}, holder {}, epoch {})",
                    counter.0,
                    number(0),
                    number(1)
                )
            })?;
            read_share(row, 0)
        })?;
        shares.collect()
    }

    fn put_share(
        &mut self,
        counter: CounterId,
        start_s: u64,
        holder: Holder,
        share: &Share,
    ) -> Result<()> {
        let sql = "INSERT INTO shares (counter, start_s, holder, epoch, leased, spent, checksum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, checksum('shares', ?1, ?2, ?3, ?4, ?5, ?6))
                   ON CONFLICT DO UPDATE SET leased = excluded.leased, spent = excluded.spent, checksum = excluded.checksum";
        let Share { leased, spent } = *share;
        self.write(
            sql,
            [
                int(counter.0),
                int(start_s),
                holder.id.into(),
                holder.epoch.into(),
                int(leased),
                int(spent),
            ],
        )?;
        Ok(())
    }

    fn dropped_ends_s(&mut self) -> Result<Option<RangeInclusive<u64>>> {
        let Some(to_s) = self.number(ACCOUNTS_DROPPED_TO_S)? else { return Ok(None) };
        // An older program did not keep the first.
        let from_s = self.number(ACCOUNTS_DROPPED_FROM_S)?.unwrap_or_default();
        Ok(Some(from_s..=to_s))
    }

    fn is_marked(&mut self, place: MarkPlace, low: u16) -> Result<bool> {
        Ok(self.mark_row(place)?.bits.contains(low.into()))
    }

    fn put_mark(&mut self, place: MarkPlace, low: u16, issued_s: u64) -> Result<()> {
        let row = self.mark_row(place)?;
        row.bits.insert(low.into());
        row.newest_s = row.newest_s.max(issued_s);
        row.changed = true;
        Ok(())
    }

    fn marks_dropped_to_s(&mut self) -> Result<Option<u64>> {
        self.number(MARKS_DROPPED_TO_S)
    }

    fn catalog_revision(&mut self) -> Result<u64> {
        Ok(self.number(CATALOG_REVISION)?.unwrap_or_default())
    }

    fn set_catalog_revision(&mut self, revision: u64) -> Result<()> {
        self.set_number(CATALOG_REVISION, revision)
    }

    fn put_resource(&mut self, change: &CatalogChange) -> Result<()> {
        let CatalogChange { kind, id, value } = change;
        match value {
            Some(value) => self.write(
                "INSERT INTO catalog (kind, id, value, checksum) VALUES (?1, ?2, ?3, checksum('catalog', ?1, ?2, ?3))
                 ON CONFLICT DO UPDATE SET kind = excluded.kind, id = excluded.id, value = excluded.value, checksum = excluded.checksum",
                params![kind, &**id, value],
            )?,
            None => self.write("DELETE FROM catalog WHERE kind = ?1 AND id = ?2", params![kind, &**id])?,
        };
        Ok(())
    }

    fn put_day(&mut self, holder: Holder, row: &DailyChange) -> Result<()> {
        if let DailyName::Told(DailyKey { day, subscriber, key, plan, entitlement, target }) =
            &row.name
        {
            let sql = "INSERT INTO daily_names (day, holder, epoch, number, subscriber, key, plan, entitlement, target, checksum)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, checksum('daily_names', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))
                       ON CONFLICT DO NOTHING";
            let [subscriber, key, plan, entitlement, target] =
                [subscriber, key, plan, entitlement, target].map(|name| &**name);
            let values = params![
                int(*day),
                holder.id,
                holder.epoch,
                int(row.number),
                subscriber,
                key,
                plan,
                entitlement,
                target
            ];
            self.write(sql, values)?;
        }
        let (page, place) = days::place(row.name.day(), holder, row.number);
        let page = match self.days.entry(page) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(empty) => empty.insert(Page::read_or_begin(self.sql, page)?),
        };
        // One that has a name and no place was in a page that could not be read.
        let told = matches!(row.name, DailyName::Told(_));
        if told
            || page.holds(place)
            || days::is_named(self.sql, row.name.day(), holder, row.number)?
        {
            page.put(place, &row.counts);
        }
        Ok(())
    }

    fn put_names(&mut self, holder: Holder, names: &[NumberedName]) -> Result<()> {
        let sql = "INSERT INTO naming_epochs (holder, epoch, checksum) VALUES (?1, ?2, checksum('naming_epochs', ?1, ?2, NULL))
                   ON CONFLICT DO NOTHING";
        self.write(sql, params![holder.id, holder.epoch])?;
        let sql = "INSERT INTO names (holder, epoch, kind, number, name, checksum)
                   VALUES (?1, ?2, ?3, ?4, ?5, checksum('names', ?1, ?2, ?3, ?4, ?5))
                   ON CONFLICT DO UPDATE SET name = excluded.name, checksum = excluded.checksum";
        for NumberedName { kind, number, name } in names {
            self.write(sql, params![holder.id, holder.epoch, name_kind(*kind), number, &**name])?;
        }
        Ok(())
    }

    fn put_window(&mut self, holder_id: u32, row: &WindowRow) -> Result<()> {
        let sql =
            "INSERT INTO windows (fingerprint, holder, end_s, count, checksum) VALUES (?1, ?2, ?3, ?4, checksum('windows', ?1, ?2, ?3, ?4))
                   ON CONFLICT DO UPDATE SET end_s = excluded.end_s, count = excluded.count, checksum = excluded.checksum";
        self.write(sql, params![row.fingerprint, holder_id, int(row.end_s), int(row.count)])?;
        Ok(())
    }

    fn find_made(&mut self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>> {
        made::find(self.sql, kind, name)
    }

    fn put_made(&mut self, kind: OnceKind, name: &[u8; 16], made: &Made) -> Result<()> {
        self.written += made::put(self.sql, kind, name, made)?;
        Ok(())
    }

    fn believe(&mut self, Believed { now_s, vouched }: Believed) -> Result<bool> {
        self.set_number(if vouched { VOUCHED_S } else { SEEN_S }, now_s)?;
        let mut reopened = false;
        for name in [ACCOUNTS_DROPPED_TO_S, MARKS_DROPPED_TO_S] {
            if self.number(name)?.is_some_and(|dropped_s| dropped_s > now_s) {
                self.set_number(name, now_s)?;
                reopened = true;
            }
        }
        Ok(reopened)
    }

    fn expire(&mut self, expire: &Expire, most: u64) -> Result<Expired> {
        // What this transaction holds first, so that none of it comes back at its end.
        self.finish()?;
        self.marks.clear();
        self.days.clear();
        let mark_rows = self.expire_marks(expire.marks_issued_before_s, most)?;
        let (periods, counters) = self.expire_periods(expire.periods_ended_by_s, most)?;
        let days = self.expire_days(expire.days_before, most)?;
        let names = self.expire_names(expire, most)?;
        let sql = "DELETE FROM windows WHERE (fingerprint, holder) IN
                   (SELECT fingerprint, holder FROM windows WHERE end_s <= ?1 LIMIT ?2)";
        let windows = self.write(sql, [int(expire.windows_ended_by_s), int(most)])?;
        let drop_made = |kind, before_s| made::expire(self.sql, kind, before_s, most);
        let requests = drop_made(OnceKind::Request, expire.requests_made_before_s)?;
        let charges = drop_made(OnceKind::Charge, expire.charges_made_before_s)?;
        let checks = drop_made(OnceKind::Check, expire.checks_made_before_s)?;
        self.written += requests + charges + checks;
        let none = Expired::default();
        let dropped = Expired { mark_rows, periods, counters, days, names, windows, ..none };
        Ok(Expired::up_to(most, dropped, [requests, charges, checks]))
    }
}

fn columns(identity: &CounterIdentity) -> [&str; 8] {
    let CounterIdentity { subscriber, key, plan, entitlement, quota } = identity;
    let key = key.as_deref().unwrap_or_default();
    [
        subscriber,
        key,
        plan,
        entitlement,
        &quota.name,
        unit(quota.unit),
        &quota.time_zone,
        weekday(quota.week_start),
    ]
}

/// A number of the table `numbers`.
pub(super) fn read_number(sql: &rusqlite::Connection, name: &str) -> Result<Option<u64>> {
    let mut statement = sql.prepare_cached(
        "SELECT value, checksum IS checksum('numbers', name, value) FROM numbers WHERE name = ?1",
    )?;
    let value = statement.query_row([name], |row| {
        intact(row, 1, "numbers", || format!("(name `{name}`)"))?;
        read_int(row, 0)
    });
    match value.optional()? {
        Some(value) => Ok(Some(value)),
        None => whole(
            sql,
            "numbers",
            "SELECT name FROM numbers WHERE checksum IS NOT checksum('numbers', name, value)",
        )
        .map(|()| None),
    }
}

/// Whether what is not found in a small table is not there: a row whose name is damaged may be it.
fn whole(sql: &rusqlite::Connection, table: &'static str, damaged: &str) -> Result<()> {
    let name = sql
        .prepare_cached(damaged)?
        .query_row([], |row| Ok(format!("{:?}", row.get_ref(0)?)))
        .optional()?;
    name.map_or(Ok(()), |name| Err(BadRow::new(table, format!("(named {name} now)")).into()))
}

fn period_key(counter: CounterId, start_s: u64) -> String {
    format!("(counter {}, start_s {start_s})", counter.0)
}

fn bitmap(bytes: &[u8]) -> Result<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes)
        .map_err(|wrong| Error::FromSqlConversionFailure(1, Type::Blob, Box::new(wrong)))
}

/// Decodes all marks.
pub(super) fn marks(sql: &rusqlite::Connection, on_bad: OnBad<'_>) -> Result<()> {
    let mut statement = sql.prepare("SELECT bits, holder, epoch, shard, kind, high FROM marks")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(wrong) = row.get::<_, Vec<u8>>(0).and_then(|bytes| bitmap(&bytes)) {
            let number = |column| row.get::<_, i64>(column).unwrap_or_default();
            let key = format!(
                "(holder {}, epoch {}, shard {}, kind {}, high {})",
                number(1),
                number(2),
                number(3),
                number(4),
                number(5)
            );
            on_bad(BadRow { table: "marks", key, what: Some(wrong.to_string()) })?;
        }
    }
    Ok(())
}
