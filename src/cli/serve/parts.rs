//! The parts of a server, made from its settings and handed to each other.

use std::sync::Arc;

use super::absolute;
use super::shared;
use super::timekeeping::Timekeeping;
use super::waiting::Waiting;
use crate::access::Access;
use crate::catalog::{CatalogStore, HashKey};
use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::{Config, DataDir, GrpcServer};
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::leases::BookSettings;
use crate::engine::plans::{Need, PlanEngine, Settings};
use crate::engine::rules::RuleEngine;
use crate::grpc::overload::Overload;
use crate::grpc::ratelimit::RateLimiter;
use crate::grpc::stored::Messages;
use crate::ledger::{
    Holder, Ledger, LedgerError, LedgerThread, MemoryLedger, Promise, Secrets, SqliteLedger,
};
use crate::metrics::Metrics;
use crate::rulebook::Rulebook;
use crate::service::catalog_storage::CatalogStorage;
use crate::service::decisions::Decisions;
use crate::service::durable_rules::DurableRules;
use crate::service::edits::Edits;
use crate::service::grants::Grants;
use crate::service::lease_broker::LeaseBroker;
use crate::service::rate_limits::{self, RateLimits};
use crate::service::usage::Usage;
use crate::service::windows::WindowKeeper;
use crate::tls::Tls;

pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) time: Timekeeping,
    pub(super) access: Option<Arc<Access>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) rule_engine: Arc<RuleEngine>,
    pub(super) windows: Arc<WindowKeeper>,
    pub(super) catalog: Arc<CatalogStore>,
    /// What every door to the plans and their books goes through.
    pub(super) edits: Edits,
    pub(super) usage: Arc<Usage>,
    pub(super) grants: Grants,
    pub(super) plan_engine: Arc<PlanEngine>,
    pub(super) decisions: Arc<Decisions>,
    pub(super) broker: LeaseBroker,
    /// Counters of durable rules.
    pub(super) durable_engine: Arc<DurableRuleEngine>,
    pub(super) durable_broker: LeaseBroker<DurableRuleEngine>,
    /// What to lease before anyone asks.
    pub(super) warm: Vec<Need>,
    pub(super) ledger: Arc<LedgerThread>,
    pub(super) limiter: RateLimiter,
    pub(super) overload: Arc<Overload>,
}

impl Parts {
    pub(super) fn assemble(config: &Config, waiting: &Waiting) -> Result<Self, Failure> {
        let metrics = Arc::new(Metrics::with_labels(config.reach.metrics_labels.clone()));
        let clock = Clock::system();
        let reach = &config.reach;
        let certificates = reach.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let open = |path| {
            Access::open(path, &metrics)
                .map(|access| Arc::new(access.asking_for_certificates(certificates)))
        };
        let access = reach.tokens_file.as_deref().map(open).transpose();
        let access = access.map_err(Failure::unusable)?;
        let tls = reach
            .tls
            .clone()
            .map(|files| Tls::open(files, &metrics).map(Arc::new))
            .transpose()
            .map_err(Failure::unusable)?;
        let rulebook = Arc::new(
            Rulebook::open(config.rules.clone(), metrics.clone()).map_err(Failure::unusable)?,
        );
        // What the operator can have got wrong is looked at by now: a mistake stands alone in the
        // log.
        let data = match (&config.shared, &config.data_dir) {
            (Some(shared), _) => shared.postgres.shown(),
            (None, DataDir::Memory) => ":memory:".to_owned(),
            (None, DataDir::Path(folder)) => absolute(folder),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            data,
            "tollgate starts"
        );
        let (ledger, secrets, holder) = open_ledger(config, &clock, waiting)?;
        let time = Timekeeping::start(&ledger, clock.now(), &metrics).map_err(unopened)?;
        let rule_engine = Arc::new(rule_engine(config, &secrets)?);
        let windows = restore_windows(&rule_engine, &ledger, holder, &clock, &metrics)?;
        let settings = Settings {
            holder,
            receipts_ttl_ns: config.plans.receipts_ttl_ns,
            max_operations: config.max_operations,
            lease: config.plans.lease,
            ..Settings::new(secrets.receipt_key, secrets.fingerprint)
        };
        let durable = BookSettings {
            max_entries: config.max_windows,
            lease: config.plans.lease,
            ..BookSettings::new(holder)
        };
        let plan_engine = Arc::new(PlanEngine::new(settings));
        let broker = LeaseBroker::new(plan_engine.clone(), ledger.clone(), holder, clock.clone())
            .keeping_operations(&Messages);
        let durable_engine = Arc::new(DurableRuleEngine::new(secrets.fingerprint, durable));
        let durable_broker =
            LeaseBroker::new(durable_engine.clone(), ledger.clone(), holder, clock.clone());
        let keeper = Arc::new(CatalogStorage::new(ledger.clone(), broker.clone(), &Messages));
        let catalog = CatalogStore::kept(HashKey(secrets.key_hash), config.plans.account, keeper);
        let catalog = Arc::new(catalog.map_err(Failure::unusable)?);
        let warm = broker.restore(&**catalog.load(), &durable_engine).map_err(unopened)?;
        tracing::info!(
            revision = catalog.load().revision(),
            counters = plan_engine.leases().live_entries(),
            promise = ledger.ledger().promise().map(Promise::word),
            "the ledger is open"
        );
        let decisions = Decisions::new(
            plan_engine.clone(),
            catalog.clone(),
            clock.clone(),
            config.plans.clone(),
            broker.clone(),
            &metrics,
        );
        let decisions = Arc::new(decisions);
        let limits = RateLimits::new(rate_limits::Parts {
            engine: rule_engine.clone(),
            rulebook: rulebook.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            decisions: decisions.clone(),
            durable: DurableRules::new(
                durable_engine.clone(),
                durable_broker.clone(),
                &config.plans,
            ),
            settings: config.rate_limit.clone(),
            bounds: config.grpc,
        });
        let limiter = RateLimiter(Arc::new(limits));
        let edits = Edits::new(catalog.clone(), clock.clone());
        let usage = Arc::new(Usage::new(
            plan_engine.clone(),
            catalog.clone(),
            broker.clone(),
            clock.clone(),
        ));
        let grants = Grants::new(
            plan_engine.clone(),
            catalog.clone(),
            broker.clone(),
            clock.clone(),
            &Messages,
        );
        Ok(Self {
            edits,
            usage,
            grants,
            metrics,
            clock,
            time,
            access,
            tls,
            rulebook,
            rule_engine,
            windows,
            catalog,
            plan_engine,
            decisions,
            broker,
            durable_engine,
            durable_broker,
            warm,
            ledger,
            limiter,
            overload: Arc::new(overload(&config.grpc_server)),
        })
    }
}

