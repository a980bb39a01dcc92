//! The list of targets.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};

use crate::catalog::{Catalog, Stored};
use crate::console::frame::{Page, Section};
use crate::console::listing::{Listing, Shown};
use crate::console::problem::Problem;
use crate::console::visit::Visit;
use crate::console::{Console, links, words};
use crate::decide::compiled::CompiledTarget;

const ADDRESS: &str = "/console/targets";
const NO_PLAN: &str = "no-plan";
const LIMITED: &str = "limited";
const STATES: [(&str, &str); 3] =
    [("", "all"), (NO_PLAN, "no plan opens it"), (LIMITED, "with limits of its own")];
const ORDERS: [(&str, &str); 3] = [("id", "id"), ("name", "name"), ("changed", "last change")];

type StoredTarget = Arc<Stored<CompiledTarget>>;

pub(super) async fn list(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    listing: Listing,
) -> Result<Page, Problem> {
    console.make(move |_, catalog| Ok(page(catalog, &visit, &listing))).await
}

fn page(catalog: &Catalog, visit: &Visit, listing: &Listing) -> Page {
    let shown = pick(catalog, listing);
    let total = catalog.targets().len();
    let main = if total == 0 {
        empty(visit)
    } else {
        html! {
            (listing.form(ADDRESS, "name or id", &STATES, &ORDERS))
            section.sheet #list aria-label="Targets" {
                @if shown.items.is_empty() {
                    div.empty {
                        h2 { "No target is like that" }
                        div { a.btn href=(ADDRESS) { "All targets" } }
                    }
                } @else {
                    (table(catalog, &shown))
                    (listing.foot(ADDRESS, &shown))
                }
            }
        }
    };
    let page = Page::new(Section::Targets, "Targets", main)
        .with_count(total)
        .with_facts(html! { "The stages that gateways serve. A plan opens some of them." });
    if visit.may_edit() && total > 0 {
        page.with_acts(html! { a.btn.main href="/console/targets/new" { "New target" } })
    } else {
        page
    }
}

fn pick(catalog: &Catalog, listing: &Listing) -> Shown<StoredTarget> {
    let wanted = |stored: &&StoredTarget| {
        let target = &stored.value.target;
        let state = match listing.state.as_str() {
            NO_PLAN => catalog.plans_of(&target.id).next().is_none(),
            LIMITED => stored.value.has_limits(),
            _ => true,
        };
        state && listing.finds(&[&target.id, target.about.name(&target.id)])
    };
    let all = catalog.targets().iter_after(None).filter(wanted).cloned();
    match listing.sorted_by(&ORDERS) {
        "name" => {
            let name = |stored: &StoredTarget| {
                let target = &stored.value.target;
                target.about.name(&target.id).to_lowercase()
            };
            let mut named: Vec<_> = all.map(|target| (name(&target), target)).collect();
            named.sort_by(|(one, _), (other, _)| one.cmp(other));
            listing.pick(named.into_iter().map(|(_, target)| target), None)
        }
        "changed" => listing
            .pick(all, Some(&|one, other| Reverse(one.update_ns).cmp(&Reverse(other.update_ns)))),
        _ => listing.pick(all, None),
    }
}

fn table(catalog: &Catalog, shown: &Shown<StoredTarget>) -> Markup {
    html! {
        div.scroll { table.fold {
            thead { tr {
                th { "Target" } th { "Limit of all traffic" } th.num { "Open methods" }
                th { "Default plan" } th.num { "Plans" } th { "State" }
            } }
            tbody { @for stored in &shown.items {
                @let target = &stored.value.target;
                @let plans = catalog.plans_of(&target.id).count();
                tr {
                    td {
                        a href=(links::target(&target.id)) { bdi { (target.about.name(&target.id)) } }
                        span.id { (target.id) }
                    }
                    td data-of="All traffic" {
                        @match &target.rate_limit {
                            Some(rate) => (words::rate(rate)),
                            None => span.soft { "none" },
                        }
                    }
                    td.num data-of="Open methods" { (words::grouped(target.open_methods.len())) }
                    td data-of="Default plan" {
                        @match &target.default_plan {
                            Some(plan) => a href=(links::plan(plan)) { (plan) },
                            None => span.soft { "none" },
                        }
                    }
                    td.num data-of="Plans" { (words::grouped(plans)) }
                    td data-of="State" {
                        @if plans > 0 { span.tag { "open to subscribers" } }
                        @else { span.tag.off { "no plan opens it" } }
                    }
                }
            } }
        } }
    }
}

fn empty(visit: &Visit) -> Markup {
    html! {
        section.sheet.empty {
            h2 { "No target yet" }
            p.soft { "A target is a stage of an API that a gateway serves, such as orders/prod. One that a plan names is registered by itself." }
            @if visit.may_edit() {
                div.acts { a.btn.main href="/console/targets/new" { "New target" } }
            }
            p.small.soft { "Or by command line: " code { "tollgate target create orders/prod" } }
        }
    }
}
