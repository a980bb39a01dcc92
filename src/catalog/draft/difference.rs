//! The fields in which two states of a resource differ, by their names in the contract.

use crate::decide::plan::{About, ApiKey, Plan, Subscriber, Target};

type Compared<'a> = &'a [(&'static str, bool)];

fn fields(before: &About, after: &About, own: Compared<'_>) -> Vec<&'static str> {
    let about = [
        ("display_name", before.display_name == after.display_name),
        ("description", before.description == after.description),
        ("labels", before.labels == after.labels),
    ];
    about.iter().chain(own).filter(|(_, same)| !same).map(|(field, _)| *field).collect()
}

pub(super) fn plan_fields(before: &Plan, after: &Plan) -> Vec<&'static str> {
    fields(&before.about, &after.about, &[("entitlements", before.entitlements == after.entitlements)])
}

pub(super) fn target_fields(before: &Target, after: &Target) -> Vec<&'static str> {
    let own = [
        ("rate_limit", before.rate_limit == after.rate_limit),
        ("method_rate_limits", before.method_rate_limits == after.method_rate_limits),
        ("open_methods", before.open_methods == after.open_methods),
        ("default_plan", before.default_plan == after.default_plan),
    ];
    fields(&before.about, &after.about, &own)
}

pub(super) fn subscriber_fields(before: &Subscriber, after: &Subscriber) -> Vec<&'static str> {
    fields(&before.about, &after.about, &[("plans", before.plans == after.plans)])
}

/// Without the value, which is not in the declaration.
pub(super) fn key_fields(before: &ApiKey, after: &ApiKey) -> Vec<&'static str> {
    let own = [
        ("subscriber", before.subscriber == after.subscriber),
        ("enabled", before.enabled == after.enabled),
        ("not_before", before.not_before_ns == after.not_before_ns),
        ("expire_time", before.expire_ns == after.expire_ns),
    ];
    fields(&before.about, &after.about, &own)
}
