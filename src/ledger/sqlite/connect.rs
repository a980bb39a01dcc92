//! Opening: the folder, the file, and a connection that commits to the disk.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::checksum;
use super::failure::{classify, from_io};
use super::schema::{APPLICATION_ID, CHECKSUMS, migrate, newest};
use crate::ledger::{LedgerError, Secrets};
use crate::plain_file;

/// For the owner alone: the ledger holds secrets.
pub(super) const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER_BYTES: u64 = 100;
/// How long a reader waits for another process, such as a backup that just ends.
const BUSY_MS: u64 = 2_000;
const STATEMENTS: usize = 64;

pub(super) fn make_folder(folder: &Path) -> Result<(), LedgerError> {
    let ours = |wrong| from_io(folder, &wrong);
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(ours)?;
    sync_folder(folder.parent().unwrap_or(folder)).map_err(ours)
}

/// Brings the names in a folder to the disk. SQLite does it for its own files.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Makes an empty file where there is none, and keeps others from reading it. SQLite gives the
/// files beside it the same permissions.
pub(super) fn make_file(path: &Path) -> Result<(), LedgerError> {
    let made = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path);
    match made {
        Ok(_) => sync_folder(path.parent().unwrap_or(path)).map_err(|wrong| from_io(path, &wrong)),
        Err(wrong) if wrong.kind() == ErrorKind::AlreadyExists => {
            check_header(path)?;
            [PathBuf::from(path), beside(path, "-wal"), beside(path, "-shm")]
                .iter()
                .try_for_each(|path| hide(path))
        }
        Err(wrong) => Err(from_io(path, &wrong)),
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn hide(path: &Path) -> Result<(), LedgerError> {
    match path.metadata() {
        Ok(found) if found.permissions().mode() & 0o777 == FILE_MODE => Ok(()),
        // A file that may not be written stays so: opening it says what is wrong.
        Ok(found) if found.permissions().mode() & 0o200 == 0 => Ok(()),
        Ok(_) => std::fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
            .map_err(|wrong| from_io(path, &wrong)),
        Err(wrong) if wrong.kind() == ErrorKind::NotFound => Ok(()),
        Err(wrong) => Err(from_io(path, &wrong)),
    }
}

/// Looks at all files of a ledger before they are opened: nobody waits for what is no file.
pub(super) fn check_files(path: &Path) -> Result<(), LedgerError> {
    // The others lie beside the file itself, also where it is reached by a link.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let of_sqlite = ["", "-wal", "-shm", "-journal"].map(|suffix| beside(&real, suffix));
    let ours = [path.with_file_name(super::LOCK_FILE), real.with_file_name(super::MARK_FILE)];
    for path in of_sqlite.into_iter().chain(ours) {
        match plain_file::look(&path, "file of a ledger") {
            Ok(()) => {}
            Err(wrong) if wrong.kind() == ErrorKind::InvalidInput => {
                return Err(LedgerError::Foreign { path, what: wrong.to_string() });
            }
            Err(wrong) => return Err(from_io(&path, &wrong)),
        }
    }
    Ok(())
}

/// Looks at a file before SQLite does, which might change one that is none of ours. An empty file
/// is a new ledger.
pub(super) fn check_header(path: &Path) -> Result<(), LedgerError> {
    check_files(path)?;
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_BYTES).read_to_end(&mut header));
    if read.map_err(|wrong| from_io(path, &wrong))? == 0 {
        return Ok(());
    }
    let foreign =
        |what: &str| LedgerError::Foreign { path: path.to_owned(), what: what.to_owned() };
    if !header.starts_with(MAGIC) {
        return Err(foreign("it is no SQLite file"));
    }
    let number = |at: usize| {
        header.get(at..at + 4).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))
    };
    let (Some(version), Some(application)) = (number(60), number(68)) else {
        return Err(LedgerError::Damaged {
            path: path.to_owned(),
            what: "the file is cut off".to_owned(),
        });
    };
    if i64::from(application) != APPLICATION_ID {
        return Err(foreign("it is a SQLite file of another program"));
    }
    check_version(path, version.into())
}

fn check_version(path: &Path, found: i64) -> Result<(), LedgerError> {
    if found > newest() {
        Err(LedgerError::Newer { path: path.to_owned(), found, known: newest() })
    } else {
        Ok(())
    }
}

/// A connection that writes. What the log of a run that ended early holds is written back, and on
/// the disk, before this returns.
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    let ours = |wrong| classify(path, &wrong);
    let mut connection = open_beside(path)?;
    if connection.is_readonly("main").map_err(ours)? {
        return Err(LedgerError::ReadOnly(path.to_owned()));
    }
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(ours)?;
    check_version(path, version)?;
    if version < newest() {
        if version > 0 {
            tracing::warn!(
                path = %path.display(),
                from = version,
                to = newest(),
                "the ledger is brought to a newer schema, which earlier versions cannot read"
            );
        }
        // A new file gets its tables before it gets a log, so that its header says at once whose it
        // is.
        migrate(&mut connection, version, &Secrets::generate()?).map_err(ours)?;
    }
    register(&connection).map_err(ours)?;
    log_ahead(&connection).map_err(ours)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    checkpoint(connection, "TRUNCATE")
}

/// Writes the log back into the file.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

/// Writes all of the log back into the file, or fails.
pub(super) fn checkpoint_all(connection: &Connection) -> rusqlite::Result<()> {
    let is_busy =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))?;
    if is_busy == 0 {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        ))
    }
}

/// A second connection that may write, to a ledger that another one has opened.
pub(super) fn open_beside(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ours = |wrong| classify(path, &wrong);
    let connection = Connection::open_with_flags(path, flags).map_err(ours)?;
    prepare(&connection).map_err(ours)?;
    Ok(connection)
}

/// The keys of the ledger, and its checksums by them.
fn register(connection: &Connection) -> rusqlite::Result<()> {
    let secrets = checksum::secrets(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    checksum::register(connection, &secrets)
}

/// A connection that only reads. The file must be there.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ours = |wrong| classify(path, &wrong);
    let connection = Connection::open_with_flags(path, flags).map_err(ours)?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS)).map_err(ours)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(ours)?;
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(ours)?;
    if version >= CHECKSUMS {
        register(&connection).map_err(ours)?;
    }
    Ok(connection)
}
