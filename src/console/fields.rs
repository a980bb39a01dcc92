//! Fields of forms: a label above, a hint in grey, what is wrong below, and everything that was
//! typed kept.

use std::cell::RefCell;

use maud::{Markup, PreEscaped, html};

use super::form::{CSRF, ETAG, Form, ONCE, THERE};
use super::visit::Visit;
use crate::decide::invalid::Invalid;

/// Writes the fields of one form. A field's name is the path that validation knows it by.
pub(super) struct Fields<'f> {
    form: &'f Form,
    wrong: &'f [Invalid],
    /// What the fields that were written are called.
    labels: RefCell<Vec<(String, String)>>,
}

/// How a field looks beside its label.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look<'l> {
    /// In grey behind the label.
    pub(super) hint: &'l str,
    /// Characters that it is wide.
    pub(super) size: usize,
    /// It can be read, and stays.
    pub(super) stays: bool,
    /// Where suggestions are: the id of a `datalist`.
    pub(super) list: Option<&'l str>,
}

impl<'f> Fields<'f> {
    /// `wrong`: what was wrong with the form when it was sent.
    pub(super) fn new(form: &'f Form, wrong: &'f [Invalid]) -> Self {
        Self { form, wrong, labels: RefCell::default() }
    }

    /// What each form needs: it proves that it is ours, and does what it does once. A button that
    /// saves comes first of all, for who presses Enter means that one.
    pub(super) fn hidden(&self, visit: &Visit) -> Markup {
        html! {
            button.skip tabindex="-1" aria-hidden="true" { "Save" }
            input type="hidden" name=(CSRF) value=(visit.csrf());
            (self.kept(ONCE))
            @if self.form.has(ETAG) { (self.kept(ETAG)) }
        }
    }

    /// A field that nobody sees.
    pub(super) fn kept(&self, name: &str) -> Markup {
        html! { input type="hidden" name=(name) value=(self.form.raw(name).unwrap_or_default()); }
    }

    /// Says that a row of a list is there.
    pub(super) fn row(&self, row: &str) -> Markup {
        html! { input type="hidden" name=(row) value=(THERE); }
    }

    /// One line of text.
    pub(super) fn text(&self, name: &str, label: &str, look: Look<'_>) -> Markup {
        let size = if look.size == 0 { 28 } else { look.size };
        self.field(name, label, look.hint, |wrong| {
            html! {
                input #(name) name=(name) value=(self.form.raw(name).unwrap_or_default())
                    size=(size) maxlength="4096" autocomplete="off" readonly[look.stays]
                    list=[look.list] aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong];
            }
        })
    }

    /// A number. It is no `input` of the type `number`, which loses what it cannot read.
    pub(super) fn number(&self, name: &str, label: &str, hint: &str) -> Markup {
        self.field(name, label, hint, |wrong| {
            html! {
                input.number #(name) name=(name) inputmode="decimal" size="12" maxlength="32"
                    value=(self.form.raw(name).unwrap_or_default()) autocomplete="off"
                    aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong];
            }
        })
    }

    /// Several lines of text.
    pub(super) fn lines(&self, name: &str, label: &str, hint: &str, rows: usize) -> Markup {
        self.field(name, label, hint, |wrong| {
            html! {
                textarea #(name) name=(name) rows=(rows) cols="64"
                    aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong] {
                    // The first line end after the tag is no part of the text.
                    (PreEscaped("\n")) (self.form.raw(name).unwrap_or_default())
                }
            }
        })
    }

    /// One of some values, each with its words. What is none of them is the first.
    pub(super) fn choice<T>(&self, name: &str, label: &str, all: &[(&str, &str, T)]) -> Markup {
        let now = self.form.get(name);
        self.field(name, label, "", |wrong| {
            html! {
                select #(name) name=(name)
                    aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong] {
                    @for (value, words, _) in all {
                        option value=(value) selected[*value == now] { (words) }
                    }
                }
            }
        })
    }

    fn field(
        &self,
        name: &str,
        label: &str,
        hint: &str,
        input: impl Fn(Option<&str>) -> Markup,
    ) -> Markup {
        self.labels.borrow_mut().push((name.to_owned(), label.to_owned()));
        let wrong = self.wrong.iter().find(|wrong| is_of(wrong, name));
        let about = format!("{name}-wrong");
        html! {
            div.field data-wrong[wrong.is_some()] {
                label for=(name) { (label) @if !hint.is_empty() { " " span.hint { (hint) } } }
                (input(wrong.map(|_| about.as_str())))
                @if let Some(wrong) = wrong { span.wrong #(about) { "It " (wrong.reason) } }
            }
        }
    }

    /// Whether one of the fields that begin so is wrong: what hides them must be open.
    pub(super) fn any_wrong(&self, prefixes: &[String]) -> bool {
        let begins =
            |wrong: &Invalid| prefixes.iter().any(|prefix| wrong.field.starts_with(prefix));
        self.wrong.iter().any(begins)
    }

    /// What is wrong, all of it, with links to the fields. After these were written.
    pub(super) fn summary(&self, not_done: &str) -> Markup {
        if self.wrong.is_empty() {
            return html! {};
        }
        let labels = self.labels.borrow();
        // A mistake of a whole row, say, belongs to the first field in it.
        let field = |wrong: &Invalid| {
            let is = labels.iter().find(|(name, _)| is_of(wrong, name));
            let within = || {
                let inner = |name: &str| {
                    name.strip_prefix(wrong.field.as_str())
                        .is_some_and(|rest| rest.starts_with('.'))
                };
                labels.iter().find(|(name, _)| !wrong.field.is_empty() && inner(name))
            };
            is.or_else(within).cloned()
        };
        html! {
            div.note.bad role="alert" tabindex="-1" #wrong {
                strong {
                    (not_done)
                    @match self.wrong.len() {
                        1 => ": one field is wrong.",
                        many => { ": " (many) " fields are wrong." }
                    }
                }
                ul {
                    @for wrong in self.wrong {
                        li {
                            @match field(wrong) {
                                Some((name, label)) => a href={ "#" (name) } { (label) },
                                None if wrong.field.is_empty() => "The form",
                                None => code { (wrong.field) },
                            }
                            " " (wrong.reason)
                        }
                    }
                }
            }
        }
    }
}

/// Whether a mistake is one of this field, or of a part of it: `targets[1]` is of `targets`.
fn is_of(wrong: &Invalid, field: &str) -> bool {
    let rest = wrong.field.strip_prefix(field);
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('[') && !rest.contains('.')))
}

/// A form that could not be saved, for a reason that is none of its fields'.
pub(super) fn not_saved(why: &str) -> Markup {
    html! {
        div.note.bad role="alert" {
            strong { "Not saved." }
            p { (why) " What you typed is kept." }
        }
    }
}

/// A new name for what a form does.
///
/// # Errors
/// The operating system gives no random bytes.
pub(super) fn once() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
