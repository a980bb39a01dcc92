//! Pages of resources, filtered and in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::key_entry::KeyEntry;
use super::snapshot::Catalog;
use super::table::{Stored, Table};
use super::walks::{self, Walk};
use crate::decide::compiled::{CompiledPlan, CompiledTarget};
use crate::decide::invalid::Invalid;
use crate::decide::plan::{Id, Subscriber};
use filter::{Filter, Listed};

mod filter;
mod token;

/// Resources on a page when the caller does not say.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// The most resources on a page.
pub const MAX_PAGE_SIZE: usize = 1_000;

/// So many resources are looked at for one page, where nothing leads to those that match. A page may
/// end with few, or none, and lead on.
const LOOKED_AT: usize = 100_000;

/// What a caller asks of a list, in the words of the contract.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions<'a> {
    /// 0: the default; more than the most is the most.
    pub page_size: i32,
    /// Empty, or the token of the page before.
    pub page_token: &'a str,
    pub filter: &'a str,
    pub order_by: &'a str,
}

/// Some resources of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<Arc<Stored<T>>>,
    /// Leads to the next page; empty on the last one.
    pub next_page_token: String,
    /// Resources on all pages. Where too many have to be looked at for one page: those that were
    /// found up to this one.
    pub total: usize,
}

impl Catalog {
    /// A page of plans. Errors: a page size, token, filter or order that cannot be used.
    pub fn list_plans(
        &self,
        options: &ListOptions<'_>,
    ) -> Result<Page<CompiledPlan>, Vec<Invalid>> {
        list(self, &self.plans, options, LOOKED_AT)
    }

    /// A page of targets. Errors as of [`Self::list_plans`].
    pub fn list_targets(
        &self,
        options: &ListOptions<'_>,
    ) -> Result<Page<CompiledTarget>, Vec<Invalid>> {
        list(self, &self.targets, options, LOOKED_AT)
    }

    /// A page of subscribers. Errors as of [`Self::list_plans`].
    pub fn list_subscribers(
        &self,
        options: &ListOptions<'_>,
    ) -> Result<Page<Subscriber>, Vec<Invalid>> {
        list(self, &self.subscribers, options, LOOKED_AT)
    }

    /// A page of API keys. Errors as of [`Self::list_plans`].
    pub fn list_keys(&self, options: &ListOptions<'_>) -> Result<Page<KeyEntry>, Vec<Invalid>> {
        list(self, &self.keys, options, LOOKED_AT)
    }

    /// Ties the page token of a list that is kept elsewhere to what was asked for.
    pub fn page_tag(&self, list: &str, parts: &[&[u8]]) -> [u8; 8] {
        token::tag(&self.hash_key, list, parts)
    }
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    by: By,
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Id,
    DisplayName,
    UpdateTime,
}

/// Where a resource stands in an order. Ids settle ties, so that no two stand at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position<'a> {
    first: First<'a>,
    id: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum First<'a> {
    Same,
    Text(&'a str),
    Instant(u64),
}

impl Order {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let mut words = text.split_whitespace();
        let by = match words.next() {
            None | Some("id") => By::Id,
            Some("display_name") => By::DisplayName,
            Some("update_time") => By::UpdateTime,
            Some(_) => return Err(Self::wrong()),
        };
        let descending = match words.next() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return Err(Self::wrong()),
        };
        if words.next().is_some() { Err(Self::wrong()) } else { Ok(Self { by, descending }) }
    }

    fn wrong() -> Invalid {
        Invalid::new(
            "order_by",
            "must be `id`, `display_name` or `update_time`, optionally followed by ` desc`",
        )
    }

    fn position<T: Listed>(self, stored: &Stored<T>) -> Position<'_> {
        let first = match self.by {
            By::Id => First::Same,
            By::DisplayName => First::Text(stored.value.display_name()),
            By::UpdateTime => First::Instant(stored.update_ns),
        };
        Position { first, id: stored.value.id() }
    }

    fn compare(self, one: Position<'_>, other: Position<'_>) -> Ordering {
        let ascending = one.cmp(&other);
        if self.descending { ascending.reverse() } else { ascending }
    }
}

/// A candidate for a page; the greatest is the last in the order.
struct Ranked<'a, T> {
    order: Order,
    position: Position<'a>,
    stored: &'a Arc<Stored<T>>,
}

impl<T> Ord for Ranked<'_, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(self.position, other.position)
    }
}

impl<T> PartialOrd for Ranked<'_, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Eq for Ranked<'_, T> {}

impl<T> PartialEq for Ranked<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

