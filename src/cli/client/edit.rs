//! The flags that edits have in common, and the commands that are the same for all resources.

use crate::cli::Failure;
use crate::cli::client::connect::Client;
use crate::cli::client::output::{Output, note, print};
use crate::cli::client::targets;
use crate::grpc::convert::requests::DeleteRequest;
use crate::grpc::pb::tollgate::{AttachTargetRequest, DetachTargetRequest, UsagePlan};

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Edit {
    /// Makes a retry safe: the same request under the same id is done once, and answered alike
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(in crate::cli) request_id: String,
    /// Check everything and change nothing
    #[arg(long)]
    pub(in crate::cli) validate_only: bool,
}

impl Edit {
    /// What was asked for has been done, or would have been.
    pub(in crate::cli) fn note_if_validated(&self) {
        if self.validate_only {
            note("this can be done; nothing was changed (--validate-only)");
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Etag {
    /// Refuse where it was edited since it had this etag
    #[arg(long, value_name = "ETAG")]
    pub(in crate::cli) etag: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Id {
    /// Which one
    pub(in crate::cli) id: String,
}

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Delete {
    /// Which one
    id: String,
    /// Also where others depend on it: those are detached from it, or deleted with it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    etag: Etag,
    #[command(flatten)]
    edit: Edit,
}

impl Delete {
    pub(in crate::cli) fn request<R: From<DeleteRequest>>(&self) -> R {
        let request = DeleteRequest {
            id: self.id.clone(),
            etag: self.etag.etag.clone().unwrap_or_default(),
            force: self.force,
            request_id: self.edit.request_id.clone(),
            validate_only: self.edit.validate_only,
        };
        request.into()
    }

    /// Says that it is gone.
    pub(in crate::cli) fn done(&self, kind: &str, client: &Client) -> Result<(), Failure> {
        self.edit.note_if_validated();
        match client.output {
            Output::Json => print("{}\n"),
            Output::Table if self.edit.validate_only => Ok(()),
            Output::Table => print(&format!("deleted {kind} {}\n", self.id)),
        }
    }
}

/// The flags of attaching a target to a plan and of detaching it; which is named first depends on
/// the command.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Connection {
    #[command(flatten)]
    etag: Etag,
    #[command(flatten)]
    edit: Edit,
}

pub(in crate::cli) async fn attach(
    client: &Client,
    (plan, target): (String, String),
    entitlement: Option<String>,
    how: Connection,
) -> Result<UsagePlan, Failure> {
    let request = AttachTargetRequest {
        plan,
        entitlement: entitlement.unwrap_or_default(),
        target,
        etag: how.etag.etag.unwrap_or_default(),
        request_id: how.edit.request_id.clone(),
        validate_only: how.edit.validate_only,
    };
    let plan = client.answer(client.usage_plans().attach_target(request)).await?;
    how.edit.note_if_validated();
    if !how.edit.validate_only {
        targets::tell_created(&plan, client).await;
    }
    Ok(plan)
}

pub(in crate::cli) async fn detach(
    client: &Client,
    (plan, target): (String, String),
    how: Connection,
) -> Result<UsagePlan, Failure> {
    let request = DetachTargetRequest {
        plan,
        target,
        etag: how.etag.etag.unwrap_or_default(),
        request_id: how.edit.request_id.clone(),
        validate_only: how.edit.validate_only,
    };
    let plan = client.answer(client.usage_plans().detach_target(request)).await?;
    how.edit.note_if_validated();
    Ok(plan)
}
