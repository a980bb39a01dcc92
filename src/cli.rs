//! The command line: one file per command. What the commands that talk to a server share is in
//! `client`.

mod apply;
mod as_ratelimit;
mod check;
mod client;
mod completions;
mod grant;
mod health;
mod key;
mod leading;
mod ledger;
pub mod load;
mod man;
mod plan;
mod report;
mod rules;
mod serve;
mod settings;
mod subscriber;
mod target;
mod token;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::client::output::{note, say};
use self::client::{Under, With};

/// May this caller make this call now? A gRPC decision service for API gateways.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
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
    /// Look after the ledger: the file that holds what must not be lost.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Tokens of those who call the server.
    #[command(subcommand)]
    Token(token::Command),
    /// Look at rules files.
    #[command(subcommand)]
    Rules(rules::Command),
    /// List the settings of the server, or the names of the reference's environment.
    Settings(settings::Args),
    /// Usage plans: what a subscriber may use.
    #[command(after_help = EXIT_CODES)]
    Plan(Under<plan::Command>),
    /// Targets: the API deployments and stages that a gateway serves.
    #[command(after_help = EXIT_CODES)]
    Target(Under<target::Command>),
    /// Subscribers: customers, each with plans and API keys.
    #[command(after_help = EXIT_CODES)]
    Subscriber(Under<subscriber::Command>),
    /// API keys of subscribers.
    #[command(after_help = EXIT_CODES)]
    Key(Under<key::Command>),
    /// Apply files of targets, plans, subscribers and keys: all or nothing.
    #[command(after_help = EXIT_CODES)]
    Apply(With<apply::Args>),
    /// What was used, by quota and period, and by day.
    #[command(after_help = EXIT_CODES)]
    Usage(With<usage::Args>),
    /// Give units of a quota to a subscriber or a key, for the current period.
    #[command(after_help = EXIT_CODES)]
    Grant(With<grant::Args>),
    /// Ask for one decision, as a gateway does. Exits with 0 when it is admitted, with 3 when it is
    /// denied.
    #[command(after_help = EXIT_CODES)]
    Check(With<check::Args>),
    /// Report how an admitted request ended, as a gateway does.
    #[command(after_help = EXIT_CODES)]
    Report(With<report::Args>),
    /// Ask whether a server is well: over gRPC, as probes do. Exits with 0 when it serves, with 1
    /// when it does not, or cannot be asked.
    #[command(after_help = EXIT_CODES)]
    Health(With<health::Args>),
    /// Write what lets a shell complete commands and flags.
    Completions(completions::Args),
    /// Write the manual: one page, or a page for each command.
    Man(man::Args),
    /// Measure a server: ask as fast as it answers, or at a fixed rate, and show throughput and
    /// latencies.
    #[command(after_help = EXIT_CODES)]
    Load(With<load::Args>),
}

/// The command could not do its work: a port in use, a server that does not answer.
const FAILED: u8 = 1;
/// What it was given cannot be used: flags, settings, files.
const UNUSABLE: u8 = 2;
/// `check` was answered DENY.
const DENIED: u8 = 3;
/// There is no resource of that id.
const NOT_FOUND: u8 = 4;
/// The resource exists already, was edited since, or is in use.
const CONFLICT: u8 = 5;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it could not be done: the server cannot be reached, or failed
  2  what was given cannot be used: flags, files, fields
  3  `check`: the request is denied
  4  there is no such resource
  5  conflict: it exists already, was edited since, or is in use";

impl Cli {
    /// The command line of this process.
    ///
    /// # Errors
    /// What cannot be used of it, or what `--help` and `--version` say.
    pub fn read() -> Result<Self, clap::Error> {
        Self::of(std::env::args_os().collect())
    }

    fn of(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let root = Self::command();
        let serve = root.find_subcommand("serve");
        if let Some((args, ignored)) = serve.and_then(|serve| as_ratelimit::read(&args, serve)) {
            let mut cli = Self::try_parse_from(args)?;
            if let Some(Command::Serve(args)) = &mut cli.command {
                args.ignored = ignored;
            }
            return Ok(cli);
        }
        Self::try_parse_from(leading::behind(args, &root))
    }

    /// Runs the command. The exit codes are those that `--help` lists.
    pub fn run(self) -> ExitCode {
        match self.command.unwrap_or(Command::Serve(self.serve)).run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.exit(),
        }
    }
}

/// Says what clap says where it finds no command to run: the help that was asked for, or what is
/// wrong with the arguments.
pub fn explain(error: &clap::Error) -> ExitCode {
    match say(error) {
        Ok(()) => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(UNUSABLE)),
        Err(failure) => failure.exit(),
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => serve::run(args),
            Self::Ledger(command) => ledger::run(command),
            Self::Token(command) => token::run(command),
            Self::Rules(command) => rules::run(command),
            Self::Settings(args) => settings::run(args),
            Self::Plan(Under { server, command }) => {
                client::run(server, async |client| plan::run(command, client).await)
            }
            Self::Target(Under { server, command }) => {
                client::run(server, async |client| target::run(command, client).await)
            }
            Self::Subscriber(Under { server, command }) => {
                client::run(server, async |client| subscriber::run(command, client).await)
            }
            Self::Key(Under { server, command }) => {
                client::run(server, async |client| key::run(command, client).await)
            }
            Self::Apply(With { server, args }) => {
                client::run(server, async |client| apply::run(args, client).await)
            }
            Self::Usage(With { server, args }) => {
                client::run(server, async |client| usage::run(args, client).await)
            }
            Self::Grant(With { server, args }) => {
                client::run(server, async |client| grant::run(args, client).await)
            }
            Self::Check(With { server, args }) => {
                client::run(server, async |client| check::run(args, client).await)
            }
            Self::Report(With { server, args }) => {
                client::run(server, async |client| report::run(args, client).await)
            }
            Self::Health(With { server, args }) => {
                client::run(server, async |client| health::run(args, client).await)
            }
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
            Self::Load(With { server, args }) => {
                client::run(server, async |client| load::run(args, client).await)
            }
        }
    }
}

/// Why a command ended early, in words, with its exit code.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    /// Empty where it was said already.
    text: String,
}

impl Failure {
    fn failed(text: impl ToString) -> Self {
        Self { code: FAILED, text: text.to_string() }
    }

    fn unusable(text: impl ToString) -> Self {
        Self { code: UNUSABLE, text: text.to_string() }
    }

    /// Says why, and gives the exit code.
    fn exit(self) -> ExitCode {
        if !self.text.is_empty() {
            note(&self.text);
        }
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests;
