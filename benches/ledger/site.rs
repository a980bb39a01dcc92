//! The parts of a server that decide by plans, in this process, over a real file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollgate::catalog::{CatalogStore, HashKey};
use tollgate::clock::Clock;
use tollgate::config::{Config, Flags};
use tollgate::decide::outcome::Outcome;
use tollgate::decide::time::Now;
use tollgate::engine::plans::{
    CheckInput, PlanEngine, Report, ReportSubject, Settings, Settlement,
};
use tollgate::ledger::{Expire, Ledger, LedgerError, LedgerThread, MemoryLedger, SqliteLedger};
use tollgate::metrics::Metrics;
use tollgate::service::decisions::Decisions;
use tollgate::service::lease_broker::LeaseBroker;

use crate::declare;

/// As a server starts its ledger.
const MAX_WAITING: usize = 65_536;

pub struct Site {
    pub plans: Arc<Decisions>,
    pub engine: Arc<PlanEngine>,
    pub ledger: Arc<LedgerThread>,
    pub broker: LeaseBroker,
    pub time: Time,
    pub folder: TempDir,
}

/// The clocks of the machine, which can be set ahead.
#[derive(Clone)]
pub struct Time {
    start: Instant,
    start_unix_ns: u64,
    ahead_ns: Arc<AtomicU64>,
}

impl Time {
    pub fn new(start_unix_ns: u64) -> Self {
        Self { start: Instant::now(), start_unix_ns, ahead_ns: Arc::default() }
    }

    pub fn of_the_machine() -> Self {
        Self::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
    }

    pub fn now(&self) -> Now {
        let passed_ns =
            self.start.elapsed().as_nanos() as u64 + self.ahead_ns.load(Ordering::Relaxed);
        Now { unix_ns: self.start_unix_ns + passed_ns, steady_ns: 1 + passed_ns }
    }

    /// Both clocks go to a later moment at once.
    pub fn skip_to(&self, unix_ns: u64) {
        let ahead_ns = unix_ns.saturating_sub(self.now().unix_ns);
        self.ahead_ns.fetch_add(ahead_ns, Ordering::Relaxed);
    }
}

/// In the target folder, so that it is on the disk and not in memory.
pub fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("bench-ledger-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
}

pub fn open(folder: &Path) -> Arc<dyn Ledger> {
    Arc::new(SqliteLedger::open(folder).unwrap())
}

impl Site {
    /// A site with so many subscribers of the plans of a file, and its ledger in a file.
    pub fn start(file: &str, subscribers: usize, time: Time) -> Self {
        let folder = folder();
        let ledger = open(folder.path());
        Self::over(ledger, folder, file, subscribers, time)
    }

    /// The same, with its ledger in memory.
    pub fn in_memory(file: &str, subscribers: usize, time: Time) -> Self {
        Self::over(Arc::new(MemoryLedger::new().unwrap()), folder(), file, subscribers, time)
    }

    fn over(
        ledger: Arc<dyn Ledger>,
        folder: TempDir,
        file: &str,
        subscribers: usize,
        time: Time,
    ) -> Self {
        let config = Config::resolve(&Flags::default(), &|_| None).unwrap();
        let clock = Clock::from_fn({
            let time = time.clone();
            move || time.now()
        });
        let secrets = ledger.secrets().unwrap();
        let holder = ledger.join(1).unwrap();
        let settings = Settings {
            holder,
            lease: config.plans.lease,
            ..Settings::new(secrets.receipt_key, secrets.fingerprint)
        };
        let engine = Arc::new(PlanEngine::new(settings));
        let ledger = Arc::new(LedgerThread::start(ledger, MAX_WAITING).unwrap());
        let broker = LeaseBroker::new(engine.clone(), ledger.clone(), holder, clock.clone());
        let catalog = Arc::new(CatalogStore::new(HashKey(secrets.key_hash), None));
        declare::apply(&catalog, &declare::declare(file, subscribers), time.now());
        let plans = Arc::new(Decisions::new(
            engine.clone(),
            catalog,
            clock,
            config.plans,
            broker.clone(),
            &Metrics::new(),
        ));
        Self { plans, engine, ledger, broker, time, folder }
    }

    pub fn ledger(&self) -> &LedgerThread {
        &self.ledger
    }

    /// Gathers what is wanted ahead of use, as a server does, until the runtime ends.
    pub fn gather(&self, runtime: &Runtime) {
        let broker = self.broker.clone();
        runtime.spawn(async move { broker.gather().await });
    }

    /// One check of each of `keys`, all answered when this returns: their counters are warm then.
    pub fn warm(&self, runtime: &Runtime, keys: &[String], target: &'static str) {
        self.gather(runtime);
        for some in keys.chunks(4096) {
            let calls: Vec<_> = some
                .iter()
                .map(|key| runtime.spawn(admitted(self.plans.clone(), key.clone(), target)))
                .collect();
            for call in calls {
                runtime.block_on(call).unwrap();
            }
        }
        self.settle_down();
    }

    /// Waits until nothing waits for the ledger.
    pub fn settle_down(&self) {
        // An operation of no effect comes behind all that wait. While too many wait, it is not
        // taken.
        while let Err(wrong) = self.ledger.call(Expire::default()) {
            assert_eq!(wrong, LedgerError::Busy);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One check: the receipt where it was admitted.
pub async fn check(
    plans: Arc<Decisions>,
    key: String,
    target: &'static str,
) -> Option<Option<String>> {
    ask(&plans, &key, target).await
}

/// Checks until it is admitted: a ledger that is slow for a moment is not what is measured here.
/// Gives the receipt.
pub async fn admitted(plans: Arc<Decisions>, key: String, target: &'static str) -> Option<String> {
    until_admitted(&plans, &key, target).await
}

pub async fn until_admitted(plans: &Decisions, key: &str, target: &str) -> Option<String> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        if let Some(receipt) = ask(plans, key, target).await {
            return receipt;
        }
    }
    panic!("a check was refused {TRIES} times");
}

pub async fn ask(plans: &Decisions, key: &str, target: &str) -> Option<Option<String>> {
    let request = CheckInput {
        api_key: key.as_bytes(),
        target,
        method: b"GET",
        path: b"/orders/17",
        cost: None,
        operation_id: b"",
    };
    let answer = |decision: &tollgate::decide::verdict::Decision<'_>| {
        decision.verdict.is_allowed().then(|| decision.receipt.clone())
    };
    plans.check(&request, Some(Duration::from_secs(10)), answer).await.unwrap()
}

/// Reports a 503.
pub async fn report_failure(plans: Arc<Decisions>, receipt: String) -> Settlement {
    let report = Report {
        subject: ReportSubject::Receipt(receipt.as_bytes()),
        outcome: Outcome::http(503),
        cost: None,
    };
    plans.settle(&report).await.unwrap()
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// `per_second` calls a second for so many, each started when it is due, however long others take.
/// Gives their times from when they were due.
pub fn open_loop<F>(
    runtime: &Runtime,
    per_second: f64,
    calls: usize,
    mut call: impl FnMut(usize) -> F,
) -> Vec<(Duration, bool)>
where
    F: Future<Output = bool> + Send + 'static,
{
    let start = Instant::now();
    let due = |number: usize| start + Duration::from_secs_f64(number as f64 / per_second);
    let mut running = Vec::with_capacity(calls);
    for number in 0..calls {
        let due = due(number);
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        let call = call(number);
        running.push(runtime.spawn(async move {
            let admitted = call.await;
            (due.elapsed(), admitted)
        }));
    }
    running.into_iter().map(|call| runtime.block_on(call).unwrap()).collect()
}
