//! How the form of a plan looks.

use maud::{Markup, html};

use super::form::{BREACHES, CHARGES, KEPT, REPLACES, SCOPES, UNITS, WEEKDAYS};
use crate::console::fields::{Fields, Look, not_saved};
use crate::console::form::Form;
use crate::console::visit::Visit;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::{MAX_ENTITLEMENTS, MAX_QUOTAS};

/// Zones that are suggested; any other of the IANA may be typed.
const ZONES: [&str; 18] = [
    "UTC",
    "America/Los_Angeles",
    "America/Denver",
    "America/Chicago",
    "America/New_York",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Paris",
    "Europe/Istanbul",
    "Africa/Johannesburg",
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Shanghai",
    "Asia/Seoul",
    "Asia/Tokyo",
    "Australia/Sydney",
];

/// What the form says and does.
pub(super) struct Says<'s> {
    /// Where it is sent.
    pub(super) action: &'s str,
    /// Where a person goes who does not want to.
    pub(super) cancel: &'s str,
    /// The plan is there, and its id stays.
    pub(super) is_edit: bool,
    /// What saving does.
    pub(super) effect: &'s str,
    /// Why it could not be saved, where no field is to blame.
    pub(super) refused: Option<&'s str>,
    /// Something was typed that is not saved.
    pub(super) is_changed: bool,
}

pub(super) fn view(visit: &Visit, form: &Form, wrong: &[Invalid], says: &Says<'_>) -> Markup {
    let fields = Fields::new(form, wrong);
    let changed = says.is_changed.then_some("yes");
    let inside = html! {
        (fields.hidden(visit))
        div.in.parts {
            (about(&fields, says.is_edit))
            @let entitlements = form.rows("entitlements");
            @for row in 0..entitlements {
                (entitlement(&fields, form, row, entitlements > 1))
            }
            @if entitlements < MAX_ENTITLEMENTS {
                div #entitlements {
                    button name="do" value="add entitlements" formaction={ (says.action) "#entitlements" }
                        formnovalidate { "Add an entitlement" }
                    " " span.hint { "for other stages, with limits of their own" }
                }
            }
        }
        div.save {
            button.main { "Save" }
            a.btn href=(says.cancel) { "Cancel" }
            span.soft.small { (says.effect) }
        }
        datalist #zones { @for zone in ZONES { option value=(zone) {} } }
    };
    html! {
        @if let Some(why) = says.refused { (not_saved(why)) }
        (fields.summary("Not saved"))
        form.sheet method="post" action=(says.action) data-guarded data-changed=[changed] { (inside) }
    }
}

fn about(fields: &Fields<'_>, is_edit: bool) -> Markup {
    let id = if is_edit { "stays" } else { "empty: made from the name" };
    html! {
        fieldset {
            legend.skip { "The plan" }
            div.row {
                (fields.text("display_name", "Name", Look { hint: "empty: the id", size: 32, ..Look::default() }))
                (fields.text("id", "Id", Look { hint: id, size: 24, stays: is_edit, ..Look::default() }))
            }
            (fields.lines("description", "Description", "for your colleagues", 2))
            details open[fields.any_wrong(&["labels".to_owned()])] {
                summary { "Labels" }
                (fields.lines("labels", "Labels", "one a line: team=shop", 2))
            }
        }
    }
}

fn entitlement(fields: &Fields<'_>, form: &Form, row: usize, is_one_of_many: bool) -> Markup {
    let at = format!("entitlements[{row}]");
    let name = form.get(&format!("{at}.name"));
    let is_kept = form.has(&format!("{at}.{KEPT}"));
    let of = |name: &str| format!("{at}.{name}");
    let legend = match name {
        "" if is_one_of_many => format!("Entitlement {}", row + 1),
        "" => "What it gives".to_owned(),
        name => format!("Entitlement {name}"),
    };
    let more = [of("name"), of("description"), of("counter_scope")];
    html! {
        section.entitlement aria-label=(legend) {
            (fields.row(&at))
            @if is_kept { (fields.kept(&of(KEPT))) }
            @if is_one_of_many {
                div.head {
                    h2 { (legend) }
                    button.quiet name="do" value={ "remove " (at) } { "Remove" span.skip { " " (legend) } }
                }
            }
            fieldset {
                legend { "Rate" }
                div.row { (rate(fields, &of("rate_limit"))) }
                p.hint { "Empty: no rate is set. The burst is what may come at once after a pause; empty, it is the rate rounded up." }
            }
            (quotas(fields, form, &at))
            (methods(fields, form, &of("method_rate_limits"), true))
            (fields.lines(&of("targets"), "Stages", "that it opens, one a line: orders/prod", 3))
            details open[is_one_of_many || fields.any_wrong(&more)] {
                summary { "Name, and whose units are counted together" }
                div.row {
                    (fields.text(&of("name"), "Name of the entitlement", Look {
                        hint: if is_kept { "stays" } else { "empty: default" },
                        stays: is_kept,
                        ..Look::default()
                    }))
                    (fields.choice(&of("counter_scope"), "Counted for", &SCOPES))
                    (fields.text(&of("description"), "What it is for", Look::default()))
                }
            }
        }
    }
}

