//! The console: pages for people. It shows and edits what `service` holds, and adds no second way
//! to decide or to edit.
//!
//! # How to add a page
//!
//! 1. Write a file beside these, or a folder for a section (`plans` is the example), with a
//!    function `routes() -> Router<Console>`, and merge it in [`Console::router`].
//! 2. A handler that shows takes `State<Console>`, `Extension<Visit>` (who looks, and whether they
//!    may edit) and, as it needs them, `Path<String>` and `listing::Listing`. It answers
//!    `Result<Page, Problem>`. The guard puts the frame around a `Page`, with navigation and
//!    headers, and says a `Problem` in words. A page that reads much is made by
//!    `Console::make`, on a thread that serves nothing else.
//! 3. A handler that edits takes `Extension<Form>` instead of a body. By then the guard has seen to
//!    it that the person is signed in with the scope `admin`, and that the form is one of ours
//!    (CSRF). It makes its edit with `Console::edit`, which makes it once however often the form
//!    is sent, and says who made it. It answers a redirect (`see`), or the form again with
//!    what is wrong.
//! 4. Forms are written with `fields::Fields`: the name of a field is the path that validation
//!    gives it (`entitlements[0].quotas[1].limit`), so that a mistake finds its field by itself.
//!    `Fields::hidden` puts in what each form needs. A stale etag is
//!    answered by `conflict::page`.
//! 5. Addresses of resources come from `links`, sentences from `words`. Everything that is put
//!    into a page by `html!` is escaped. `style` attributes and inline scripts do nothing here: the
//!    policy forbids them.
//! 6. Put the page into the lists of `tests/it/console/` and of the browser's test.

mod assets;
mod attempts;
mod conflict;
mod fields;
mod form;
mod frame;
mod guard;
mod links;
mod listing;
mod plans;
mod problem;
mod sessions;
mod sign_in;
mod targets;
mod visit;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use self::attempts::Attempts;
use self::form::Form;
use self::problem::Problem;
use self::sessions::Sessions;
use self::visit::Visit;
use crate::access::Access;
use crate::catalog::{Answer, Catalog, Draft, EditError, EditOptions, RequestKey};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::service::audit;
use crate::service::edits::Edits;
use crate::service::error::{ServiceError, on_a_thread};
use crate::service::plan_files::PlanFiles;
use crate::service::usage::Usage;

/// Says what does not work, in words for an operator. `None`: everything does.
pub type Concern = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the pages are made from.
#[derive(Clone)]
pub struct Parts {
    pub edits: Edits,
    pub usage: Arc<Usage>,
    pub files: Arc<dyn PlanFiles>,
    pub clock: Clock,
    pub concern: Concern,
    /// Who may sign in. `None`: everyone who can reach the pages may do everything.
    pub access: Option<Arc<Access>>,
    /// Only this machine can reach the pages.
    pub on_loopback: bool,
    /// The pages are sent over TLS.
    pub over_tls: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The console, as its handlers have it.
#[derive(Clone, Debug)]
pub struct Console(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    sessions: Sessions,
    attempts: Attempts,
    /// Makes the tokens of forms, anew in each process.
    form_key: [u8; 32],
}

impl Console {
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new(parts: Parts, metrics: &Metrics) -> Result<Self, getrandom::Error> {
        let mut form_key = [0; 32];
        getrandom::fill(&mut form_key)?;
        Ok(Self(Arc::new(Inner {
            parts,
            sessions: Sessions::new(metrics),
            attempts: Attempts::new(metrics),
            form_key,
        })))
    }

    /// All pages. Whoever serves them hands over whole bodies, and has looked at `Host` and
    /// `Origin`.
    pub fn router(self) -> Router {
        let guarded = Router::new()
            .route("/console/", get(async || Redirect::to("/console/plans")))
            .merge(sign_in::guarded_routes())
            .merge(plans::routes())
            .merge(targets::routes())
            .route("/console/{*rest}", get(async || Problem::NoPage))
            .route_layer(middleware::from_fn_with_state(self.clone(), guard::guard));
        Router::new()
            .merge(guarded)
            .route("/console", get(async || Redirect::to("/console/")))
            .merge(sign_in::routes())
            .merge(assets::routes())
            .layer(middleware::map_response(safe))
            .with_state(self)
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.parts().edits.catalog()
    }

    /// Makes a page on a thread that serves nothing else, from the catalog of this moment.
    async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Self, &Catalog) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (console, catalog) = (self.clone(), self.catalog());
        on_a_thread(move || make(&console, &catalog)).await?
    }

    /// Makes the edit that a form asks for, once however often the form is sent, in the name of
    /// who sent it. `what` tells it from the edits of other forms; `work` answers the id of what
    /// was edited.
    ///
    /// # Errors
    /// Why it was not made. Nothing was changed then, but where the text says otherwise.
    async fn edit(
        &self,
        visit: &Visit,
        form: &Form,
        what: &str,
        work: impl FnOnce(&mut Draft) -> Result<String, EditError> + Send + 'static,
    ) -> Result<String, ServiceError> {
        let once = form.get(form::ONCE);
        let key = RequestKey::new(once, what, form.encoded().as_bytes())
            .map_err(|wrong| EditError::Invalid(vec![wrong]))?;
        let work = move |draft: &mut Draft| work(draft).map(Made);
        let edit = self.parts().edits.edit_once(key, EditOptions::default(), work);
        let Made(id) = audit::by(visit.name().clone(), edit).await?;
        Ok(id)
    }
}

/// The id of what a form made, kept for a form that comes twice.
struct Made(String);

impl Answer for Made {
    fn write(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }

    fn read(written: &[u8]) -> Option<Self> {
        String::from_utf8(written.to_vec()).ok().map(Self)
    }
}

/// Leads on to a page after an edit. `done` is one of the words that [`frame::done`] knows.
fn see(address: &str, done: &str) -> Response {
    Redirect::to(&format!("{address}?done={done}")).into_response()
}

/// What every answer says to browsers.
async fn safe(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                          frame-ancestors 'none'; object-src 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-store"));
    response
}

/// A page of HTML.
fn html(status: StatusCode, page: maud::Markup) -> Response {
    let body = page.into_string();
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
}
