//! What a decision costs as work grows: keys, rules, plans, connections. Processor time of the
//! server at saturation, latency at a fixed rate, and memory.
//!
//! `cargo bench --bench growth -- [--quick | --full] [--pairs N] [--only TEXT] [--memory] [--write]`.
//! `--full` goes on to 10 M keys. `--memory` measures memory alone, which needs no quiet machine.
//! With `--write` the tables go to `benches/results/growth.md` and `memory.md`, and the curves to
//! `benches/results/growth.svg`.
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

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::load::{Job, Order, Traffic};

use self::harness::arguments::Arguments;
use self::harness::load::{Sample, Shape, caller, finish, job, measure, rules};
use self::harness::plans::{self, QUOTAS, RATE};
use self::harness::plot::{Panel, short, svg};
use self::harness::process::{Kept, Server, machine};
use self::harness::table::{Table, digits, median, spread, write};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "harness/harness.rs"]
mod harness;
#[path = "growth/memory.rs"]
mod memory;

const SHAPE: Shape = (8, 32);
/// Calls a second at which latency is measured.
const CALM: f64 = 10_000.0;
/// Fewer keys than this are asked about where something else grows.
const KEYS: u64 = 10_000;

/// Creates what a plan's callers from one number to another need.
type Create = fn(SocketAddr, &str, u64, u64);

/// A row: what grew to how much, and what that did.
struct Row {
    what: &'static str,
    count: u64,
    cpu_us: f64,
    p99_us: f64,
    resident_bytes: f64,
}

