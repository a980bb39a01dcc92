//! Whether a ledger is sound: its structure, the checksum of every row, and everything that a start
//! reads, read as a start reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::Connection;

use super::checksum::{self, BadRow};
use super::connect::{check_header, open_to_read};
use super::damage::{self, Damage};
use super::failure::classify;
use super::mark::{self, Reached};
use super::schema::{CHECKSUMS, PAGES, newest};
use super::{days, lists, rows};
use crate::ledger::{CatalogImage, LedgerError};

/// How many mistakes of one kind [`check`] names.
const MAX_MISTAKES: usize = 20;

/// What a look at the whole of a ledger found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// A line for each thing that is wrong. None: all is well.
    pub mistakes: Vec<String>,
    /// The plans, targets, subscribers and API keys that can be read.
    pub catalog: CatalogImage,
}

/// Reads the whole ledger file, and says what is wrong with it.
///
/// # Errors
/// It is no ledger, of a newer version, or cannot be read at all.
pub fn check(path: &Path) -> Result<Found, LedgerError> {
    check_header(path)?;
    // Before the ledger: it is written after it.
    let written = if path.file_name().is_some_and(|name| name == super::FILE) {
        mark::read(path)?
    } else {
        mark::Written::Nothing
    };
    let sql = open_to_read(path)?;
    let mut found = look(&sql).map_err(|wrong| classify(path, &wrong))?;
    if let mark::Written::Reached(written) = written {
        let reached = reached(&sql).map_err(|wrong| classify(path, &wrong))?;
        let back = mark::went_back(written, reached)
            .map(|what| format!("the ledger has gone back: {what}"));
        found.mistakes.extend(back);
    }
    Ok(found)
}

/// How far the ledger has come, by what is in it. One of a version that did not count counts as
/// new.
pub(super) fn reached(sql: &Connection) -> rusqlite::Result<Reached> {
    let version: i64 = sql.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < CHECKSUMS {
        return Ok(Reached::default());
    }
    let moment = sql.unchecked_transaction()?;
    let ledger = checksum::secrets(&moment)?.as_ref().map(checksum::ledger_id).unwrap_or_default();
    let commits = rows::read_number(&moment, rows::COMMITS)?.unwrap_or_default();
    let epoch: u32 =
        moment.query_row("SELECT ifnull(max(epoch), 0) FROM holders", [], |row| row.get(0))?;
    Ok(Reached { commits, ledger, epoch })
}

/// What is wrong with the structure of the file, beyond rows that are damaged, which are noted.
/// Indexes that lack a sound row are made again.
pub(super) fn unmended(path: &Path, damage: &Damage) -> Result<Vec<String>, LedgerError> {
    let ours = |wrong| classify(path, &wrong);
    let sql = open_to_read(path)?;
    let damaged = damaged_tables(&sql, damage).map_err(ours)?;
    let mut mistakes = structure(&sql).map_err(ours)?;
    if mistakes.is_empty() {
        return Ok(mistakes);
    }
    let tables = sql
        .prepare("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index'")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<BTreeMap<String, String>>>()
        });
    let tables = tables.map_err(ours)?;
    let mut again = BTreeSet::new();
    mistakes.retain(|line| match about(line) {
        About::Row(table) => !damaged.contains(table),
        About::Index(index) => match tables.get(index) {
            // The index may be what is right: a counter is found by it.
            Some(table) if damaged.contains(table.as_str()) => false,
            Some(_) => {
                again.insert(index.to_owned());
                false
            }
            None => true,
        },
        About::Structure => true,
    });
    drop(sql);
    if mistakes.is_empty() && !again.is_empty() {
        let sql = super::connect::open(path)?;
        for index in &again {
            tracing::warn!(
                index,
                "an index of the ledger was damaged, and is made again from the rows, which are whole"
            );
            sql.execute_batch(&format!("REINDEX \"{index}\"")).map_err(ours)?;
        }
        mistakes = structure(&sql).map_err(ours)?;
    }
    Ok(mistakes)
}

/// What is wrong with the structure of the file. Damaged rows are noted.
pub(super) fn look_over(path: &Path, damage: &Damage) -> Result<Vec<String>, LedgerError> {
    let sql = open_to_read(path)?;
    damaged_tables(&sql, damage)
        .and_then(|_| structure(&sql))
        .map_err(|wrong| classify(path, &wrong))
}

