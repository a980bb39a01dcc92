//! `envoy.service.ratelimit.v3.RateLimitService`, and the same answers for `/json`.

mod json;
mod plans;
mod response;
mod service;

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use smallvec::SmallVec;

use super::wire::{self, RateLimitRequest, RateLimitResponse};
use crate::access::{Granted, Refusal, Scopes};
use crate::clock::Clock;
use crate::config;
use crate::engine::plans::{InvalidRequest, Need};
use crate::engine::rules::RuleEngine;
use crate::engine::rules::decision::{Decision, Descriptor, Met, Modes, override_unit};
use crate::engine::rules::tally::Tally;
use crate::metrics::Metrics;
use crate::rulebook::{Edition, Rulebook};
use crate::rules::{Domain, PerUnit, shown};
use crate::service::decisions::{Decisions, NotSettled};
use crate::service::durable_rules::{DurableRules, Try, Waiting};

pub use self::json::JsonError;
pub(super) use self::plans::metadata as plan_metadata;
pub(super) use self::response::string_struct;
pub use self::service::RateLimitGrpc;

/// Why a rate-limit request gets no answer. The texts of the first three are those of the
/// reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateLimitError {
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    #[error("no rate limit configuration loaded")]
    NothingLoaded,
    #[error(
        "descriptors: {count} are more than the {max} that grpc.max_descriptors allows in a request"
    )]
    TooManyDescriptors { count: usize, max: usize },
    #[error(
        "descriptors[{descriptor}].entries: {count} are more than the {max} that grpc.max_entries allows in a descriptor"
    )]
    TooManyEntries { descriptor: usize, count: usize, max: usize },
    #[error(
        "descriptors[{descriptor}].limit.unit {unit} is no unit of time: use 1 (SECOND) to 7 (WEEK)"
    )]
    OverrideUnit { descriptor: usize, unit: i32 },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Check(InvalidRequest),
    #[error(transparent)]
    Report(NotSettled),
}

/// Answers rate-limit requests from the rules in force.
#[derive(Debug)]
pub struct RateLimiter {
    engine: Arc<RuleEngine>,
    rulebook: Arc<Rulebook>,
    clock: Clock,
    metrics: Arc<Metrics>,
    decisions: Arc<Decisions>,
    durable: DurableRules,
    settings: config::RateLimit,
    bounds: config::GrpcBounds,
    global_shadow_mode: Counter,
    domain_not_found: Counter,
    service_error: Counter,
}

