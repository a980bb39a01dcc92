//! Plans: the list, the page of one, and the forms that edit them.

mod connect;
mod delete;
pub(super) mod edit;
mod files;
pub(super) mod form;
mod list;
mod show;
pub(super) mod view;

use axum::Router;
use axum::routing::get;
use maud::{Markup, html};

use super::{Console, words};
use crate::decide::plan::{Entitlement, Plan};

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/console/plans", get(list::list))
        .route("/console/plans/new", get(edit::new).post(edit::create))
        .route("/console/plans/import", get(files::ask).post(files::import))
        .route("/console/plans/{id}", get(show::show))
        .route("/console/plans/{id}/edit", get(edit::edit).post(edit::save))
        .route("/console/plans/{id}/delete", get(delete::ask).post(delete::delete))
        .route("/console/plans/{id}/connect", get(connect::ask).post(connect::connect))
        .route("/console/plans/{id}/disconnect", get(connect::ask_apart).post(connect::disconnect))
        .route("/console/plans/{id}/export", get(files::export))
}

/// What a plan lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Nothing,
    /// A rate or a quota, of an entitlement.
    Limit,
    /// Targets: nobody can be let in by it.
    Target,
}

fn lack(plan: &Plan) -> Lack {
    if plan.entitlements.iter().all(|one| one.targets.is_empty()) {
        Lack::Target
    } else if plan.entitlements.iter().any(|one| one.rate_limit.is_none() || one.quotas.is_empty())
    {
        Lack::Limit
    } else {
        Lack::Nothing
    }
}

/// The targets of a plan, of all its entitlements.
fn target_count(plan: &Plan) -> usize {
    plan.entitlements.iter().map(|one| one.targets.len()).sum()
}

/// The rates of a plan in a line.
fn rates(plan: &Plan) -> Markup {
    each(plan, |one| match &one.rate_limit {
        Some(rate) => html! { (words::rate(rate)) },
        None => html! { span.tag.warn { "Request rate is not set" } },
    })
}

/// The quotas of a plan in a line.
fn quotas(plan: &Plan) -> Markup {
    each(plan, |one| {
        if one.quotas.is_empty() {
            return html! { span.tag.warn { "Request limit is not set" } };
        }
        let quotas: Vec<String> = one.quotas.iter().map(words::quota).collect();
        html! { (quotas.join(", ")) }
    })
}

/// Entitlements that are shown in a row of a list.
const SHOWN: usize = 3;

fn each(plan: &Plan, of: impl Fn(&Entitlement) -> Markup) -> Markup {
    let all = plan.entitlements.as_slice();
    html! {
        @match all {
            [] => span.soft { "no entitlement" },
            [one] => (of(one)),
            all => {
                @for one in all.iter().take(SHOWN) {
                    div { span.soft { (one.name) ": " } (of(one)) }
                }
                @if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                    div.soft { "and " (more) " more" }
                }
            }
        }
    }
}
