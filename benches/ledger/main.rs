//! What it costs that quotas survive: the parts of a server over a real SQLite file on the disk.
//!
//! `cargo bench --bench ledger [-- --quick] [--only NAME] [--write]`, NAME one of those below.
//! `--quick`: smaller numbers, to see that it works. `--write` puts the table into
//! `benches/results/ledger.md`.
// A bench ends where something is not as it must be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
// Nothing outside can reach into a bench.
#![allow(unreachable_pub, missing_debug_implementations)]

mod cold;
mod cpu;
mod declare;
mod figures;
mod measure;
mod midnight;
mod site;
mod start;
mod storm;

use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A line of the table.
pub struct Row {
    what: String,
    measured: String,
    target: String,
}

impl Row {
    pub fn new(what: &str, measured: impl Into<String>, target: &str) -> Self {
        Self { what: what.to_owned(), measured: measured.into(), target: target.to_owned() }
    }

    fn line(&self) -> String {
        format!("| {} | {} | {} |", self.what, self.measured, self.target)
    }
}

/// How much is done.
#[derive(Clone, Copy)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    pub fn of(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

type Measure = fn(Scale, &mut Vec<Row>);

const ALL: [(&str, Measure); 8] = [
    ("cpu", cpu::cost),
    ("commits", cpu::commits),
    ("cold", cold::arrivals),
    ("bursts", cold::bursts),
    ("midnight", midnight::crossings),
    ("stop", storm::stop),
    ("failures", storm::failures),
    ("start", start::start),
];

const HEAD: &str = "| what | measured | target |\n|---|---|---|";

fn main() {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    if has("--help") {
        let names: Vec<&str> = ALL.iter().map(|(known, _)| *known).collect();
        println!("cargo bench --bench ledger -- [--quick] [--only NAME | --write]");
        println!("NAME is one of {}; docs/benchmarks.md says more", names.join(", "));
        return;
    }
    let scale = Scale { quick: has("--quick") };
    let only = flags
        .iter()
        .position(|flag| flag == "--only")
        .map(|place| flags.get(place + 1).map_or("", String::as_str));
    if let Some(name) = only.filter(|name| ALL.iter().all(|(known, _)| known != name)) {
        let names: Vec<&str> = ALL.iter().map(|(known, _)| *known).collect();
        println!("--only {name}: there are {}", names.join(", "));
        std::process::exit(2);
    }
    if only.is_some() && has("--write") {
        println!("--write keeps the whole table: leave --only away");
        std::process::exit(2);
    }
    println!("{HEAD}");
    let mut lines = Vec::new();
    for (name, measure) in ALL.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let (start, mut rows) = (Instant::now(), Vec::new());
        measure(scale, &mut rows);
        for row in rows {
            println!("{}", row.line());
            lines.push(row.line());
        }
        eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    if has("--write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/ledger.md");
        let command = "cargo bench --bench ledger -- --write";
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(
            &path,
            format!(
                "What durable quotas cost. `{command}` writes this file.\n\n{HEAD}\n{}\n",
                lines.join("\n")
            ),
        )
        .unwrap();
    }
}
