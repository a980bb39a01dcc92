//! A process that a test starts: its output is kept, and it does not outlive the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};

use crate::patience::PATIENCE;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A running process. It is killed when this is dropped; when the test is failing then, its output
/// is shown.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    lines: Receiver<(Stream, String)>,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `command` with both output streams kept.
    pub fn spawn(name: &'static str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        keep(Stream::Stdout, child.stdout.take().unwrap(), sender.clone(), Arc::clone(&log));
        keep(Stream::Stderr, child.stderr.take().unwrap(), sender, Arc::clone(&log));
        Self { name, child, lines, log }
    }

    /// Waits for the first line, not looked at yet, that `wanted` makes something of.
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(Stream, &str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((stream, line)) => {
                    if let Some(found) = wanted(stream, &line) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} has not come to {what} in {PATIENCE:?}", self.name)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended ({:?}) before it came to {what}", self.name, self.child.wait())
                }
            }
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Both output streams so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends the process at once, as `kill -9` does, and waits until it is gone.
    pub fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Both streams are closed when the process has ended.
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} has not stopped after {PATIENCE:?}", self.name)
                }
            }
        }
    }

    /// Stops the process where it stands, until [`Self::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // The signal takes a moment to reach every thread.
        let stopped =
            rustix::process::waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED)
                .unwrap();
        assert!(
            stopped.is_some_and(|(_, status)| status.stopped()),
            "{} ended instead of stopping",
            self.name
        );
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Bounds how large its files may get, in bytes: 0 is a disk that takes nothing. `None`: no
    /// bound.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit)
            .unwrap();
    }

    /// Memory that it has.
    pub fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }

    /// Processor time that it has taken, in itself and in the kernel.
    pub fn cpu_ms(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, in brackets, may hold anything. After it: the state, and eleven numbers before
        // the two that are wanted.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        ticks * 1_000 / rustix::param::clock_ticks_per_second()
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!(
                "---- output of {} ----\n{}---- end of {} ----",
                self.name,
                self.log(),
                self.name
            );
        }
    }
}

/// Reads `from` to its end on a thread of its own: a pipe that nobody reads would stop the process.
fn keep(
    stream: Stream,
    from: impl Read + Send + 'static,
    lines: Sender<(Stream, String)>,
    log: Arc<Mutex<String>>,
) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            {
                let mut log = log.lock().unwrap();
                log.push_str(&text);
                log.push('\n');
            }
            // Nobody may be waiting for lines any more.
            let _ = lines.send((stream, text));
            line.clear();
        }
    });
}

#[test]
fn a_process_is_waited_for_line_by_line_and_ends_as_it_is_told() {
    let mut sleeper = Process::spawn(
        "sh",
        Command::new("sh").args(["-c", "echo one; echo two 42 >&2; read forever </dev/zero"]),
    );
    let number = sleeper.wait_for("a number", |stream, line| match stream {
        Stream::Stderr => line.strip_prefix("two ")?.parse::<u32>().ok(),
        Stream::Stdout => None,
    });
    assert_eq!(number, 42);
    assert_eq!(
        sleeper.terminate().code(),
        None,
        "a shell that does not catch SIGTERM has no exit code"
    );
    assert!(sleeper.log().contains("two 42\n"));
}

#[test]
#[should_panic(expected = "ended")]
fn waiting_for_a_line_that_never_comes_fails_when_the_process_ends() {
    Process::spawn("sh", Command::new("sh").args(["-c", "echo no"]))
        .wait_for("yes", |_, line| (line == "yes").then_some(()));
}
