//! The page of one target.

use std::collections::BTreeSet;

use axum::Extension;
use axum::extract::{Path, State};
use maud::{Markup, html};

use crate::catalog::{Catalog, Stored};
use crate::console::frame::{Page, Section};
use crate::console::problem::Problem;
use crate::console::visit::Visit;
use crate::console::{Console, links, words};
use crate::decide::compiled::CompiledTarget;
use crate::decide::plan::{Id, Target};

/// Rows of a table on the page.
const SHOWN: usize = 50;
/// Subscribers that are looked at for those whom two plans let in.
const LOOKED_AT: usize = 20_000;
/// Such subscribers that are named.
const NAMED: usize = 5;

pub(super) async fn show(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Page, Problem> {
    console
        .make(move |console, catalog| {
            let stored = catalog.targets().find(&id)?;
            let now_ns = console.parts().clock.now().unix_ns;
            Ok(page(catalog, &visit, stored, now_ns))
        })
        .await
}

fn page(catalog: &Catalog, visit: &Visit, stored: &Stored<CompiledTarget>, now_ns: u64) -> Page {
    let target = &*stored.value.target;
    let address = links::target(&target.id);
    let facts = html! {
        @if !target.about.description.is_empty() { bdi { (target.about.description) } " " }
        span.mono { (target.id) } ", changed " (words::ago(now_ns, stored.update_ns)) " ("
        (words::instant(stored.update_ns)) ")."
    };
    let main = html! {
        (warnings(catalog, target))
        div.cols { (limits(target)) (open(target)) }
        (plans(catalog, visit, target))
    };
    let page = Page::new(Section::Targets, target.about.name(&target.id), main)
        .under("/console/targets", "Targets")
        .with_facts(facts);
    if visit.may_edit() {
        page.with_acts(html! {
            a.btn href={ (address) "/edit" } { "Edit" }
            a.btn.bad href={ (address) "/delete" } { "Delete…" }
        })
    } else {
        page
    }
}

fn warnings(catalog: &Catalog, target: &Target) -> Markup {
    let twice = let_in_twice(catalog, target);
    html! {
        @if catalog.plans_of(&target.id).next().is_none() {
            div.note.warn {
                strong { "No plan opens it." }
                p { "Every call is refused, but those to open methods." }
            }
        }
        @if !twice.is_empty() {
            div.note.warn {
                strong { "Two plans of one subscriber cover it." }
                p {
                    "The first in the subscriber's order decides, and counts. So it is for "
                    @for (place, id) in twice.iter().take(NAMED).enumerate() {
                        @if place > 0 { ", " } span.mono { (id) }
                    }
                    @if twice.len() > NAMED { " and others" }
                    "."
                }
            }
        }
    }
}

/// Subscribers with two plans that cover the target, as far as looking stays quick; one more than
/// are named.
fn let_in_twice<'c>(catalog: &'c Catalog, target: &Target) -> Vec<&'c Id> {
    let plans: BTreeSet<&Id> = catalog.plans_of(&target.id).collect();
    if plans.len() < 2 {
        return Vec::new();
    }
    let subscribers = plans.iter().flat_map(|plan| catalog.subscribers_of(plan)).take(LOOKED_AT);
    let has_two = |id: &&Id| {
        catalog.subscribers().get(id).is_some_and(|subscriber| {
            subscriber.value.plans.iter().filter(|plan| plans.contains(plan)).count() > 1
        })
    };
    let mut found: Vec<&Id> = Vec::new();
    for id in subscribers.filter(has_two) {
        if !found.contains(&id) {
            found.push(id);
        }
        if found.len() > NAMED {
            break;
        }
    }
    found
}

fn limits(target: &Target) -> Markup {
    html! {
        section.sheet aria-labelledby="limits" {
            header { h2 #limits { "Limits of all traffic" } }
            div.in { dl.pairs {
                dt { "Rate" }
                dd { @match &target.rate_limit {
                    Some(rate) => {
                        (words::per_second(rate.rate)) " requests a second, bursts of "
                        (words::grouped(words::burst(rate)))
                    }
                    None => span.soft { "none: only plans limit it" },
                } }
                @if !target.method_rate_limits.is_empty() {
                    dt { "By method" }
                    dd { @for limit in target.method_rate_limits.iter().take(SHOWN) {
                        div { code { (limit.method) " " (limit.path) } " " (words::rate(&limit.rate)) }
                    } }
                }
                dt { "Default plan" }
                dd { @match &target.default_plan {
                    Some(plan) => {
                        a href=(links::plan(plan)) { (plan) }
                        ": for known keys without a plan that opens it"
                    }
                    None => span.soft { "none: without a plan a call is refused" },
                } }
            } }
        }
    }
}

fn open(target: &Target) -> Markup {
    html! {
        section.sheet aria-labelledby="open" {
            header { h2 #open { "Open methods " span.soft { (words::grouped(target.open_methods.len())) } } }
            div.in {
                @if target.open_methods.is_empty() {
                    p.soft { "None: every call needs an API key." }
                }
                @for call in target.open_methods.iter().take(SHOWN) {
                    div { code { (call.method) " " (call.path) } }
                }
                @if target.open_methods.len() > SHOWN {
                    p.soft { "and " (target.open_methods.len() - SHOWN) " more" }
                }
            }
        }
    }
}

fn plans(catalog: &Catalog, visit: &Visit, target: &Target) -> Markup {
    let count = catalog.plans_of(&target.id).count();
    html! {
        section.sheet aria-labelledby="plans" {
            header {
                h2 #plans { "Plans that open it " span.soft { (words::grouped(count)) } }
                @if visit.may_edit() {
                    a.btn href={ (links::target(&target.id)) "/connect" } { "Connect to a plan…" }
                }
            }
            @if count == 0 {
                div.in { p.soft { "None yet." } }
            } @else {
                div.scroll { table.fold {
                    thead { tr {
                        th { "Plan" } th { "Entitlement" } th { "Rate" } th.num { "Subscribers" }
                        @if visit.may_edit() { th { span.skip { "Act" } } }
                    } }
                    tbody { @for id in catalog.plans_of(&target.id).take(SHOWN) {
                        @if let Some(stored) = catalog.plans().get(id) {
                            (plan_row(catalog, visit, target, &stored.value))
                        }
                    } }
                } }
                @if count > SHOWN { div.foot { "by id, 1 to " (SHOWN) " of " (words::grouped(count)) } }
            }
        }
    }
}

fn plan_row(
    catalog: &Catalog,
    visit: &Visit,
    target: &Target,
    plan: &crate::decide::compiled::CompiledPlan,
) -> Markup {
    let plan = &plan.plan;
    let one = plan.entitlements.iter().find(|one| one.targets.contains(&target.id));
    html! {
        tr {
            td {
                a href=(links::plan(&plan.id)) { bdi { (plan.about.name(&plan.id)) } }
                span.id { (plan.id) }
            }
            td data-of="Entitlement" { @if let Some(one) = one { (one.name) } }
            td data-of="Rate" {
                @match one.and_then(|one| one.rate_limit.as_ref()) {
                    Some(rate) => (words::rate(rate)),
                    None => span.tag.warn { "Request rate is not set" },
                }
            }
            td.num data-of="Subscribers" { (words::grouped(catalog.subscriber_count_of(&plan.id))) }
            @if visit.may_edit() { td.num {
                a.btn.quiet href={ (links::plan(&plan.id)) "/disconnect?target=" (links::text(&target.id)) } {
                    "Disconnect…" span.skip { " " (plan.id) }
                }
            } }
        }
    }
}
