//! What was used, and grants.

use std::sync::Arc;

use jiff::civil::Date;
use tonic::Status;

use super::{UsagePlans, request_key};
use crate::catalog::{Catalog, EditError, RequestKey};
use crate::decide::compiled::{CompiledEntitlement, CompiledPlan};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::{MAX_QUOTA_LIMIT, Mistakes};
use crate::decide::plan::{CounterScope, Id};
use crate::decide::time::Now;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;
use pb::get_usage_request::Scope as WireScope;
use pb::grant_request::{Change, Subject};

/// Whose usage is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Subscriber(Id),
    Key(Id),
    Plan(Id),
}

/// Days of UTC, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    pub first: Date,
    pub last: Date,
}

/// A change of the current period of one counter that exists in the catalog.
#[derive(Clone, Debug)]
pub struct Grant {
    pub subscriber: Id,
    /// Set where the entitlement counts by key.
    pub key: Option<Id>,
    /// As it is at this moment. It knows its plan.
    pub entitlement: Arc<CompiledEntitlement>,
    /// The name of one of its quotas.
    pub quota: Id,
    pub change: GrantChange,
    /// A retry must get the first answer and grant nothing ([`Requests`](crate::catalog::Requests) remembers them).
    pub request: Option<RequestKey>,
}

/// What a grant does to the current period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantChange {
    /// So many units more: 1 to 2^53.
    Add(u64),
    /// Exactly so many units remain: 0 to 2^53.
    SetRemaining(u64),
    /// The whole limit remains.
    Reset,
}

/// Why the books cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    #[error("the request cannot be used: {0:?}")]
    Invalid(Vec<Invalid>),
    /// Says why, and passes by itself.
    #[error("{0}")]
    Unavailable(String),
}

/// The books of the quotas: who used what, and grants.
#[tonic::async_trait]
pub trait Books: Send + Sync + 'static {
    /// The periods that overlap the days, and the days themselves, in any order.
    async fn usage(&self, scope: &Scope, days: Days, now: Now) -> Result<pb::GetUsageResponse, BooksError>;

    /// Makes a grant; the answer is the counter's period after it.
    async fn grant(&self, grant: Grant, now: Now) -> Result<pb::QuotaUsage, BooksError>;
}

impl UsagePlans {
    pub(super) async fn usage(&self, request: pb::GetUsageRequest) -> Result<pb::GetUsageResponse, Status> {
        let now = (self.now)();
        let days = days(&request, now).map_err(invalid)?;
        let scope = match request.scope {
            None => Scope::All,
            Some(WireScope::Subscriber(id)) => Scope::Subscriber(id.into()),
            Some(WireScope::ApiKey(id)) => Scope::Key(id.into()),
            Some(WireScope::Plan(id)) => Scope::Plan(id.into()),
        };
        let usage = self.books.usage(&scope, days, now).await?;
        if usage.quotas.is_empty() && usage.days.is_empty() {
            // What was deleted still has books; what has neither is a mistake.
            known(&self.store.load(), &scope)?;
        }
        Ok(usage)
    }

