//! Rate limits.

use crate::decide::gcra::MicroRate;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{MethodRate, Rate};
use crate::grpc::pb::tollgate as pb;

use super::optional_id;

pub(super) fn rate_limit(wire: Option<pb::RateLimit>, found: &mut Mistakes) -> Option<Rate> {
    wire.map(|wire| rate("rate_limit", wire.requests_per_second, wire.burst, found))
}

/// `field` holds the two.
fn rate(field: &str, requests_per_second: f64, burst: Option<u64>, found: &mut Mistakes) -> Rate {
    let rate = validate::micro_rate(requests_per_second).unwrap_or_else(|reason| {
        found.add(format!("{field}.requests_per_second"), reason);
        // Goes with every burst, so that this mistake does not look like two.
        MicroRate(1_000_000_000_000_000)
    });
    Rate { rate, burst }
}

pub(super) fn method_rate_limits(
    wire: Vec<pb::MethodRateLimit>,
    found: &mut Mistakes,
) -> Vec<MethodRate> {
    let one = |(i, wire): (usize, pb::MethodRateLimit)| MethodRate {
        method: wire.method.to_ascii_uppercase(),
        path: wire.path,
        target: optional_id(wire.target),
        rate: rate(
            &format!("method_rate_limits[{i}]"),
            wire.requests_per_second,
            wire.burst,
            found,
        ),
        replaces_general: wire.replaces_general.unwrap_or(true),
    };
    wire.into_iter().enumerate().map(one).collect()
}

fn requests_per_second(rate: MicroRate) -> f64 {
    // No rate has more than 2^53 millionths, and so the quotient is the double that its decimal is
    // read as.
    rate.0 as f64 / 1e6
}

pub(super) fn rate_limit_to_wire(limit: Rate) -> pb::RateLimit {
    pb::RateLimit { requests_per_second: requests_per_second(limit.rate), burst: limit.burst }
}

pub(super) fn method_rate_limits_to_wire(limits: &[MethodRate]) -> Vec<pb::MethodRateLimit> {
    let one = |limit: &MethodRate| pb::MethodRateLimit {
        method: limit.method.clone(),
        path: limit.path.clone(),
        target: limit.target.as_deref().unwrap_or_default().to_owned(),
        requests_per_second: requests_per_second(limit.rate.rate),
        burst: limit.rate.burst,
        replaces_general: Some(limit.replaces_general),
    };
    limits.iter().map(one).collect()
}
