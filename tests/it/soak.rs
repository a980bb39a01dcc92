//! The real server under steady load for as long as you like: at the end its books balance to the
//! unit, with what its callers were told.
//!
//! It first measures how much it can carry, then asks 70 % of that, whether answers come or not, by
//! checks in streams, single checks, rules and reports, while plans are edited, rules reloaded,
//! grants made, and the server is stopped and started. `TOLLGATE_SOAK_SECONDS` says how long (an
//! hour: `TOLLGATE_SOAK_SECONDS=3600 cargo test --release --test it soak -- --nocapture`); with
//! `TOLLGATE_SOAK_KILL=1` it is killed where it would be stopped, and the books are within the
//! bounds that hold then.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]

mod books;
mod lanes;
mod log;
mod progress;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::grpc::pb::tollgate::{
    ApplyRequest, GetUsageRequest, GetUsageResponse, GrantRequest, Reason, grant_request,
};
use tonic::transport::Channel;

use self::books::{File, Name};
use self::lanes::{Lane, Pace, Phase, Random, Reports, Stops, What};
use self::log::Tally;
use self::progress::Progress;
use self::world::{Caller, KINDS};
use crate::patience::PATIENCE;
use crate::server::Tollgate;

/// Of what it can carry.
const SHARE: f64 = 0.7;
const LANES: [What; 6] =
    [What::Streams, What::Streams, What::Checks, What::Checks, What::Rules, What::Reports];

/// How long it takes, and whether stops are kills.
#[derive(Clone, Copy, Debug)]
struct Settings {
    seconds: u32,
    kill: bool,
}

impl Settings {
    /// By default it only shows that it works.
    fn of_this_process() -> Self {
        let seconds =
            std::env::var("TOLLGATE_SOAK_SECONDS").map_or(10, |text| text.parse().unwrap());
        assert!(seconds >= 4, "TOLLGATE_SOAK_SECONDS must be 4 or more");
        Self { seconds, kill: std::env::var("TOLLGATE_SOAK_KILL").is_ok_and(|text| text == "1") }
    }

    /// The seconds at which the server is stopped and started: in the first quarter, so that what
    /// it keeps in memory can grow in the others.
    fn stops(&self) -> Vec<u32> {
        let count = (self.seconds / 40).clamp(1, 6);
        (1..=count).map(|stop| (self.seconds * stop / (count * 4)).max(1)).collect()
    }
}

struct Soak {
    settings: Settings,
    server: Tollgate,
    rules: TempDir,
    callers: Arc<[Caller]>,
    lanes: Vec<Arc<Lane>>,
    reports: Arc<Reports>,
    stops: Arc<Stops>,
    phase: watch::Sender<Phase>,
    askers: JoinSet<()>,
    reporters: JoinSet<()>,
    grants: BTreeMap<Name, i64>,
    progress: Progress,
    random: Random,
}

fn write_rules(folder: &Path, turn: usize) {
    let fresh = folder.join("rules.new");
    std::fs::write(&fresh, world::rules(turn)).unwrap();
    std::fs::rename(&fresh, folder.join("rules.yaml")).unwrap();
}

impl Soak {
    async fn start(settings: Settings) -> Self {
        let rules = TempDir::new().unwrap();
        write_rules(rules.path(), 0);
        // A stop waits for those who are still asking, on a busy machine too.
        let env = [("TOLLGATE_DRAIN_TIMEOUT_MS", "50000")];
        let server = Tollgate::start(&["--rules", rules.path().to_str().unwrap()], &env);
        let callers: Arc<[Caller]> = world::callers().into();
        UsagePlanServiceClient::new(server.lazy_channel(PATIENCE))
            .apply(world::declared(&callers))
            .await
            .unwrap();
        let (reports, stops) = (Arc::new(Reports::default()), Arc::new(Stops::default()));
        let lane = |(seed, what)| {
            Arc::new(Lane::new(
                what,
                callers.clone(),
                server.lazy_channel(PATIENCE),
                reports.clone(),
                stops.clone(),
                seed,
            ))
        };
        let lanes: Vec<_> = (1..).zip(LANES).map(lane).collect();
        let (phase, _) = watch::channel(Phase::Serve(0));
        let (mut askers, mut reporters) = (JoinSet::new(), JoinSet::new());
        for lane in &lanes {
            let tasks = if lane.what == What::Reports { &mut reporters } else { &mut askers };
            lane.start(tasks, &phase.subscribe());
        }
        let (grants, progress, random) = (BTreeMap::new(), Progress::default(), Random(42));
        Self {
            settings,
            server,
            rules,
            callers,
            lanes,
            reports,
            stops,
            phase,
            askers,
            reporters,
            grants,
            progress,
            random,
        }
    }

