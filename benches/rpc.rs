//! The whole path of a decision, the server in a process of its own: processor time for each
//! decision, beside a server that decodes and answers the same messages and decides nothing. Both
//! are measured in turns, A B A B, and compared pair by pair.
//!
//! `cargo bench --bench rpc -- [--quick | --full] [--pairs N] [--only TEXT] [--write]`. With
//! `--write` the tables go to `benches/results/rpc.md`.
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

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::load::{Job, Traffic};

use self::harness::arguments::Arguments;
use self::harness::load::{Sample, Shape, caller, job, measure, rules};
use self::harness::noop::{self, Settings};
use self::harness::plans::{self, QUOTAS, RATE};
use self::harness::process::{Kept, Server, machine};
use self::harness::table::{Table, digits, median, spread, write};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "harness/harness.rs"]
mod harness;

/// Few connections with many calls under way on each, and many with few.
const SHAPES: [Shape; 2] = [(8, 32), (64, 16)];
const STREAMS: Shape = (8, 4);
const BATCH: u32 = 64;
const SUBSCRIBERS: u64 = 1_000;

/// The servers that are compared.
struct Servers {
    memory: Server,
    disk: Server,
    chosen: Server,
    default: Server,
}

#[derive(Clone, Copy)]
enum Of {
    Memory,
    Disk,
    Chosen,
    Default,
}

impl Servers {
    fn start(samples: &Path) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/load/rules");
        let memory = Server::tollgate(Kept::Nowhere, Some(&examples));
        let disk = Server::tollgate(Kept::OnDisk, None);
        for server in [&memory, &disk] {
            plans::create(server.grpc, RATE, 0, SUBSCRIBERS);
            plans::create(server.grpc, QUOTAS, 0, SUBSCRIBERS);
        }
        noop::take_samples(&memory, samples);
        let (chosen, default) =
            (noop::start(Settings::Chosen, samples), noop::start(Settings::Default, samples));
        Self { memory, disk, chosen, default }
    }

    fn get(&self, of: Of) -> &Server {
        match of {
            Of::Memory => &self.memory,
            Of::Disk => &self.disk,
            Of::Chosen => &self.chosen,
            Of::Default => &self.default,
        }
    }
}

/// Load on one of the servers.
struct Side {
    of: Of,
    traffic: Traffic,
    keys: u64,
    shape: Shape,
}

impl Side {
    fn job(&self, servers: &Servers) -> Job {
        job(servers.get(self.of), self.traffic.clone(), self.shape, self.keys)
    }

    fn measure(&self, servers: &Servers, interval: Duration) -> Sample {
        measure(servers.get(self.of), self.job(servers), interval)
    }
}

/// A line of the table.
struct Case {
    what: String,
    beside: &'static str,
    budget: &'static str,
    one: Side,
    other: Side,
}

/// tollgate beside the no-op server that is served in the same way, by the same load.
fn against_no_op(
    what: &str,
    budget: &'static str,
    traffic: Traffic,
    keys: u64,
    shape: Shape,
) -> Case {
    let side = |of| Side { of, traffic: traffic.clone(), keys, shape };
    Case {
        what: what.to_owned(),
        beside: "no-op",
        budget,
        one: side(Of::Memory),
        other: side(Of::Chosen),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        cases.push(against_no_op("rules, one descriptor, 1 key", "1.15", rules(1), 1, shape));
        cases.push(against_no_op(
            "rules, one descriptor, 10,000 keys",
            "1.15",
            rules(1),
            10_000,
            shape,
        ));
        cases.push(against_no_op(
            "Check, a rate limit",
            "",
            Traffic::Check(caller(RATE)),
            SUBSCRIBERS,
            shape,
        ));
        cases.push(against_no_op(
            "Check, a rate limit, two quotas, a receipt",
            "1.4",
            Traffic::Check(caller(QUOTAS)),
            SUBSCRIBERS,
            shape,
        ));
        let side = |of| Side { of, traffic: rules(1), keys: 10_000, shape };
        let what = "the no-op, served as tollgate is".to_owned();
        cases.push(Case {
            what,
            beside: "no-op, tonic's defaults",
            budget: "0.6",
            one: side(Of::Chosen),
            other: side(Of::Default),
        });
    }
    let shape = SHAPES[0];
    cases.push(against_no_op("rules, 10 descriptors", "", rules(10), 10_000, shape));
    cases.push(against_no_op("rules, 100 descriptors", "", rules(100), 10_000, shape));
    let reported = Traffic::Report(caller(QUOTAS), 0.3);
    cases.push(against_no_op(
        "Check and Report, 30 % of them 5xx (both calls)",
        "",
        reported,
        SUBSCRIBERS,
        shape,
    ));
    for (what, plan, budget) in [
        ("CheckStream, batches of 64, a rate limit", RATE, "0.067"),
        ("CheckStream, batches of 64, quotas and receipts", QUOTAS, "0.167"),
    ] {
        let one = Side {
            of: Of::Memory,
            traffic: Traffic::Stream(caller(plan), BATCH),
            keys: SUBSCRIBERS,
            shape: STREAMS,
        };
        let other = Side {
            of: Of::Memory,
            traffic: Traffic::Check(caller(plan)),
            keys: SUBSCRIBERS,
            shape,
        };
        cases.push(Case { what: what.to_owned(), beside: "the same by Check", budget, one, other });
    }
    let side = |of| Side { of, traffic: Traffic::Check(caller(QUOTAS)), keys: SUBSCRIBERS, shape };
    let what = "Check with quotas, the ledger on disk".to_owned();
    cases.push(Case {
        what,
        beside: "the ledger in memory",
        budget: "",
        one: side(Of::Disk),
        other: side(Of::Memory),
    });
    cases
}

