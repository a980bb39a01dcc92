//! How the soak goes: a line a minute, and how much memory the server takes.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tollgate::grpc::pb::tollgate::{Reason, Settlement};
use tonic::Code;

use super::lanes::{Lane, What};
use super::log::Tally;
use crate::server::Tollgate;

const MINUTE: Duration = Duration::from_secs(60);
/// Shorter runs say nothing about memory.
const TELLING_SECONDS: u32 = 60;

/// What was seen so far.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    minute: Instant,
    minutes: u32,
    /// Decisions a second that are asked for.
    pub asked: f64,
    decisions: u64,
    skipped: u64,
    worst: [Histogram<u64>; 2],
    /// When, in seconds, and how many bytes the server held.
    resident: Vec<(f64, u64)>,
    /// Stops with starts, and the longest.
    stops: (u32, Duration),
    ticked: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            minute: now,
            minutes: 0,
            asked: 0.0,
            decisions: 0,
            skipped: 0,
            worst: [Histogram::new(3).unwrap(), Histogram::new(3).unwrap()],
            resident: Vec::new(),
            stops: (0, Duration::ZERO),
            ticked: now,
        }
    }
}

impl Progress {
    /// The load has its rate: what was counted before is not of it.
    pub fn start(&mut self, lanes: &[Arc<Lane>], asked: f64) {
        lanes.iter().for_each(|lane| drop(taken(lane)));
        *self = Self { asked, ..Self::default() };
    }

    pub fn second(&mut self) -> u32 {
        self.ticked = Instant::now();
        self.start.elapsed().as_secs() as u32
    }

    pub fn is_minute(&self) -> bool {
        self.minute.elapsed() >= MINUTE
    }

    /// A stop and start, since the last [`Self::second`].
    pub fn stopped(&mut self) {
        self.stops = (self.stops.0 + 1, self.stops.1.max(self.ticked.elapsed()));
    }

    pub fn sample(&mut self, server: &Tollgate) {
        self.resident
            .push((self.start.elapsed().as_secs_f64(), resident_bytes(server.process_id())));
    }

    /// The line of the minute that is over.
    pub fn say(&mut self, lanes: &[Arc<Lane>], server: &Tollgate) {
        let seconds = self.minute.elapsed().as_secs_f64();
        self.minute = Instant::now();
        self.minutes += 1;
        let mut latency = [Histogram::<u64>::new(3).unwrap(), Histogram::new(3).unwrap()];
        let mut decisions = 0;
        let mut log = Tally::default();
        for lane in lanes {
            let (lane_latency, lane_decisions) = taken(lane);
            latency[usize::from(lane.what == What::Streams)].add(lane_latency).unwrap();
            decisions += lane_decisions;
            log.add(&lane.tally.lock().unwrap());
        }
        let skipped = lanes
            .iter()
            .map(|lane| {
                (lane.skipped.load(Ordering::Relaxed) as f64 * lane.what.decisions()) as u64
            })
            .sum::<u64>();
        println!(
            "minute {}: {:.0} decisions/s of {:.0} ({} not asked); calls {}; batches {}; errors {}; {} MB resident; ledger {} MB",
            self.minutes,
            decisions as f64 / seconds,
            self.asked,
            skipped - self.skipped,
            quantiles(&latency[0]),
            quantiles(&latency[1]),
            errors(&log),
            megabytes(self.resident.last().map_or(0, |(_, bytes)| *bytes)),
            ["ledger.sqlite", "ledger.sqlite-wal"]
                .map(|file| megabytes(size(&server.data_dir().join(file))))
                .join(" + "),
        );
        self.decisions += decisions;
        self.skipped = skipped;
        for (all, minute) in self.worst.iter_mut().zip(latency) {
            all.add(minute).unwrap();
        }
    }

    pub fn summary(&self, log: &Tally) {
        let reasons: Vec<String> = log
            .reasons()
            .iter()
            .map(|(reason, count)| format!("{count} {:?}", Reason::try_from(*reason).unwrap()))
            .collect();
        let settled: Vec<String> = log
            .settled
            .iter()
            .map(|(settlement, count)| {
                format!("{count} {:?}", Settlement::try_from(*settlement).unwrap())
            })
            .collect();
        println!(
            "{} decisions in {:.0} s; calls {}; batches {}; {} stops, the longest {:.1} s; errors {}",
            self.decisions,
            self.start.elapsed().as_secs_f64(),
            quantiles(&self.worst[0]),
            quantiles(&self.worst[1]),
            self.stops.0,
            self.stops.1.as_secs_f64(),
            errors(log),
        );
        println!(
            "refused: {}; reports: {}; rules (passed, refused): {:?}",
            reasons.join(", "),
            settled.join(", "),
            log.rules
        );
        println!("resident, middle of each quarter: {:?} MB", self.quarters().map(megabytes));
    }

    /// The last quarter's is not more than the second's, and a little. There are no stops in
    /// between.
    pub fn check_memory(&self, seconds: u32) {
        let [_, second, _, last] = self.quarters();
        if seconds >= TELLING_SECONDS {
            assert!(last as f64 <= second as f64 * 1.25, "from {second} to {last} bytes resident");
        }
    }

    /// Bytes resident in the middle of each quarter.
    fn quarters(&self) -> [u64; 4] {
        let end = self.resident.last().map_or(0.0, |(at, _)| *at);
        [0.0, 1.0, 2.0, 3.0].map(|quarter| {
            let within =
                |at: f64| (quarter * end / 4.0..=(quarter + 1.0) * end / 4.0).contains(&at);
            let mut bytes: Vec<u64> = self
                .resident
                .iter()
                .filter(|(at, _)| within(*at))
                .map(|(_, bytes)| *bytes)
                .collect();
            bytes.sort_unstable();
            bytes.get(bytes.len() / 2).copied().unwrap_or_default()
        })
    }
}

/// Latencies and decisions of the minute, which start again.
fn taken(lane: &Lane) -> (Histogram<u64>, u64) {
    let tally = &mut *lane.tally.lock().unwrap();
    let latency = std::mem::replace(&mut tally.latency, Histogram::new(3).unwrap());
    (latency, std::mem::take(&mut tally.decisions))
}

fn quantiles(latency: &Histogram<u64>) -> String {
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
    format!("p50 {:.2} p99 {:.2} p99.9 {:.2} ms", at(0.5), at(0.99), at(0.999))
}

fn errors(log: &Tally) -> String {
    let named = |failed: &BTreeMap<i32, u64>| {
        let codes: Vec<String> =
            failed.iter().map(|(code, count)| format!("{count} {:?}", Code::from(*code))).collect();
        if codes.is_empty() { "none".to_owned() } else { codes.join(", ") }
    };
    let unavailable =
        log.reasons().get(&Reason::LedgerUnavailable.into()).copied().unwrap_or_default();
    format!(
        "{}, by stops {}, LEDGER_UNAVAILABLE {unavailable}",
        named(&log.failed[1]),
        named(&log.failed[0])
    )
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn size(file: &std::path::Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
