//! Where the file of the ledger is: the lock on it, whatever name it is reached by, and whether it
//! is still there.

use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::connect::FILE_MODE;
use super::failure::from_io;
use crate::ledger::LedgerError;

/// Locks a file for this process, and makes it where it is missing. The lock ends with the file
/// handle, also when the process is killed. It is of the file and not of its name: a link to it is
/// the same file.
///
/// It is a lock of `flock`, which SQLite's own locks know nothing of. The handle must stay open for
/// as long as SQLite uses the file: closing it would end SQLite's locks.
pub(super) fn lock(path: &Path) -> Result<File, LedgerError> {
    let ours = |wrong| from_io(path, &wrong);
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(FILE_MODE)
        .open(path);
    let file = match open {
        // One that may not be written is told by whoever writes it.
        Err(wrong) if wrong.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        open => open,
    };
    let file = file.map_err(ours)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let folder = path.parent().unwrap_or(path).to_owned();
            return Err(LedgerError::InUse {
                folder,
                pid: file.metadata().ok().and_then(|found| holder(&found)),
            });
        }
        Err(TryLockError::Error(wrong)) => return Err(ours(wrong)),
    }
    // Whoever can open it can hold the lock.
    let mode = file.metadata().map_err(ours)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(ours)?;
    }
    Ok(file)
}

/// The process that holds the lock of a file, where the system tells.
fn holder(file: &Metadata) -> Option<u32> {
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, file.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 4630 08:01:1234 0 EOF`
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words.as_slice() else { return None };
        let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
        pid.parse().ok().filter(|pid| is_it && *pid > 0)
    };
    locks.lines().find_map(of_line)
}

/// The file as it was found when the ledger was opened.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The most bytes that it had. It never gets shorter: pages that are free are used again.
    longest: AtomicU64,
    /// Why it is not there.
    gone: Mutex<Option<LedgerError>>,
}

impl Place {
    pub(super) fn of(path: &Path) -> Result<Self, LedgerError> {
        let found = path.metadata().map_err(|wrong| from_io(path, &wrong))?;
        if found.nlink() > 1 {
            tracing::warn!(
                path = %path.display(),
                "the file of the ledger has {} names (hard links): always use the same one, because its log lies beside that one alone",
                found.nlink()
            );
        }
        let longest = AtomicU64::new(found.len());
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            longest,
            gone: Mutex::default(),
        })
    }

    /// Whether the file is still where it was. What is committed to one that is not there would be
    /// lost, and must not be answered for.
    ///
    /// # Errors
    /// [`LedgerError::Gone`].
    pub(super) fn look(&self) -> Result<(), LedgerError> {
        let what = match self.path.metadata() {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => {
                let longest = self.longest.fetch_max(found.len(), Ordering::Relaxed);
                (found.len() < longest).then(|| {
                    let bytes = found.len();
                    format!("it was cut to {bytes} of its {longest} bytes. Stop the service, and restore a backup or the whole file")
                })
            }
            Ok(_) => {
                Some("another file has taken its place. Bring the first one back, or start the service again to use the other".to_owned())
            }
            Err(wrong) => Some(format!(
                "it was removed, renamed or unmounted ({wrong}). Bring it back, or stop the service; what it has not written yet is lost then"
            )),
        };
        let mut gone = self.gone.lock();
        let found = what.map(|what| LedgerError::Gone { path: self.path.clone(), what });
        if found != *gone {
            match &found {
                Some(wrong) => tracing::error!("{wrong}"),
                None => {
                    tracing::info!(path = %self.path.display(), "the file of the ledger is back, and is written again")
                }
            }
            gone.clone_from(&found);
        }
        found.map_or(Ok(()), Err)
    }

    /// Whether the log is beside the file. While a connection is open it always is.
    pub(super) fn has_log(&self) -> bool {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        Path::new(&log).exists()
    }

    /// That the log was removed, and could not be put into the file.
    pub(super) fn log_is_gone(&self, wrong: &dyn std::fmt::Display) -> LedgerError {
        let what = format!(
            "its log (`-wal`) was removed, and what is in it could not be put into the file ({wrong})"
        );
        LedgerError::Gone { path: self.path.clone(), what }
    }

    /// What the last look found, for health.
    pub(super) fn concern(&self) -> Option<String> {
        self.gone.lock().as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_lock_is_found_by_the_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 08:01:76 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF\n4: FLOCK  ADVISORY  WRITE 0 08:01:78 0 EOF\nnonsense\n";
        assert_eq!(
            [77, 76, 78, 79].map(|inode| holder_in(locks, inode)),
            [Some(13), Some(12), None, None]
        );
    }
}
