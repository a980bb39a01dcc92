//! Bits that were turned: never served as another number, and never in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

const COUNTERS: u64 = 24;
/// How many files with a turned bit are tried. Each is another place.
const FLIPS: usize = 250;

/// A ledger with something in every table, closed.
fn filled() -> TempDir {
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    for number in 0..COUNTERS {
        let lease =
            one(&ledger, LeaseRequest { counter: named(number), ..lease(holder, number + 3) })
                .unwrap()
                .unwrap();
        one(&ledger, settle(holder, number * 70_000, &[(lease.counter, -1)])).unwrap();
    }
    let changes = (0..COUNTERS).map(|number| CatalogChange {
        kind: 3,
        id: format!("sub{number:02}").into(),
        value: Some(value(number)),
    });
    one(&ledger, CatalogEdit { expected: 0, revision: 1, changes: changes.collect(), once: None })
        .unwrap()
        .unwrap();
    let name =
        |number| NumberedName { kind: NameKind::Key, number, name: format!("key-{number}").into() };
    one(&ledger, NameReport { holder, names: (0..9).map(name).collect() }).unwrap();
    let window = |number: u8| WindowRow {
        fingerprint: [number; 16],
        end_s: NOON + 3600,
        count: u64::from(number) + 5,
    };
    one(&ledger, WindowReport { holder, rows: (0..9).map(window).collect() }).unwrap();
    let day = |number| {
        let key = DailyKey {
            day: 1,
            subscriber: format!("sub{number:02}").into(),
            key: "k".into(),
            plan: "gold".into(),
            entitlement: "all".into(),
            target: "t".into(),
        };
        DailyChange {
            number,
            name: DailyName::Told(key),
            counts: DailyCounts { admitted: number + 1, refused: vec![2], responses: vec![] },
        }
    };
    one(&ledger, DailyReport { holder, rows: (0..9).map(day).collect() }).unwrap();
    ledger.tidy().unwrap();
    folder
}

fn named(number: u64) -> Counter {
    Counter::Named(identity(&format!("subscriber-{number:02}")))
}

fn value(number: u64) -> Vec<u8> {
    format!("a subscriber as the catalog writes it, number {number}").into_bytes()
}

/// What is served, each thing under a name of its own, and what was answered by an error, which is
/// in health.
#[derive(Debug, Default, PartialEq)]
struct Served {
    found: BTreeMap<String, String>,
    errors: Vec<LedgerError>,
}

impl Served {
    fn put(&mut self, name: String, value: &impl std::fmt::Debug) {
        self.found.insert(name, format!("{value:?}"));
    }

    fn or_error<T>(&mut self, answer: Result<T, LedgerError>) -> Option<T> {
        answer.map_err(|wrong| self.errors.push(wrong)).ok()
    }
}

fn served(ledger: &dyn Ledger) -> Served {
    let mut all = Served::default();
    let secrets = ledger.secrets().unwrap();
    all.put("secrets".to_owned(), &(secrets.receipt_key, secrets.key_hash, secrets.fingerprint));
    let catalog = all.or_error(ledger.load_catalog()).unwrap_or_default();
    all.put("revision".to_owned(), &catalog.revision);
    catalog
        .resources
        .iter()
        .for_each(|row| all.put(format!("resource {} {}", row.kind, row.id), &row.value));
    let mut rows = BTreeMap::new();
    let mut put = |name, value: &dyn std::fmt::Debug| drop(rows.insert(name, format!("{value:?}")));
    let live =
        ledger.load_live(0, &mut |row| put(format!("live {}", row.identity.subscriber), &row));
    let names = ledger.load_names(99, &mut |holder, name| {
        put(format!("name {holder:?} {}", name.number), &name.name)
    });
    let windows =
        ledger.load_windows(1, 0, &mut |row| put(format!("window {:?}", row.fingerprint), &row));
    all.found.append(&mut rows);
    for list in [live, names, windows] {
        all.or_error(list);
    }
    for number in 0..9 {
        if let Some(days) =
            all.or_error(ledger.daily(&Scope::Subscriber(format!("sub{number:02}").into()), 0, 9))
        {
            all.put(format!("days of {number}"), &days);
        }
    }
    // From here on it is written to.
    if let Some(holder) = all.or_error(ledger.join(1)) {
        all.put("epoch".to_owned(), &holder.epoch);
    }
    // A lease of nothing, and a report that came before.
    let holder = Holder { id: 1, epoch: 1 };
    for number in 0..COUNTERS {
        let lease = one(ledger, LeaseRequest { counter: named(number), ..lease(holder, 0) });
        if let Some(lease) = all.or_error(lease) {
            all.put(format!("lease of {number}"), &lease);
            let settled =
                one(ledger, settle(holder, number * 70_000, &[(lease.unwrap().counter, -1)]));
            if let Some(settled) = all.or_error(settled) {
                all.put(format!("report of {number}"), &settled);
            }
        }
    }
    all
}

