//! How the form of a target looks.

use maud::{Markup, html};

use crate::catalog::Catalog;
use crate::console::fields::{Fields, Look, not_saved};
use crate::console::form::Form;
use crate::console::plans::view::{methods, rate};
use crate::console::visit::Visit;
use crate::decide::invalid::Invalid;

/// Plans that are offered as the default.
const OFFERED: usize = 200;

/// What the form says and does.
pub(super) struct Says<'s> {
    /// Where it is sent.
    pub(super) action: &'s str,
    /// Where a person goes who does not want to.
    pub(super) cancel: &'s str,
    /// The target is there, and its id stays.
    pub(super) is_edit: bool,
    /// Why it could not be saved, where no field is to blame.
    pub(super) refused: Option<&'s str>,
    /// Something was typed that is not saved.
    pub(super) is_changed: bool,
}

pub(super) fn view(
    catalog: &Catalog,
    visit: &Visit,
    form: &Form,
    wrong: &[Invalid],
    says: &Says<'_>,
) -> Markup {
    let fields = Fields::new(form, wrong);
    let changed = says.is_changed.then_some("yes");
    let id = Look {
        hint: if says.is_edit { "stays" } else { "as the gateway names it: orders/prod" },
        stays: says.is_edit,
        ..Look::default()
    };
    let inside = html! {
        (fields.hidden(visit))
        div.in.parts {
            fieldset {
                legend.skip { "The target" }
                div.row {
                    (fields.text("id", "Id", id))
                    (fields.text("display_name", "Name", Look { hint: "empty: the id", ..Look::default() }))
                }
                (fields.lines("description", "Description", "for your colleagues", 2))
                details open[fields.any_wrong(&["labels".to_owned()])] {
                    summary { "Labels" }
                    (fields.lines("labels", "Labels", "one a line: team=shop", 2))
                }
            }
            fieldset {
                legend { "Rate of all traffic" }
                div.row { (rate(&fields, "rate_limit")) }
                p.hint { "Of all subscribers together, to guard what is behind the gateway. Empty: none." }
            }
            (methods(&fields, form, "method_rate_limits", false))
            (open(&fields, form))
            (default_plan(&fields, catalog, form, says.is_edit))
        }
        div.save {
            button.main { "Save" }
            a.btn href=(says.cancel) { "Cancel" }
            span.soft.small { "Calls are decided by it at once." }
        }
    };
    html! {
        @if let Some(why) = says.refused { (not_saved(why)) }
        (fields.summary("Not saved"))
        form.sheet method="post" action=(says.action) data-guarded data-changed=[changed] { (inside) }
    }
}

fn open(fields: &Fields<'_>, form: &Form) -> Markup {
    let list = "open_methods";
    html! {
        fieldset id=(list) {
            legend { "Open methods" }
            p.hint { "Calls that need no API key, such as " code { "GET /health" } "." }
            @for row in 0..form.rows(list) {
                @let at = format!("{list}[{row}]");
                div.row role="group" aria-label={ "Open method " (row + 1) } {
                    (fields.row(&at))
                    (fields.text(&format!("{at}.method"), "Method", Look { hint: "* is all", size: 8, ..Look::default() }))
                    (fields.text(&format!("{at}.path"), "Path", Look { hint: "/files/*", size: 24, ..Look::default() }))
                    button.quiet name="do" value={ "remove " (at) } { "Remove" span.skip { " open method " (row + 1) } }
                }
            }
            div { button name="do" value={ "add " (list) } { "Add an open method" } }
        }
    }
}

fn default_plan(fields: &Fields<'_>, catalog: &Catalog, form: &Form, is_edit: bool) -> Markup {
    if !is_edit {
        return html! {};
    }
    let now = form.get("default_plan");
    let covering = catalog.plans_of(form.get("id")).map(|id| &**id).filter(|id| *id != now);
    let mut plans = vec![("", "none", ())];
    if !now.is_empty() {
        plans.push((now, now, ()));
    }
    plans.extend(covering.take(OFFERED).map(|id| (id, id, ())));
    html! {
        fieldset {
            legend.skip { "Default plan" }
            (fields.choice("default_plan", "Default plan", &plans))
            p.hint { "For a known API key whose subscriber has no plan for this target. It is one that opens the target." }
        }
    }
}
