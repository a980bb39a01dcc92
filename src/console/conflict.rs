//! Two people edit one resource: who saves last sees both, and decides.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use maud::{Markup, html};

use super::form::{CSRF, ETAG, Form, ONCE};
use super::frame::{Page, Section};
use super::visit::Visit;

/// What is shown of a text that is longer.
const LONGEST: usize = 400;

/// The page that shows what was sent beside what is there now. `address` is the form's; `now` is
/// the form as it would be made from the resource now, with its etag; `once` names a new edit.
pub(super) fn page(
    section: Section,
    title: &str,
    address: &str,
    visit: &Visit,
    (sent, now): (&Form, &Form),
    once: &str,
) -> Page {
    let names: BTreeSet<&str> = sent.filled().chain(now.filled()).map(|(name, _)| name).collect();
    let differ: Vec<&str> =
        names.into_iter().filter(|name| sent.get(name) != now.get(name)).collect();
    let main = html! {
        div.note.warn role="alert" {
            strong { "Not saved: somebody has edited this since you opened it." }
            p {
                @if differ.is_empty() { "Both of you wanted the same. Nothing is left to save." }
                @else { "Nothing of yours is lost. Below is what differs." }
            }
        }
        @if !differ.is_empty() {
            section.sheet aria-labelledby="differs" {
                header { h2 #differs { "What differs" } }
                div.scroll { table.fold {
                    thead { tr { th { "Field" } th { "Yours" } th { "As it is now" } } }
                    tbody { @for name in &differ {
                        tr {
                            td { code { (name) } }
                            td data-of="Yours" { (text(sent, name)) }
                            td data-of="Now" { (text(now, name)) }
                        }
                    } }
                } }
            }
        }
        form.acts method="post" action=(address) {
            @for (name, value) in sent.filled() { input type="hidden" name=(name) value=(value); }
            input type="hidden" name=(CSRF) value=(visit.csrf());
            input type="hidden" name=(ONCE) value=(once);
            input type="hidden" name=(ETAG) value=(now.get(ETAG));
            @if !differ.is_empty() { button.bad { "Save mine over it" } }
            button name="do" value=(super::form::AGAIN) { "Edit mine once more" }
            a.btn href=(address) { "Take what is there" }
        }
    };
    Page::new(section, title, main).with_status(StatusCode::CONFLICT)
}

fn text(form: &Form, name: &str) -> Markup {
    let text = form.raw(name);
    html! {
        @match text {
            None => span.soft { "not there" },
            Some("") => span.soft { "empty" },
            Some(text) => bdi { (text.chars().take(LONGEST).collect::<String>())
                @if text.chars().nth(LONGEST).is_some() { "…" } },
        }
    }
}
