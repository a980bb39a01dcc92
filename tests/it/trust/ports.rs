//! What is served where, and to whom a start refuses to serve.

use std::process::Command;

use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Endpoint;

use super::{CALLS, Tokens, call, logged};
use crate::server::Tollgate;

/// What the server writes on standard error as it refuses to start, and its exit code.
fn start_fails(args: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command
        .args(args)
        .args(["--http-addr", "127.0.0.1:0"])
        .current_dir(folder.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn plans_are_not_served_to_the_network_by_oversight() {
    for (args, key) in [
        (vec!["--grpc-addr", "0.0.0.0:0"], "grpc_addr 0.0.0.0:0 would"),
        (vec!["--grpc-addr", "[::]:0"], "grpc_addr [::]:0 would"),
        (
            vec!["--grpc-addr", "127.0.0.1:0", "--admin-grpc-addr", "0.0.0.0:0"],
            "admin_grpc_addr 0.0.0.0:0 would",
        ),
    ] {
        let (code, said) = start_fails(&args);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains(key) && said.contains("--insecure") && said.contains("auth.tokens_file"),
            "{said}"
        );
    }
    let (code, said) = start_fails(&["--grpc-addr", "0.0.0.0:0", "--tokens-file", "no/such/file"]);
    assert!(
        code == Some(2)
            && said.starts_with("tollgate: auth.tokens_file no/such/file cannot be read: "),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_meant_is_served_with_a_warning() {
    let open = Tollgate::start(&["--insecure", "--admin-grpc-addr", "0.0.0.0:0"], &[]);
    logged(&open, "everyone who can reach it may edit plans and API keys (insecure is set)").await;
    let tokens = Tokens::make(&[("operator", "admin")]);
    let asked =
        Tollgate::start(&["--admin-grpc-addr", "[::]:0", "--tokens-file", tokens.file()], &[]);
    logged(&asked, "tokens cross the network in the clear").await;
    // As many connections as any machine has files for: too few files are a warning, too.
    let few = ("TOLLGATE_GRPC_MAX_CONNECTIONS", "100");
    let mut quiet = Tollgate::start(&["--admin-grpc-addr", "127.8.9.10:0"], &[few]);
    assert_eq!(quiet.terminate().code(), Some(0));
    let log = quiet.log();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("WARN") && !line.contains("a new, empty ledger"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test]
async fn plans_and_reflection_are_on_the_admin_port_alone_and_decisions_on_the_other() {
    let mut tollgate = Tollgate::start(&["--admin-grpc-addr", "127.0.0.1:0"], &[]);
    let decisions = tollgate.channel().await;
    let admin = Endpoint::from_shared(format!("http://{}", tollgate.admin_grpc_addr()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    for path in CALLS {
        let of_admin = path.contains("UsagePlanService") || path.contains("Reflection");
        let of_both = path.contains("Health");
        for (channel, served) in [(&decisions, !of_admin || of_both), (&admin, of_admin || of_both)]
        {
            let code = call(channel, path, None).await.err().map(|status| status.code());
            assert_eq!(code != Some(Code::Unimplemented), served, "{path}: {code:?}");
        }
    }
    // The command line says where to look.
    let ran = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["plan", "list", "--server", &tollgate.grpc_addr().to_string()])
        .env_clear()
        .output()
        .unwrap();
    assert!(String::from_utf8(ran.stderr).unwrap().contains("admin_grpc_addr"));
    drop((decisions, admin));
    assert_eq!(tollgate.terminate().code(), Some(0));
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let tollgate = Tollgate::start(&[], &[("TOLLGATE_GRPC_REFLECTION", "false")]);
    let channel = tollgate.channel().await;
    for (path, served) in [(CALLS[10], false), (CALLS[6], true)] {
        let code = call(&channel, path, None).await.err().map(|status| status.code());
        assert_eq!(code != Some(Code::Unimplemented), served, "{path}: {code:?}");
    }
}
