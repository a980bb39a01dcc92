//! `tollgate target`: the API deployments and stages that a gateway serves.

use std::path::PathBuf;

use super::Failure;
use super::client::about::{About, Given, list};
use super::client::connect::Client;
use super::client::edit::{self, Connection, Delete, Edit, Etag, Id};
use super::client::list::{self, total_line};
use super::client::table::Table;
use super::client::{file, words};
use super::plan;
use crate::grpc::pb::tollgate::{
    CreateTargetRequest, DeleteTargetRequest, GetTargetRequest, ListTargetsRequest,
    ListTargetsResponse, MethodRateLimit, OpenMethod, RateLimit, Target, UpdateTargetRequest,
};

const NAME: &str = "tollgate.v1.Target";
const EDITABLE: &[&str] = &[
    "display_name",
    "description",
    "labels",
    "rate_limit",
    "method_rate_limits",
    "open_methods",
    "default_plan",
];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a target. Those that a plan names are made by themselves.
    Create {
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        edit: Edit,
    },
    /// Show a target.
    Get(Id),
    /// List targets.
    List(list::Args),
    /// Change what is given of a target, and leave the rest.
    Update {
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete a target.
    Delete(Delete),
    /// Add the target to a plan.
    Attach {
        target: String,
        plan: String,
        /// To which entitlement, where the plan has several
        #[arg(long, value_name = "NAME")]
        entitlement: Option<String>,
        #[command(flatten)]
        how: Connection,
    },
    /// Take the target out of a plan.
    Detach {
        target: String,
        plan: String,
        #[command(flatten)]
        how: Connection,
    },
    /// Say which plan serves keys whose subscriber has none for the target.
    SetDefaultPlan {
        target: String,
        /// The plan, which must cover the target
        #[arg(required_unless_present = "none")]
        plan: Option<String>,
        /// No plan
        #[arg(long, conflicts_with = "plan")]
        none: bool,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        edit: Edit,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Draft {
    /// The target's id, such as orders/prod
    id: Option<String>,
    /// A target in JSON or YAML. Flags replace what it says
    #[arg(long, value_name = "FILE|-")]
    from_json: Option<PathBuf>,
    #[command(flatten)]
    about: About,
    /// Requests per second, of all callers together
    #[arg(long, value_name = "N", conflicts_with = "no_rate")]
    rate: Option<f64>,
    /// The most that can pass at once [default: what was set, else the rate rounded up]
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u64>,
    /// Take the rate limit away
    #[arg(long)]
    no_rate: bool,
    /// A rate limit of one method, of all callers together, repeatable. For example "GET
    /// /users/{id}=5" or, with a burst, "* /search/*=5,10"
    #[arg(long = "method-rate", value_name = "METHOD PATH=RATE[,BURST]", value_parser = method_rate, conflicts_with = "no_method_rates")]
    method_rates: Vec<MethodRateLimit>,
    /// Take the rate limits of methods away
    #[arg(long)]
    no_method_rates: bool,
    /// A method that needs no API key, repeatable. For example "GET /health"
    #[arg(long = "open", value_name = "METHOD PATH", value_parser = open_method, conflicts_with = "no_open")]
    open: Vec<OpenMethod>,
    /// Every method needs an API key
    #[arg(long)]
    no_open: bool,
    /// Serves keys whose subscriber has no plan for the target
    #[arg(long, value_name = "ID", conflicts_with = "no_default_plan")]
    default_plan: Option<String>,
    /// Nothing serves them
    #[arg(long)]
    no_default_plan: bool,
}

impl Draft {
    fn read(self) -> Result<(Target, Given), Failure> {
        let (mut target, mut given): (Target, Given) = match (&self.from_json, self.id) {
            (Some(path), id) => file::message(path, NAME, EDITABLE, id)?,
            (None, Some(id)) => (Target { id, ..Target::default() }, Given::default()),
            (None, None) => {
                return Err(Failure::unusable(
                    "name the target: its id, or a file with --from-json",
                ));
            }
        };
        self.about.put(
            &mut given,
            &mut target.display_name,
            &mut target.description,
            &mut target.labels,
        );
        let limit = self
            .rate
            .map(|requests_per_second| RateLimit { requests_per_second, burst: self.burst });
        // A burst that was set stays, as all that is not given does.
        let of_rate = if self.burst.is_none() && !self.no_rate {
            "rate_limit.requests_per_second"
        } else {
            "rate_limit"
        };
        given.put(
            of_rate,
            (limit.is_some() || self.no_rate).then_some(limit),
            &mut target.rate_limit,
        );
        given.put(
            "method_rate_limits",
            list(self.method_rates, self.no_method_rates),
            &mut target.method_rate_limits,
        );
        given.put("open_methods", list(self.open, self.no_open), &mut target.open_methods);
        let default_plan =
            if self.no_default_plan { Some(String::new()) } else { self.default_plan };
        given.put("default_plan", default_plan, &mut target.default_plan);
        Ok((target, given))
    }
}

fn method_rate(text: &str) -> Result<MethodRateLimit, String> {
    const FORM: &str =
        "a rate limit of a method is METHOD PATH=RATE[,BURST], such as \"GET /users/{id}=5,10\"";
    let (call, limit) = text.rsplit_once('=').ok_or(FORM)?;
    let OpenMethod { method, path } = open_method(call).map_err(|_| FORM)?;
    let (rate, burst) =
        limit.split_once(',').map_or((limit, None), |(rate, burst)| (rate, Some(burst)));
    let requests_per_second = rate.parse().map_err(|_| FORM)?;
    let burst = burst.map(str::parse).transpose().map_err(|_| FORM)?;
    Ok(MethodRateLimit { method, path, requests_per_second, burst, ..MethodRateLimit::default() })
}

fn open_method(text: &str) -> Result<OpenMethod, String> {
    match text.split_once(' ') {
        Some((method, path)) if !method.is_empty() && !path.is_empty() => {
            Ok(OpenMethod { method: method.to_owned(), path: path.trim_start().to_owned() })
        }
        _ => Err("a method is METHOD PATH, such as \"GET /health\"".to_owned()),
    }
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), Failure> {
    let mut service = client.usage_plans();
    match command {
        Command::Create { draft, edit } => {
            let target = Some(draft.read()?.0);
            let request = CreateTargetRequest {
                target,
                request_id: edit.request_id.clone(),
                validate_only: edit.validate_only,
            };
            let target = client.answer(service.create_target(request)).await?;
            edit.note_if_validated();
            show(&target, client)
        }
        Command::Get(Id { id }) => {
            show(&client.answer(service.get_target(GetTargetRequest { id })).await?, client)
        }
        Command::List(args) => many(args, client).await,
        Command::Update { draft, etag, edit } => {
            let (target, given) = draft.read()?;
            update(target, given, etag, edit, client).await
        }
        Command::Delete(delete) => {
            client.answer(service.delete_target(delete.request::<DeleteTargetRequest>())).await?;
            delete.done("target", client)
        }
        Command::Attach { target, plan, entitlement, how } => {
            plan::show(&edit::attach(client, (plan, target), entitlement, how).await?, client)
        }
        Command::Detach { target, plan, how } => {
            plan::show(&edit::detach(client, (plan, target), how).await?, client)
        }
        Command::SetDefaultPlan { target: id, plan, none: _, etag, edit } => {
            let mut given = Given::default();
            given.add("default_plan");
            let target = Target { id, default_plan: plan.unwrap_or_default(), ..Target::default() };
            update(target, given, etag, edit, client).await
        }
    }
}

async fn update(
    mut target: Target,
    given: Given,
    etag: Etag,
    edit: Edit,
    client: &Client,
) -> Result<(), Failure> {
    if let Some(etag) = etag.etag {
        target.etag = etag;
    }
    let request = UpdateTargetRequest {
        target: Some(target),
        update_mask: Some(given.mask()?),
        request_id: edit.request_id.clone(),
        validate_only: edit.validate_only,
    };
    let target = client.answer(client.usage_plans().update_target(request)).await?;
    edit.note_if_validated();
    show(&target, client)
}

async fn many(args: list::Args, client: &Client) -> Result<(), Failure> {
    let mut service = client.usage_plans();
    let (targets, next_page_token, total_size) =
        list::fetch(args, async |request: ListTargetsRequest| {
            let page = client.answer(service.list_targets(request)).await?;
            Ok((page.targets, page.next_page_token, page.total_size))
        })
        .await?;
    let all = ListTargetsResponse { targets, next_page_token, total_size };
    client.show("tollgate.v1.ListTargetsResponse", &all, |all| {
        let mut table = Table::new([
            "TARGET",
            "NAME",
            "RATE LIMIT OF ALL TRAFFIC",
            "OPEN METHODS",
            "DEFAULT PLAN",
        ]);
        for target in &all.targets {
            table.row([
                &target.id,
                &target.display_name,
                &words::rate(target.rate_limit.as_ref()),
                &words::or(&words::cut(target.open_methods.iter().map(open_method_text)), "none"),
                &words::or(&target.default_plan, "no default plan"),
            ]);
        }
        table.render()
            + &total_line(all.targets.len(), &all.next_page_token, all.total_size, "target")
    })
}

fn open_methods(target: &Target) -> String {
    target.open_methods.iter().map(open_method_text).collect::<Vec<_>>().join(", ")
}

fn open_method_text(open: &OpenMethod) -> String {
    format!("{} {}", open.method, open.path)
}

fn show(target: &Target, client: &Client) -> Result<(), Failure> {
    client.show(NAME, target, |target| {
        let mut sheet = Table::sheet();
        sheet.row(["target", &target.id]);
        sheet.row(["display name", &target.display_name]);
        sheet.row(["description", &words::or(&target.description, "none")]);
        sheet.row(["labels", &words::pairs(&target.labels)]);
        sheet.row(["rate limit", &words::rate(target.rate_limit.as_ref())]);
        for limit in &target.method_rate_limits {
            sheet.row(["method rate limit", &words::method_rate(limit)]);
        }
        sheet.row([
            "open methods",
            &words::or(&open_methods(target), "none: every call needs an API key"),
        ]);
        sheet.row(["default plan", &words::or(&target.default_plan, "no default plan")]);
        sheet.row(["etag", &target.etag]);
        sheet.row(["created", &words::instant(target.create_time.as_ref(), "not yet")]);
        sheet.row(["updated", &words::instant(target.update_time.as_ref(), "not yet")]);
        sheet.render()
    })
}

#[cfg(test)]
mod tests {
    use super::{method_rate, open_method};

    #[test]
    fn methods_are_written_as_a_request_line_begins() {
        let open = open_method("GET /health").unwrap();
        assert_eq!((open.method.as_str(), open.path.as_str()), ("GET", "/health"));
        for (text, method, path, rate, burst) in [
            ("GET /users/{id}=5", "GET", "/users/{id}", 5.0, None),
            ("* /search/*=0.5,10", "*", "/search/*", 0.5, Some(10)),
            ("GET /a=b=5", "GET", "/a=b", 5.0, None),
        ] {
            let limit = method_rate(text).unwrap();
            assert_eq!((limit.method.as_str(), limit.path.as_str()), (method, path));
            assert_eq!((limit.requests_per_second, limit.burst), (rate, burst));
        }
        for text in ["", "GET", "GET ", " /a", "/a"] {
            assert!(open_method(text).is_err(), "{text:?}");
            assert!(method_rate(&format!("{text}=1")).is_err(), "{text:?}");
        }
        for text in ["GET /a", "GET /a=", "GET /a=x", "GET /a=1,", "GET /a=1,-1", "GET /a=1,2,3"] {
            assert!(method_rate(text).is_err(), "{text:?}");
        }
    }
}
