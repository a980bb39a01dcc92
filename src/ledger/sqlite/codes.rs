//! How values are written in columns.

use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{Error, Row};

use crate::decide::plan::{PeriodUnit, Weekday};
use crate::ledger::balance::Share;
use crate::ledger::{Holder, MarkKind, NameKind};

const UNITS: [(PeriodUnit, &str); 6] = [
    (PeriodUnit::Minute, "minute"),
    (PeriodUnit::Hour, "hour"),
    (PeriodUnit::Day, "day"),
    (PeriodUnit::Week, "week"),
    (PeriodUnit::Month, "month"),
    (PeriodUnit::Year, "year"),
];

const WEEKDAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "monday"),
    (Weekday::Tuesday, "tuesday"),
    (Weekday::Wednesday, "wednesday"),
    (Weekday::Thursday, "thursday"),
    (Weekday::Friday, "friday"),
    (Weekday::Saturday, "saturday"),
    (Weekday::Sunday, "sunday"),
];

pub(super) fn unit(unit: PeriodUnit) -> &'static str {
    UNITS.iter().find(|(known, _)| *known == unit).map_or("", |(_, word)| word)
}

pub(super) fn weekday(day: Weekday) -> &'static str {
    WEEKDAYS.iter().find(|(known, _)| *known == day).map_or("", |(_, word)| word)
}

pub(super) fn read_unit(row: &Row<'_>, column: usize) -> rusqlite::Result<PeriodUnit> {
    read_word(&UNITS, row, column)
}

pub(super) fn read_weekday(row: &Row<'_>, column: usize) -> rusqlite::Result<Weekday> {
    read_word(&WEEKDAYS, row, column)
}

fn read_word<T: Copy>(words: &[(T, &str)], row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let found = row.get_ref(column)?;
    let word = found.as_str().map_err(|wrong| unreadable(column, found, wrong))?;
    let known = words.iter().find(|(_, known)| *known == word).map(|(value, _)| *value);
    known.ok_or_else(|| unreadable(column, found, FromSqlError::InvalidType))
}

/// A column holds what none of ours holds.
pub(super) fn unreadable(column: usize, found: ValueRef<'_>, wrong: FromSqlError) -> Error {
    Error::FromSqlConversionFailure(column, found.data_type(), Box::new(wrong))
}

/// Whether a column held what none of ours holds.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..))
}

pub(super) fn kind(kind: MarkKind) -> i64 {
    match kind {
        MarkKind::Corrected => 0,
        MarkKind::Charged => 1,
    }
}

pub(super) fn name_kind(kind: NameKind) -> i64 {
    match kind {
        NameKind::Key => 0,
        NameKind::Target => 1,
    }
}

pub(super) fn read_name_kind(row: &Row<'_>, column: usize) -> rusqlite::Result<NameKind> {
    match row.get(column)? {
        0 => Ok(NameKind::Key),
        1 => Ok(NameKind::Target),
        other => Err(Error::IntegralValueOutOfRange(column, other)),
    }
}

/// SQLite's integers have a sign: greater numbers stand for the greatest.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn read_int(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(column, value))
}

/// Numbers of 64 bits, little-endian.
pub(super) fn pack(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Numbers that [`pack`] wrote.
pub(super) fn read_packed(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u64>> {
    let found = row.get_ref(column)?;
    let (numbers, rest) =
        found.as_blob().map_err(|wrong| unreadable(column, found, wrong))?.as_chunks();
    if !rest.is_empty() {
        return Err(unreadable(column, found, FromSqlError::InvalidType));
    }
    Ok(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

/// Holder, epoch, leased and spent, from a column on.
pub(super) fn read_share(row: &Row<'_>, first: usize) -> rusqlite::Result<(Holder, Share)> {
    let holder = Holder { id: row.get(first)?, epoch: row.get(first + 1)? };
    Ok((holder, Share { leased: read_int(row, first + 2)?, spent: read_int(row, first + 3)? }))
}
