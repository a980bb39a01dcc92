//! What is served over gRPC.

use std::sync::Arc;

use tonic::server::NamedService;
use tonic_health::ServingStatus;

use super::parts::Parts;
use crate::cli::Failure;
use crate::config::Config;
use crate::grpc::SERVED_DESCRIPTORS;
use crate::grpc::decision::DecisionGrpc;
use crate::grpc::ext_authz::AuthorizationGrpc;
use crate::grpc::health::{HealthGrpc, HealthReporter, health};
use crate::grpc::observe::Observe;
use crate::grpc::pb::tollgate::usage_plan_service_server::UsagePlanServiceServer;
use crate::grpc::ratelimit::RateLimitGrpc;
use crate::grpc::reflection::{Described, ReflectionGrpc};
use crate::grpc::server::Dispatch;
use crate::grpc::usage_plans::UsagePlans;

/// The services that take traffic.
const SERVED: [&str; 4] = [
    RateLimitGrpc::NAME,
    AuthorizationGrpc::NAME,
    DecisionGrpc::NAME,
    UsagePlanServiceServer::<UsagePlans>::NAME,
];

/// What makes the services of a port, for one thread after the other.
type Make = Box<dyn Fn() -> Dispatch + Send + Sync>;

/// The services of the ports.
pub(super) struct Services {
    pub(super) grpc: Make,
    /// Where plans have a port of their own.
    pub(super) admin: Option<Make>,
    /// Says whether they are healthy.
    pub(super) reporter: HealthReporter,
}

/// Shares the services out over the ports.
pub(super) fn services(parts: &Parts, config: &Config) -> Result<Services, Failure> {
    // `ratelimit` is what probes of the reference ask for.
    let (reporter, health) = health(["", "ratelimit"].into_iter().chain(SERVED));
    let reflection = if config.reach.reflection { Some(Arc::new(described()?)) } else { None };
    let max = config.grpc.max_message_bytes;
    let (metrics, clock, access, overload) =
        (parts.metrics.clone(), parts.clock.clone(), parts.access.clone(), parts.overload.clone());
    let with_health = move || {
        let observe = Observe::new(metrics.clone(), clock.clone(), overload.core());
        Dispatch::new().observed(observe).gated(access.clone()).bounded(max).serving(health.clone())
    };
    let (limiter, decisions) = (parts.limiter.clone(), parts.decisions.clone());
    let decisions = move |dispatch: Dispatch| {
        dispatch
            .serving(RateLimitGrpc::new(limiter.clone()))
            .serving(DecisionGrpc::new(decisions.clone()))
            .serving(AuthorizationGrpc::new(decisions.clone()))
    };
    // How long a message may be is looked at where it comes in.
    let usage_plans = UsagePlanServiceServer::new(usage_plans(parts, config.grpc.max_apply_bytes))
        .max_decoding_message_size(usize::MAX);
    let administration = move |dispatch: Dispatch| {
        let dispatch = dispatch.serving(usage_plans.clone());
        match &reflection {
            Some(described) => dispatch
                .serving(ReflectionGrpc::<false>(described.clone()))
                .serving(ReflectionGrpc::<true>(described.clone())),
            None => dispatch,
        }
    };
    let (grpc, admin): (Make, Option<Make>) = if config.reach.admin_grpc_addr.is_some() {
        let admin = with_health.clone();
        (
            Box::new(move || decisions(with_health())),
            Some(Box::new(move || administration(admin()))),
        )
    } else {
        (Box::new(move || administration(decisions(with_health()))), None)
    };
    Ok(Services { grpc, admin, reporter })
}

fn usage_plans(parts: &Parts, max_set_bytes: usize) -> UsagePlans {
    let Parts { edits, usage, grants, .. } = parts;
    UsagePlans::new(edits.clone(), usage.clone(), grants.clone()).with_max_set_bytes(max_set_bytes)
}

fn described() -> Result<Described, Failure> {
    let reflection = [ReflectionGrpc::<false>::NAME, ReflectionGrpc::<true>::NAME];
    Described::new(
        SERVED.into_iter().chain([HealthGrpc::NAME]).chain(reflection),
        &SERVED_DESCRIPTORS,
    )
    .map_err(Failure::failed)
}

/// Tells everyone who asks or watches.
#[allow(clippy::unused_async)]
pub(super) async fn report_health(reporter: &HealthReporter, status: ServingStatus) {
    reporter.set(status == ServingStatus::Serving);
}
