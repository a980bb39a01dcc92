//! What an operator reads in the log at its default level.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::patience::until;
use crate::server::{ANY_PORT, PATIENT, Tollgate, serve_at};

struct Ran {
    code: i32,
    stdout: String,
}

fn run(tollgate: &Tollgate, token: &str, line: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(line.split_whitespace())
        .env_clear()
        .envs([
            ("TOLLGATE_SERVER", tollgate.grpc_addr().to_string()),
            ("TOLLGATE_TOKEN", token.to_owned()),
        ])
        .output()
        .unwrap();
    Ran { code: output.status.code().unwrap(), stdout: String::from_utf8(output.stdout).unwrap() }
}

/// The line that holds all of these words.
fn line(tollgate: &Tollgate, words: &[&str]) -> String {
    until(&format!("a line with {words:?}"), || {
        let log = tollgate.log();
        log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
}

#[test]
fn starts_edits_grants_refusals_and_turns_of_health_are_in_the_log_and_keys_are_not() {
    let folder = TempDir::new().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["token", "create", "ops", "--scope", "admin,decide"])
        .output()
        .unwrap();
    let (token, listed) =
        (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    let tokens = folder.path().join("tokens.yaml");
    fs::write(&tokens, format!("tokens:\n{listed}")).unwrap();
    let mut tollgate = Tollgate::start(&["--tokens-file", tokens.to_str().unwrap()], &[PATIENT]);
    let data = tollgate.data_dir().canonicalize().unwrap();
    let data = data.to_str().unwrap();
    line(&tollgate, &["INFO", "tollgate starts", "version=\"0.1.0\"", data]);
    line(&tollgate, &["WARN", "a new, empty ledger was made", data, "ledger.sqlite"]);
    line(&tollgate, &["INFO", "tollgate ready grpc=127.0.0.1:"]);
    let token = token.trim_end();
    let ok = |tollgate: &Tollgate, line: &str| {
        let ran = run(tollgate, token, line);
        assert_eq!(ran.code, 0, "{line}");
        ran.stdout
    };
    ok(&tollgate, "plan create gold --target orders/prod --quota daily=100/day");
    line(&tollgate, &["INFO", "caller=\"ops\"", "revision=1", "edited: ", "plan `gold`"]);
    ok(&tollgate, "subscriber create acme --plan gold");
    let key: serde_json::Value =
        serde_json::from_str(&ok(&tollgate, "key create --subscriber acme --output json")).unwrap();
    line(
        &tollgate,
        &[
            "INFO",
            "caller=\"ops\"",
            &format!("edited: key `{}`", key["apiKey"]["id"].as_str().unwrap()),
        ],
    );
    let value = key["value"].as_str().unwrap().to_owned();
    ok(
        &tollgate,
        "grant --subscriber acme --plan gold --entitlement default --quota daily --add 5",
    );
    line(&tollgate, &["INFO", "caller=\"ops\"", "granted to subscriber `acme`", "5 units more"]);

    tollgate.fail_disk(true);
    until("a refusal", || {
        let ran = run(&tollgate, token, &format!("check --key {value} --target orders/prod"));
        ran.stdout.contains("LEDGER_UNAVAILABLE").then_some(())
    });
    line(&tollgate, &["ERROR", "health has turned to DEGRADED: "]);
    line(&tollgate, &["WARN", "checks=", "LEDGER_UNAVAILABLE"]);
    tollgate.fail_disk(false);
    until("a decision", || {
        let ran = run(&tollgate, token, &format!("check --key {value} --target orders/prod"));
        (ran.code == 0).then_some(())
    });
    line(&tollgate, &["INFO", "health has turned back to OK", "after_s="]);

    assert_eq!(tollgate.terminate().code(), Some(0));
    let log = tollgate.log();
    assert!(!log.contains(&value) && !log.contains(token), "a secret is in the log");
    assert_eq!(log.matches("health has turned to DEGRADED").count(), 1, "{log}");
    tollgate.restart();
    assert!(!tollgate.log().contains("a new, empty ledger"), "there is one now");
}

#[test]
fn a_setting_that_is_none_ends_the_start() {
    for (name, value, said) in [
        ("TOLLGATE_GRCP_ADDR", "127.0.0.1:0", "did you mean `TOLLGATE_GRPC_ADDR`"),
        (
            "TOLLGATE_LOG_LEVEL",
            "loud",
            "log_level must be one of off, error, warn, info, debug, trace",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(serve_at(ANY_PORT, ANY_PORT, Path::new(":memory:")))
            .env_clear()
            .env(name, value)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(name) && stderr.contains(said), "{stderr}");
    }
}
