//! Output is not a dependency of the work: standard output and standard error on a full disk,
//! closed, on a pipe that is closed or full.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Write, pipe};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::http::get;
use crate::patience::until;
use crate::server::{Tollgate, ready};

/// What stands behind a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// A disk that is full.
    FullDisk,
    /// A pipe whose reader is gone from the beginning.
    GonePipe,
    /// A pipe that is read until the service is ready, and not after.
    LeftPipe,
    /// A pipe that is full and that nobody reads, which blocks.
    FullPipe,
    /// The same, which does not block: an attempt is refused.
    FullPipeThatDoesNotBlock,
}

/// The other end, for as long as it is there.
struct End {
    stream: Stdio,
    reader: Option<PipeReader>,
}

fn end(behind: Behind) -> End {
    if behind == Behind::FullDisk {
        return End { stream: full_disk().into(), reader: None };
    }
    let (reader, mut writer) = pipe().unwrap();
    let reader = match behind {
        Behind::GonePipe => None,
        Behind::FullPipe | Behind::FullPipeThatDoesNotBlock => {
            fill(&mut writer, behind == Behind::FullPipe);
            Some(reader)
        }
        _ => Some(reader),
    };
    End { stream: writer.into(), reader }
}

fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// What the process has after this is the same open pipe, and with it the same manner.
fn fill(writer: &mut PipeWriter, then_block: bool) {
    rustix::io::ioctl_fionbio(&*writer, true).unwrap();
    for piece in [&[b'x'; 4096][..], b"x"] {
        loop {
            match writer.write(piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    rustix::io::ioctl_fionbio(&*writer, !then_block).unwrap();
}

struct Server {
    child: Child,
    folder: TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
}

/// Two ports that were free a moment ago, for where nobody can say which were taken.
fn free_ports() -> [SocketAddr; 2] {
    let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let two = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    [one.local_addr().unwrap(), two.local_addr().unwrap()]
}

impl Server {
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        let folder = TempDir::new().unwrap();
        let [grpc, http] = free_ports();
        write_rules(&folder, 11);
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--data-dir", "data", "--rules", "rules.yaml"])
            .args(["--grpc-addr", &grpc.to_string(), "--http-addr", &http.to_string()])
            .current_dir(folder.path())
            .env_clear()
            .envs([("TOLLGATE_LOG_LEVEL", "debug"), ("TOLLGATE_RULES_POLL_MS", "20")])
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let server = Self { child, folder, grpc, http };
        until("a healthy service", || (server.page("/healthcheck")? == "OK").then_some(()));
        server
    }

    fn page(&self, path: &str) -> Option<String> {
        Some(String::from_utf8(get(path).send(self.http).ok()?.body).unwrap())
    }

    fn metric(&self, name: &str) -> u64 {
        let page = self.page("/metrics").unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// Rules, connections and a stop are what they always are. `lost`: the log must have lost
    /// something.
    fn works_and_stops(mut self, what: &str, lost: bool) {
        write_rules(&self.folder, 12);
        until("the edit", || {
            self.page("/rlconfig")?.contains("requests_per_unit=12").then_some(())
        });
        assert_eq!(self.metric("ratelimit_service_config_load_success"), 2, "{what}");
        for _ in 0..20 {
            let body = crate::http::grpc_call(self.grpc, "/grpc.health.v1.Health/Check", &[]);
            assert_eq!((body.http_status, body.grpc_status), (200, Some(0)), "{what}");
        }
        let hit = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "a", "value": "b"}]}]}"#;
        assert_eq!(
            crate::http::post("/json", hit)
                .header("content-type", "application/json")
                .status(self.http),
            200
        );
        if lost {
            until("lost lines", || (self.metric("tollgate_lost_log_lines") > 0).then_some(()));
        }
        assert_eq!(self.metric("tollgate_panics"), 0, "{what}");
        assert_eq!(self.page("/healthcheck").unwrap(), "OK", "{what}");
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let ended = self.child.wait().unwrap();
        assert_eq!((ended.code(), ended.signal()), (Some(0), None), "{what}");
        // A clean stop has written everything.
        let sql =
            rusqlite::Connection::open(self.folder.path().join("data/ledger.sqlite")).unwrap();
        let counts: i64 =
            sql.query_row("SELECT sum(count) FROM windows", [], |row| row.get(0)).unwrap();
        assert_eq!(counts, 1, "{what}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_rules(folder: &TempDir, limit: u32) {
    let rules = format!(
        "domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: year, requests_per_unit: {limit}}}}}]\n"
    );
    // In one step, as an editor and a ConfigMap do it.
    let new = folder.path().join("new");
    fs::write(&new, rules).unwrap();
    fs::rename(new, folder.path().join("rules.yaml")).unwrap();
}

