//! What was used, by pages, whoever asks.
//!
//! A list of periods, and behind it one of days. A token says where a page ended, so that edits and
//! traffic between two pages neither repeat nor skip a row. What a page needs is read in stretches
//! that are longer than a page; the rest of a stretch is kept for the next page, so that a whole
//! walk reads everything about once.

mod merged;
mod place;
mod unused;

use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::civil::Date;
use parking_lot::Mutex;

use self::place::{Place, Token};
use self::unused::unused;
use super::error::{ServiceError, on_a_thread};
use super::lease_broker::LeaseBroker;
use crate::catalog::{Catalog, CatalogStore, EditError};
use crate::clock::Clock;
use crate::decide::invalid::Invalid;
use crate::decide::ledger::{DailyUsage, Scope, Whose};
use crate::decide::plan::validate::Mistakes;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{PlanEngine, QuotaUsage};
use crate::ledger::{LedgerError, Stretch as LedgerStretch};

const DAY_S: u64 = 86_400;
const DAY_NS: u64 = DAY_S * SECOND_NS;

/// Rows on a page when the caller does not say.
const DEFAULT_PAGE_SIZE: usize = 1_000;
/// The most rows on a page.
const MAX_PAGE_SIZE: usize = 10_000;
/// Rows of a stretch, about.
const STRETCH: usize = 50_000;
/// Stretches that are kept between pages, and for how long.
const KEPT: usize = 2;
const KEPT_NS: u64 = 60 * SECOND_NS;

/// Shows the books: the periods of quotas, and the days of callers.
#[derive(Debug)]
pub struct Usage {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    broker: LeaseBroker,
    clock: Clock,
    unshown: Unshown,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRequest {
    pub scope: Scope,
    /// A date such as 2026-11-22 (UTC). Empty: the end alone where that is given, else today.
    pub start_date: String,
    /// Likewise, and included. Empty: today.
    pub end_date: String,
    /// 0: the default; more than the most is the most.
    pub page_size: i32,
    /// Empty, or the token of the page before.
    pub page_token: String,
}

/// A row of a page.
#[derive(Clone, Copy, Debug)]
pub enum Row<'r> {
    Quota(&'r QuotaUsage),
    Day(&'r DailyUsage),
}

/// What was read and is not shown yet: at most two stretches, for a minute after the last page.
#[derive(Debug, Default)]
struct Unshown(Mutex<Vec<(u64, Arc<Stretch>)>>);

/// Rows between two places of one answer.
#[derive(Debug)]
struct Stretch {
    query: Query,
    /// It holds what is behind this,
    after: Place,
    /// up to this, which is included. `None`: up to the end.
    until: Option<Place>,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Quotas(Vec<QuotaUsage>),
    Days(Vec<DailyUsage>),
}

/// What is asked for, whatever the page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Query {
    scope: Scope,
    days: RangeInclusive<u64>,
}

impl Unshown {
    fn find(&self, query: &Query, at: &Place, now: Now) -> Option<Arc<Stretch>> {
        let mut kept = self.0.lock();
        kept.retain(|(since_ns, _)| now.steady_ns.saturating_sub(*since_ns) < KEPT_NS);
        let holds = |one: &Stretch| {
            one.query == *query
                && one.after <= *at
                && one.until.as_ref().is_none_or(|until| at < until)
        };
        let place = kept.iter().position(|(_, one)| holds(one))?;
        Some(kept.remove(place).1)
    }

    fn keep(&self, stretch: Arc<Stretch>, now: Now) {
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((now.steady_ns, stretch));
    }
}

/// A page while it is filled.
struct Filling<P> {
    put: P,
    shown: usize,
    size: usize,
}

impl<P: FnMut(Row<'_>) -> bool> Filling<P> {
    fn put(&mut self, row: Row<'_>) -> bool {
        let fits = self.shown < self.size && (self.put)(row);
        self.shown += usize::from(fits);
        fits
    }

    /// Shows what of a stretch is behind a place, which moves on with it. False where the page was
    /// full before.
    fn fill(&mut self, stretch: &Stretch, at: &mut Place) -> bool {
        match &stretch.rows {
            Rows::Quotas(rows) => {
                let shown = rows.partition_point(|row| Place::of_quota(row) <= *at);
                rows.iter().skip(shown).all(|row| {
                    let fits = self.put(Row::Quota(row));
                    if fits {
                        *at = Place::of_quota(row);
                    }
                    fits
                })
            }
            Rows::Days(rows) => {
                let shown = rows.partition_point(|row| Place::of_day(row) <= *at);
                rows.iter().skip(shown).all(|row| {
                    let fits = self.put(Row::Day(row));
                    if fits {
                        *at = Place::of_day(row);
                    }
                    fits
                })
            }
        }
    }
}

impl Usage {
    pub fn new(
        engine: Arc<PlanEngine>,
        catalog: Arc<CatalogStore>,
        broker: LeaseBroker,
        clock: Clock,
    ) -> Self {
        Self { engine, catalog, broker, clock, unshown: Unshown::default() }
    }

