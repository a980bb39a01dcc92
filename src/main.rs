//! Parse the arguments, run the command, exit with its code.

mod allocator;

use std::process::ExitCode;

use clap::Parser;
use tollgate::cli::Cli;

fn main() -> ExitCode {
    allocator::keep_huge_pages();
    Cli::parse().run()
}
