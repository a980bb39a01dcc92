//! Is it steady? Latencies at 50 % and 80 % of what saturates it, while rules are reloaded and a
//! plan is edited each second; what callers see beyond saturation, where what would wait longer
//! than `grpc.max_lag_ms` is shed (`Unavailable`); and how soon it is as before.
//!
//! `cargo bench --bench steady -- [--seconds N] [--write]`. With `--write` the table goes to
//! `benches/results/steady.md`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::indexing_slicing,
    missing_debug_implementations,
    unreachable_pub
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    dead_code
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use tempfile::TempDir;
use tollgate::load::{Job, Summary, Traffic};
use tonic::Code;

use self::harness::arguments::Arguments;
use self::harness::load::{Shape, caller, finish, job, measure, nanos, rules};
use self::harness::plans::{self, QUOTAS};
use self::harness::process::{Kept, Server, apart, machine};
use self::harness::table::{Table, digits, spread, write};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "harness/harness.rs"]
mod harness;

const SHAPE: Shape = (64, 16);
/// Beyond saturation callers do not stop asking: each connection may have so many calls under way.
const IMPATIENT: Shape = (64, 1_000);
/// How long a caller waits then.
const DEADLINE_MS: u64 = 1_000;
const KEYS: u64 = 10_000;
const SUBSCRIBERS: u64 = 1_000;
const SECOND: Duration = Duration::from_secs(1);
/// With edits and without, by turns, so many of each.
const TURNS: u64 = 5;
/// What falls behind waits longer than this before long.
const PROMPT_NS: u64 = 50_000_000;

