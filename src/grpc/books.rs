//! The engine's books, as the service of usage plans reads them.

use std::sync::Arc;

use jiff::civil::Date;
use parking_lot::Mutex;
use prost_types::Timestamp;

use super::pb::tollgate as pb;
use super::usage_plans::{Books, BooksError, Days, Grant, GrantChange, Scope};
use crate::catalog::{CatalogStore, Requests};
use crate::decide::invalid::Invalid;
use crate::decide::outcome::Class;
use crate::decide::plan::{Id, PeriodUnit};
use crate::decide::quota;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Reason;
use crate::engine::plans::{self, DailyUsage, PlanEngine, QuotaUsage, Subject};

const DAY_NS: u64 = 86_400 * SECOND_NS;
const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// The books of one engine.
#[derive(Debug)]
pub struct EngineBooks {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    requests: Mutex<Requests>,
}

impl EngineBooks {
    pub fn new(engine: Arc<PlanEngine>, catalog: Arc<CatalogStore>) -> Self {
        Self { engine, catalog, requests: Mutex::new(Requests::default()) }
    }

    fn make(&self, grant: &Grant, now: Now) -> Result<pb::QuotaUsage, BooksError> {
        let subject = match &grant.key {
            Some(key) => Subject::Key { subscriber: &grant.subscriber, key },
            None => Subject::Subscriber(&grant.subscriber),
        };
        let change = match grant.change {
            GrantChange::Add(units) => quota::Grant::Add(units),
            GrantChange::SetRemaining(units) => quota::Grant::SetRemaining(units),
            GrantChange::Reset => quota::Grant::Reset,
        };
        let counter = (&*grant.entitlement.plan, &*grant.entitlement.name, &*grant.quota);
        let catalog = self.catalog.load();
        match self.engine.grant(&**catalog, subject, counter, change, now) {
            Ok(usage) => Ok(quota_usage(&usage)),
            Err(plans::GrantError::NoRoom) => Err(BooksError::Unavailable(plans::GrantError::NoRoom.to_string())),
            // The plan was edited since the request was read.
            Err(gone) => Err(BooksError::Invalid(vec![Invalid::new("plan", format!("has changed meanwhile: {gone}"))])),
        }
    }
}

#[tonic::async_trait]
impl Books for EngineBooks {
    async fn usage(&self, scope: &Scope, days: Days, _now: Now) -> Result<pb::GetUsageResponse, BooksError> {
        let scope = match scope {
            Scope::All => plans::Scope::All,
            Scope::Subscriber(id) => plans::Scope::Subscriber(id),
            Scope::Key(id) => plans::Scope::Key(id),
            Scope::Plan(id) => plans::Scope::Plan(id),
        };
        let (first, last) = (day_number(days.first), day_number(days.last));
        let catalog = self.catalog.load();
        let until_ns = last.saturating_add(1).saturating_mul(DAY_NS);
        let quotas = self.engine.quota_usage(&**catalog, scope, first.saturating_mul(DAY_NS), until_ns);
        Ok(pb::GetUsageResponse {
            quotas: quotas.iter().map(quota_usage).collect(),
            days: self.engine.daily_usage(scope, first, last).iter().map(daily_usage).collect(),
        })
    }

    async fn grant(&self, grant: Grant, now: Now) -> Result<pb::QuotaUsage, BooksError> {
        let Some(request) = &grant.request else { return self.make(&grant, now) };
        // Held over the grant, so that a retry that overtakes its first try waits for it.
        let mut requests = self.requests.lock();
        if let Some(first) = requests.find(request, now).map_err(|wrong| BooksError::Invalid(vec![wrong]))? {
            return Ok(first);
        }
        let answer = self.make(&grant, now)?;
        requests.remember(request.clone(), &answer, now);
        Ok(answer)
    }
}

fn day_number(date: Date) -> u64 {
    date.since((jiff::Unit::Day, EPOCH)).map_or(0, |span| u64::try_from(span.get_days()).unwrap_or(0))
}

fn timestamp(ns: u64) -> Timestamp {
    Timestamp { seconds: i64::try_from(ns / SECOND_NS).unwrap_or(i64::MAX), nanos: i32::try_from(ns % SECOND_NS).unwrap_or(0) }
}

fn quota_usage(usage: &QuotaUsage) -> pb::QuotaUsage {
    use pb::quota::Unit;
    let unit = match usage.quota.unit {
        PeriodUnit::Minute => Unit::Minute,
        PeriodUnit::Hour => Unit::Hour,
        PeriodUnit::Day => Unit::Day,
        PeriodUnit::Week => Unit::Week,
        PeriodUnit::Month => Unit::Month,
        PeriodUnit::Year => Unit::Year,
    };
    pb::QuotaUsage {
        subscriber: usage.subscriber.to_string(),
        api_key: usage.key.as_ref().map(Id::to_string).unwrap_or_default(),
        plan: usage.plan.to_string(),
        entitlement: usage.entitlement.to_string(),
        quota: usage.quota.name.to_string(),
        unit: unit.into(),
        period_start: Some(timestamp(usage.row.period.start_ns)),
        period_end: Some(timestamp(usage.row.period.end_ns)),
        limit: usage.limit.unwrap_or_default(),
        granted: usage.row.granted,
        used: usage.row.used,
        remaining: usage.remaining(),
        lost: 0,
    }
}

fn daily_usage(day: &DailyUsage) -> pb::DailyUsage {
    let date = i64::try_from(day.day).ok().and_then(|days| EPOCH.checked_add(jiff::Span::new().try_days(days).ok()?).ok());
    let refused = Reason::ALL.iter().map(|&reason| (reason.name().to_owned(), day.refused_for(reason)));
    let responses = Class::ALL.iter().map(|&class| (class.name().to_owned(), day.ended_in(class)));
    pb::DailyUsage {
        date: date.map(|date| date.to_string()).unwrap_or_default(),
        subscriber: day.subscriber.to_string(),
        api_key: day.key.to_string(),
        plan: day.plan.to_string(),
        entitlement: day.entitlement.to_string(),
        target: day.target.to_string(),
        admitted: day.admitted,
        refused: refused.filter(|(_, count)| *count > 0).collect(),
        responses: responses.filter(|(_, count)| *count > 0).collect(),
    }
}
