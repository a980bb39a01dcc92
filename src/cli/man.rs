//! `tollgate man`: the manual, for packages to ship.

use std::path::PathBuf;

use clap::{Command, CommandFactory};

use super::client::file;
use super::client::output::print;
use super::{Cli, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write a page for each command into this folder, which must be there: `tollgate.1`,
    /// `tollgate-plan.1`, `tollgate-plan-create.1` and so on [default: `tollgate.1` on standard
    /// output]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.dir {
        Some(dir) => clap_mangen::generate_to(whole(), &dir)
            .map_err(|error| Failure::failed(format!("{}: {error}", file::name(&dir)))),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(whole()).render(&mut page).map_err(Failure::failed)?;
            print(&String::from_utf8(page).map_err(Failure::failed)?)
        }
    }
}

/// All commands, without the ones that only say how to ask for help.
fn whole() -> Command {
    Cli::command().disable_help_subcommand(true)
}