    pub(super) async fn make_grant(&self, request: pb::GrantRequest) -> Result<pb::QuotaUsage, Status> {
        let key = request_key("Grant", &request.request_id, &request)?;
        let grant = grant(&self.store.snapshot(), request, key)?;
        Ok(self.books.grant(grant, (self.now)()).await?)
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

/// The days that are asked for; today (UTC) where they are left out, and a single end is both.
fn days(request: &pb::GetUsageRequest, now: Now) -> Result<Days, Vec<Invalid>> {
    let mut found = Mistakes::default();
    let first = day("start_date", &request.start_date, &mut found);
    let last = day("end_date", &request.end_date, &mut found);
    let today = i64::try_from(now.unix_ns)
        .ok()
        .map_or(jiff::Timestamp::MAX, |at_ns| jiff::Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or(jiff::Timestamp::MAX));
    let today = today.to_zoned(jiff::tz::TimeZone::UTC).date();
    let first = first.unwrap_or_else(|| last.map_or(today, |last| last.min(today)));
    let last = last.unwrap_or_else(|| first.max(today));
    if found.is_empty() && last < first {
        found.add("end_date", format!("must not be before `start_date`, {first}"));
    }
    found.or_else(Days { first, last })
}

fn day(field: &str, text: &str, found: &mut Mistakes) -> Option<Date> {
    // Jiff reads other forms too; the contract has one.
    let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date = text.parse().ok().filter(|_| plain);
    if date.is_none() && !text.is_empty() {
        found.add(field, "must be a date such as 2026-11-22");
    }
    date
}

fn grant(catalog: &Catalog, wire: pb::GrantRequest, request: Option<RequestKey>) -> Result<Grant, EditError> {
    let (subscriber, key) = match wire.subject {
        None => return Err(EditError::invalid("subscriber", "or `api_key` is needed")),
        Some(Subject::Subscriber(id)) => (catalog.subscribers().find(&id)?.value.id.clone(), None),
        Some(Subject::ApiKey(id)) => {
            let key = &catalog.keys().find(&id)?.value.key;
            (key.subscriber.clone(), Some(key.id.clone()))
        }
    };
    let plan = &catalog.plans().find(&wire.plan)?.value;
    let entitlement = plan.entitlement(&wire.entitlement).cloned().ok_or_else(|| unknown("entitlement", &wire.entitlement, plan))?;
    match (entitlement.counter_scope, &key) {
        (CounterScope::Subscriber, Some(_)) => {
            let reason = format!("must be the `subscriber` here: the entitlement `{}` counts all its keys together", entitlement.name);
            return Err(EditError::invalid("api_key", reason));
        }
        (CounterScope::Key, None) => {
            let reason = format!("must be an `api_key` here: the entitlement `{}` counts each key on its own", entitlement.name);
            return Err(EditError::invalid("subscriber", reason));
        }
        (CounterScope::Subscriber, None) | (CounterScope::Key, Some(_)) => {}
    }
    let quota = entitlement.quotas.iter().map(|quota| &quota.identity.name).find(|name| ***name == *wire.quota);
    let quota = quota.cloned().ok_or_else(|| unknown("quota", &wire.quota, plan))?;
    served(catalog, &subscriber, &plan.plan.id)?;
    let change = change(wire.change)?;
    Ok(Grant { subscriber, key, entitlement, quota, change, request })
}

fn unknown(field: &str, name: &str, plan: &CompiledPlan) -> EditError {
    let shown: String = name.chars().take(64).collect();
    EditError::invalid(field, format!("`{shown}` is not in the plan `{}`", plan.plan.id))
}

/// A counter that no request can reach is granted nothing.
fn served(catalog: &Catalog, subscriber: &str, plan: &str) -> Result<(), EditError> {
    let has = catalog.subscribers().get(subscriber).is_some_and(|found| found.value.plans.iter().any(|id| **id == *plan));
    if has || catalog.targets_defaulting_to(plan).next().is_some() {
        return Ok(());
    }
    Err(EditError::invalid("plan", format!("is neither a plan of the subscriber `{subscriber}` nor the default plan of a target")))
}

fn change(wire: Option<Change>) -> Result<GrantChange, EditError> {
    match wire {
        Some(Change::Add(units @ 1..=MAX_QUOTA_LIMIT)) => Ok(GrantChange::Add(units)),
        Some(Change::Add(_)) => Err(EditError::invalid("add", "must be 1 to 2^53")),
        Some(Change::SetRemaining(units @ 0..=MAX_QUOTA_LIMIT)) => Ok(GrantChange::SetRemaining(units)),
        Some(Change::SetRemaining(_)) => Err(EditError::invalid("set_remaining", "must be 0 to 2^53")),
        Some(Change::Reset(true)) => Ok(GrantChange::Reset),
        Some(Change::Reset(false)) => Err(EditError::invalid("reset", "must be true where it is set")),
        None => Err(EditError::invalid("add", "or `set_remaining` or `reset` is needed")),
    }
}
