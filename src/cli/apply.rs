//! `tollgate apply`: files of targets, plans, subscribers and keys, all or nothing.

mod declared;
mod parts;
mod show;

use std::path::PathBuf;

use tonic::{Response, Status};

use super::Failure;
use super::client::connect::Client;
use super::client::output::{Output, note, print};
use crate::grpc::pb::tollgate::{ApplyRequest, ApplyResponse};
use declared::Declared;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// A file, repeatable; all of them are applied as one
    #[arg(short, long = "file", value_name = "FILE|-", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Delete what the files do not name, of the kinds that they name
    #[arg(long)]
    prune: bool,
    /// With --prune: also where that is more than half of a kind
    #[arg(long, requires = "prune")]
    prune_all: bool,
    /// Show what would be done, and do nothing
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
    /// Makes a retry safe: the same request under the same id is done once, and answered alike
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let mut declared = Declared::read(&args.files, args.prune_all)?;
    declared.message.validate_only = args.dry_run;
    declared.message.request_id = args.request_id;
    if args.prune {
        declared.message.prune = true;
        declared.message.prune_all = args.prune_all;
        declared.message.prune_kinds = declared.kinds.iter().map(|&kind| kind.into()).collect();
    }
    let client = &client.patient();
    let parts = parts::of(std::mem::take(&mut declared.message));
    let answer = match client.reply(send(parts, client)).await {
        Ok(answer) => answer,
        Err(status) => {
            return Err(declared.refused(&status).unwrap_or_else(|| client.failure(&status)));
        }
    };
    if client.output == Output::Json {
        return client.show("tollgate.v1.ApplyResponse", &answer, |_| String::new());
    }
    print(&answer.changes.iter().map(show::change).collect::<String>())?;
    note(&show::summary(&answer, args.dry_run));
    Ok(())
}

/// What fits into one message is sent as one; what does not is one set all the same.
async fn send(
    parts: Vec<ApplyRequest>,
    client: &Client,
) -> Result<Response<ApplyResponse>, Status> {
    let parts = match <[ApplyRequest; 1]>::try_from(parts) {
        Ok([whole]) => return client.usage_plans().apply(whole).await,
        Err(parts) => parts,
    };
    let mut answers =
        client.usage_plans().apply_stream(tokio_stream::iter(parts)).await?.into_inner();
    let mut whole = ApplyResponse::default();
    while let Some(answer) = answers.message().await? {
        whole.changes.extend(answer.changes);
    }
    Ok(Response::new(whole))
}
