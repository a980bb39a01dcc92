//! How far the ledger had come, written beside it: a ledger that has gone back is told from one
//! that has not.
//!
//! SQLite leaves out what is not whole at the end of its log, without a word: a log that was cut,
//! emptied, removed or turned in one bit after a kill is a shorter history to it, and so is an
//! older copy of the file. So every transaction counts itself in the ledger, and when it is on the
//! disk that number is written here, over the one before, without a wait for the disk. A kill
//! forgets none of it. A power cut may forget the last ones, which tells less and nothing false:
//! what is written here was on the disk before.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::MARK_FILE;
use super::connect::{FILE_MODE, sync_folder};
use super::failure::from_io;
use crate::ledger::LedgerError;

const MAGIC: &str = "tollgate-mark 1";
/// Numbers of 16 digits, and words between them.
const LINE_BYTES: usize = 128;
const MOST_BYTES: u64 = 4 * LINE_BYTES as u64;

/// How far a ledger had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reached {
    /// Transactions that were committed. 0: whatever is found is right.
    pub(super) commits: u64,
    /// Which ledger.
    pub(super) ledger: u64,
    /// The latest epoch that a holder was given: it must not be given again, whatever the ledger
    /// says.
    pub(super) epoch: u32,
}

impl Reached {
    fn line(self) -> String {
        let Self { commits, ledger, epoch } = self;
        let text = format!("{MAGIC} ledger {ledger:016x} commits {commits:020} epoch {epoch:010}");
        let sum = blake3::hash(text.as_bytes()).to_hex();
        let line = format!("{text} sum {}", sum.get(..16).unwrap_or_default());
        format!("{line:<width$}\n", width = LINE_BYTES - 1)
    }

    fn read(line: &str) -> Option<Self> {
        let rest = line.strip_prefix(MAGIC)?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let ["ledger", ledger, "commits", commits, "epoch", epoch, "sum", _] = words.as_slice()
        else {
            return None;
        };
        let read = Self {
            commits: commits.parse().ok()?,
            ledger: u64::from_str_radix(ledger, 16).ok()?,
            epoch: epoch.parse().ok()?,
        };
        (read.line().trim_end() == line.trim_end()).then_some(read)
    }
}

/// What is written beside a ledger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Nothing,
    /// It was damaged itself.
    Unreadable,
    Reached(Reached),
}

/// Reads the mark of the ledger with this file.
pub(super) fn read(ledger: &Path) -> Result<Written, LedgerError> {
    let path = beside(ledger);
    let bytes = match File::open(&path).and_then(|file| {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MOST_BYTES), &mut bytes).map(|_| bytes)
    }) {
        Ok(bytes) => bytes,
        Err(wrong) if wrong.kind() == io::ErrorKind::NotFound => return Ok(Written::Nothing),
        Err(wrong) => return Err(from_io(&path, &wrong)),
    };
    // There are two lines, written in turns: one that was cut short leaves the other.
    let newest = bytes
        .chunks(LINE_BYTES)
        .filter_map(|line| Reached::read(std::str::from_utf8(line).ok()?))
        .max();
    Ok(newest.map_or(Written::Unreadable, Written::Reached))
}

/// Beside the file itself, also where it is reached by a link: so does SQLite's log lie.
fn beside(ledger: &Path) -> PathBuf {
    let real = ledger.canonicalize();
    real.as_deref().unwrap_or(ledger).with_file_name(MARK_FILE)
}

/// The open mark of an open ledger.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    reached: Reached,
    lines: u64,
    failing: Option<String>,
}

impl Mark {
    /// Writes the mark anew, on the disk.
    pub(super) fn create(ledger: &Path, reached: Reached) -> Result<Self, LedgerError> {
        let path = beside(ledger);
        let write = || {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(FILE_MODE)
                .open(&path)?;
            file.write_all_at(format!("{0}{0}", reached.line()).as_bytes(), 0)?;
            file.set_len(2 * LINE_BYTES as u64)?;
            file.sync_all()?;
            sync_folder(path.parent().unwrap_or(&path)).map(|()| file)
        };
        let file = write().map_err(|wrong| from_io(&path, &wrong))?;
        Ok(Self { file, path, now: Mutex::new(Now { reached, lines: 0, failing: None }) })
    }

