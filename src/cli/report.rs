//! `tollgate report`: how an admitted request ended.

use super::Failure;
use super::client::connect::Client;
use super::client::output::{Output, print};
use crate::grpc::pb::tollgate::outcome::{Ending, Result as Ended, Subject};
use crate::grpc::pb::tollgate::{Outcome, ReportRequest, Settlement};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The receipt that the check handed out
    #[arg(long, allow_hyphen_values = true)]
    receipt: String,
    #[command(flatten)]
    ended: EndedArgs,
    /// The real cost, where it is another than the checked one
    #[arg(long, value_name = "N")]
    cost: Option<u64>,
    /// The gateway itself made the response; the target never saw the request
    #[arg(long)]
    made_by_gateway: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct EndedArgs {
    /// The HTTP status of the response
    #[arg(long, value_name = "100-599", value_parser = clap::value_parser!(u32).range(100..=599))]
    status: Option<u32>,
    /// The gRPC status of the response
    #[arg(long, value_name = "0-16", value_parser = clap::value_parser!(u32).range(0..=16))]
    grpc_status: Option<u32>,
    /// The target gave no response
    #[arg(long)]
    no_response: bool,
    /// The caller went away before the response
    #[arg(long)]
    caller_gone: bool,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let EndedArgs { status, grpc_status, no_response, caller_gone: _ } = args.ended;
    let ending = if no_response { Ending::NoResponse } else { Ending::CallerGone };
    let result = status
        .map(Ended::HttpStatus)
        .or(grpc_status.map(Ended::GrpcStatus))
        .unwrap_or(Ended::Ending(ending.into()));
    let outcome = Outcome {
        cost: args.cost,
        made_by_gateway: args.made_by_gateway,
        subject: Some(Subject::Receipt(args.receipt.into())),
        result: Some(result),
        ..Outcome::default()
    };
    let answer =
        client.answer(client.decisions().report(ReportRequest { outcomes: vec![outcome] })).await?;
    let settled = answer.results().next().unwrap_or_default();
    match client.output {
        Output::Json => client.show("tollgate.v1.ReportResponse", &answer, |_| String::new())?,
        Output::Table => print(&format!("{}\n", settled.as_str_name()))?,
    }
    match settled {
        Settlement::Counted
        | Settlement::Refunded
        | Settlement::Corrected
        | Settlement::Duplicate => Ok(()),
        Settlement::Expired => Err(Failure::failed("the receipt is too old; nothing was changed")),
        Settlement::Invalid => Err(Failure::unusable(
            "the receipt is not one that the server handed out; nothing was changed",
        )),
        Settlement::Unspecified => Err(Failure::failed("the server's answer has no result")),
    }
}
