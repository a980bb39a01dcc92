//! The embedded ledger: one SQLite file in the data folder.
//!
//! Write-ahead log, `synchronous=FULL`: what is answered is on the disk. One connection writes; another reads for lists, and keeps no writer
//! waiting. After a failure the writing connection is closed, and the next commit opens another: nothing is ever retried on a handle whose
//! fsync failed. Checkpoints are made by [`Ledger::tidy`], beside the commits: a third connection writes nearly all of the log back while commits
//! go on, and the writing one the little that came meanwhile, so that the log can start again from its beginning.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::operations::perform;
use super::{
    Answer, CatalogImage, CounterId, CounterIdentity, DailyRow, Holder, Ledger, LedgerError, LedgerScope, Made, NumberedName, OnceKind,
    Operation, PeriodRow, Secrets, Times, WindowRow,
};
use rows::Transaction;

mod codes;
mod connect;
mod copy;
mod days;
mod failure;
mod lists;
mod made;
mod rows;
mod schema;

pub use copy::{backup, check};

/// The file of the ledger in its folder.
pub const FILE: &str = "ledger.sqlite";
/// Locked by the process that uses the ledger.
const LOCK_FILE: &str = "ledger.lock";
/// After how many rows the log is written back into the file although commits are waiting.
const MUCH_WRITTEN: u64 = 20_000;

/// A ledger in a file.
#[derive(Debug)]
pub struct SqliteLedger {
    path: PathBuf,
    /// `None` after a failure.
    writer: Mutex<Option<Connection>>,
    reader: Mutex<Option<Connection>>,
    tidier: Mutex<Option<Connection>>,
    /// Rows that were written since the log was written back.
    written: AtomicU64,
    /// Held as long as the ledger is: dropped last, it lets the next process in.
    _lock: File,
}

impl SqliteLedger {
    /// Opens the ledger of a folder. The folder, the ledger and its secrets are made where they are missing.
    ///
    /// # Errors
    /// Another process uses it; the file is none of ours, damaged, or of a newer version; it cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        connect::make_folder(folder)?;
        let lock = connect::lock(&folder.join(LOCK_FILE))?;
        let path = folder.join(FILE);
        connect::make_file(&path)?;
        let writer = Mutex::new(Some(connect::open(&path)?));
        let ledger = Self { path, writer, reader: Mutex::default(), tidier: Mutex::default(), written: AtomicU64::new(0), _lock: lock };
        ledger.secrets()?;
        Ok(ledger)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Works on the connection of a place, which is opened where it is missing, and closed when the work fails.
    fn with<R>(
        &self,
        place: &Mutex<Option<Connection>>,
        open: fn(&Path) -> Result<Connection, LedgerError>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        let mut place = place.lock();
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => open(&self.path)?,
        };
        let done = work(&mut connection).map_err(|wrong| failure::classify(&self.path, &wrong))?;
        *place = Some(connection);
        Ok(done)
    }

    fn write<R>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<R>) -> Result<R, LedgerError> {
        self.with(&self.writer, connect::open, work)
    }

    fn read<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, LedgerError> {
        self.with(&self.reader, connect::open_to_read, |connection| work(connection))
    }

    /// Works in a transaction: all of it is on the disk, or none.
    fn transact<R>(&self, work: impl FnOnce(&mut Transaction<'_>) -> rusqlite::Result<R>) -> Result<R, LedgerError> {
        self.write(|connection| {
            let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut transaction = Transaction::new(&sql);
            let done = work(&mut transaction)?;
            let written = transaction.finish()?;
            sql.commit()?;
            self.written.fetch_add(written, Ordering::Relaxed);
            Ok(done)
        })
    }

    /// Lets no transaction make the file larger than this: a full disk for tests.
    #[cfg(test)]
    pub(super) fn set_max_pages(&self, pages: u32) {
        self.write(|writer| writer.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))).unwrap();
    }

    /// Makes every write of a mark fail: half a transaction for tests.
    #[cfg(test)]
    pub(super) fn refuse_marks(&self, refuse: bool) {
        let sql = "DROP TRIGGER IF EXISTS no_marks";
        self.write(|writer| writer.execute_batch(sql)).unwrap();
        if refuse {
            let sql = "CREATE TRIGGER no_marks BEFORE INSERT ON marks BEGIN SELECT RAISE(ABORT, 'no marks'); END";
            self.write(|writer| writer.execute_batch(sql)).unwrap();
        }
    }

    /// Lets the connection that is open write nothing more: a read-only disk for tests.
    #[cfg(test)]
    pub(super) fn refuse_writing(&self) {
        self.write(|writer| writer.pragma_update(None, "query_only", true)).unwrap();
    }
}

