//! Parse the arguments, run the command, exit with its code.

mod allocator;

use std::process::ExitCode;

use tollgate::cli::{Cli, explain};

fn main() -> ExitCode {
    allocator::use_small_pages();
    match Cli::read() {
        Ok(cli) => cli.run(),
        Err(error) => explain(&error),
    }
}
