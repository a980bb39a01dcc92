//! SQLite's errors in the ledger's words.

use std::io::{self, ErrorKind};
use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::checksum::BadRow;
use crate::ledger::LedgerError;

/// What an error of SQLite means.
pub(super) fn classify(path: &Path, wrong: &Error) -> LedgerError {
    let path = path.to_owned();
    let what = BadRow::of(wrong).map_or_else(|| wrong.to_string(), ToString::to_string);
    match wrong.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerError::Full(path),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => LedgerError::ReadOnly(path),
        Some(ErrorCode::DatabaseCorrupt) => LedgerError::Damaged { path, what },
        Some(ErrorCode::NotADatabase) => {
            LedgerError::Damaged { path, what: "its pages are no pages of SQLite".to_owned() }
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked,
        ) => LedgerError::Io { path, what },
        // A row that holds what no row of ours holds.
        None => LedgerError::Row { path, what },
        Some(_) => LedgerError::Fault(what),
    }
}

/// What an error of the file system means.
pub(super) fn from_io(path: &Path, wrong: &io::Error) -> LedgerError {
    let path = path.to_owned();
    match wrong.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => LedgerError::Full(path),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => LedgerError::ReadOnly(path),
        _ => LedgerError::Io { path, what: wrong.to_string() },
    }
}
