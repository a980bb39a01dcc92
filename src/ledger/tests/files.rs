use std::fs::{self, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::*;

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join(sqlite::FILE)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A ledger with some counters, closed.
fn filled(counters: u64) -> TempDir {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    fill(&ledger, counters);
    ledger.tidy().unwrap();
    folder
}

fn fill(ledger: &dyn Ledger, counters: u64) {
    let holder = ledger.join(1).unwrap();
    let named = |number| LeaseRequest {
        counter: Counter::Named(identity(&format!("subscriber-{number}"))),
        ..lease(holder, 3)
    };
    ledger
        .commit(&(0..counters).map(|number| Operation::Lease(named(number))).collect::<Vec<_>>())
        .unwrap();
}

/// What a check finds.
pub(super) fn mistakes(path: &Path) -> Vec<String> {
    sqlite::check(path).unwrap().mistakes
}

fn charged(ledger: &dyn Ledger) -> u64 {
    ledger.usage(&Scope::All, 0, u64::MAX).unwrap().iter().map(|row| row.charged).sum()
}

fn refusal(folder: &TempDir) -> LedgerError {
    SqliteLedger::open(folder.path()).unwrap_err()
}

#[test]
fn only_its_owner_can_read_the_ledger() {
    let outer = TempDir::new().unwrap();
    let folder = outer.path().join("a/b");
    let ledger = SqliteLedger::open(&folder).unwrap();
    fill(&ledger, 1);
    assert_eq!(mode(&folder), 0o700);
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    drop(ledger);
    fs::set_permissions(folder.join(sqlite::FILE), Permissions::from_mode(0o644)).unwrap();
    let ledger = SqliteLedger::open(&folder).unwrap();
    fill(&ledger, 1);
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_has_ended() {
    let folder = filled(1);
    let first = SqliteLedger::open(folder.path()).unwrap();
    let refused = refusal(&folder);
    assert_eq!(
        refused,
        LedgerError::InUse { folder: folder.path().to_owned(), pid: Some(std::process::id()) }
    );
    let said = refused.to_string();
    assert!(
        said.contains(&format!("is used by another process (process {})", std::process::id()))
            && said.contains("--data-dir"),
        "{said}"
    );
    drop(first);
    SqliteLedger::open(folder.path()).unwrap();
}

#[test]
fn files_of_others_are_refused_and_left_as_they_are() {
    let other = |path: &Path| {
        let sql = Connection::open(path).unwrap();
        sql.execute_batch("CREATE TABLE cooking (recipe TEXT); PRAGMA user_version = 1").unwrap();
    };
    let text = |path: &Path| fs::write(path, "Dear diary").unwrap();
    for (is_sqlite, why) in
        [(false, "it is no SQLite file"), (true, "it is a SQLite file of another program")]
    {
        let folder = TempDir::new().unwrap();
        if is_sqlite {
            other(&file(&folder))
        } else {
            text(&file(&folder))
        }
        let before = fs::read(file(&folder)).unwrap();
        let refused = refusal(&folder);
        assert_eq!(refused, LedgerError::Foreign { path: file(&folder), what: why.to_owned() });
        assert!(refused.to_string().contains("is not a ledger of tollgate"));
        assert_eq!(fs::read(file(&folder)).unwrap(), before);
        assert!(sqlite::check(&file(&folder)).is_err());
        assert!(sqlite::backup(&file(&folder), &folder.path().join("copy")).is_err());
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = filled(1);
    let newest: i64 = Connection::open(file(&folder))
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    Connection::open(file(&folder))
        .unwrap()
        .pragma_update(None, "user_version", newest + 1)
        .unwrap();
    let refused = refusal(&folder);
    assert_eq!(
        refused,
        LedgerError::Newer { path: file(&folder), found: newest + 1, known: newest }
    );
    assert!(refused.to_string().contains("written by a newer tollgate"), "{refused}");
    Connection::open(file(&folder)).unwrap().pragma_update(None, "user_version", newest).unwrap();
    assert_eq!(charged(&SqliteLedger::open(folder.path()).unwrap()), 3);
}

/// What takes a file of the newest version back to the one before checksums.
const BARE: &str = "ALTER TABLE secrets DROP COLUMN checksum; ALTER TABLE numbers DROP COLUMN checksum;
    ALTER TABLE holders DROP COLUMN checksum; ALTER TABLE counters DROP COLUMN checksum; ALTER TABLE count_rules DROP COLUMN checksum;
    ALTER TABLE periods DROP COLUMN checksum; ALTER TABLE shares DROP COLUMN checksum; ALTER TABLE marks DROP COLUMN checksum;
    ALTER TABLE catalog DROP COLUMN checksum; ALTER TABLE naming_epochs DROP COLUMN checksum; ALTER TABLE names DROP COLUMN checksum;
    ALTER TABLE windows DROP COLUMN checksum; ALTER TABLE daily_names DROP COLUMN checksum; ALTER TABLE daily_pages DROP COLUMN checksum;
    DELETE FROM numbers WHERE name = 'commits'; DROP TABLE requests; DROP TABLE charges; DROP TABLE checks;
    PRAGMA user_version = 6";

/// A file of the newest version as an older program left it. What was written beside it is of no
/// use to that one.
fn bare(folder: &TempDir) -> Connection {
    let sql = Connection::open(file(folder)).unwrap();
    sql.execute_batch(BARE).unwrap();
    fs::remove_file(folder.path().join("ledger.mark")).unwrap();
    sql
}

/// What takes a file of the newest version back to an older one, and how many days it holds then.
const OLDER: [(&str, usize); 6] = [
    ("DROP TABLE daily_names; DROP TABLE daily_pages; DROP TABLE names; DROP TABLE naming_epochs; DROP TABLE windows; PRAGMA user_version = 1", 0),
    (
        "DROP TABLE daily_names; DROP TABLE daily_pages; DROP TABLE names; DROP TABLE naming_epochs; DROP TABLE windows;
         CREATE TABLE days (day INTEGER NOT NULL, subscriber TEXT NOT NULL, key TEXT NOT NULL, plan TEXT NOT NULL, entitlement TEXT NOT NULL,
             target TEXT NOT NULL, holder INTEGER NOT NULL, epoch INTEGER NOT NULL, admitted INTEGER NOT NULL, refused BLOB NOT NULL,
             responses BLOB NOT NULL, PRIMARY KEY (day, subscriber, key, plan, entitlement, target, holder, epoch)) STRICT, WITHOUT ROWID;
         CREATE INDEX days_by_subscriber ON days (subscriber, day);
         CREATE INDEX days_by_key ON days (key, day);
         INSERT INTO days VALUES (5, 'acme', 'acme-1', 'gold', 'all', 'orders', 1, 1, 17, x'0100000000000000', x'');
         PRAGMA user_version = 2",
        1,
    ),
    (
        "DROP TABLE daily_names; DROP TABLE daily_pages; DROP TABLE names; DROP TABLE naming_epochs;
         CREATE TABLE days (day INTEGER NOT NULL, subscriber TEXT NOT NULL, key TEXT NOT NULL, plan TEXT NOT NULL, entitlement TEXT NOT NULL,
             target TEXT NOT NULL, holder INTEGER NOT NULL, epoch INTEGER NOT NULL, admitted INTEGER NOT NULL, refused BLOB NOT NULL,
             responses BLOB NOT NULL, PRIMARY KEY (day, subscriber, key, plan, entitlement, target, holder, epoch)) STRICT, WITHOUT ROWID;
         CREATE INDEX days_by_subscriber ON days (subscriber, day);
         CREATE INDEX days_by_key ON days (key, day);
         INSERT INTO days VALUES (5, 'acme', 'acme-1', 'gold', 'all', 'orders', 1, 1, 17, x'0100000000000000', x'');
         PRAGMA user_version = 3",
        1,
    ),
    (
        "DROP TABLE daily_names; DROP TABLE daily_pages;
         CREATE TABLE daily (day INTEGER NOT NULL, subscriber TEXT NOT NULL, key TEXT NOT NULL, plan TEXT NOT NULL,
             entitlement TEXT NOT NULL, target TEXT NOT NULL, holder INTEGER NOT NULL, epoch INTEGER NOT NULL, part INTEGER NOT NULL,
             admitted INTEGER NOT NULL, refused BLOB NOT NULL, responses BLOB NOT NULL,
             PRIMARY KEY (day, subscriber, key, plan, entitlement, target, holder, epoch, part)) STRICT, WITHOUT ROWID;
         CREATE INDEX daily_by_subscriber ON daily (subscriber, day);
         CREATE INDEX daily_by_key ON daily (key, day);
         INSERT INTO daily VALUES (5, 'acme', 'acme-1', 'gold', 'all', 'orders', 1, 1, 0, 17, x'0100000000000000', x''),
             (5, 'acme', 'acme-1', 'gold', 'all', 'orders', 1, 1, 3, 17, x'0100000000000000', x''),
             (6, 'acme', 'acme-1', 'gold', 'all', 'orders', 1, 1, 0, 17, x'0100000000000000', x'');
         PRAGMA user_version = 4",
        3,
    ),
    (
        "DROP TABLE daily_pages;
         CREATE TABLE daily_counts (day INTEGER NOT NULL, holder INTEGER NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
             admitted INTEGER NOT NULL, refused BLOB NOT NULL, responses BLOB NOT NULL, PRIMARY KEY (day, holder, epoch, number))
             STRICT, WITHOUT ROWID;
         CREATE VIEW daily AS SELECT day, subscriber, key, plan, entitlement, target, holder, epoch, number, admitted, refused, responses
             FROM daily_names JOIN daily_counts USING (day, holder, epoch, number);
         INSERT INTO daily_names VALUES (5, 1, 1, 1, 'acme', 'acme-1', 'gold', 'all', 'orders'),
             (6, 1, 1, 2, 'acme', 'acme-1', 'gold', 'all', 'orders');
         INSERT INTO daily_counts VALUES (5, 1, 1, 1, 17, x'0100000000000000', x''), (6, 1, 1, 2, 17, x'0100000000000000', x'');
         PRAGMA user_version = 5",
        2,
    ),
    ("PRAGMA user_version = 6", 0),
];

#[test]
fn every_older_version_is_brought_forward_with_what_it_holds() {
    for (older, days) in OLDER {
        let folder = filled(2);
        let sql = bare(&folder);
        sql.execute_batch(older).unwrap();
        drop(sql);
        assert_eq!(mistakes(&file(&folder)), Vec::<String>::new());
        let ledger = SqliteLedger::open(folder.path()).unwrap();
        assert_eq!(mistakes(&file(&folder)), Vec::<String>::new());
        assert_eq!(charged(&ledger), 6);
        let found = ledger.daily(&Scope::All, 0, 9).unwrap();
        let counts = DailyCounts { admitted: 17, refused: vec![1], responses: vec![] };
        assert_eq!(found.len(), days);
        assert!(
            found.iter().all(|(holder, row)| holder.epoch == 1 && row.counts == counts),
            "{found:?}"
        );
        assert!(found.iter().map(|(_, row)| row.number).eq((1..).take(days)), "{found:?}");
        let holder = ledger.join(1).unwrap();
        assert_eq!(holder.epoch, 2);
        let again = |(_, row): (Holder, DailyRow)| DailyChange {
            number: row.number,
            name: DailyName::Told(row.key),
            counts: row.counts,
        };
        let rows = found.into_iter().map(again).collect();
        one(&ledger, DailyReport { holder, rows }).unwrap();
        assert_eq!(ledger.daily(&Scope::Key("acme-1".into()), 0, 9).unwrap().len(), 2 * days);
        ledger.load_names(9, &mut |_, name| panic!("{name:?}")).unwrap();
        one(&ledger, WindowReport { holder, rows: vec![] }).unwrap();
        ledger.load_windows(1, 0, &mut |row| panic!("{row:?}")).unwrap();
    }
}

#[test]
fn each_row_of_an_older_version_keeps_its_own_counts() {
    let folder = filled(1);
    let sql = bare(&folder);
    sql.execute_batch(OLDER[3].0).unwrap();
    // Neither the order of the names nor that of the counts is the other's.
    for number in 0..100_u32 {
        let (name, epoch) = (number * 37 % 100, number % 3);
        let row = format!(
            "VALUES (7, 's{name}', 'k{number}', 'gold', 'all', 'orders', 1, {epoch}, {}, {number}, x'', x'')",
            number % 7
        );
        sql.execute(&format!("INSERT INTO daily {row}"), []).unwrap();
        // Some have lists, of different lengths, and their neighbours have none.
        let list = "0700000000000000".repeat(number as usize % 3);
        sql.execute(&format!("UPDATE daily SET refused = x'{list}', responses = x'{list}{list}' WHERE key = 'k{number}'"), []).unwrap();
    }
    drop(sql);
    let found = SqliteLedger::open(folder.path()).unwrap().daily(&Scope::All, 7, 7).unwrap();
    assert_eq!(found.len(), 100);
    for (holder, row) in found {
        let number: u32 = row.key.key[1..].parse().unwrap();
        let subscriber = format!("s{}", number * 37 % 100);
        assert_eq!(
            (holder.epoch, &*row.key.subscriber, row.counts.admitted),
            (number % 3, &*subscriber, number.into())
        );
        let lists = number as usize % 3;
        assert_eq!(
            (row.counts.refused, row.counts.responses),
            (vec![7; lists], vec![7; 2 * lists])
        );
    }
}

/// A ledger with daily usage of so many numbers, and its holder.
fn with_days(folder: &TempDir, numbers: u64) -> (SqliteLedger, Holder) {
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    one(
        &ledger,
        DailyReport { holder, rows: (0..numbers).map(|number| day_of(5, number, 1)).collect() },
    )
    .unwrap();
    (ledger, holder)
}

fn day_of(day: u64, number: u64, admitted: u64) -> DailyChange {
    let key = format!("key-{number}").into();
    let [subscriber, plan, entitlement, target] = ["acme", "gold", "all", "orders"].map(Into::into);
    let name = DailyName::Told(DailyKey { day, subscriber, key, plan, entitlement, target });
    DailyChange {
        number,
        name,
        counts: DailyCounts { admitted, refused: vec![admitted], responses: vec![] },
    }
}

#[test]
fn a_page_of_days_that_cannot_be_read_is_named_and_holds_up_no_lease() {
    for damage in [
        "admitted = x'0100000000000000'",
        "admitted = x'01'",
        "others = x'ff'",
        "others = x'0500000000000000'",
        "present = 1",
    ] {
        let folder = TempDir::new().unwrap();
        let (ledger, holder) = with_days(&folder, 70);
        let sql = Connection::open(file(&folder)).unwrap();
        assert_eq!(
            sql.execute(&format!("UPDATE daily_pages SET {damage} WHERE page = 0"), []).unwrap(),
            1
        );
        assert!(
            ledger.daily(&Scope::Subscriber("acme".into()), 0, 9).is_err(),
            "{damage}: nothing that is there is left out without a word"
        );
        // Those of all are shown as far as they can be read, and it is said that there are more.
        assert_eq!(ledger.daily(&Scope::All, 0, 9).unwrap().len(), 6, "{damage}");
        assert!(ledger.concern().is_some_and(|said| said.contains("daily_pages")), "{damage}");
        // What is changed next begins the page anew, beside a lease.
        let change = DailyChange { name: DailyName::Known { day: 5 }, ..day_of(5, 3, 9) };
        let both = [
            Operation::Lease(lease(holder, 50)),
            Operation::Daily(DailyReport { holder, rows: vec![change] }),
        ];
        ledger.commit(&both).unwrap();
        let found = ledger.daily(&Scope::All, 0, 9).unwrap();
        let counts: Vec<_> =
            found.iter().map(|(_, row)| (row.number, row.counts.admitted)).collect();
        let rest = (64..70).map(|number| (number, 1));
        assert_eq!(counts, [(3, 9)].into_iter().chain(rest).collect::<Vec<_>>(), "{damage}");
        let mistakes = self::mistakes(&file(&folder));
        assert_eq!(mistakes, ["63 rows of daily usage have no counts"], "{damage}");
        // And goes on with it, of what has a name.
        let change =
            |number| DailyChange { name: DailyName::Known { day: 5 }, ..day_of(5, number, 9) };
        let rows = vec![change(4), change(63), change(70)];
        ledger.commit(&[Operation::Daily(DailyReport { holder, rows })]).unwrap();
        let found = ledger.daily(&Scope::All, 0, 9).unwrap();
        let counts: Vec<_> =
            found.iter().map(|(_, row)| (row.number, row.counts.admitted)).collect();
        let rest = (64..70).map(|number| (number, 1));
        assert_eq!(
            counts,
            [(3, 9), (4, 9), (63, 9)].into_iter().chain(rest).collect::<Vec<_>>(),
            "{damage}"
        );
    }
}

#[test]
fn a_check_finds_pages_of_days_that_are_cut_off() {
    for damage in [
        "admitted = x'0100000000000000'",
        "admitted = x'01'",
        "admitted = x''",
        "present = 1",
        "present = present | (1 << 63)",
    ] {
        let folder = TempDir::new().unwrap();
        drop(with_days(&folder, 40));
        assert_eq!(mistakes(&file(&folder)), Vec::<String>::new());
        Connection::open(file(&folder))
            .unwrap()
            .execute(&format!("UPDATE daily_pages SET {damage}"), [])
            .unwrap();
        let mistakes = self::mistakes(&file(&folder));
        assert!(
            mistakes.contains(&"1 pages of daily usage are cut off".to_owned()),
            "{damage}: {mistakes:?}"
        );
    }
}

#[test]
fn pages_of_days_end_with_their_last_row() {
    let folder = TempDir::new().unwrap();
    let most = operations::MAX_EXPIRED;
    let (ledger, holder) = with_days(&folder, most + 100);
    one(&ledger, DailyReport { holder, rows: vec![day_of(6, 1, 1)] }).unwrap();
    let pages = || -> i64 {
        let sql = Connection::open(file(&folder)).unwrap();
        sql.query_row("SELECT count(*) FROM daily_pages", [], |row| row.get(0)).unwrap()
    };
    let expire = Operation::Expire(Expire { days_before: 6, ..Expire::default() });
    let all = i64::try_from((most + 100).div_ceil(64) + 1).unwrap();
    assert_eq!(pages(), all);
    ledger.commit(std::slice::from_ref(&expire)).unwrap();
    assert_eq!(pages(), all - i64::try_from(most / 64).unwrap());
    // What the same transaction has written before is dropped with the rest.
    let late = Operation::Daily(DailyReport { holder, rows: vec![day_of(5, most + 99, 7)] });
    ledger.commit(&[late, expire]).unwrap();
    assert_eq!(pages(), 1);
}

#[test]
fn an_empty_file_is_a_new_ledger() {
    let folder = TempDir::new().unwrap();
    fs::write(file(&folder), "").unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    fill(&ledger, 1);
    assert_eq!(charged(&ledger), 3);
}

#[test]
fn a_file_that_is_cut_off_is_damaged() {
    for keep in [50u64, 4096, 40_960] {
        let folder = filled(1_000);
        let length = fs::metadata(file(&folder)).unwrap().len();
        assert!(keep < length);
        OpenOptions::new().write(true).open(file(&folder)).unwrap().set_len(keep).unwrap();
        let refused = refusal(&folder);
        assert!(matches!(refused, LedgerError::Damaged { .. }), "{keep}: {refused}");
        assert!(refused.to_string().contains("restore a backup"), "{refused}");
    }
}

#[test]
fn a_file_with_wrong_pages_is_found_by_a_check_and_by_use() {
    let folder = filled(2_000);
    assert_eq!(mistakes(&file(&folder)), Vec::<String>::new());
    let mut open = OpenOptions::new().write(true).open(file(&folder)).unwrap();
    let length = open.metadata().unwrap().len();
    open.seek(SeekFrom::Start(length / 3 / 4096 * 4096)).unwrap();
    open.write_all(&vec![0xa5; usize::try_from(length / 3).unwrap()]).unwrap();
    drop(open);
    match sqlite::check(&file(&folder)) {
        Ok(found) => assert!(!found.mistakes.is_empty()),
        Err(wrong) => assert!(
            matches!(wrong, LedgerError::Damaged { .. } | LedgerError::Row { .. }),
            "{wrong}"
        ),
    }
    let found = SqliteLedger::open(folder.path())
        .and_then(|ledger| ledger.usage(&Scope::All, 0, u64::MAX).map(drop));
    assert!(matches!(found, Err(LedgerError::Damaged { .. })), "{found:?}");
}

#[test]
fn a_full_disk_fails_the_commit_whole_and_the_next_one_works_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    fill(&ledger, 10);
    ledger.set_max_pages(1);
    let holder = Holder { id: 1, epoch: 1 };
    let edit = CatalogEdit {
        expected: 0,
        revision: 1,
        changes: vec![CatalogChange {
            kind: 1,
            id: "gold".into(),
            value: Some(vec![0; 1_000_000]),
        }],
        once: None,
    };
    let both = [Operation::Lease(lease(holder, 50)), Operation::Edit(edit)];
    let failed = ledger.commit(&both).unwrap_err();
    assert_eq!(failed, LedgerError::Full(file(&folder)));
    assert!(failed.to_string().contains("free some disk space"));
    assert_eq!((charged(&ledger), ledger.load_catalog().unwrap().revision), (30, 0));
    // The connection that failed is gone, and its limit with it: the disk has room again.
    ledger.commit(&both).unwrap();
    assert_eq!((charged(&ledger), ledger.load_catalog().unwrap().revision), (80, 1));
}

#[test]
fn a_file_that_cannot_be_written_fails_the_commit() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    ledger.refuse_writing();
    let failed = one(&ledger, lease(Holder { id: 1, epoch: 1 }, 1)).unwrap_err();
    assert_eq!(failed, LedgerError::ReadOnly(file(&folder)));
    assert!(failed.to_string().contains("check the permissions"));
    assert_eq!(one(&ledger, lease(Holder { id: 1, epoch: 1 }, 1)).unwrap().unwrap().leased, 1);
}

/// What is on the disk at this moment, as a process that is killed leaves it.
fn as_killed(folder: &TempDir) -> TempDir {
    let left = TempDir::new().unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
    }
    left
}

