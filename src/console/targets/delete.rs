//! A target is deleted, after saying which plans name it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;

use crate::catalog::{Catalog, Draft, Stored};
use crate::console::fields::{Fields, not_saved, once};
use crate::console::form::{ETAG, Form, ONCE};
use crate::console::frame::{Page, Section};
use crate::console::problem::{Problem, sentence, status};
use crate::console::visit::Visit;
use crate::console::{Console, links, see, words};
use crate::decide::compiled::CompiledTarget;
use crate::service::error::ServiceError;

/// Plans that are named.
const SHOWN: usize = 10;
/// It is taken out of the plans that name it.
const FORCE: &str = "force";

pub(super) async fn ask(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let catalog = console.catalog();
    page(&catalog, &visit, catalog.targets().find(&id)?, None)
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
        move |draft: &mut Draft| draft.delete_target(&deleted, &etag, force).map(|()| deleted);
    match console.edit(&visit, &form, "console: delete target", delete).await {
        Ok(_) => Ok(see("/console/targets", "deleted")),
        Err(error) => {
            let catalog = console.catalog();
            let Ok(stored) = catalog.targets().find(&id) else { return Err(error.into()) };
            Ok(page(&catalog, &visit, stored, Some(&error))?.into_response())
        }
    }
}

fn page(
    catalog: &Catalog,
    visit: &Visit,
    stored: &Stored<CompiledTarget>,
    refused: Option<&ServiceError>,
) -> Result<Page, Problem> {
    let target = &stored.value.target;
    let address = links::target(&target.id);
    let plans = catalog.plans_of(&target.id).count();
    let mut form = Form::default();
    form.push(ETAG, stored.etag());
    form.push(ONCE, once()?);
    let fields = Fields::new(&form, &[]);
    let main = html! {
        @if let Some(error) = refused { (not_saved(&sentence(error))) }
        form.sheet method="post" action={ (address) "/delete" } {
            (fields.hidden(visit))
            div.in.parts {
                @if plans == 0 {
                    p { "Nothing hangs on it: no plan opens it." }
                } @else {
                    p {
                        strong { (words::counted(plans, "plan")) }
                        @if plans == 1 { " opens it: " } @else { " open it: " }
                        @for (place, id) in catalog.plans_of(&target.id).take(SHOWN).enumerate() {
                            @if place > 0 { ", " } span.mono { (id) }
                        }
                        @if plans > SHOWN { " and " (words::grouped(plans - SHOWN)) " more" }
                        "."
                    }
                    label {
                        input type="checkbox" name=(FORCE) value="yes" required;
                        "Take it out of all of them"
                    }
                }
                p.soft { "Calls to it are refused then. What was used stays in the books." }
            }
            div.save {
                button.bad { "Delete " (target.id) }
                a.btn href=(address) { "Cancel" }
            }
        }
    };
    Ok(Page::new(Section::Targets, format!("Delete {}", target.id), main)
        .under("/console/targets", "Targets")
        .under(address, &*target.id)
        .with_status(refused.map_or(StatusCode::OK, status)))
}
