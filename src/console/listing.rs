//! Lists: searched, sorted, and shown a page at a time. What is asked for stands in the address.

use std::cmp::Ordering;
use std::fmt::Write;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use maud::{Markup, html};

use super::form::Form;
use super::{links, words};

/// Rows that a page may have; the first where nobody says.
const ROWS: [usize; 3] = [20, 50, 100];
/// What is searched for is cut to so many characters.
const LONGEST_SEARCH: usize = 256;

/// What is asked of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// In lower case.
    needle: String,
    search: String,
    sort: String,
    pub(super) state: String,
    rows: usize,
    /// 0 is the first.
    page: usize,
}

/// Which of two rows comes first.
pub(super) type Order<'o, T> = &'o dyn Fn(&T, &T) -> Ordering;

/// The rows of one page.
pub(super) struct Shown<T> {
    pub(super) items: Vec<T>,
    /// On all pages.
    pub(super) total: usize,
    page: usize,
}

impl<S: Sync> FromRequestParts<S> for Listing {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::read(parts.uri.query().unwrap_or_default()))
    }
}

impl Listing {
    fn read(query: &str) -> Self {
        let query = Form::decode(query);
        let search: String = query.get("q").chars().take(LONGEST_SEARCH).collect();
        let rows = query.get("rows").parse().ok().filter(|rows| ROWS.contains(rows));
        Self {
            needle: search.to_lowercase(),
            search,
            sort: query.get("sort").to_owned(),
            state: query.get("state").to_owned(),
            rows: rows.unwrap_or(ROWS[0]),
            page: query.get("page").parse::<usize>().unwrap_or(1).saturating_sub(1),
        }
    }

    /// What the list is sorted by, of what it can be; the first where nobody says.
    pub(super) fn sorted_by<'o>(&self, orders: &[(&'o str, &str)]) -> &'o str {
        let known = orders.iter().find(|(order, _)| *order == self.sort).or(orders.first());
        known.map(|(order, _)| *order).unwrap_or_default()
    }

    pub(super) fn search(&self) -> &str {
        &self.search
    }

    /// Whether one of the texts holds what is searched for.
    pub(super) fn finds(&self, texts: &[&str]) -> bool {
        self.needle.is_empty() || texts.iter().any(|text| holds(text, &self.needle))
    }

    /// The page of those that are there, in an order. `None`: they come in order.
    pub(super) fn pick<T>(
        &self,
        all: impl Iterator<Item = T>,
        order: Option<Order<'_, T>>,
    ) -> Shown<T> {
        let mut items: Vec<T> = all.collect();
        if let Some(order) = order {
            items.sort_by(order);
        }
        let total = items.len();
        // One that is past the end is the last one: rows may have gone since.
        let page = self.page.min(total.saturating_sub(1) / self.rows);
        let items = items.into_iter().skip(page.saturating_mul(self.rows)).take(self.rows);
        Shown { items: items.collect(), total, page }
    }

    /// The form above a list. `states` and `orders` are values with their words.
    pub(super) fn form(
        &self,
        address: &str,
        what: &str,
        states: &[(&str, &str)],
        orders: &[(&str, &str)],
    ) -> Markup {
        html! {
            form.find role="search" action=(address) data-filter="list" {
                div.field {
                    label for="q" { "Search" }
                    input #q name="q" type="search" value=(self.search) placeholder=(what);
                }
                @if !states.is_empty() { (choice("state", "State", &self.state, states)) }
                @if orders.len() > 1 { (choice("sort", "Sorted by", &self.sort, orders)) }
                div.field {
                    label for="rows" { "Rows" }
                    select #rows name="rows" {
                        @for rows in ROWS {
                            option value=(rows) selected[rows == self.rows] { (rows) }
                        }
                    }
                }
                button { "Show" }
            }
        }
    }

    /// The line below a list: which rows these are, and where the others are.
    pub(super) fn foot<T>(&self, address: &str, shown: &Shown<T>) -> Markup {
        let first = shown.page.saturating_mul(self.rows);
        let last = first + shown.items.len();
        html! {
            div.foot {
                span {
                    (words::grouped(first + 1)) " to " (words::grouped(last)) " of "
                    (words::grouped(shown.total))
                }
                nav aria-label="Pages of the list" {
                    @if shown.page > 0 {
                        a href=(self.address(address, shown.page)) rel="prev" { "Earlier" }
                    } @else { span.soft { "Earlier" } }
                    " · "
                    @if last < shown.total {
                        a href=(self.address(address, shown.page + 2)) rel="next" { "Later" }
                    } @else { span.soft { "Later" } }
                }
            }
        }
    }

    /// The address of a page, the first being 1.
    fn address(&self, address: &str, page: usize) -> String {
        let mut text = format!("{address}?page={page}&rows={}", self.rows);
        for (name, value) in [("q", &self.search), ("sort", &self.sort), ("state", &self.state)] {
            if !value.is_empty() {
                // A text takes everything.
                let _ = write!(text, "&{name}={}", links::text(value));
            }
        }
        text
    }
}

