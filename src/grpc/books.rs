//! The engine's books, as the service of usage plans reads them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;

use super::usage_plans::{Books, BooksError, Grant, Usage};
use crate::catalog::{CatalogStore, Requests};
use crate::decide::invalid::Invalid;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{GrantError, PlanEngine, QuotaUsage, Scope, Subject};

const DAY_NS: u64 = 86_400 * SECOND_NS;

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

    fn make(&self, grant: &Grant, now: Now) -> Result<QuotaUsage, BooksError> {
        let subject = match &grant.key {
            Some(key) => Subject::Key { subscriber: &grant.subscriber, key },
            None => Subject::Subscriber(&grant.subscriber),
        };
        let counter = (&*grant.plan, &*grant.entitlement, &*grant.quota);
        let catalog = self.catalog.load();
        self.engine.grant(&**catalog, subject, counter, grant.change, now).map_err(|error| match error {
            GrantError::NoRoom => BooksError::Unavailable(error.to_string()),
            // The plan was edited since the request was read.
            gone => BooksError::Invalid(vec![Invalid::new("plan", format!("has changed meanwhile: {gone}"))]),
        })
    }
}

#[tonic::async_trait]
impl Books for EngineBooks {
    async fn usage(&self, scope: Scope<'_>, days: RangeInclusive<u64>, _now: Now) -> Result<Usage, BooksError> {
        let (first, last) = days.into_inner();
        let catalog = self.catalog.load();
        let until_ns = last.saturating_add(1).saturating_mul(DAY_NS);
        Ok(Usage {
            quotas: self.engine.quota_usage(&**catalog, scope, first.saturating_mul(DAY_NS), until_ns),
            days: self.engine.daily_usage(scope, first, last),
        })
    }

    async fn grant(&self, grant: Grant, now: Now) -> Result<QuotaUsage, BooksError> {
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
