//! What a bench was asked to do.

use std::time::Duration;

/// The flags of a bench; `cargo bench` adds some of its own, which mean nothing here.
#[derive(Clone, Debug)]
pub struct Arguments(Vec<String>);

const HELP: &str = "cargo bench --bench NAME -- [FLAGS]
  --quick      half a second for each cell: to see that it runs
  --full       ten seconds for each cell, and the largest sizes
  --pairs N    so many pairs, by turns (rpc, growth)
  --seconds N  so long for each row (steady)
  --only TEXT  the rows with this text in their names
  --write      the tables go to benches/results, too
docs/benchmarks.md says what each bench measures, and how long it takes.";

impl Arguments {
    /// Who asks for help does not want to wait for the whole bench.
    pub fn of_this_process() -> Self {
        let given = Self(std::env::args().skip(1).collect());
        if given.has("--help") {
            println!("{HELP}");
            std::process::exit(0);
        }
        given
    }

    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|given| given == flag)
    }

    /// The value after a flag.
    pub fn value(&self, flag: &str) -> Option<&str> {
        let at = self.0.iter().position(|given| given == flag)?;
        self.0.get(at + 1).map(String::as_str)
    }

    /// How long each cell of a table is measured: `--quick`, nothing, or `--full`.
    pub fn interval(&self) -> Duration {
        match (self.has("--quick"), self.has("--full")) {
            (true, _) => Duration::from_millis(500),
            (_, true) => Duration::from_secs(10),
            _ => Duration::from_secs(3),
        }
    }

    /// `--only TEXT` leaves out what does not have the text in its name.
    pub fn wants(&self, name: &str) -> bool {
        self.value("--only").is_none_or(|text| name.contains(text))
    }
}
