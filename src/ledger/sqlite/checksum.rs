//! A checksum in every row: a bit that the disk, the memory or a cable has turned is found when the
//! row is read, and never served as another number.
//!
//! SQLite checks the structure of its pages, and nothing of the values in them; its own checksums
//! of pages need an extension that is not in its library. The checksum of a row is a SipHash under
//! a key of this ledger, over the name of the table and all columns, and is made by the SQL
//! function [`FUNCTION`], in the statement that writes the row. It finds accidents; who can write
//! the file can also make checksums.

use std::fmt;
use std::hash::Hasher;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};
use siphasher::sip::SipHasher13;

use crate::ledger::Secrets;

/// `checksum(table, column, ...)` in SQL.
const FUNCTION: &str = "checksum";
const KEY_CONTEXT: &str = "tollgate ledger 2026-11 checksums of rows";
const ID_CONTEXT: &str = "tollgate ledger 2026-11 id of a ledger";
/// The key of the row that holds the keys.
const KEY_OF_SECRETS: [u8; 16] = *b"tollgate secrets";

/// A table whose rows have checksums.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What names a row, in SQL.
    pub(super) key: &'static str,
    /// All columns but the checksum, in the order in which they are hashed.
    pub(super) columns: &'static str,
}

/// All tables but that of the secrets, which has a key of its own.
pub(super) const TABLES: [Table; 16] = [
    Table { name: "numbers", key: "name", columns: "name, value" },
    Table { name: "holders", key: "id", columns: "id, epoch" },
    Table {
        name: "counters",
        key: "id, subscriber, quota",
        columns: "id, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, limit_revision",
    },
    Table { name: "count_rules", key: "id", columns: "id, bits" },
    Table {
        name: "periods",
        key: "counter, start_s",
        columns: "counter, start_s, end_s, charged, granted, active_s",
    },
    Table {
        name: "shares",
        key: "counter, start_s, holder, epoch",
        columns: "counter, start_s, holder, epoch, leased, spent",
    },
    Table {
        name: "marks",
        key: "holder, epoch, shard, kind, high",
        columns: "holder, epoch, shard, kind, high, newest_s, bits",
    },
    Table { name: "catalog", key: "kind, id", columns: "kind, id, value" },
    Table { name: "naming_epochs", key: "holder, epoch", columns: "holder, epoch, ended_s" },
    Table {
        name: "names",
        key: "holder, epoch, number",
        columns: "holder, epoch, kind, number, name",
    },
    Table {
        name: "windows",
        key: "hex(fingerprint) AS fingerprint",
        columns: "fingerprint, holder, end_s, count",
    },
    Table {
        name: "daily_names",
        key: "day, holder, epoch, number",
        columns: "day, holder, epoch, number, subscriber, key, plan, entitlement, target",
    },
    Table {
        name: "daily_pages",
        key: "day, holder, epoch, page",
        columns: "day, holder, epoch, page, present, admitted, others",
    },
    Table {
        name: "requests",
        key: "hex(name) AS name",
        columns: "name, fields, made_s, charged, granted, note",
    },
    Table {
        name: "charges",
        key: "hex(name) AS name",
        columns: "name, fields, made_s, charged, granted, note",
    },
    Table {
        name: "checks",
        key: "hex(name) AS name",
        columns: "name, fields, made_s, charged, granted, note",
    },
];

/// A row that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BadRow {
    pub(super) table: &'static str,
    /// What names it, for people.
    pub(super) key: String,
    /// Why it cannot be read. `None`: its checksum is wrong.
    pub(super) what: Option<String>,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, what } = self;
        match what {
            None => write!(
                f,
                "the row {key} of the table {table} is not as it was written (its checksum is wrong)"
            ),
            Some(what) => write!(f, "the row {key} of the table {table} cannot be read: {what}"),
        }
    }
}

impl std::error::Error for BadRow {}

impl From<BadRow> for Error {
    fn from(bad: BadRow) -> Self {
        Self::FromSqlConversionFailure(0, Type::Integer, Box::new(bad))
    }
}

impl BadRow {
    /// One whose checksum is wrong.
    pub(super) fn new(table: &'static str, key: impl Into<String>) -> Self {
        Self { table, key: key.into(), what: None }
    }

    /// The bad row that an error is about.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::FromSqlConversionFailure(_, _, inner) => inner.downcast_ref(),
            _ => None,
        }
    }
}

/// Of a row that begins with kind and id.
pub(super) fn catalog_key(row: &Row<'_>) -> String {
    let id = row.get_ref(1).ok().and_then(|id| id.as_str().ok()).unwrap_or_default();
    resource_key(row.get(0).unwrap_or_default(), id)
}

/// What names a resource of the catalog, for people.
pub(super) fn resource_key(kind: i64, id: &str) -> String {
    let word = ["resource", "target", "plan", "subscriber", "API key"]
        .get(usize::try_from(kind).unwrap_or_default())
        .unwrap_or(&"resource");
    format!("({word} `{}`)", id.escape_debug())
}

