//! What is measured: everything that decides by a key.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tollgate::catalog::{Caller, CatalogStore, Declared, HashKey, Recent, Room};
use tollgate::clock::Clock;
use tollgate::decide::gcra::RateLimit;
use tollgate::decide::ledger::{Balance, CounterId, Lease};
use tollgate::decide::plan::Id;
use tollgate::decide::time::{Now, SECOND_NS};
use tollgate::decide::verdict::{Decision, Reason};
use tollgate::engine::plans::{CheckInput, EntryHandle, PlanEngine, Settings, Shortage};
use tollgate::engine::rules::decision::{Descriptor, Modes};
use tollgate::engine::rules::{Budget, Mode, RuleEngine};
use tollgate::rules::{LoadOptions, RuleSet, Source, load};

use crate::declare;

const START: Now = Now { unix_ns: 1_795_341_600 * SECOND_NS, steady_ns: SECOND_NS };

/// More than is ever taken, so that nothing is refused, however far apart the clocks of threads
/// are.
const BURST: u32 = 1_000_000_000;

/// Decides, and is admitted: what refuses is another way through the code. A key is a `String`,
/// because `governor` looks keys up by a reference to what it keeps.
#[allow(clippy::ptr_arg)]
pub trait Decides: Sync {
    fn decide(&self, key: &String);

    /// Lets go of what somebody writes down each second.
    fn write_behind(&self) {}

    /// Two minutes pass, and what is over is swept.
    fn pass(&self) {}
}

/// Where the time of a decision comes from.
#[derive(Clone, Copy)]
pub enum Clocks {
    /// It costs next to nothing: what is compared is the decision.
    Given,
    /// One reading for each decision.
    Read,
}

type Make = fn(usize, Clocks) -> Box<dyn Decides>;

pub const RULE_BUCKET: Make = |_, clocks| Rule::boxed(Budget::Bucket(bucket()), clocks);
pub const GOVERNOR: Make = |keys, clocks| match clocks {
    Clocks::Given => Governed::boxed(keys, Ticks),
    Clocks::Read => Governed::boxed(keys, governor::clock::DefaultClock::default()),
};
pub const PLAN_RATE: Make =
    |keys, _| Plan::boxed("rateLimit: {requestsPerSecond: 1000000, burst: 1000000000}", keys);
/// As the server decides when a caller calls again.
pub const PLAN_RATE_AGAIN: Make =
    |keys, _| Plan::remembering("rateLimit: {requestsPerSecond: 1000000, burst: 1000000000}", keys);
pub const PLAN_FULL_AGAIN: Make = |keys, _| Plan::remembering(FULL, keys);
pub const PLAN_QUOTA: Make =
    |keys, _| Plan::boxed("quotas: [{name: monthly, limit: 9007199254740992, unit: MONTH}]", keys);
pub const PLAN_FULL: Make = |keys, _| Plan::boxed(FULL, keys);
const FULL: &str = "rateLimit: {requestsPerSecond: 1000000, burst: 1000000000}, methodRateLimits: [
    {method: GET, path: '/orders/{id}', requestsPerSecond: 1000000, burst: 1000000000, replacesGeneral: false}],
    quotas: [{name: daily, limit: 9007199254740992, unit: DAY}, {name: monthly, limit: 9007199254740992, unit: MONTH}]";
pub const PLAN_QUOTAS: Make = |keys, _| {
    let quota = |unit| format!("{{name: {unit}, limit: 9007199254740992, unit: {unit}}}");
    Plan::boxed(
        &format!("quotas: [{}]", ["HOUR", "DAY", "WEEK", "MONTH", "YEAR"].map(quota).join(", ")),
        keys,
    )
};
pub const DASH_MAP: Make = |_, _| Box::new(Bare(DashMap::new()));

/// By the names that they are shown by.
pub const ALL: [(&str, Make); 11] = [
    ("a bare DashMap: a number added", DASH_MAP),
    ("governor: a token bucket", GOVERNOR),
    ("rule: a token bucket", RULE_BUCKET),
    ("rule: a fixed window", |_, clocks| {
        Rule::boxed(Budget::Window { limit: u64::MAX, length_s: 31_536_000 }, clocks)
    }),
    ("plan: a rate", PLAN_RATE),
    ("plan: a rate, of a remembered caller", PLAN_RATE_AGAIN),
    ("plan: a quota with a lease, and its receipt", PLAN_QUOTA),
    ("plan: five quotas with leases, and the receipt", PLAN_QUOTAS),
    ("plan: a rate, a method's rate, two quotas, and the receipt", PLAN_FULL),
    ("plan: the same, of a remembered caller", PLAN_FULL_AGAIN),
    (IN_PERIODS, |keys, _| {
        Plan::boxed("quotas: [{name: minutely, limit: 9007199254740992, unit: MINUTE}]", keys)
    }),
];

