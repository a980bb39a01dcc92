//! `tollgate completions`: what lets a shell complete commands and flags.

use clap::CommandFactory;
use clap_complete::Shell;

use super::client::output::print;
use super::{Cli, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tollgate", &mut script);
    print(&String::from_utf8(script).map_err(Failure::failed)?)
}
