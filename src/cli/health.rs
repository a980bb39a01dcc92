//! `tollgate health`: whether a server is well. An image without a shell checks itself by it.

use super::Failure;
use super::client::connect::Client;
use super::client::output::{Output, print};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The service that is asked about; none: the whole server
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let question = HealthCheckRequest { service: args.service };
    let answer = client.answer(client.health().check(question)).await?;
    let status = answer.status();
    match client.output {
        Output::Table => print(&format!("{}\n", status.as_str_name()))?,
        Output::Json => {
            let said = serde_json::json!({ "status": status.as_str_name() });
            print(&format!("{said:#}\n"))?;
        }
    }
    match status {
        ServingStatus::Serving => Ok(()),
        _ => Err(Failure::failed("the server does not serve")),
    }
}