/// The two fields of a rate.
pub(in crate::console) fn rate(fields: &Fields<'_>, at: &str) -> Markup {
    html! {
        (fields.number(&format!("{at}.requests_per_second"), "Requests a second", ""))
        (fields.number(&format!("{at}.burst"), "Burst", ""))
    }
}

fn quotas(fields: &Fields<'_>, form: &Form, at: &str) -> Markup {
    let list = format!("{at}.quotas");
    let rows = form.rows(&list);
    html! {
        fieldset id=(list) {
            legend { "Quotas" }
            @if rows == 0 { p.hint { "No quota is set: what may be called in a day or a month has no limit." } }
            @for row in 0..rows { (quota(fields, form, &format!("{list}[{row}]"), row + 1)) }
            @if rows < MAX_QUOTAS {
                div { button name="do" value={ "add " (list) } { "Add a quota" } }
            }
        }
    }
}

fn quota(fields: &Fields<'_>, form: &Form, at: &str, number: usize) -> Markup {
    let of = |name: &str| format!("{at}.{name}");
    let is_kept = form.has(&of(KEPT));
    let more = ["name", "week_start", "charge", "count_statuses"].map(of);
    html! {
        div.quota role="group" aria-label={ "Quota " (number) } {
            (fields.row(at))
            @if is_kept { (fields.kept(&of(KEPT))) }
            div.row {
                (fields.number(&of("limit"), "Units", ""))
                (fields.choice(&of("unit"), "per", &UNITS))
                (fields.text(&of("time_zone"), "Day begins in", Look {
                    hint: "empty: UTC", size: 16, list: Some("zones"), ..Look::default()
                }))
                (fields.choice(&of("on_breach"), "When it is used up", &BREACHES))
                button.quiet name="do" value={ "remove " (at) } { "Remove" span.skip { " quota " (number) } }
            }
            details open[fields.any_wrong(&more)] {
                summary { "What counts, and when" }
                div.row {
                    (fields.text(&of("count_statuses"), "Answers that count", Look {
                        hint: "empty: 1xx to 4xx. Else such as 2xx 404 others", ..Look::default()
                    }))
                    (fields.choice(&of("charge"), "Charged", &CHARGES))
                    (fields.choice(&of("week_start"), "A week begins on", &WEEKDAYS))
                    (fields.text(&of("name"), "Name of the quota", Look {
                        hint: if is_kept { "stays" } else { "empty: its period" },
                        stays: is_kept,
                        size: 16,
                        ..Look::default()
                    }))
                }
            }
        }
    }
}

/// Method limits. `of_plan`: they may be for one stage.
pub(in crate::console) fn methods(
    fields: &Fields<'_>,
    form: &Form,
    list: &str,
    of_plan: bool,
) -> Markup {
    let rows = form.rows(list);
    html! {
        fieldset id=(list) {
            legend { "Rates by method" }
            @if rows == 0 {
                p.hint { "None. A call that is dearer than others can have a rate of its own: " code { "POST /orders" } "." }
            }
            @for row in 0..rows {
                @let at = format!("{list}[{row}]");
                div.row role="group" aria-label={ "Method " (row + 1) } {
                    (fields.row(&at))
                    (fields.text(&format!("{at}.method"), "Method", Look { hint: "* is all", size: 8, ..Look::default() }))
                    (fields.text(&format!("{at}.path"), "Path", Look { hint: "/users/{id}", size: 24, ..Look::default() }))
                    (rate(fields, &at))
                    (fields.choice(&format!("{at}.replaces_general"), "It counts", &REPLACES))
                    @if of_plan {
                        (fields.text(&format!("{at}.target"), "Only at stage", Look { hint: "empty: all", size: 16, ..Look::default() }))
                    }
                    button.quiet name="do" value={ "remove " (at) } { "Remove" span.skip { " method " (row + 1) } }
                }
            }
            div { button name="do" value={ "add " (list) } { "Add a method" } }
        }
    }
}
