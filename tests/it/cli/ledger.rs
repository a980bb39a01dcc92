//! `tollgate ledger`, beside a running service.

use std::fs;

use super::Shell;

#[test]
fn a_running_service_is_backed_up_and_the_backup_serves() {
    let mut shell = Shell::start();
    let folder = shell.tollgate().data_dir().to_owned();
    let (data, copy) = (folder.display().to_string(), folder.join("copy").display().to_string());
    assert_eq!(shell.run("subscriber create acme").code, 0);

    let sound = shell.run(&format!("ledger check --data-dir {data}"));
    assert_eq!(
        (sound.code, sound.stdout.trim_end().ends_with("ledger.sqlite is sound")),
        (0, true),
        "{sound:?}"
    );
    let copied = shell.run(&format!("ledger backup {copy} --data-dir {data}"));
    assert_eq!((copied.code, &*copied.stderr), (0, &*format!("tollgate: copied to {copy}\n")));
    assert_eq!(shell.run(&format!("ledger check --file {copy}")).code, 0);
    let again = shell.run(&format!("ledger backup {copy} --data-dir {data}"));
    assert_eq!((again.code, again.stderr.contains("exists already")), (1, true), "{again:?}");

    assert_eq!(shell.run("subscriber create later").code, 0);
    let server = shell.server.as_mut().unwrap();
    server.kill_9();
    for gone in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        fs::remove_file(folder.join(gone)).unwrap();
    }
    fs::rename(&copy, folder.join("ledger.sqlite")).unwrap();
    let check = shell.run(&format!("ledger check --data-dir {data}"));
    assert_eq!(
        (check.code, check.stderr.contains("the ledger has gone back")),
        (2, true),
        "{check:?}"
    );
    let refused = shell
        .run(&format!("serve --grpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 --data-dir {data}"));
    assert_eq!(
        (refused.code, refused.stderr.contains("`tollgate ledger accept`")),
        (2, true),
        "{refused:?}"
    );
    let accepted = shell.run(&format!("ledger accept --data-dir {data}"));
    assert_eq!(
        (accepted.code, accepted.stderr.contains("is taken as it is")),
        (0, true),
        "{accepted:?}"
    );
    let server = shell.server.as_mut().unwrap();
    server.restart();
    shell.addr = shell.tollgate().grpc_addr().to_string();
    assert_eq!(shell.run("subscriber get acme").code, 0);
    assert_eq!(shell.run("subscriber get later").code, 4, "it was made after the backup");
}

#[test]
fn what_is_no_sound_ledger_is_told_with_an_exit_code() {
    let shell = Shell::at("127.0.0.1:1".parse().unwrap());
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ledger.sqlite");
    let check = format!("ledger check --file {}", file.display());
    assert_eq!(shell.run(&check).code, 1, "there is none");
    fs::write(&file, "Dear diary").unwrap();
    let foreign = shell.run(&check);
    assert_eq!(
        (foreign.code, foreign.stderr.contains("is not a ledger of tollgate")),
        (2, true),
        "{foreign:?}"
    );
    let memory = shell.run("ledger check --data-dir :memory:");
    assert_eq!(
        (memory.code, memory.stderr.contains("keeps its ledger in memory")),
        (2, true),
        "{memory:?}"
    );
}

#[test]
fn a_folder_that_is_taken_away_is_told_and_no_edit_is_promised_until_it_is_back() {
    let mut shell = Shell::start();
    let (folder, addr) = (shell.tollgate().data_dir().to_owned(), shell.tollgate().http_addr());
    assert_eq!(shell.run("subscriber create acme").code, 0);
    let away = std::path::PathBuf::from(format!("{}-away", folder.display()));
    fs::rename(&folder, &away).unwrap();
    let edit = shell.run("subscriber create later");
    assert_ne!(edit.code, 0, "{edit:?}");
    assert!(edit.stderr.contains("is not where it was"), "{edit:?}");
    let health = || crate::http::get("/healthcheck").send(addr).unwrap().text();
    while !health().contains("is not where it was") {}
    assert!(shell.tollgate().log().contains("ERROR"), "{}", shell.tollgate().log());
    let data = folder.display().to_string();
    let none = shell.run(&format!(
        "serve --grpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 --data-dir {data} --config {}",
        must_exist(&away)
    ));
    assert_eq!((none.code, none.stderr.contains("`ledger.must_exist`")), (1, true), "{none:?}");
    fs::rename(&away, &folder).unwrap();
    while health() != "OK" {}
    assert_eq!(shell.run("subscriber create later").code, 0);
    let server = shell.server.as_mut().unwrap();
    server.terminate();
    server.restart();
    assert_eq!(shell.run("subscriber get later").code, 0);
}

/// Settings that want a ledger.
fn must_exist(folder: &std::path::Path) -> String {
    let file = folder.join("settings.yaml");
    fs::write(&file, "ledger: {must_exist: true}").unwrap();
    file.display().to_string()
}

#[test]
fn a_folder_without_a_ledger_gets_one_and_is_told() {
    let mut shell = Shell::start();
    let log = shell.tollgate().log();
    assert!(log.contains("a new, empty ledger was made") && log.contains("ledger.sqlite"), "{log}");
    let server = shell.server.as_mut().unwrap();
    server.terminate();
    server.restart();
    let log = shell.tollgate().log();
    assert!(!log.contains("a new, empty ledger"), "{log}");
}