fn list<T: Listed>(
    catalog: &Catalog,
    table: &Table<T>,
    options: &ListOptions<'_>,
    looked_at: usize,
) -> Result<Page<T>, Vec<Invalid>> {
    let size = page_size(options.page_size);
    let filter = Filter::parse(options.filter, T::KIND);
    let order = Order::parse(options.order_by);
    let token = token::Token {
        key: &catalog.hash_key,
        kind: T::KIND,
        filter: options.filter,
        order_by: options.order_by,
    };
    let after = token.read(options.page_token);
    let (size, filter, order, after) = match (size, filter, order, after) {
        (Ok(size), Ok(filter), Ok(order), Ok(after)) => (size, filter, order, after),
        (size, filter, order, after) => {
            return Err([size.err(), filter.err(), order.err(), after.err()]
                .into_iter()
                .flatten()
                .collect());
        }
    };
    let is_by_id = order == (Order { by: By::Id, descending: false });
    let in_parts = after.as_ref().is_some_and(|after| after.found.is_some())
        || (is_by_id && !filter.is_empty() && table.len() > looked_at)
            && filter.candidates::<T>(catalog, looked_at).is_none();
    if is_by_id && in_parts {
        return Ok(part(catalog, table, &filter, &token, after.as_ref(), (size, looked_at)));
    }
    let after = after.as_ref().map(token::Place::position);
    // One more than the page holds tells whether there is another page.
    let (mut items, total) = if filter.is_empty() && is_by_id {
        let from = after.map(|after| after.id);
        (table.iter_after(from).take(size + 1).cloned().collect(), table.len())
    } else if let Some(after) = after {
        let list =
            walks::List { kind: T::KIND, filter: options.filter, order_by: options.order_by };
        walked(catalog, table, list, &filter, order, after, size + 1)
    } else {
        matching(catalog, table, &filter, order, None, size + 1)
    };
    let more = items.len() > size;
    items.truncate(size);
    let next_page_token = items
        .last()
        .filter(|_| more)
        .map(|last| token.write(order.position(last)))
        .unwrap_or_default();
    Ok(Page { items, next_page_token, total })
}

/// A page of a list by id that is too long to be looked through for one page: of at most `size`
/// matches among the next `looked_at` resources.
fn part<T: Listed>(
    catalog: &Catalog,
    table: &Table<T>,
    filter: &Filter,
    token: &token::Token<'_>,
    after: Option<&token::Place>,
    (size, looked_at): (usize, usize),
) -> Page<T> {
    let before = after.and_then(|after| after.found).unwrap_or_default();
    let (mut items, mut last) = (Vec::new(), None);
    let mut rest = table.iter_after(after.map(|after| after.id.as_str()));
    for stored in rest.by_ref().take(looked_at) {
        last = Some(stored.value.id());
        if filter.matches(catalog, &stored.value) {
            items.push(Arc::clone(stored));
            if items.len() >= size {
                break;
            }
        }
    }
    let total = before.saturating_add(items.len());
    let next = last.filter(|_| rest.next().is_some()).map(|id| token.write_found(id, total));
    Page { items, next_page_token: next.unwrap_or_default(), total }
}

/// The first `most` after a position that match, in order, and how many match at any position: by
/// what the page before has found already, as far as that goes.
fn walked<T: Listed>(
    catalog: &Catalog,
    table: &Table<T>,
    list: walks::List<'_>,
    filter: &Filter,
    order: Order,
    after: Position<'_>,
    most: usize,
) -> (Vec<Arc<Stored<T>>>, usize) {
    // What was deleted, or edited so that it does not match any more, is left out.
    let page = |walk: &Arc<Walk>, behind: usize| {
        let ids = walk.ids.iter().enumerate().skip(behind);
        let found = ids
            .filter_map(|(place, id)| Some((place, table.get(id)?)))
            .filter(|(_, stored)| filter.matches(catalog, &stored.value));
        let found: Vec<_> = found.take(most).collect();
        if found.len() < most {
            catalog.walks.forget(walk);
        } else if let Some((place, _)) = most.checked_sub(2).and_then(|last| found.get(last)) {
            // The last one is not on the page: it tells that there is another.
            walk.ended_at(*place);
        }
        (found.into_iter().map(|(_, stored)| Arc::clone(stored)).collect::<Vec<_>>(), walk.total)
    };
    if let Some((walk, behind)) = catalog.walks.find(list, catalog.revision, after.id) {
        let (found, total) = page(&walk, behind);
        if found.len() == most || walk.is_whole {
            return (found, total);
        }
    }
    let (found, total) =
        matching(catalog, table, filter, order, Some(after), walks::MOST.max(most));
    let is_whole = found.len() < walks::MOST.max(most);
    let ids = found.iter().map(|stored| Id::clone(stored.value.id())).collect();
    let walk = Arc::new(Walk::new(list, catalog.revision, ids, is_whole, total));
    catalog.walks.keep(Arc::clone(&walk));
    page(&walk, 0)
}

/// The first `most` after a position that match, in order, and how many match at any position.
/// Keeps no more than `most` at a time.
fn matching<T: Listed>(
    catalog: &Catalog,
    table: &Table<T>,
    filter: &Filter,
    order: Order,
    after: Option<Position<'_>>,
    most: usize,
) -> (Vec<Arc<Stored<T>>>, usize) {
    let mut total = 0;
    let mut first: BinaryHeap<Ranked<'_, T>> = BinaryHeap::new();
    let narrowed = filter.candidates::<T>(catalog, LOOKED_AT);
    // Many that look through all of a long list at once would leave no core to others.
    let _turn = narrowed.is_none().then(|| catalog.walks.turn());
    let candidates: Box<dyn Iterator<Item = &Arc<Stored<T>>> + '_> = match &narrowed {
        Some(ids) => Box::new(ids.iter().filter_map(|id| table.get(id))),
        None => Box::new(table.iter_after(None)),
    };
    for stored in candidates.filter(|stored| filter.matches(catalog, &stored.value)) {
        total += 1;
        let position = order.position(stored);
        if after.is_none_or(|after| order.compare(position, after).is_gt()) {
            first.push(Ranked { order, position, stored });
            if first.len() > most {
                first.pop();
            }
        }
    }
    (first.into_sorted_vec().into_iter().map(|ranked| ranked.stored.clone()).collect(), total)
}

fn page_size(asked: i32) -> Result<usize, Invalid> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(asked) => Ok(asked.min(MAX_PAGE_SIZE)),
        Err(_) => Err(Invalid::new("page_size", format!("must be 0 or more, not {asked}"))),
    }
}

#[cfg(test)]
mod tests;
