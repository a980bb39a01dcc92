//! What was counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::answers::VERDICTS;
use super::job::Traffic;

/// Latencies are told apart from 1 µs on, to three digits.
const LEAST_NS: u64 = 1_000;
/// Longer ones count as an hour.
const MOST_NS: u64 = 3_600_000_000_000;

/// gRPC's codes.
pub(super) const CODES: usize = 17;

/// The calls of one kind.
#[derive(Clone, Debug)]
pub struct Calls {
    /// How long answers took, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How long it took to fail.
    pub failure_latency: Histogram<u64>,
    pub(crate) verdicts: [u64; VERDICTS],
    pub(crate) codes: [u64; CODES],
    /// What the server said with a code, the first time.
    pub(crate) reasons: BTreeMap<usize, Arc<str>>,
}

impl Calls {
    pub(super) fn new() -> Result<Self, String> {
        let (latency, failure_latency) = (latencies()?, latencies()?);
        Ok(Self {
            latency,
            failure_latency,
            verdicts: [0; VERDICTS],
            codes: [0; CODES],
            reasons: BTreeMap::new(),
        })
    }

    /// Calls that were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.latency.len()
    }

    /// Calls that were not.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// Verdicts in the answers; a batch has many.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// Verdicts that admit; of rate-limit requests: those within their limits.
    #[must_use]
    pub fn admitted(&self, traffic: &Traffic) -> u64 {
        let admission = usize::from(matches!(traffic, Traffic::RateLimit { .. }));
        self.verdicts.get(admission).copied().unwrap_or(0)
    }

    /// Calls that failed with this gRPC code.
    #[must_use]
    pub fn failed_with(&self, code: tonic::Code) -> u64 {
        usize::try_from(i32::from(code))
            .ok()
            .and_then(|code| self.codes.get(code))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn answer(&mut self, latency_ns: u64) {
        self.latency.saturating_record(latency_ns);
    }

    pub(crate) fn failure(&mut self, code: u8, latency_ns: u64, reason: Option<&Arc<str>>) {
        let code = usize::from(code).min(CODES - 1);
        if let Some(count) = self.codes.get_mut(code) {
            *count += 1;
        }
        if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
            self.reasons.entry(code).or_insert_with(|| reason.clone());
        }
        self.failure_latency.saturating_record(latency_ns);
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        let _ = self.failure_latency.add(&other.failure_latency);
        self.verdicts.iter_mut().zip(other.verdicts).for_each(|(sum, more)| *sum += more);
        self.codes.iter_mut().zip(other.codes).for_each(|(sum, more)| *sum += more);
        for (code, reason) in &other.reasons {
            self.reasons.entry(*code).or_insert_with(|| reason.clone());
        }
    }
}

fn latencies() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(LEAST_NS, MOST_NS, 3).map_err(|error| error.to_string())
}

/// All that one thread has counted, or all of them.
#[derive(Clone, Debug)]
pub struct Tally {
    pub asked: u64,
    /// Checks, or rate-limit requests.
    pub calls: Calls,
    pub reports: Calls,
    /// Calls that began more than a millisecond after they should have, for all slots were taken or
    /// this machine is too slow.
    pub late: u64,
    /// Calls that should have begun and had not when the time was over.
    pub unsent: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
    /// Why the first of them was lost.
    pub lost: Option<String>,
    /// When the last call ended.
    pub(super) last_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, String> {
        let (calls, reports) = (Calls::new()?, Calls::new()?);
        Ok(Self {
            asked: 0,
            calls,
            reports,
            late: 0,
            unsent: 0,
            reconnects: 0,
            lost: None,
            last_ns: 0,
        })
    }

    /// Takes in what another has counted.
    pub fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.calls.add(&other.calls);
        self.reports.add(&other.reports);
        self.late += other.late;
        self.unsent += other.unsent;
        self.reconnects += other.reconnects;
        self.lost = self.lost.take().or(other.lost);
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}
