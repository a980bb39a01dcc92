//! `tollgate grant`: units given by an operator for the current period.

use super::Failure;
use super::client::connect::Client;
use super::usage;
use crate::grpc::pb::tollgate::GrantRequest;
use crate::grpc::pb::tollgate::grant_request::{Change, Subject};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The plan that gives the quota
    #[arg(long, value_name = "ID")]
    plan: String,
    /// The entitlement of the plan
    #[arg(long, value_name = "NAME")]
    entitlement: String,
    /// The quota of the entitlement
    #[arg(long, value_name = "NAME")]
    quota: String,
    #[command(flatten)]
    change: ChangeArgs,
    /// Makes a retry safe: the same request under the same id is done once, and answered alike
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SubjectArgs {
    /// Whose quota
    #[arg(long, value_name = "ID")]
    subscriber: Option<String>,
    /// The API key's own quota, where the entitlement counts each key on its own
    #[arg(long, value_name = "ID")]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ChangeArgs {
    /// So many units more
    #[arg(long, value_name = "N")]
    add: Option<u64>,
    /// Exactly so many units remain
    #[arg(long, value_name = "N")]
    set_remaining: Option<u64>,
    /// The whole limit remains
    #[arg(long)]
    reset: bool,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let SubjectArgs { subscriber, key } = args.subject;
    let ChangeArgs { add, set_remaining, reset } = args.change;
    let request = GrantRequest {
        subject: subscriber.map(Subject::Subscriber).or(key.map(Subject::ApiKey)),
        plan: args.plan,
        entitlement: args.entitlement,
        quota: args.quota,
        change: add
            .map(Change::Add)
            .or(set_remaining.map(Change::SetRemaining))
            .or(reset.then_some(Change::Reset(true))),
        request_id: args.request_id,
    };
    let quota = client.answer(client.usage_plans().grant(request)).await?;
    client
        .show("tollgate.v1.QuotaUsage", &quota, |quota| usage::quotas(std::slice::from_ref(quota)))
}