/// What is shown of a row.
type Unit = (&'static str, fn(&Row) -> f64);

struct Growth {
    arguments: Arguments,
    table: Table,
    rows: Vec<Row>,
}

impl Growth {
    fn row(
        &mut self,
        what: &'static str,
        count: u64,
        server: &Server,
        traffic: &Traffic,
        (keys, shape): (u64, Shape),
    ) {
        let job = |rate| Job { rate, ..job(server, traffic.clone(), shape, keys) };
        // Every key once, so that all there is to hold is held.
        finish(Job { requests: Some(keys), order: Order::InTurn, ..job(None) });
        let busy = measure(server, job(None), self.arguments.interval());
        let calm = measure(server, job(Some(CALM)), self.arguments.interval());
        let row = Row {
            what,
            count,
            cpu_us: busy.server_us,
            p99_us: calm.p99_us,
            resident_bytes: server.resident_bytes(),
        };
        let cells =
            [digits(row.cpu_us), digits(busy.per_second), digits(calm.p50_us), digits(row.p99_us)];
        let memory = format!("{:.0}", row.resident_bytes / 1e6);
        self.table.push(
            [what.to_owned(), short(count as f64)]
                .into_iter()
                .chain(cells)
                .chain([memory])
                .collect(),
        );
        self.rows.push(row);
    }

    fn panels(&self) -> Vec<Panel> {
        let mut panels: Vec<Panel> = Vec::new();
        let mut whats: Vec<&str> = self.rows.iter().map(|row| row.what).collect();
        whats.dedup();
        let units: [Unit; 3] = [
            ("µs of CPU for each decision", |row| row.cpu_us),
            ("p99 in µs at 10,000 a second", |row| row.p99_us),
            ("MB of memory", |row| row.resident_bytes / 1e6),
        ];
        for what in whats {
            for (unit, value) in units {
                let points = self
                    .rows
                    .iter()
                    .filter(|row| row.what == what)
                    .map(|row| (row.count as f64, value(row)))
                    .collect();
                panels.push(Panel { title: what.to_owned(), unit, points });
            }
        }
        panels
    }
}

/// One rule whose counters last, so that they pile up.
const LASTING: &str = "domain: load\ndescriptors:\n- key: api_key\n  rate_limit: {unit: year, requests_per_unit: 4000000000}\n";

/// As many rules as keys: each for the key that the load generator asks about.
fn many_rules(count: u64) -> String {
    let mut text = "domain: load\ndescriptors:\n".to_owned();
    for number in 0..count {
        let _ = writeln!(
            text,
            "- key: api_key\n  value: api-key-000000000000000000000{number:010}\n  rate_limit: {{unit: second, requests_per_unit: 4000000000}}"
        );
    }
    text
}

fn ruled(folder: &Path, text: &str) -> Server {
    let file = folder.join("rules.yaml");
    std::fs::write(&file, text).unwrap();
    Server::tollgate(Kept::Nowhere, Some(&file))
}

fn powers(from: u32, to: u32) -> impl Iterator<Item = u64> {
    (from..=to).map(|power| 10_u64.pow(power))
}

/// What a decision costs over the most keys beside what it costs over the fewest, each in a server
/// of its own, in turns. The rows above are measured minutes apart, soon after the first call of
/// each key: here all have called some times. A difference is small beside what a machine's speed
/// varies by: many short turns.
fn most_beside_fewest(arguments: &Arguments, folder: &Path, most_keys: u64) -> String {
    const FEWEST: u64 = 1_000;
    const SUBSCRIBERS: u64 = 1_000_000;
    let subscribers = |kept| {
        move |count| {
            let server = Server::tollgate(kept, None);
            plans::create(server.grpc, RATE, 0, count);
            server
        }
    };
    let keyed = |_| ruled(folder, LASTING);
    // A server remembers who calls it by the thread that is called: it takes a few calls of each
    // until all are known to all threads.
    let cases: [(_, _, &dyn Fn(u64) -> Server, _, _); 3] = [
        ("keys of a rule", most_keys, &keyed, rules(1), 1),
        (
            "subscribers of a plan with a rate, each with a key",
            SUBSCRIBERS,
            &subscribers(Kept::Nowhere),
            Traffic::Check(caller(RATE)),
            10,
        ),
        (
            "the same subscribers, in a ledger on disk",
            SUBSCRIBERS,
            &subscribers(Kept::OnDisk),
            Traffic::Check(caller(RATE)),
            10,
        ),
    ];
    let pairs = arguments.value("--pairs").map_or(31, |text| text.parse().unwrap());
    let interval = arguments.interval().min(Duration::from_secs(3));
    let mut table = Table::new(&[
        "in turns",
        "of",
        "µs of CPU",
        "of",
        "µs of CPU",
        "µs more (least..most)",
        "budget",
    ]);
    for (what, most, start, traffic, calls) in cases {
        if !arguments.wants("in turns") && !arguments.wants(what) {
            continue;
        }
        let sides = [FEWEST, most].map(|keys| {
            let server = start(keys);
            let job = job(&server, traffic.clone(), SHAPE, keys);
            finish(Job { requests: Some(keys), order: Order::InTurn, ..job.clone() });
            finish(Job { requests: Some(keys * calls), ..job.clone() });
            (server, job)
        });
        let measured: Vec<[Sample; 2]> = (0..pairs)
            .map(|_| sides.each_ref().map(|(server, job)| measure(server, job.clone(), interval)))
            .collect();
        let middle = |side: usize| digits(median(measured.iter().map(|pair| pair[side].server_us)));
        let more: Vec<f64> =
            measured.iter().map(|[fewest, most]| most.server_us - fewest.server_us).collect();
        let [fewest, most] = [FEWEST, most].map(|count| short(count as f64));
        table.push(vec![
            what.to_owned(),
            fewest,
            middle(0),
            most,
            middle(1),
            spread(&more),
            "1.5".to_owned(),
        ]);
    }
    format!(
        "{pairs} pairs of {interval:?} each, in turns, when all have called some times:\n\n{}",
        table.render()
    )
}

/// The table of memory.
fn measure_memory(arguments: &Arguments, folder: &Path, machine: &str) {
    let table = memory::Memory::table(arguments, folder);
    println!();
    if arguments.has("--write") {
        let text = format!(
            "# What a server holds in memory\n\n`cargo bench --bench growth -- --memory --full --write` makes the table.\n{machine}.\nResident \
             memory of the server's process, its ledger on disk. Each key or customer has called\ntwice or more. Bytes each: what a minute \
             later is more than at rest.\n\n{table}"
        );
        write("memory.md", &text);
    }
}

fn main() {
    let arguments = Arguments::of_this_process();
    let folder = TempDir::new().unwrap();
    let machine = machine();
    println!("{machine}\n");
    measure_memory(&arguments, folder.path(), &machine);
    if arguments.has("--memory") {
        return;
    }
    let table =
        Table::new(&["what grows", "to", "µs of CPU", "decisions/s", "p50 µs", "p99 µs", "MB"]);
    let mut growth = Growth { arguments: arguments.clone(), table, rows: Vec::new() };
    let largest = if arguments.has("--full") { 7 } else { 6 };
    if arguments.wants("keys") {
        let server = ruled(folder.path(), LASTING);
        powers(3, largest)
            .for_each(|keys| growth.row("keys of a rule", keys, &server, &rules(1), (keys, SHAPE)));
    }
    if arguments.wants("rules") {
        for count in powers(1, 5) {
            let server = ruled(folder.path(), &many_rules(count));
            growth.row("rules", count, &server, &rules(1), (count, SHAPE));
        }
    }
    // A quota takes units from the ledger, and the fewer at once the less often its caller calls:
    // that is a cost of its own.
    let callers: [(_, _, Create, _, _); 4] = [
        (
            "plans with a rate, each with a caller",
            RATE,
            plans::create_many,
            powers(1, 5),
            Kept::Nowhere,
        ),
        (
            "plans with two quotas, each with a caller",
            QUOTAS,
            plans::create_many,
            powers(1, 5),
            Kept::Nowhere,
        ),
        (
            "subscribers of a plan with a rate, each with a key",
            RATE,
            plans::create,
            powers(3, 6),
            Kept::Nowhere,
        ),
        (
            "the same subscribers, in a ledger on disk",
            RATE,
            plans::create,
            powers(3, 6),
            Kept::OnDisk,
        ),
    ];
    for (what, plan, create, counts, kept) in callers {
        if arguments.wants(what) {
            let server = Server::tollgate(kept, None);
            let mut created = 0;
            for count in counts {
                create(server.grpc, plan, created, count);
                created = count;
                growth.row(what, count, &server, &Traffic::Check(caller(plan)), (count, SHAPE));
            }
        }
    }
    if arguments.wants("connections") {
        let server = ruled(folder.path(), LASTING);
        for count in powers(0, 3) {
            let shape = (count as usize, (256 / count as usize).max(1));
            growth.row(
                "connections, 256 calls in flight or more",
                count,
                &server,
                &rules(1),
                (KEYS, shape),
            );
        }
    }
    println!();
    let beside = most_beside_fewest(&arguments, folder.path(), 10_u64.pow(largest));
    if arguments.has("--write") {
        let text = format!(
            "# What a decision costs as work grows\n\n`cargo bench --bench growth -- --full --write`. {machine}. CPU is the server's for each \
             decision at saturation; latencies are at 10,000 calls a second, from when each call should have begun.\n\n{}\n![curves](growth.svg)\n\n{beside}",
            growth.table.render()
        );
        write("growth.md", &text);
        write("growth.svg", &svg(&growth.panels(), 3));
    }
}
