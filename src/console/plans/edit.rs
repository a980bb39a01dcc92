//! A plan is created and edited.

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::form::{drop_blank, empty, of_plan, to_plan};
use super::view::{Says, view};
use crate::catalog::{Catalog, EditError, Kind, Stored};
use crate::console::fields::once;
use crate::console::form::{ETAG, Form, ONCE, Step};
use crate::console::frame::{Page, Section};
use crate::console::problem::{Problem, sentence, status};
use crate::console::visit::Visit;
use crate::console::{Console, conflict, links, see, words};
use crate::decide::compiled::CompiledPlan;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::Mistakes;
use crate::service::error::ServiceError;

/// Fields of the largest plan that has a form.
pub(super) const MOST_FIELDS: usize = 6_000;

/// What was wrong with a form that was sent.
#[derive(Default)]
pub(in crate::console) struct Wrong<'w> {
    pub(in crate::console) fields: &'w [Invalid],
    pub(in crate::console) refused: Option<&'w str>,
    pub(in crate::console) status: StatusCode,
    /// Something in it is not saved.
    pub(in crate::console) is_changed: bool,
}

pub(super) async fn new(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    RawQuery(query): RawQuery,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let query = Form::decode(&query.unwrap_or_default());
    let catalog = console.catalog();
    let mut form = match query.get("from") {
        "" => empty(),
        from => {
            let stored = catalog.plans().find(from)?;
            let mut form = of_plan(&stored.value.plan, false);
            form.set(
                "display_name",
                format!("Copy of {}", stored.value.plan.about.name(&stored.value.plan.id)),
            );
            form
        }
    };
    too_large(&form, "")?;
    form.push(ONCE, once()?);
    Ok(page_of_new(&visit, &form, &Wrong::default()))
}

pub(super) async fn create(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Extension(mut form): Extension<Form>,
) -> Result<Response, Problem> {
    let changed = Wrong { is_changed: true, ..Wrong::default() };
    if form.step() == Step::Show {
        return Ok(page_of_new(&visit, &form, &changed).into_response());
    }
    drop_blank(&mut form);
    let mut found = Mistakes::default();
    let plan = to_plan(&form, &mut found);
    if let Err(fields) = found.or_else(()) {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let wrong = Wrong { fields: &fields, status, ..changed };
        return Ok(page_of_new(&visit, &form, &wrong).into_response());
    }
    let create = move |draft: &mut crate::catalog::Draft| {
        draft.create_plan(plan).map(|stored| stored.value.plan.id.to_string())
    };
    match console.edit(&visit, &form, "console: create plan", create).await {
        Ok(id) => Ok(see(&links::plan(&id), "created")),
        Err(error) => {
            let (fields, refused) = told(&error);
            let status = status(&error);
            let wrong = Wrong { fields: &fields, refused: refused.as_deref(), status, ..changed };
            Ok(page_of_new(&visit, &form, &wrong).into_response())
        }
    }
}

pub(super) async fn edit(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Page, Problem> {
    visit.must_edit()?;
    let catalog = console.catalog();
    let stored = catalog.plans().find(&id)?;
    let mut form = of_plan(&stored.value.plan, true);
    too_large(&form, &id)?;
    form.push(ETAG, stored.etag());
    form.push(ONCE, once()?);
    Ok(page_of_edit(&catalog, &visit, &id, &form, &Wrong::default()))
}

pub(super) async fn save(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    Extension(mut form): Extension<Form>,
) -> Result<Response, Problem> {
    form.set("id", &*id);
    let catalog = console.catalog();
    let changed = Wrong { is_changed: true, ..Wrong::default() };
    let again = |wrong: &Wrong<'_>, form: &Form| {
        page_of_edit(&catalog, &visit, &id, form, wrong).into_response()
    };
    if form.step() == Step::Show {
        return Ok(again(&changed, &form));
    }
    drop_blank(&mut form);
    let mut found = Mistakes::default();
    let plan = to_plan(&form, &mut found);
    if let Err(fields) = found.or_else(()) {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Ok(again(&Wrong { fields: &fields, status, ..changed }, &form));
    }
    let etag = form.get(ETAG).to_owned();
    let replace = move |draft: &mut crate::catalog::Draft| {
        draft.plan(&plan.id, &etag)?;
        draft.replace_plan(plan).map(|stored| stored.value.plan.id.to_string())
    };
    match console.edit(&visit, &form, "console: edit plan", replace).await {
        Ok(id) => Ok(see(&links::plan(&id), "saved")),
        Err(ServiceError::Refused(EditError::Stale { .. })) => {
            let catalog = console.catalog();
            Ok(both(&visit, catalog.plans().find(&id)?, &form)?.into_response())
        }
        Err(ServiceError::Refused(EditError::NotFound { kind: Kind::Plan, id })) => {
            Err(Problem::Gone(Kind::Plan, id))
        }
        Err(error) => {
            let (fields, refused) = told(&error);
            let status = status(&error);
            Ok(again(
                &Wrong { fields: &fields, refused: refused.as_deref(), status, ..changed },
                &form,
            ))
        }
    }
}

