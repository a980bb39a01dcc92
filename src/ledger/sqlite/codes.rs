//! How values are read from columns.

use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{Error, Row};

use crate::decide::plan::{PeriodUnit, Weekday};
use crate::ledger::balance::Share;
pub(super) use crate::ledger::codes::{int, kind, name_kind, pack, unit, weekday};
use crate::ledger::codes::{name_kind_of, unit_of, unpack, weekday_of};
use crate::ledger::{Holder, NameKind};

pub(super) fn read_unit(row: &Row<'_>, column: usize) -> rusqlite::Result<PeriodUnit> {
    read_word(unit_of, row, column)
}

pub(super) fn read_weekday(row: &Row<'_>, column: usize) -> rusqlite::Result<Weekday> {
    read_word(weekday_of, row, column)
}

fn read_word<T>(of: fn(&str) -> Option<T>, row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let found = row.get_ref(column)?;
    let word = found.as_str().map_err(|wrong| unreadable(column, found, wrong))?;
    of(word).ok_or_else(|| unreadable(column, found, FromSqlError::InvalidType))
}

/// A column holds what none of ours holds.
pub(super) fn unreadable(column: usize, found: ValueRef<'_>, wrong: FromSqlError) -> Error {
    Error::FromSqlConversionFailure(column, found.data_type(), Box::new(wrong))
}

/// Whether a column held what none of ours holds.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..))
}

pub(super) fn read_name_kind(row: &Row<'_>, column: usize) -> rusqlite::Result<NameKind> {
    let number = row.get(column)?;
    name_kind_of(number).ok_or(Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn read_int(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(column, value))
}

/// Numbers that `pack` wrote.
pub(super) fn read_packed(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u64>> {
    let found = row.get_ref(column)?;
    let bytes = found.as_blob().map_err(|wrong| unreadable(column, found, wrong))?;
    unpack(bytes).ok_or_else(|| unreadable(column, found, FromSqlError::InvalidType))
}

/// Holder, epoch, leased and spent, from a column on.
pub(super) fn read_share(row: &Row<'_>, first: usize) -> rusqlite::Result<(Holder, Share)> {
    let holder = Holder { id: row.get(first)?, epoch: row.get(first + 1)? };
    Ok((holder, Share { leased: read_int(row, first + 2)?, spent: read_int(row, first + 3)? }))
}
