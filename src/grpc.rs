//! The edge: protobuf to domain types and back, one file per service, every error to a status in
//! one place (`status`).

mod budget;
pub mod codec;
pub mod convert;
mod deadline;
pub mod decision;
pub mod details;
pub mod ext_authz;
pub mod fast;
mod gate;
pub mod headers;
pub mod health;
mod inbound;
pub mod json;
pub mod observe;
pub mod overload;
pub mod plan_files;
pub mod ratelimit;
pub mod reflection;
pub mod server;
mod share;
mod status;
pub mod stored;
pub mod usage_plans;
pub mod wire;

/// The descriptors of the Envoy services that are served, for reflection and JSON: those that the
/// crate `envoy-types` was made from. A test holds them to that.
pub const ENVOY_DESCRIPTORS: &[u8] = include_bytes!("../proto/envoy.bin");

/// The descriptors of `tollgate.v1`.
pub const TOLLGATE_DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/tollgate.v1.bin"));

/// The same of every service that is served, each once.
pub(crate) const SERVED_DESCRIPTORS: [&[u8]; 5] = [
    ENVOY_DESCRIPTORS,
    TOLLGATE_DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Generated code.
#[allow(clippy::all, missing_debug_implementations, unreachable_pub)]
pub mod pb {
    pub mod tollgate {
        tonic::include_proto!("tollgate.v1");
    }
    pub mod rls {
        tonic::include_proto!("envoy.service.ratelimit.v3.RateLimitService");
    }
}
