use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tonic::Code;

use super::*;
use crate::catalog::HashKey;
use crate::decide::time::SECOND_NS;
use crate::engine::plans::{CheckInput, PlanEngine, Settings};
use crate::grpc::json::from_json;

mod edits;
mod lists;
mod usage;
mod usage_pages;
mod wire;

/// 2026-11-22 00:00:00 UTC.
pub(super) const MIDNIGHT_S: u64 = 1_795_305_600;

/// The service with a clock that a test moves.
pub(super) struct World {
    pub(super) service: UsagePlans,
    pub(super) store: Arc<CatalogStore>,
    pub(super) engine: Arc<PlanEngine>,
    second: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_books(|engine, store| Arc::new(EngineBooks::new(engine, store)))
    }

    pub(super) fn with_books(
        books: impl FnOnce(Arc<PlanEngine>, Arc<CatalogStore>) -> Arc<dyn Books>,
    ) -> Self {
        let store = Arc::new(CatalogStore::new(HashKey([3; 32]), None));
        let engine = Arc::new(PlanEngine::new(Settings::new([4; 32], [5; 16])));
        let second = Arc::new(AtomicU64::new(MIDNIGHT_S));
        let clock = {
            let second = Arc::clone(&second);
            Arc::new(move || now_at(second.load(Ordering::Relaxed)))
        };
        let service = UsagePlans::new(
            Arc::clone(&store),
            books(Arc::clone(&engine), Arc::clone(&store)),
            clock,
        );
        Self { service, store, engine, second }
    }

    /// With the plan `gold` (orders and users; 3 a day) and the subscriber acme, who has it.
    pub(super) async fn furnished() -> Self {
        let world = Self::new();
        world.create_plan(gold()).await.unwrap();
        let subscriber =
            pb::Subscriber { id: "acme".into(), plans: vec!["gold".into()], ..Default::default() };
        world.create_subscriber(subscriber).await.unwrap();
        world
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.second.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Now {
        now_at(self.second.load(Ordering::Relaxed))
    }

    pub(super) async fn create_plan(&self, plan: pb::UsagePlan) -> Result<pb::UsagePlan, Status> {
        answer(
            self.service
                .create_usage_plan(Request::new(pb::CreateUsagePlanRequest {
                    usage_plan: Some(plan),
                    ..Default::default()
                }))
                .await,
        )
    }

    pub(super) async fn create_subscriber(
        &self,
        subscriber: pb::Subscriber,
    ) -> Result<pb::Subscriber, Status> {
        let request =
            pb::CreateSubscriberRequest { subscriber: Some(subscriber), ..Default::default() };
        answer(self.service.create_subscriber(Request::new(request)).await)
    }

    pub(super) async fn create_key(&self, id: &str) -> pb::CreateApiKeyResponse {
        let key = pb::ApiKey { id: id.into(), subscriber: "acme".into(), ..Default::default() };
        let request = pb::CreateApiKeyRequest { api_key: Some(key), ..Default::default() };
        answer(self.service.create_api_key(Request::new(request)).await).unwrap()
    }

    /// Whether a call with this key passes.
    pub(super) fn admits(&self, value: &str) -> bool {
        let catalog = self.store.snapshot();
        let request = CheckInput {
            api_key: value.as_bytes(),
            target: "orders",
            method: b"GET",
            path: b"/",
            cost: None,
            operation_id: b"",
        };
        self.engine.check(&*catalog, &request, self.now()).unwrap().verdict.is_allowed()
    }
}

fn now_at(second: u64) -> Now {
    Now { unix_ns: second * SECOND_NS, steady_ns: second * SECOND_NS }
}

pub(super) fn answer<T>(response: Result<Response<T>, Status>) -> Result<T, Status> {
    response.map(Response::into_inner)
}

pub(super) fn plan_of(json: Value) -> pb::UsagePlan {
    from_json("tollgate.v1.UsagePlan", json).unwrap()
}

pub(super) fn gold() -> pb::UsagePlan {
    plan_of(json!({"id": "gold", "displayName": "Gold", "entitlements": [
        {"name": "all", "targets": ["orders", "users"], "quotas": [{"name": "daily", "limit": 3, "unit": "DAY"}]}
    ]}))
}

/// The code and the message of a refusal.
pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("the call is refused");
    (status.code(), status.message().to_owned())
}
