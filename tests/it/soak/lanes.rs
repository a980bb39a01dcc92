//! The callers of the soak: connections that ask, each kind in its own way, as fast as it goes or
//! at a rate that does not wait for answers.

mod reports;
mod streams;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::{CheckRequest, Verdict};
use tollgate::grpc::wire::{Code, Descriptor, Entry, RateLimitRequest};
use tonic::Status;
use tonic::transport::Channel;

pub use self::reports::Reports;
use super::log::{Receipt, Tally};
use super::world::{Caller, RULES, TARGETS};

/// Callers on one connection that wait for each answer.
const WORKERS: usize = 16;
/// Of a check, in units.
pub const LARGEST_COST: u64 = 4;
/// After an error.
const PAUSE: Duration = Duration::from_millis(20);

/// What the server is about to do, as those hear of it who hold streams open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serve; a number of its own after each start.
    Serve(u32),
    Stop,
    /// The soak ends.
    Over,
}

/// Is the server stopping or starting?
#[derive(Debug, Default)]
pub struct Stops {
    under_way: AtomicBool,
    begun: AtomicU64,
}

impl Stops {
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.under_way.store(true, Ordering::SeqCst);
    }

    pub fn end(&self) {
        self.under_way.store(false, Ordering::SeqCst);
    }

    /// Where a call begins.
    fn look(&self) -> (bool, u64) {
        (self.under_way.load(Ordering::SeqCst), self.begun.load(Ordering::SeqCst))
    }

    /// Where it ends: was there a stop meanwhile?
    fn meanwhile(&self, (under_way, begun): (bool, u64)) -> bool {
        under_way || self.look() != (false, begun)
    }
}

/// When the next thing is asked.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    /// `None`: at once.
    per_second: Option<f64>,
    taken: AtomicU64,
}

impl Pace {
    pub fn unbounded() -> Self {
        Self { start: Instant::now(), per_second: None, taken: AtomicU64::new(0) }
    }

