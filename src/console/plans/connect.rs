//! A plan is connected to stages, and taken apart from them.

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::catalog::{Catalog, Draft, Stored};
use crate::console::fields::{Fields, Look, once};
use crate::console::form::{ETAG, Form, ONCE};
use crate::console::frame::{Page, Section};
use crate::console::listing::Listing;
use crate::console::plans::edit::told;
use crate::console::problem::{Problem, status};
use crate::console::visit::Visit;
use crate::console::{Console, fields, links, see, words};
use crate::decide::compiled::CompiledPlan;
use crate::decide::invalid::Invalid;
use crate::service::error::ServiceError;

/// Targets that are offered at a time.
const OFFERED: usize = 20;

pub(super) async fn ask(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    listing: Listing,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let query = Form::decode(&query.unwrap_or_default());
    console
        .make(move |_, catalog| {
            let stored = catalog.plans().find(&id)?;
            let mut form = Form::default();
            form.push("entitlement", query.get("entitlement"));
            form.push("target", query.get("target"));
            form.push(ETAG, stored.etag());
            form.push(ONCE, once()?);
            Ok(page(catalog, &visit, stored, &listing, &form, None))
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
    // One that is typed goes before one that is offered.
    let target = [form.get("target"), form.get("offered")].into_iter().find(|id| !id.is_empty());
    let (plan, target) = (id.clone(), target.unwrap_or_default().to_owned());
    let (entitlement, etag) = (form.get("entitlement").to_owned(), form.get(ETAG).to_owned());
    let attach = move |draft: &mut Draft| {
        draft.attach_target(&plan, &entitlement, &target, &etag).map(|_| plan)
    };
    match console.edit(&visit, &form, "console: connect", attach).await {
        Ok(id) => Ok(see(&links::plan(&id), "connected")),
        Err(error) => {
            let catalog = console.catalog();
            let stored = catalog.plans().find(&id)?;
            let mut form = form;
            form.set(ETAG, stored.etag());
            Ok(page(&catalog, &visit, stored, &listing, &form, Some(&error)).into_response())
        }
    }
}

fn page(
    catalog: &Catalog,
    visit: &Visit,
    stored: &Stored<CompiledPlan>,
    listing: &Listing,
    form: &Form,
    refused: Option<&ServiceError>,
) -> Page {
    let plan = &stored.value.plan;
    let address = links::plan(&plan.id);
    let action = format!("{address}/connect");
    let (wrong, why) = refused.map(told).unwrap_or_default();
    let fields = Fields::new(form, &wrong);
    let names: Vec<(&str, &str, ())> =
        plan.entitlements.iter().map(|one| (&*one.name, &*one.name, ())).collect();
    let inside = html! {
        (fields.hidden(visit))
        div.in.parts {
            @match names.as_slice() {
                [] => p { "The plan has no entitlement yet: " a href={ (address) "/edit" } { "give it one" } " first." },
                [_] => (fields.kept("entitlement")),
                many => (fields.choice("entitlement", "Entitlement that opens it", many)),
            }
            (offered(catalog, stored, listing, form))
            (fields.text("target", "Or another one", Look {
                hint: "its id; one that nobody knows is registered", ..Look::default()
            }))
        }
        div.save {
            button.main { "Connect" }
            a.btn href=(address) { "Cancel" }
            span.soft.small {
                (words::counted(catalog.subscriber_count_of(&plan.id), "subscriber")) " may call it then."
            }
        }
    };
    let main = html! {
        @if let Some(why) = &why { (fields::not_saved(why)) }
        (fields.summary("Not connected"))
        form.find role="search" action=(action) data-filter="offered" {
            div.field {
                label for="q" { "Search stages" }
                input #q name="q" type="search" value=(listing.search()) placeholder="name or id";
            }
            input type="hidden" name="entitlement" value=(form.get("entitlement"));
            button { "Show" }
        }
        form.sheet method="post" action=(action) data-guarded { (inside) }
    };
    let name = plan.about.name(&plan.id);
    Page::new(Section::Plans, "Connect to a stage", main)
        .under("/console/plans", "Plans")
        .under(address, name)
        .with_status(refused.map_or(StatusCode::OK, status))
}

/// Targets that are not in the plan yet.
fn offered(
    catalog: &Catalog,
    stored: &Stored<CompiledPlan>,
    listing: &Listing,
    form: &Form,
) -> Markup {
    let mut found = catalog.targets().iter_after(None).filter(|target| {
        let target = &target.value.target;
        listing.finds(&[&target.id, target.about.name(&target.id)])
            && stored.value.entitlement_for(&target.id).is_none()
    });
    let shown: Vec<_> = found.by_ref().take(OFFERED).collect();
    html! {
        fieldset #offered {
            legend { "Stage" }
            @if shown.is_empty() {
                p.hint {
                    @if catalog.targets().is_empty() { "No stage is known yet: name one below." }
                    @else { "No other stage is like that." }
                }
            }
            @for target in &shown {
                @let target = &target.value.target;
                label {
                    input type="radio" name="offered" value=(target.id)
                        checked[form.get("offered") == &*target.id];
                    span { span.mono { (target.id) }
                        @if *target.about.name(&target.id) != *target.id { " " span.soft { bdi { (target.about.name(&target.id)) } } } }
                }
            }
            @if found.next().is_some() { p.hint { "and more: search for them" } }
        }
    }
}

pub(super) async fn ask_apart(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let query = Form::decode(&query.unwrap_or_default());
    let catalog = console.catalog();
    let stored = catalog.plans().find(&id)?;
    apart(&catalog, &visit, stored, query.get("target"), &[], None)
}

pub(super) async fn disconnect(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    Extension(form): Extension<Form>,
) -> Result<Response, Problem> {
    let (plan, target) = (id.clone(), form.get("target").to_owned());
    let etag = form.get(ETAG).to_owned();
    let gone = target.clone();
    let detach = move |draft: &mut Draft| draft.detach_target(&plan, &gone, &etag).map(|_| plan);
    match console.edit(&visit, &form, "console: disconnect", detach).await {
        Ok(id) => Ok(see(&links::plan(&id), "disconnected")),
        Err(error) => {
            let catalog = console.catalog();
            let stored = catalog.plans().find(&id)?;
            let (wrong, why) = told(&error);
            let page = apart(&catalog, &visit, stored, &target, &wrong, why.as_deref())?;
            Ok(page.with_status(status(&error)).into_response())
        }
    }
}

fn apart(
    catalog: &Catalog,
    visit: &Visit,
    stored: &Stored<CompiledPlan>,
    target: &str,
    wrong: &[Invalid],
    why: Option<&str>,
) -> Result<Page, Problem> {
    let plan = &stored.value.plan;
    let address = links::plan(&plan.id);
    let mut form = Form::default();
    form.push("target", target);
    form.push(ETAG, stored.etag());
    form.push(ONCE, once()?);
    let fields = Fields::new(&form, wrong);
    let subscribers = catalog.subscriber_count_of(&plan.id);
    let is_default = catalog
        .targets()
        .get(target)
        .is_some_and(|target| target.value.target.default_plan.as_ref() == Some(&plan.id));
    let main = html! {
        @if let Some(why) = why { (fields::not_saved(why)) }
        (fields.summary("Not disconnected"))
        form.sheet method="post" action={ (address) "/disconnect" } {
            (fields.hidden(visit))
            (fields.kept("target"))
            div.in.parts {
                p {
                    "Calls to " span.mono { (target) } " are not covered by " bdi { (plan.about.name(&plan.id)) }
                    " any more. " (words::counted(subscribers, "subscriber"))
                    @if subscribers == 1 { " has" } @else { " have" }
                    " it: their calls are refused, unless another of their plans covers it."
                }
                @if is_default {
                    p { "It is the default plan of this stage: " a href={ (links::target(target)) "/edit" } { "choose another" } " first." }
                }
                p.soft { "Rates by method that are for this stage alone go with it. What was used stays in the books." }
            }
            div.save {
                button.bad { "Disconnect" }
                a.btn href=(address) { "Cancel" }
            }
        }
    };
    Ok(Page::new(Section::Plans, format!("Disconnect {target}"), main)
        .under("/console/plans", "Plans")
        .under(address, plan.about.name(&plan.id)))
}
