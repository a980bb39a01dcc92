//! What is read at the start, and for people.

use std::collections::HashMap;

use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result, Row, params};

use super::checksum::{catalog_key, intact};
use super::codes::{
    int, read_int, read_name_kind, read_packed, read_share, read_unit, read_weekday,
};
use super::reading::{Names, OnBad, column, named_counter, not_text, sound};
use super::rows::{
    ACCOUNTS_DROPPED_TO_S, CATALOG_REVISION, MARKS_DROPPED_TO_S, SEEN_S, VOUCHED_S, read_number,
};
use crate::decide::calendar::Period;
use crate::decide::compiled::QuotaIdentity;
use crate::decide::outcome::CountRule;
use crate::decide::plan::Id;
use crate::ledger::balance::Share;
use crate::ledger::operations::unspent;
use crate::ledger::{
    CatalogImage, CatalogResource, CounterId, CounterIdentity, Holder, NumberedName, PeriodRow,
    Scope, Stretch, Times, Whose, WindowRow,
};

/// Where no time was kept yet, it is told by what was written last: an older program wrote it.
pub(super) fn times(sql: &Connection) -> Result<Times> {
    let moment = sql.unchecked_transaction()?;
    let number = |name| read_number(&moment, name);
    let vouched_s = number(VOUCHED_S)?;
    let mut seen_s = if vouched_s.is_none() { number(SEEN_S)? } else { None };
    let (periods_dropped_to_s, marks_dropped_to_s) =
        (number(ACCOUNTS_DROPPED_TO_S)?.unwrap_or_default(), number(MARKS_DROPPED_TO_S)?);
    if vouched_s.or(seen_s).is_none() {
        let sql = "SELECT max((SELECT ifnull(max(active_s), 0) FROM periods), (SELECT ifnull(max(newest_s), 0) FROM marks),
                              (SELECT ifnull(max(day), -1) + 1 FROM daily_names) * 86400)";
        seen_s = moment
            .query_row(sql, [], |row| read_int(row, 0))
            .map(|newest_s| Some(newest_s).filter(|newest_s| *newest_s > 0))?;
    }
    Ok(Times { vouched_s, seen_s, periods_dropped_to_s, marks_dropped_to_s })
}

/// The revision and the resources, of one moment.
pub(super) fn catalog(sql: &Connection, on_bad: OnBad<'_>) -> Result<CatalogImage> {
    let moment = sql.unchecked_transaction()?;
    let mut image = CatalogImage {
        revision: read_number(&moment, CATALOG_REVISION)?.unwrap_or_default(),
        ..CatalogImage::default()
    };
    let statement = "SELECT kind, id, value, checksum IS checksum('catalog', kind, id, value) FROM catalog ORDER BY kind, id";
    let mut statement = moment.prepare(statement)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = || catalog_key(row);
        let resource = intact(row, 3, "catalog", key).and_then(|()| {
            Ok(CatalogResource { kind: row.get(0)?, id: read_id(row, 1)?, value: row.get(2)? })
        });
        match sound(resource, "catalog", key, on_bad)? {
            Some(resource) => image.resources.push(resource),
            None => image.damaged.push((
                row.get(0).unwrap_or_default(),
                read_id(row, 1).unwrap_or_else(|_| Id::from("")),
            )),
        }
    }
    Ok(image)
}

pub(super) fn count_rules(sql: &Connection, on_bad: OnBad<'_>) -> Result<Vec<(u16, CountRule)>> {
    let mut statement = sql.prepare("SELECT id, bits, checksum IS checksum('count_rules', id, bits) FROM count_rules ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = || format!("(id {})", row.get::<_, i64>(0).unwrap_or_default());
        let rule = intact(row, 2, "count_rules", key).and_then(|()| {
            let bits = read_packed(row, 1)?
                .try_into()
                .map_err(|_| Error::InvalidColumnType(1, "bits".to_owned(), Type::Blob))?;
            Ok((row.get(0)?, CountRule::of_bits(bits)))
        });
        found.extend(sound(rule, "count_rules", key, on_bad)?);
    }
    Ok(found)
}

const PERIOD: &str = "counter, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, start_s, end_s, charged,
                             granted, active_s,
                             counters.checksum IS checksum('counters', id, subscriber, key, plan, entitlement, quota, unit, time_zone,
                                 week_start, limit_revision),
                             periods.checksum IS checksum('periods', counter, start_s, end_s, charged, granted, active_s)";