    pub fn of(per_second: f64) -> Self {
        Self { per_second: Some(per_second), ..Self::unbounded() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Streams,
    Checks,
    Rules,
    Reports,
}

impl What {
    /// In one turn.
    pub fn decisions(self) -> f64 {
        match self {
            Self::Streams => streams::BATCH as f64,
            Self::Checks | Self::Rules => 1.0,
            Self::Reports => 0.0,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Lane {
    pub what: What,
    callers: Arc<[Caller]>,
    channel: Channel,
    pace: ArcSwap<Pace>,
    /// Turns taken.
    pub done: AtomicU64,
    /// Turns that were given up because the one before could not be taken in time.
    pub skipped: AtomicU64,
    pub tally: Mutex<Tally>,
    random: Mutex<Random>,
    reports: Arc<Reports>,
    stops: Arc<Stops>,
}

impl Lane {
    pub fn new(
        what: What,
        callers: Arc<[Caller]>,
        channel: Channel,
        reports: Arc<Reports>,
        stops: Arc<Stops>,
        seed: u64,
    ) -> Self {
        Self {
            what,
            callers,
            channel,
            pace: ArcSwap::from_pointee(Pace::unbounded()),
            done: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            tally: Mutex::default(),
            random: Mutex::new(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
            reports,
            stops,
        }
    }

    pub fn set_pace(&self, pace: Pace) {
        self.pace.store(Arc::new(pace));
    }

    /// Starts to ask, until the phase is [`Phase::Over`], and all is reported where it reports.
    pub fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>, phase: &watch::Receiver<Phase>) {
        match self.what {
            What::Streams => {
                tasks.spawn(streams::ask(self.clone(), phase.clone()));
            }
            What::Checks => {
                (0..WORKERS).for_each(|_| drop(tasks.spawn(check(self.clone(), phase.clone()))))
            }
            What::Rules => {
                (0..WORKERS).for_each(|_| drop(tasks.spawn(ask_rules(self.clone(), phase.clone()))))
            }
            What::Reports => (0..4).for_each(|_| drop(tasks.spawn(reports::send(self.clone())))),
        }
    }

    /// Waits for the next turn. The instant is the one from which it counts: when it was due, where
    /// it was not waited for.
    async fn turn(&self) -> Instant {
        let pace = self.pace.load_full();
        self.done.fetch_add(1, Ordering::Relaxed);
        let Some(per_second) = pace.per_second else { return Instant::now() };
        let taken = pace.taken.fetch_add(1, Ordering::Relaxed);
        let due = pace.start + Duration::from_secs_f64(taken as f64 / per_second);
        let now = Instant::now();
        if due > now {
            tokio::time::sleep_until(due.into()).await;
            return Instant::now();
        }
        let late = (now - due).as_secs_f64() - 1.0;
        if late > 0.0 {
            // Nobody asks for what is long past: a stop takes its time.
            let skipped = (late * per_second) as u64;
            pace.taken.fetch_add(skipped, Ordering::Relaxed);
            self.skipped.fetch_add(skipped, Ordering::Relaxed);
        }
        due
    }

    /// Someone, and a cost.
    fn pick(&self, random: &mut Random) -> (u32, u64) {
        let caller = random.below(self.callers.len() as u64) as u32;
        (caller, if random.below(8) == 0 { 1 + random.below(LARGEST_COST) } else { 1 })
    }

    /// What was said to one check that was sent at `asked_us`.
    fn decided(
        &self,
        tally: &mut Tally,
        caller: u32,
        cost: u64,
        verdict: (Verdict, i32, String),
        asked_us: u64,
    ) {
        tally.decisions += 1;
        let (verdict, reason, text) = verdict;
        if verdict != Verdict::Allow {
            *tally.refused.entry((caller, reason)).or_default() += 1;
            return;
        }
        let kind = self.callers[caller as usize].kind();
        let receipt = Receipt::read(&text);
        assert_eq!(
            (receipt.cost, receipt.charges.len()),
            (cost, kind.quotas.len()),
            "{receipt:?} for {}",
            kind.plan
        );
        let (earliest_us, latest_us) = (asked_us - 1_000_000, unix_us() + 1_000_000);
        assert!(
            (earliest_us..=latest_us).contains(&receipt.issued_us),
            "{receipt:?} between {earliest_us} and {latest_us}"
        );
        for (charged, quota) in receipt.charges.iter().zip(kind.quotas) {
            assert_eq!(charged.at_report, quota.at_report, "{} {}", kind.plan, quota.name);
        }
        tally.admit(caller, &receipt);
        let random = &mut self.random.lock().unwrap();
        if random.below(4) == 0 {
            self.reports.want(caller, text.into(), receipt, random);
        }
    }

    fn failed(&self, status: &Status, began: (bool, u64)) {
        let stopping = self.stops.meanwhile(began);
        if !stopping {
            println!("{:?}: {status}", self.what);
        }
        self.tally.lock().unwrap().fail(status.code(), stopping);
    }
}

/// Single checks, each answered before the next of this worker.
async fn check(lane: Arc<Lane>, phase: watch::Receiver<Phase>) {
    let mut client = DecisionServiceClient::new(lane.channel.clone());
    while *phase.borrow() != Phase::Over {
        let since = lane.turn().await;
        let (caller, cost) = lane.pick(&mut lane.random.lock().unwrap());
        let request = CheckRequest {
            api_key: lane.callers[caller as usize].value.clone(),
            target: TARGETS[caller as usize % 2].to_owned(),
            cost: (cost > 1).then_some(cost),
            ..CheckRequest::default()
        };
        let (asked_us, began) = (unix_us(), lane.stops.look());
        match client.check(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let tally = &mut *lane.tally.lock().unwrap();
                tally.latency.record(nanos(since)).unwrap();
                lane.decided(
                    tally,
                    caller,
                    cost,
                    (answer.verdict(), answer.reason, answer.receipt),
                    asked_us,
                );
            }
            Err(status) => {
                lane.failed(&status, began);
                *lane.tally.lock().unwrap().unknown.entry(caller).or_default() += cost;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Single requests of the rate limit service.
async fn ask_rules(lane: Arc<Lane>, phase: watch::Receiver<Phase>) {
    let mut client = RateLimitServiceClient::new(lane.channel.clone());
    while *phase.borrow() != Phase::Over {
        let since = lane.turn().await;
        let (rule, value) = {
            let random = &mut lane.random.lock().unwrap();
            let rule = random.below(RULES.len() as u64) as usize;
            (rule, random.below(RULES[rule].1))
        };
        let entry = Entry {
            key: Bytes::from_static(RULES[rule].0.as_bytes()),
            value: Bytes::from(value.to_string()),
        };
        let descriptors = vec![Descriptor { entries: vec![entry], ..Descriptor::default() }];
        let request =
            RateLimitRequest { domain: Bytes::from_static(b"soak"), descriptors, hits_addend: 0 };
        let began = lane.stops.look();
        match client.should_rate_limit(request).await {
            Ok(answer) => {
                let passes = answer.into_inner().overall_code == i32::from(Code::Ok);
                let tally = &mut *lane.tally.lock().unwrap();
                tally.latency.record(nanos(since)).unwrap();
                tally.decisions += 1;
                let (passed, refused) = &mut tally.rules[rule];
                *(if passes { passed } else { refused }) += 1;
            }
            Err(status) => {
                lane.failed(&status, began);
                lane.tally.lock().unwrap().unknown_rules += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// Numbers that look random, the same ones for the same seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
