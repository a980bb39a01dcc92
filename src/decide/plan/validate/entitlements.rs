//! A plan, its entitlements and their quotas.

use std::collections::HashSet;

use crate::decide::calendar::Calendar;

use super::super::{Entitlement, PeriodUnit, Plan, Quota, Weekday};
use super::{
    MAX_DESCRIPTION, MAX_ENTITLEMENTS, MAX_QUOTA_LIMIT, MAX_QUOTAS, MAX_TARGETS, Mistakes, about,
    at_most, first_places, id, limits, longer,
};

/// A plan's own declaration.
pub fn plan(plan: &Plan, found: &mut Mistakes) {
    id("id", &plan.id, found);
    about(&plan.about, found);
    at_most("entitlements", plan.entitlements.len(), MAX_ENTITLEMENTS, found);
    let entitlements = plan.entitlements.get(..MAX_ENTITLEMENTS).unwrap_or(&plan.entitlements);
    for (i, one) in entitlements.iter().enumerate() {
        let mut inner = Mistakes::default();
        entitlement(one, &mut inner);
        found.add_within(&format!("entitlements[{i}]"), inner);
    }
    let names = entitlements
        .iter()
        .enumerate()
        .map(|(i, one)| (format!("entitlements[{i}].name"), &one.name));
    first_places(names, |place, first, name| {
        found.add(place, format!("is `{name}`, as {first} is: names are unique in a plan"))
    });
    one_place_for_each_target(entitlements, found);
}

/// A target in two entitlements would have two answers to one question.
fn one_place_for_each_target(entitlements: &[Entitlement], found: &mut Mistakes) {
    let mut owners = std::collections::HashMap::new();
    for (i, entitlement) in entitlements.iter().enumerate() {
        for (j, target) in entitlement.targets.iter().take(MAX_TARGETS).enumerate() {
            let place = || format!("entitlements[{i}].targets[{j}]");
            match owners.insert(target, (i, &entitlement.name)) {
                Some((owner, name)) if owner != i => found.add(
                    place(),
                    format!(
                        "names the target `{target}` in the entitlement `{}`, and the entitlement `{name}` names it too: \
                         a target may be in one entitlement of a plan only",
                        entitlement.name
                    ),
                ),
                Some(_) => found.add(place(), format!("names the target `{target}` again")),
                None => {}
            }
        }
    }
}

fn entitlement(entitlement: &Entitlement, found: &mut Mistakes) {
    id("name", &entitlement.name, found);
    longer("description", &entitlement.description, MAX_DESCRIPTION, found);
    at_most("targets", entitlement.targets.len(), MAX_TARGETS, found);
    for (i, target) in entitlement.targets.iter().take(MAX_TARGETS).enumerate() {
        id(&format!("targets[{i}]"), target, found);
    }
    if let Some(limit) = &entitlement.rate_limit {
        limits::rate("rate_limit", limit, found);
    }
    let targets: HashSet<&str> = entitlement.targets.iter().map(|target| &**target).collect();
    limits::method_rates(
        "method_rate_limits",
        &entitlement.method_rate_limits,
        Some(&targets),
        found,
    );
    quotas(&entitlement.quotas, found);
}

fn quotas(quotas: &[Quota], found: &mut Mistakes) {
    at_most("quotas", quotas.len(), MAX_QUOTAS, found);
    let quotas = quotas.get(..MAX_QUOTAS).unwrap_or(quotas);
    for (i, one) in quotas.iter().enumerate() {
        let mut inner = Mistakes::default();
        quota(one, &mut inner);
        found.add_within(&format!("quotas[{i}]"), inner);
    }
    let names = quotas.iter().enumerate().map(|(i, one)| (format!("quotas[{i}].name"), &one.name));
    first_places(names, |place, first, name| {
        found.add(place, format!("is `{name}`, as {first} is: names are unique in an entitlement"))
    });
}

fn quota(quota: &Quota, found: &mut Mistakes) {
    id("name", &quota.name, found);
    if quota.limit > MAX_QUOTA_LIMIT {
        found
            .add("limit", format!("must be at most {MAX_QUOTA_LIMIT} (2^53), not {}", quota.limit));
    }
    if Calendar::new(quota.unit, &quota.time_zone, Weekday::Monday).is_err() {
        let shown: String = quota.time_zone.chars().take(64).collect();
        found.add(
            "time_zone",
            format!("must be an IANA time zone such as `Asia/Seoul`; `{shown}` is not known"),
        );
    }
    if quota.week_start != Weekday::Monday && quota.unit != PeriodUnit::Week {
        found.add("week_start", "is only for the unit WEEK");
    }
}
