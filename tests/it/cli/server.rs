//! Servers that are not there, do not answer, ask for a token, or speak TLS.

use std::convert::Infallible;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::Shell;
use crate::made_files::self_signed;
use crate::server::{PATIENT, Tollgate};

#[test]
fn a_server_that_is_not_there_is_1_and_flags_and_files_come_first() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let shell = Shell::at(free);
    for line in [
        "plan list",
        "usage",
        "check --target a",
        "report --receipt r --status 200",
        "apply -f examples/plans/aws-tiers.yaml",
    ] {
        shell.refused(
            line,
            1,
            &format!("the server at {free} cannot be reached (--server, TOLLGATE_SERVER): "),
        );
    }
    shell.refused("apply -f no/such/file", 2, "no/such/file");
    shell.refused("plan update gold", 2, "nothing to change");
    for server in ["nowhere", "http://127.0.0.1:1", "a b:1", ":"] {
        let ran = shell.run_with(&["plan", "list", "--server", server], "");
        assert!(ran.code == 2 && ran.stderr.contains("is not HOST:PORT"), "{server}: {ran:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_as_long_as_was_said() {
    let shell = Shell::start();
    shell.tollgate().pause();
    shell.refused("plan list --timeout-ms 200", 1, "has not answered in 200 ms");
    shell.tollgate().resume();
    shell.ok("plan list");
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let shell = Shell::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["plan", "list", "--server", &shell.addr])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// A server that refuses every call for want of a token, and hands on the headers.
fn asks_for_a_token() -> (SocketAddr, mpsc::Receiver<HeaderMap>, Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, headers) = mpsc::channel();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                sender.send(request.headers().clone()).unwrap();
                let answer = Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "16");
                std::future::ready(Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap()))
            });
            tokio::spawn(async move {
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    (addr, headers, runtime)
}

#[test]
fn a_token_is_sent_as_a_bearer_and_its_lack_is_said() {
    let (addr, headers, runtime) = asks_for_a_token();
    let shell = Shell::at(addr);
    shell.refused("plan list", 1, "the server asks for a token (--token, TOLLGATE_TOKEN)");
    assert_eq!(headers.recv().unwrap().get("authorization"), None);
    shell.refused(
        "check --target a --token s3cret --timeout-ms 5000",
        1,
        "the server asks for a token",
    );
    let sent = headers.recv().unwrap();
    assert_eq!(
        (&sent["authorization"], &sent["grpc-timeout"]),
        (&"Bearer s3cret".parse().unwrap(), &"5000000u".parse().unwrap())
    );

    let by_env = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["plan", "get", "gold"])
        .env("TOLLGATE_SERVER", addr.to_string())
        .env("TOLLGATE_TOKEN", "by-env")
        .output()
        .unwrap();
    assert_eq!(by_env.status.code(), Some(1));
    assert_eq!(headers.recv().unwrap()["authorization"], "Bearer by-env");
    runtime.shutdown_background();
}

/// A server that speaks TLS and asks for tokens, commands that know of neither, and a token and an
/// authority with which it answers.
fn guarded(folder: &TempDir) -> (Shell, String, String) {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key, tokens] = ["cert.pem", "key.pem", "tokens.yaml"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    fs::write(&cert, authority.cert.pem()).unwrap();
    fs::write(&key, authority.signing_key.serialize_pem()).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args([
            "token", "create", "all", "--scope", "decide", "--scope", "report", "--scope", "admin",
        ])
        .output()
        .unwrap();
    fs::write(&tokens, [b"tokens:\n", &made.stderr[..]].concat()).unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    let env = [("TOLLGATE_TLS_CERT", cert.as_str()), ("TOLLGATE_TLS_KEY", key.as_str()), PATIENT];
    let tollgate = Tollgate::start(&["--tokens-file", &tokens], &env);
    let shell = Shell {
        addr: format!("localhost:{}", tollgate.grpc_addr().port()),
        server: Some(tollgate),
    };
    (shell, token, cert)
}