fn choice(name: &str, label: &str, now: &str, all: &[(&str, &str)]) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            select #(name) name=(name) {
                @for (value, words) in all {
                    option value=(value) selected[*value == now] { (words) }
                }
            }
        }
    }
}

/// Whether a text holds another, which is in lower case.
fn holds(text: &str, needle: &str) -> bool {
    if text.is_ascii() && needle.is_ascii() {
        let (text, needle) = (text.as_bytes(), needle.as_bytes());
        return text.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle));
    }
    text.to_lowercase().contains(needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_past_the_end_is_the_last_and_nonsense_is_what_nobody_said() {
        for (query, rows, page, first) in [
            ("", 20, 0, 0),
            ("rows=50&page=2", 50, 1, 50),
            ("page=3", 20, 2, 40),
            ("page=9999999999", 20, 2, 40),
            ("page=99999999999999999999999", 20, 0, 0),
            ("page=-1&rows=7", 20, 0, 0),
            ("rows=100", 100, 0, 0),
            ("page=0", 20, 0, 0),
        ] {
            let listing = Listing::read(query);
            assert_eq!(listing.rows, rows, "{query}");
            let all = 0..if rows == 50 { 60 } else { 41 };
            let shown = listing.pick(all, None);
            assert_eq!((shown.page, shown.items.first()), (page, Some(&first)), "{query}");
        }
        let none = Listing::read("page=3").pick(0..0, None);
        assert_eq!((none.items.len(), none.total, none.page), (0, 0, 0));
    }

    #[test]
    fn what_is_searched_for_is_found_in_any_spelling() {
        let finds = |query: &str, text: &str| Listing::read(query).finds(&["other", text]);
        assert!(finds("q=GOLD", "Marigold") && finds("q=", "x") && finds("q=caf%C3%A9", "CAFÉ"));
        assert!(!finds("q=gold", "silver") && !finds("q=longer+than+it", "short"));
    }

    #[test]
    fn the_address_of_another_page_keeps_what_was_asked_for() {
        let listing = Listing::read("q=a%26b&sort=name&state=unset&rows=50");
        let address = listing.address("/console/plans", 2);
        assert_eq!(address, "/console/plans?page=2&rows=50&q=a%26b&sort=name&state=unset");
        let read = Listing::read(address.split_once('?').unwrap().1);
        assert_eq!(read, Listing { page: 1, ..listing });
    }

    #[test]
    fn rows_are_sorted_before_they_are_cut() {
        let listing = Listing::read("");
        let shown = listing.pick(0..30, Some(&|one: &i32, other: &i32| other.cmp(one)));
        assert_eq!(shown.items.first(), Some(&29));
        assert_eq!(listing.sorted_by(&[("name", ""), ("id", "")]), "name");
        assert_eq!(Listing::read("sort=id").sorted_by(&[("name", ""), ("id", "")]), "id");
        assert_eq!(Listing::read("sort=x").sorted_by(&[("name", ""), ("id", "")]), "name");
    }
}
