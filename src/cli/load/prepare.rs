//! Something to check: a target, a plan that admits everything, and subscribers with a key each.

use std::fmt::Write as _;

use tonic::{Code, Status};

use crate::cli::Failure;
use crate::cli::client::connect::Client;
use crate::cli::client::output::note;
use crate::grpc::pb::tollgate::quota::Unit;
use crate::grpc::pb::tollgate::{
    ApiKey, ApiKeyWithValue, ApplyRequest, DeleteSubscriberRequest, DeleteTargetRequest,
    DeleteUsagePlanRequest, Entitlement, ListSubscribersRequest, Quota, RateLimit, Subscriber,
    SubscriberWithKeys, Target, UsagePlan,
};
use crate::load::ApiKeys;

/// So many subscribers are declared with one request.
const AT_ONCE: u64 = 2_000;
/// Far more than any machine can ask for.
const RATE: f64 = 1e8;
const LIMIT: u64 = 1 << 50;

/// Whom and what load is about.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) target: String,
    /// How many keys there are.
    pub(super) keys: u64,
    /// How many quotas their plan has.
    pub(super) quotas: u32,
}

impl Stage {
    /// The plan, and what the ids of its subscribers begin with.
    fn plan(&self) -> String {
        format!("load-{}-quotas", self.quotas)
    }

    /// What the values of the keys begin with.
    pub(super) fn api_keys(&self) -> ApiKeys {
        ApiKeys::Numbered(format!("{}-api-key-", self.plan()))
    }

    /// Creates all of it, where it is not there.
    pub(super) async fn set(&self, client: &Client) -> Result<(), Failure> {
        let mut declared = ApplyRequest {
            targets: vec![Target { id: self.target.clone(), ..Target::default() }],
            usage_plans: vec![self.usage_plan()],
            ..ApplyRequest::default()
        };
        let mut changed = 0;
        for first in (0..self.keys).step_by(usize::try_from(AT_ONCE).unwrap_or(1)) {
            declared.subscribers = (first..self.keys.min(first + AT_ONCE))
                .map(|number| self.subscriber(number))
                .collect();
            let answer =
                client.answer(client.usage_plans().apply(std::mem::take(&mut declared))).await?;
            changed += answer.changes.len();
        }
        note(&self.said(changed));
        Ok(())
    }

    /// Deletes what [`Self::set`] creates, and nothing that others have made.
    pub(super) async fn clear(&self, client: &Client) -> Result<(), Failure> {
        let mut service = client.usage_plans();
        let (own, mut ids, mut page_token) =
            (format!("{}-", self.plan()), Vec::new(), String::new());
        loop {
            let filter = format!("plan={}", self.plan());
            let request = ListSubscribersRequest {
                page_size: 1_000,
                page_token,
                filter,
                ..ListSubscribersRequest::default()
            };
            let page = client.answer(service.list_subscribers(request)).await?;
            ids.extend(
                page.subscribers.into_iter().map(|one| one.id).filter(|id| id.starts_with(&own)),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let count = ids.len();
        for id in ids {
            let request =
                DeleteSubscriberRequest { id, force: true, ..DeleteSubscriberRequest::default() };
            gone(client.reply(service.delete_subscriber(request)).await)
                .map_err(|status| client.failure(&status))?;
        }
        let plan = DeleteUsagePlanRequest { id: self.plan(), ..DeleteUsagePlanRequest::default() };
        gone(client.reply(service.delete_usage_plan(plan)).await)
            .map_err(|status| client.failure(&status))?;
        let target =
            DeleteTargetRequest { id: self.target.clone(), ..DeleteTargetRequest::default() };
        let kept = match gone(client.reply(service.delete_target(target)).await) {
            Ok(()) => "",
            Err(status) if status.code() == Code::FailedPrecondition => {
                ", but not the target: another plan covers it"
            }
            Err(status) => return Err(client.failure(&status)),
        };
        note(&format!(
            "deleted {count} subscribers with their keys, the plan `{}` and the target `{}`{kept}",
            self.plan(),
            self.target
        ));
        Ok(())
    }

    fn said(&self, changed: usize) -> String {
        let mut said = format!(
            "the plan `{}` covers the target `{}`, and {} subscribers have a key each",
            self.plan(),
            self.target,
            self.keys
        );
        if changed == 0 {
            said.push_str("; all was there");
        } else {
            // A write into a string does not fail.
            let _ = write!(said, "; {changed} changes were made");
        }
        said
    }

    fn usage_plan(&self) -> UsagePlan {
        let quota = |number: u32| Quota {
            name: format!("quota-{number}"),
            limit: Some(LIMIT),
            unit: (if number == 0 { Unit::Day } else { Unit::Month }).into(),
            ..Quota::default()
        };
        let entitlement = Entitlement {
            name: "load".to_owned(),
            targets: vec![self.target.clone()],
            rate_limit: Some(RateLimit { requests_per_second: RATE, burst: None }),
            quotas: (0..self.quotas).map(quota).collect(),
            ..Entitlement::default()
        };
        let description =
            "Made by `tollgate load --prepare`. Its API keys are no secret.".to_owned();
        UsagePlan {
            id: self.plan(),
            display_name: self.plan(),
            description,
            entitlements: vec![entitlement],
            ..UsagePlan::default()
        }
    }

    fn subscriber(&self, number: u64) -> SubscriberWithKeys {
        let id = format!("{}-{number:010}", self.plan());
        let value = match self.api_keys() {
            ApiKeys::Numbered(prefix) => format!("{prefix}{number:010}"),
            ApiKeys::Listed(_) => String::new(),
        };
        let key = ApiKey { id: id.clone(), subscriber: id.clone(), ..ApiKey::default() };
        let subscriber = Subscriber { id, plans: vec![self.plan()], ..Subscriber::default() };
        SubscriberWithKeys {
            subscriber: Some(subscriber),
            keys: vec![ApiKeyWithValue { api_key: Some(key), value, mask: None }],
            mask: None,
        }
    }
}

/// What is not there need not be deleted.
fn gone(deleted: Result<(), Status>) -> Result<(), Status> {
    match deleted {
        Err(status) if status.code() == Code::NotFound => Ok(()),
        deleted => deleted,
    }
}
