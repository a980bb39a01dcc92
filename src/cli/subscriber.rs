//! `tollgate subscriber`: customers.

use std::path::PathBuf;

use super::Failure;
use super::client::about::{About, Given, list};
use super::client::connect::Client;
use super::client::edit::{Delete, Edit, Etag, Id};
use super::client::list::{self, total_line};
use super::client::table::Table;
use super::client::{file, resumed, words};
use crate::grpc::pb::tollgate::get_usage_request::Scope;
use crate::grpc::pb::tollgate::{
    CreateSubscriberRequest, DeleteSubscriberRequest, GetSubscriberRequest, ListSubscribersRequest,
    ListSubscribersResponse, Subscriber, UpdateSubscriberRequest,
};

const NAME: &str = "tollgate.v1.Subscriber";
const EDITABLE: &[&str] = &["display_name", "description", "labels", "plans"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a subscriber.
    Create {
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        edit: Edit,
    },
    /// Show a subscriber.
    Get(Id),
    /// List subscribers.
    List(list::Args),
    /// Change what is given of a subscriber, and leave the rest.
    Update {
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete a subscriber.
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub(super) struct Draft {
    /// The subscriber's id
    id: Option<String>,
    /// A subscriber in JSON or YAML. Flags replace what it says
    #[arg(long, value_name = "FILE|-")]
    from_json: Option<PathBuf>,
    #[command(flatten)]
    about: About,
    /// A plan, repeatable. The order counts: the first that covers a target serves it. Together
    /// they replace the plans that it has
    #[arg(long = "plan", value_name = "ID", value_delimiter = ',', conflicts_with = "no_plans")]
    plans: Vec<String>,
    /// Take all plans away
    #[arg(long)]
    no_plans: bool,
}

impl Draft {
    fn read(self) -> Result<(Subscriber, Given), Failure> {
        let (mut subscriber, mut given): (Subscriber, Given) = match (&self.from_json, self.id) {
            (Some(path), id) => file::message(path, NAME, EDITABLE, id)?,
            (None, Some(id)) => (Subscriber { id, ..Subscriber::default() }, Given::default()),
            (None, None) => {
                return Err(Failure::unusable(
                    "name the subscriber: its id, or a file with --from-json",
                ));
            }
        };
        self.about.put(
            &mut given,
            &mut subscriber.display_name,
            &mut subscriber.description,
            &mut subscriber.labels,
        );
        given.put("plans", list(self.plans, self.no_plans), &mut subscriber.plans);
        Ok((subscriber, given))
    }
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), Failure> {
    let mut service = client.usage_plans();
    match command {
        Command::Create { draft, edit } => {
            let subscriber = Some(draft.read()?.0);
            let request = CreateSubscriberRequest {
                subscriber,
                request_id: edit.request_id.clone(),
                validate_only: edit.validate_only,
            };
            let subscriber = client.answer(service.create_subscriber(request)).await?;
            edit.note_if_validated();
            if !edit.validate_only {
                let scope = Scope::Subscriber(subscriber.id.clone());
                resumed::tell("subscriber", &subscriber.id, scope, client).await;
            }
            show(&subscriber, client)
        }
        Command::Get(Id { id }) => {
            show(&client.answer(service.get_subscriber(GetSubscriberRequest { id })).await?, client)
        }
        Command::List(args) => many(args, client).await,
        Command::Update { draft, etag, edit } => update(draft, etag, edit, client).await,
        Command::Delete(delete) => {
            client
                .answer(service.delete_subscriber(delete.request::<DeleteSubscriberRequest>()))
                .await?;
            delete.done("subscriber", client)
        }
    }
}

async fn update(draft: Draft, etag: Etag, edit: Edit, client: &Client) -> Result<(), Failure> {
    let (mut subscriber, given) = draft.read()?;
    if let Some(etag) = etag.etag {
        subscriber.etag = etag;
    }
    let request = UpdateSubscriberRequest {
        subscriber: Some(subscriber),
        update_mask: Some(given.mask()?),
        request_id: edit.request_id.clone(),
        validate_only: edit.validate_only,
    };
    let subscriber = client.answer(client.usage_plans().update_subscriber(request)).await?;
    edit.note_if_validated();
    show(&subscriber, client)
}

async fn many(args: list::Args, client: &Client) -> Result<(), Failure> {
    let mut service = client.usage_plans();
    let (subscribers, next_page_token, total_size) =
        list::fetch(args, async |request: ListSubscribersRequest| {
            let page = client.answer(service.list_subscribers(request)).await?;
            Ok((page.subscribers, page.next_page_token, page.total_size))
        })
        .await?;
    let all = ListSubscribersResponse { subscribers, next_page_token, total_size };
    client.show("tollgate.v1.ListSubscribersResponse", &all, |all| {
        let mut table = Table::new(["SUBSCRIBER", "NAME", "PLANS"]);
        for subscriber in &all.subscribers {
            table.row([
                &subscriber.id,
                &subscriber.display_name,
                &words::some_ids(&subscriber.plans, "no plans"),
            ]);
        }
        table.render()
            + &total_line(all.subscribers.len(), &all.next_page_token, all.total_size, "subscriber")
    })
}

fn show(subscriber: &Subscriber, client: &Client) -> Result<(), Failure> {
    client.show(NAME, subscriber, |subscriber| {
        let mut sheet = Table::sheet();
        sheet.row(["subscriber", &subscriber.id]);
        sheet.row(["display name", &subscriber.display_name]);
        sheet.row(["description", &words::or(&subscriber.description, "none")]);
        sheet.row(["labels", &words::pairs(&subscriber.labels)]);
        sheet.row(["plans", &words::ids(&subscriber.plans, "no plans")]);
        sheet.row(["etag", &subscriber.etag]);
        sheet.row(["created", &words::instant(subscriber.create_time.as_ref(), "not yet")]);
        sheet.row(["updated", &words::instant(subscriber.update_time.as_ref(), "not yet")]);
        sheet.render()
    })
}
