//! Why a page is not the one that was asked for, in words and with a status, in one place.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::frame::{Page, Section};
use super::visit::MayNotEdit;
use crate::catalog::{EditError, Kind};
use crate::service::error::ServiceError;

/// Why there is no such page, or no such edit.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// Nothing is at this address.
    NoPage,
    /// There is no resource of this id, or none any more.
    Gone(Kind, String),
    /// The person may look, and not edit.
    MayNotEdit,
    /// It cannot be done, and why.
    Refused(StatusCode, String),
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(EditError::NotFound { kind, id }) => Self::Gone(kind, id),
            error => Self::Refused(status(&error), sentence(&error)),
        }
    }
}

impl From<MayNotEdit> for Problem {
    fn from(_: MayNotEdit) -> Self {
        Self::MayNotEdit
    }
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<getrandom::Error> for Problem {
    fn from(error: getrandom::Error) -> Self {
        ServiceError::from(EditError::NoRandom(error.to_string())).into()
    }
}

/// The status that says so to programs.
pub(super) fn status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::Refused(error) => match error {
            EditError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            EditError::NotFound { .. } => StatusCode::NOT_FOUND,
            EditError::Exists { .. }
            | EditError::ValueInUse { .. }
            | EditError::Stale { .. }
            | EditError::InUse { .. }
            | EditError::MostOf { .. } => StatusCode::CONFLICT,
            EditError::NotKept(_) | EditError::Waiting => StatusCode::SERVICE_UNAVAILABLE,
            EditError::NoRandom(_) => StatusCode::INTERNAL_SERVER_ERROR,
        },
        ServiceError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        ServiceError::Unfinished(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error as a sentence of its own.
pub(super) fn sentence(error: &ServiceError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title, section, text): (_, _, _, Markup) = match self {
            Self::NoPage => (
                StatusCode::NOT_FOUND,
                "No such page".to_owned(),
                Section::None,
                html! { p { "Nothing is at this address. The pages are listed at the left." } },
            ),
            Self::Gone(kind, id) => (
                StatusCode::NOT_FOUND,
                format!("No {} of this id", kind.word()),
                Section::of(kind),
                html! {
                    p { "There is no " (kind.word()) " " span.mono { (id) }
                        ". It may have been deleted since." }
                    @if let Some(list) = Section::of(kind).address() {
                        p { a href=(list) { "All " (kind.word()) "s" } }
                    }
                },
            ),
            Self::MayNotEdit => (
                StatusCode::FORBIDDEN,
                "You may look, and not edit".to_owned(),
                Section::None,
                html! {
                    p { "The token that you signed in with has the scope " code { "read" }
                        ". Edits need one with " code { "admin" } "." }
                },
            ),
            Self::Refused(status, text) => {
                (status, "Not done".to_owned(), Section::None, html! { p { (text) } })
            }
        };
        let main = html! { div.note.bad role="alert" { (text) } };
        Page::new(section, title, main).with_status(status).into_response()
    }
}
