//! Catalog, engine, ledger's thread and lease broker, as a start puts them together.

use std::sync::Arc;

use crate::catalog::{CatalogStore, HashKey};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::leases::BookSettings;
use crate::engine::plans::{PlanEngine, Settings};
use crate::grpc::stored::Messages;
use crate::ledger::{Ledger, LedgerError, LedgerThread, MemoryLedger, SqliteLedger};
use crate::metrics::Metrics;
use crate::service::decisions::Decisions;
use crate::service::durable_rules::DurableRules;
use crate::service::grants::Grants;
use crate::service::lease_broker::LeaseBroker;

/// The settings of plans that nobody changed.
pub fn settings() -> config::Plans {
    Config::resolve(&config::Flags::default(), &|_| None).unwrap().plans
}

/// An engine's settings with secrets that are no secret.
fn of_engine() -> Settings {
    Settings::new([2; 32], [3; 16])
}

/// The ledger in a folder, as soon as whoever had it open has let go of it.
pub fn open(folder: &std::path::Path) -> SqliteLedger {
    loop {
        match SqliteLedger::open(folder) {
            Err(LedgerError::InUse { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// What decides durable rules, over a ledger that another start may have used.
#[derive(Debug)]
pub struct StartedRules {
    pub engine: Arc<DurableRuleEngine>,
    pub broker: LeaseBroker<DurableRuleEngine>,
}

impl StartedRules {
    pub fn over(ledger: Arc<dyn Ledger>, holder_id: u32, clock: Clock) -> Self {
        let holder = ledger.join(holder_id).unwrap();
        let book = BookSettings { lease: settings().lease, ..BookSettings::new(holder) };
        let engine = Arc::new(DurableRuleEngine::new(of_engine().hash_key, book));
        let thread = Arc::new(LedgerThread::start(ledger, 65_536).unwrap());
        let broker = LeaseBroker::new(Arc::clone(&engine), thread, holder, clock);
        Self { engine, broker }
    }

    /// With these settings, and a ledger in memory of their own.
    pub fn durable(clock: Clock, settings: &config::Plans) -> DurableRules {
        let Self { engine, broker } = Self::over(memory(), 1, clock);
        DurableRules::new(engine, broker, settings)
    }
}

/// An empty ledger.
pub fn memory() -> Arc<MemoryLedger> {
    Arc::new(MemoryLedger::new().unwrap())
}

/// Decisions of an empty catalog, over a ledger of their own.
pub fn empty(clock: Clock, metrics: &Metrics) -> Arc<Decisions> {
    let catalog = CatalogStore::new(HashKey([1; 32]), None);
    Arc::new(Started::over(memory(), 1, catalog, clock, settings()).decisions(metrics))
}

/// One start of what decides, over a ledger that another start may have used.
#[derive(Debug)]
pub struct Started {
    pub engine: Arc<PlanEngine>,
    pub catalog: Arc<CatalogStore>,
    pub broker: LeaseBroker,
    pub clock: Clock,
    pub settings: config::Plans,
}

impl Started {
    /// Joins the ledger, and takes over what it kept.
    pub fn over(
        ledger: Arc<dyn Ledger>,
        holder_id: u32,
        catalog: impl Into<Arc<CatalogStore>>,
        clock: Clock,
        settings: config::Plans,
    ) -> Self {
        let catalog = catalog.into();
        let holder = ledger.join(holder_id).unwrap();
        let own = Settings { holder, lease: settings.lease, ..of_engine() };
        let engine = Arc::new(PlanEngine::new(own.clone()));
        let thread = Arc::new(LedgerThread::start(ledger, 65_536).unwrap());
        let broker = LeaseBroker::new(engine.clone(), thread, holder, clock.clone())
            .keeping_operations(&Messages);
        // What durable rules have is another engine's.
        let durable = DurableRuleEngine::new(own.hash_key, BookSettings::new(holder));
        broker.restore(&**catalog.load(), &durable).unwrap();
        Self { engine, catalog, broker, clock, settings }
    }

    pub fn decisions(&self, metrics: &Metrics) -> Decisions {
        Decisions::new(
            self.engine.clone(),
            self.catalog.clone(),
            self.clock.clone(),
            self.settings.clone(),
            self.broker.clone(),
            metrics,
        )
    }

    pub fn grants(&self) -> Grants {
        let (engine, catalog) = (self.engine.clone(), self.catalog.clone());
        Grants::new(engine, catalog, self.broker.clone(), self.clock.clone(), &Messages)
    }
}
