//! Who is believed to be the database, and what a success is worth.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::postgres::server::Postgres;
use super::*;

fn at(url: String, ca: Option<&std::path::Path>) -> PostgresSettings {
    PostgresSettings { url, ca: ca.map(Into::into), ..PostgresSettings::default() }
}

#[test]
fn a_server_is_believed_as_far_as_sslmode_says() {
    let server = Postgres::start(&["fsync=off"]);
    server.database("books");
    let made = |name: &str| generate_simple_self_signed([name.to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = made("localhost");
    server.place("server.crt", &cert.pem());
    server.place("server.key", &signing_key.serialize_pem());
    server.set("ssl = on");
    server.set_access("hostssl books all all trust\nhost postgres all all trust\n");
    let folder = TempDir::new().unwrap();
    let (right, wrong) = (folder.path().join("right.pem"), folder.path().join("wrong.pem"));
    std::fs::write(&right, cert.pem()).unwrap();
    std::fs::write(&wrong, made("localhost").cert.pem()).unwrap();
    let url = |host: &str, mode: &str| {
        format!("postgres://tollgate@{host}:{}/books?sslmode={mode}", server.port())
    };
    for (host, mode, ca) in [
        ("localhost", "verify-full", Some(&*right)),
        ("localhost", "require", Some(&*right)),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "prefer", None),
    ] {
        let ledger = PostgresLedger::open(&at(url(host, mode), ca), 0);
        assert!(ledger.is_ok(), "{host} {mode}: {ledger:?}");
    }
    for (host, mode, ca, word) in [
        ("localhost", "verify-full", Some(&*wrong), "certificate"),
        ("localhost", "require", Some(&*wrong), "certificate"),
        ("127.0.0.1", "verify-full", Some(&*right), "certificate"),
        ("127.0.0.1", "disable", None, "no encryption"),
    ] {
        let refused = PostgresLedger::open(&at(url(host, mode), ca), 0).unwrap_err();
        assert!(refused.to_string().contains(word), "{host} {mode}: {refused}");
    }
}

/// PostgreSQL reports success where somebody ends the wait for a standby. It is none: the standby
/// has not got it.
#[test]
fn a_cancelled_wait_for_the_standby_is_no_success() {
    let server = Postgres::start(&["fsync=off"]);
    let ledger = PostgresLedger::open(&at(server.database("books"), None), 0).unwrap();
    let holder = ledger.join(1).unwrap();
    assert_eq!(one(&ledger, lease(holder, 10)).unwrap().unwrap().leased, 10);
    server.set("synchronous_standby_names = 'nobody'");
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'books'";
    std::thread::scope(|scope| {
        let done = scope.spawn(|| one(&ledger, lease(holder, 20)));
        let pid = loop {
            if let Some(pid) = server.ask("postgres", waiting) {
                break pid;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        server.sql("postgres", &format!("SELECT pg_cancel_backend({pid})"));
        let told = done.join().unwrap().unwrap_err();
        assert!(told.to_string().contains("is not known"), "{told}");
    });
    server.set("synchronous_standby_names = ''");
    // It was kept, and a repeat changes nothing.
    let again = one(&ledger, lease(holder, 20)).unwrap().unwrap();
    assert_eq!((again.leased, again.balance.charged), (20, 20));
}
