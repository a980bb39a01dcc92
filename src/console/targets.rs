//! Targets: the list, the page of one, and the forms that edit them. People call them stages.

mod connect;
mod delete;
mod edit;
mod form;
mod list;
mod show;
mod view;

use axum::Router;
use axum::routing::get;

use super::Console;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/console/targets", get(list::list))
        .route("/console/targets/new", get(edit::new).post(edit::create))
        .route("/console/targets/{id}", get(show::show))
        .route("/console/targets/{id}/edit", get(edit::edit).post(edit::save))
        .route("/console/targets/{id}/delete", get(delete::ask).post(delete::delete))
        .route("/console/targets/{id}/connect", get(connect::ask).post(connect::connect))
}
