//! Values out of rows.

use std::io::Cursor;

use roaring::RoaringBitmap;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::failure::Wrong;
use super::texts;
use crate::decide::outcome::CountRule;
use crate::decide::plan::Id;
use crate::ledger::balance::{Account, Share};
use crate::ledger::codes;
use crate::ledger::{Holder, Made};

/// A value of a column, which must be of its type.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Wrong> {
    row.try_get(column).map_err(|wrong| bad(row, column, &wrong.to_string()))
}

/// A row holds what none of ours holds.
pub(super) fn bad(row: &Row, column: usize, why: &str) -> Wrong {
    let name = row.columns().get(column).map_or("?", |column| column.name());
    Wrong::Row(format!("column `{name}`: {why}"))
}

/// Numbers that are never negative.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, Wrong> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|_| bad(row, column, &format!("{value} is negative")))
}

/// Numbers that fit into 32 bits.
pub(super) fn short(row: &Row, column: usize) -> Result<u32, Wrong> {
    let value: i64 = get(row, column)?;
    u32::try_from(value).map_err(|_| bad(row, column, &format!("{value} has no 32 bits")))
}

pub(super) fn name(row: &Row, column: usize) -> Result<Id, Wrong> {
    Ok(Id::from(&*texts::read(get(row, column)?)))
}

/// Holder and epoch, from a column on.
pub(super) fn holder(row: &Row, first: usize) -> Result<Holder, Wrong> {
    Ok(Holder { id: short(row, first)?, epoch: short(row, first + 1)? })
}

/// Holder, epoch, leased and spent, from a column on.
pub(super) fn share(row: &Row, first: usize) -> Result<(Holder, Share), Wrong> {
    let share = Share { leased: number(row, first + 2)?, spent: number(row, first + 3)? };
    Ok((holder(row, first)?, share))
}

/// When it ends, and what is charged, granted, and active, from a column on.
pub(super) fn account(row: &Row, first: usize) -> Result<Account, Wrong> {
    Ok(Account {
        end_s: number(row, first)?,
        charged: number(row, first + 1)?,
        granted: get(row, first + 2)?,
        active_s: number(row, first + 3)?,
    })
}

pub(super) fn bytes<const LENGTH: usize>(row: &Row, column: usize) -> Result<[u8; LENGTH], Wrong> {
    let found: &[u8] = get(row, column)?;
    let length = found.len();
    found.try_into().map_err(|_| bad(row, column, &format!("{length} bytes, and not {LENGTH}")))
}

pub(super) fn packed(row: &Row, column: usize) -> Result<Vec<u64>, Wrong> {
    codes::unpack(get(row, column)?).ok_or_else(|| bad(row, column, "no numbers of 64 bits"))
}

pub(super) fn bitmap(row: &Row, column: usize) -> Result<RoaringBitmap, Wrong> {
    let found: &[u8] = get(row, column)?;
    RoaringBitmap::deserialize_from(Cursor::new(found))
        .map_err(|wrong| bad(row, column, &wrong.to_string()))
}

/// Number and bits of a count rule.
pub(super) fn rule(row: &Row) -> Result<(u16, CountRule), Wrong> {
    let id: i32 = get(row, 0)?;
    let id = u16::try_from(id).map_err(|_| bad(row, 0, "no number of a count rule"))?;
    let bits = packed(row, 1)?.try_into().map_err(|_| bad(row, 1, "no count rule"))?;
    Ok((id, CountRule::of_bits(bits)))
}

/// Fields, time, balance and note, from a column on.
pub(super) fn made(row: &Row, first: usize) -> Result<Made, Wrong> {
    Ok(Made {
        fields: bytes(row, first)?,
        made_s: number(row, first + 1)?,
        charged: number(row, first + 2)?,
        granted: get(row, first + 3)?,
        note: get(row, first + 4)?,
    })
}
