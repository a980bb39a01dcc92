//! `envoy.service.ratelimit.v3.RateLimitService`, and the same answers for `/json`.

mod json;
mod plans;
mod response;
mod service;

use std::sync::Arc;
use std::time::Duration;

use super::wire::{self, RateLimitRequest, RateLimitResponse};
use crate::engine::plans::Need;
use crate::engine::rules::decision::{Decision, Descriptor, override_unit};
use crate::rules::PerUnit;
use crate::service::rate_limits::{
    self, Descriptors, PlanDomain, RateLimitError, RateLimits, Tried,
};

pub use self::json::JsonError;
pub(super) use self::plans::metadata as plan_metadata;
pub(super) use self::response::string_struct;
pub use self::service::RateLimitGrpc;

/// Answers requests of the wire.
#[derive(Clone, Debug)]
pub struct RateLimiter(pub Arc<RateLimits>);

impl RateLimiter {
    /// Decides a request and charges it. It may wait for the ledger.
    ///
    /// # Errors
    /// Where the gateway's request cannot be read, and where no rules are loaded. Never for bytes
    /// that a caller can choose.
    pub async fn answer(
        &self,
        request: &RateLimitRequest,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
        match self.first_try(request)? {
            First::Answered(answer) => Ok(answer),
            First::Later(open) => self.answer_later(request, open, time_left).await,
        }
    }

    /// What can be said without waiting for anything. Nearly every request is answered here.
    fn first_try(&self, request: &RateLimitRequest) -> Result<First, RateLimitError> {
        let build =
            |decision: &Decision<'_, '_>| response::build(request, decision, self.0.settings());
        Ok(match self.0.first_try(request, build)? {
            Tried::Answered(answer) => First::Answered(answer),
            Tried::Later(needs) => First::Later(Open::Needs(needs)),
            Tried::Plans(domain) => First::Later(Open::Plans(domain)),
        })
    }

    async fn answer_later(
        &self,
        request: &RateLimitRequest,
        open: Open,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
        match open {
            Open::Needs(needs) => {
                let build = |decision: &Decision<'_, '_>| {
                    response::build(request, decision, self.0.settings())
                };
                self.0.answer_later(request, needs, time_left, build).await
            }
            Open::Plans(domain) => plans::answer(self.0.decisions(), domain, request, time_left)
                .await
                .inspect_err(|_| self.0.count_error()),
        }
    }
}

/// What the first try came to.
// As with a try.
#[allow(clippy::large_enum_variant)]
enum First {
    Answered(RateLimitResponse),
    Later(Open),
}

/// What a request that was not answered at once waits for.
enum Open {
    /// It is in one of the domains of usage plans, and nothing was tried yet.
    Plans(PlanDomain),
    Needs(Vec<Need>),
}

impl rate_limits::RateLimitRequest for RateLimitRequest {
    fn domain(&self) -> &[u8] {
        &self.domain
    }

    fn sizes(&self) -> impl ExactSizeIterator<Item = usize> {
        self.descriptors.iter().map(|descriptor| descriptor.entries.len())
    }

    fn descriptors(&self) -> Result<Descriptors<'_>, RateLimitError> {
        let request_hits = u64::from(self.hits_addend.max(1));
        let mut descriptors = Descriptors::with_capacity(self.descriptors.len());
        for (index, descriptor) in self.descriptors.iter().enumerate() {
            let limit_override =
                descriptor.limit.map(|limit| read_override(index, limit)).transpose()?;
            descriptors.push(Descriptor {
                entries: descriptor
                    .entries
                    .iter()
                    .map(|entry| (&*entry.key, &*entry.value))
                    .collect(),
                limit_override,
                hits: descriptor.hits_addend.unwrap_or(request_hits),
                negative: descriptor.is_negative_hits,
            });
        }
        Ok(descriptors)
    }
}

fn read_override(descriptor: usize, limit: wire::LimitOverride) -> Result<PerUnit, RateLimitError> {
    let unit = override_unit(limit.unit)
        .ok_or(RateLimitError::OverrideUnit { descriptor, unit: limit.unit })?;
    Ok(PerUnit { requests: limit.requests_per_unit, unit, multiplier: 1 })
}

#[cfg(test)]
mod tests;