/// An answer without what it says of shares.
fn without_shares(answer: &str) -> String {
    ["leased: ", "spent: ", "others: ", "lost: ", "held: "].iter().fold(
        answer.to_owned(),
        |answer, name| match answer.split_once(name) {
            Some((before, after)) => format!(
                "{before}{}",
                after.trim_start_matches(|digit: char| digit.is_ascii_digit())
            ),
            None => answer,
        },
    )
}

fn copied(from: &Path, turned: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(from.join("ledger.mark"), folder.path().join("ledger.mark")).unwrap();
    fs::write(folder.path().join(sqlite::FILE), turned).unwrap();
    folder
}

#[test]
fn a_turned_bit_is_never_served_as_something_else() {
    let folder = filled();
    let bytes = fs::read(folder.path().join(sqlite::FILE)).unwrap();
    let truth = {
        let folder = copied(folder.path(), &bytes);
        served(&SqliteLedger::open(folder.path()).unwrap())
    };
    assert_eq!(truth.errors, []);
    assert_eq!(
        truth.found.iter().filter(|(name, _)| name.starts_with("lease")).count(),
        usize::try_from(COUNTERS).unwrap()
    );
    let written: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
    // The text of the schema is most of so small a file. What it holds is tried more often.
    let is_schema = |page: &[u8]| page.windows(7).any(|text| text == b"CREATE ");
    let schema: Vec<bool> = bytes.chunks(4096).map(is_schema).collect();
    let rows: Vec<usize> = written.iter().copied().filter(|place| !schema[place / 4096]).collect();
    let (mut refused, mut differed, mut noticed) = (0, 0, 0);
    for flip in 0..FLIPS {
        // Spread over all that is written, by a step that meets every bit of a byte.
        let places = if flip % 4 == 0 { &written } else { &rows };
        let place = places[flip * 7_919 % places.len()];
        let mut turned = bytes.clone();
        turned[place] ^= 1 << (flip % 8);
        let folder = copied(folder.path(), &turned);
        let at = format!("flip {flip}: byte {place}, bit {}", flip % 8);
        let is_sound = sqlite::check(&folder.path().join(sqlite::FILE))
            .is_ok_and(|found| found.mistakes.is_empty());
        let ledger = match SqliteLedger::open(folder.path()) {
            Ok(ledger) => ledger,
            Err(wrong) => {
                assert!(!is_sound, "{at}: the check says sound, the start says {wrong}");
                refused += 1;
                continue;
            }
        };
        let found = served(&ledger);
        let lost_share = ledger.concern().is_some_and(|said| said.contains("the table shares"));
        for (name, value) in &found.found {
            // A revision that cannot be read ends a start.
            let is_shown = name != "revision" || found.errors.is_empty();
            // A share that goes under another name is taken for none: it is charged again, and
            // nothing is spent twice.
            let is_charged = || {
                lost_share
                    && truth.found.get(name).map(|told| without_shares(told))
                        == Some(without_shares(value))
            };
            let is_same = truth.found.get(name) == Some(value) || is_charged();
            assert!(!is_shown || is_same, "{at}: {name} is another: {value}");
        }
        if found != truth {
            differed += 1;
            assert!(!is_sound, "{at}: the check says sound");
            let missing: Vec<_> =
                truth.found.keys().filter(|name| !found.found.contains_key(*name)).collect();
            assert!(
                ledger.concern().is_some() || !found.errors.is_empty(),
                "{at}: nothing is said of {missing:?}"
            );
        }
        noticed += usize::from(!is_sound);
    }
    assert!(
        refused > 5 && differed > 20 && noticed > 20,
        "{refused} refused, {differed} differed, {noticed} noticed"
    );
}

