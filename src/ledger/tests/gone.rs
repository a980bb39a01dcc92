//! A ledger that has gone back, is gone, or is reached by another name.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use super::*;

const WAL: &str = "ledger.sqlite-wal";
const ALL: [&str; 3] = ["ledger.sqlite", WAL, "ledger.mark"];

/// What a process that is killed leaves: all files of this moment.
fn killed(folder: &Path) -> TempDir {
    let left = TempDir::new().unwrap();
    for name in ALL {
        fs::copy(folder.join(name), left.path().join(name)).unwrap();
    }
    left
}

fn charged(ledger: &dyn Ledger) -> u64 {
    ledger.usage(&Scope::All, 0, u64::MAX).unwrap().iter().map(|row| row.charged).sum()
}

/// A ledger that has leased 1 to 60 units, one after another, and is not closed.
fn working() -> (TempDir, SqliteLedger) {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    ledger.tidy().unwrap();
    for want in 1..=60 {
        one(&ledger, lease(holder, want)).unwrap().unwrap();
    }
    (folder, ledger)
}

type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 7] = [
    ("the log is cut by a byte", |folder| {
        let file = OpenOptions::new().write(true).open(folder.join(WAL)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    }),
    ("the log is cut to half", |folder| {
        let file = OpenOptions::new().write(true).open(folder.join(WAL)).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("the log is empty", |folder| {
        OpenOptions::new().write(true).open(folder.join(WAL)).unwrap().set_len(0).unwrap()
    }),
    ("the log is gone", |folder| fs::remove_file(folder.join(WAL)).unwrap()),
    ("a bit of the head of the log is turned", |folder| turn(&folder.join(WAL), 40)),
    ("a bit in the middle of the log is turned", |folder| {
        turn(&folder.join(WAL), 32 + 30 * 4_120 + 500)
    }),
    ("the file is gone", |folder| {
        fs::remove_file(folder.join("ledger.sqlite")).unwrap();
        fs::remove_file(folder.join(WAL)).unwrap();
    }),
];

fn turn(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_was_committed_and_is_missing_is_told_and_served_only_when_it_is_accepted() {
    let (folder, ledger) = working();
    let whole = killed(folder.path());
    assert_eq!(
        charged(&SqliteLedger::open(whole.path()).unwrap()),
        60,
        "a kill alone loses nothing"
    );
    for (what, harm) in HARMS {
        let left = killed(folder.path());
        harm(left.path());
        // To SQLite an empty log and none are the same.
        let files = || ALL.map(|name| fs::read(left.path().join(name)).unwrap_or_default());
        let before = files();
        for _ in 0..2 {
            let refused = SqliteLedger::open(left.path()).unwrap_err();
            assert!(matches!(refused, LedgerError::WentBack { .. }), "{what}: {refused}");
            assert!(refused.to_string().contains("tollgate ledger accept"), "{what}: {refused}");
        }
        assert!(before == files(), "{what}: whoever wants to mend it finds it as it was");
        if left.path().join("ledger.sqlite").exists() {
            let mistakes = sqlite::check(&left.path().join("ledger.sqlite")).unwrap().mistakes;
            assert!(mistakes.iter().any(|line| line.contains("gone back")), "{what}: {mistakes:?}");
        }
        sqlite::accept(left.path()).unwrap();
        let opened = SqliteLedger::open(left.path()).unwrap();
        assert!(charged(&opened) < 60, "{what}");
        assert!(
            opened.join(1).unwrap().epoch > 1,
            "{what}: an epoch that was given is not given again"
        );
        one(&opened, lease(Holder { id: 1, epoch: 2 }, 1)).unwrap().unwrap();
        drop(opened);
        SqliteLedger::open(left.path()).unwrap();
    }
    drop(ledger);
}

#[test]
fn an_older_copy_in_its_place_is_told() {
    let (folder, ledger) = working();
    let copies = TempDir::new().unwrap();
    let copy = copies.path().join("copy");
    sqlite::backup(&folder.path().join(sqlite::FILE), &copy).unwrap();
    one(&ledger, lease(Holder { id: 1, epoch: 1 }, 61)).unwrap().unwrap();
    drop(ledger);
    fs::copy(&copy, folder.path().join(sqlite::FILE)).unwrap();
    let refused = SqliteLedger::open(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("the last 1 of them are missing"), "{refused}");
    let said = sqlite::accept(folder.path()).unwrap();
    assert!(said.contains("is taken as it is"), "{said}");
    assert_eq!(charged(&SqliteLedger::open(folder.path()).unwrap()), 60);
    // Another ledger altogether.
    let other = TempDir::new().unwrap();
    drop(SqliteLedger::open(other.path()).unwrap());
    fs::copy(other.path().join(sqlite::FILE), folder.path().join(sqlite::FILE)).unwrap();
    let refused = SqliteLedger::open(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("another ledger"), "{refused}");
    assert!(matches!(sqlite::accept(&other.path().join("none")), Err(LedgerError::Missing(_))));
    drop(SqliteLedger::open(other.path()).unwrap());
}

#[test]
fn a_copy_that_is_served_elsewhere_has_not_gone_back() {
    let (folder, _ledger) = working();
    let copies = TempDir::new().unwrap();
    sqlite::backup(&folder.path().join(sqlite::FILE), &copies.path().join(sqlite::FILE)).unwrap();
    for _ in 0..2 {
        assert_eq!(charged(&SqliteLedger::open(copies.path()).unwrap()), 60);
    }
}

#[test]
fn a_mark_that_is_damaged_keeps_nobody_from_starting() {
    let (folder, ledger) = working();
    drop(ledger);
    for bytes in [&b""[..], b"nonsense", &[0xff; 256]] {
        fs::write(folder.path().join("ledger.mark"), bytes).unwrap();
        assert_eq!(charged(&SqliteLedger::open(folder.path()).unwrap()), 60);
    }
}

#[test]
fn nothing_is_committed_to_a_file_that_is_not_where_it_was() {
    let outer = TempDir::new().unwrap();
    let (folder, away) = (outer.path().join("data"), outer.path().join("away"));
    let ledger = SqliteLedger::open(&folder).unwrap();
    let holder = ledger.join(1).unwrap();
    let ask = |want| one(&ledger, lease(holder, want)).map(|lease| lease.unwrap().leased);
    assert_eq!(ask(1), Ok(1));
    let is_gone = |what: &str| {
        ledger.look();
        assert!(ledger.concern().unwrap().contains(what), "{:?}", ledger.concern());
        let refused = ask(50).unwrap_err();
        assert!(matches!(refused, LedgerError::Gone { .. }), "{refused}");
    };
    let is_back = |want| {
        ledger.look();
        assert_eq!(ledger.concern(), None);
        assert_eq!(ask(want), Ok(want), "and nothing was leased meanwhile");
    };
    // The folder has another name.
    fs::rename(&folder, &away).unwrap();
    is_gone("removed, renamed or unmounted");
    fs::rename(&away, &folder).unwrap();
    is_back(2);
    // Another file has its name.
    fs::rename(folder.join(sqlite::FILE), outer.path().join("kept")).unwrap();
    is_gone("removed, renamed or unmounted");
    fs::copy(outer.path().join("kept"), folder.join(sqlite::FILE)).unwrap();
    is_gone("another file has taken its place");
    fs::rename(outer.path().join("kept"), folder.join(sqlite::FILE)).unwrap();
    is_back(3);
    // All of it is gone for good.
    fs::remove_dir_all(&folder).unwrap();
    is_gone("removed, renamed or unmounted");
}

#[test]
fn nothing_is_committed_to_a_file_that_was_cut_short() {
    let (folder, ledger) = working();
    let path = folder.path().join(sqlite::FILE);
    ledger.look();
    let whole = fs::read(&path).unwrap();
    for bytes in [0, 1, whole.len() - 1] {
        // In place, as `> ledger.sqlite` and a copy onto it do.
        fs::write(&path, &whole[..bytes]).unwrap();
        ledger.look();
        let concern = ledger.concern().unwrap();
        assert!(
            concern.contains(&format!("it was cut to {bytes} of its {} bytes", whole.len())),
            "{concern}"
        );
        let refused = one(&ledger, lease(Holder { id: 1, epoch: 1 }, 61)).unwrap_err();
        assert!(matches!(refused, LedgerError::Gone { .. }), "{refused}");
        fs::write(&path, &whole).unwrap();
        ledger.look();
        assert_eq!(ledger.concern(), None);
    }
    one(&ledger, lease(Holder { id: 1, epoch: 1 }, 61)).unwrap().unwrap();
}

#[test]
fn what_is_in_a_log_that_was_removed_is_kept() {
    for noticed_by_a_look in [true, false] {
        let (folder, ledger) = working();
        let log = folder.path().join(format!("{}-wal", sqlite::FILE));
        assert!(log.exists());
        fs::remove_file(&log).unwrap();
        if noticed_by_a_look {
            ledger.look();
        } else {
            one(&ledger, lease(Holder { id: 1, epoch: 1 }, 61)).unwrap().unwrap();
        }
        // What a process that is killed now leaves behind: the files as they are.
        let left = |copies: &TempDir| {
            for entry in fs::read_dir(folder.path()).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), copies.path().join(entry.file_name())).unwrap();
            }
            charged(&SqliteLedger::open(copies.path()).unwrap())
        };
        assert_eq!(left(&TempDir::new().unwrap()), if noticed_by_a_look { 60 } else { 61 });
        // It works on, with a log that has a name.
        one(&ledger, lease(Holder { id: 1, epoch: 1 }, 62)).unwrap().unwrap();
        assert!(log.exists());
        assert_eq!(ledger.concern(), None);
        assert_eq!(left(&TempDir::new().unwrap()), 62);
    }
}

#[test]
fn the_lock_is_of_the_ledger_and_not_of_a_name() {
    let (folder, ledger) = working();
    let in_use = |folder: &Path| {
        let refused = SqliteLedger::open(folder).unwrap_err();
        let me = Some(std::process::id());
        assert!(matches!(&refused, LedgerError::InUse { pid, .. } if *pid == me), "{refused}");
    };
    fs::remove_file(folder.path().join("ledger.lock")).unwrap();
    in_use(folder.path());
    for link in [
        |from: &Path, to: &Path| symlink(from, to),
        |from: &Path, to: &Path| fs::hard_link(from, to),
    ] {
        let other = TempDir::new().unwrap();
        link(&folder.path().join(sqlite::FILE), &other.path().join(sqlite::FILE)).unwrap();
        in_use(other.path());
    }
    assert!(matches!(sqlite::accept(folder.path()), Err(LedgerError::InUse { .. })));
    // It works on, and is let go of with the ledger.
    one(&ledger, lease(Holder { id: 1, epoch: 1 }, 61)).unwrap().unwrap();
    drop(ledger);
    assert_eq!(charged(&SqliteLedger::open(folder.path()).unwrap()), 61);
}

#[test]
fn a_lock_that_others_could_hold_is_taken_from_them() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("ledger.lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let _ledger = SqliteLedger::open(folder.path()).unwrap();
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
}
