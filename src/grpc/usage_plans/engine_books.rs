//! The books of an engine in memory.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;

use super::books::{Books, BooksError, Grant};
use crate::catalog::{CatalogStore, MadeRequest, RequestKey, Requests};
use crate::decide::invalid::Invalid;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{DailyUsage, GrantError, PlanEngine, QuotaUsage, Scope, Subject};
use crate::grpc::convert::usage::quota_to_wire;
use crate::grpc::pb::tollgate as pb;
use crate::ledger::Whose;
use crate::service::lease_broker::cut;

const DAY_NS: u64 = 86_400 * SECOND_NS;

/// The books of an engine in memory, whose quotas a catalog declares.
pub struct EngineBooks {
    engine: Arc<PlanEngine>,
    store: Arc<CatalogStore>,
    /// Held while a grant is made, so that a retry that comes meanwhile waits for its answer.
    granted: Mutex<Requests>,
}

impl fmt::Debug for EngineBooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBooks").finish_non_exhaustive()
    }
}

impl EngineBooks {
    /// The books of `engine`, as `store` declares them.
    pub fn new(engine: Arc<PlanEngine>, store: Arc<CatalogStore>) -> Self {
        Self { engine, store, granted: Mutex::new(Requests::default()) }
    }

    fn make(&self, grant: &Grant, now: Now) -> Result<QuotaUsage, BooksError> {
        let subject = match &grant.key {
            Some(key) => Subject::Key { subscriber: &grant.subscriber, key },
            None => Subject::Subscriber(&grant.subscriber),
        };
        let names = (&*grant.plan, &*grant.entitlement, &*grant.quota);
        self.engine.grant(&*self.store.snapshot(), subject, names, grant.change, now).map_err(
            |error| {
                let reason = format!("cannot be used: {error}");
                match error {
                    GrantError::NoRoom => BooksError::Unavailable(error.to_string()),
                    GrantError::NoPlan(_) => {
                        BooksError::Invalid(vec![Invalid::new("plan", reason)])
                    }
                    GrantError::NoEntitlement(_) => {
                        BooksError::Invalid(vec![Invalid::new("entitlement", reason)])
                    }
                    GrantError::NoQuota(_) => {
                        BooksError::Invalid(vec![Invalid::new("quota", reason)])
                    }
                    GrantError::CountsByKey => {
                        BooksError::Invalid(vec![Invalid::new("subscriber", reason)])
                    }
                    GrantError::CountsBySubscriber => {
                        BooksError::Invalid(vec![Invalid::new("api_key", reason)])
                    }
                }
            },
        )
    }
}

#[tonic::async_trait]
impl Books for EngineBooks {
    async fn quotas(
        &self,
        scope: Scope<'_>,
        days: RangeInclusive<u64>,
        first: Whose,
        most: usize,
    ) -> Result<(Vec<QuotaUsage>, Option<Whose>), BooksError> {
        let (from_ns, until_ns) = (
            days.start().saturating_mul(DAY_NS),
            days.end().saturating_add(1).saturating_mul(DAY_NS),
        );
        let first = (&*first.0, first.1.as_deref());
        let mut quotas =
            self.engine.quota_usage_from(&*self.store.snapshot(), scope, from_ns..until_ns, first);
        let next = cut(&mut quotas, most);
        Ok((quotas, next))
    }

    async fn days(
        &self,
        scope: Scope<'_>,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<DailyUsage>, BooksError> {
        Ok(self.engine.daily_usage(scope, *days.start(), *days.end()))
    }

    async fn granted_before(
        &self,
        request: &RequestKey,
        now: Now,
    ) -> Result<Option<pb::QuotaUsage>, BooksError> {
        first(&self.granted.lock(), request, now)
    }

    async fn grant(&self, grant: Grant, now: Now) -> Result<pb::QuotaUsage, BooksError> {
        let Some(request) = &grant.request else {
            return Ok(quota_to_wire(&self.make(&grant, now)?));
        };
        let mut granted = self.granted.lock();
        if let Some(first) = first(&granted, request, now)? {
            return Ok(first);
        }
        let usage = quota_to_wire(&self.make(&grant, now)?);
        granted.remember(MadeRequest { key: request, answer: usage.encode_to_vec(), now });
        Ok(usage)
    }
}

fn first(
    granted: &Requests,
    request: &RequestKey,
    now: Now,
) -> Result<Option<pb::QuotaUsage>, BooksError> {
    let Some(first) = granted.find(request, now) else { return Ok(None) };
    let answer = request.answered(first).map_err(|wrong| BooksError::Invalid(vec![wrong]))?;
    pb::QuotaUsage::decode(&*answer)
        .map(Some)
        .map_err(|error| BooksError::Unavailable(error.to_string()))
}
