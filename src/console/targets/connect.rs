//! A target is connected to a plan, from its own page. They are taken apart on the plan's.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::catalog::{Catalog, Draft, EditError};
use crate::console::fields::{Fields, not_saved, once};
use crate::console::form::{Form, ONCE};
use crate::console::frame::{Page, Section};
use crate::console::listing::Listing;
use crate::console::plans::edit::told;
use crate::console::problem::{Problem, status};
use crate::console::visit::Visit;
use crate::console::{Console, links, see, words};
use crate::service::error::ServiceError;

/// Entitlements that are offered at a time.
const OFFERED: usize = 20;
/// A plan and its entitlement; neither name holds a blank.
const CHOSEN: &str = "plan";

pub(super) async fn ask(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    listing: Listing,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    console
        .make(move |_, catalog| {
            let mut form = Form::default();
            form.push(ONCE, once()?);
            page(catalog, &visit, &id, &listing, &form, None)
        })
        .await
}

pub(super) async fn connect(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    Extension(form): Extension<Form>,
    listing: Listing,
) -> Result<Response, Problem> {
    let chosen = form.get(CHOSEN).split_once(' ');
    let chosen = chosen.map(|(plan, entitlement)| (plan.to_owned(), entitlement.to_owned()));
    let target = id.clone();
    let attach = move |draft: &mut Draft| {
        let (plan, entitlement) =
            chosen.ok_or_else(|| EditError::invalid(CHOSEN, "is needed: choose one"))?;
        // Whatever else somebody changes in the plan meanwhile, this adds the target to it.
        draft.attach_target(&plan, &entitlement, &target, "").map(|_| target)
    };
    match console.edit(&visit, &form, "console: connect", attach).await {
        Ok(id) => Ok(see(&links::target(&id), "connected")),
        Err(error) => {
            let catalog = console.catalog();
            let page = page(&catalog, &visit, &id, &listing, &form, Some(&error))?;
            Ok(page.into_response())
        }
    }
}

fn page(
    catalog: &Catalog,
    visit: &Visit,
    id: &str,
    listing: &Listing,
    form: &Form,
    refused: Option<&ServiceError>,
) -> Result<Page, Problem> {
    catalog.targets().find(id)?;
    let address = links::target(id);
    let action = format!("{address}/connect");
    let (wrong, why) = refused.map(told).unwrap_or_default();
    let fields = Fields::new(form, &wrong);
    let main = html! {
        @if let Some(why) = &why { (not_saved(why)) }
        (fields.summary("Not connected"))
        form.find role="search" action=(action) data-filter="offered" {
            div.field {
                label for="q" { "Search plans" }
                input #q name="q" type="search" value=(listing.search()) placeholder="name or id";
            }
            button { "Show" }
        }
        form.sheet method="post" action=(action) data-guarded {
            (fields.hidden(visit))
            div.in.parts { (offered(catalog, id, listing, form)) }
            div.save {
                button.main { "Connect" }
                a.btn href=(address) { "Cancel" }
            }
        }
    };
    Ok(Page::new(Section::Targets, "Connect to a plan", main)
        .under("/console/targets", "Targets")
        .under(address, id)
        .with_status(refused.map_or(StatusCode::OK, status)))
}

/// Entitlements of plans that do not cover the target yet.
fn offered(catalog: &Catalog, target: &str, listing: &Listing, form: &Form) -> Markup {
    let mut found = catalog
        .plans()
        .iter_after(None)
        .filter(|stored| {
            let plan = &stored.value.plan;
            listing.finds(&[&plan.id, plan.about.name(&plan.id)])
                && stored.value.entitlement_for(target).is_none()
        })
        .flat_map(|stored| stored.value.plan.entitlements.iter().map(move |one| (stored, one)));
    let shown: Vec<_> = found.by_ref().take(OFFERED).collect();
    html! {
        fieldset #offered {
            legend { "Plan" }
            @if shown.is_empty() { p.hint { "No other plan is like that." } }
            @for (stored, one) in &shown {
                @let plan = &stored.value.plan;
                @let value = format!("{} {}", plan.id, one.name);
                label {
                    input type="radio" name=(CHOSEN) value=(value) checked[form.get(CHOSEN) == value];
                    span {
                        bdi { (plan.about.name(&plan.id)) }
                        @if plan.entitlements.len() > 1 { ", " (one.name) }
                        " " span.soft {
                            (words::counted(catalog.subscriber_count_of(&plan.id), "subscriber"))
                            @if let Some(rate) = &one.rate_limit { ", " (words::rate(rate)) }
                        }
                    }
                }
            }
            @if found.next().is_some() { p.hint { "and more: search for them" } }
        }
    }
}