/// What is called again in so many periods, one after another, when its memory is measured.
pub const IN_PERIODS: &str = "plan: a quota of a minute, called in ten of them";

fn bucket() -> RateLimit {
    RateLimit::new(1_000_000, SECOND_NS, BURST.into()).unwrap()
}

/// A clock that goes on by ten nanoseconds at each reading, for each thread its own.
#[derive(Clone, Debug)]
struct Ticks;

thread_local! {
    static TICKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn tick() -> u64 {
    TICKS.with(|ticks| {
        ticks.set(ticks.get() + 10);
        ticks.get()
    })
}

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(tick())
    }
}

fn given() -> Now {
    let passed_ns = tick();
    Now {
        unix_ns: START.unix_ns + passed_ns % (3600 * SECOND_NS),
        steady_ns: START.steady_ns + passed_ns,
    }
}

struct Rule {
    engine: RuleEngine,
    budget: Budget,
    clock: Option<Clock>,
}

impl Rule {
    fn boxed(budget: Budget, clocks: Clocks) -> Box<dyn Decides> {
        let clock = matches!(clocks, Clocks::Read).then(Clock::system);
        Box::new(Self { engine: RuleEngine::new(usize::MAX).unwrap(), budget, clock })
    }
}

impl Decides for Rule {
    fn decide(&self, key: &String) {
        let now = self.clock.as_ref().map_or_else(given, Clock::now);
        let mut identity = self.engine.identity(b"domain");
        identity.level(&[b"api_key", b"_", key.as_bytes()], b"api_key");
        let standings =
            self.engine.charge(&[identity.ask(self.budget, 1, false)], Mode::Each, now, |_| false);
        assert!(standings.iter().all(|standing| !standing.over));
    }
}

type Keyed<C> = RateLimiter<
    String,
    DashMapStateStore<String>,
    C,
    NoOpMiddleware<<C as governor::clock::Clock>::Instant>,
>;

struct Governed<C: governor::clock::Clock>(Keyed<C>);

impl<C: governor::clock::Clock + Send + Sync + 'static> Governed<C>
where
    C::Instant: Send + Sync,
{
    fn boxed(_keys: usize, clock: C) -> Box<dyn Decides> {
        let quota = Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap())
            .allow_burst(NonZeroU32::new(4 * BURST).unwrap());
        Box::new(Self(RateLimiter::dashmap_with_clock(quota, clock)))
    }
}

impl<C: governor::clock::Clock + Send + Sync> Decides for Governed<C>
where
    C::Instant: Send + Sync,
{
    fn decide(&self, key: &String) {
        assert!(self.0.check_key(key).is_ok());
    }
}

struct Bare(DashMap<String, u64>);

impl Decides for Bare {
    fn decide(&self, key: &String) {
        if let Some(mut number) = self.0.get_mut(key) {
            *number += 1;
            return;
        }
        self.0.insert(key.to_owned(), 0);
    }
}

/// A whole check by usage plans, with the catalog's look-ups. Leases come at once, from nobody.
struct Plan {
    engine: PlanEngine,
    catalog: CatalogStore,
    /// Each thread's own. None: every caller is looked up.
    recent: Vec<Mutex<Recent<EntryHandle>>>,
    /// How far its clock is ahead of the others.
    passed_s: AtomicU64,
}

thread_local! {
    static THREAD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed)
    };
}

impl Plan {
    fn boxed(limits: &str, keys: usize) -> Box<dyn Decides> {
        Box::new(Self::new(limits, keys))
    }

    fn remembering(limits: &str, keys: usize) -> Box<dyn Decides> {
        let plan = Self::new(limits, keys);
        let room = Room::default();
        let recent = (0..64).map(|_| Mutex::new(plan.catalog.recent(&room))).collect();
        Box::new(Self { recent, ..plan })
    }

    fn new(limits: &str, keys: usize) -> Self {
        let file = format!(
            "plans: [{{id: gold, entitlements: [{{name: all, targets: [orders], {limits}}}]}}]"
        );
        let catalog = CatalogStore::new(HashKey([7; 32]), None);
        apply_in_steps(&catalog, &file, keys);
        let engine = PlanEngine::new(Settings::new([7; 32], [9; 16]));
        Self { engine, catalog, recent: Vec::new(), passed_s: AtomicU64::new(0) }
    }