impl RateLimiter {
    // Each is another part of the house.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        engine: Arc<RuleEngine>,
        rulebook: Arc<Rulebook>,
        clock: Clock,
        metrics: Arc<Metrics>,
        decisions: Arc<Decisions>,
        durable: DurableRules,
        settings: config::RateLimit,
        bounds: config::GrpcBounds,
    ) -> Self {
        metrics.describe_counter(
            "ratelimit_service_global_shadow_mode",
            "Requests over a limit that the shadow mode of all rules let pass",
        );
        metrics.describe_counter(
            "ratelimit_service_domain_not_found",
            "Requests for a domain that no rules file defines",
        );
        metrics.describe_counter(
            "ratelimit_service_should_rate_limit_error",
            "Rate-limit requests that ended in an error. There is no Redis here whose errors could be counted",
        );
        let error = |err_type| {
            metrics.counter("ratelimit_service_should_rate_limit_error", &[("err_type", err_type)])
        };
        // Alerts of the reference read both.
        let (service_error, _) = (error("service_error"), error("redis_error"));
        Self {
            global_shadow_mode: metrics.counter("ratelimit_service_global_shadow_mode", &[]),
            domain_not_found: metrics.counter("ratelimit_service_domain_not_found", &[]),
            service_error,
            engine,
            rulebook,
            clock,
            metrics,
            decisions,
            durable,
            settings,
            bounds,
        }
    }

    /// Decides a request and charges it. Only a request that meets a durable rule may wait, for the
    /// ledger.
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
        self.try_at_once(request).inspect_err(|_| self.service_error.increment(1))
    }

    fn try_at_once(&self, request: &RateLimitRequest) -> Result<First, RateLimitError> {
        if request.domain.is_empty() {
            return Err(RateLimitError::EmptyDomain);
        }
        if request.descriptors.is_empty() {
            return Err(RateLimitError::NoDescriptors);
        }
        self.check_bounds(request)?;
        if plans::are_asked(&self.decisions, request) {
            return Ok(First::Later(Open::Plans));
        }
        Ok(match self.decide(request, None)? {
            Decided::Answered(answer) => First::Answered(answer),
            Decided::Needs(needs) => First::Later(Open::Needs(needs)),
        })
    }

    async fn answer_later(
        &self,
        request: &RateLimitRequest,
        open: Open,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
        self.wait_and_try(request, open, time_left)
            .await
            .inspect_err(|_| self.service_error.increment(1))
    }

    async fn wait_and_try(
        &self,
        request: &RateLimitRequest,
        open: Open,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
        let mut needs = match open {
            Open::Plans => return plans::answer(&self.decisions, request, time_left).await,
            Open::Needs(needs) => needs,
        };
        let mut waiting = self.durable.waiting(&self.clock, time_left);
        loop {
            // While it waits it holds no lock and no edition, and has charged nothing.
            self.durable.wait(needs, &mut waiting).await;
            needs = match self.decide(request, Some(waiting))? {
                Decided::Answered(answer) => return Ok(answer),
                Decided::Needs(needs) => needs,
            };
        }
    }

    /// One try, by the rules of this moment.
    fn decide(
        &self,
        request: &RateLimitRequest,
        waiting: Option<Waiting>,
    ) -> Result<Decided, RateLimitError> {
        let current = self.rulebook.current();
        let edition = current.as_ref().ok_or(RateLimitError::NothingLoaded)?;
        let descriptors = read(request)?;
        let modes = Modes {
            shadow_mode: self.settings.shadow_mode,
            quota_mode: self.settings.quota_mode,
            stop_when_over_limit: self.settings.stop_when_over_limit,
        };
        let (rules, domain, now) = (&edition.rules, &*request.domain, self.clock.now());
        let durable = rules.domain(domain).is_some_and(Domain::has_durable);
        let decision = match durable.then(|| self.durable.next_try(waiting, &self.clock)) {
            None => self.engine.decide(rules, domain, &descriptors, modes, now),
            Some(Try::Ask(counters)) => {
                match self.engine.decide_with(&counters, rules, domain, &descriptors, modes, now) {
                    Ok(decision) => decision,
                    Err(needs) => return Ok(Decided::Needs(needs)),
                }
            }
            Some(Try::Last(counters)) => {
                let decided =
                    self.engine.decide_with(&counters, rules, domain, &descriptors, modes, now);
                decided.unwrap_or_else(|never| match never {})
            }
        };
        if durable {
            self.durable.look_ahead();
        }
        self.count(edition, request, &decision);
        Ok(Decided::Answered(response::build(request, &decision, &self.settings)))
    }

    /// Whether a caller may ask for this: the domain says whether it is a decision or a report.
    /// `None`: it may do everything.
    fn permit(
        &self,
        request: &RateLimitRequest,
        granted: Option<&Granted>,
    ) -> Result<(), RateLimitError> {
        let needs =
            if self.is_for_reports(&request.domain) { Scopes::REPORT } else { Scopes::DECIDE };
        Ok(granted.map_or(Ok(()), |granted| granted.permit(needs))?)
    }

    /// Whether requests in this domain report what became of others, and decide nothing.
    fn is_for_reports(&self, domain: &[u8]) -> bool {
        domain == self.decisions.settings().report_domain.as_bytes()
    }

    fn check_bounds(&self, request: &RateLimitRequest) -> Result<(), RateLimitError> {
        let config::GrpcBounds { max_descriptors, max_entries, .. } = self.bounds;
        if request.descriptors.len() > max_descriptors {
            return Err(RateLimitError::TooManyDescriptors {
                count: request.descriptors.len(),
                max: max_descriptors,
            });
        }
        let too_long = request
            .descriptors
            .iter()
            .position(|descriptor| descriptor.entries.len() > max_entries);
        match too_long.and_then(|index| Some((index, request.descriptors.get(index)?))) {
            Some((descriptor, found)) => Err(RateLimitError::TooManyEntries {
                descriptor,
                count: found.entries.len(),
                max: max_entries,
            }),
            None => Ok(()),
        }
    }

    fn count(&self, edition: &Edition, request: &RateLimitRequest, decision: &Decision<'_, '_>) {
        if decision.shadowed {
            self.global_shadow_mode.increment(1);
        }
        if !decision.domain_found {
            self.domain_not_found.increment(1);
        }
        for (status, descriptor) in decision.statuses.iter().zip(&request.descriptors) {
            let Met::Limit(met) = &status.met else { continue };
            let tally = Tally::of(met, self.settings.near_limit_ratio);
            let runtime_levels = match &met.matched {
                Some(matched) => matched.metric_levels(),
                None => Some(descriptor.entries.iter().map(override_level).collect()),
            };
            match runtime_levels {
                Some(levels) => {
                    self.metrics.count(
                        &self
                            .metrics
                            .dynamic_rule(&String::from_utf8_lossy(&request.domain), &levels),
                        tally,
                    );
                }
                None => {
                    if let Some(meters) = met.rule().and_then(|rule| edition.meters(rule)) {
                        self.metrics.count(meters, tally);
                    }
                }
            }
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
    Plans,
    Needs(Vec<Need>),
}

/// What a try came to.
// An answer is made and taken apart at once: a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
enum Decided {
    Answered(RateLimitResponse),
    /// Nothing is decided.
    Needs(Vec<Need>),
}

fn read(request: &RateLimitRequest) -> Result<SmallVec<[Descriptor<'_>; 1]>, RateLimitError> {
    let request_hits = u64::from(request.hits_addend.max(1));
    let mut descriptors = SmallVec::with_capacity(request.descriptors.len());
    for (index, descriptor) in request.descriptors.iter().enumerate() {
        let limit_override =
            descriptor.limit.map(|limit| read_override(index, limit)).transpose()?;
        descriptors.push(Descriptor {
            entries: descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
            limit_override,
            hits: descriptor.hits_addend.unwrap_or(request_hits),
            negative: descriptor.is_negative_hits,
        });
    }
    Ok(descriptors)
}

fn read_override(descriptor: usize, limit: wire::LimitOverride) -> Result<PerUnit, RateLimitError> {
    let unit = override_unit(limit.unit)
        .ok_or(RateLimitError::OverrideUnit { descriptor, unit: limit.unit })?;
    Ok(PerUnit { requests: limit.requests_per_unit, unit, multiplier: 1 })
}

fn override_level(entry: &wire::Entry) -> String {
    let key = String::from_utf8_lossy(&entry.key);
    if entry.value.is_empty() {
        key.into_owned()
    } else {
        format!("{key}_{}", shown(&entry.key, &entry.value))
    }
}

#[cfg(test)]
mod tests;
