//! Stands before every page: who looks, whether they may, whether a form is one of ours. And puts
//! the frame around what comes back.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;

use super::form::Form;
use super::frame::{Page, Section, alone, whole};
use super::problem::Problem;
use super::sign_in::{self, closed};
use super::visit::Visit;
use super::{Console, links};

/// How the addresses end that show a form again as it was sent.
const SHOWN_AGAIN: [&str; 3] = ["/new", "/edit", "/import"];

pub(super) async fn guard(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    if !console.is_open(request.headers()) {
        return closed();
    }
    let (mut head, body) = request.into_parts();
    let visit = console.visit(&head.headers);
    let done = head.uri.query().map(|query| Form::decode(query).get("done").to_owned());
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    if head.method.is_safe() {
        let Some(visit) = visit else { return sign_in::ask(&console, &path, None) };
        head.extensions.insert(visit.clone());
        let answer = next.run(Request::from_parts(head, body)).await;
        return framed(&console, &visit, answer, &done.unwrap_or_default());
    }
    // Whoever serves this has bounded it.
    let read = match to_bytes(body, usize::MAX).await {
        Ok(body) => Form::read(&head.headers, body).await,
        Err(_) => Err("It was cut off.".to_owned()),
    };
    let form = match read {
        Ok(form) => form,
        Err(why) => return unread(&console, visit.as_ref(), &why),
    };
    let Some(visit) = visit else { return sign_in::ask(&console, &path, Some(&form)) };
    if !visit.has_sent(&form) {
        let page = sign_in::once_more(&visit, &path, &form, "This form is from an earlier visit");
        let page = page.with_status(StatusCode::FORBIDDEN);
        return framed(&console, &visit, page.into_response(), "");
    }
    // Whoever may only look may leave all the same.
    if !visit.may_edit() && head.uri.path() != links::SIGN_OUT {
        return framed(&console, &visit, Problem::MayNotEdit.into_response(), "");
    }
    // Leading back to a form does nothing. A form of many fields is shown as it was sent, by the
    // handler itself; the others begin again.
    if form.leads_back() && !SHOWN_AGAIN.iter().any(|end| head.uri.path().ends_with(end)) {
        return Redirect::to(head.uri.path()).into_response();
    }
    head.extensions.insert(visit.clone());
    head.extensions.insert(form);
    let answer = next.run(Request::from_parts(head, Body::empty())).await;
    framed(&console, &visit, answer, "")
}

/// The frame is put around a page; what is none goes through as it is.
fn framed(console: &Console, visit: &Visit, mut answer: Response, done: &str) -> Response {
    match answer.extensions_mut().remove::<Page>() {
        Some(page) => {
            let done = if answer.status() == StatusCode::OK { done } else { "" };
            super::html(answer.status(), whole(console, visit, &page, done))
        }
        None if answer.status() == StatusCode::METHOD_NOT_ALLOWED => {
            framed(console, visit, Problem::NoPage.into_response(), "")
        }
        None => answer,
    }
}

fn unread(console: &Console, visit: Option<&Visit>, why: &str) -> Response {
    let text = html! { p { "What was sent is no form of these pages. " (why) } };
    match visit {
        Some(visit) => {
            let page = Page::new(Section::None, "Not read", text);
            let page = page.with_status(StatusCode::BAD_REQUEST);
            framed(console, visit, page.into_response(), "")
        }
        None => super::html(StatusCode::BAD_REQUEST, alone("Not read", &text)),
    }
}
