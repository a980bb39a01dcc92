//! A start with much to take over: the real binary on a folder that was filled before.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tollgate::catalog::{CatalogStore, HashKey};
use tollgate::clock::Clock;
use tollgate::decide::outcome::CountRule;
use tollgate::decide::plan::Id;
use tollgate::engine::plans::{PlanEngine, Settings};
use tollgate::ledger::{Counter, CounterIdentity, LeaseRequest, Ledger, LedgerThread, Operation};
use tollgate::service::catalog_storage::CatalogStorage;
use tollgate::service::lease_broker::LeaseBroker;

use crate::declare;
use crate::figures::{median, resident};
use crate::measure::{mib, size_of};
use crate::site::{Time, folder, open};
use crate::storm::{TEN, ten_counters};
use crate::{Row, Scale};

const STARTS: usize = 5;

pub fn start(scale: Scale, rows: &mut Vec<Row>) {
    let subscribers = scale.of(100_000, 10_000);
    let folder = folder();
    fill(folder.path(), subscribers);
    let (mut ready, mut memory, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let before = Instant::now();
        let mut server = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args([
                "serve",
                "--grpc-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(folder.path())
            .env("TOLLGATE_LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready_s = before.elapsed().as_secs_f64();
        let is_ready = line.starts_with("tollgate ready");
        if is_ready {
            ready.push(ready_s);
            memory.push(resident(&server.id().to_string()));
        }
        let before = Instant::now();
        // It may have ended by itself: then there is no ready line, and the wait says how.
        let _ = kill_process(Pid::from_child(&server), Signal::TERM);
        let ended = server.wait().unwrap();
        assert!(is_ready && ended.success(), "the server printed {line:?} and ended with {ended}");
        stopped.push(before.elapsed().as_secs_f64());
    }
    let what = format!(
        "start with {} live counters and {subscribers} API keys: time to ready",
        subscribers * TEN.len()
    );
    let least = ready.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ready.iter().copied().fold(0.0, f64::max);
    let measured = format!(
        "{:.2} s ({least:.2} to {most:.2}); file {}; resident {}; stop {:.2} s",
        median(&ready),
        mib(size_of(folder.path())),
        mib(median(&memory)),
        median(&stopped)
    );
    rows.push(Row::new(&what, measured, "< 3 s"));
}

/// A catalog of so many subscribers, and ten counters of each in a running period.
fn fill(folder: &Path, subscribers: usize) {
    let ledger = open(folder);
    let secrets = ledger.secrets().unwrap();
    let holder = ledger.join(1).unwrap();
    let time = Time::of_the_machine();
    let now = time.now();
    let thread = Arc::new(LedgerThread::start(ledger.clone(), 16).unwrap());
    let engine = Arc::new(PlanEngine::new(Settings::new(secrets.receipt_key, secrets.fingerprint)));
    let broker =
        LeaseBroker::new(engine, thread.clone(), holder, Clock::from_fn(move || time.now()));
    let catalog = CatalogStore::kept(
        HashKey(secrets.key_hash),
        None,
        Arc::new(CatalogStorage::new(thread, broker, &tollgate::grpc::stored::Messages)),
    )
    .unwrap();
    declare::apply(&catalog, &declare::declare(&ten_counters(1_000_000), subscribers), now);

    let snapshot = catalog.snapshot();
    let revision = snapshot.revision();
    let plan = Id::from("gold");
    let entitlements = &snapshot.plans().get(&plan).unwrap().value.entitlements;
    let places = (0..subscribers)
        .flat_map(|number| entitlements.iter().map(move |entitlement| (number, entitlement)));
    let operations = places.map(|(number, entitlement)| {
        let quota = &entitlement.quotas[0];
        let period = quota.calendar.period(now.unix_ns);
        Operation::Lease(LeaseRequest {
            counter: Counter::Named(CounterIdentity {
                subscriber: Id::from(declare::subscriber_id(number)),
                key: None,
                plan: plan.clone(),
                entitlement: entitlement.name.clone(),
                quota: quota.identity.clone(),
            }),
            count_rule: CountRule::DEFAULT,
            period,
            holder,
            want: 100,
            spent: 90,
            limit: quota.limit,
            may_pass: false,
            revision,
            now_s: now.unix_s() - (number as u64 % 10_000),
        })
    });
    commit(&*ledger, operations);
}

fn commit(ledger: &dyn Ledger, operations: impl Iterator<Item = Operation>) {
    let mut operations = operations.peekable();
    while operations.peek().is_some() {
        let group: Vec<Operation> = operations.by_ref().take(50_000).collect();
        ledger.commit(&group).unwrap();
        ledger.tidy().unwrap();
    }
}