    /// Shows a page, in order: `put` is told each row, and says whether there was room for it. The
    /// answer is the token of the next page, where there is one.
    ///
    /// # Errors
    /// A date, size or token that cannot be used; a scope that nobody knows and that has no books;
    /// books that cannot be read.
    pub async fn page(
        &self,
        request: &UsageRequest,
        put: impl FnMut(Row<'_>) -> bool,
    ) -> Result<Option<String>, ServiceError> {
        let now = self.clock.now();
        let size = page_size(request.page_size);
        let days = days(request, now);
        let catalog = self.catalog.snapshot();
        let token = Token { catalog: &catalog, request };
        let led = token.read();
        let (size, days, led) = match (size, days, led) {
            (Ok(size), Ok(days), Ok(led)) => (size, days, led),
            (size, days, led) => {
                let wrong =
                    days.err().unwrap_or_default().into_iter().chain(size.err()).chain(led.err());
                return Err(wrong.collect::<Vec<_>>().into());
            }
        };
        // Today is another day on a later page, maybe: what is asked for stays the same.
        let is_first = led.is_none();
        let (days, mut at) = led.unwrap_or((days, Place::start()));
        let query = Query { scope: request.scope.clone(), days };
        let mut page = Filling { put, shown: 0, size };
        loop {
            let kept = if is_first { None } else { self.unshown.find(&query, &at, now) };
            let stretch = match kept {
                Some(kept) => kept,
                None => Arc::new(self.stretch(&query, &at, now).await?),
            };
            if !page.fill(&stretch, &mut at) {
                let next = token.write(&query.days, &at);
                self.unshown.keep(stretch, now);
                return Ok(Some(next));
            }
            match &stretch.until {
                Some(until) => at = until.clone(),
                None => break,
            }
        }
        if is_first && page.shown == 0 {
            // What was deleted may still have books; what has neither is a mistake.
            known(&catalog, &query.scope)?;
        }
        Ok(None)
    }

    /// Why the books of many may lack those of some. Asked after they were read: that is when
    /// damage is met.
    pub fn damage(&self) -> Option<String> {
        self.broker.damage()
    }

    /// Reads what is behind a place.
    async fn stretch(
        &self,
        query: &Query,
        after: &Place,
        now: Now,
    ) -> Result<Stretch, ServiceError> {
        let (rows, until) = match after.day() {
            None => {
                let (rows, until) = self.quotas(query, after, now).await?;
                (Rows::Quotas(rows), Some(until))
            }
            Some(day) => {
                let (rows, until) = self.days(query, after, day).await?;
                (Rows::Days(rows), until)
            }
        };
        Ok(Stretch { query: query.clone(), after: after.clone(), until, rows })
    }

    async fn quotas(
        &self,
        query: &Query,
        after: &Place,
        now: Now,
    ) -> Result<(Vec<QuotaUsage>, Place), ServiceError> {
        let (mut rows, next) =
            self.read_quotas(&query.scope, query.days.clone(), after.whose(), STRETCH).await?;
        if query.days.contains(&(now.unix_s() / DAY_S)) {
            let unused = unused(&self.catalog.snapshot(), &query.scope, &rows, now);
            rows.extend(unused);
            rows.sort_by(|one, other| one.order().cmp(&other.order()));
        }
        let until = next.map_or_else(
            || Place::before_day(*query.days.start()),
            |next| Place::before_whose(&next),
        );
        rows.retain(|row| {
            (after..=&until).contains(&&Place::of_quota(row)) && Place::of_quota(row) != *after
        });
        Ok((rows, until))
    }

    /// Few days at first, and twice as many each time: a long range of days that hold little is
    /// read in few steps.
    async fn days(
        &self,
        query: &Query,
        after: &Place,
        first: u64,
    ) -> Result<(Vec<DailyUsage>, Option<Place>), ServiceError> {
        let last = *query.days.end();
        let (mut found, mut day, mut span) = (Vec::new(), first, 1_u64);
        loop {
            let end = day.saturating_add(span - 1).min(last);
            let mut rows = self.read_days(&query.scope, day..=end).await?;
            rows.retain(|row| Place::of_day(row) > *after);
            found.append(&mut rows);
            if found.len() > STRETCH {
                found.truncate(STRETCH);
                found.shrink_to_fit();
                let until = found.last().map(Place::of_day);
                return Ok((found, until));
            }
            if end >= last {
                return Ok((found, None));
            }
            day = end + 1;
            if found.len() > STRETCH / 2 {
                return Ok((found, Some(Place::before_day(day))));
            }
            span = span.saturating_mul(2);
        }
    }

    /// The periods that overlap the days (since 1970-01-01, UTC, both included), from those of a
    /// subscriber and key on: of all that was ever counted and is still kept, in order. After so
    /// many it ends before the next subscriber or key, and says who that is.
    pub(super) async fn read_quotas(
        &self,
        scope: &Scope,
        days: RangeInclusive<u64>,
        first: Whose,
        most: usize,
    ) -> Result<(Vec<QuotaUsage>, Option<Whose>), ServiceError> {
        let (from_ns, until_ns) = (
            days.start().saturating_mul(DAY_NS),
            days.end().saturating_add(1).saturating_mul(DAY_NS),
        );
        let (engine, broker, catalog, scope) =
            (Arc::clone(&self.engine), self.broker.clone(), self.catalog.snapshot(), scope.clone());
        // The ledger's file blocks, and the thread that asks serves calls.
        let read = on_a_thread(move || {
            let whose = (&*first.0, first.1.as_deref());
            let held = engine.quota_usage(&*catalog, &scope, from_ns..until_ns, whose);
            let stretch = LedgerStretch {
                from_s: from_ns / SECOND_NS,
                until_s: until_ns.div_ceil(SECOND_NS),
                first,
                most,
            };
            broker.usage(&*catalog, held, &scope, &stretch)
        });
        read.await?.map_err(unread)
    }

    /// What happened on those days, in order.
    async fn read_days(
        &self,
        scope: &Scope,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<DailyUsage>, ServiceError> {
        let (broker, scope) = (self.broker.clone(), scope.clone());
        let read = on_a_thread(move || broker.daily_usage(&scope, *days.start(), *days.end()));
        read.await?.map_err(unread)
    }
}

/// What memory holds alone would look like the whole: it is not shown.
fn unread(error: LedgerError) -> ServiceError {
    ServiceError::Unavailable(error.to_string())
}

fn page_size(asked: i32) -> Result<usize, Invalid> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(asked) => Ok(asked.min(MAX_PAGE_SIZE)),
        Err(_) => Err(Invalid::new("page_size", format!("must be 0 or more, not {asked}"))),
    }
}

fn known(catalog: &Catalog, scope: &Scope) -> Result<(), EditError> {
    match scope {
        Scope::All => Ok(()),
        Scope::Subscriber(id) => catalog.subscribers().find(id).map(|_| ()),
        Scope::Key(id) => catalog.keys().find(id).map(|_| ()),
        Scope::Plan(id) => catalog.plans().find(id).map(|_| ()),
    }
}

/// The days that are asked for, today where they are left out. A first day alone reaches to today,
/// and a last day alone is the only one.
fn days(request: &UsageRequest, now: Now) -> Result<RangeInclusive<u64>, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let first = day("start_date", &request.start_date, &mut found);
    let last = day("end_date", &request.end_date, &mut found);
    let today = now.unix_s() / DAY_S;
    let first = first.or(last).unwrap_or(today);
    let last = last.unwrap_or_else(|| today.max(first));
    if found.is_empty() && last < first {
        found.add("end_date", format!("must not be before `start_date`, {}", request.start_date));
    }
    found.or_else(first..=last)
}

/// Days since 1970-01-01. `None` for an empty text, and for one that is no date, which is a
/// mistake.
fn day(field: &str, text: &str, found: &mut Mistakes) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    // Jiff reads other forms too; the contract has one.
    let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date = text.parse::<Date>().ok().filter(|_| plain);
    let day = date
        .and_then(|date| {
            u64::try_from(date.duration_since(Date::constant(1970, 1, 1)).as_secs()).ok()
        })
        .map(|second| second / DAY_S);
    if day.is_none() {
        found.add(field, "must be a date such as 2026-11-22");
    }
    day
}
