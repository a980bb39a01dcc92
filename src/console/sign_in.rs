//! Signing in with a token, and out again. A form that was being filled in when the session ended
//! comes along.

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::{Markup, html};

use super::form::{AGAIN, CSRF, Form};
use super::frame::{Page, Section, alone};
use super::visit::{COOKIE, Visit, address};
use super::{Console, links, words};
use crate::access::{Refusal, Scopes};
use crate::decide::time::SECOND_NS;

/// Where the person wanted to go, and what they had filled in.
const TO: &str = "to";
const CARRIED: &str = "carried";
const TOKEN: &str = "token";
/// Of a form that is not sent back.
const TOO_LARGE: &str = "What was sent is too large to be kept here: go back in your browser, copy it, and send it again.";

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/console/sign-in", get(show).post(sign_in))
}

/// Signing out edits nothing, but only a form of our own may ask for it.
pub(super) fn guarded_routes() -> Router<Console> {
    Router::new().route(links::SIGN_OUT, post(sign_out))
}

async fn show(State(console): State<Console>, headers: HeaderMap) -> Response {
    if !console.is_open(&headers) {
        return closed();
    }
    if console.parts().access.is_none() {
        return Redirect::to("/console/").into_response();
    }
    page(&console, StatusCode::OK, "/console/", "", None)
}

/// Asks to sign in, and comes back to `path` then. `form`: what was sent to it, and kept.
pub(super) fn ask(console: &Console, path: &str, form: Option<&Form>) -> Response {
    let kept = form.filter(|form| form.may_be_carried());
    let carried = kept.map(|form| carried(form).encoded()).unwrap_or_default();
    let why = form.map(|_| match kept {
        Some(_) => html! { "Your session has ended. What you typed is kept: sign in, and go on." },
        None => html! { "Your session has ended. " (TOO_LARGE) },
    });
    page(console, StatusCode::UNAUTHORIZED, path, &carried, why.as_ref())
}

