//! What was applied, for people.

use crate::grpc::pb::tollgate::ApplyResponse;
use crate::grpc::pb::tollgate::apply_response::change::Action;
use crate::grpc::pb::tollgate::apply_response::{Change, Value};

/// `~ subscriber acme (plans)`, and below it what each value was and is.
pub(super) fn change(change: &Change) -> String {
    let mark = match change.action() {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
        Action::Unspecified => '?',
    };
    let fields = if change.action() == Action::Update {
        format!(" ({})", change.fields.join(", "))
    } else {
        String::new()
    };
    let values: String = change.values.iter().map(value).collect();
    format!("{mark} {} {}{fields}\n{values}", change.kind, change.id)
}

/// `rate_limit: 5000/s burst 5000 → none (removed)`.
fn value(value: &Value) -> String {
    let removed = if value.before.is_some() && value.after.is_none() { " (removed)" } else { "" };
    let said = |text: Option<&String>| text.map_or("none".to_owned(), |text| visible(text));
    format!(
        "    {}: {} → {}{removed}\n",
        visible(&value.path),
        said(value.before.as_ref()),
        said(value.after.as_ref())
    )
}

/// Names come from others, and a terminal obeys control characters.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

pub(super) fn summary(answer: &ApplyResponse, dry_run: bool) -> String {
    let count = |action| answer.changes.iter().filter(|change| change.action() == action).count();
    let counts = format!(
        "{} created, {} updated, {} deleted",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete)
    );
    match (answer.changes.is_empty(), dry_run) {
        (true, _) => "nothing to change: all is as the files say".to_owned(),
        (false, true) => format!("nothing was changed (--dry-run); it would be: {counts}"),
        (false, false) => counts,
    }
}

#[cfg(test)]
mod tests {
    use super::{change, summary};
    use crate::grpc::pb::tollgate::ApplyResponse;
    use crate::grpc::pb::tollgate::apply_response::change::Action;
    use crate::grpc::pb::tollgate::apply_response::{Change, Value};

    fn changed(
        action: Action,
        kind: &str,
        id: &str,
        fields: &[&str],
        values: &[(&str, Option<&str>, Option<&str>)],
    ) -> Change {
        let value = |(path, before, after): &(&str, Option<&str>, Option<&str>)| Value {
            path: (*path).to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        Change {
            action: action.into(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            values: values.iter().map(value).collect(),
        }
    }

    #[test]
    fn a_change_shows_what_was_and_what_is_and_all_of_them_are_counted() {
        let changes = vec![
            changed(Action::Create, "plan", "gold", &[], &[]),
            changed(
                Action::Update,
                "target",
                "orders",
                &["rate_limit"],
                &[("rate_limit", Some("5000/s burst 5000"), None)],
            ),
            changed(
                Action::Update,
                "subscriber",
                "acme",
                &["plans", "labels"],
                &[("plans", None, Some("gold")), ("labels", Some("a=\u{1b}"), Some("a=2"))],
            ),
            changed(Action::Delete, "key", "old", &[], &[]),
        ];
        insta::assert_snapshot!(changes.iter().map(change).collect::<String>(), @r"
        + plan gold
        ~ target orders (rate_limit)
            rate_limit: 5000/s burst 5000 → none (removed)
        ~ subscriber acme (plans, labels)
            plans: none → gold
            labels: a=\u{1b} → a=2
        - key old
        ");
        let answer = ApplyResponse { changes };
        assert_eq!(summary(&answer, false), "1 created, 2 updated, 1 deleted");
        assert_eq!(
            summary(&answer, true),
            "nothing was changed (--dry-run); it would be: 1 created, 2 updated, 1 deleted"
        );
        assert!(summary(&ApplyResponse::default(), true).starts_with("nothing to change"));
    }
}