/// Turns a bit of a value, which is somewhere in the file.
fn turn(folder: &TempDir, value: &[u8], bit: u8) {
    let path = folder.path().join(sqlite::FILE);
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - value.len()).filter(|place| bytes[*place..].starts_with(value)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place + value.len() - 1] ^= bit;
    }
    fs::write(path, bytes).unwrap();
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join(sqlite::FILE)
}

fn damage(folder: &TempDir, sql: &str) {
    assert_eq!(
        rusqlite::Connection::open(file(folder)).unwrap().execute(sql, []).unwrap(),
        1,
        "{sql}"
    );
}

#[test]
fn a_damaged_customer_keeps_nobody_else_down_and_is_mended_by_being_declared_again() {
    let folder = filled();
    turn(&folder, &value(7), 4);
    let found = sqlite::check(&file(&folder)).unwrap();
    assert_eq!(
        found.mistakes,
        [
            "the row (subscriber `sub07`) of the table catalog is not as it was written (its checksum is wrong)"
        ]
    );
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let image = ledger.load_catalog().unwrap();
    let ids: BTreeSet<&str> = image.resources.iter().map(|resource| &*resource.id).collect();
    assert_eq!((ids.len(), ids.contains("sub07")), (23, false));
    assert_eq!(image.damaged, [(3, "sub07".into())]);
    let said = ledger.concern().unwrap();
    assert!(
        said.contains("the row (subscriber `sub07`) of the table catalog")
            && said.contains("tollgate ledger check"),
        "{said}"
    );
    assert_eq!(ledger.damaged_rows(), 1);
    let again = CatalogChange { kind: 3, id: "sub07".into(), value: Some(value(7)) };
    one(&ledger, CatalogEdit { expected: 1, revision: 2, changes: vec![again], once: None })
        .unwrap()
        .unwrap();
    assert_eq!((ledger.concern(), ledger.damaged_rows()), (None, 0));
    assert_eq!(ledger.load_catalog().unwrap().resources.len(), 24);
    drop(ledger);
    assert_eq!(sqlite::check(&file(&folder)).unwrap().mistakes, Vec::<String>::new());
}