/// As few counters as this are read by one thread.
const FEW_COUNTERS: i64 = 1_000;

/// A stretch of counters by their numbers, both ends in it.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    first: i64,
    last: i64,
}

impl Counters {
    pub(super) const ALL: Self = Self { first: i64::MIN, last: i64::MAX };
}

/// All counters, in two halves of about the same size. `None`: there are too few to be divided.
pub(super) fn halves(sql: &Connection) -> Result<Option<[Counters; 2]>> {
    let ends = "SELECT (SELECT min(id) FROM counters), (SELECT max(id) FROM counters)";
    let ends: (Option<i64>, Option<i64>) =
        sql.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    if last.saturating_sub(first) < FEW_COUNTERS {
        return Ok(None);
    }
    let middle = first.midpoint(last);
    let lower = Counters { last: middle, ..Counters::ALL };
    Ok(Some([lower, Counters { first: middle.saturating_add(1), ..Counters::ALL }]))
}

/// Those of some counters that end after `now_s`.
pub(super) fn live(
    sql: &Connection,
    now_s: u64,
    counters: Counters,
    visit: &mut dyn FnMut(PeriodRow),
    on_bad: OnBad<'_>,
) -> Result<()> {
    // The shares are read beside the periods, in the same order. Nearly all rows are live: `+`
    // keeps SQLite from an index that would lead it to them in another order.
    let moment = sql.unchecked_transaction()?;
    let Counters { first, last } = counters;
    let mut shares = moment
        .prepare(&format!("{SHARES} WHERE counter BETWEEN ?1 AND ?2 ORDER BY counter, start_s"))?;
    let shares = shares.query_map([first, last], |row| {
        // Where a damaged share lies is known as well as can be: its account is not shown without
        // it.
        let place = (
            CounterId(row.get::<_, i64>(0)?.cast_unsigned()),
            row.get::<_, i64>(1)?.cast_unsigned(),
        );
        Ok((place, share(row).map(|(_, share)| share)))
    })?;
    let mut shares = shares.peekable();
    // Damaged ones that belong to nothing: they may go under another name.
    let mut strays = Vec::new();
    periods(
        &moment,
        "+end_s > ?1 AND counter BETWEEN ?2 AND ?3 ORDER BY counter, start_s",
        params![int(now_s), first, last],
        visit,
        on_bad,
        |counter, start_s| {
            let mut found = Vec::new();
            while let Some(row) = shares
                .next_if(|row| row.as_ref().map_or(true, |(place, _)| *place <= (counter, start_s)))
            {
                let (place, share) = row?;
                if place == (counter, start_s) {
                    found.push(share);
                } else if let Err(wrong) = share {
                    strays.push(wrong);
                }
            }
            found.into_iter().collect()
        },
    )?;
    for row in shares {
        strays.extend(row?.1.err());
    }
    strays
        .into_iter()
        .try_for_each(|wrong| sound::<()>(Err(wrong), "shares", String::new, on_bad).map(drop))
}

/// Few of all periods: they are found by when they end, and each counter is given once.
pub(super) fn ended(
    sql: &Connection,
    after_s: u64,
    by_s: u64,
    most: usize,
    visit: &mut dyn FnMut(CounterId, CounterIdentity),
    on_bad: OnBad<'_>,
) -> Result<()> {
    let mut statement = sql.prepare(
        "SELECT id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start,
                checksum IS checksum('counters', id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, limit_revision)
         FROM counters
         WHERE id IN (SELECT counter FROM periods WHERE end_s > ?1 AND end_s <= ?2) LIMIT ?3",
    )?;
    let mut names = Names::default();
    let mut rows = statement.query(params![
        int(after_s),
        int(by_s),
        i64::try_from(most).unwrap_or(i64::MAX)
    ])?;
    while let Some(row) = rows.next()? {
        let key = || counter_key(row);
        let counter = intact(row, 9, "counters", key)
            .and_then(|()| Ok((CounterId(read_int(row, 0)?), identity(row, &mut names)?)));
        if let Some((counter, identity)) = sound(counter, "counters", key, on_bad)? {
            visit(counter, identity);
        }
    }
    Ok(())
}