    /// How far the ledger has come.
    pub(super) fn reached(&self) -> Reached {
        self.now.lock().reached
    }

    /// So far it has come, on the disk.
    pub(super) fn reach(&self, commits: u64, epoch: u32) {
        let mut now = self.now.lock();
        now.reached = Reached {
            commits: now.reached.commits.max(commits),
            epoch: now.reached.epoch.max(epoch),
            ..now.reached
        };
        now.lines += 1;
        let place = (now.lines % 2) * LINE_BYTES as u64;
        match self.file.write_all_at(now.reached.line().as_bytes(), place) {
            Ok(()) => now.failing = None,
            Err(_) if now.failing.is_some() => {}
            Err(wrong) => {
                let path = self.path.display();
                let why = format!(
                    "{path} cannot be written ({wrong}): if the ledger goes back now, nobody will be told"
                );
                tracing::warn!("{why}");
                now.failing = Some(why);
            }
        }
    }

    /// For health.
    pub(super) fn concern(&self) -> Option<String> {
        self.now.lock().failing.clone()
    }
}

/// Compares what is written beside a ledger with what is in it. `None`: it has not gone back.
pub(super) fn went_back(written: Reached, found: Reached) -> Option<String> {
    if written.commits == 0 {
        return None;
    }
    if written.ledger != found.ledger {
        return Some("it is another ledger than the one that was served here last".to_owned());
    }
    let missing = written.commits.checked_sub(found.commits).filter(|missing| *missing > 0)?;
    Some(format!(
        "{} transactions were committed to it, and the last {missing} of them are missing",
        written.commits
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_not_where_a_bit_is_turned() {
        let reached = Reached { commits: u64::MAX, ledger: u64::MAX, epoch: u32::MAX };
        let line = reached.line();
        assert_eq!((line.len(), Reached::read(&line)), (LINE_BYTES, Some(reached)));
        let end = line.trim_end().len();
        for (place, bit) in (0..end).flat_map(|place| (0..7).map(move |bit| (place, bit))) {
            let mut turned = line.clone().into_bytes();
            turned[place] ^= 1 << bit;
            let read = Reached::read(&String::from_utf8(turned).unwrap());
            assert_eq!(read, None, "byte {place}, bit {bit}");
        }
    }

    #[test]
    fn of_two_lines_the_newest_whole_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.sqlite");
        assert_eq!(read(&ledger).unwrap(), Written::Nothing);
        let reached = |commits| Reached { commits, ledger: 7, epoch: 3 };
        let mark = Mark::create(&ledger, reached(1)).unwrap();
        for commits in 2..9 {
            mark.reach(commits, 0);
            assert_eq!(read(&ledger).unwrap(), Written::Reached(reached(commits)));
            let whole = std::fs::read(folder.path().join(MARK_FILE)).unwrap();
            let newest = usize::from(commits % 2 == 0) * LINE_BYTES;
            let mut cut = whole.clone();
            cut[newest + 60..newest + LINE_BYTES].fill(0);
            std::fs::write(folder.path().join(MARK_FILE), &cut).unwrap();
            assert_eq!(read(&ledger).unwrap(), Written::Reached(reached(commits - 1)));
            std::fs::write(folder.path().join(MARK_FILE), &whole).unwrap();
        }
        mark.reach(9, 4);
        mark.reach(10, 2);
        assert_eq!(read(&ledger).unwrap(), Written::Reached(Reached { epoch: 4, ..reached(10) }));
        std::fs::write(folder.path().join(MARK_FILE), "").unwrap();
        assert_eq!(read(&ledger).unwrap(), Written::Unreadable);
    }

    #[test]
    fn a_ledger_has_gone_back_when_commits_are_missing_or_it_is_another() {
        let reached = |ledger, commits| Reached { commits, ledger, epoch: 1 };
        assert_eq!(went_back(reached(1, 5), reached(1, 5)), None);
        assert_eq!(went_back(reached(1, 5), reached(1, 6)), None);
        assert!(went_back(reached(1, 6), reached(1, 5)).unwrap().contains("the last 1 of them"));
        assert!(went_back(reached(1, 5), reached(2, 9)).unwrap().contains("another ledger"));
        assert_eq!(went_back(reached(0, 0), reached(2, 9)), None);
    }
}
