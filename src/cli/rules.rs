//! `tollgate rules`: look at rules files without serving them.

use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use super::client::output::print;
use crate::config;
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Load rules files as `serve` would, and say what is wrong with them.
    Check {
        /// Files and directories.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Several files may add to one domain.
        #[arg(long)]
        merge_domains: bool,
        /// Read every file of a directory, not only `.yaml` and `.yml`.
        #[arg(long)]
        any_extension: bool,
    },
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let Command::Check { paths, merge_domains, any_extension } = command;
    let settings = config::Rules {
        paths,
        merge_domains,
        ignore_dotfiles: true,
        any_extension,
        prefix: String::new(),
        poll_ms: 1000,
    };
    let book = Rulebook::open(settings, Arc::new(Metrics::new())).map_err(Failure::unusable)?;
    print(&format!("{}{}\n", book.describe(), book.summary()))
}