#[test]
fn a_damaged_count_is_refused_and_others_go_on() {
    for sql in [
        "UPDATE periods SET charged = 0 WHERE counter = 3",
        "UPDATE periods SET granted = 1000 WHERE counter = 3",
        "UPDATE shares SET spent = 1 WHERE counter = 3",
        "UPDATE counters SET limit_revision = 0 WHERE id = 3",
    ] {
        let folder = filled();
        damage(&folder, sql);
        let ledger = SqliteLedger::open(folder.path()).unwrap();
        let mut live = 0;
        let visit = &mut |row: PeriodRow| {
            assert_ne!(row.counter, CounterId(3), "{sql}");
            live += 1;
        };
        ledger.load_live(0, visit).unwrap();
        assert_eq!(live, COUNTERS - 1, "{sql}");
        assert!(ledger.concern().is_some(), "{sql}");
        let holder = ledger.join(1).unwrap();
        let ask =
            |number| one(&ledger, LeaseRequest { counter: named(number), ..lease(holder, 1) });
        let refused = ask(2).unwrap_err();
        assert!(
            matches!(&refused, LedgerError::Row { what, .. } if what.contains("is not as it was written")),
            "{sql}: {refused}"
        );
        assert_eq!(ask(4).unwrap().unwrap().leased, 1, "{sql}");
        let subscriber = |number| {
            ledger.usage(&Scope::Subscriber(format!("subscriber-{number:02}").into()), 0, u64::MAX)
        };
        assert!(
            subscriber(2).is_err() && subscriber(4).is_ok(),
            "{sql}: nothing is left out of a list without a word"
        );
        // The books of all others are shown.
        let of_plan = ledger.usage(&Scope::Plan("gold".into()), 0, u64::MAX).unwrap();
        for all in [of_plan, ledger.usage(&Scope::All, 0, u64::MAX).unwrap()] {
            assert_eq!(all.len() as u64, COUNTERS - 1, "{sql}");
            assert!(all.iter().all(|row| row.counter != CounterId(3)), "{sql}");
        }
    }
}

#[test]
fn damaged_statistics_hide_those_of_nobody_else() {
    let shown = |sql: &str| {
        let folder = filled();
        damage(&folder, sql);
        let ledger = SqliteLedger::open(folder.path()).unwrap();
        let days = ledger.daily(&Scope::All, 0, 9).unwrap().len();
        assert_eq!(ledger.concern().is_some(), days < 9, "{sql}");
        let of_one = |id: &str| ledger.daily(&Scope::Subscriber(id.into()), 0, 9).is_ok();
        (days, of_one("sub03"), of_one("sub04"))
    };
    assert_eq!(
        shown("UPDATE daily_names SET target = 'u' WHERE number = 3"),
        (8, false, true),
        "and who asks for that one is told"
    );
    assert_eq!(shown("UPDATE daily_pages SET admitted = x'00'"), (0, false, false));
}

/// Does something to the rows of periods that their index does not see.
fn behind_the_index(folder: &TempDir, sql: &str) {
    let open = || rusqlite::Connection::open(file(folder)).unwrap();
    let find = "SELECT rootpage, sql FROM sqlite_schema WHERE name = 'periods_by_end'";
    let (page, made): (i64, String) =
        open().query_row(find, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    open()
        .execute_batch(
            "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'periods_by_end'",
        )
        .unwrap();
    damage(folder, sql);
    let again = format!(
        "PRAGMA writable_schema = ON;
         INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('index', 'periods_by_end', 'periods', {page}, '{made}')"
    );
    open().execute_batch(&again).unwrap();
}

#[test]
fn a_count_that_goes_under_another_name_is_not_begun_again_from_zero() {
    let folder = filled();
    behind_the_index(&folder, "UPDATE periods SET counter = 1003 WHERE counter = 3");
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    let ask = |number| one(&ledger, LeaseRequest { counter: named(number), ..lease(holder, 1) });
    let refused = ask(2).unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Row { what, .. } if what.contains("(counter 3, start_s 86400)")),
        "{refused}"
    );
    assert_eq!(ask(4).unwrap().unwrap().leased, 1);
    // One that never was there is begun.
    assert_eq!(ask(99).unwrap().unwrap().balance.charged, 1);
}

#[test]
fn a_ledger_that_lacks_rows_is_not_served() {
    let folder = filled();
    behind_the_index(&folder, "DELETE FROM periods WHERE counter = 3");
    let wrong = SqliteLedger::open(folder.path()).unwrap_err();
    assert!(
        matches!(&wrong, LedgerError::Damaged { what, .. } if what.contains("wrong # of entries in index periods_by_end")),
        "{wrong}"
    );
}

