//! Parse the arguments, run the command, exit with its code.

use std::process::ExitCode;

use clap::Parser;
use tollgate::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
