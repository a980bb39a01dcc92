//! A target is created and edited.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::form::{drop_blank, of_target, to_target};
use super::view::{Says, view};
use crate::catalog::{Draft, EditError, Kind};
use crate::console::fields::once;
use crate::console::form::{ETAG, Form, ONCE, Step};
use crate::console::frame::{Page, Section};
use crate::console::plans::edit::{Wrong, told, too_large};
use crate::console::problem::{Problem, status};
use crate::console::visit::Visit;
use crate::console::{Console, conflict, links, see};
use crate::decide::plan::Target;
use crate::decide::plan::validate::Mistakes;
use crate::service::error::ServiceError;

pub(super) async fn new(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let mut form = Form::default();
    form.push(ONCE, once()?);
    Ok(page(&console, &visit, None, &form, &Wrong::default()))
}

pub(super) async fn edit(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let catalog = console.catalog();
    let stored = catalog.targets().find(&id)?;
    let mut form = of_target(&stored.value.target);
    too_large(&form, &id)?;
    form.push(ETAG, stored.etag());
    form.push(ONCE, once()?);
    Ok(page(&console, &visit, Some(&id), &form, &Wrong::default()))
}

pub(super) async fn create(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Extension(form): Extension<Form>,
) -> Result<Response, Problem> {
    let create = |target: Target, _: String| {
        move |draft: &mut Draft| {
            draft.create_target(target).map(|one| one.value.target.id.to_string())
        }
    };
    put(&console, &visit, None, form, "created", create).await
}

pub(super) async fn save(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    Extension(mut form): Extension<Form>,
) -> Result<Response, Problem> {
    form.set("id", &*id);
    let replace = |target: Target, etag: String| {
        move |draft: &mut Draft| {
            draft.target(&target.id, &etag)?;
            draft.replace_target(target).map(|one| one.value.target.id.to_string())
        }
    };
    put(&console, &visit, Some(&id), form, "saved", replace).await
}

/// Makes an edit of what a form holds, or shows the form again. `id`: of one that is there.
async fn put<W>(
    console: &Console,
    visit: &Visit,
    id: Option<&str>,
    mut form: Form,
    done: &str,
    work: impl Fn(Target, String) -> W,
) -> Result<Response, Problem>
where
    W: FnOnce(&mut Draft) -> Result<String, EditError> + Send + 'static,
{
    let changed = Wrong { is_changed: true, ..Wrong::default() };
    if form.step() == Step::Show {
        return Ok(page(console, visit, id, &form, &changed).into_response());
    }
    drop_blank(&mut form);
    let mut found = Mistakes::default();
    let target = to_target(&form, &mut found);
    if let Err(fields) = found.or_else(()) {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let wrong = Wrong { fields: &fields, status, ..changed };
        return Ok(page(console, visit, id, &form, &wrong).into_response());
    }
    let work = work(target, form.get(ETAG).to_owned());
    let what = if id.is_some() { "console: edit target" } else { "console: create target" };
    match console.edit(visit, &form, what, work).await {
        Ok(id) => Ok(see(&links::target(&id), done)),
        Err(ServiceError::Refused(EditError::Stale { id, .. })) => {
            let catalog = console.catalog();
            let stored = catalog.targets().find(&id)?;
            let mut now = of_target(&stored.value.target);
            now.push(ETAG, stored.etag());
            let address = format!("{}/edit", links::target(&id));
            let title = format!("Edit {id}");
            let both = (&form, &now);
            let page = conflict::page(Section::Targets, &title, &address, visit, both, &once()?);
            Ok(page.into_response())
        }
        Err(ServiceError::Refused(EditError::NotFound { kind: Kind::Target, id })) => {
            Err(Problem::Gone(Kind::Target, id))
        }
        Err(error) => {
            let (fields, refused) = told(&error);
            let status = status(&error);
            let wrong = Wrong { fields: &fields, refused: refused.as_deref(), status, ..changed };
            Ok(page(console, visit, id, &form, &wrong).into_response())
        }
    }
}

fn page(
    console: &Console,
    visit: &Visit,
    id: Option<&str>,
    form: &Form,
    wrong: &Wrong<'_>,
) -> Page {
    let address = id.map_or("/console/targets".to_owned(), links::target);
    let action = match id {
        Some(_) => format!("{address}/edit"),
        None => format!("{address}/new"),
    };
    let says = Says {
        action: &action,
        cancel: &address,
        is_edit: id.is_some(),
        refused: wrong.refused,
        is_changed: wrong.is_changed,
    };
    let main = view(&console.catalog(), visit, form, wrong.fields, &says);
    let title = id.map_or("New target".to_owned(), |id| format!("Edit {id}"));
    let page = Page::new(Section::Targets, title, main).under("/console/targets", "Targets");
    let page = match id {
        Some(id) => page.under(address, id),
        None => page,
    };
    page.with_status(wrong.status)
}