/// What somebody else has made of the plan meanwhile, beside what was sent.
fn both(visit: &Visit, stored: &Stored<CompiledPlan>, sent: &Form) -> Result<Page, Problem> {
    let mut now = of_plan(&stored.value.plan, true);
    now.push(ETAG, stored.etag());
    let address = format!("{}/edit", links::plan(&stored.value.plan.id));
    let title = format!("Edit {}", stored.value.plan.about.name(&stored.value.plan.id));
    Ok(conflict::page(Section::Plans, &title, &address, visit, (sent, &now), &once()?))
}

/// An edit that was refused: the fields that are to blame, or why else.
pub(in crate::console) fn told(error: &ServiceError) -> (Vec<Invalid>, Option<String>) {
    match error {
        ServiceError::Refused(EditError::Invalid(wrong)) => {
            if wrong.iter().any(|wrong| wrong.field == "request_id") {
                let why = "This form was sent before, and saved then. Open the page again to change more.";
                return (Vec::new(), Some(why.to_owned()));
            }
            (wrong.clone(), None)
        }
        ServiceError::Refused(EditError::Exists { kind, .. }) => {
            let reason = format!("is taken: another {} has it", kind.word());
            (vec![Invalid::new("id", reason)], None)
        }
        error => (Vec::new(), Some(sentence(error))),
    }
}

/// A plan of thousands of rows is no work for a form.
pub(in crate::console) fn too_large(form: &Form, id: &str) -> Result<(), Problem> {
    if form.field_count() <= MOST_FIELDS {
        return Ok(());
    }
    let how = "Export it, change the file, and apply it: `tollgate plan update --from-json FILE`.";
    let text = format!("The plan {id} has more rows than a form can show. {how}");
    Err(Problem::Refused(StatusCode::UNPROCESSABLE_ENTITY, text))
}

/// The form of a plan that is not there yet.
pub(super) fn page_of_new(visit: &Visit, form: &Form, wrong: &Wrong<'_>) -> Page {
    let says = Says {
        action: "/console/plans/new",
        cancel: "/console/plans",
        is_edit: false,
        effect: "It is in force at once. Nobody has it yet.",
        refused: wrong.refused,
        is_changed: wrong.is_changed,
    };
    let main = view(visit, form, wrong.fields, &says);
    Page::new(Section::Plans, "New plan", main)
        .under("/console/plans", "Plans")
        .with_status(wrong.status)
}

/// The form of a plan that is there.
pub(super) fn page_of_edit(
    catalog: &Catalog,
    visit: &Visit,
    id: &str,
    form: &Form,
    wrong: &Wrong<'_>,
) -> Page {
    let address = links::plan(id);
    let stored = catalog.plans().get(id);
    let name = stored.map_or(id, |stored| stored.value.plan.about.name(&stored.value.plan.id));
    let effect = match catalog.subscriber_count_of(id) {
        0 => "It is in force at once. Nobody has it yet.".to_owned(),
        1 => "1 subscriber gets this within a second.".to_owned(),
        many => format!("{} get this within a second.", words::counted(many, "subscriber")),
    };
    let says = Says {
        action: &format!("{address}/edit"),
        cancel: &address,
        is_edit: true,
        effect: &effect,
        refused: wrong.refused,
        is_changed: wrong.is_changed,
    };
    let main = view(visit, form, wrong.fields, &says);
    Page::new(Section::Plans, format!("Edit {name}"), main)
        .under("/console/plans", "Plans")
        .under(address, name)
        .with_status(wrong.status)
}
