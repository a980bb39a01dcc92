//! For the operator: a copy while the service runs, and a look at the whole file. Both work beside a running service, or without one.

use std::fs::{OpenOptions, remove_file, rename};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::connect::{check_header, open_to_read, sync_folder};
use super::days;
use super::failure::{classify, from_io};
use super::schema::PAGES;
use crate::ledger::LedgerError;

/// How many mistakes of a damaged file [`check`] names.
const MAX_MISTAKES: u32 = 20;

/// Copies the ledger file `from` to `to`, as it stands at one moment, while others go on writing. `to` appears whole, or not at all.
///
/// # Errors
/// `from` is no ledger, or damaged; `to` exists, or cannot be written.
pub fn backup(from: &Path, to: &Path) -> Result<(), LedgerError> {
    if to.exists() {
        return Err(LedgerError::Io { path: to.to_owned(), what: "it exists already: choose another name".to_owned() });
    }
    check_header(from)?;
    let source = open_to_read(from)?;
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    let copied = copy(from, &source, unfinished).and_then(|()| {
        let named = rename(unfinished, to).and_then(|()| sync_folder(to.parent().unwrap_or(to)));
        named.map_err(|wrong| from_io(to, &wrong))
    });
    if copied.is_err() {
        match remove_file(unfinished) {
            Ok(()) => {}
            Err(wrong) if wrong.kind() == ErrorKind::NotFound => {}
            Err(wrong) => return Err(from_io(unfinished, &wrong)),
        }
    }
    copied
}

fn copy(from: &Path, source: &Connection, to: &Path) -> Result<(), LedgerError> {
    // What an earlier copy that was cut short left.
    let made = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(to);
    let file = made.map_err(|wrong| from_io(to, &wrong))?;
    let mut target = Connection::open(to).map_err(|wrong| classify(to, &wrong))?;
    let copied = Backup::new(source, &mut target).and_then(|backup| {
        // All in one step: the copy is of one moment, and commits meanwhile do not start it again.
        backup.step(-1)
    });
    match copied.map_err(|wrong| classify(from, &wrong))? {
        StepResult::Done => {}
        _ => return Err(LedgerError::Io { path: from.to_owned(), what: "it is locked: try again".to_owned() }),
    }
    target.close().map_err(|(_, wrong)| classify(to, &wrong))?;
    file.sync_all().map_err(|wrong| from_io(to, &wrong))
}

/// Reads the whole ledger file, and says what is wrong with it. Nothing: all is well.
///
/// # Errors
/// It is no ledger, of a newer version, or cannot be read at all.
pub fn check(path: &Path) -> Result<Vec<String>, LedgerError> {
    check_header(path)?;
    let sql = open_to_read(path)?;
    mistakes(&sql).map_err(|wrong| classify(path, &wrong))
}

/// What must be 0 in a sound ledger, and what is wrong where it is not.
const QUESTIONS: &[(&str, &str)] = &[
    ("SELECT count(*) FROM shares WHERE spent > leased OR spent < 0", "leases are spent beyond what was leased"),
    ("SELECT count(*) FROM periods WHERE charged < 0 OR end_s <= start_s", "periods hold impossible numbers"),
    ("SELECT count(*) FROM periods WHERE counter NOT IN (SELECT id FROM counters)", "periods have no counter"),
    ("SELECT count(*) <> 1 FROM secrets", "set of secrets is missing, or there are several"),
];

fn mistakes(sql: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = sql.prepare(&format!("PRAGMA integrity_check({MAX_MISTAKES})"))?;
    let mut mistakes: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    mistakes.retain(|line| line != "ok");
    let version: i64 = sql.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A file that no newer program has opened yet is a ledger, too.
    let days = if version < PAGES { &[][..] } else { &days::QUESTIONS };
    for (question, what) in QUESTIONS.iter().chain(days) {
        let count: i64 = sql.query_row(question, [], |row| row.get(0))?;
        if count > 0 {
            mistakes.push(format!("{count} {what}"));
        }
    }
    Ok(mistakes)
}