/// Refuses a row whose column `is_intact` says that its checksum is wrong.
pub(super) fn intact(
    row: &Row<'_>,
    is_intact: usize,
    table: &'static str,
    key: impl FnOnce() -> String,
) -> Result<()> {
    if row.get(is_intact)? { Ok(()) } else { Err(BadRow::new(table, key()).into()) }
}

/// Reads the secrets, where there are any.
pub(super) fn secrets(sql: &Connection) -> Result<Option<Secrets>> {
    let read = |row: &Row<'_>| {
        let secrets =
            Secrets { receipt_key: row.get(0)?, key_hash: row.get(1)?, fingerprint: row.get(2)? };
        let found: i64 = row.get(3)?;
        if found == of_secrets(&secrets) {
            Ok(secrets)
        } else {
            Err(BadRow::new("secrets", "(of all keys)").into())
        }
    };
    sql.query_row("SELECT receipt_key, key_hash, fingerprint, checksum FROM secrets", [], read)
        .optional()
}

pub(super) fn put_secrets(sql: &Connection, secrets: &Secrets) -> Result<()> {
    sql.execute("DELETE FROM secrets", [])?;
    let statement = "INSERT INTO secrets (receipt_key, key_hash, fingerprint, checksum) VALUES (?1, ?2, ?3, ?4)";
    sql.execute(
        statement,
        params![secrets.receipt_key, secrets.key_hash, secrets.fingerprint, of_secrets(secrets)],
    )?;
    Ok(())
}

fn of_secrets(secrets: &Secrets) -> i64 {
    let Secrets { receipt_key, key_hash, fingerprint } = secrets;
    let mut hasher = SipHasher13::new_with_key(&KEY_OF_SECRETS);
    [&receipt_key[..], key_hash, fingerprint]
        .into_iter()
        .for_each(|bytes| put(&mut hasher, ValueRef::Blob(bytes)));
    hasher.finish().cast_signed()
}

/// Makes the function known to a connection, under the key of its ledger.
pub(super) fn register(sql: &Connection, secrets: &Secrets) -> Result<()> {
    let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
    hasher.update(&secrets.receipt_key).update(&secrets.fingerprint);
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    sql.create_scalar_function(FUNCTION, -1, flags, move |values| {
        let mut hasher = SipHasher13::new_with_key(&key);
        (0..values.len()).for_each(|index| put(&mut hasher, values.get_raw(index)));
        Ok(hasher.finish().cast_signed())
    })
}

/// Tells one ledger from another, and nothing of its keys.
pub(super) fn ledger_id(secrets: &Secrets) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
    hasher.update(&secrets.receipt_key).update(&secrets.fingerprint);
    let mut id = [0; 8];
    hasher.finalize_xof().fill(&mut id);
    u64::from_le_bytes(id)
}

fn put(hasher: &mut SipHasher13, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => hasher.write_u8(0),
        ValueRef::Integer(number) => {
            hasher.write_u8(1);
            hasher.write_u64(number.cast_unsigned());
        }
        ValueRef::Real(number) => {
            hasher.write_u8(2);
            hasher.write_u64(number.to_bits());
        }
        ValueRef::Text(bytes) => {
            hasher.write_u8(3);
            hasher.write_u64(bytes.len() as u64);
            hasher.write(bytes);
        }
        ValueRef::Blob(bytes) => {
            hasher.write_u8(4);
            hasher.write_u64(bytes.len() as u64);
            hasher.write(bytes);
        }
    }
}

/// Gives every row its checksum, as it is now.
pub(super) fn write_all(sql: &Connection) -> Result<()> {
    for Table { name, columns, .. } in &TABLES {
        sql.execute_batch(&format!(
            "UPDATE {name} SET checksum = {FUNCTION}('{name}', {columns})"
        ))?;
    }
    Ok(())
}

/// The rows whose checksum is wrong: a line for each of the first `most`, and how many there are.
pub(super) fn wrong(sql: &Connection, most: usize) -> Result<(Vec<BadRow>, usize)> {
    let (mut bad, mut count) = (Vec::new(), 0);
    for Table { name, key, columns } in &TABLES {
        let mut statement = sql.prepare(&format!(
            "SELECT {key} FROM {name} WHERE checksum IS NOT {FUNCTION}('{name}', {columns})"
        ))?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            count += 1;
            if bad.len() < most {
                let shown = names
                    .iter()
                    .enumerate()
                    .map(|(index, name)| format!("{name} {}", shown(row.get_ref(index))));
                let key = if *name == "catalog" {
                    catalog_key(row)
                } else {
                    format!("({})", shown.collect::<Vec<_>>().join(", "))
                };
                bad.push(BadRow::new(name, key));
            }
        }
    }
    Ok((bad, count))
}

fn shown(value: Result<ValueRef<'_>>) -> String {
    match value {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Text(text)) => format!("`{}`", String::from_utf8_lossy(text).escape_debug()),
        Ok(ValueRef::Null) => "nothing".to_owned(),
        _ => "unreadable".to_owned(),
    }
}