fn log_behind(behind: Behind, lost: bool) {
    let End { stream, mut reader } = end(behind);
    let server = Server::start(Stdio::null(), stream);
    if behind == Behind::LeftPipe {
        drop(reader.take());
    }
    server.works_and_stops(&format!("the log: {behind:?}"), lost);
    drop(reader);
}

#[test]
fn a_log_on_a_full_disk_is_lost_and_nothing_else() {
    log_behind(Behind::FullDisk, true);
}

#[test]
fn a_log_whose_reader_is_gone_is_lost_and_nothing_else() {
    log_behind(Behind::GonePipe, true);
    log_behind(Behind::LeftPipe, true);
}

#[test]
fn a_log_in_a_full_pipe_waits_and_holds_nobody_up() {
    log_behind(Behind::FullPipe, false);
    log_behind(Behind::FullPipeThatDoesNotBlock, false);
}

#[test]
fn a_ready_line_that_cannot_be_written_keeps_nobody_from_being_served() {
    for behind in
        [Behind::FullDisk, Behind::GonePipe, Behind::FullPipe, Behind::FullPipeThatDoesNotBlock]
    {
        let End { stream, reader } = end(behind);
        Server::start(stream, Stdio::null())
            .works_and_stops(&format!("standard output: {behind:?}"), false);
        drop(reader);
    }
}

