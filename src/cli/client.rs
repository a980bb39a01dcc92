//! What the commands that talk to a server share: how to reach it, how to print its answers, and
//! the flags that several of them have.

pub(super) mod about;
pub(super) mod colour;
pub(super) mod connect;
pub(super) mod edit;
pub(super) mod failure;
pub(super) mod file;
pub(super) mod list;
pub(super) mod output;
pub(super) mod place;
pub(super) mod quota;
pub(super) mod resumed;
pub(super) mod table;
pub(super) mod targets;
pub(super) mod words;

use self::connect::Client;
use super::Failure;

/// A command with commands of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Under<C: clap::Subcommand> {
    #[command(flatten)]
    pub(super) server: connect::Args,
    #[command(subcommand)]
    pub(super) command: C,
}

/// A command without further commands.
#[derive(Debug, clap::Args)]
pub(super) struct With<A: clap::Args> {
    #[command(flatten)]
    pub(super) args: A,
    // The last, for its heading in the help stands over all that follows.
    #[command(flatten)]
    pub(super) server: connect::Args,
}

/// Runs a command that talks to a server. Nothing is connected before the command makes its first
/// call, so that files and flags that cannot be used are found without a server.
pub(super) fn run(
    server: connect::Args,
    work: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async { work(&Client::new(server)?).await })
}