#[test]
fn what_was_answered_is_there_after_a_kill_whether_it_was_written_back_or_not() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    for want in 1..=30 {
        assert_eq!(one(&ledger, lease(holder, want)).unwrap().unwrap().leased, want);
        if want % 7 == 0 {
            ledger.tidy().unwrap();
        }
        let left = as_killed(&folder);
        // A commit that was cut short behind it.
        let mut log =
            OpenOptions::new().append(true).open(left.path().join("ledger.sqlite-wal")).unwrap();
        log.write_all(&[0x5a; 3_000]).unwrap();
        let found = SqliteLedger::open(left.path()).unwrap();
        assert_eq!(charged(&found), want);
        assert_eq!(found.secrets().unwrap(), ledger.secrets().unwrap());
        assert_eq!(found.join(1).unwrap().epoch, 2);
    }
}

#[test]
fn tidying_writes_the_log_back_into_the_file() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let before = fs::metadata(file(&folder)).unwrap().len();
    fill(&ledger, 1_000);
    assert_eq!(fs::metadata(file(&folder)).unwrap().len(), before, "commits write the log only");
    assert!(!ledger.wants_tidying());
    fill(&ledger, 12_000);
    assert!(ledger.wants_tidying());
    ledger.tidy().unwrap();
    assert!(fs::metadata(file(&folder)).unwrap().len() > before);
    assert!(!ledger.wants_tidying());
}

