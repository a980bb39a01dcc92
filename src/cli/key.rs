//! `tollgate key`: API keys of subscribers.

use std::path::PathBuf;

use super::Failure;
use super::client::about::{About, Given};
use super::client::connect::Client;
use super::client::edit::{Delete, Edit, Etag, Id};
use super::client::list::{self, total_line};
use super::client::output::{Output, note, print};
use super::client::table::Table;
use super::client::words::When;
use super::client::{file, resumed, words};
use crate::clock::Clock;
use crate::grpc::pb::tollgate::get_usage_request::Scope;
use crate::grpc::pb::tollgate::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, DeleteApiKeyRequest, GetApiKeyRequest,
    ImportApiKeyRequest, ListApiKeysRequest, ListApiKeysResponse, UpdateApiKeyRequest,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key, and print its value: this once, alone on standard output.
    Create {
        /// The key's id; one is made where it is left out
        id: Option<String>,
        #[command(flatten)]
        new: New,
        #[command(flatten)]
        edit: Edit,
    },
    /// Take over a key that callers hold already.
    Import {
        /// The key's id; one is made where it is left out
        id: Option<String>,
        #[command(flatten)]
        value: Value,
        #[command(flatten)]
        new: New,
        #[command(flatten)]
        edit: Edit,
    },
    /// Show a key, not its value.
    Get(Id),
    /// List keys.
    List(list::Args),
    /// Change what is given of a key, and leave the rest.
    Update {
        id: String,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        dates: Dates,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        edit: Edit,
    },
    /// Let a key pass again.
    Enable {
        id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        edit: Edit,
    },
    /// Switch a key off.
    Disable {
        id: String,
        #[command(flatten)]
        etag: Etag,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete a key.
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Value {
    /// A file that holds the value alone: 20 to 128 visible ASCII characters
    #[arg(long, value_name = "FILE|-")]
    value_file: Option<PathBuf>,
    /// The value itself; others on this machine may see it while the command runs
    #[arg(long, allow_hyphen_values = true)]
    value: Option<String>,
}

/// A key that does not exist yet.
#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// Whose key it is
    #[arg(long, value_name = "ID")]
    subscriber: String,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    dates: Dates,
    /// Switched off at first
    #[arg(long)]
    disabled: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Dates {
    /// Valid from this instant on, such as 2026-11-22T09:30:00Z, or from so long from now on, such
    /// as 2h
    #[arg(long, value_name = "INSTANT|TIME", value_parser = words::parse_when, conflicts_with = "no_not_before")]
    not_before: Option<When>,
    /// Valid from always on
    #[arg(long)]
    no_not_before: bool,
    /// Not valid from this instant on, or after so long, such as 24h or 30d
    #[arg(long, value_name = "INSTANT|TIME", value_parser = words::parse_when, conflicts_with = "no_expiry")]
    expires: Option<When>,
    /// Valid for ever
    #[arg(long)]
    no_expiry: bool,
}

impl Dates {
    fn put(self, given: &mut Given, key: &mut ApiKey) {
        let clock = Clock::system();
        let some = |time: Option<When>, none: bool| {
            (none || time.is_some()).then(|| time.map(|when| when.at(&clock)))
        };
        given.put("not_before", some(self.not_before, self.no_not_before), &mut key.not_before);
        given.put("expire_time", some(self.expires, self.no_expiry), &mut key.expire_time);
    }
}

impl New {
    fn key(self, id: Option<String>) -> ApiKey {
        let mut key =
            ApiKey { id: id.unwrap_or_default(), subscriber: self.subscriber, ..ApiKey::default() };
        let mut given = Given::default();
        self.about.put(&mut given, &mut key.display_name, &mut key.description, &mut key.labels);
        self.dates.put(&mut given, &mut key);
        key.enabled = Some(!self.disabled);
        key
    }
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), Failure> {
    let mut service = client.usage_plans();
    match command {
        Command::Create { id, new, edit } => create(new.key(id), edit, client).await,
        Command::Import { id, value, new, edit } => import(new.key(id), value, edit, client).await,
        Command::Get(Id { id }) => {
            show(&client.answer(service.get_api_key(GetApiKeyRequest { id })).await?, client)
        }
        Command::List(args) => many(args, client).await,
        Command::Update { id, about, dates, etag, edit } => {
            let (mut key, mut given) = (ApiKey { id, ..ApiKey::default() }, Given::default());
            about.put(&mut given, &mut key.display_name, &mut key.description, &mut key.labels);
            dates.put(&mut given, &mut key);
            update(key, given, etag, edit, client).await
        }
        Command::Enable { id, etag, edit } => switch(id, true, etag, edit, client).await,
        Command::Disable { id, etag, edit } => switch(id, false, etag, edit, client).await,
        Command::Delete(delete) => {
            client.answer(service.delete_api_key(delete.request::<DeleteApiKeyRequest>())).await?;
            delete.done("key", client)
        }
    }
}

async fn create(key: ApiKey, edit: Edit, client: &Client) -> Result<(), Failure> {
    let request = CreateApiKeyRequest {
        api_key: Some(key),
        request_id: edit.request_id.clone(),
        validate_only: edit.validate_only,
    };
    let made = client.answer(client.usage_plans().create_api_key(request)).await?;
    edit.note_if_validated();
    let key = made.api_key.clone().unwrap_or_default();
    if !made.value.is_empty() {
        note(&format!(
            "made the key {} of {}; its value is on standard output, this once and never again",
            key.id, key.subscriber
        ));
    } else if !edit.validate_only {
        // A script that goes on with an empty value would lock its caller out.
        return Err(Failure::failed(format!(
            "the key {} was made by an earlier request of this --request-id, and its value was in that answer alone. Delete it and make another",
            key.id
        )));
    }
    // The value first: it is shown once, and what follows may wait for the ledger.
    match client.output {
        Output::Json => {
            client.show("tollgate.v1.CreateApiKeyResponse", &made, |_: &CreateApiKeyResponse| {
                String::new()
            })
        }
        Output::Table if made.value.is_empty() => show(&key, client),
        Output::Table => print(&format!("{}\n", made.value)),
    }?;
    tell_resumed(&key, &edit, client).await;
    Ok(())
}

async fn import(key: ApiKey, value: Value, edit: Edit, client: &Client) -> Result<(), Failure> {
    let value = match value.value_file {
        Some(path) => file::read_line(&path)?,
        None => value.value.unwrap_or_default(),
    };
    let request = ImportApiKeyRequest {
        api_key: Some(key),
        value,
        request_id: edit.request_id.clone(),
        validate_only: edit.validate_only,
    };
    let key = client.answer(client.usage_plans().import_api_key(request)).await?;
    edit.note_if_validated();
    tell_resumed(&key, &edit, client).await;
    show(&key, client)
}

async fn tell_resumed(key: &ApiKey, edit: &Edit, client: &Client) {
    if !edit.validate_only {
        resumed::tell("key", &key.id, Scope::ApiKey(key.id.clone()), client).await;
    }
}

async fn switch(
    id: String,
    enabled: bool,
    etag: Etag,
    edit: Edit,
    client: &Client,
) -> Result<(), Failure> {
    let mut given = Given::default();
    given.add("enabled");
    update(ApiKey { id, enabled: Some(enabled), ..ApiKey::default() }, given, etag, edit, client)
        .await
}

async fn update(
    mut key: ApiKey,
    given: Given,
    etag: Etag,
    edit: Edit,
    client: &Client,
) -> Result<(), Failure> {
    key.etag = etag.etag.unwrap_or_default();
    let request = UpdateApiKeyRequest {
        api_key: Some(key),
        update_mask: Some(given.mask()?),
        request_id: edit.request_id.clone(),
        validate_only: edit.validate_only,
    };
    let key = client.answer(client.usage_plans().update_api_key(request)).await?;
    edit.note_if_validated();
    show(&key, client)
}

async fn many(args: list::Args, client: &Client) -> Result<(), Failure> {
    let mut service = client.usage_plans();
    let (api_keys, next_page_token, total_size) =
        list::fetch(args, async |request: ListApiKeysRequest| {
            let page = client.answer(service.list_api_keys(request)).await?;
            Ok((page.api_keys, page.next_page_token, page.total_size))
        })
        .await?;
    let all = ListApiKeysResponse { api_keys, next_page_token, total_size };
    client.show("tollgate.v1.ListApiKeysResponse", &all, |all| {
        let mut table = Table::new([
            "KEY",
            "SUBSCRIBER",
            "NAME",
            "VALUE",
            "STATE",
            "VALID FROM",
            "VALID UNTIL",
        ]);
        for key in &all.api_keys {
            table.row([
                &key.id,
                &key.subscriber,
                &key.display_name,
                &ending(key),
                state(key),
                &words::instant(key.not_before.as_ref(), "always"),
                &words::instant(key.expire_time.as_ref(), "no expiry"),
            ]);
        }
        table.render()
            + &total_line(all.api_keys.len(), &all.next_page_token, all.total_size, "key")
    })
}

fn ending(key: &ApiKey) -> String {
    format!("...{}", key.last_four)
}

fn state(key: &ApiKey) -> &'static str {
    if key.enabled == Some(false) { "disabled" } else { "enabled" }
}

fn show(key: &ApiKey, client: &Client) -> Result<(), Failure> {
    client.show("tollgate.v1.ApiKey", key, |key| {
        let mut sheet = Table::sheet();
        sheet.row(["key", &key.id]);
        sheet.row(["subscriber", &key.subscriber]);
        sheet.row(["display name", &key.display_name]);
        sheet.row(["description", &words::or(&key.description, "none")]);
        sheet.row(["labels", &words::pairs(&key.labels)]);
        sheet.row(["value", &ending(key)]);
        sheet.row(["state", state(key)]);
        sheet.row(["valid from", &words::instant(key.not_before.as_ref(), "always")]);
        sheet.row(["valid until", &words::instant(key.expire_time.as_ref(), "no expiry")]);
        sheet.row(["etag", &key.etag]);
        sheet.row(["created", &words::instant(key.create_time.as_ref(), "not yet")]);
        sheet.row(["updated", &words::instant(key.update_time.as_ref(), "not yet")]);
        sheet.render()
    })
}
