//! The engine's books, as the service of usage plans reads them.

pub mod unused;

use std::ops::RangeInclusive;
use std::sync::Arc;

use prost::Message;

use super::lease_broker::{GrantFailed, LeaseBroker, engine_scope, wire_scope};
use crate::catalog::{CatalogStore, FirstRequest, RequestKey};
use crate::decide::invalid::Invalid;
use crate::decide::plan::validate::MAX_QUOTA_LIMIT;
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::{
    DailyUsage, GrantError, GrantPlan, PlanEngine, QuotaUsage, Scope, Subject,
};
use crate::grpc::convert::usage::quota_to_wire;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::usage_plans::{Books, BooksError, Grant};
use crate::ledger::{LedgerError, Made, Once, OnceKind, Stretch, Whose};

const DAY_NS: u64 = 86_400 * SECOND_NS;

/// The books of one engine and its ledger.
#[derive(Debug)]
pub struct EngineBooks {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    broker: LeaseBroker,
}

impl EngineBooks {
    pub fn new(engine: Arc<PlanEngine>, catalog: Arc<CatalogStore>, broker: LeaseBroker) -> Self {
        Self { engine, catalog, broker }
    }

    fn prepare(&self, grant: &Grant, now: Now) -> Result<GrantPlan, BooksError> {
        let subject = match &grant.key {
            Some(key) => Subject::Key { subscriber: &grant.subscriber, key },
            None => Subject::Subscriber(&grant.subscriber),
        };
        let counter = (&*grant.plan, &*grant.entitlement, &*grant.quota);
        let catalog = self.catalog.load();
        self.engine.prepare_grant(&**catalog, subject, counter, grant.change, now).map_err(refused)
    }
}

/// How a note is written. Another way gets another number, and this one stays readable.
const NOTED_AS: u8 = 1;

/// What is kept with a grant, to answer it by: all of the answer but what only the ledger knows.
/// Behind it whether the units used are known.
fn note(plan: &GrantPlan) -> Vec<u8> {
    let counter = plan.counter.clone();
    let usage = QuotaUsage {
        subscriber: counter.subscriber,
        key: counter.key,
        plan: counter.plan,
        entitlement: counter.entitlement,
        quota: counter.quota,
        limit: Some(plan.limit),
        row: Row { period: plan.period, used: plan.used.unwrap_or_default(), granted: 0 },
        lost: 0,
    };
    let mut note = vec![NOTED_AS, plan.used.is_some().into()];
    note.extend(quota_to_wire(&usage).encode_to_vec());
    note
}

/// The answer to a grant, the first time and each time after. `None`: the note is none of ours.
fn answer(made: &Made) -> Option<pb::QuotaUsage> {
    let (&[NOTED_AS, knows_used], message) = made.note.split_first_chunk()? else { return None };
    let mut answer = pb::QuotaUsage::decode(message).ok()?;
    if knows_used == 0 {
        answer.used = made.charged.min(MAX_QUOTA_LIMIT);
    }
    answer.granted = made.granted;
    answer.remaining = answer.limit.saturating_add_signed(made.granted).saturating_sub(answer.used);
    Some(answer)
}

fn answered(made: &Made) -> Result<pb::QuotaUsage, BooksError> {
    answer(made).ok_or_else(|| {
        BooksError::Unavailable(
            "the first answer to this request cannot be read: run a newer tollgate".to_owned(),
        )
    })
}

/// What memory holds alone would look like the whole: it is not shown.
fn unread(error: LedgerError) -> BooksError {
    BooksError::Unavailable(error.to_string())
}

fn refused(error: GrantError) -> BooksError {
    match error {
        GrantError::NoRoom => BooksError::Unavailable(error.to_string()),
        // The plan was edited since the request was read.
        gone => BooksError::Invalid(vec![Invalid::new(
            "plan",
            format!("has changed meanwhile: {gone}"),
        )]),
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
        let (engine, broker, catalog, scope) = (
            Arc::clone(&self.engine),
            self.broker.clone(),
            self.catalog.snapshot(),
            wire_scope(scope),
        );
        // The ledger's file blocks, and the thread that asks serves calls.
        let read = tokio::task::spawn_blocking(move || {
            let scope = engine_scope(&scope);
            let held = engine.quota_usage_from(
                &*catalog,
                scope,
                from_ns..until_ns,
                (&first.0, first.1.as_deref()),
            );
            let stretch = Stretch {
                from_s: from_ns / SECOND_NS,
                until_s: until_ns.div_ceil(SECOND_NS),
                first,
                most,
            };
            broker.usage(&*catalog, held, scope, &stretch)
        });
        read.await.unwrap_or(Err(LedgerError::Stopped)).map_err(unread)
    }

    async fn days(
        &self,
        scope: Scope<'_>,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<DailyUsage>, BooksError> {
        let (broker, scope) = (self.broker.clone(), wire_scope(scope));
        let read = tokio::task::spawn_blocking(move || {
            broker.daily_usage(engine_scope(&scope), *days.start(), *days.end())
        });
        read.await.unwrap_or(Err(LedgerError::Stopped)).map_err(unread)
    }

    fn damage(&self) -> Option<String> {
        self.broker.damage()
    }

    async fn granted_before(
        &self,
        request: &RequestKey,
        _now: Now,
    ) -> Result<Option<pb::QuotaUsage>, BooksError> {
        let (broker, name) = (self.broker.clone(), request.name);
        let found = tokio::task::spawn_blocking(move || broker.find_request(&name)).await;
        let Some(made) = found.unwrap_or(Err(LedgerError::Stopped)).map_err(unread)? else {
            return Ok(None);
        };
        let first = FirstRequest { fields: made.fields, answer: Vec::new() };
        request.answered(&first).map_err(|wrong| BooksError::Invalid(vec![wrong]))?;
        answered(&made).map(Some)
    }

    async fn grant(&self, grant: Grant, now: Now) -> Result<pb::QuotaUsage, BooksError> {
        let plan = self.prepare(&grant, now)?;
        let (note, now_s) = (note(&plan), now.unix_s());
        let named = grant.request.as_ref().map(|RequestKey { name, fields }| (*name, *fields));
        let once = named.map(|(name, fields)| Once {
            kind: OnceKind::Request,
            name,
            fields,
            note: note.clone(),
            now_s,
        });
        let made = self.broker.grant(plan, once).await.map_err(|failed| match failed {
            GrantFailed::OtherRequest => BooksError::Invalid(vec![RequestKey::taken()]),
            GrantFailed::Ledger(error) => BooksError::Unavailable(error.to_string()),
        })?;
        answered(&if named.is_some() { made } else { Made { note, ..made } })
    }
}

#[cfg(test)]
mod tests;
