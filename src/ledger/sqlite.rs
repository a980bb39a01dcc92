//! The embedded ledger: one SQLite file in the data folder.
//!
//! Write-ahead log, `synchronous=FULL`: what is answered is on the disk. One connection writes;
//! another reads for lists, and keeps no writer waiting. After a failure the writing connection is
//! closed, and the next commit opens another: nothing is ever retried on a handle whose fsync
//! failed. Checkpoints are made by [`Ledger::tidy`], beside the commits: a third connection writes
//! nearly all of the log back while commits go on, and the writing one the little that came
//! meanwhile, so that the log can start again from its beginning.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

use super::operations::perform;
use super::{
    Answer, CatalogImage, CounterId, CounterIdentity, DailyRow, Holder, Ledger, LedgerError, Made,
    NumberedName, OnceKind, Operation, PeriodRow, Scope, Secrets, Stretch, Times, Whose, WindowRow,
};
use crate::decide::outcome::CountRule;
use checksum::BadRow;
use damage::Damage;
use mark::{Mark, Reached, Written};
use place::Place;
use rows::Transaction;

mod check;
mod checksum;
mod codes;
mod connect;
mod copy;
mod damage;
mod days;
mod failure;
mod halves;
mod lists;
mod made;
mod mark;
mod place;
mod reading;
mod rows;
mod schema;

pub use check::{Found, check};
pub use copy::backup;

/// The file of the ledger in its folder.
pub const FILE: &str = "ledger.sqlite";
/// Locked by the process that uses the ledger.
const LOCK_FILE: &str = "ledger.lock";

/// Beside the ledger.
const MARK_FILE: &str = "ledger.mark";
/// A larger file is looked over while it is served.
const LOOKED_OVER_FIRST_BYTES: u64 = 32 << 20;
/// The thread that looks over a large file makes way for all others.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
const LOOKED_OVER_AFTER: Duration = Duration::from_secs(5);
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
    /// Damaged rows that were met.
    damage: Arc<Damage>,
    mark: Mark,
    /// The latest epoch that was given, where the ledger has gone back and does not know it.
    epochs_given: u32,
    place: Place,
    /// Held as long as the ledger is: dropped last, they let the next process in. That of the file
    /// is what counts; the other keeps out versions that know no better.
    _locks: [File; 2],
}

impl SqliteLedger {
    /// Opens the ledger of a folder, which must be there.
    ///
    /// # Errors
    /// Those of [`Self::open`], and that there is none.
    pub fn open_existing(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(FILE);
        if is_empty(&path) { Err(LedgerError::Missing(path)) } else { Self::open(folder) }
    }

    /// Opens the ledger of a folder. The folder, the ledger and its secrets are made where they are
    /// missing.
    ///
    /// # Errors
    /// Another process uses it; the file is none of ours, damaged, of a newer version, or has gone
    /// back; it cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        connect::make_folder(folder)?;
        let path = folder.join(FILE);
        connect::check_files(&path)?;
        let named = place::lock(&folder.join(LOCK_FILE))?;
        let written = mark::read(&path)?;
        let is_new = is_empty(&path);
        if let (true, Written::Reached(Reached { commits: commits @ 1.., .. })) = (is_new, &written)
        {
            let what = format!(
                "the file is missing or empty, and {commits} transactions were committed to it"
            );
            return Err(LedgerError::WentBack { path, what });
        }
        connect::make_file(&path)?;
        let locks = [place::lock(&path)?, named];
        let place = Place::of(&path)?;
        let damage = Arc::new(Damage::default());
        let mut known = Reached::default();
        if let Written::Reached(written) = &written {
            known.epoch = written.epoch;
        }
        if !is_new {
            known = compare(&path, &written, &damage)?;
            look_over(&path, &damage)?;
        }
        let writer = connect::open(&path)?;
        if is_new {
            let path = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            tracing::warn!(path = %path.display(), "a new, empty ledger was made: there was none here");
        }
        let found =
            check::reached(&writer).or_else(|wrong| BadRow::of(&wrong).map(|_| known).ok_or(wrong));
        let found = found.map_err(|wrong| failure::classify(&path, &wrong))?;
        let mark = Mark::create(
            &path,
            Reached {
                commits: found.commits.max(known.commits),
                epoch: found.epoch.max(known.epoch),
                ..found
            },
        )?;
        let epochs_given = if known.epoch > found.epoch { known.epoch } else { 0 };
        let (writer, reader, tidier) =
            (Mutex::new(Some(writer)), Mutex::default(), Mutex::default());
        Ok(Self {
            path,
            writer,
            reader,
            tidier,
            written: AtomicU64::new(0),
            damage,
            mark,
            epochs_given,
            place,
            _locks: locks,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Works on the connection of a place, which is opened where it is missing, and closed when the
    /// work fails.
    fn with<R>(
        &self,
        place: &Mutex<Option<Connection>>,
        open: fn(&Path) -> Result<Connection, LedgerError>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        let mut place = place.lock();
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => {
                // Not another file of this name.
                self.place.look()?;
                open(&self.path)?
            }
        };
        let done = work(&mut connection);
        // A row that cannot be read is no fault of the connection.
        if done.as_ref().err().is_none_or(|wrong| wrong.sqlite_error_code().is_none()) {
            *place = Some(connection);
        }
        done.map_err(|wrong| {
            BadRow::of(&wrong).into_iter().for_each(|bad| self.damage.note(bad));
            failure::classify(&self.path, &wrong)
        })
    }

    fn write<R>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        self.with(&self.writer, connect::open, work)
    }

