//! The frame around a page: name and health above, navigation at the left, the page's own title.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::visit::Visit;
use super::{Console, assets, form, links, words};
use crate::catalog::{Catalog, Kind};

/// The parts of the console that navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Plans,
    Targets,
    /// None of them.
    None,
}

impl Section {
    const ALL: [Self; 2] = [Self::Plans, Self::Targets];

    /// Where resources of a kind are.
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Plan => Self::Plans,
            Kind::Target => Self::Targets,
            _ => Self::None,
        }
    }

    /// Its first page.
    pub(super) fn address(self) -> Option<&'static str> {
        match self {
            Self::Plans => Some("/console/plans"),
            Self::Targets => Some("/console/targets"),
            Self::None => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Plans => "Plans",
            Self::Targets => "Targets",
            Self::None => "",
        }
    }

    /// How many there are of what it shows.
    fn count(self, catalog: &Catalog) -> Option<usize> {
        match self {
            Self::Plans => Some(catalog.plans().len()),
            Self::Targets => Some(catalog.targets().len()),
            Self::None => None,
        }
    }
}

/// A page without its frame, which the guard puts around it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    section: Section,
    title: String,
    status: StatusCode,
    crumbs: Vec<(String, String)>,
    facts: Option<Markup>,
    acts: Option<Markup>,
    main: Markup,
    /// What of the title is not its own words: a number.
    count: Option<usize>,
}

impl Page {
    pub(super) fn new(section: Section, title: impl Into<String>, main: Markup) -> Self {
        Self {
            section,
            title: title.into(),
            status: StatusCode::OK,
            crumbs: Vec::new(),
            facts: None,
            acts: None,
            main,
            count: None,
        }
    }

    #[must_use]
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// A page that leads here: its address and its title. The uppermost first.
    #[must_use]
    pub(super) fn under(mut self, address: impl Into<String>, title: impl Into<String>) -> Self {
        self.crumbs.push((address.into(), title.into()));
        self
    }

    /// A line below the title.
    #[must_use]
    pub(super) fn with_facts(self, facts: Markup) -> Self {
        Self { facts: Some(facts), ..self }
    }

    /// Something that stands before all else.
    #[must_use]
    pub(super) fn below(self, first: Markup) -> Self {
        let main = self.main;
        Self { main: html! { (first) (main) }, ..self }
    }

    /// Buttons at the right of the title; at most one of them is filled.
    #[must_use]
    pub(super) fn with_acts(self, acts: Markup) -> Self {
        Self { acts: Some(acts), ..self }
    }

    /// A number behind the title.
    #[must_use]
    pub(super) fn with_count(self, count: usize) -> Self {
        Self { count: Some(count), ..self }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a person is told of an edit that was made, above the page that it leads to.
fn done(word: &str) -> Option<&'static str> {
    Some(match word {
        "created" => "Created. It is in force.",
        "saved" => "Saved. It is in force.",
        "deleted" => "Deleted.",
        "connected" => "Connected. Calls are decided by it from now on.",
        "disconnected" => "Disconnected. Calls are not covered by it any more.",
        "imported" => "Imported. It is in force.",
        "same" => "Nothing was different, and nothing was changed.",
        _ => return None,
    })
}

/// A whole page. `done` is what the address says of an edit that led here.
pub(super) fn whole(console: &Console, visit: &Visit, page: &Page, done_word: &str) -> Markup {
    let catalog = console.catalog();
    let concern = (console.parts().concern)();
    html! {
        (head(&page.title))
        body {
            a.skip href="#main" { "To the content" }
            div.frame {
                header.bar {
                    (brand())
                    @match &concern {
                        None => span.tag.hide { "everything works" },
                        Some(why) => span.tag.bad title=(why) { "degraded" },
                    }
                    div.who {
                        span.soft.hide {
                            (visit.name()) @if !visit.may_edit() { ", may look" } @else { ", may edit" }
                        }
                        @if visit.is_signed_in() {
                            form method="post" action=(links::SIGN_OUT) {
                                input type="hidden" name=(form::CSRF) value=(visit.csrf());
                                button.quiet { "Sign out" }
                            }
                        }
                    }
                }
                nav.nav aria-label="Pages" { ul {
                    @for section in Section::ALL {
                        li { a href=[section.address()]
                            aria-current=[(section == page.section).then_some("page")] {
                            span { (section.title()) }
                            @if let Some(count) = section.count(&catalog) {
                                span.n { (words::grouped(count)) }
                            }
                        } }
                    }
                } }
                main #main {
                    @if let Some(why) = concern.filter(|_| page.status == StatusCode::SERVICE_UNAVAILABLE) {
                        div.note.warn { p { "What does not work: " (why) } }
                    }
                    div.head {
                        div {
                            @if !page.crumbs.is_empty() {
                                div.crumb {
                                    @for (place, (address, title)) in page.crumbs.iter().enumerate() {
                                        @if place > 0 { " / " }
                                        a href=(address) { (title) }
                                    }
                                }
                            }
                            h1 {
                                bdi { (page.title) }
                                @if let Some(count) = page.count {
                                    " " span.soft { (words::grouped(count)) }
                                }
                            }
                            @if let Some(facts) = &page.facts { p.soft { (facts) } }
                        }
                        @if let Some(acts) = &page.acts { div.acts { (acts) } }
                    }
                    @if let Some(done) = done(done_word) { div.note role="status" { p { (done) } } }
                    (page.main)
                }
            }
        }
    }
}

/// A page without navigation, for those who are not signed in.
pub(super) fn alone(title: &str, main: &Markup) -> Markup {
    html! {
        (head(title))
        body {
            header.bar { (brand()) }
            main.alone #main { h1 { (title) } (main) }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en";
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · tollgate" }
            link rel="icon" href=(assets::address("mark.svg")) type="image/svg+xml";
            link rel="stylesheet" href=(assets::address("console.css"));
            script src=(assets::address("console.js")) defer {}
        }
    }
}

fn brand() -> Markup {
    html! {
        a.name href="/console/" {
            svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.4"
                stroke-linecap="round" aria-hidden="true" {
                path d="M4 21V6M20 21V6M4 10h16" {}
                path d="M4 10l13-6" stroke-width="2" {}
            }
            "tollgate"
        }
    }
}
