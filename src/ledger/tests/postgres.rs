//! What only a ledger in PostgreSQL does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::ledger::postgres::{self, GONE_AFTER_S, Promise};

#[path = "../../../tests/fixtures/postgres.rs"]
#[allow(unreachable_pub)]
pub(super) mod server;

use server::Postgres;

/// One server for all tests. It ends with the process.
fn shared() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    // Nothing here pulls the plug, so nothing has to be on the disk.
    SERVER.get_or_init(|| Postgres::start(&["fsync=off", "max_connections=300"]))
}

fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("books{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn at(url: String) -> PostgresSettings {
    PostgresSettings { url, ..PostgresSettings::default() }
}

/// A new database.
pub(super) fn database() -> PostgresSettings {
    at(shared().database(&new_name()))
}

fn open(settings: &PostgresSettings) -> PostgresLedger {
    PostgresLedger::open(settings, 0).unwrap()
}

#[test]
fn everything_is_there_after_a_start() {
    let bench = Bench::postgres();
    let holder = bench.join(1);
    let first = bench.one(lease(holder, 10)).unwrap();
    assert_eq!(
        bench.one(settle(holder, 70_000, &[(first.counter, -1)])),
        Settled::Done(vec![Some(Balance { charged: 9, granted: 0, others: 10 })])
    );
    let secrets = bench.ledger.secrets().unwrap();
    let bench = bench.reopened();
    assert_eq!(bench.ledger.secrets().unwrap(), secrets);
    assert_eq!(bench.join(1).epoch, 2);
    assert_eq!(bench.one(settle(holder, 70_000, &[(first.counter, -1)])), Settled::Duplicate);
    assert_eq!((bench.row().charged, bench.row().lost), (9, 10));
}

#[test]
fn epochs_are_never_less_than_is_said() {
    let database = database();
    let ledger = PostgresLedger::open(&database, 1_000).unwrap();
    let epochs = [7, 7, 8].map(|id| ledger.join(id).unwrap().epoch);
    assert_eq!(epochs, [1_000, 1_001, 1_000]);
    drop(ledger);
    assert_eq!(PostgresLedger::open(&database, 500).unwrap().join(7).unwrap().epoch, 1_002);
    assert_eq!(PostgresLedger::open(&database, 2_000).unwrap().join(7).unwrap().epoch, 2_000);
}

/// Two processes of one name: the second goes on, and the first is told.
#[test]
fn a_second_process_of_one_name_ends_the_first() {
    let database = database();
    let first = open(&database);
    let id = first.enter("a").unwrap();
    let one_epoch = first.join(id).unwrap();
    assert_eq!(one(&first, lease(one_epoch, 10)).unwrap().unwrap().leased, 10);
    let second = open(&database);
    assert_eq!(second.enter("a").unwrap(), id, "the same number");
    let other_epoch = second.join(id).unwrap();
    assert_eq!(one(&second, lease(other_epoch, 90)).unwrap().unwrap().leased, 90);
    let fenced = one(&first, lease(one_epoch, 20)).unwrap_err();
    assert_eq!(fenced, LedgerError::Fenced { node: "a".to_owned() });
    assert_eq!((first.ended(), second.ended()), (Some(fenced.clone()), None));
    assert_eq!(first.concern(), Some(fenced.to_string()));
    // The end of the first is not taken for the end of the second.
    drop(first);
    let third = open(&database);
    assert!(matches!(third.enter("b"), Err(LedgerError::OtherNode { node, .. }) if node == "a"));
    assert_eq!(one(&second, lease(other_epoch, 100)).unwrap().unwrap().leased, 90);
}

/// The engine for several nodes is not there yet: a second one is refused while the first is heard.
#[test]
fn another_node_is_refused_until_the_first_has_stopped_or_is_gone() {
    let database = database();
    let first = open(&database);
    let id = first.enter("a").unwrap();
    first.join(id).unwrap();
    let second = open(&database);
    let refused = second.enter("b").unwrap_err();
    assert!(refused.to_string().contains("the node `a`"), "{refused}");
    // A clean stop is told.
    drop(first);
    let second_id = second.enter("b").unwrap();
    assert_ne!(second_id, id);
    second.join(second_id).unwrap();
    // One that was killed tells nothing, and counts as gone an instant after its time.
    let name = database.url.rsplit_once('/').unwrap().1.split('?').next().unwrap();
    let heard = |seconds: u64| {
        let sql = format!(
            "UPDATE tollgate.heartbeats SET heard = clock_timestamp() - interval '{seconds} s'
            WHERE holder = {second_id}"
        );
        shared().sql(name, &sql);
    };
    second.pretend_killed();
    let third = open(&database);
    heard(GONE_AFTER_S - 1);
    assert!(third.enter("c").is_err());
    heard(GONE_AFTER_S);
    third.enter("c").unwrap();
}

