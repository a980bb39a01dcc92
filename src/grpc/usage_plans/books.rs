//! What was used, and grants.

use std::ops::RangeInclusive;

use tonic::Status;

use super::{UsagePlans, request_key};
use crate::catalog::{Catalog, EditError, RequestKey};
use crate::decide::compiled::CompiledPlan;
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::MAX_QUOTA_LIMIT;
use crate::decide::plan::{CounterScope, Id};
use crate::decide::quota::Grant as GrantChange;
use crate::decide::time::Now;
use crate::engine::plans::{DailyUsage, QuotaUsage, Scope};
use crate::grpc::pb::tollgate as pb;
use crate::ledger::Whose;
use crate::service::audit;
use pb::grant_request::{Change, Subject};

/// A change of the current period of one counter that the catalog knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub subscriber: Id,
    /// Set where the entitlement counts by key.
    pub key: Option<Id>,
    pub plan: Id,
    pub entitlement: Id,
    pub quota: Id,
    /// At most 2^53 units.
    pub change: GrantChange,
    /// A retry must get the first answer and grant nothing.
    pub request: Option<RequestKey>,
}

/// Why the books do not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BooksError {
    Invalid(Vec<Invalid>),
    /// Says why. It may pass by itself.
    Unavailable(String),
}

/// The books of the quotas: who used what, and grants.
#[tonic::async_trait]
pub trait Books: Send + Sync + 'static {
    /// The periods that overlap the days (since 1970-01-01, UTC, both included), from those of a
    /// subscriber and key on: of all that was ever counted and is still kept, in order. After so
    /// many it ends before the next subscriber or key, and says who that is. Unavailable where a
    /// part of it cannot be read.
    async fn quotas(
        &self,
        scope: Scope<'_>,
        days: RangeInclusive<u64>,
        first: Whose,
        most: usize,
    ) -> Result<(Vec<QuotaUsage>, Option<Whose>), BooksError>;

    /// What happened on those days, in order. Unavailable likewise.
    async fn days(
        &self,
        scope: Scope<'_>,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<DailyUsage>, BooksError>;

    /// Why the books of many may lack those of some.
    fn damage(&self) -> Option<String> {
        None
    }

    /// What a request that has this name was answered, if it was made before. Invalid where another
    /// request had the name.
    async fn granted_before(
        &self,
        request: &RequestKey,
        now: Now,
    ) -> Result<Option<pb::QuotaUsage>, BooksError>;

    /// Makes a grant; the answer is the counter's period after it. One whose request has a name is
    /// made once, whoever asks for it at once, and also where the caller gives up, the answer is
    /// lost or the service ends: the answer is then the first one.
    async fn grant(&self, grant: Grant, now: Now) -> Result<pb::QuotaUsage, BooksError>;
}

impl UsagePlans {
    pub(super) async fn make_grant(
        &self,
        request: pb::GrantRequest,
    ) -> Result<pb::QuotaUsage, Status> {
        let key = request_key("Grant", &request.request_id, &request)?;
        let now = (self.now)();
        // Before it is compared with a catalog that may have changed since.
        if let Some(key) = &key
            && let Some(first) = self.books.granted_before(key, now).await?
        {
            return Ok(first);
        }
        let grant = grant(&self.store.snapshot(), request, key)?;
        let made = grant.clone();
        let granted = self.books.grant(grant, now).await?;
        audit::granted(&made);
        Ok(granted)
    }
}

fn grant(
    catalog: &Catalog,
    wire: pb::GrantRequest,
    request: Option<RequestKey>,
) -> Result<Grant, EditError> {
    let (subscriber, key) = match wire.subject {
        None => return Err(EditError::invalid("subscriber", "or `api_key` is needed")),
        Some(Subject::Subscriber(id)) => (catalog.subscribers().find(&id)?.value.id.clone(), None),
        Some(Subject::ApiKey(id)) => {
            let key = &catalog.keys().find(&id)?.value.key;
            (key.subscriber.clone(), Some(key.id.clone()))
        }
    };
    let plan = &catalog.plans().find(&wire.plan)?.value;
    let entitlement = plan
        .entitlement(&wire.entitlement)
        .cloned()
        .ok_or_else(|| unknown("entitlement", &wire.entitlement, plan))?;
    match (entitlement.counter_scope, &key) {
        (CounterScope::Subscriber, Some(_)) => {
            let reason = format!(
                "must be the `subscriber` here: the entitlement `{}` counts all its keys together",
                entitlement.name
            );
            return Err(EditError::invalid("api_key", reason));
        }
        (CounterScope::Key, None) => {
            let reason = format!(
                "must be an `api_key` here: the entitlement `{}` counts each key on its own",
                entitlement.name
            );
            return Err(EditError::invalid("subscriber", reason));
        }
        (CounterScope::Subscriber, None) | (CounterScope::Key, Some(_)) => {}
    }
    let quota = entitlement
        .quotas
        .iter()
        .map(|quota| &quota.identity.name)
        .find(|name| ***name == *wire.quota);
    let quota = quota.cloned().ok_or_else(|| unknown("quota", &wire.quota, plan))?;
    served(catalog, &subscriber, &plan.plan.id)?;
    let change = change(wire.change)?;
    Ok(Grant {
        subscriber,
        key,
        plan: plan.plan.id.clone(),
        entitlement: entitlement.name.clone(),
        quota,
        change,
        request,
    })
}

fn unknown(field: &str, name: &str, plan: &CompiledPlan) -> EditError {
    let shown: String = name.chars().take(64).collect();
    EditError::invalid(field, format!("`{shown}` is not in the plan `{}`", plan.plan.id))
}

/// A counter that no request can reach is granted nothing.
fn served(catalog: &Catalog, subscriber: &str, plan: &str) -> Result<(), EditError> {
    let has = catalog
        .subscribers()
        .get(subscriber)
        .is_some_and(|found| found.value.plans.iter().any(|id| **id == *plan));
    if has || catalog.targets_defaulting_to(plan).next().is_some() {
        return Ok(());
    }
    Err(EditError::invalid(
        "plan",
        format!(
            "is neither a plan of the subscriber `{subscriber}` nor the default plan of a target"
        ),
    ))
}

fn change(wire: Option<Change>) -> Result<GrantChange, EditError> {
    match wire {
        Some(Change::Add(units @ 1..=MAX_QUOTA_LIMIT)) => Ok(GrantChange::Add(units)),
        Some(Change::Add(_)) => Err(EditError::invalid("add", "must be 1 to 2^53")),
        Some(Change::SetRemaining(units @ 0..=MAX_QUOTA_LIMIT)) => {
            Ok(GrantChange::SetRemaining(units))
        }
        Some(Change::SetRemaining(_)) => {
            Err(EditError::invalid("set_remaining", "must be 0 to 2^53"))
        }
        Some(Change::Reset(true)) => Ok(GrantChange::Reset),
        Some(Change::Reset(false)) => {
            Err(EditError::invalid("reset", "must be true where it is set"))
        }
        None => Err(EditError::invalid("add", "or `set_remaining` or `reset` is needed")),
    }
}