/// Notes all damaged rows: one whose name is damaged may hide others, and is not met by who looks
/// for them.
fn damaged_tables(sql: &Connection, damage: &Damage) -> rusqlite::Result<BTreeSet<&'static str>> {
    let version: i64 = sql.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < newest() {
        return Ok(BTreeSet::new());
    }
    let (bad, _) = checksum::wrong(sql, damage::MAX_TOLD)?;
    bad.iter().for_each(|bad| damage.note(bad));
    Ok(bad.iter().map(|bad| bad.table).collect())
}

/// What a line of SQLite's check is about.
enum About<'a> {
    /// A value in a row of this table.
    Row(&'a str),
    /// A row that this index lacks.
    Index(&'a str),
    Structure,
}

fn about(line: &str) -> About<'_> {
    if let Some((_, index)) =
        line.strip_prefix("row ").and_then(|rest| rest.split_once(" missing from index "))
    {
        return About::Index(index);
    }
    match line
        .split_once(" value in ")
        .map(|(_, column)| column.split('.').next().unwrap_or_default())
    {
        Some(table) if line.starts_with("non-") || line.starts_with("NULL ") => About::Row(table),
        _ => About::Structure,
    }
}

/// What must be 0 in a sound ledger, and what is wrong where it is not.
const QUESTIONS: &[(&str, &str)] = &[
    (
        "SELECT count(*) FROM shares WHERE spent > leased OR spent < 0",
        "leases are spent beyond what was leased",
    ),
    (
        "SELECT count(*) FROM periods WHERE charged < 0 OR end_s <= start_s",
        "periods hold impossible numbers",
    ),
    (
        "SELECT count(*) FROM periods WHERE counter NOT IN (SELECT id FROM counters)",
        "periods have no counter",
    ),
    ("SELECT count(*) <> 1 FROM secrets", "set of secrets is missing, or there are several"),
];

fn look(sql: &Connection) -> rusqlite::Result<Found> {
    let mut found = Found { mistakes: structure(sql)?, ..Found::default() };
    let version: i64 = sql.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A file that no newer program has opened yet is a ledger, too.
    let days = if version < PAGES { &[][..] } else { &days::QUESTIONS };
    for (question, what) in QUESTIONS.iter().chain(days) {
        let count: i64 = sql.query_row(question, [], |row| row.get(0))?;
        if count > 0 {
            found.mistakes.push(format!("{count} {what}"));
        }
    }
    if version >= CHECKSUMS {
        let (bad, count) = checksum::wrong(sql, MAX_MISTAKES)?;
        found.mistakes.extend(bad.iter().map(ToString::to_string));
        if count > bad.len() {
            found
                .mistakes
                .push(format!("{} more rows are not as they were written", count - bad.len()));
        }
        if version == newest() {
            let mut told: BTreeSet<BadRow> = bad.into_iter().collect();
            let known = told.len();
            found.catalog = read_all(sql, &mut told)?;
            // Those with a wrong checksum were counted above, under fuller names.
            let unread = told.into_iter().filter(|bad| bad.what.is_some());
            found.mistakes.extend(unread.take(MAX_MISTAKES + known).map(|bad| bad.to_string()));
        }
    }
    Ok(found)
}

/// What SQLite says of the structure of the file.
pub(super) fn structure(sql: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = sql.prepare(&format!("PRAGMA integrity_check({MAX_MISTAKES})"))?;
    let mut mistakes: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    mistakes.retain(|line| line != "ok");
    Ok(mistakes)
}

/// Decodes all rows, and gives the catalog.
fn read_all(sql: &Connection, told: &mut BTreeSet<BadRow>) -> rusqlite::Result<CatalogImage> {
    let mut note = |bad: BadRow| {
        told.insert(bad);
        Ok(())
    };
    lists::count_rules(sql, &mut note)?;
    lists::live(sql, 0, lists::Counters::ALL, &mut drop, &mut note)?;
    lists::names(sql, usize::MAX, &mut |_, _| {}, &mut note)?;
    lists::all_windows(sql, &mut note)?;
    rows::marks(sql, &mut note)?;
    days::pages(sql, &mut note)?;
    lists::catalog(sql, &mut note)
}
