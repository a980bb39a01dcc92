//! Usage plans through a real Envoy, wired with each of the two files of `examples/envoy` that are
//! for them: what the HTTP client sees, and what the usage says afterwards.

/// Makes a test of every behaviour for every wiring.
macro_rules! in_both_wirings {
    ($($behaviour:ident)*) => {
        mod rate_limit_filters {
            $(#[test] fn $behaviour() { super::$behaviour(crate::e2e_plans::bench::Wiring::RateLimitFilters); })*
        }
        mod ext_authz {
            $(#[test] fn $behaviour() { super::$behaviour(crate::e2e_plans::bench::Wiring::ExtAuthz); })*
        }
    };
}

mod bench;
mod counting;
mod refusals;
mod relay;
mod reports;