    fn read<R>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        self.with(&self.reader, connect::open_to_read, |connection| work(connection))
    }

    /// Reads a list without its damaged rows, which are noted.
    fn read_sound<R>(
        &self,
        work: impl FnOnce(&Connection, reading::OnBad<'_>) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        self.read(|sql| {
            let note = &mut |bad: BadRow| {
                self.damage.note(&bad);
                Ok(())
            };
            work(sql, note)
        })
    }

    /// The running periods of some counters, without damaged rows, which are noted.
    fn read_live(
        &self,
        place: &Mutex<Option<Connection>>,
        now_s: u64,
        counters: lists::Counters,
        visit: &mut dyn FnMut(PeriodRow),
    ) -> Result<(), LedgerError> {
        let note = &mut |bad: BadRow| {
            self.damage.note(&bad);
            Ok(())
        };
        self.with(place, connect::open_to_read, |sql| {
            lists::live(sql, now_s, counters, visit, note)
        })
    }

    /// Reads the books of a scope. One whose books cannot be read must not look like one who used
    /// nothing; of many the others are shown all the same, and [`Ledger::concern`] says that there
    /// are more.
    fn read_books<R>(
        &self,
        scope: &Scope,
        work: impl FnOnce(&Connection, reading::OnBad<'_>) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        match scope {
            Scope::Subscriber(_) | Scope::Key(_) => {
                self.read(|sql| work(sql, &mut reading::refuse))
            }
            Scope::All | Scope::Plan(_) => self.read_sound(work),
        }
    }

    /// Works in a transaction: all of it is on the disk, or none.
    fn transact<R>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> rusqlite::Result<R>,
    ) -> Result<R, LedgerError> {
        self.place.look()?;
        let done = self.write(|connection| {
            let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut transaction = Transaction::new(&sql);
            let done = work(&mut transaction)?;
            let written = transaction.finish()?;
            if written == 0 {
                sql.commit()?;
                return Ok(done);
            }
            let commits = self.mark.reached().commits + 1;
            transaction.set_commits(commits)?;
            sql.commit()?;
            self.mark.reach(commits, 0);
            self.written.fetch_add(written, Ordering::Relaxed);
            Ok(done)
        })?;
        // What is in a file that was taken away meanwhile is not promised.
        self.place.look()?;
        self.keep_log()?;
        Ok(done)
    }

    /// Where somebody removed the log, what was committed is in a file without a name, and ends
    /// with the process: it is put into the ledger, and a new log is begun.
    fn keep_log(&self) -> Result<(), LedgerError> {
        if self.place.has_log() {
            return Ok(());
        }
        let (mut writer, mut reader, mut tidier) =
            (self.writer.lock(), self.reader.lock(), self.tidier.lock());
        // There is none where nothing is open.
        let Some(connection) = writer.take().filter(|_| !self.place.has_log()) else {
            return Ok(());
        };
        // The last one to be closed lets go of the old log.
        (*reader, *tidier) = (None, None);
        connect::checkpoint_all(&connection).map_err(|wrong| self.place.log_is_gone(&wrong))?;
        tracing::warn!(path = %self.path.display(), "the log of the ledger (`-wal`) was removed: nothing is lost, and a new one is begun");
        Ok(())
    }

    /// Does all operations in one transaction. An error, and whether it is known that nothing was
    /// done: it fell before the commit.
    fn attempt(&self, operations: &[Operation]) -> Result<Vec<Answer>, (LedgerError, bool)> {
        let mut undone = true;
        let done = self.transact(|transaction| {
            let answers: Vec<_> = operations
                .iter()
                .map(|operation| perform(transaction, operation))
                .collect::<Result<_, _>>()?;
            undone = false;
            Ok(answers)
        });
        if done.is_ok() {
            self.damage.mended_by(operations);
        }
        done.map_err(|wrong| (wrong, undone))
    }

    /// Lets no transaction make the file larger than this: a full disk for tests.
    #[cfg(test)]
    pub(super) fn set_max_pages(&self, pages: u32) {
        self.write(|writer| {
            writer.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        })
        .unwrap();
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

/// Whether there is nothing yet.
fn is_empty(path: &Path) -> bool {
    path.metadata()
        .map_or_else(|wrong| wrong.kind() == ErrorKind::NotFound, |found| found.len() == 0)
}

/// Refuses a ledger that is not as far as it was known to be, before anything is done to it. Gives
/// how far it is known to be.
fn compare(path: &Path, written: &Written, damage: &Damage) -> Result<Reached, LedgerError> {
    let written = match written {
        Written::Reached(written) => Some(*written),
        Written::Unreadable => {
            tracing::warn!(
                "{} beside the ledger cannot be read: whether the ledger has gone back is not known",
                MARK_FILE
            );
            None
        }
        Written::Nothing => None,
    };
    let sql = connect::open_to_read(path)?;
    let found = match (check::reached(&sql), written) {
        (Ok(found), _) => found,
        (Err(wrong), Some(written))
            if BadRow::of(&wrong).is_some_and(|bad| bad.table == "numbers") =>
        {
            BadRow::of(&wrong).into_iter().for_each(|bad| damage.note(bad));
            written
        }
        (Err(wrong), _) => return Err(failure::classify(path, &wrong)),
    };
    let Some(written) = written else {
        if found.commits > 0 {
            tracing::warn!(
                path = %path.display(),
                "there is no {} beside the ledger: whether it has gone back (an older copy, a log that was removed) is not known",
                MARK_FILE
            );
        }
        return Ok(found);
    };
    match mark::went_back(written, found) {
        Some(what) => Err(LedgerError::WentBack { path: path.to_owned(), what }),
        None => Ok(Reached { epoch: written.epoch.max(found.epoch), ..found }),
    }
}

/// Looks at the structure of the whole file, which tells rows that are missing. It takes a second
/// for some hundred megabytes.
fn look_over(path: &Path, damage: &Arc<Damage>) -> Result<(), LedgerError> {
    if path.metadata().is_ok_and(|found| found.len() <= LOOKED_OVER_FIRST_BYTES) {
        let mistakes = check::unmended(path, damage)?;
        return match damage::summary(&mistakes) {
            Some(what) => Err(LedgerError::Damaged { path: path.to_owned(), what }),
            None => Ok(()),
        };
    }
    let (path, damage) = (path.to_owned(), Arc::clone(damage));
    let looked = std::thread::Builder::new().name("ledger-check".to_owned()).spawn(move || {
        // The start reads the same file now, and comes first; so does all that is decided later.
        std::thread::sleep(LOOKED_OVER_AFTER);
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        match check::look_over(&path, &damage) {
            Ok(mistakes) => damage.note_structure(&path, &mistakes),
            Err(wrong) => {
                tracing::warn!("the structure of the ledger was not looked over: {wrong}")
            }
        }
    });
    looked
        .map(drop)
        .map_err(|wrong| LedgerError::Fault(format!("the system gives no thread: {wrong}")))
}

/// Takes the ledger of a folder as it is, where it has gone back on purpose, and says what was
/// taken. No service may use it meanwhile.
///
/// # Errors
/// Another process uses it; it cannot be read; there is neither a ledger nor a trace of one.
pub fn accept(folder: &Path) -> Result<String, LedgerError> {
    let path = folder.join(FILE);
    if !folder.is_dir() {
        return Err(LedgerError::Missing(path));
    }
    connect::check_files(&path)?;
    let _named = place::lock(&folder.join(LOCK_FILE))?;
    let written = match mark::read(&path)? {
        Written::Reached(written) => written,
        Written::Unreadable => Reached::default(),
        Written::Nothing if is_empty(&path) => return Err(LedgerError::Missing(path)),
        Written::Nothing => Reached::default(),
    };
    if is_empty(&path) {
        Mark::create(&path, Reached { commits: 0, ledger: 0, ..written })?;
        return Ok("there is no ledger any more: the next start makes a new, empty one".to_owned());
    }
    connect::check_header(&path)?;
    let _own = place::lock(&path)?;
    let sql = connect::open_to_read(&path)?;
    let found = check::reached(&sql).map_err(|wrong| failure::classify(&path, &wrong))?;
    drop(sql);
    Mark::create(&path, Reached { epoch: written.epoch.max(found.epoch), ..found })?;
    Ok(format!(
        "{} is taken as it is: {} transactions, where {} were known",
        path.display(),
        found.commits,
        written.commits
    ))
}

impl Ledger for SqliteLedger {
    fn join(&self, holder_id: u32) -> Result<Holder, LedgerError> {
        let holder = self.transact(|transaction| transaction.join(holder_id, self.epochs_given))?;
        self.mark.reach(0, holder.epoch);
        Ok(holder)
    }

    fn secrets(&self) -> Result<Secrets, LedgerError> {
        self.read(|sql| checksum::secrets(sql)?.ok_or(rusqlite::Error::QueryReturnedNoRows))
    }

    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        self.attempt(operations).map_err(|(wrong, _)| wrong)
    }

    fn commit_each(&self, operations: &[Operation]) -> Vec<Result<Answer, LedgerError>> {
        match self.attempt(operations) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // In halves until the one that fails is alone: the others cost a few transactions more,
            // and not one each.
            Err((wrong, true)) if wrong.is_of_one() && operations.len() > 1 => {
                let (first, rest) = operations.split_at(operations.len() / 2);
                let mut each = self.commit_each(first);
                each.extend(self.commit_each(rest));
                each
            }
            Err((wrong, _)) => operations.iter().map(|_| Err(wrong.clone())).collect(),
        }
    }

    fn find_made(&self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, LedgerError> {
        self.read(|sql| made::find(sql, kind, name))
    }

    fn times(&self) -> Result<Times, LedgerError> {
        self.read(lists::times)
    }

    fn load_made(
        &self,
        kind: OnceKind,
        after_s: u64,
        visit: &mut dyn FnMut([u8; 16], Made),
    ) -> Result<(), LedgerError> {
        self.read(|sql| made::each(sql, kind, after_s, visit))
    }

    fn load_catalog(&self) -> Result<CatalogImage, LedgerError> {
        self.read_sound(lists::catalog)
    }

    fn load_count_rules(&self) -> Result<Vec<(u16, CountRule)>, LedgerError> {
        self.read_sound(lists::count_rules)
    }

    fn load_live(&self, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError> {
        let Some(halves) = self.read(lists::halves)? else {
            return self.read_live(&self.reader, now_s, lists::Counters::ALL, visit);
        };
        // Nothing is written before a start has read what there is, so both see one state.
        let read = |counters, visit: &mut dyn FnMut(PeriodRow)| {
            self.read_live(&Mutex::new(None), now_s, counters, visit)
        };
        halves::both(halves, read, visit)
    }

    fn load_ended(
        &self,
        after_s: u64,
        by_s: u64,
        most: usize,
        visit: &mut dyn FnMut(CounterId, CounterIdentity),
    ) -> Result<(), LedgerError> {
        self.read_sound(|sql, on_bad| lists::ended(sql, after_s, by_s, most, visit, on_bad))
    }

    fn usage_of(
        &self,
        scope: &Scope,
        stretch: &Stretch,
    ) -> Result<(Vec<PeriodRow>, Option<Whose>), LedgerError> {
        self.read_books(scope, |sql, on_bad| lists::usage(sql, scope, stretch, on_bad))
    }

    fn daily(
        &self,
        scope: &Scope,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<(Holder, DailyRow)>, LedgerError> {
        self.read_books(scope, |sql, on_bad| days::list(sql, scope, first_day, last_day, on_bad))
    }

    fn load_names(
        &self,
        most: usize,
        visit: &mut dyn FnMut(Holder, NumberedName),
    ) -> Result<(), LedgerError> {
        self.read_sound(|sql, on_bad| lists::names(sql, most, visit, on_bad))
    }

    fn load_windows(
        &self,
        holder_id: u32,
        now_s: u64,
        visit: &mut dyn FnMut(WindowRow),
    ) -> Result<(), LedgerError> {
        self.read_sound(|sql, on_bad| lists::windows(sql, holder_id, now_s, visit, on_bad))
    }

    fn tidy(&self) -> Result<(), LedgerError> {
        let written = self.written.swap(0, Ordering::Relaxed);
        if written == 0 {
            return Ok(());
        }
        let bulk = self.with(&self.tidier, connect::open_beside, |tidier| {
            connect::checkpoint(tidier, "PASSIVE")
        });
        let done = bulk.and_then(|()| self.write(|writer| connect::checkpoint(writer, "PASSIVE")));
        if done.is_err() {
            self.written.fetch_add(written, Ordering::Relaxed);
        }
        done
    }

    fn concern(&self) -> Option<String> {
        self.place.concern().or_else(|| self.damage.concern()).or_else(|| self.mark.concern())
    }

    fn look(&self) {
        // It is told, and seen in health.
        if self.place.look().is_ok()
            && let Err(wrong) = self.keep_log()
        {
            tracing::error!("{wrong}");
        }
    }

    fn damaged_rows(&self) -> usize {
        self.damage.count()
    }

    fn wants_tidying(&self) -> bool {
        self.written.load(Ordering::Relaxed) >= MUCH_WRITTEN
    }

    fn untidy_bytes(&self) -> u64 {
        connect::beside(&self.path, "-wal").metadata().map_or(0, |log| log.len())
    }
}
