//! Plans come from files, and go into them.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::html;

use super::edit::{Wrong, page_of_edit, page_of_new, too_large};
use super::form::of_plan;
use crate::console::Console;
use crate::console::fields::{Fields, once};
use crate::console::form::{ETAG, Form, ONCE};
use crate::console::frame::{Page, Section};
use crate::console::problem::Problem;
use crate::console::visit::Visit;
use crate::decide::invalid::Invalid;
use crate::service::error::on_a_thread;

/// A file that was chosen, and a text that was pasted.
const FILE: &str = "file";
const TEXT: &str = "text";

pub(super) async fn ask(Extension(visit): Extension<Visit>) -> Result<Page, Problem> {
    visit.must_edit()?;
    let mut form = Form::default();
    form.push(ONCE, once()?);
    Ok(page(&visit, &form, &[]))
}

/// What the file says becomes a form. Nothing is saved before a person has seen that.
pub(super) async fn import(
    State(console): State<Console>,
    Extension(visit): Extension<Visit>,
    Extension(mut form): Extension<Form>,
) -> Result<Response, Problem> {
    let text = [FILE, TEXT].map(|field| form.get(field)).into_iter().find(|text| !text.is_empty());
    let Some(text) = text.map(str::to_owned) else {
        let wrong = [Invalid::new(TEXT, "is needed: choose a file, or paste what it holds")];
        return Ok(page(&visit, &form, &wrong).into_response());
    };
    // What was chosen cannot be put into the field of a file again: it is shown as a text.
    form.set(TEXT, &*text);
    let files = console.parts().files.clone();
    let read = match on_a_thread(move || files.read(&text)).await? {
        Ok(read) => read,
        Err(wrong) => return Ok(page(&visit, &form, &wrong).into_response()),
    };
    let catalog = console.catalog();
    let known = catalog.plans().get(&read.plan.id);
    let mut filled = of_plan(&read.plan, known.is_some());
    too_large(&filled, &read.plan.id)?;
    filled.set("id", &*read.plan.id);
    filled.push(ONCE, once()?);
    let mut says = vec![match known {
        Some(_) => "Read from the file, and not saved yet. A plan of this id is there: saving puts this in its place.".to_owned(),
        None => "Read from the file, and not saved yet.".to_owned(),
    }];
    says.extend(read.notes);
    let wrong = Wrong { is_changed: true, ..Wrong::default() };
    let page = match known {
        Some(stored) => {
            filled.push(ETAG, stored.etag());
            page_of_edit(&catalog, &visit, &read.plan.id, &filled, &wrong)
        }
        None => page_of_new(&visit, &filled, &wrong),
    };
    let note = html! { div.note role="status" { @for line in &says { p { (line) } } } };
    Ok(page.below(note).into_response())
}

fn page(visit: &Visit, form: &Form, wrong: &[Invalid]) -> Page {
    let fields = Fields::new(form, wrong);
    let inside = html! {
        (fields.hidden(visit))
        div.in.parts {
            div.field {
                label for=(FILE) { "File " span.hint { "JSON or YAML: a plan of tollgate, or a usage plan of OCI as it is" } }
                input #(FILE) name=(FILE) type="file" accept=".json,.yaml,.yml,application/json";
            }
            (fields.lines(TEXT, "Or its text", "", 12))
        }
        div.save {
            button.main { "Read it" }
            a.btn href="/console/plans" { "Cancel" }
            span.soft.small { "The next page shows what will be saved." }
        }
    };
    let main = html! {
        (fields.summary("Not read"))
        form.sheet method="post" action="/console/plans/import" enctype="multipart/form-data" { (inside) }
    };
    let status = if wrong.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Page::new(Section::Plans, "Import a plan", main)
        .under("/console/plans", "Plans")
        .with_status(status)
}

pub(super) async fn export(
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let catalog = console.catalog();
    let stored = catalog.plans().find(&id)?.clone();
    let files = console.parts().files.clone();
    let written = on_a_thread(move || files.write(&stored)).await?;
    let text = written.map_err(|why| Problem::Refused(StatusCode::INTERNAL_SERVER_ERROR, why))?;
    // An id holds no quote and no line end.
    let name = id.replace(['/', ':'], "-");
    let saved_as = HeaderValue::from_str(&format!("attachment; filename=\"{name}.json\""));
    let mut answer = ([(header::CONTENT_TYPE, "application/json")], text).into_response();
    if let Ok(saved_as) = saved_as {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, saved_as);
    }
    Ok(answer)
}
