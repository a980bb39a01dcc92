//! `tollgate apply`: files of targets, plans, subscribers and keys, all or nothing.

use std::path::PathBuf;

use super::Failure;
use super::client::connect::Client;
use super::client::file;
use super::client::output::{Output, note, print};
use crate::grpc::json;
use crate::grpc::pb::tollgate::apply_response::Change;
use crate::grpc::pb::tollgate::apply_response::change::Action;
use crate::grpc::pb::tollgate::{ApplyRequest, ApplyResponse};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// A file, repeatable; all of them are applied as one
    #[arg(short, long = "file", value_name = "FILE|-", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Delete what the files do not name
    #[arg(long)]
    prune: bool,
    /// Show what would be done, and do nothing
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
    /// Makes a retry safe: the same request under the same id is done once, and answered alike
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), Failure> {
    let request = ApplyRequest { prune: args.prune, validate_only: args.dry_run, request_id: args.request_id, ..declared(&args.files)? };
    let answer = client.answer(client.usage_plans().apply(request)).await?;
    if client.output == Output::Json {
        return client.show("tollgate.v1.ApplyResponse", &answer, |_| String::new());
    }
    print(&answer.changes.iter().map(line).collect::<String>())?;
    note(&summary(&answer, args.dry_run));
    Ok(())
}

/// What all files declare together.
fn declared(files: &[PathBuf]) -> Result<ApplyRequest, Failure> {
    let mut all = ApplyRequest::default();
    for path in files {
        let in_file = |reason: String| format!("{}: {reason}", file::name(path));
        for document in file::documents(path)? {
            let read = json::declared(document).map_err(|reason| Failure::unusable(in_file(reason)))?;
            read.notes.into_iter().for_each(|text| note(&in_file(text)));
            all.targets.extend(read.message.targets);
            all.usage_plans.extend(read.message.usage_plans);
            all.subscribers.extend(read.message.subscribers);
        }
    }
    Ok(all)
}

/// `~ subscriber acme (plans)`.
fn line(change: &Change) -> String {
    let mark = match change.action() {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
        Action::Unspecified => '?',
    };
    let fields = if change.action() == Action::Update { format!(" ({})", change.fields.join(", ")) } else { String::new() };
    format!("{mark} {} {}{fields}\n", change.kind, change.id)
}

fn summary(answer: &ApplyResponse, dry_run: bool) -> String {
    let count = |action| answer.changes.iter().filter(|change| change.action() == action).count();
    let counts = format!("{} created, {} updated, {} deleted", count(Action::Create), count(Action::Update), count(Action::Delete));
    match (answer.changes.is_empty(), dry_run) {
        (true, _) => "nothing to change: all is as the files say".to_owned(),
        (false, true) => format!("nothing was changed (--dry-run); it would be: {counts}"),
        (false, false) => counts,
    }
}

#[cfg(test)]
mod tests {
    use super::{line, summary};
    use crate::grpc::pb::tollgate::ApplyResponse;
    use crate::grpc::pb::tollgate::apply_response::Change;
    use crate::grpc::pb::tollgate::apply_response::change::Action;

    fn change(action: Action, kind: &str, id: &str, fields: &[&str]) -> Change {
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        Change { action: action.into(), kind: kind.to_owned(), id: id.to_owned(), fields }
    }

    #[test]
    fn a_change_is_a_line_and_all_of_them_are_counted() {
        let changes = vec![
            change(Action::Create, "plan", "gold", &["display_name"]),
            change(Action::Update, "subscriber", "acme", &["plans", "labels"]),
            change(Action::Delete, "key", "old", &[]),
        ];
        assert_eq!(changes.iter().map(line).collect::<String>(), "+ plan gold\n~ subscriber acme (plans, labels)\n- key old\n");
        let answer = ApplyResponse { changes };
        assert_eq!(summary(&answer, false), "1 created, 1 updated, 1 deleted");
        assert_eq!(summary(&answer, true), "nothing was changed (--dry-run); it would be: 1 created, 1 updated, 1 deleted");
        assert!(summary(&ApplyResponse::default(), true).starts_with("nothing to change"));
    }
}
