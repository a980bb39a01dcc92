//! Makes grants: asks the engine what there is to do, and has the ledger do it, once.

use std::sync::Arc;

use super::audit;
use super::error::{ServiceError, on_a_thread};
use super::grant::{Grant, GrantAnswer, GrantRequest, Whose};
use super::lease_broker::{GrantFailed, LeaseBroker};
use super::stored::StoredForms;
use crate::catalog::{Catalog, CatalogStore, EditError, FirstRequest, RequestKey};
use crate::clock::Clock;
use crate::decide::compiled::CompiledPlan;
use crate::decide::plan::CounterScope;
use crate::decide::plan::validate::MAX_QUOTA_LIMIT;
use crate::decide::quota::Grant as Change;
use crate::decide::time::Now;
use crate::engine::plans::{GrantError, GrantPlan, PlanEngine, Subject};
use crate::ledger::{LedgerError, Made, Once, OnceKind};

/// Makes grants.
#[derive(Clone, Debug)]
pub struct Grants {
    engine: Arc<PlanEngine>,
    catalog: Arc<CatalogStore>,
    broker: LeaseBroker,
    clock: Clock,
    forms: &'static dyn StoredForms,
}

impl Grants {
    /// `forms` write the answers down that retries get.
    pub fn new(
        engine: Arc<PlanEngine>,
        catalog: Arc<CatalogStore>,
        broker: LeaseBroker,
        clock: Clock,
        forms: &'static dyn StoredForms,
    ) -> Self {
        Self { engine, catalog, broker, clock, forms }
    }

    /// Makes a grant. One whose request has a name is made once, whoever asks for it at once, and
    /// also where the caller gives up, the answer is lost or the service ends: the answer is then
    /// the first one.
    ///
    /// # Errors
    /// What is asked for is not there or cannot be granted; another request had the name; the
    /// ledger did not make it, or is not known to have made it.
    pub async fn grant(
        &self,
        asked: GrantRequest,
        request: Option<RequestKey>,
    ) -> Result<GrantAnswer, ServiceError> {
        let now = self.clock.now();
        // Before it is compared with a catalog that may have changed since.
        if let Some(request) = &request
            && let Some(first) = self.made_before(request).await?
        {
            return Ok(first);
        }
        let grant = find(&self.catalog.snapshot(), &asked)?;
        let answer = self.make(&grant, request.as_ref(), now).await?;
        audit::granted(&grant);
        Ok(answer)
    }

    /// What a request that has this name was answered, if it was made before.
    pub(super) async fn made_before(
        &self,
        request: &RequestKey,
    ) -> Result<Option<GrantAnswer>, ServiceError> {
        let (broker, name) = (self.broker.clone(), request.name);
        let found = on_a_thread(move || broker.find_request(&name)).await?;
        let Some(made) = found.map_err(unavailable)? else { return Ok(None) };
        let first = FirstRequest { fields: made.fields, answer: Vec::new() };
        request.answered(&first).map_err(|wrong| vec![wrong])?;
        self.answered(&made).map(Some)
    }

    pub(super) async fn make(
        &self,
        grant: &Grant,
        request: Option<&RequestKey>,
        now: Now,
    ) -> Result<GrantAnswer, ServiceError> {
        let plan = self.prepare(grant, now)?;
        let note = self.note(&plan);
        let once = request.map(|request| Once {
            kind: OnceKind::Request,
            name: request.name,
            fields: request.fields,
            note: note.clone(),
            now_s: now.unix_s(),
        });
        let made = self.broker.grant(plan, once).await.map_err(|failed| match failed {
            GrantFailed::OtherRequest => vec![RequestKey::taken()].into(),
            GrantFailed::Ledger(error) => not_known(&error),
        })?;
        self.answered(&if request.is_some() { made } else { Made { note, ..made } })
    }

    fn prepare(&self, grant: &Grant, now: Now) -> Result<GrantPlan, ServiceError> {
        let subject = match &grant.key {
            Some(key) => Subject::Key { subscriber: &grant.subscriber, key },
            None => Subject::Subscriber(&grant.subscriber),
        };
        let counter = (&*grant.plan, &*grant.entitlement, &*grant.quota);
        let catalog = self.catalog.load();
        self.engine.prepare_grant(&**catalog, subject, counter, grant.change, now).map_err(refused)
    }