/// A stretch of the list, by the index of names: a page costs what is on it, however much there is.
/// A period whose account or share is damaged is left out whole.
pub(super) fn usage(
    sql: &Connection,
    scope: &Scope,
    stretch: &Stretch,
    on_bad: OnBad<'_>,
) -> Result<(Vec<PeriodRow>, Option<Whose>)> {
    let Stretch { from_s, until_s, first: (subscriber, key), most } = stretch;
    let (condition, id) = column(scope).unwrap_or(("?3 = ''", ""));
    let moment = sql.unchecked_transaction()?;
    let epochs = epochs(&moment)?;
    let mut shares = moment.prepare(&format!("{SHARES} WHERE counter = ?1 AND start_s = ?2"))?;
    // `CROSS JOIN` keeps SQLite from beginning with the periods.
    let mut statement = moment.prepare(&format!(
        "SELECT {PERIOD} FROM counters CROSS JOIN periods ON counters.id = periods.counter
         WHERE (subscriber, key) >= (?4, ?5) AND start_s < ?1 AND end_s > ?2 AND {condition} ORDER BY subscriber, key"
    ))?;
    let mut names = Names::default();
    let (mut found, mut next) = (Vec::<PeriodRow>::new(), None);
    let mut rows = statement.query(params![
        int(*until_s),
        int(*from_s),
        id,
        subscriber,
        key.as_deref().unwrap_or_default()
    ])?;
    while let Some(row) = rows.next()? {
        let key = || counter_key(row);
        let Some(mut period) = sound(period(row, &mut names), "periods", key, on_bad)? else {
            continue;
        };
        if found.len() >= *most
            && let whose = period.identity.whose()
            && found.last().is_some_and(|last| last.identity.whose() != whose)
        {
            next = Some(whose);
            break;
        }
        let of_it =
            shares.query_map([int(period.counter.0), int(period.period.start_s())], share)?;
        let of_it: Result<Vec<(Holder, Share)>> =
            of_it.map(|row| row.map(|(_, share)| share)).collect();
        let Some(of_it) = sound(of_it, "shares", key, on_bad)? else { continue };
        (period.lost, period.held) =
            unspent(of_it, |id| epochs.get(&id).copied().unwrap_or_default());
        found.push(period);
    }
    found.sort_by(|one, other| one.order().cmp(&other.order()));
    Ok((found, next))
}

const SHARES: &str = "SELECT counter, start_s, holder, epoch, leased, spent,
                             checksum IS checksum('shares', counter, start_s, holder, epoch, leased, spent) FROM shares";

type Place = (CounterId, u64);

fn share(row: &Row<'_>) -> Result<(Place, (Holder, Share))> {
    intact(row, 6, "shares", || share_key(row))?;
    Ok(((CounterId(read_int(row, 0)?), read_int(row, 1)?), read_share(row, 2)?))
}

fn share_key(row: &Row<'_>) -> String {
    let number = |column| row.get::<_, i64>(column).unwrap_or_default();
    format!(
        "(counter {}, start_s {}, holder {}, epoch {})",
        number(0),
        number(1),
        number(2),
        number(3)
    )
}

fn periods(
    sql: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
    visit: &mut dyn FnMut(PeriodRow),
    on_bad: OnBad<'_>,
    mut shares: impl FnMut(CounterId, u64) -> Result<Vec<(Holder, Share)>>,
) -> Result<()> {
    let epochs = epochs(sql)?;
    let mut statement =
        sql.prepare(&format!("SELECT {PERIOD} FROM periods JOIN counters ON counters.id = periods.counter WHERE {condition}"))?;
    let mut names = Names::default();
    let mut rows = statement.query(values)?;
    while let Some(row) = rows.next()? {
        let key = || counter_key(row);
        let found = period(row, &mut names).and_then(|period| {
            let shares = shares(period.counter, period.period.start_s())?;
            Ok((period, shares))
        });
        if let Some((mut period, shares)) = sound(found, "periods", key, on_bad)? {
            (period.lost, period.held) =
                unspent(shares, |id| epochs.get(&id).copied().unwrap_or_default());
            visit(period);
        }
    }
    Ok(())
}

