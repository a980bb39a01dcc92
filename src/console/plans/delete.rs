//! A plan is deleted, after saying what hangs on it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::catalog::{Catalog, Draft, Stored};
use crate::console::fields::{Fields, not_saved, once};
use crate::console::form::{ETAG, Form, ONCE};
use crate::console::frame::{Page, Section};
use crate::console::problem::{Problem, sentence, status};
use crate::console::visit::Visit;
use crate::console::{Console, links, see, words};
use crate::decide::compiled::CompiledPlan;
use crate::decide::plan::Id;
use crate::service::error::ServiceError;

/// Names of those that hang on it which are shown.
const SHOWN: usize = 10;
/// It is taken from those that have it.
const FORCE: &str = "force";

pub(super) async fn ask(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let catalog = console.catalog();
    page(&catalog, &visit, catalog.plans().find(&id)?, None)
}

pub(super) async fn delete(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    Extension(form): Extension<Form>,
) -> Result<Response, Problem> {
    let (etag, force) = (form.get(ETAG).to_owned(), form.has(FORCE));
    let deleted = id.clone();
    let delete =
        move |draft: &mut Draft| draft.delete_plan(&deleted, &etag, force).map(|()| deleted);
    match console.edit(&visit, &form, "console: delete plan", delete).await {
        Ok(_) => Ok(see("/console/plans", "deleted")),
        Err(error) => {
            let catalog = console.catalog();
            let Ok(stored) = catalog.plans().find(&id) else { return Err(error.into()) };
            Ok(page(&catalog, &visit, stored, Some(&error))?.into_response())
        }
    }
}

fn page(
    catalog: &Catalog,
    visit: &Visit,
    stored: &Stored<CompiledPlan>,
    refused: Option<&ServiceError>,
) -> Result<Page, Problem> {
    let plan = &stored.value.plan;
    let address = links::plan(&plan.id);
    let subscribers = catalog.subscriber_count_of(&plan.id);
    let defaults = catalog.targets_defaulting_to(&plan.id).count();
    let mut form = Form::default();
    form.push(ETAG, stored.etag());
    form.push(ONCE, once()?);
    let fields = Fields::new(&form, &[]);
    let main = html! {
        @if let Some(error) = refused { (not_saved(&sentence(error))) }
        form.sheet method="post" action={ (address) "/delete" } {
            (fields.hidden(visit))
            div.in.parts {
                @if subscribers == 0 && defaults == 0 {
                    p { "Nothing hangs on it: no subscriber has it, and no target names it as its default." }
                } @else {
                    @if subscribers > 0 {
                        (hangs("has it", "have it", "subscriber", subscribers, catalog.subscribers_of(&plan.id)))
                    }
                    @if defaults > 0 {
                        (hangs("names it as its default plan", "name it as their default plan", "target", defaults,
                            catalog.targets_defaulting_to(&plan.id)))
                    }
                    label {
                        input type="checkbox" name=(FORCE) value="yes" required;
                        "Take it from all of them: their calls are refused, unless another plan covers them"
                    }
                }
                p.soft { "What was used of it stays in the books. A plan of this id that is made within the same period counts on." }
            }
            div.save {
                button.bad { "Delete " (plan.about.name(&plan.id)) }
                a.btn href=(address) { "Cancel" }
            }
        }
    };
    let name = plan.about.name(&plan.id);
    Ok(Page::new(Section::Plans, format!("Delete {name}"), main)
        .under("/console/plans", "Plans")
        .under(address, name)
        .with_status(refused.map_or(StatusCode::OK, status)))
}

fn hangs<'i>(
    has: &str,
    have: &str,
    what: &str,
    count: usize,
    ids: impl Iterator<Item = &'i Id>,
) -> Markup {
    html! {
        p {
            strong { (words::counted(count, what)) " " @if count == 1 { (has) } @else { (have) } ": " }
            @for (place, id) in ids.take(SHOWN).enumerate() {
                @if place > 0 { ", " } span.mono { (id) }
            }
            @if count > SHOWN { " and " (words::grouped(count - SHOWN)) " more" }
            "."
        }
    }
}
