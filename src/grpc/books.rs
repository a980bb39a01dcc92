//! The engine's books, as the service of usage plans reads them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::plans::desk::{Desk, GrantFailed, engine_scope, wire_scope};
use super::usage_plans::{Books, BooksError, Grant, Usage};
use crate::catalog::{CatalogStore, Requests};
use crate::decide::invalid::Invalid;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{GrantError, PlanEngine, QuotaUsage, Scope, Subject};
use crate::ledger::LedgerError;

const DAY_NS: u64 = 86_400 * SECOND_NS;

/// The books of one engine.
#[derive(Debug)]
pub struct EngineBooks {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    desk: Option<Desk>,
    requests: Mutex<Requests>,
}

impl EngineBooks {
    /// Without a desk, the engine's memory is all there is.
    pub fn new(engine: Arc<PlanEngine>, catalog: Arc<CatalogStore>, desk: Option<Desk>) -> Self {
        Self { engine, catalog, desk, requests: Mutex::new(Requests::default()) }
    }

    async fn make(&self, grant: &Grant, now: Now) -> Result<QuotaUsage, BooksError> {
        let subject = match &grant.key {
            Some(key) => Subject::Key { subscriber: &grant.subscriber, key },
            None => Subject::Subscriber(&grant.subscriber),
        };
        let counter = (&*grant.plan, &*grant.entitlement, &*grant.quota);
        let Some(desk) = &self.desk else {
            let catalog = self.catalog.load();
            return self.engine.grant(&**catalog, subject, counter, grant.change, now).map_err(refused);
        };
        let prepared = {
            let catalog = self.catalog.load();
            self.engine.prepare_grant(&**catalog, subject, counter, grant.change, now).map_err(refused)?
        };
        desk.grant(prepared).await.map_err(|failed| match failed {
            GrantFailed::Engine(error) => refused(error),
            GrantFailed::Ledger(error) => BooksError::Unavailable(error.to_string()),
        })
    }
}

/// What memory holds alone would look like the whole: it is not shown.
fn unread(error: LedgerError) -> BooksError {
    BooksError::Unavailable(error.to_string())
}

fn refused(error: GrantError) -> BooksError {
    match error {
        GrantError::NoRoom => BooksError::Unavailable(error.to_string()),
        // The plan was edited since the request was read.
        gone => BooksError::Invalid(vec![Invalid::new("plan", format!("has changed meanwhile: {gone}"))]),
    }
}

#[tonic::async_trait]
impl Books for EngineBooks {
    async fn usage(&self, scope: Scope<'_>, days: RangeInclusive<u64>, _now: Now) -> Result<Usage, BooksError> {
        let (first, last) = days.into_inner();
        let (from_ns, until_ns) = (first.saturating_mul(DAY_NS), last.saturating_add(1).saturating_mul(DAY_NS));
        let held = {
            let catalog = self.catalog.load();
            self.engine.quota_usage(&**catalog, scope, from_ns, until_ns)
        };
        let Some(desk) = self.desk.clone() else {
            return Ok(Usage { quotas: held, days: self.engine.daily_usage(scope, first, last) });
        };
        let (catalog, scope) = (self.catalog.snapshot(), wire_scope(scope));
        // The ledger's file blocks, and the thread that asks serves calls.
        let read = tokio::task::spawn_blocking(move || {
            let scope = engine_scope(&scope);
            let quotas = desk.usage(&*catalog, held, scope, from_ns, until_ns)?;
            Ok(Usage { quotas, days: desk.daily_usage(scope, first, last)? })
        });
        read.await.unwrap_or(Err(LedgerError::Stopped)).map_err(unread)
    }

    async fn grant(&self, grant: Grant, now: Now) -> Result<QuotaUsage, BooksError> {
        let Some(request) = &grant.request else { return self.make(&grant, now).await };
        // Held over the grant, so that a retry that overtakes its first try waits for it.
        let mut requests = self.requests.lock().await;
        if let Some(first) = requests.find(request, now).map_err(|wrong| BooksError::Invalid(vec![wrong]))? {
            return Ok(first);
        }
        let answer = self.make(&grant, now).await?;
        requests.remember(request.clone(), &answer, now);
        Ok(answer)
    }
}
