//! The list of plans.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};

use super::{Lack, lack, quotas, rates, target_count};
use crate::catalog::{Catalog, Stored};
use crate::console::frame::{Page, Section};
use crate::console::listing::{Listing, Shown};
use crate::console::problem::Problem;
use crate::console::visit::Visit;
use crate::console::{Console, links, words};
use crate::decide::compiled::CompiledPlan;

const ADDRESS: &str = "/console/plans";
const NO_TARGET: &str = "no-stage";
const NOT_SET: &str = "not-set";
const STATES: [(&str, &str); 3] =
    [("", "all"), (NO_TARGET, "not usable yet"), (NOT_SET, "something not set")];
const ORDERS: [(&str, &str); 4] =
    [("name", "name"), ("id", "id"), ("subscribers", "subscribers"), ("changed", "last change")];

type StoredPlan = Arc<Stored<CompiledPlan>>;

pub(super) async fn list(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    listing: Listing,
) -> Result<Page, Problem> {
    console.make(move |_, catalog| Ok(page(catalog, &visit, &listing))).await
}

fn page(catalog: &Catalog, visit: &Visit, listing: &Listing) -> Page {
    let shown = pick(catalog, listing);
    let total = catalog.plans().len();
    let main = if total == 0 {
        empty(visit)
    } else {
        html! {
            (listing.form(ADDRESS, "name or id", &STATES, &ORDERS))
            section.sheet #list aria-label="Plans" {
                @if shown.items.is_empty() {
                    div.empty {
                        h2 { "No plan is like that" }
                        p.soft { "None of " (words::counted(total, "plan"))
                            @if !listing.search().is_empty() {
                                " holds “" bdi { (listing.search()) } "” in its name or id"
                            }
                            "." }
                        div { a.btn href=(ADDRESS) { "All plans" } }
                    }
                } @else {
                    (table(catalog, &shown))
                    (listing.foot(ADDRESS, &shown))
                }
            }
        }
    };
    let page = Page::new(Section::Plans, "Plans", main).with_count(total);
    if visit.may_edit() && total > 0 {
        page.with_acts(html! {
            a.btn href="/console/plans/import" { "Import…" }
            a.btn.main href="/console/plans/new" { "New plan" }
        })
    } else {
        page
    }
}

fn pick(catalog: &Catalog, listing: &Listing) -> Shown<StoredPlan> {
    let wanted = |plan: &&StoredPlan| {
        let about = &plan.value.plan.about;
        let state = match listing.state.as_str() {
            NO_TARGET => lack(&plan.value.plan) == Lack::Target,
            NOT_SET => lack(&plan.value.plan) == Lack::Limit,
            _ => true,
        };
        state && listing.finds(&[&plan.value.plan.id, about.name(&plan.value.plan.id)])
    };
    let all = catalog.plans().iter_after(None).filter(wanted).cloned();
    let subscribers = |plan: &StoredPlan| catalog.subscriber_count_of(&plan.value.plan.id);
    let name = |plan: &StoredPlan| plan.value.plan.about.name(&plan.value.plan.id).to_lowercase();
    match listing.sorted_by(&ORDERS) {
        "name" => {
            let mut named: Vec<_> = all.map(|plan| (name(&plan), plan)).collect();
            named.sort_by(|(one, _), (other, _)| one.cmp(other));
            listing.pick(named.into_iter().map(|(_, plan)| plan), None)
        }
        "subscribers" => listing.pick(
            all,
            Some(&|one, other| Reverse(subscribers(one)).cmp(&Reverse(subscribers(other)))),
        ),
        "changed" => listing
            .pick(all, Some(&|one, other| Reverse(one.update_ns).cmp(&Reverse(other.update_ns)))),
        _ => listing.pick(all, None),
    }
}

fn table(catalog: &Catalog, shown: &Shown<StoredPlan>) -> Markup {
    html! {
        div.scroll { table.fold {
            thead { tr {
                th { "Name" } th { "Rate" } th { "Quotas" } th.num { "Stages" }
                th.num { "Subscribers" } th { "State" }
            } }
            tbody { @for plan in &shown.items { (row(catalog, plan)) } }
        } }
    }
}

fn row(catalog: &Catalog, stored: &StoredPlan) -> Markup {
    let plan = &stored.value.plan;
    let subscribers = catalog.subscriber_count_of(&plan.id);
    let defaults = catalog.targets_defaulting_to(&plan.id).next().is_some();
    html! {
        tr {
            td {
                a href=(links::plan(&plan.id)) { bdi { (plan.about.name(&plan.id)) } }
                span.id { (plan.id) }
            }
            td data-of="Rate" { (rates(plan)) }
            td data-of="Quotas" { (quotas(plan)) }
            td.num data-of="Stages" { (words::grouped(target_count(plan))) }
            td.num data-of="Subscribers" { (words::grouped(subscribers)) }
            td data-of="State" { (state(lack(plan), subscribers > 0 || defaults)) }
        }
    }
}

/// Whether a plan can be used, and is.
pub(super) fn state(lack: Lack, is_in_use: bool) -> Markup {
    html! {
        @match (lack, is_in_use) {
            (Lack::Target, _) => span.tag.off { "not usable yet: no stage" },
            (_, true) => span.tag { "in use" },
            (_, false) => span.tag.off { "nobody has it" },
        }
    }
}

fn empty(visit: &Visit) -> Markup {
    html! {
        section.sheet.empty {
            h2 { "No plan yet" }
            p.soft { "A plan says how much a customer may call: a rate, quotas, and the stages that it opens." }
            @if visit.may_edit() {
                div.acts {
                    a.btn.main href="/console/plans/new" { "New plan" }
                    a.btn href="/console/plans/import" { "Import from a file…" }
                }
            }
            p.small.soft {
                "Or by command line: " code { "tollgate plan create free --rate 5 --quota daily=1000/day" }
            }
        }
    }
}
