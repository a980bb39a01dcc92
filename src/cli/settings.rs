//! `tollgate settings`: what can be set.

use super::Failure;
use super::client::output::print;
use super::client::table::Table;
use crate::config::{SETTINGS, reference};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment of envoyproxy/ratelimit instead: each name, and what becomes of it here.
    #[arg(long)]
    reference: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let table = if args.reference {
        let mut table = Table::new(["NAME", "HERE", "SETTING OR REASON"]);
        reference::NAMES
            .iter()
            .for_each(|known| table.row([known.name, known.fate.words(), known.why]));
        table
    } else {
        let mut table = Table::new(["KEY", "DEFAULT", "MEANING"]);
        SETTINGS
            .iter()
            .for_each(|setting| table.row([setting.key, setting.default, setting.meaning]));
        table
    };
    print(&table.render())
}
