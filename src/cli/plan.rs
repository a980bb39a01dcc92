//! `tollgate plan`: usage plans.

mod draft;
mod view;

use super::Failure;
use super::client::connect::Client;
use super::client::edit::{self, Connection, Delete, Edit, Id};
use super::client::list::{self, total_line};
use super::client::{resumed, targets};
use crate::grpc::pb::tollgate::get_usage_request::Scope;
use crate::grpc::pb::tollgate::{
    CreateUsagePlanRequest, DeleteUsagePlanRequest, GetUsagePlanRequest, ListUsagePlansRequest,
    ListUsagePlansResponse, UpdateUsagePlanRequest, UsagePlan,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a plan, from flags or from a file.
    Create {
        #[command(flatten)]
        draft: draft::Draft,
        #[command(flatten)]
        edit: Edit,
    },
    /// Show a plan.
    Get(Id),
    /// List plans and what they give.
    List(list::Args),
    /// Change what is given of a plan, and leave the rest.
    Update {
        #[command(flatten)]
        draft: draft::Draft,
        #[command(flatten)]
        etag: edit::Etag,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete a plan.
    Delete(Delete),
    /// Add a target to a plan.
    Attach {
        plan: String,
        target: String,
        /// To which entitlement, where the plan has several
        #[arg(long, value_name = "NAME")]
        entitlement: Option<String>,
        #[command(flatten)]
        how: Connection,
    },
    /// Take a target out of a plan.
    Detach {
        plan: String,
        target: String,
        #[command(flatten)]
        how: Connection,
    },
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), Failure> {
    match command {
        Command::Create { draft, edit } => create(draft, edit, client).await,
        Command::Get(Id { id }) => show(
            &client.answer(client.usage_plans().get_usage_plan(GetUsagePlanRequest { id })).await?,
            client,
        ),
        Command::List(args) => list(args, client).await,
        Command::Update { draft, etag, edit } => update(draft, etag, edit, client).await,
        Command::Delete(delete) => {
            client
                .answer(
                    client
                        .usage_plans()
                        .delete_usage_plan(delete.request::<DeleteUsagePlanRequest>()),
                )
                .await?;
            delete.done("plan", client)
        }
        Command::Attach { plan, target, entitlement, how } => {
            show(&edit::attach(client, (plan, target), entitlement, how).await?, client)
        }
        Command::Detach { plan, target, how } => {
            show(&edit::detach(client, (plan, target), how).await?, client)
        }
    }
}

/// Prints a plan; `target attach` does too.
pub(super) fn show(plan: &UsagePlan, client: &Client) -> Result<(), Failure> {
    client.show("tollgate.v1.UsagePlan", plan, view::one)
}

async fn create(draft: draft::Draft, edit: Edit, client: &Client) -> Result<(), Failure> {
    let (plan, _) = draft.read()?.over(Vec::new())?;
    let request = CreateUsagePlanRequest {
        usage_plan: Some(plan),
        request_id: edit.request_id.clone(),
        validate_only: edit.validate_only,
    };
    let plan = client.answer(client.usage_plans().create_usage_plan(request)).await?;
    if !edit.validate_only {
        resumed::tell("plan", &plan.id, Scope::Plan(plan.id.clone()), client).await;
    }
    edited(&plan, &edit, client).await
}

/// Tells what came of an edit.
async fn edited(plan: &UsagePlan, edit: &Edit, client: &Client) -> Result<(), Failure> {
    edit.note_if_validated();
    if !edit.validate_only {
        targets::tell_created(plan, client).await;
    }
    show(plan, client)
}

/// Where flags say what an entitlement gives, the others of the plan stay: they are read first, and
/// the etag of that reading keeps what others edit in between. Such a request is another one after
/// each edit, and to make it twice changes nothing more: it goes without its id.
async fn update(
    draft: draft::Draft,
    etag: edit::Etag,
    edit: Edit,
    client: &Client,
) -> Result<(), Failure> {
    let draft = draft.read()?;
    let (entitlements, read_etag) = if draft.needs_entitlements() {
        let now = client
            .answer(client.usage_plans().get_usage_plan(GetUsagePlanRequest { id: draft.id() }))
            .await?;
        (now.entitlements, Some(now.etag))
    } else {
        (Vec::new(), None)
    };
    let request_id = if read_etag.is_some() { String::new() } else { edit.request_id.clone() };
    let (mut plan, given) = draft.over(entitlements)?;
    if let Some(etag) = etag.etag.or(read_etag) {
        plan.etag = etag;
    }
    let request = UpdateUsagePlanRequest {
        usage_plan: Some(plan),
        update_mask: Some(given.mask()?),
        request_id,
        validate_only: edit.validate_only,
    };
    let plan = client.answer(client.usage_plans().update_usage_plan(request)).await?;
    edited(&plan, &edit, client).await
}

async fn list(args: list::Args, client: &Client) -> Result<(), Failure> {
    let mut plans = client.usage_plans();
    let (usage_plans, next_page_token, total_size) =
        list::fetch(args, async |request: ListUsagePlansRequest| {
            let page = client.answer(plans.list_usage_plans(request)).await?;
            Ok((page.usage_plans, page.next_page_token, page.total_size))
        })
        .await?;
    let all = ListUsagePlansResponse { usage_plans, next_page_token, total_size };
    client.show("tollgate.v1.ListUsagePlansResponse", &all, |all| {
        view::many(&all.usage_plans)
            + &total_line(all.usage_plans.len(), &all.next_page_token, all.total_size, "plan")
    })
}
