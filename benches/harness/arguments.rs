//! What a bench was asked to do.

use std::time::Duration;

/// The flags of a bench; `cargo bench` adds some of its own, which mean nothing here.
#[derive(Clone, Debug)]
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn of_this_process() -> Self {
        Self(std::env::args().skip(1).collect())
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