/// It may live, and only its heartbeat may have failed.
#[test]
fn a_node_that_counted_as_gone_is_ended_when_another_takes_over() {
    let name = new_name();
    let database = at(shared().database(&name));
    let first = open(&database);
    let id = first.enter("a").unwrap();
    let holder = first.join(id).unwrap();
    assert_eq!(one(&first, lease(holder, 10)).unwrap().unwrap().leased, 10);
    // As old as after a silence; its own next heartbeat would make it new again.
    let second = open(&database);
    let sql = format!(
        "UPDATE tollgate.heartbeats SET heard = clock_timestamp() - interval '{GONE_AFTER_S} s'"
    );
    let entered = (0..200).find_map(|_| {
        shared().sql(&name, &sql);
        second.enter("b").ok()
    });
    let second_id = entered.expect("it enters between two heartbeats");
    second.join(second_id).unwrap();
    let told = one(&first, lease(holder, 20)).unwrap_err();
    assert_eq!(told, LedgerError::Fenced { node: "a".to_owned() });
}

#[test]
fn names_hold_any_letters() {
    let bench = Bench::postgres();
    let holder = bench.join(1);
    let names = ["a\0b", "a\\b", "a\\0b", "é\u{10ffff}", "'; DROP SCHEMA tollgate CASCADE; --"];
    for name in names {
        let request = LeaseRequest { counter: Counter::Named(identity(name)), ..lease(holder, 1) };
        assert_eq!(bench.one(request.clone()).unwrap().leased, 1, "{name:?}");
        assert_eq!(bench.one(request).unwrap().leased, 1, "{name:?}");
        let row = bench.ledger.usage(&Scope::Subscriber(name.into()), 0, u64::MAX).unwrap();
        assert_eq!((row.len(), &*row[0].identity.subscriber), (1, name));
    }
    assert_eq!(bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap().len(), names.len());
}

