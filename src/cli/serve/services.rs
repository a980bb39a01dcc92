//! What is served over gRPC.

use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use super::parts::Parts;
use crate::cli::Failure;
use crate::config::Config;
use crate::grpc::books::EngineBooks;
use crate::grpc::decision::DecisionGrpc;
use crate::grpc::ext_authz::ExternalAuthorization;
use crate::grpc::observe::Observe;
use crate::grpc::pb::tollgate::usage_plan_service_server::UsagePlanServiceServer;
use crate::grpc::ratelimit::RateLimitGrpc;
use crate::grpc::server::Dispatch;
use crate::grpc::usage_plans::UsagePlans;
use crate::grpc::{ENVOY_DESCRIPTORS, TOLLGATE_DESCRIPTORS};

/// The services that take traffic.
const SERVED: [&str; 4] = [
    RateLimitGrpc::NAME,
    AuthorizationServer::<ExternalAuthorization>::NAME,
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
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = if config.reach.reflection { Some(reflection()?) } else { None };
    let max = config.grpc.max_message_bytes;
    let (metrics, clock, access, overload) = (parts.metrics.clone(), parts.clock.clone(), parts.access.clone(), parts.overload.clone());
    let with_health = move || {
        let observe = Observe::new(metrics.clone(), clock.clone(), overload.core());
        Dispatch::new().observed(observe).gated(access.clone()).serving(health.clone())
    };
    let (limiter, plans) = (parts.limiter.clone(), parts.plans.clone());
    let decisions = move |dispatch: Dispatch| {
        dispatch
            .serving(RateLimitGrpc::new(limiter.clone(), max))
            .serving(DecisionGrpc::new(plans.clone(), max))
            .serving(AuthorizationServer::new(ExternalAuthorization(plans.clone())).max_decoding_message_size(max))
    };
    let usage_plans = UsagePlanServiceServer::new(usage_plans(parts, config.grpc.max_apply_bytes)).max_decoding_message_size(max);
    let administration = move |dispatch: Dispatch| {
        let dispatch = dispatch.serving(usage_plans.clone());
        match &reflection {
            Some(reflection) => dispatch.serving(reflection.clone()),
            None => dispatch,
        }
    };
    let (grpc, admin): (Make, Option<Make>) = if config.reach.admin_grpc_addr.is_some() {
        let admin = with_health.clone();
        (Box::new(move || decisions(with_health())), Some(Box::new(move || administration(admin()))))
    } else {
        (Box::new(move || administration(decisions(with_health()))), None)
    };
    Ok(Services { grpc, admin, reporter })
}

fn usage_plans(parts: &Parts, max_set_bytes: usize) -> UsagePlans {
    let clock = parts.clock.clone();
    let books = Arc::new(EngineBooks::new(parts.plan_engine.clone(), parts.catalog.clone(), parts.desk.clone()));
    UsagePlans::new(parts.catalog.clone(), books, Arc::new(move || clock.now())).with_max_set_bytes(max_set_bytes)
}

fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, Failure> {
    let mut reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ENVOY_DESCRIPTORS)
        .register_encoded_file_descriptor_set(TOLLGATE_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection");
    for service in SERVED {
        reflection = reflection.with_service_name(service);
    }
    reflection.build_v1().map_err(Failure::failed)
}

/// Tells everyone who asks or watches. `ratelimit` is what probes of the reference ask for.
pub(super) async fn report_health(reporter: &HealthReporter, status: ServingStatus) {
    for service in ["", "ratelimit"].into_iter().chain(SERVED) {
        reporter.set_service_status(service, status).await;
    }
}
