//! The parts of a server, made from its settings and handed to each other.

use std::sync::Arc;

use crate::catalog::{CatalogStore, HashKey};
use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::plans::{PlanEngine, Settings};
use crate::engine::rules::RuleEngine;
use crate::grpc::plans::Plans;
use crate::grpc::ratelimit::RateLimiter;
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;

pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) rule_engine: Arc<RuleEngine>,
    pub(super) catalog: Arc<CatalogStore>,
    pub(super) plan_engine: Arc<PlanEngine>,
    pub(super) plans: Arc<Plans>,
    pub(super) limiter: Arc<RateLimiter>,
}

impl Parts {
    pub(super) fn assemble(config: &Config) -> Result<Self, Failure> {
        let metrics = Arc::new(Metrics::new());
        let clock = Clock::system();
        let rulebook = Arc::new(Rulebook::open(config.rules.clone(), metrics.clone()).map_err(Failure::unusable)?);
        let rule_engine = Arc::new(RuleEngine::new(config.max_counters).map_err(Failure::failed)?);
        let catalog = Arc::new(CatalogStore::new(HashKey(secret()?), config.plans.account));
        let settings = Settings { receipts_ttl_ns: config.plans.receipts_ttl_ns, ..Settings::new(secret()?, secret()?) };
        let plan_engine = Arc::new(PlanEngine::new(settings));
        let plans = Arc::new(Plans::new(plan_engine.clone(), catalog.clone(), clock.clone(), config.plans.clone(), &metrics));
        let limiter = Arc::new(RateLimiter::new(
            rule_engine.clone(),
            rulebook.clone(),
            clock.clone(),
            metrics.clone(),
            plans.clone(),
            config.rate_limit.clone(),
            config.grpc,
        ));
        Ok(Self { metrics, clock, rulebook, rule_engine, catalog, plan_engine, plans, limiter })
    }
}

/// Random bytes that nobody else knows.
fn secret<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Failure::failed)?;
    Ok(bytes)
}