    fn now(&self) -> Now {
        let (now, passed_ns) = (given(), self.passed_s.load(Ordering::Relaxed) * SECOND_NS);
        Now { unix_ns: now.unix_ns + passed_ns, steady_ns: now.steady_ns + passed_ns }
    }
}

/// Makes a catalog hold what a file declares and its subscribers, step by step: what a large edit
/// needs meanwhile would be in the place of what is measured after it.
fn apply_in_steps(catalog: &CatalogStore, file: &str, subscribers: usize) {
    const STEP: usize = 1_000;
    let declared = declare::declare(file, 0);
    declare::apply(catalog, &declared, START);
    let plans: Vec<Id> = declared.plans.iter().map(|plan| Id::clone(&plan.value.id)).collect();
    for from in (0..subscribers).step_by(STEP) {
        let subscribers = (from..subscribers.min(from + STEP))
            .map(|number| declare::subscriber(number, &plans))
            .collect();
        declare::apply(catalog, &Declared { subscribers, ..Declared::default() }, START);
    }
}

impl Plan {
    /// All that is left of the limit is leased at once: no more is asked for while it is measured.
    fn lease(&self, needs: Vec<tollgate::engine::plans::Need>, now: Now) {
        static COUNTERS: AtomicU64 = AtomicU64::new(1);
        for need in needs {
            let fresh = || CounterId(COUNTERS.fetch_add(1, Ordering::Relaxed));
            let counter = need.number.unwrap_or_else(fresh);
            let leased = need.limit / 2;
            let balance = Balance { charged: leased, ..Balance::default() };
            let lease = Lease { counter, rule: 0, leased, spent: need.spent, balance };
            self.engine.leases().apply_lease(&need, &lease, now);
        }
    }
}

impl Decides for Plan {
    fn write_behind(&self) {
        for taken in self.engine.take_unwritten_usage().parts(usize::MAX) {
            taken.changes().for_each(drop);
            self.engine.usage_written(taken);
        }
        self.engine.take_fresh_names(usize::MAX);
    }

    fn pass(&self) {
        self.passed_s.fetch_add(120, Ordering::Relaxed);
        loop {
            self.engine.sweep(self.now());
            let ended = self.engine.leases().take_ended();
            if ended.is_empty() {
                return;
            }
            ended.into_iter().for_each(|back| self.engine.leases().gave_back(back));
        }
    }

    fn decide(&self, key: &String) {
        let request = CheckInput {
            api_key: key.as_bytes(),
            target: "orders",
            method: b"GET",
            path: b"/orders/17",
            cost: None,
            operation_id: b"",
        };
        let now = self.now();
        let catalog = self.catalog.load();
        let mut recent = THREAD
            .with(|thread| self.recent.get(thread % self.recent.len().max(1)))
            .map(Mutex::lock);
        loop {
            let known = recent.as_mut().and_then(|recent| {
                let who = recent.who(request.api_key, request.target)?;
                recent.find(&catalog, who, (request.api_key, request.target), now)
            });
            let mut decision = Decision::refused(Reason::LedgerUnavailable, None);
            match self
                .engine
                .check_into(
                    &**catalog,
                    known.map(Caller::covered),
                    &request,
                    Shortage::Ask,
                    now,
                    &mut decision,
                )
                .unwrap()
            {
                None => return assert!(decision.verdict.is_allowed(), "{decision:?}"),
                Some(needs) => self.lease(needs, now),
            }
        }
    }
}

/// Rules beside each other, each for one value.
pub struct Rules {
    engine: RuleEngine,
    rules: RuleSet,
    values: Vec<String>,
}

impl Rules {
    pub fn of(many: usize) -> Self {
        let values: Vec<String> = (0..many).map(|number| format!("value-{number}")).collect();
        let rule = |value: &String| {
            format!(
                "- {{key: api_key, value: {value}, rate_limit: {{unit: second, requests_per_unit: 1000000000}}}}\n"
            )
        };
        let text =
            format!("domain: bench\ndescriptors:\n{}", values.iter().map(rule).collect::<String>());
        let loaded =
            load(&[Source { name: "bench.yaml".to_owned(), text }], &LoadOptions::default());
        Self { engine: RuleEngine::new(usize::MAX).unwrap(), rules: loaded.unwrap().rules, values }
    }

    pub fn decide(&self, number: usize) {
        let entry = (b"api_key".as_slice(), self.values[number].as_bytes());
        let descriptor = [Descriptor {
            entries: [entry].into_iter().collect(),
            limit_override: None,
            hits: 1,
            negative: false,
        }];
        let decision =
            self.engine.decide(&self.rules, b"bench", &descriptor, Modes::default(), given());
        assert!(!decision.over_limit);
    }
}
