//! Rate-limit requests, whoever asks: decided by the rules in force, and charged.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use smallvec::SmallVec;

use super::decisions::{Decisions, NotSettled};
use super::durable_rules::{DurableRules, Try, Waiting};
use crate::access::{Granted, Refusal, Scopes};
use crate::clock::Clock;
use crate::config;
use crate::engine::plans::{InvalidRequest, Need};
use crate::engine::rules::RuleEngine;
use crate::engine::rules::decision::{Decision, Descriptor, Met, Modes};
use crate::engine::rules::tally::Tally;
use crate::metrics::Metrics;
use crate::rulebook::{Edition, Rulebook};
use crate::rules::{Domain, shown};

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

/// The descriptors of a request. Nearly always there is one.
pub type Descriptors<'q> = SmallVec<[Descriptor<'q>; 1]>;

/// A rate-limit request as a door holds it.
pub trait RateLimitRequest {
    fn domain(&self) -> &[u8];

    /// How many entries each descriptor has: looked at before anything is made of them.
    fn sizes(&self) -> impl ExactSizeIterator<Item = usize>;

    /// # Errors
    /// A limit that the request brings along and that is none.
    fn descriptors(&self) -> Result<Descriptors<'_>, RateLimitError>;
}

/// What [`RateLimits`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub engine: Arc<RuleEngine>,
    pub rulebook: Arc<Rulebook>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// Its settings name the two domains that are not decided by rules.
    pub decisions: Arc<Decisions>,
    pub durable: DurableRules,
    pub settings: config::RateLimit,
    pub bounds: config::GrpcBounds,
}

/// Decides rate-limit requests by the rules in force.
#[derive(Debug)]
pub struct RateLimits {
    parts: Parts,
    global_shadow_mode: Counter,
    domain_not_found: Counter,
    service_error: Counter,
}

/// What the first try came to.
// An answer is made and taken apart at once: a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Tried<R> {
    Answered(R),
    /// For [`RateLimits::answer_later`]. Nothing is decided.
    Later(Vec<Need>),
    /// The domain is one of the two that belong to usage plans: [`RateLimits::decisions`] answers.
    Plans(PlanDomain),
}

/// A domain that belongs to usage plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanDomain {
    /// Its requests ask for decisions.
    Checks,
    /// Its requests report what became of others.
    Reports,
}

