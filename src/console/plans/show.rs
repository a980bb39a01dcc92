//! The page of one plan.

use axum::Extension;
use axum::extract::{Path, State};
use maud::{Markup, html};

use super::{Lack, lack};
use crate::catalog::{Catalog, Stored};
use crate::console::frame::{Page, Section};
use crate::console::problem::Problem;
use crate::console::visit::Visit;
use crate::console::{Console, links, words};
use crate::decide::compiled::CompiledPlan;
use crate::decide::plan::{CounterScope, Entitlement, MethodRate, Plan, Quota};

/// Rows of a table on the page; longer ones say how many are missing.
const SHOWN: usize = 20;

pub(super) async fn show(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Page, Problem> {
    console
        .make(move |console, catalog| {
            let stored = catalog.plans().find(&id)?;
            let now_ns = console.parts().clock.now().unix_ns;
            Ok(page(catalog, &visit, stored, now_ns))
        })
        .await
}

fn page(catalog: &Catalog, visit: &Visit, stored: &Stored<CompiledPlan>, now_ns: u64) -> Page {
    let plan = &*stored.value.plan;
    let address = links::plan(&plan.id);
    let subscribers = catalog.subscriber_count_of(&plan.id);
    let facts = html! {
        @if !plan.about.description.is_empty() { bdi { (plan.about.description) } " " }
        span.mono { (plan.id) } ", changed " (words::ago(now_ns, stored.update_ns)) " ("
        (words::instant(stored.update_ns)) ")."
    };
    let main = html! {
        (warnings(catalog, plan))
        div.cols {
            @for one in &plan.entitlements { (limits(plan, one)) }
            @for one in &plan.entitlements { (stages(visit, plan, one)) }
        }
        (held_by(catalog, plan, subscribers))
    };
    let page = Page::new(Section::Plans, plan.about.name(&plan.id), main)
        .under("/console/plans", "Plans")
        .with_facts(facts);
    if visit.may_edit() {
        page.with_acts(html! {
            a.btn href={ (address) "/edit" } { "Edit" }
            a.btn href={ "/console/plans/new?from=" (links::text(&plan.id)) } { "Duplicate" }
            a.btn href={ (address) "/export" } download { "Export" }
            a.btn.bad href={ (address) "/delete" } { "Delete…" }
        })
    } else {
        page.with_acts(html! { a.btn href={ (address) "/export" } download { "Export" } })
    }
}

fn warnings(catalog: &Catalog, plan: &Plan) -> Markup {
    let defaults: Vec<_> = catalog.targets_defaulting_to(&plan.id).take(SHOWN + 1).collect();
    html! {
        @match lack(plan) {
            Lack::Target => div.note.warn {
                strong { "Not usable yet: it has no stage." }
                p { "Whoever has this plan is refused, until it is connected to the stages that it opens." }
            },
            Lack::Limit | Lack::Nothing => {}
        }
        @if !defaults.is_empty() {
            div.note {
                p {
                    "It is the default plan of "
                    @for (place, id) in defaults.iter().take(SHOWN).enumerate() {
                        @if place > 0 { ", " } span.mono { (id) }
                    }
                    @if defaults.len() > SHOWN { " and more" }
                    ": a known key without a plan for the stage gets this one."
                }
            }
        }
    }
}

fn limits(plan: &Plan, one: &Entitlement) -> Markup {
    html! {
        section.sheet aria-labelledby={ "limits-" (one.name) } {
            header { h2 id={ "limits-" (one.name) } {
                "Limits" @if plan.entitlements.len() > 1 { " of " (one.name) }
            } }
            div.in { dl.pairs {
                @if !one.description.is_empty() { dt { "What" } dd { bdi { (one.description) } } }
                dt { "Rate" }
                dd {
                    @match &one.rate_limit {
                        Some(rate) => {
                            (words::per_second(rate.rate)) " requests a second, bursts of "
                            (words::grouped(words::burst(rate)))
                        }
                        None => span.tag.warn { "Request rate is not set" },
                    }
                }
                @if one.quotas.is_empty() {
                    dt { "Quotas" } dd { span.tag.warn { "Request limit is not set" } }
                }
                @for quota in &one.quotas { (quota_lines(quota)) }
                @if !one.method_rate_limits.is_empty() {
                    dt { "By method" }
                    dd { @for limit in one.method_rate_limits.iter().take(SHOWN) { (method(limit)) }
                        @if one.method_rate_limits.len() > SHOWN {
                            div.soft { "and " (one.method_rate_limits.len() - SHOWN) " more" }
                        } }
                }
                dt { "Counted" }
                dd { @match one.counter_scope {
                    CounterScope::Subscriber => "for each subscriber, all keys together",
                    CounterScope::Key => "for each API key by itself",
                } }
            } }
        }
    }
}

fn quota_lines(quota: &Quota) -> Markup {
    use crate::decide::plan::{Charge, OnBreach};
    html! {
        dt { "Per " (words::unit(quota.unit)) }
        dd {
            (words::grouped(quota.limit)) " units"
            @match quota.on_breach {
                OnBreach::Reject => ", then refused",
                OnBreach::Allow => ", then allowed and counted on",
            }
            ", " (quota.time_zone)
            div.small.soft {
                span.mono { (quota.name) } ": " (words::counting(quota.count_statuses.as_ref()))
                @if quota.charge == Charge::AtReport { "; charged when the answer is reported" }
            }
        }
    }
}

fn method(limit: &MethodRate) -> Markup {
    html! {
        div {
            code { (limit.method) " " (limit.path) } " "
            (words::per_second(limit.rate.rate)) " a second, bursts of "
            (words::grouped(words::burst(&limit.rate)))
            @if let Some(target) = &limit.target { " at " span.mono { (target) } }
            @if !limit.replaces_general { ", beside the rate" }
        }
    }
}

fn stages(visit: &Visit, plan: &Plan, one: &Entitlement) -> Markup {
    let address = links::plan(&plan.id);
    let id = format!("stages-{}", one.name);
    html! {
        section.sheet aria-labelledby=(id) {
            header {
                h2 #(id) {
                    "Connected stages" @if plan.entitlements.len() > 1 { " of " (one.name) }
                    " " span.soft { (words::grouped(one.targets.len())) }
                }
                @if visit.may_edit() {
                    a.btn href={ (address) "/connect?entitlement=" (links::text(&one.name)) } {
                        "Connect to stage…"
                    }
                }
            }
            @if one.targets.is_empty() {
                div.in { p.soft { "No stage is connected. A stage is what a gateway serves, such as " code { "orders/prod" } "." } }
            } @else {
                div.scroll { table.fold {
                    thead { tr { th { "Stage" } @if visit.may_edit() { th { span.skip { "Act" } } } } }
                    tbody { @for target in one.targets.iter().take(SHOWN) {
                        tr {
                            td { a href=(links::target(target)) { (target) } }
                            @if visit.may_edit() { td.num {
                                a.btn.quiet href={ (address) "/disconnect?target=" (links::text(target)) } {
                                    "Disconnect…" span.skip { " " (target) }
                                }
                            } }
                        }
                    } }
                } }
                @if let Some(more) = one.targets.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                    div.foot { "and " (words::grouped(more)) " more: the export has all of them" }
                }
            }
        }
    }
}