fn overload(settings: &GrpcServer) -> Overload {
    Overload::new(settings.max_lag)
        .holding(settings.max_pending_bytes)
        .calming(settings.max_control_frames)
}

/// The one holder of a ledger that nobody shares.
const HOLDER: u32 = 1;
/// Operations that may wait for the ledger's thread.
const MAX_WAITING: usize = 65_536;

/// Where there is no file, nothing survives.
fn rule_engine(config: &Config, secrets: &Secrets) -> Result<RuleEngine, Failure> {
    match &config.data_dir {
        DataDir::Memory if config.shared.is_none() => {
            RuleEngine::new(config.max_counters).map_err(Failure::failed)
        }
        _ => Ok(RuleEngine::kept(config.max_counters, config.max_windows, &secrets.fingerprint)),
    }
}

fn restore_windows(
    engine: &Arc<RuleEngine>,
    ledger: &Arc<LedgerThread>,
    holder: Holder,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Arc<WindowKeeper>, Failure> {
    let keeper = WindowKeeper::new(engine.clone(), ledger.clone(), holder, metrics);
    let taken = keeper.restore(clock).map_err(unopened)?;
    if taken.without_room > 0 {
        tracing::warn!(
            windows = taken.without_room,
            "windows of rules did not fit in memory, and start from zero: engine.max_counters is lower than it was"
        );
    }
    tracing::info!(windows = taken.windows, "windows of rules go on");
    Ok(Arc::new(keeper))
}

fn open_ledger(
    config: &Config,
    clock: &Clock,
    waiting: &Waiting,
) -> Result<(Arc<LedgerThread>, Secrets, Holder), Failure> {
    let mut id = HOLDER;
    let ledger: Arc<dyn Ledger> = match (&config.shared, &config.data_dir) {
        (Some(shared), _) => {
            let (ledger, own) = shared::open(shared, clock, waiting).map_err(unopened)?;
            id = own;
            Arc::new(ledger)
        }
        (None, DataDir::Memory) => Arc::new(MemoryLedger::new().map_err(Failure::failed)?),
        (None, DataDir::Path(folder)) => {
            let open = if config.ledger_must_exist {
                SqliteLedger::open_existing
            } else {
                SqliteLedger::open
            };
            Arc::new(open(folder).map_err(unopened)?)
        }
    };
    let secrets = ledger.secrets().map_err(unopened)?;
    let holder = ledger.join(id).map_err(unopened)?;
    let thread = LedgerThread::start(ledger, MAX_WAITING).map_err(Failure::failed)?;
    Ok((Arc::new(thread), secrets, holder))
}

/// A file that is not a ledger of this version is unusable however often it is tried; what else is
/// wrong may pass.
pub(in crate::cli) fn unopened(error: LedgerError) -> Failure {
    match error {
        LedgerError::Damaged { .. }
        | LedgerError::Row { .. }
        | LedgerError::Foreign { .. }
        | LedgerError::Newer { .. }
        | LedgerError::WentBack { .. } => Failure::unusable(error),
        error => Failure::failed(error),
    }
}
