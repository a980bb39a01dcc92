//! What was used, by pages.
//!
//! A list of periods, and behind it one of days. A token says where a page ended, so that edits and
//! traffic between two pages neither repeat nor skip a row. What a page needs is read in stretches
//! that are longer than a page; the rest of a stretch is kept for the next page, so that a whole
//! walk reads everything about once.

use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::civil::Date;
use parking_lot::Mutex;
use prost::Message;
use tonic::Status;

use super::UsagePlans;
use crate::catalog::{Catalog, EditError};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::Mistakes;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{DailyUsage, QuotaUsage, Scope};
use crate::grpc::convert::usage::{day_to_wire, quota_to_wire};
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;
use crate::service::usage::unused::unused;
use pb::get_usage_request::Scope as WireScope;
use place::{Place, Token};

mod place;

const DAY_S: u64 = 86_400;

/// Rows on a page when the caller does not say.
const DEFAULT_PAGE_SIZE: usize = 1_000;
/// The most rows on a page.
const MAX_PAGE_SIZE: usize = 10_000;
/// Bytes of the rows on a page, at most: ordinary clients take 4 MiB.
const MAX_PAGE_BYTES: usize = 3 << 20;
/// Rows of a stretch, about.
const STRETCH: usize = 50_000;
/// Stretches that are kept between pages, and for how long.
const KEPT: usize = 2;
const KEPT_NS: u64 = 60 * SECOND_NS;

/// What was read and is not shown yet: at most two stretches, for a minute after the last page.
#[derive(Debug, Default)]
pub(super) struct Unshown(Mutex<Vec<(u64, Arc<Stretch>)>>);

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
    scope: Option<WireScope>,
    days: RangeInclusive<u64>,
}

impl Query {
    fn scope(&self) -> Scope<'_> {
        match &self.scope {
            None => Scope::All,
            Some(WireScope::Subscriber(id)) => Scope::Subscriber(id),
            Some(WireScope::ApiKey(id)) => Scope::Key(id),
            Some(WireScope::Plan(id)) => Scope::Plan(id),
        }
    }
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
struct Filling {
    answer: pb::GetUsageResponse,
    size: usize,
    bytes: usize,
}

impl Filling {
    /// Puts a row on the page, unless it is full.
    fn put<T: Message>(
        &mut self,
        row: T,
        rows: fn(&mut pb::GetUsageResponse) -> &mut Vec<T>,
    ) -> bool {
        let bytes = row.encoded_len() + 8;
        let shown = self.answer.quotas.len() + self.answer.days.len();
        if shown >= self.size || (shown > 0 && self.bytes + bytes > MAX_PAGE_BYTES) {
            return false;
        }
        self.bytes += bytes;
        rows(&mut self.answer).push(row);
        true
    }

    /// Shows what of a stretch is behind a place, which moves on with it. False where the page was
    /// full before.
    fn fill(&mut self, stretch: &Stretch, at: &mut Place) -> bool {
        match &stretch.rows {
            Rows::Quotas(rows) => {
                let shown = rows.partition_point(|row| Place::of_quota(row) <= *at);
                rows.iter().skip(shown).all(|row| {
                    let fits = self.put(quota_to_wire(row), |answer| &mut answer.quotas);
                    if fits {
                        *at = Place::of_quota(row);
                    }
                    fits
                })
            }
            Rows::Days(rows) => {
                let shown = rows.partition_point(|row| Place::of_day(row) <= *at);
                rows.iter().skip(shown).all(|row| {
                    let fits = self.put(day_to_wire(row), |answer| &mut answer.days);
                    if fits {
                        *at = Place::of_day(row);
                    }
                    fits
                })
            }
        }
    }
}

impl UsagePlans {
    pub(super) async fn usage(
        &self,
        request: pb::GetUsageRequest,
    ) -> Result<pb::GetUsageResponse, Status> {
        let now = (self.now)();
        let size = page_size(request.page_size);
        let days = days(&request, now);
        let catalog = self.store.snapshot();
        let token = Token { catalog: &catalog, request: &request };
        let led = token.read();
        let (size, days, led) = match (size, days, led) {
            (Ok(size), Ok(days), Ok(led)) => (size, days, led),
            (size, days, led) => {
                let wrong =
                    days.err().unwrap_or_default().into_iter().chain(size.err()).chain(led.err());
                return Err(invalid(wrong.collect()));
            }
        };
        // Today is another day on a later page, maybe: what is asked for stays the same.
        let is_first = led.is_none();
        let (days, mut at) = led.unwrap_or((days, Place::start()));
        let query = Query { scope: request.scope.clone(), days };
        let mut page = Filling { answer: pb::GetUsageResponse::default(), size, bytes: 0 };
        loop {
            let kept = if is_first { None } else { self.unshown.find(&query, &at, now) };
            let stretch = match kept {
                Some(kept) => kept,
                None => Arc::new(self.stretch(&query, &at, now).await?),
            };
            if !page.fill(&stretch, &mut at) {
                page.answer.next_page_token = token.write(&query.days, &at);
                self.unshown.keep(stretch, now);
                break;
            }
            match &stretch.until {
                Some(until) => at = until.clone(),
                None => break,
            }
        }
        if is_first && page.answer.quotas.is_empty() && page.answer.days.is_empty() {
            // What was deleted may still have books; what has neither is a mistake.
            known(&catalog, query.scope())?;
        }
        // After it was read: that is when damage is met.
        page.answer.damage = self.books.damage().unwrap_or_default();
        Ok(page.answer)
    }

    /// Reads what is behind a place.
    async fn stretch(&self, query: &Query, after: &Place, now: Now) -> Result<Stretch, Status> {
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
    ) -> Result<(Vec<QuotaUsage>, Place), Status> {
        let (mut rows, next) =
            self.books.quotas(query.scope(), query.days.clone(), after.whose(), STRETCH).await?;
        if query.days.contains(&(now.unix_s() / DAY_S)) {
            let unused = unused(&self.store.snapshot(), query.scope(), &rows, now);
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
    ) -> Result<(Vec<DailyUsage>, Option<Place>), Status> {
        let last = *query.days.end();
        let (mut found, mut day, mut span) = (Vec::new(), first, 1_u64);
        loop {
            let end = day.saturating_add(span - 1).min(last);
            let mut rows = self.books.days(query.scope(), day..=end).await?;
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
}

fn page_size(asked: i32) -> Result<usize, Invalid> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(asked) => Ok(asked.min(MAX_PAGE_SIZE)),
        Err(_) => Err(Invalid::new("page_size", format!("must be 0 or more, not {asked}"))),
    }
}

fn known(catalog: &Catalog, scope: Scope<'_>) -> Result<(), EditError> {
    match scope {
        Scope::All => Ok(()),
        Scope::Subscriber(id) => catalog.subscribers().find(id).map(|_| ()),
        Scope::Key(id) => catalog.keys().find(id).map(|_| ()),
        Scope::Plan(id) => catalog.plans().find(id).map(|_| ()),
    }
}

/// The days that are asked for, today where they are left out. A first day alone reaches to today,
/// and a last day alone is the only one.
fn days(request: &pb::GetUsageRequest, now: Now) -> Result<RangeInclusive<u64>, Vec<Invalid>> {
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