impl Ledger for SqliteLedger {
    fn join(&self, holder_id: u32) -> Result<Holder, LedgerError> {
        self.transact(|transaction| {
            let sql = "INSERT INTO holders (id, epoch) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch";
            let epoch = transaction.sql.query_row(sql, params![holder_id], |row| row.get(0))?;
            Ok(Holder { id: holder_id, epoch })
        })
    }

    fn secrets(&self) -> Result<Secrets, LedgerError> {
        let fresh = Secrets::generate()?;
        self.transact(|transaction| {
            let sql = "SELECT receipt_key, key_hash, fingerprint FROM secrets";
            let read = |row: &rusqlite::Row<'_>| Ok(Secrets { receipt_key: row.get(0)?, key_hash: row.get(1)?, fingerprint: row.get(2)? });
            if let Some(secrets) = transaction.sql.query_row(sql, [], read).optional()? {
                return Ok(secrets);
            }
            let sql = "INSERT INTO secrets (receipt_key, key_hash, fingerprint) VALUES (?1, ?2, ?3)";
            transaction.sql.execute(sql, params![fresh.receipt_key, fresh.key_hash, fresh.fingerprint])?;
            Ok(fresh)
        })
    }

    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        self.transact(|transaction| operations.iter().map(|operation| perform(transaction, operation)).collect())
    }

    fn find_made(&self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, LedgerError> {
        self.read(|sql| made::find(sql, kind, name))
    }

    fn times(&self) -> Result<Times, LedgerError> {
        self.read(lists::times)
    }

    fn load_catalog(&self) -> Result<CatalogImage, LedgerError> {
        self.read(lists::catalog)
    }

    fn load_count_rules(&self) -> Result<Vec<(u16, [u64; 8])>, LedgerError> {
        self.read(lists::count_rules)
    }

    fn load_live(&self, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError> {
        self.read(|sql| lists::live(sql, now_s, visit))
    }

    fn load_ended(
        &self,
        after_s: u64,
        by_s: u64,
        most: usize,
        visit: &mut dyn FnMut(CounterId, CounterIdentity),
    ) -> Result<(), LedgerError> {
        self.read(|sql| lists::ended(sql, after_s, by_s, most, visit))
    }

    fn usage(&self, scope: &LedgerScope, from_s: u64, until_s: u64) -> Result<Vec<PeriodRow>, LedgerError> {
        self.read(|sql| lists::usage(sql, scope, from_s, until_s))
    }

    fn daily(&self, scope: &LedgerScope, first_day: u64, last_day: u64) -> Result<Vec<(Holder, DailyRow)>, LedgerError> {
        self.read(|sql| days::list(sql, scope, first_day, last_day))
    }

    fn load_names(&self, most: usize, visit: &mut dyn FnMut(Holder, NumberedName)) -> Result<(), LedgerError> {
        self.read(|sql| lists::names(sql, most, visit))
    }

    fn load_windows(&self, holder_id: u32, now_s: u64, visit: &mut dyn FnMut(WindowRow)) -> Result<(), LedgerError> {
        self.read(|sql| lists::windows(sql, holder_id, now_s, visit))
    }

    fn tidy(&self) -> Result<(), LedgerError> {
        let written = self.written.swap(0, Ordering::Relaxed);
        if written == 0 {
            return Ok(());
        }
        let bulk = self.with(&self.tidier, connect::open_beside, |tidier| connect::checkpoint(tidier, "PASSIVE"));
        let done = bulk.and_then(|()| self.write(|writer| connect::checkpoint(writer, "PASSIVE")));
        if done.is_err() {
            self.written.fetch_add(written, Ordering::Relaxed);
        }
        done
    }

    fn wants_tidying(&self) -> bool {
        self.written.load(Ordering::Relaxed) >= MUCH_WRITTEN
    }
}