impl RateLimits {
    pub fn new(parts: Parts) -> Self {
        let metrics = &parts.metrics;
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
            parts,
        }
    }

    /// How rules are asked about.
    pub fn settings(&self) -> &config::RateLimit {
        &self.parts.settings
    }

    /// The clock that decisions are made by.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// Decides and settles what comes in the domains of usage plans.
    pub fn decisions(&self) -> &Decisions {
        &self.parts.decisions
    }

    /// Counts a request that ended in an error elsewhere than here.
    pub fn count_error(&self) {
        self.service_error.increment(1);
    }

    /// Whether a caller may ask for this: the domain says whether it is a decision or a report.
    /// `None`: it may do everything.
    ///
    /// # Errors
    /// It may not.
    pub fn permit(&self, domain: &[u8], granted: Option<&Granted>) -> Result<(), RateLimitError> {
        let needs = if self.is_for_reports(domain) { Scopes::REPORT } else { Scopes::DECIDE };
        Ok(granted.map_or(Ok(()), |granted| granted.permit(needs))?)
    }

    /// Whether requests in this domain report what became of others, and decide nothing.
    pub fn is_for_reports(&self, domain: &[u8]) -> bool {
        domain == self.parts.decisions.settings().report_domain.as_bytes()
    }

    fn plan_domain(&self, domain: &[u8]) -> Option<PlanDomain> {
        let settings = self.parts.decisions.settings();
        if domain == settings.check_domain.as_bytes() {
            Some(PlanDomain::Checks)
        } else if self.is_for_reports(domain) {
            Some(PlanDomain::Reports)
        } else {
            None
        }
    }

    /// Decides a request and charges it, where nothing has to be waited for: nearly every one. Only
    /// a request that meets a durable rule may wait, for the ledger.
    ///
    /// # Errors
    /// Where the gateway's request cannot be read, and where no rules are loaded. Never for bytes
    /// that a caller can choose.
    pub fn first_try<R>(
        &self,
        request: &impl RateLimitRequest,
        answer: impl FnOnce(&Decision<'_, '_>) -> R,
    ) -> Result<Tried<R>, RateLimitError> {
        self.try_at_once(request, answer).inspect_err(|_| self.count_error())
    }

    fn try_at_once<R>(
        &self,
        request: &impl RateLimitRequest,
        answer: impl FnOnce(&Decision<'_, '_>) -> R,
    ) -> Result<Tried<R>, RateLimitError> {
        let domain = request.domain();
        if domain.is_empty() {
            return Err(RateLimitError::EmptyDomain);
        }
        self.check_sizes(request.sizes())?;
        if let Some(domain) = self.plan_domain(domain) {
            return Ok(Tried::Plans(domain));
        }
        Ok(match self.decide(request, None, answer)? {
            Ok(answered) => Tried::Answered(answered),
            Err((needs, _)) => Tried::Later(needs),
        })
    }

    /// The rest of it.
    ///
    /// # Errors
    /// As there.
    pub async fn answer_later<R>(
        &self,
        request: &impl RateLimitRequest,
        needs: Vec<Need>,
        time_left: Option<Duration>,
        answer: impl FnOnce(&Decision<'_, '_>) -> R,
    ) -> Result<R, RateLimitError> {
        self.wait_and_try(request, needs, time_left, answer)
            .await
            .inspect_err(|_| self.count_error())
    }

    async fn wait_and_try<R>(
        &self,
        request: &impl RateLimitRequest,
        mut needs: Vec<Need>,
        time_left: Option<Duration>,
        mut answer: impl FnOnce(&Decision<'_, '_>) -> R,
    ) -> Result<R, RateLimitError> {
        let Parts { durable, clock, .. } = &self.parts;
        let mut waiting = durable.waiting(clock, time_left);
        loop {
            // While it waits it holds no lock and no edition, and has charged nothing.
            durable.wait(needs, &mut waiting).await;
            match self.decide(request, Some(waiting), answer)? {
                Ok(answered) => return Ok(answered),
                Err(still) => (needs, answer) = still,
            }
        }
    }

    /// One try, by the rules of this moment: the answer, or what it needs and the answer that is
    /// not made yet.
    fn decide<R, F: FnOnce(&Decision<'_, '_>) -> R>(
        &self,
        request: &impl RateLimitRequest,
        waiting: Option<Waiting>,
        answer: F,
    ) -> Result<Result<R, (Vec<Need>, F)>, RateLimitError> {
        let Parts { engine, clock, durable: leased, settings, .. } = &self.parts;
        let current = self.parts.rulebook.current();
        let edition = current.as_ref().ok_or(RateLimitError::NothingLoaded)?;
        let descriptors = request.descriptors()?;
        let modes = Modes {
            shadow_mode: settings.shadow_mode,
            quota_mode: settings.quota_mode,
            stop_when_over_limit: settings.stop_when_over_limit,
        };
        let (rules, domain, now) = (&edition.rules, request.domain(), clock.now());
        let durable = rules.domain(domain).is_some_and(Domain::has_durable);
        let decision = match durable.then(|| leased.next_try(waiting, clock)) {
            None => engine.decide(rules, domain, &descriptors, modes, now),
            Some(Try::Ask(counters)) => {
                match engine.decide_with(&counters, rules, domain, &descriptors, modes, now) {
                    Ok(decision) => decision,
                    Err(needs) => return Ok(Err((needs, answer))),
                }
            }
            Some(Try::Last(counters)) => {
                let decided =
                    engine.decide_with(&counters, rules, domain, &descriptors, modes, now);
                decided.unwrap_or_else(|never| match never {})
            }
        };
        if durable {
            leased.look_ahead();
        }
        self.count(edition, domain, &descriptors, &decision);
        Ok(Ok(answer(&decision)))
    }

    fn check_sizes(
        &self,
        mut sizes: impl ExactSizeIterator<Item = usize>,
    ) -> Result<(), RateLimitError> {
        let config::GrpcBounds { max_descriptors, max_entries, .. } = self.parts.bounds;
        if sizes.len() == 0 {
            return Err(RateLimitError::NoDescriptors);
        }
        if sizes.len() > max_descriptors {
            return Err(RateLimitError::TooManyDescriptors {
                count: sizes.len(),
                max: max_descriptors,
            });
        }
        match sizes.by_ref().enumerate().find(|(_, count)| *count > max_entries) {
            Some((descriptor, count)) => {
                Err(RateLimitError::TooManyEntries { descriptor, count, max: max_entries })
            }
            None => Ok(()),
        }
    }

    fn count(
        &self,
        edition: &Edition,
        domain: &[u8],
        descriptors: &[Descriptor<'_>],
        decision: &Decision<'_, '_>,
    ) {
        let Parts { metrics, settings, .. } = &self.parts;
        if decision.shadowed {
            self.global_shadow_mode.increment(1);
        }
        if !decision.domain_found {
            self.domain_not_found.increment(1);
        }
        for (status, descriptor) in decision.statuses.iter().zip(descriptors) {
            let Met::Limit(met) = &status.met else { continue };
            let tally = Tally::of(met, settings.near_limit_ratio);
            let runtime_levels = match &met.matched {
                Some(matched) => matched.metric_levels(),
                None => Some(descriptor.entries.iter().map(override_level).collect()),
            };
            match runtime_levels {
                Some(levels) => {
                    let rule = metrics.dynamic_rule(&String::from_utf8_lossy(domain), &levels);
                    metrics.count(&rule, tally);
                }
                None => {
                    if let Some(meters) = met.rule().and_then(|rule| edition.meters(rule)) {
                        metrics.count(meters, tally);
                    }
                }
            }
        }
    }
}

fn override_level((key, value): &(&[u8], &[u8])) -> String {
    let name = String::from_utf8_lossy(key);
    if value.is_empty() { name.into_owned() } else { format!("{name}_{}", shown(key, value)) }
}