#[test]
fn every_command_works_with_tls_and_a_token_and_is_refused_without() {
    let folder = TempDir::new().unwrap();
    let (shell, token, authority) = guarded(&folder);
    let commands = [
        "plan create gold --target a --quota yearly=3/year",
        "plan list",
        "target list",
        "subscriber create acme --plan gold",
        "subscriber list",
        "key import k1 --subscriber acme --value an-imported-key-of-20-characters-or-more",
        "key list",
        "check --key an-imported-key-of-20-characters-or-more --target a",
        "usage --subscriber acme",
        "grant --subscriber acme --plan gold --entitlement default --quota yearly --add 1",
        "apply -f examples/plans/aws-tiers.yaml --dry-run",
    ];
    for command in commands {
        shell.refused(
            &format!("{command} --ca {authority}"),
            1,
            "a token is needed: send `authorization: Bearer TOKEN`",
        );
        shell.refused(
            &format!("{command} --tls-ca {authority} --token tgt_other"),
            1,
            "the token is not known",
        );
        let ran = shell.run(&format!("{command} --ca {authority} --token {token}"));
        assert!(
            ran.code == 0 || command.starts_with("grant") && ran.stderr.contains("entitlement"),
            "{command}: {ran:?}"
        );
    }
    let by_env = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["report", "--receipt", "none", "--status", "200"])
        .env_clear()
        .envs([
            ("TOLLGATE_SERVER", shell.addr.as_str()),
            ("TOLLGATE_CA", &authority),
            ("TOLLGATE_TOKEN", &token),
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8(by_env.stdout).unwrap().contains("INVALID"), "{:?}", by_env.stderr);
}

#[test]
fn a_token_is_printed_once_and_what_cannot_be_one_is_refused() {
    let shell = Shell::at(([127, 0, 0, 1], 1).into());
    let made = shell.run("token create gw-1 --scope decide,report");
    assert!(
        made.code == 0 && made.stdout.starts_with("tgt_") && made.stdout.len() == 37,
        "{made:?}"
    );
    assert!(
        made.stderr.starts_with("- {id: gw-1, hash: \"blake3:")
            && made.stderr.ends_with("\", scopes: [decide, report]}\n"),
        "{made:?}"
    );
    assert!(!made.stderr.contains(made.stdout.trim_end()));
    shell.refused("token create a,b --scope read", 2, "ID must be 1 to 64 letters");
    for line in ["token create gw", "token create gw --scope root", "token create --scope read"] {
        assert_eq!(shell.run(line).code, 2, "{line}");
    }
}

#[test]
fn tls_is_spoken_where_an_authority_is_named() {
    let folder = TempDir::new().unwrap();
    let (cert, key) = self_signed(folder.path());
    let (cert, key) = (cert.as_str(), key.as_str());
    let env =
        [("TOLLGATE_TLS_CERT", cert), ("TOLLGATE_TLS_KEY", key), ("TOLLGATE_TLS_CLIENT_CA", cert)];
    let tollgate = Tollgate::start(&[], &env);
    let shell = Shell {
        addr: format!("localhost:{}", tollgate.grpc_addr().port()),
        server: Some(tollgate),
    };

    shell.ok(&format!("plan list --tls-ca {cert} --tls-cert {cert} --tls-key {key}"));
    let by_env = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["plan", "list"])
        .env_clear()
        .envs([("TOLLGATE_SERVER", shell.addr.as_str()), ("TOLLGATE_CA", cert)])
        .envs([("TOLLGATE_CLIENT_CERT", cert), ("TOLLGATE_CLIENT_KEY", key)])
        .output()
        .unwrap();
    assert_eq!(by_env.status.code(), Some(0), "{by_env:?}");
    for flags in [String::new(), format!("--tls-ca {cert}")] {
        let ran = shell.run(&format!("plan list {flags}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{flags}: {ran:?}");
        assert!(ran.stderr.starts_with("tollgate: the server at localhost:"), "{ran:?}");
    }
    shell.refused("plan list --tls-ca no/such.pem", 2, "no/such.pem: ");
    shell.refused(&format!("plan list --tls-ca {key}"), 2, "holds no certificate in PEM");
    shell.refused(
        &format!("plan list --tls-ca {cert} --tls-cert {cert} --tls-key {cert}"),
        2,
        "holds no private key in PEM",
    );
}
