//! Plans to check against.

use std::net::SocketAddr;

use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::quota::Unit;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    ApiKey, ApiKeyWithValue, ApplyRequest, CheckRequest, CheckResponse, Entitlement, Quota,
    RateLimit, Subscriber, SubscriberWithKeys, Target, UsagePlan,
};
use tonic::transport::Channel;

pub const TARGET: &str = "load";
/// A plan with a rate limit alone, and one with a rate limit and two quotas.
pub const RATE: &str = "rate";
pub const QUOTAS: &str = "quotas";

/// So many resources are declared with one request.
const AT_ONCE: u64 = 2_000;

/// What the API keys of a plan's subscribers begin with; ten digits follow.
pub fn key_prefix(plan: &str) -> String {
    format!("{plan}-of-a-bench-api-key-")
}

/// Runs something that waits.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn channel(server: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{server}")).unwrap().connect().await.unwrap()
}

/// Creates a plan, and subscribers of it with a key each.
pub fn create(server: SocketAddr, plan: &str, first: u64, end: u64) {
    wait(async {
        let mut client = UsagePlanServiceClient::new(channel(server).await);
        let target = Target { id: TARGET.to_owned(), ..Target::default() };
        client
            .apply(ApplyRequest {
                targets: vec![target],
                usage_plans: vec![usage_plan(plan, plan)],
                ..ApplyRequest::default()
            })
            .await
            .unwrap();
        for from in (first..end).step_by(AT_ONCE as usize) {
            let subscribers = (from..end.min(from + AT_ONCE))
                .map(|number| subscriber(plan, plan, number))
                .collect();
            client.apply(ApplyRequest { subscribers, ..ApplyRequest::default() }).await.unwrap();
        }
    });
}

/// Creates so many plans, each with a subscriber and its key: the key's number is the plan's.
pub fn create_many(server: SocketAddr, plan: &str, first: u64, end: u64) {
    wait(async {
        let mut client = UsagePlanServiceClient::new(channel(server).await);
        let target = Target { id: TARGET.to_owned(), ..Target::default() };
        client
            .apply(ApplyRequest { targets: vec![target], ..ApplyRequest::default() })
            .await
            .unwrap();
        for from in (first..end).step_by(AT_ONCE as usize) {
            let numbers = from..end.min(from + AT_ONCE);
            let id = |number: u64| format!("{plan}-{number}");
            let usage_plans = numbers.clone().map(|number| usage_plan(&id(number), plan)).collect();
            let subscribers = numbers.map(|number| subscriber(plan, &id(number), number)).collect();
            client
                .apply(ApplyRequest { usage_plans, subscribers, ..ApplyRequest::default() })
                .await
                .unwrap();
        }
    });
}

/// Gives a plan another rate limit, as an operator does.
pub fn edit(server: SocketAddr, plan: &str, requests_per_second: f64) {
    wait(async {
        let mut edited = usage_plan(plan, plan);
        edited.entitlements[0].rate_limit = Some(RateLimit { requests_per_second, burst: None });
        let mut client = UsagePlanServiceClient::new(channel(server).await);
        client
            .apply(ApplyRequest { usage_plans: vec![edited], ..ApplyRequest::default() })
            .await
            .unwrap();
    });
}

/// What a server answers to a check of a plan's first key.
pub fn sample(server: SocketAddr, plan: &str) -> CheckResponse {
    wait(async {
        let api_key = format!("{}{:010}", key_prefix(plan), 0).into();
        let request =
            CheckRequest { api_key, target: TARGET.to_owned(), ..CheckRequest::default() };
        DecisionServiceClient::new(channel(server).await).check(request).await.unwrap().into_inner()
    })
}

/// A plan of this id with the limits of [`RATE`] or [`QUOTAS`], which nobody reaches.
fn usage_plan(id: &str, like: &str) -> UsagePlan {
    let quota = |name: &str, unit: Unit| Quota {
        name: name.to_owned(),
        limit: Some(1 << 50),
        unit: unit.into(),
        ..Quota::default()
    };
    let quotas = if like == QUOTAS {
        vec![quota("daily", Unit::Day), quota("monthly", Unit::Month)]
    } else {
        Vec::new()
    };
    let entitlement = Entitlement {
        name: "all".to_owned(),
        targets: vec![TARGET.to_owned()],
        rate_limit: Some(RateLimit { requests_per_second: 1e8, burst: None }),
        quotas,
        ..Entitlement::default()
    };
    UsagePlan {
        id: id.to_owned(),
        display_name: id.to_owned(),
        entitlements: vec![entitlement],
        ..UsagePlan::default()
    }
}

fn subscriber(like: &str, plan: &str, number: u64) -> SubscriberWithKeys {
    let id = format!("{like}-{number:010}");
    let key = ApiKey { id: id.clone(), subscriber: id.clone(), ..ApiKey::default() };
    let value = format!("{}{number:010}", key_prefix(like));
    let subscriber = Subscriber { id, plans: vec![plan.to_owned()], ..Subscriber::default() };
    SubscriberWithKeys {
        subscriber: Some(subscriber),
        keys: vec![ApiKeyWithValue { api_key: Some(key), value, mask: None }],
        mask: None,
    }
}