/// Of a counter or its period, by the first columns.
fn counter_key(row: &Row<'_>) -> String {
    named_counter(row, row.get::<_, i64>(0).unwrap_or_default().cast_unsigned(), 1, 5)
}

fn epochs(sql: &Connection) -> Result<HashMap<u32, u32>> {
    let mut statement =
        sql.prepare("SELECT id, epoch, checksum IS checksum('holders', id, epoch) FROM holders")?;
    let rows = statement.query_map([], |row| {
        let id = row.get(0)?;
        intact(row, 2, "holders", || format!("(id {id})"))?;
        Ok((id, row.get(1)?))
    })?;
    rows.collect()
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
    intact(row, 14, "counters", || counter_key(row))?;
    intact(row, 15, "periods", || {
        let number = |column| row.get::<_, i64>(column).unwrap_or_default();
        format!("(counter {}, start_s {})", number(0), number(9))
    })?;
    Ok(PeriodRow {
        counter: CounterId(read_int(row, 0)?),
        identity: identity(row, names)?,
        period: Period::of_seconds(read_int(row, 9)?, read_int(row, 10)?),
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

pub(super) fn windows(
    sql: &Connection,
    holder_id: u32,
    now_s: u64,
    visit: &mut dyn FnMut(WindowRow),
    on_bad: OnBad<'_>,
) -> Result<()> {
    // Nearly all windows go on: `+` keeps SQLite from going by an index.
    let mut statement = sql.prepare(
        "SELECT fingerprint, end_s, count, checksum IS checksum('windows', fingerprint, holder, end_s, count), hex(fingerprint) FROM windows
         WHERE holder = ?1 AND +end_s > ?2",
    )?;
    let mut rows = statement.query(params![holder_id, int(now_s)])?;
    while let Some(row) = rows.next()? {
        let key = || format!("(fingerprint `{}`)", row.get::<_, String>(4).unwrap_or_default());
        let window = intact(row, 3, "windows", key).and_then(|()| {
            Ok(WindowRow {
                fingerprint: row.get(0)?,
                end_s: read_int(row, 1)?,
                count: read_int(row, 2)?,
            })
        });
        sound(window, "windows", key, on_bad)?.into_iter().for_each(&mut *visit);
    }
    Ok(())
}

/// Reads the windows of all holders.
pub(super) fn all_windows(sql: &Connection, on_bad: OnBad<'_>) -> Result<()> {
    let holders: Vec<u32> = sql
        .prepare("SELECT DISTINCT holder FROM windows")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_>>()?;
    holders.into_iter().try_for_each(|holder| windows(sql, holder, 0, &mut drop, on_bad))
}

/// The names of the latest epochs first. Epoch by epoch: nothing has to be sorted.
pub(super) fn names(
    sql: &Connection,
    most: usize,
    visit: &mut dyn FnMut(Holder, NumberedName),
    on_bad: OnBad<'_>,
) -> Result<()> {
    let moment = sql.unchecked_transaction()?;
    let mut epochs =
        moment.prepare("SELECT holder, epoch FROM naming_epochs ORDER BY epoch DESC, holder")?;
    let epochs: Vec<Holder> = epochs
        .query_map([], |row| Ok(Holder { id: row.get(0)?, epoch: row.get(1)? }))?
        .collect::<Result<_>>()?;
    let mut statement = moment.prepare(
        "SELECT kind, number, name, checksum IS checksum('names', holder, epoch, kind, number, name) FROM names
         WHERE holder = ?1 AND epoch = ?2 LIMIT ?3",
    )?;
    let mut left = most;
    for holder in epochs {
        let mut rows = statement.query(params![
            holder.id,
            holder.epoch,
            i64::try_from(left).unwrap_or(i64::MAX)
        ])?;
        while let Some(row) = rows.next()? {
            let key = || {
                format!(
                    "(holder {}, epoch {}, number {})",
                    holder.id,
                    holder.epoch,
                    row.get::<_, i64>(1).unwrap_or_default()
                )
            };
            let name = intact(row, 3, "names", key).and_then(|()| {
                Ok(NumberedName {
                    kind: read_name_kind(row, 0)?,
                    number: row.get(1)?,
                    name: read_id(row, 2)?,
                })
            });
            sound(name, "names", key, on_bad)?.into_iter().for_each(|name| visit(holder, name));
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}
