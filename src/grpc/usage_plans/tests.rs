use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use super::*;
use crate::catalog::{CatalogStore, HashKey};
use crate::decide::time::Now;
use crate::engine::plans::{Checked, Need, PlanEngine, Settings, Shortage};
use crate::grpc::json::from_json;
use crate::grpc::stored::Messages;
use crate::ledger::{Ledger, LedgerThread, MemoryLedger};
use crate::service::lease_broker::LeaseBroker;
use crate::testkit::declared::request;
use crate::testkit::plans::AsksPlans;
use crate::testkit::told_clock::ToldClock;

mod edits;
mod lists;
mod usage;
mod usage_pages;
mod wire;

/// 2026-11-22 00:00:00 UTC.
pub(super) const MIDNIGHT_S: u64 = 1_795_305_600;

/// The service over a ledger in memory, with a clock that a test moves.
pub(super) struct World {
    pub(super) service: UsagePlans,
    pub(super) store: Arc<CatalogStore>,
    engine: Arc<PlanEngine>,
    broker: LeaseBroker,
    told: ToldClock,
}

impl World {
    pub(super) fn new() -> Self {
        Self::over(Arc::new(MemoryLedger::new().unwrap()))
    }

    pub(super) fn over(ledger: Arc<dyn Ledger>) -> Self {
        let store = Arc::new(CatalogStore::new(HashKey([3; 32]), None));
        let holder = ledger.join(1).unwrap();
        let engine =
            Arc::new(PlanEngine::new(Settings { holder, ..Settings::new([4; 32], [5; 16]) }));
        let told = ToldClock::at_s(MIDNIGHT_S);
        let clock = told.clock();
        let thread = Arc::new(LedgerThread::start(ledger, 1_000).unwrap());
        let broker = LeaseBroker::new(Arc::clone(&engine), thread, holder, clock.clone());
        let edits = Edits::new(store.clone(), clock.clone());
        let usage = Usage::new(engine.clone(), store.clone(), broker.clone(), clock.clone());
        let grants = Grants::new(engine.clone(), store.clone(), broker.clone(), clock, &Messages);
        Self {
            service: UsagePlans::new(edits, Arc::new(usage), grants),
            store,
            engine,
            broker,
            told,
        }
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
        self.told.pass_s(seconds);
    }

    pub(super) fn now(&self) -> Now {
        self.told.now()
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
        self.admits_to(value, "orders")
    }

    pub(super) fn admits_to(&self, value: &str, target: &str) -> bool {
        let catalog = self.store.snapshot();
        let request = request(&value, target);
        loop {
            let checked =
                self.engine.check_or_need(&*catalog, &request, Shortage::Ask, self.now()).unwrap();
            match checked {
                Checked::Decided(decision) => return decision.verdict.is_allowed(),
                Checked::Needs(needs) => self.draw(needs),
            }
        }
    }

    /// Waits on a thread of its own: the one that a test runs on has calls to serve.
    fn draw(&self, needs: Vec<Need>) {
        let draw = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(self.broker.draw(needs, Duration::from_secs(60)));
        };
        std::thread::scope(|scope| scope.spawn(draw).join().unwrap());
    }
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