    fn plans(&self) -> UsagePlanServiceClient<Channel> {
        UsagePlanServiceClient::new(self.server.lazy_channel(PATIENCE))
    }

    /// What it can carry is measured, and from now on a part of it asked. Gives the decisions of a
    /// second that are.
    async fn saturate(&self) -> f64 {
        sleep(Duration::from_secs(1)).await;
        let seconds = (self.settings.seconds / 10).clamp(2, 5);
        let done =
            || self.lanes.iter().map(|lane| lane.done.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = done();
        sleep(Duration::from_secs(seconds.into())).await;
        let mut carried = 0.0;
        let mut said = Vec::new();
        for ((lane, before), after) in self.lanes.iter().zip(before).zip(done()) {
            let per_second = (after - before) as f64 / f64::from(seconds);
            lane.set_pace(Pace::of((per_second * SHARE).max(1.0)));
            said.push(format!("{:?} {per_second:.0}", lane.what));
            carried += per_second * lane.what.decisions();
        }
        println!(
            "saturated at {carried:.0} decisions/s (turns/s of each connection: {}); asked from now on: 70 %",
            said.join(", ")
        );
        carried * SHARE
    }

    async fn edit(&mut self, turn: usize) {
        let usage_plans = vec![KINDS[turn % KINDS.len()].declared(turn)];
        self.plans().apply(ApplyRequest { usage_plans, ..ApplyRequest::default() }).await.unwrap();
        write_rules(self.rules.path(), turn);
        self.grant().await;
    }

    /// Some units more, for someone whose quota comes to its end.
    async fn grant(&mut self) {
        let ends = |caller: &&Caller| caller.kind().quotas[0].ends();
        let count = self.callers.iter().filter(ends).count();
        let chosen = self.random.below(count as u64) as usize;
        let caller = self.callers.iter().filter(ends).nth(chosen).unwrap();
        let quota = caller.kind().quotas[0].name;
        let request = GrantRequest {
            subject: Some(grant_request::Subject::Subscriber(caller.subscriber.clone())),
            plan: caller.kind().plan.to_owned(),
            entitlement: "shop".to_owned(),
            quota: quota.to_owned(),
            change: Some(grant_request::Change::Add(5)),
            ..GrantRequest::default()
        };
        let row = self.plans().grant(request).await.unwrap().into_inner();
        let start_s = row.period_start.unwrap().seconds.try_into().unwrap();
        let name = (
            caller.subscriber.clone(),
            String::new(),
            caller.kind().plan.to_owned(),
            quota.to_owned(),
            start_s,
        );
        *self.grants.entry(name).or_default() += 5;
    }

    /// Stops the server under load, and starts it again.
    fn stop(&mut self, turn: u32) {
        self.stops.begin();
        if self.settings.kill {
            self.server.kill_9();
        } else {
            self.phase.send_replace(Phase::Stop);
            assert_eq!(self.server.terminate().code(), Some(0));
            assert!(
                self.server.log().contains("drained"),
                "calls were cut off:\n{}",
                self.server.log()
            );
        }
        self.server.restart();
        self.stops.end();
        self.phase.send_replace(Phase::Serve(turn));
    }

    /// The load, with all that happens meanwhile.
    async fn run(&mut self) {
        let asked = self.saturate().await;
        self.progress.start(&self.lanes, asked);
        let mut stops = self.settings.stops().into_iter().peekable();
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        for turn in 1.. {
            ticks.tick().await;
            for tasks in [&mut self.askers, &mut self.reporters] {
                if let Some(ended) = tasks.try_join_next() {
                    ended.unwrap();
                    panic!("a caller has ended");
                }
            }
            let second = self.progress.second();
            if second >= self.settings.seconds {
                break;
            }
            if stops.next_if(|at| *at <= second).is_some() {
                block_in_place(|| self.stop(turn));
                self.progress.stopped();
            }
            self.edit(turn as usize).await;
            self.progress.sample(&self.server);
            if self.progress.is_minute() {
                self.progress.say(&self.lanes, &self.server);
                self.reports.release();
            }
        }
        self.progress.say(&self.lanes, &self.server);
    }

    /// Everybody ends, with all that is to be reported. Gives what they were told.
    async fn log(&mut self) -> Tally {
        self.phase.send_replace(Phase::Over);
        while let Some(ended) = self.askers.join_next().await {
            ended.unwrap();
        }
        self.reports.end();
        while let Some(ended) = self.reporters.join_next().await {
            ended.unwrap();
        }
        let mut log = Tally::default();
        self.lanes.iter().for_each(|lane| log.add(&lane.tally.lock().unwrap()));
        log
    }

    /// All books, of yesterday too: it may run over midnight.
    async fn usage(&self) -> GetUsageResponse {
        let mut request = GetUsageRequest {
            start_date: "2020-01-01".to_owned(),
            page_size: 10_000,
            ..GetUsageRequest::default()
        };
        let (mut plans, mut all) = (self.plans(), GetUsageResponse::default());
        loop {
            let GetUsageResponse { quotas, days, next_page_token, .. } =
                plans.get_usage(request.clone()).await.unwrap().into_inner();
            all.quotas.extend(quotas);
            all.days.extend(days);
            if next_page_token.is_empty() {
                return all;
            }
            request.page_token = next_page_token;
        }
    }

    fn reloads(&self) -> u64 {
        let page = crate::http::get("/metrics").send(self.server.http_addr()).unwrap().text();
        let line = page
            .lines()
            .find(|line| line.starts_with("ratelimit_service_config_load_success"))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// What nobody may have been told, whatever happened.
    fn check_limits(&self, log: &Tally) {
        for (place, units) in log.net.iter().filter(|(place, _)| !log.raised.contains(place)) {
            let quota =
                &self.callers[place.caller as usize].kind().quotas[usize::from(place.quota)];
            let name = books::name(&self.callers, place);
            let granted = self.grants.get(&name).copied().unwrap_or_default();
            if let Some(most) = quota.most() {
                assert!(
                    *units <= i64::try_from(most).unwrap() + granted,
                    "{name:?}: {units} admitted, {granted} granted"
                );
            }
        }
        assert!(
            log.rules[2].0 <= world::FEW,
            "{} of {} by a durable rule",
            log.rules[2].0,
            world::FEW
        );
        // Those with the least may take ten a minute.
        let many = log.admitted.values().sum::<u64>() > 20 * self.callers.len() as u64;
        assert!(
            !many || log.reasons().contains_key(&Reason::QuotaExceeded.into()),
            "no quota came to its end"
        );
        for lane in &self.lanes {
            // A report may be asked for again where it could not be recorded.
            let mut wrong = lane.tally.lock().unwrap().failed[1].clone();
            wrong.retain(|code, _| {
                lane.what != What::Reports || *code != i32::from(tonic::Code::Unavailable)
            });
            assert!(wrong.is_empty(), "{:?} failed without a stop: {wrong:?}", lane.what);
        }
    }

    /// The books, while it runs, in the file, and after a start, are what the callers were told.
    async fn check_books(&mut self, log: &Tally) {
        let expected = books::expected(&self.callers, log, &self.grants);
        let told = |usage: &GetUsageResponse, when: &str| {
            let found = books::differences(&expected, &books::told(usage));
            assert!(
                found.is_empty(),
                "{} of {} rows differ {when}:\n{}",
                found.len(),
                expected.len(),
                few(&found)
            );
            let named = log.admitted.iter().map(|(caller, count)| {
                let caller = &self.callers[*caller as usize];
                ((caller.subscriber.clone(), caller.key.clone()), *count)
            });
            assert_eq!(books::admitted(usage), named.collect(), "the statistics {when}");
        };
        told(&self.usage().await, "while it runs");
        assert_eq!(block_in_place(|| self.server.terminate()).code(), Some(0));
        let file = File::read(&self.server.data_dir().join("ledger.sqlite"));
        let found = books::differences(&expected, &file.rows);
        assert!(
            found.is_empty(),
            "{} of {} rows differ in the file:\n{}",
            found.len(),
            expected.len(),
            few(&found)
        );
        for place in log.net.keys() {
            let name = books::name(&self.callers, place);
            assert_eq!(
                file.counters.get(&name),
                Some(&place.counter),
                "{name:?} was charged to another counter"
            );
        }
        let [_, kept, few_units] = log.rules;
        assert_eq!(u64::try_from(file.rules), Ok(kept.0 + few_units.0), "durable rules");
        // A ledger that does not answer in time refuses some, too.
        assert!(
            few_units.1 < world::FEW || few_units.0 == world::FEW,
            "refused at {} of {}",
            few_units.0,
            world::FEW
        );
        block_in_place(|| self.server.restart());
        told(&self.usage().await, "after a start");
        println!(
            "books: {} counters and periods to the unit, {} grants, lost 0",
            expected.len(),
            self.grants.len()
        );
    }

    /// After kills: nothing that callers were told of is missing, and what is beyond it is within
    /// the bounds.
    async fn check_bounds(&mut self, log: &Tally, asked: f64) {
        let kills = i64::try_from(self.settings.stops().len()).unwrap();
        let told = books::told(&self.usage().await);
        let expected = books::expected(&self.callers, log, &self.grants);
        let unknown = i64::try_from(log.unknown.values().sum::<u64>()).unwrap();
        let mut beyond = 0;
        for (name, row) in &told {
            let known = expected.get(name).copied().unwrap_or_default();
            assert!(
                row.used + row.lost >= known.used,
                "{name:?}: {row:?}, and callers were told of {known:?}"
            );
            assert_eq!(row.granted, known.granted, "{name:?}");
            let quotas = KINDS.iter().find(|kind| kind.plan == name.2).unwrap().quotas;
            let most = quotas
                .iter()
                .find(|quota| quota.name == name.3)
                .unwrap()
                .most()
                .unwrap_or(u64::MAX / 200);
            // A lease is for what one check costs at least.
            let waste = kills
                * (i64::try_from(most / 100).unwrap() + row.granted)
                    .max(lanes::LARGEST_COST as i64);
            assert!(row.lost <= waste, "{name:?}: {row:?}, and kills may cost {waste}");
            beyond += row.used + row.lost - known.used;
        }
        assert!(expected.keys().all(|name| told.contains_key(name)), "a counter is forgotten");
        let lost: i64 = told.values().map(|row| row.lost).sum();
        // Of each counter half a second's worth may be held; each check meets two quotas at most,
        // and costs fewer than two units.
        let bound = kills * (asked / SHARE * 2.0) as i64 + 2 * unknown;
        println!(
            "books: {kills} kills, {unknown} units unanswered, {lost} lost, {beyond} beyond what callers were told (bound {bound})"
        );
        assert!(beyond <= bound);
    }
}

fn few(lines: &[String]) -> String {
    lines.iter().take(10).map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_steady_load_the_books_are_what_callers_were_told() {
    let mut soak = Soak::start(Settings::of_this_process()).await;
    soak.run().await;
    let reloads = soak.reloads();
    let log = soak.log().await;
    soak.progress.summary(&log);
    assert!(reloads > 1, "rules were not reloaded");
    soak.check_limits(&log);
    if soak.settings.kill {
        let asked = soak.progress.asked;
        soak.check_bounds(&log, asked).await;
    } else {
        soak.check_books(&log).await;
    }
    soak.progress.check_memory(soak.settings.seconds);
}
