//! The command line: one file per command.

mod rules;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// May this caller make this call now? A gRPC decision service for API gateways.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve decisions (the default).
    Serve(serve::Args),
    /// Look at rules files.
    #[command(subcommand)]
    Rules(rules::Command),
}

/// The command could not do its work: a port in use, a server that does not answer.
const FAILED: u8 = 1;
/// What it was given cannot be used: flags, settings, files.
const UNUSABLE: u8 = 2;

impl Cli {
    /// Runs the command. 0: done; 1: it could not be done; 2: what was given cannot be used.
    pub fn run(self) -> ExitCode {
        let result = match self.command.unwrap_or(Command::Serve(self.serve)) {
            Command::Serve(args) => serve::run(args),
            Command::Rules(command) => rules::run(command),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("tollgate: {}", failure.text);
                ExitCode::from(failure.code)
            }
        }
    }
}

/// Why a command ended early, in words, with its exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn failed(text: impl ToString) -> Self {
        Self { code: FAILED, text: text.to_string() }
    }

    fn unusable(text: impl ToString) -> Self {
        Self { code: UNUSABLE, text: text.to_string() }
    }
}