    /// What is kept with a grant, to answer it by: all of the answer but what only the ledger
    /// knows.
    fn note(&self, plan: &GrantPlan) -> Vec<u8> {
        let (counter, used) = (plan.counter.clone(), plan.used.unwrap_or_default());
        let answer = GrantAnswer {
            subscriber: counter.subscriber,
            key: counter.key,
            plan: counter.plan,
            entitlement: counter.entitlement,
            quota: counter.quota.name.clone(),
            unit: counter.quota.unit,
            period: plan.period,
            limit: plan.limit,
            granted: 0,
            used: used.min(MAX_QUOTA_LIMIT),
            remaining: plan.limit.saturating_sub(used),
        };
        let mut note = vec![NOTED_AS, plan.used.is_some().into()];
        note.extend(self.forms.write_grant(&answer));
        note
    }

    /// The answer to a grant, the first time and each time after.
    fn answered(&self, made: &Made) -> Result<GrantAnswer, ServiceError> {
        self.answer(made).ok_or_else(|| {
            ServiceError::Unavailable(
                "the first answer to this request cannot be read: run a newer tollgate".to_owned(),
            )
        })
    }

    /// `None`: the note is none of ours.
    fn answer(&self, made: &Made) -> Option<GrantAnswer> {
        let (&[NOTED_AS, knows_used], noted) = made.note.split_first_chunk()? else { return None };
        let mut answer = self.forms.read_grant(noted)?;
        if knows_used == 0 {
            answer.used = made.charged.min(MAX_QUOTA_LIMIT);
        }
        answer.granted = made.granted;
        answer.remaining =
            answer.limit.saturating_add_signed(made.granted).saturating_sub(answer.used);
        Some(answer)
    }
}

/// How a note is written: this, whether the units used are known, and the answer. Another way gets
/// another number, and this one stays readable.
const NOTED_AS: u8 = 1;

/// Whether a grant that failed was made is not always known, and made twice it counts twice.
fn not_known(error: &LedgerError) -> ServiceError {
    ServiceError::Unavailable(match error {
        LedgerError::Busy => error.to_string(),
        _ => format!(
            "{error}. It is not known whether the units were granted: look at the usage, or repeat the request under its request_id"
        ),
    })
}

fn unavailable(error: LedgerError) -> ServiceError {
    ServiceError::Unavailable(error.to_string())
}

fn refused(error: GrantError) -> ServiceError {
    match error {
        GrantError::NoRoom(_) => ServiceError::Unavailable(error.to_string()),
        // The plan was edited since the request was read.
        gone => EditError::invalid("plan", format!("has changed meanwhile: {gone}")).into(),
    }
}

/// The counter that is meant, if there is one that can be granted something.
fn find(catalog: &Catalog, asked: &GrantRequest) -> Result<Grant, EditError> {
    let (subscriber, key) = match &asked.whose {
        Whose::Subscriber(id) => (catalog.subscribers().find(id)?.value.id.clone(), None),
        Whose::Key(id) => {
            let key = &catalog.keys().find(id)?.value.key;
            (key.subscriber.clone(), Some(key.id.clone()))
        }
    };
    let plan = &catalog.plans().find(&asked.plan)?.value;
    let entitlement = plan
        .entitlement(&asked.entitlement)
        .cloned()
        .ok_or_else(|| unknown("entitlement", &asked.entitlement, plan))?;
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
        .find(|name| ***name == *asked.quota);
    let quota = quota.cloned().ok_or_else(|| unknown("quota", &asked.quota, plan))?;
    served(catalog, &subscriber, &plan.plan.id)?;
    Ok(Grant {
        subscriber,
        key,
        plan: plan.plan.id.clone(),
        entitlement: entitlement.name.clone(),
        quota,
        change: bounded(asked.change)?,
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

fn bounded(change: Change) -> Result<Change, EditError> {
    match change {
        Change::Add(1..=MAX_QUOTA_LIMIT)
        | Change::SetRemaining(0..=MAX_QUOTA_LIMIT)
        | Change::Reset => Ok(change),
        Change::Add(_) => Err(EditError::invalid("add", "must be 1 to 2^53")),
        Change::SetRemaining(_) => Err(EditError::invalid("set_remaining", "must be 0 to 2^53")),
    }
}

#[cfg(test)]
mod tests;