#[test]
fn the_log_starts_again_when_it_was_written_back_while_commits_went_on() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let log = || fs::metadata(folder.path().join("ledger.sqlite-wal")).unwrap().len();
    let holder = ledger.join(1).unwrap();
    let named = |number| LeaseRequest {
        counter: Counter::Named(identity(&format!("s{}", number % 50))),
        ..lease(holder, number / 50)
    };
    let (rounds, commits) = (20u64, 100u64);
    let mut longest = 0;
    for round in 0..rounds {
        std::thread::scope(|scope| {
            let tidying = scope.spawn(|| (0..5).try_for_each(|_| ledger.tidy()));
            for number in 0..commits {
                one(&ledger, named(round * commits + number)).unwrap().unwrap();
            }
            tidying.join().unwrap().unwrap();
        });
        ledger.tidy().unwrap();
        longest = if round == 0 { log() } else { longest };
    }
    assert!(log() < 3 * longest, "{} bytes, {longest} after the first round", log());
    let left = as_killed(&folder);
    assert_eq!(charged(&SqliteLedger::open(left.path()).unwrap()), charged(&ledger));
    // Each of the 50 counters wanted up to this many.
    assert_eq!(charged(&ledger), 50 * ((rounds * commits - 1) / 50));
}

#[test]
fn a_backup_is_a_whole_ledger_of_one_moment_while_others_write() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    fill(&ledger, 500);
    let copies = TempDir::new().unwrap();
    let copy = file(&copies);
    let holder = ledger.join(2).unwrap();
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| sqlite::backup(&file(&folder), &copy));
        let mut want = 0;
        while !copying.is_finished() {
            want += 1;
            // Two leases of one transaction: a copy has both or none.
            let other = LeaseRequest {
                counter: Counter::Named(identity("umbrella")),
                ..lease(holder, want)
            };
            ledger
                .commit(&[Operation::Lease(lease(holder, want)), Operation::Lease(other)])
                .unwrap();
        }
        copying.join().unwrap().unwrap();
    });
    assert_eq!(mode(&copy), 0o600);
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 1, "nothing unfinished is left");
    assert_eq!(mistakes(&copy), Vec::<String>::new());
    let copied = SqliteLedger::open(copies.path()).unwrap();
    assert_eq!(copied.secrets().unwrap(), ledger.secrets().unwrap());
    assert_eq!((charged(&copied) - 1_500) % 2, 0);
    drop(copied);
    assert!(
        sqlite::backup(&file(&folder), &copy).unwrap_err().to_string().contains("exists already")
    );
}