/// Reloads rules and edits a plan each second, until it is dropped.
struct Edits {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Edits {
    fn start(server: SocketAddr, rules: PathBuf) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut turn = 0_u32;
            while stopped.recv_timeout(SECOND) == Err(mpsc::RecvTimeoutError::Timeout) {
                turn += 1;
                write_rules(&rules, turn);
                plans::edit(server, QUOTAS, 1e8 - f64::from(turn));
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Edits {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A thousand rules, of which one differs from turn to turn.
fn write_rules(file: &Path, turn: u32) {
    let rule = |value: u32| {
        format!(
            "- key: other\n  value: v{value}\n  rate_limit: {{unit: hour, requests_per_unit: {}}}\n",
            turn + 1
        )
    };
    let others: String = (0..1_000).map(rule).collect();
    let text = format!(
        "domain: load\ndescriptors:\n- key: api_key\n  rate_limit: {{unit: second, requests_per_unit: 4000000000}}\n{others}"
    );
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, file).unwrap();
}

struct Steady {
    table: Table,
    server: Server,
    rules: PathBuf,
    seconds: u64,
}

impl Steady {
    /// A job in an open loop for some seconds.
    fn paced(&self, traffic: &Traffic, shape: Shape, keys: u64, rate: f64, seconds: u64) -> Job {
        let job = job(&self.server, traffic.clone(), shape, keys);
        Job {
            rate: Some(rate),
            duration_ns: nanos(SECOND) * seconds,
            warm_up_ns: nanos(SECOND),
            ..job
        }
    }

    /// `beside`: the 99.9th percentiles, turn by turn, as parts of those without what is done
    /// meanwhile.
    fn row(&mut self, what: &str, load: &str, rate: f64, summaries: &[Summary], beside: &[f64]) {
        let Some((first, others)) = summaries.split_first() else { return };
        let mut tally = first.tally.clone();
        others.iter().for_each(|other| tally.add(other.tally.clone()));
        let calls = &tally.calls;
        let failed: Vec<String> = (0..=16)
            .map(Code::from_i32)
            .filter(|code| calls.failed_with(*code) > 0)
            .map(|code| format!("{} {code:?}", calls.failed_with(code)))
            .chain((tally.reconnects > 0).then(|| format!("{} connections", tally.reconnects)))
            .collect();
        let seconds = summaries.iter().map(|summary| summary.elapsed_ns as f64 / 1e9).sum::<f64>();
        self.table.push(vec![
            what.to_owned(),
            load.to_owned(),
            format!("{rate:.0}"),
            format!("{:.0}", calls.answered() as f64 / seconds),
            at(&calls.latency, 0.5),
            at(&calls.latency, 0.99),
            at(&calls.latency, 0.999),
            if beside.is_empty() { String::new() } else { spread(beside) },
            if failed.is_empty() { "none".to_owned() } else { failed.join(", ") },
            at(&calls.failure_latency, 0.99),
            tally.unsent.to_string(),
        ]);
    }

    /// The highest rate that is answered as fast as it is asked. Less than what a closed loop gets:
    /// there calls come in bunches, here each comes alone, and wakes a connection up.
    fn saturation(&self, traffic: &Traffic, keys: u64) -> f64 {
        let mut rate =
            measure(&self.server, job(&self.server, traffic.clone(), SHAPE, keys), SECOND * 2)
                .per_second;
        loop {
            let Summary { tally, .. } = finish(self.paced(traffic, SHAPE, keys, rate, 3));
            if tally.calls.latency.value_at_quantile(0.99) < PROMPT_NS || rate < 1_000.0 {
                return rate;
            }
            rate *= 0.93;
        }
    }

    fn run(&mut self, what: &str, traffic: &Traffic, keys: u64) {
        let saturation = self.saturation(traffic, keys);
        for part in [0.5, 0.8] {
            let rate = saturation * part;
            let load = format!("{:.0} %", part * 100.0);
            // By turns: the machine is quicker and slower from minute to minute.
            let turn = |_| {
                let alone =
                    finish(self.paced(traffic, SHAPE, keys, rate, self.seconds.div_ceil(TURNS)));
                let _edits = Edits::start(self.server.grpc, self.rules.clone());
                (
                    alone,
                    finish(self.paced(traffic, SHAPE, keys, rate, self.seconds.div_ceil(TURNS))),
                )
            };
            let (alone, edited): (Vec<_>, Vec<_>) = (0..TURNS).map(turn).unzip();
            let tail =
                |summary: &Summary| summary.tally.calls.latency.value_at_quantile(0.999) as f64;
            let beside: Vec<f64> = alone
                .iter()
                .zip(&edited)
                .map(|(alone, edited)| tail(edited) / tail(alone))
                .collect();
            self.row(what, &load, rate, &alone, &[]);
            self.row(what, &format!("{load}, edits each second"), rate, &edited, &beside);
        }
        let rate = saturation * 1.5;
        let beyond = self.paced(traffic, IMPATIENT, keys, rate, 10);
        let timeout_ns = DEADLINE_MS * 1_000_000;
        let beyond =
            finish(Job { deadline_ms: Some(DEADLINE_MS), timeout_ns, warm_up_ns: 0, ..beyond });
        self.row(what, "150 %, deadline 1 s", rate, &[beyond], &[]);
        let rate = saturation * 0.5;
        let after = finish(Job { warm_up_ns: 0, ..self.paced(traffic, SHAPE, keys, rate, 1) });
        self.row(what, "50 %, the second after", rate, &[after], &[]);
    }
}

fn at(latency: &Histogram<u64>, quantile: f64) -> String {
    if latency.is_empty() {
        String::new()
    } else {
        digits(latency.value_at_quantile(quantile) as f64 / 1e3)
    }
}

fn main() {
    let arguments = Arguments::of_this_process();
    let folder = TempDir::new().unwrap();
    let rules_file = folder.path().join("rules.yaml");
    write_rules(&rules_file, 0);
    let machine = machine();
    let server = apart(|| Server::tollgate(Kept::OnDisk, Some(&rules_file)));
    plans::create(server.grpc, QUOTAS, 0, SUBSCRIBERS);
    println!("{machine}\n");
    let head = [
        "what",
        "load",
        "asked/s",
        "answered/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "beside without",
        "failed",
        "p99 µs of failures",
        "not begun",
    ];
    let seconds = arguments.value("--seconds").map_or(60, |text| text.parse().unwrap());
    let mut steady = Steady { table: Table::new(&head), server, rules: rules_file, seconds };
    if arguments.wants("rules") {
        steady.run("rules, 10 descriptors", &rules(10), KEYS);
    }
    if arguments.wants("plans") {
        steady.run("Check with two quotas", &Traffic::Check(caller(QUOTAS)), SUBSCRIBERS);
    }
    if arguments.has("--write") {
        let text = format!(
            "# Steady under load\n\n`cargo bench --bench steady -- --write`: {seconds} s a row, the ledger on disk. {machine}. Loads are parts of \
             the highest rate that was answered as fast as it was asked on {} connections, the server on one core and the load on the others; latencies count from when a call should have begun. Of 50 % and 80 % there are {TURNS} turns with edits and without; beside each other stand the 99.9th percentiles of each turn, the middle one, and between what they lie.\n\n{}",
            SHAPE.0,
            steady.table.render()
        );
        write("steady.md", &text);
    }
}
