pub mod wire;

/// Generated code.
#[allow(clippy::all, missing_docs, unreachable_pub)]
pub mod pb {
    pub mod tollgate {
        tonic::include_proto!("tollgate.v1");
    }
    pub mod rls {
        tonic::include_proto!("envoy.service.ratelimit.v3.RateLimitService");
    }
}
