//! Standard output, which may be a pipe that somebody closes early.

use std::io::{ErrorKind, Write};

use crate::cli::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Output {
    Table,
    Json,
}

/// Writes to standard output. That nobody reads on is no failure: `… | head` is done when it has its lines.
pub(in crate::cli) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::failed(format!("standard output: {error}"))),
        _ => Ok(()),
    }
}

/// Says something to a person beside the output.
pub(in crate::cli) fn note(text: &str) {
    eprintln!("tollgate: {text}");
}