fn held_by(catalog: &Catalog, plan: &Plan, count: usize) -> Markup {
    html! {
        section.sheet aria-labelledby="subscribers" {
            header { h2 #subscribers { "Subscribers " span.soft { (words::grouped(count)) } } }
            @if count == 0 {
                div.in { p.soft {
                    "Nobody has this plan. By command line: "
                    code { "tollgate subscriber create acme --plan " (plan.id) }
                } }
            } @else {
                div.scroll { table.fold {
                    thead { tr { th { "Subscriber" } th { "Plans, in order" } th.num { "API keys" } } }
                    tbody { @for id in catalog.subscribers_of(&plan.id).take(SHOWN) {
                        @if let Some(stored) = catalog.subscribers().get(id) {
                            tr {
                                td {
                                    bdi { (stored.value.about.name(id)) } span.id { (id) }
                                }
                                td data-of="Plans" {
                                    (stored.value.plans.iter().map(|plan| &**plan).collect::<Vec<_>>().join(", "))
                                }
                                td.num data-of="API keys" { (words::grouped(catalog.keys_of(id).count())) }
                            }
                        }
                    } }
                } }
                @if let Some(more) = count.checked_sub(SHOWN).filter(|more| *more > 0) {
                    div.foot { "by id, 1 to " (SHOWN) " of " (words::grouped(SHOWN + more)) }
                }
            }
        }
    }
}
