//! Plans to test the services with.

use super::*;
use crate::catalog::HashKey;
use crate::config::Config;
use crate::engine::plans::Settings;

/// The settings that nobody changed.
pub(crate) fn settings() -> config::Plans {
    Config::resolve(&config::Flags::default(), &|_| None).unwrap().plans
}

/// Plans of an empty catalog.
pub(crate) fn empty(clock: Clock, metrics: &Metrics) -> Arc<Plans> {
    let catalog = Arc::new(CatalogStore::new(HashKey([1; 32]), None));
    let engine = Arc::new(PlanEngine::new(Settings::new([2; 32], [3; 16])));
    Arc::new(Plans::new(engine, catalog, clock, settings(), None, metrics))
}
