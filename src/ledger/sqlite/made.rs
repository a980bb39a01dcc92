//! Operations that were done once: a table for each kind.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::checksum::intact;
use super::codes::{int, read_int};
use crate::ledger::{Made, OnceKind};

fn table(kind: OnceKind) -> &'static str {
    match kind {
        OnceKind::Request => "requests",
        OnceKind::Charge => "charges",
        OnceKind::Check => "checks",
    }
}

pub(super) fn find(sql: &Connection, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>> {
    let table = table(kind);
    let query = format!(
        "SELECT fields, made_s, charged, granted, note, checksum IS checksum('{table}', name, fields, made_s, charged, granted, note), hex(name)
         FROM {table} WHERE name = ?1"
    );
    sql.prepare_cached(&query)?.query_row([name], |row| read(row, table)).optional()
}

/// Its columns, whether it is as it was written, and its name for people.
fn read(row: &Row<'_>, table: &'static str) -> Result<Made> {
    intact(row, 5, table, || format!("(name `{}`)", row.get::<_, String>(6).unwrap_or_default()))?;
    Ok(Made {
        fields: row.get(0)?,
        made_s: read_int(row, 1)?,
        charged: read_int(row, 2)?,
        granted: row.get(3)?,
        note: row.get(4)?,
    })
}

/// Those that were done after that second, the oldest first.
pub(super) fn each(
    sql: &Connection,
    kind: OnceKind,
    after_s: u64,
    visit: &mut dyn FnMut([u8; 16], Made),
) -> Result<()> {
    let table = table(kind);
    let query = format!(
        "SELECT fields, made_s, charged, granted, note, checksum IS checksum('{table}', name, fields, made_s, charged, granted, note), hex(name),
             name
         FROM {table} WHERE made_s > ?1 ORDER BY seq"
    );
    let mut statement = sql.prepare_cached(&query)?;
    let mut rows = statement.query([int(after_s)])?;
    while let Some(row) = rows.next()? {
        // One that cannot be read is missing, and the others are there.
        if let (Ok(name), Ok(made)) = (row.get(7), read(row, table)) {
            visit(name, made);
        }
    }
    Ok(())
}

/// Writes one, and gives the number of rows that were written.
pub(super) fn put(sql: &Connection, kind: OnceKind, name: &[u8; 16], made: &Made) -> Result<u64> {
    let table = table(kind);
    let statement = format!(
        "INSERT OR REPLACE INTO {table} (name, fields, made_s, charged, granted, note, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, checksum('{table}', ?1, ?2, ?3, ?4, ?5, ?6))"
    );
    let Made { fields, note, made_s, charged, granted } = made;
    let values = params![name, fields, int(*made_s), int(*charged), granted, note];
    Ok(rows(sql.prepare_cached(&statement)?.execute(values)?))
}

/// Drops, from the oldest on, what was done before that second, and what is more than is kept of a
/// kind: at most so many. Gives how many they were.
pub(super) fn expire(sql: &Connection, kind: OnceKind, before_s: u64, most: u64) -> Result<u64> {
    let table = table(kind);
    let young = format!("SELECT seq FROM {table} WHERE made_s >= ?1 ORDER BY seq LIMIT 1");
    let young: Option<i64> =
        sql.prepare_cached(&young)?.query_row([int(before_s)], |row| row.get(0)).optional()?;
    let newest: Option<i64> = sql
        .prepare_cached(&format!("SELECT max(seq) FROM {table}"))?
        .query_row([], |row| row.get(0))?;
    let Some(newest) = newest else { return Ok(0) };
    let too_many = newest.saturating_sub(int(kind.max_kept())).saturating_add(1);
    let until = young.map_or(i64::MAX, |young| young.max(too_many));
    let statement = format!(
        "DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE seq < ?1 ORDER BY seq LIMIT ?2)"
    );
    Ok(rows(sql.prepare_cached(&statement)?.execute([until, int(most)])?))
}

fn rows(changed: usize) -> u64 {
    changed.try_into().unwrap_or(u64::MAX)
}
