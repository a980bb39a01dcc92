//! The commands that talk to a server, as a person and a script use them: the real binary against a
//! real server.

mod files;
mod ledger;
mod load;
mod packaged;
mod resources;
mod server;
mod traffic;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::server::{PATIENT, Tollgate};

/// A server, and commands that know where it is.
#[derive(Debug)]
struct Shell {
    server: Option<Tollgate>,
    addr: String,
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Shell {
    fn start() -> Self {
        let server = Tollgate::start(&[], &[PATIENT]);
        Self { addr: server.grpc_addr().to_string(), server: Some(server) }
    }

    /// Commands that are told of a server which somebody else runs, if anybody.
    fn at(addr: SocketAddr) -> Self {
        Self { server: None, addr: addr.to_string() }
    }

    fn tollgate(&self) -> &Tollgate {
        self.server.as_ref().unwrap()
    }

    /// Runs a command of words that blanks separate, in the folder of the sources.
    fn run(&self, line: &str) -> Ran {
        self.run_with(&line.split_whitespace().collect::<Vec<_>>(), "")
    }

    fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_clear()
            .env("TOLLGATE_SERVER", &self.addr)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read it may have ended already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed.
    fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        ran.stdout
    }

    /// Runs a command that must succeed, and reads its answer.
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --output json"))).unwrap()
    }

    /// Runs a command that must fail with this code, and say this on standard error, as a sentence.
    fn refused(&self, line: &str, code: i32, said: &str) {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}: {ran:?}");
        assert!(
            ran.stderr.starts_with("tollgate: ") && ran.stderr.contains(said),
            "{line}: {ran:?}"
        );
        assert!(
            !ran.stderr.contains("Status {") && ran.stderr.lines().count() == 1,
            "{line}: {ran:?}"
        );
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array()
        .map(|items| items.iter().map(|item| item["id"].as_str().unwrap()).collect())
        .unwrap_or_default()
}
