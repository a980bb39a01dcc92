//! Servers in processes of their own, and what the operating system says of them.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio, exit};
use std::sync::{Mutex, Once};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

/// The servers that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// From now on SIGINT and SIGTERM end the servers too, also where this process alone is told.
fn end_with_this_program() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut int, mut term) = {
            let _inside = runtime.enter();
            use tokio::signal::unix::{SignalKind, signal};
            (signal(SignalKind::interrupt()).unwrap(), signal(SignalKind::terminate()).unwrap())
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
            });
            for server in RUNNING.lock().unwrap().iter() {
                let _ = kill_process(*server, Signal::KILL);
            }
            exit(130);
        });
    });
}

/// A running server. It ends when it is dropped, and when this program is told to end.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub grpc: SocketAddr,
    data: Option<TempDir>,
}

/// Where a tollgate keeps what must not be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Nowhere,
    OnDisk,
}

impl Server {
    /// A tollgate with these rules.
    pub fn tollgate(kept: Kept, rules: Option<&Path>) -> Self {
        let data = (kept == Kept::OnDisk).then(|| TempDir::new().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args([
            "serve",
            "--grpc-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
            "--data-dir",
        ]);
        match &data {
            Some(folder) => command.arg(folder.path()),
            None => command.arg(":memory:"),
        };
        if let Some(rules) = rules {
            command.arg("--rules").arg(rules);
        }
        // What is set for a bench is no setting of a server.
        command.env_clear().env("TOLLGATE_LOG_LEVEL", "error");
        Self::start(command, data)
    }

    /// This program again, as a server that says where it is when it is ready.
    pub fn of_this_program(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(args);
        Self::start(command, None)
    }

    fn start(mut command: Command, data: Option<TempDir>) -> Self {
        end_with_this_program();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        RUNNING.lock().unwrap().push(Pid::from_child(&child));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("grpc="))
            .and_then(|text| text.parse().ok());
        let Some(grpc) = address else { panic!("a server did not say where it is: {line:?}") };
        Self { child, grpc, data }
    }

    /// Processor time so far, in seconds, of all its threads, in itself and in the kernel.
    pub fn cpu_s(&self) -> f64 {
        cpu_s(&self.child.id().to_string())
    }

    /// Memory that it has, in bytes.
    #[allow(clippy::cast_precision_loss)]
    pub fn resident_bytes(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: f64 = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as f64
    }

    /// The most memory that it has had since [`Self::forget_peak`], in bytes.
    #[allow(clippy::cast_precision_loss)]
    pub fn peak_bytes(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    /// The peak counts anew from here.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Where it keeps what must not be lost.
    pub fn folder(&self) -> Option<&Path> {
        self.data.as_ref().map(TempDir::path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        RUNNING.lock().unwrap().retain(|server| *server != Pid::from_child(&self.child));
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts what is started meanwhile, with all its threads, on the first core of this machine, and
/// this thread and what it starts later on the others: who asks takes no time from who answers. On
/// a machine of one core both share it.
pub fn apart<T>(start: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).unwrap();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
    let (first, others) = cores.split_at(1);
    run_on(first);
    let started = start();
    run_on(if others.is_empty() { first } else { others });
    started
}

fn run_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).unwrap();
}

/// Processor time of this process, in seconds.
pub fn own_cpu_s() -> f64 {
    cpu_s("self")
}

#[allow(clippy::cast_precision_loss)]
fn cpu_s(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, in brackets, may hold anything. After it: the state, and eleven numbers before the
    // two that are wanted.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// The machine and when: what a table of numbers is worth nothing without.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory_kb: u64 = read("/proc/meminfo")
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut text = String::new();
    let _ = write!(
        text,
        "{cores} cores of {model}, {} GB, Linux {}, all over loopback",
        memory_kb >> 20,
        read("/proc/sys/kernel/osrelease").trim()
    );
    text
}