fn compare(servers: &Servers, arguments: &Arguments, pairs: usize) -> String {
    let head = [
        "what",
        "connections x in flight",
        "µs of CPU",
        "beside",
        "µs of CPU",
        "ratio (least..most)",
        "budget",
        "decisions/s",
        "load's own µs",
    ];
    let mut table = Table::new(&head);
    for case in cases().into_iter().filter(|case| arguments.wants(&case.what)) {
        let measured: Vec<(Sample, Sample)> = (0..pairs)
            .map(|_| {
                (
                    case.one.measure(servers, arguments.interval()),
                    case.other.measure(servers, arguments.interval()),
                )
            })
            .collect();
        let middle = |of: fn(&(Sample, Sample)) -> f64| digits(median(measured.iter().map(of)));
        let ratios: Vec<f64> =
            measured.iter().map(|(one, other)| one.server_us / other.server_us).collect();
        let (connections, in_flight) = case.one.shape;
        table.push(vec![
            case.what,
            format!("{connections} x {in_flight}"),
            middle(|(one, _)| one.server_us),
            case.beside.to_owned(),
            middle(|(_, other)| other.server_us),
            spread(&ratios),
            case.budget.to_owned(),
            format!("{:.0}", median(measured.iter().map(|(one, _)| one.per_second))),
            middle(|(one, _)| one.own_us),
        ]);
    }
    table.render()
}

/// Latencies and processor time at a rate that keeps nobody busy.
fn at_a_low_rate(servers: &Servers, arguments: &Arguments, pairs: usize) -> String {
    const RATE_PER_S: f64 = 4_000.0;
    let mut table =
        Table::new(&["4,000 a second, 8 connections", "µs of CPU", "p50 µs", "p99 µs", "p99.9 µs"]);
    for (what, of, traffic) in [
        ("tollgate, rules, one descriptor", Of::Memory, rules(1)),
        ("tollgate, Check with quotas", Of::Memory, Traffic::Check(caller(QUOTAS))),
        ("no-op, served as tollgate is", Of::Chosen, rules(1)),
        ("no-op, tonic's defaults", Of::Default, rules(1)),
    ] {
        if !arguments.wants("low rate") {
            continue;
        }
        let side = Side { of, traffic, keys: SUBSCRIBERS, shape: SHAPES[0] };
        let measured: Vec<Sample> = (0..pairs)
            .map(|_| {
                measure(
                    servers.get(of),
                    Job { rate: Some(RATE_PER_S), ..side.job(servers) },
                    arguments.interval(),
                )
            })
            .collect();
        let middle = |of: fn(&Sample) -> f64| digits(median(measured.iter().map(of)));
        table.push(vec![
            what.to_owned(),
            middle(|sample| sample.server_us),
            middle(|sample| sample.p50_us),
            middle(|sample| sample.p99_us),
            middle(|sample| sample.p99_9_us),
        ]);
    }
    table.render()
}

/// Are connections spread over the cores in every start, or by luck?
fn two_connections(arguments: &Arguments) -> String {
    const STARTS: usize = 20;
    if !arguments.wants("two connections") {
        return String::new();
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/load/rules");
    let interval = arguments.interval() / 3;
    let ratios: Vec<f64> = (0..STARTS)
        .map(|_| {
            let server = Server::tollgate(Kept::Nowhere, Some(&examples));
            let carried = |connections| {
                measure(&server, job(&server, rules(1), (connections, 128), 10_000), interval)
                    .per_second
            };
            let one = carried(1);
            carried(2) / one
        })
        .collect();
    let mut table = Table::new(&["what", "ratio of throughput (least..most)", "budget"]);
    table.push(vec![
        format!("two connections beside one, {STARTS} starts"),
        spread(&ratios),
        "1.5, in each start".to_owned(),
    ]);
    table.render()
}

fn main() {
    noop::serve_if_asked();
    let arguments = Arguments::of_this_process();
    let pairs = arguments.value("--pairs").map_or(5, |text| text.parse().unwrap());
    let folder = TempDir::new().unwrap();
    let servers = Servers::start(&folder.path().join("samples"));
    let machine = machine();
    println!("{machine}\n");
    let compared = compare(&servers, &arguments, pairs);
    println!();
    let low = at_a_low_rate(&servers, &arguments, pairs);
    drop(servers);
    println!();
    let two = two_connections(&arguments);
    if arguments.has("--write") {
        let interval = arguments.interval();
        let text = format!(
            "# The whole path of a decision\n\n`cargo bench --bench rpc -- --write`: {pairs} pairs of {interval:?} each, in turns. {machine}. \
             Middle of the pairs; CPU is user and system time of the server's process for each decision.\n\n{compared}\n{low}\n{two}"
        );
        write("rpc.md", &text);
    }
}
