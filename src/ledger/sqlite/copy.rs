//! For the operator: a copy while the service runs, or without one.

use std::fs::{OpenOptions, remove_file, rename};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::connect::{check_header, open_to_read, sync_folder};
use super::failure::{classify, from_io};
use crate::ledger::LedgerError;

/// Copies the ledger file `from` to `to`, as it stands at one moment, while others go on writing.
/// `to` appears whole, or not at all.
///
/// # Errors
/// `from` is no ledger, or damaged; `to` exists, or cannot be written.
pub fn backup(from: &Path, to: &Path) -> Result<(), LedgerError> {
    if to.exists() {
        return Err(LedgerError::Io {
            path: to.to_owned(),
            what: "it exists already: choose another name".to_owned(),
        });
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
        _ => {
            return Err(LedgerError::Io {
                path: from.to_owned(),
                what: "it is locked: try again".to_owned(),
            });
        }
    }
    target.close().map_err(|(_, wrong)| classify(to, &wrong))?;
    file.sync_all().map_err(|wrong| from_io(to, &wrong))
}