#[test]
fn a_backup_that_cannot_be_written_leaves_nothing() {
    let folder = filled(1);
    let nowhere = folder.path().join("no/such/folder");
    assert!(matches!(sqlite::backup(&file(&folder), &nowhere), Err(LedgerError::Io { .. })));
    assert!(matches!(
        sqlite::backup(&folder.path().join("none"), &folder.path().join("copy")),
        Err(LedgerError::Io { .. })
    ));
    assert!(!folder.path().join("copy").exists());
}

#[test]
fn a_refund_whose_mark_cannot_be_written_is_not_made() {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    let id = one(&ledger, lease(holder, 10)).unwrap().unwrap().counter;
    ledger.refuse_marks(true);
    for _ in 0..2 {
        one(&ledger, settle(holder, 1, &[(id, -1)])).unwrap_err();
        assert_eq!(charged(&ledger), 10, "a retry would refund again");
    }
    ledger.refuse_marks(false);
    assert!(matches!(one(&ledger, settle(holder, 1, &[(id, -1)])).unwrap(), Settled::Done(_)));
    assert_eq!(one(&ledger, settle(holder, 1, &[(id, -1)])).unwrap(), Settled::Duplicate);
    assert_eq!(charged(&ledger), 9);
}

#[test]
fn what_is_no_file_is_told_and_not_waited_for() {
    for name in ["ledger.sqlite", "ledger.sqlite-journal", "ledger.mark", "ledger.lock"] {
        let folder = filled(1);
        let path = folder.path().join(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let told = format!("{}", refusal(&folder));
        assert!(
            told.contains(name) && told.contains("it is a FIFO, and no file of a ledger"),
            "{told}"
        );
        let ledger = file(&folder);
        assert!(matches!(sqlite::check(&ledger), Err(LedgerError::Foreign { .. })), "{name}");
        assert!(
            matches!(sqlite::accept(folder.path()), Err(LedgerError::Foreign { .. })),
            "{name}"
        );
        let copy = folder.path().join("copy");
        assert!(matches!(sqlite::backup(&ledger, &copy), Err(LedgerError::Foreign { .. })));
    }
}