/// Two processes work on the same counters, marks and new rows at once: each is done once, and no
/// more is leased than there is.
#[test]
fn two_processes_at_once_do_everything_once() {
    let database = database();
    let (one_ledger, other) = (open(&database), open(&database));
    let ledgers = [&one_ledger, &other];
    let holders = [one_ledger.join(1).unwrap(), other.join(2).unwrap()];
    let counter = |number: u64| Counter::Named(identity(&format!("s{number}")));
    let mut ids = Vec::new();
    for round in 0..5u64 {
        let period =
            Period::of_seconds(DAY.start_s() + round * 86_400, DAY.end_s() + round * 86_400);
        let leases: Vec<Vec<Lease>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|place| {
                    let (ledger, holder) = (ledgers[place], holders[place]);
                    scope.spawn(move || {
                        // In opposite orders.
                        let numbers: Vec<u64> =
                            if place == 0 { (0..20).collect() } else { (0..20).rev().collect() };
                        let operations: Vec<_> = numbers
                            .iter()
                            .map(|number| LeaseRequest {
                                counter: counter(round * 10 + number),
                                period,
                                ..lease(holder, 60)
                            })
                            .map(Operation::Lease)
                            .collect();
                        let answers = ledger.commit(&operations).unwrap();
                        let mut leases: Vec<_> = answers
                            .into_iter()
                            .map(|answer| match answer {
                                Answer::Lease(lease) => lease.unwrap(),
                                other => panic!("{other:?}"),
                            })
                            .collect();
                        if place == 1 {
                            leases.reverse();
                        }
                        leases
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (one, other) in leases[0].iter().zip(&leases[1]) {
            assert_eq!(one.counter, other.counter);
            assert_eq!(one.leased + other.leased, 100, "{one:?} {other:?}");
        }
        ids.extend(leases[0].iter().map(|lease| lease.counter));
    }
    let done: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = ledgers
            .iter()
            .map(|ledger| {
                let (ids, holder) = (&ids, holders[0]);
                scope.spawn(move || {
                    let settled = (0..200u16).map(|seq| {
                        let delta = [(ids[usize::from(seq) % ids.len()], -1)];
                        one(*ledger, settle(holder, seq.into(), &delta)).unwrap()
                    });
                    settled.filter(|settled| matches!(settled, Settled::Done(_))).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(done, 200, "each receipt is settled by one of both");
}

#[test]
fn a_role_without_rights_runs_on_tables_that_another_has_made() {
    let name = new_name();
    let owner = at(shared().database(&name));
    let missing = PostgresSettings { must_exist: true, ..owner.clone() };
    assert!(matches!(PostgresLedger::open(&missing, 0), Err(LedgerError::Missing(_))));
    shared().sql(&name, "CREATE ROLE clerk LOGIN; REVOKE CREATE ON DATABASE postgres FROM PUBLIC");
    let clerk = at(owner.url.replace("tollgate@", "clerk@"));
    let refused = PostgresLedger::open(&clerk, 0).unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Denied { what, .. } if what.contains("tollgate ledger migrate")),
        "{refused}"
    );
    assert_eq!(postgres::migrate(&owner).unwrap(), (0, 1));
    assert_eq!(postgres::migrate(&owner).unwrap(), (1, 1), "a second time it changes nothing");
    shared().sql(
        &name,
        "GRANT USAGE ON SCHEMA tollgate TO clerk;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tollgate TO clerk;
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA tollgate TO clerk",
    );
    let ledger = open(&clerk);
    let id = ledger.enter("a").unwrap();
    let holder = ledger.join(id).unwrap();
    assert_eq!(one(&ledger, lease(holder, 10)).unwrap().unwrap().leased, 10);
    assert!(!one(&ledger, Expire::default()).unwrap().more);
}

#[test]
fn tables_of_a_newer_program_are_refused() {
    let name = new_name();
    let settings = at(shared().database(&name));
    drop(open(&settings));
    shared().sql(&name, "INSERT INTO tollgate.version VALUES (99)");
    let refused = PostgresLedger::open(&settings, 0).unwrap_err();
    assert!(matches!(refused, LedgerError::Newer { found: 99, known: 1, .. }), "{refused}");
}

#[test]
fn what_cannot_be_used_is_told() {
    let name = new_name();
    shared()
        .sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1'"));
    let told = PostgresLedger::open(&at(shared().url(&name)), 0).unwrap_err().to_string();
    assert!(told.contains("LATIN1") && told.contains("UTF8"), "{told}");
    let told = PostgresLedger::open(&at(shared().url("nowhere")), 0).unwrap_err();
    assert!(
        matches!(&told, LedgerError::Denied { what, .. } if what.contains("nowhere")),
        "{told}"
    );
    let nobody = at("postgres://me@127.0.0.1:1/books?sslmode=disable".to_owned());
    let told = PostgresLedger::open(&nobody, 0).unwrap_err();
    assert!(
        matches!(&told, LedgerError::Away { place, .. } if place == "postgres://127.0.0.1:1/books"),
        "{told}"
    );
}

#[test]
fn a_server_that_may_forget_says_so() {
    // The shared one does not write to the disk.
    let ledger = open(&database());
    assert_eq!(ledger.promise(), Some(Promise::Lossy));
    assert!(ledger.concern().unwrap().contains("lossy"));
}

#[test]
fn a_row_that_cannot_be_read_fails_the_operation_that_needs_it_and_no_other() {
    let name = new_name();
    let ledger = open(&at(shared().database(&name)));
    let holder = ledger.join(1).unwrap();
    let counter = one(&ledger, lease(holder, 9)).unwrap().unwrap().counter;
    one(&ledger, settle(holder, 1, &[(counter, -1)])).unwrap();
    shared().sql(&name, "UPDATE tollgate.marks SET bits = 'nonsense'");
    let operations = [
        Operation::Lease(lease(holder, 10)),
        Operation::Settle(settle(holder, 2, &[(counter, -1)])),
        Operation::Lease(lease(holder, 11)),
    ];
    let done = ledger.commit_each(&operations);
    assert!(matches!(done[1], Err(LedgerError::Row { .. })), "{:?}", done[1]);
    assert!(done[0].is_ok() && done[2].is_ok());
    let row = ledger.usage(&Scope::All, 0, u64::MAX).unwrap().remove(0);
    assert_eq!(row.charged, 11 - 1);
}

/// A number is of a rule from the commit on, and not before.
#[test]
fn a_count_rule_of_a_transaction_that_failed_is_written_by_the_next() {
    let name = new_name();
    let ledger = open(&at(shared().database(&name)));
    let holder = ledger.join(1).unwrap();
    let with =
        |rule: u64| LeaseRequest { count_rule: CountRule::of_bits([rule; 8]), ..lease(holder, 10) };
    one(&ledger, with(1)).unwrap().unwrap();
    shared().sql(
        &name,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN RAISE EXCEPTION ''as the test wants it''; END';
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON tollgate.count_rules
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    one(&ledger, with(2)).unwrap_err();
    shared().sql(&name, "DROP TRIGGER refuse ON tollgate.count_rules");
    one(&ledger, with(2)).unwrap().unwrap();
    let kept: Vec<_> = ledger.load_count_rules().unwrap();
    let bits: Vec<_> = kept.iter().map(|(_, rule)| rule.bits()[0]).collect();
    assert_eq!(bits, [1, 2]);
    // A number that is missing between two is no hindrance.
    shared().sql(&name, "UPDATE tollgate.count_rules SET id = id + 5");
    drop(ledger);
    let ledger = open(&at(shared().url(&name)));
    let holder = ledger.join(1).unwrap();
    let third = LeaseRequest { count_rule: CountRule::of_bits([3; 8]), ..lease(holder, 10) };
    one(&ledger, third).unwrap().unwrap();
    assert_eq!(ledger.load_count_rules().unwrap().len(), 3);
}
