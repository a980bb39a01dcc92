//! What commands say, on standard output and beside it. Either may be a pipe that somebody closes
//! early, or a file on a full disk.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use crate::cli::Failure;
use crate::log::write_whole;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Output {
    Table,
    Json,
}

/// Writes to standard output. That nobody reads on is no failure: `… | head` is done when it has
/// its lines.
pub(in crate::cli) fn print(text: &str) -> Result<(), Failure> {
    told(write(io::stdout().as_fd(), text), "standard output")
}

/// Writes to standard error what belongs to the output of the command.
pub(in crate::cli) fn print_beside(text: &str) -> Result<(), Failure> {
    told(write(io::stderr().as_fd(), text), "standard error")
}

fn told(outcome: io::Result<()>, stream: &str) -> Result<(), Failure> {
    outcome.map_err(|error| Failure::failed(format!("{stream} cannot be written: {error}")))
}

/// Says something to a person beside the output. Where that cannot be written the work goes on.
pub(in crate::cli) fn note(text: &str) {
    let _ = write(io::stderr().as_fd(), &format!("tollgate: {text}\n"));
}

/// In one piece and without a buffer, of which a rest would be left over where it fails. A reader
/// that has gone away wants no more.
fn write(to: impl AsFd, text: &str) -> io::Result<()> {
    let mut to = File::from(to.as_fd().try_clone_to_owned()?);
    match write_whole(&mut to, text.as_bytes(), &mut 0) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// What clap has to say instead of a command: help and the version on standard output, mistakes
/// beside it.
pub(in crate::cli) fn say(of: &clap::Error) -> Result<(), Failure> {
    match of.print() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            told(Err(error), if of.use_stderr() { "standard error" } else { "standard output" })
        }
        _ => Ok(()),
    }
}