#[test]
fn closed_streams_are_not_taken_for_files_of_the_service() {
    let folder = TempDir::new().unwrap();
    let [grpc, http] = free_ports();
    write_rules(&folder, 11);
    let child = Command::new("sh")
        .args(["-c", r#"exec "$0" "$@" <&- >&- 2>&-"#, env!("CARGO_BIN_EXE_tollgate")])
        .args(["serve", "--data-dir", "data", "--rules", "rules.yaml"])
        .args(["--grpc-addr", &grpc.to_string(), "--http-addr", &http.to_string()])
        .current_dir(folder.path())
        .env_clear()
        .envs([("TOLLGATE_LOG_LEVEL", "debug"), ("TOLLGATE_RULES_POLL_MS", "20")])
        .spawn()
        .unwrap();
    let server = Server { child, folder, grpc, http };
    until("a healthy service", || (server.page("/healthcheck")? == "OK").then_some(()));
    server.works_and_stops("all streams closed", false);
}

#[test]
fn a_log_that_works_again_says_how_much_of_it_is_missing() {
    let (reader, writer) = pipe().unwrap();
    let folder = TempDir::new().unwrap();
    // A named pipe, whose reader may go and come.
    let name = folder.path().join("log");
    assert!(Command::new("mkfifo").arg(&name).status().unwrap().success());
    let (tell, first) = std::sync::mpsc::channel();
    let read = name.clone();
    let reading = thread::spawn(move || tell.send(File::open(read).unwrap()).unwrap());
    let log = OpenOptions::new().write(true).open(&name).unwrap();
    let first = first.recv().unwrap();
    reading.join().unwrap();
    let server = Server::start(writer.into(), log.into());
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert!(ready(line.trim_end()).is_some(), "{line}");
    drop(first);
    until("lost lines", || {
        // Each connection that ends is a line.
        server.page("/healthcheck").unwrap();
        let _ = std::net::TcpStream::connect(server.grpc).unwrap();
        (server.metric("tollgate_lost_log_lines") > 0).then_some(())
    });
    let mut again = BufReader::new(File::open(&name).unwrap());
    let said = thread::spawn(move || {
        let mut line = String::new();
        while again.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains("lines of this log are lost") {
                return line;
            }
            line.clear();
        }
        panic!("the log has ended");
    });
    until("the line", || {
        let _ = std::net::TcpStream::connect(server.grpc).unwrap();
        said.is_finished().then_some(())
    });
    assert!(said.join().unwrap().contains("WARN"));
}

fn run(
    args: &[&str],
    server: SocketAddr,
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(args)
        .env_clear()
        .env("TOLLGATE_SERVER", server.to_string())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

/// The writing end of a pipe that nobody reads any more.
fn gone() -> PipeWriter {
    pipe().unwrap().1
}

#[test]
fn a_command_whose_reader_has_seen_enough_ends_quietly_and_one_on_a_full_disk_says_so() {
    let tollgate = Tollgate::start(&[], &[]);
    let at = tollgate.grpc_addr();
    let rules = TempDir::new().unwrap();
    write_rules(&rules, 5);
    let rules = rules.path().join("rules.yaml");
    let rules = rules.to_str().unwrap();
    for (number, args) in [
        &["rules", "check", rules][..],
        &["target", "create", "orders/NUMBER"],
        &["target", "list"],
        &["plan", "list", "--output", "json"],
        &["usage"],
        &["token", "create", "gw", "--scope", "read"],
        &["--help"],
        &["--version"],
        &["plan", "--help"],
    ]
    .into_iter()
    .enumerate()
    {
        let once = |part: &str| {
            args.iter()
                .map(|arg| arg.replace("NUMBER", &format!("{number}-{part}")))
                .collect::<Vec<_>>()
        };
        let run = |part: &str, stdout: Stdio, stderr: Stdio| {
            let args = once(part);
            run(&args.iter().map(String::as_str).collect::<Vec<_>>(), at, stdout, stderr)
        };
        let quiet = run("gone", gone().into(), Stdio::piped());
        let stderr = String::from_utf8(quiet.stderr).unwrap();
        assert_eq!(quiet.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("tollgate:") && !stderr.contains("panic"), "{args:?}: {stderr}");
        let told = run("full", full_disk().into(), Stdio::piped());
        let stderr = String::from_utf8(told.stderr).unwrap();
        assert_eq!(told.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(
            stderr.contains("tollgate: standard output cannot be written: No space left on device"),
            "{args:?}: {stderr}"
        );
        assert_eq!(
            run("both", full_disk().into(), full_disk().into()).status.code(),
            Some(1),
            "{args:?}"
        );
    }
}

#[test]
fn a_mistake_keeps_its_exit_code_where_it_cannot_be_told() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    for (args, code) in [
        (&["plan", "list"][..], 1),
        (&["plan", "lisst"], 2),
        (&["rules", "check", "/no/such/file"], 2),
        (&["serve", "--config", "/no/such/file"], 2),
        (
            &[
                "serve",
                "--rules",
                "/no/such/file",
                "--grpc-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
                "--data-dir",
                ":memory:",
            ],
            2,
        ),
    ] {
        let mut full = pipe().unwrap();
        fill(&mut full.1, false);
        let streams: [Stdio; 2] = [full_disk().into(), gone().into()];
        for stderr in streams {
            // A mistake of the command line that cannot be told is a failure of its own.
            let ended = run(args, nobody, Stdio::null(), stderr).status.code();
            assert!(
                ended == Some(code) || args[1] == "lisst" && ended == Some(1),
                "{args:?}: {ended:?}"
            );
        }
    }
    // A service that cannot start ends, also where nobody reads why.
    for blocks in [true, false] {
        let (reader, mut writer) = pipe().unwrap();
        fill(&mut writer, blocks);
        assert_eq!(
            run(&["serve", "--config", "/no/such/file"], nobody, Stdio::null(), writer)
                .status
                .code(),
            Some(2)
        );
        drop(reader);
    }
}
