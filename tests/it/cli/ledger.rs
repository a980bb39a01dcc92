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
    assert_eq!((sound.code, sound.stdout.trim_end().ends_with("ledger.sqlite is sound")), (0, true), "{sound:?}");
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
    assert_eq!((foreign.code, foreign.stderr.contains("is not a ledger of tollgate")), (2, true), "{foreign:?}");
    let memory = shell.run("ledger check --data-dir :memory:");
    assert_eq!((memory.code, memory.stderr.contains("keeps its ledger in memory")), (2, true), "{memory:?}");
}
