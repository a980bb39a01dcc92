//! Who edits: a line of the log for each edit and each grant. No value of an API key is ever in it.

use std::sync::Arc;

use super::grant::Grant;
use crate::catalog::{Change, Kind};
use crate::decide::quota::Grant as GrantChange;

tokio::task_local! {
    static CALLER: Arc<str>;
}

/// Names that one line holds.
const MOST_NAMES: usize = 10;

/// The future of a call that may edit, and who makes it.
pub async fn by<T>(caller: Arc<str>, call: impl Future<Output = T>) -> T {
    CALLER.scope(caller, call).await
}

/// Who makes the call that is under way.
pub fn caller() -> Arc<str> {
    CALLER.try_with(Arc::clone).unwrap_or_else(|_| "anyone".into())
}

/// Says what an edit has changed.
pub fn edited(caller: &str, change: &Change) {
    tracing::info!(caller, revision = change.revision, "edited: {}", names(&change.resources));
}

/// Says what was granted.
pub fn granted(Grant { subscriber, key, plan, entitlement, quota, change }: &Grant) {
    let what = match change {
        GrantChange::Add(units) => format!("{units} units more"),
        GrantChange::SetRemaining(units) => format!("{units} units remain"),
        GrantChange::Reset => "nothing is used".to_owned(),
    };
    let whose = key
        .as_ref()
        .map_or_else(|| format!("subscriber `{subscriber}`"), |key| format!("key `{key}`"));
    tracing::info!(
        caller = &*caller(),
        "granted to {whose} for `{quota}` of `{entitlement}` of plan `{plan}`: {what}"
    );
}

fn names(resources: &[(Kind, Arc<str>)]) -> String {
    let mut text: Vec<String> = resources
        .iter()
        .take(MOST_NAMES)
        .map(|(kind, id)| format!("{} `{id}`", kind.word()))
        .collect();
    let more = resources.len().saturating_sub(MOST_NAMES);
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_knows_who_makes_it_also_after_it_has_waited_and_no_other_call_does() {
        let called = by("ops".into(), async {
            tokio::task::yield_now().await;
            caller()
        });
        assert_eq!((&*called.await, &*caller()), ("ops", "anyone"));
    }

    #[test]
    fn a_line_names_what_was_edited_and_is_no_longer_than_that() {
        let resources = |count: usize| {
            (0..count).map(|number| (Kind::Plan, format!("p{number}").into())).collect::<Vec<_>>()
        };
        assert_eq!(names(&resources(2)), "plan `p0`, plan `p1`");
        assert!(names(&resources(10)).ends_with("plan `p9`"));
        assert!(names(&resources(12)).ends_with("plan `p9`, and 2 more"));
    }
}
