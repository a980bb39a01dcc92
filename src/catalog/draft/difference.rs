//! Where two states of a resource differ: by the names of the contract, with both values in words
//! for people.

use std::collections::HashSet;
use std::fmt::Display;

use super::words;
use crate::decide::plan::{About, ApiKey, Entitlement, Id, Plan, Subscriber, Target};

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The field of the resource.
    pub field: &'static str,
    /// Where it is in the resource: the field, or a place inside it,
    /// `entitlements[all].rate_limit`.
    pub path: String,
    /// `None`: there was none.
    pub before: Option<String>,
    /// `None`: there is none any more.
    pub after: Option<String>,
}

/// The differences of one resource so far.
#[derive(Default)]
struct Found(Vec<Changed>);

impl Found {
    fn add(
        &mut self,
        field: &'static str,
        path: impl Into<String>,
        before: Option<String>,
        after: Option<String>,
    ) {
        self.0.push(Changed { field, path: path.into(), before, after });
    }

    /// Notes a field whose values differ.
    fn compare<T: PartialEq>(
        &mut self,
        field: &'static str,
        before: &T,
        after: &T,
        say: impl Fn(&T) -> Option<String>,
    ) {
        if before != after {
            self.add(field, field, say(before), say(after));
        }
    }

    fn about(&mut self, id: &str, before: &About, after: &About) {
        self.compare("display_name", &before.name(id), &after.name(id), |name| words::text(name));
        self.compare("description", &before.description, &after.description, |text| {
            words::text(text)
        });
        self.compare("labels", &before.labels, &after.labels, words::labels);
    }

    /// Notes lists of names that differ.
    fn ids(&mut self, field: &'static str, path: impl Into<String>, before: &[Id], after: &[Id]) {
        if before != after {
            let (before, after) = words::ids(before, after);
            self.add(field, path, before, after);
        }
    }

    /// Notes items that differ, each by its own name.
    fn items<T: PartialEq, N: Display>(
        &mut self,
        field: &'static str,
        path: &str,
        (before, after): (&[T], &[T]),
        name: impl Fn(&T) -> N,
        say: impl Fn(&T) -> String,
    ) {
        let find = |items: &[T], name_of: &str| {
            items.iter().find(|item| name(item).to_string() == name_of).map(&say)
        };
        let mut seen = HashSet::new();
        for item in before.iter().chain(after) {
            let name = name(item).to_string();
            let (was, is) = (find(before, &name), find(after, &name));
            if was != is && seen.insert(name.clone()) {
                self.add(field, format!("{path}[{name}]"), was, is);
            }
        }
        if before != after && seen.is_empty() {
            let names =
                |items: &[T]| Some(words::cut(items.iter().map(|item| name(item).to_string())));
            self.add(field, path, names(before), names(after));
        }
    }
}

pub(super) fn plan(before: &Plan, after: &Plan) -> Vec<Changed> {
    const FIELD: &str = "entitlements";
    let mut found = Found::default();
    found.about(&after.id, &before.about, &after.about);
    let named =
        |plan: &Plan, name: &Id| plan.entitlements.iter().find(|one| one.name == *name).cloned();
    for was in &before.entitlements {
        match named(after, &was.name) {
            Some(is) => entitlement(was, &is, &mut found),
            None => found.add(
                FIELD,
                format!("{FIELD}[{}]", was.name),
                Some(words::entitlement(was)),
                None,
            ),
        }
    }
    for is in after.entitlements.iter().filter(|is| named(before, &is.name).is_none()) {
        found.add(FIELD, format!("{FIELD}[{}]", is.name), None, Some(words::entitlement(is)));
    }
    if before.entitlements != after.entitlements && !found.0.iter().any(|one| one.field == FIELD) {
        let names = |plan: &Plan| {
            Some(words::cut(plan.entitlements.iter().map(|one| one.name.to_string())))
        };
        found.add(FIELD, FIELD, names(before), names(after));
    }
    found.0
}

fn entitlement(before: &Entitlement, after: &Entitlement, found: &mut Found) {
    const FIELD: &str = "entitlements";
    let at = |field: &str| format!("{FIELD}[{}].{field}", before.name);
    if before.description != after.description {
        found.add(
            FIELD,
            at("description"),
            words::text(&before.description),
            words::text(&after.description),
        );
    }
    found.ids(FIELD, at("targets"), &before.targets, &after.targets);
    if before.rate_limit != after.rate_limit {
        found.add(
            FIELD,
            at("rate_limit"),
            before.rate_limit.map(words::rate),
            after.rate_limit.map(words::rate),
        );
    }
    let methods = (&*before.method_rate_limits, &*after.method_rate_limits);
    found.items(FIELD, &at("method_rate_limits"), methods, words::call, words::method_rate);
    found.items(
        FIELD,
        &at("quotas"),
        (&before.quotas, &after.quotas),
        |quota| quota.name.clone(),
        words::quota,
    );
    if before.counter_scope != after.counter_scope {
        let scope = |one: &Entitlement| Some(words::scope(one.counter_scope).to_owned());
        found.add(FIELD, at("counter_scope"), scope(before), scope(after));
    }
}

pub(super) fn target(before: &Target, after: &Target) -> Vec<Changed> {
    let mut found = Found::default();
    found.about(&after.id, &before.about, &after.about);
    found.compare("rate_limit", &before.rate_limit, &after.rate_limit, |limit| {
        limit.map(words::rate)
    });
    let methods = (&*before.method_rate_limits, &*after.method_rate_limits);
    found.items(
        "method_rate_limits",
        "method_rate_limits",
        methods,
        words::call,
        words::method_rate,
    );
    let opens = (&before.open_methods, &after.open_methods);
    found.compare("open_methods", opens.0, opens.1, |open| words::open_methods(open));
    found.compare("default_plan", &before.default_plan, &after.default_plan, |plan| {
        plan.as_ref().map(ToString::to_string)
    });
    found.0
}

pub(super) fn subscriber(before: &Subscriber, after: &Subscriber) -> Vec<Changed> {
    let mut found = Found::default();
    found.about(&after.id, &before.about, &after.about);
    found.ids("plans", "plans", &before.plans, &after.plans);
    found.0
}

/// Without the value, which is not in the declaration.
pub(super) fn key(before: &ApiKey, after: &ApiKey) -> Vec<Changed> {
    let mut found = Found::default();
    found.about(&after.id, &before.about, &after.about);
    found.compare("subscriber", &before.subscriber, &after.subscriber, |id| Some(id.to_string()));
    found.compare("enabled", &before.enabled, &after.enabled, |enabled| Some(enabled.to_string()));
    let (old, new) = (&*before.dates, &*after.dates);
    let instant = |at: &Option<u64>| at.map(words::instant);
    found.compare("not_before", &old.not_before_ns, &new.not_before_ns, instant);
    found.compare("expire_time", &old.expire_ns, &new.expire_ns, instant);
    found.0
}

/// A key that gets another value. The values are told apart by how they end.
pub(super) fn value(before: &str, after: &str) -> Changed {
    Changed {
        field: "value",
        path: "value".to_owned(),
        before: Some(format!("...{before}")),
        after: Some(format!("...{after}")),
    }
}