#[test]
fn a_number_that_goes_under_another_name_is_not_taken_to_be_missing() {
    let folder = filled();
    damage(&folder, "UPDATE numbers SET name = 'catalog_revisioN' WHERE name = 'catalog_revision'");
    damage(&folder, "UPDATE holders SET id = 2 WHERE id = 1");
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    assert!(matches!(ledger.load_catalog(), Err(LedgerError::Row { .. })), "not revision 0");
    assert!(matches!(ledger.join(1), Err(LedgerError::Row { .. })), "not the first epoch");
}

#[test]
fn a_number_that_all_need_is_not_taken_for_another() {
    let folder = filled();
    damage(&folder, "UPDATE numbers SET value = value + 1 WHERE name = 'catalog_revision'");
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    assert!(matches!(ledger.load_catalog(), Err(LedgerError::Row { .. })));
    let folder = filled();
    damage(&folder, "UPDATE secrets SET key_hash = receipt_key");
    let wrong = SqliteLedger::open(folder.path()).unwrap_err();
    assert!(wrong.to_string().contains("table secrets"), "{wrong}");
    let folder = filled();
    damage(&folder, "UPDATE holders SET epoch = 0");
    assert!(SqliteLedger::open(folder.path()).unwrap().join(1).is_err());
}

#[test]
fn an_index_that_lacks_a_sound_row_is_made_again() {
    let folder = filled();
    // A row comes, and one goes: as many as before.
    behind_the_index(&folder, "UPDATE periods SET end_s = end_s + 1 WHERE counter = 3");
    let sql = sqlite::check(&file(&folder)).unwrap().mistakes;
    assert!(sql.iter().any(|line| line.contains("missing from index periods_by_end")), "{sql:?}");
    // While the row itself may be what is wrong, the index stays as it is.
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    assert!(
        one(&ledger, LeaseRequest { counter: named(2), ..lease(Holder { id: 1, epoch: 1 }, 1) })
            .is_err()
    );
    drop(ledger);
    behind_the_index(&folder, "UPDATE periods SET end_s = end_s - 1 WHERE counter = 3");
    assert_eq!(sqlite::check(&file(&folder)).unwrap().mistakes, Vec::<String>::new());
    // An index of other rows, under sound rows.
    let open = || rusqlite::Connection::open(file(&folder)).unwrap();
    open()
        .execute_batch(
            "CREATE INDEX other ON periods (start_s); PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX other ON periods (end_s)' WHERE name = 'other'",
        )
        .unwrap();
    let broken = sqlite::check(&file(&folder)).unwrap().mistakes;
    assert!(broken.iter().any(|line| line.contains("missing from index other")), "{broken:?}");
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    assert_eq!(ledger.concern(), None);
    drop(ledger);
    assert_eq!(sqlite::check(&file(&folder)).unwrap().mistakes, Vec::<String>::new());
}

/// Two threads read at once, where there are so many.
#[test]
fn a_start_reads_each_running_period_once_but_the_damaged_ones_in_both_halves() {
    const COUNTERS: u64 = 3_000;
    let folder = TempDir::new().unwrap();
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let holder = ledger.join(1).unwrap();
    let asked = (1..=COUNTERS).map(|number| {
        let counter = Counter::Named(identity(&format!("subscriber-{number}")));
        Operation::Lease(LeaseRequest { counter, ..lease(holder, 3) })
    });
    ledger.commit(&asked.collect::<Vec<_>>()).unwrap();
    drop(ledger);
    for counter in [3, 2_990] {
        damage(&folder, &format!("UPDATE periods SET charged = 0 WHERE counter = {counter}"));
    }
    let ledger = SqliteLedger::open(folder.path()).unwrap();
    let mut found = Vec::new();
    ledger.load_live(0, &mut |row| found.push((row.counter.0, row.held + row.lost))).unwrap();
    found.sort_unstable();
    let sound = (1..=COUNTERS).filter(|number| ![3, 2_990].contains(number));
    assert_eq!(found.len(), sound.clone().count());
    assert!(found.into_iter().eq(sound.map(|number| (number, 3))));
    assert!(ledger.concern().is_some());
}