fn carried(form: &Form) -> Form {
    form.carried().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn page(
    console: &Console,
    status: StatusCode,
    to: &str,
    carried: &str,
    why: Option<&Markup>,
) -> Response {
    let main = html! {
        @if let Some(why) = why { div.note.bad role="alert" { p #why { (why) } } }
        form.sheet method="post" action="/console/sign-in" {
            div.in {
                // Keepers of passwords want to know whose it is.
                input type="text" name="username" value="tollgate" autocomplete="username" hidden;
                div.field {
                    label for=(TOKEN) { "Token" }
                    input #(TOKEN) name=(TOKEN) type="password" autocomplete="current-password"
                        required autofocus size="40" aria-describedby="hint";
                    span.hint #hint {
                        "One with the scope " code { "read" } " or " code { "admin" } ". "
                        code { "tollgate token create" } " makes one; its line goes into "
                        code { "auth.tokens_file" } "."
                    }
                }
                input type="hidden" name=(TO) value=(to);
                input type="hidden" name=(CSRF) value=(console.form_token(&[]));
                @if !carried.is_empty() { input type="hidden" name=(CARRIED) value=(carried); }
            }
            div.save { button.main { "Sign in" } }
        }
    };
    super::html(status, alone("Sign in", &main))
}

async fn sign_in(State(console): State<Console>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(access) = &console.parts().access else {
        return show(State(console), head.headers).await;
    };
    // Whoever serves this has bounded it.
    let read = match to_bytes(body, usize::MAX).await {
        Ok(body) => Form::read(&head.headers, body).await,
        Err(_) => Err(String::new()),
    };
    let Ok(form) = read else { return ask(&console, "/console/", None) };
    if !form.may_be_carried() {
        return ask(&console, "/console/", Some(&form));
    }
    let (to, carried) = (inside(form.get(TO)), form.get(CARRIED));
    let form_key = console.form_token(&[]);
    if !constant_time_eq::constant_time_eq(form.get(CSRF).as_bytes(), form_key.as_bytes()) {
        let why = html! { "This page is from before a restart. Sign in again." };
        return page(&console, StatusCode::FORBIDDEN, to, carried, Some(&why));
    }
    let (from, now_ns) = (address(&head), console.parts().clock.steady_ns());
    if let Some(wait_ns) = console.0.attempts.wait_ns(from, now_ns) {
        let seconds = wait_ns.div_ceil(SECOND_NS);
        let why = html! {
            "Too many sign-ins from your address have failed. Try again in "
            (words::counted(seconds, "second")) "."
        };
        let mut answer = page(&console, StatusCode::TOO_MANY_REQUESTS, to, carried, Some(&why));
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return answer;
    }
    let signed = match access.sign_in(form.get(TOKEN).as_bytes(), Scopes::READ_OR_ADMIN) {
        Ok(signed) => signed,
        Err(refusal) => {
            console.0.attempts.failed(from, now_ns);
            let why = match refusal {
                Refusal::Lacking { caller, .. } => html! {
                    "The token " (caller) " has neither the scope " code { "read" } " nor "
                    code { "admin" } "."
                },
                _ => html! { "This token is not known." },
            };
            return page(&console, StatusCode::UNAUTHORIZED, to, carried, Some(&why));
        }
    };
    let word = match console.0.sessions.open(signed.token, now_ns) {
        Ok(word) => word,
        Err(error) => {
            let why = html! { "The operating system gives no random bytes: " (error) };
            return page(&console, StatusCode::INTERNAL_SERVER_ERROR, to, carried, Some(&why));
        }
    };
    console.0.attempts.succeeded();
    tracing::info!(caller = &*signed.name, "signed in to the console");
    let mut answer = if carried.is_empty() {
        Redirect::to(to).into_response()
    } else {
        welcome(&console, &word, to, &Form::decode(carried))
    };
    answer.headers_mut().append(header::SET_COOKIE, set_cookie(&console, &word, ""));
    answer
}

/// Signed in again: leads back to the form.
fn welcome(console: &Console, word: &str, to: &str, form: &Form) -> Response {
    let csrf = console.0.sessions.find(word, console.parts().clock.steady_ns());
    let csrf = csrf.map(|(id, _)| console.form_token(&id)).unwrap_or_default();
    let main = back(&csrf, to, form);
    super::html(StatusCode::OK, alone("Signed in again", &main))
}

/// A page that leads to a form as it was sent; nothing is done with it yet.
pub(super) fn once_more(visit: &Visit, to: &str, form: &Form, title: &str) -> Page {
    Page::new(Section::None, title, back(visit.csrf(), to, form))
}

fn back(csrf: &str, to: &str, form: &Form) -> Markup {
    if !form.may_be_carried() {
        return html! { div.note.bad role="alert" { p { "Nothing was saved. " (TOO_LARGE) } } };
    }
    html! {
        form.note method="post" action=(to) {
            p { "What you typed is kept, and not saved yet." }
            @for (name, text) in form.carried() { input type="hidden" name=(name) value=(text); }
            input type="hidden" name=(CSRF) value=(csrf);
            div { button.main name="do" value=(AGAIN) autofocus { "Back to the form" } }
        }
    }
}

async fn sign_out(State(console): State<Console>, Extension(visit): Extension<Visit>) -> Response {
    if let Some(session) = visit.session() {
        console.0.sessions.close(session);
        tracing::info!(caller = &**visit.name(), "signed out of the console");
    }
    let mut answer = Redirect::to("/console/sign-in").into_response();
    answer.headers_mut().append(header::SET_COOKIE, set_cookie(&console, "", "; Max-Age=0"));
    answer
}

/// What is said where everyone who can reach the port could edit.
pub(super) fn closed() -> Response {
    let text = html! {
        div.note.warn {
            p { "Other machines can reach this address, and nobody is asked who they are: here the console would let "
                "everyone edit plans and API keys." }
            p { "Set " code { "auth.tokens_file" } " (" code { "tollgate token create" } " makes a token), or let "
                code { "http_addr" } " be an address of this machine alone, such as " code { "127.0.0.1:8080" } "." }
        }
    };
    super::html(StatusCode::FORBIDDEN, alone("The console is closed here", &text))
}

/// The cookie is for these pages alone, and no script reads it.
fn set_cookie(console: &Console, word: &str, more: &str) -> HeaderValue {
    let secure = if console.parts().over_tls { "; Secure" } else { "" };
    let text = format!("{COOKIE}={word}; Path=/console; HttpOnly; SameSite=Strict{secure}{more}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// An address of these pages; what leads elsewhere leads to the first one.
fn inside(to: &str) -> &str {
    let is_inside = to.starts_with("/console/")
        && !to.contains("//")
        && to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !to.starts_with("/console/sign-");
    if is_inside { to } else { "/console/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_these_pages_and_nowhere_else() {
        for to in ["/console/", "/console/plans?q=a&rows=20", "/console/targets/orders%2Fprod"] {
            assert_eq!(inside(to), to);
        }
        for to in [
            "",
            "/",
            "https://evil.example/console/",
            "//evil.example/console/",
            "/console",
            "/console//evil.example",
            "/console/\\evil.example",
            "/console/\r\nset-cookie: a=b",
            "/console/sign-in",
            "/json",
        ] {
            assert_eq!(inside(to), "/console/", "{to}");
        }
    }
}
