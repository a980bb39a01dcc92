//! What the callers of the soak were told, added up by counter and period.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hdrhistogram::Histogram;
use smallvec::SmallVec;
use tollgate::grpc::pb::tollgate::outcome::{Ending as WireEnding, Result as WireResult, Subject};
use tollgate::grpc::pb::tollgate::{Outcome, Settlement};

use super::world::QuotaKind;

/// One counter in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Among the callers.
    pub caller: u32,
    /// Among the quotas of its plan.
    pub quota: u8,
    /// The ledger's number of the counter.
    pub counter: u64,
    pub start_s: u64,
}

/// What one quota was charged, as a receipt says.
#[derive(Clone, Copy, Debug)]
pub struct Charged {
    counter: u64,
    start_s: u64,
    pub at_report: bool,
}

/// What a receipt says. Callers need not read it; the books are checked by it, because it alone
/// says which period was charged.
#[derive(Debug)]
pub struct Receipt {
    pub issued_us: u64,
    pub cost: u64,
    pub charges: SmallVec<[Charged; 2]>,
}

impl Receipt {
    pub fn read(text: &str) -> Self {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        let (body, _mac) = bytes.split_at(bytes.len() - 16);
        let mut numbers: SmallVec<[u64; 16]> = SmallVec::new();
        let (mut number, mut shift) = (0, 0);
        for byte in &body[1..] {
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                numbers.push(number);
                (number, shift) = (0, 0);
            }
        }
        let quotas = numbers[8..].as_chunks::<3>().0;
        let charges = quotas.iter().map(|&[counter, start_s, how]| Charged {
            counter,
            start_s,
            at_report: how & 1 == 1,
        });
        Self { issued_us: numbers[6], cost: numbers[7], charges: charges.collect() }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Success,
    NotFound,
    Failed,
    NoResponse,
    CallerGone,
}

impl Ending {
    fn counts(self, quota: &QuotaKind) -> bool {
        match self {
            Self::Success | Self::CallerGone => true,
            Self::NotFound => !quota.successes_only,
            Self::Failed | Self::NoResponse => false,
        }
    }

    fn wire(self) -> Option<WireResult> {
        match self {
            Self::Success => Some(WireResult::HttpStatus(200)),
            Self::NotFound => Some(WireResult::HttpStatus(404)),
            Self::Failed => Some(WireResult::HttpStatus(503)),
            Self::NoResponse => Some(WireResult::Ending(WireEnding::NoResponse.into())),
            Self::CallerGone => None,
        }
    }
}

/// A report to make.
#[derive(Clone, Debug)]
pub struct Report {
    pub caller: u32,
    pub receipt: Bytes,
    pub cost: u64,
    pub charges: SmallVec<[Charged; 2]>,
    pub ending: Ending,
    /// The real cost, where it differs.
    pub real: Option<u64>,
    /// It was sent before, and nobody knows what became of it.
    pub unanswered: bool,
    /// A correction of this receipt was answered before.
    pub corrected: bool,
}

impl Report {
    pub fn wire(&self) -> Outcome {
        Outcome {
            subject: Some(Subject::Receipt(self.receipt.clone())),
            result: self.ending.wire(),
            cost: self.real,
            made_by_gateway: false,
            ..Outcome::default()
        }
    }

    /// What it should do to each quota: units before and after it.
    fn changes(&self, quotas: &'static [QuotaKind]) -> impl Iterator<Item = (Place, u64, u64)> {
        (0..).zip(&self.charges).zip(quotas).map(|((number, charged), quota)| {
            let place = Place {
                caller: self.caller,
                quota: number,
                counter: charged.counter,
                start_s: charged.start_s,
            };
            let before = if charged.at_report { 0 } else { self.cost };
            (
                place,
                before,
                if self.ending.counts(quota) { self.real.unwrap_or(self.cost) } else { 0 },
            )
        })
    }

    /// Does it change anything?
    pub fn corrects(&self, quotas: &'static [QuotaKind]) -> bool {
        self.changes(quotas).any(|(_, before, after)| before != after)
    }

    fn expected(&self, quotas: &'static [QuotaKind]) -> Settlement {
        if !self.corrects(quotas) {
            Settlement::Counted
        } else if self.corrected {
            Settlement::Duplicate
        } else if self.changes(quotas).all(|(_, _, after)| after == 0) {
            Settlement::Refunded
        } else if self
            .changes(quotas)
            .zip(&self.charges)
            .any(|((_, before, after), charged)| !charged.at_report && before != after)
        {
            Settlement::Corrected
        } else {
            Settlement::Counted
        }
    }
}

/// What the callers of one lane were told.
#[derive(Debug)]
pub struct Tally {
    /// Units charged and not refunded.
    pub net: HashMap<Place, i64, foldhash::fast::RandomState>,
    /// Where a real cost was above the one that was checked: that is recorded past any limit.
    pub raised: HashSet<Place>,
    /// By caller.
    pub admitted: HashMap<u32, u64, foldhash::fast::RandomState>,
    /// By caller and reason.
    pub refused: HashMap<(u32, i32), u64, foldhash::fast::RandomState>,
    /// Units of checks that nobody answered, by caller.
    pub unknown: HashMap<u32, u64>,
    pub settled: BTreeMap<i32, u64>,
    /// Admitted by a rule, by its place among the rules; and refused.
    pub rules: [(u64, u64); 3],
    /// Calls to rules that nobody answered.
    pub unknown_rules: u64,
    /// By status code: while the server stopped and started, and at other times.
    pub failed: [BTreeMap<i32, u64>; 2],
    /// Of the present minute, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Decisions in the present minute.
    pub decisions: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            net: HashMap::default(),
            raised: HashSet::new(),
            admitted: HashMap::default(),
            refused: HashMap::default(),
            unknown: HashMap::new(),
            settled: BTreeMap::new(),
            rules: [(0, 0); 3],
            unknown_rules: 0,
            failed: [BTreeMap::new(), BTreeMap::new()],
            latency: Histogram::new(3).unwrap(),
            decisions: 0,
        }
    }
}

impl Tally {
    /// An admission: what was charged at the check.
    pub fn admit(&mut self, caller: u32, receipt: &Receipt) {
        *self.admitted.entry(caller).or_default() += 1;
        for (quota, charged) in (0..).zip(&receipt.charges) {
            if !charged.at_report {
                let place =
                    Place { caller, quota, counter: charged.counter, start_s: charged.start_s };
                *self.net.entry(place).or_default() += i64::try_from(receipt.cost).unwrap();
            }
        }
    }

    /// The answer to a report, which must be the one that the contract promises.
    pub fn settle(
        &mut self,
        report: &Report,
        quotas: &'static [QuotaKind],
        settlement: Settlement,
    ) {
        *self.settled.entry(settlement.into()).or_default() += 1;
        let expected = report.expected(quotas);
        let repeated =
            settlement == Settlement::Duplicate && report.unanswered && report.corrects(quotas);
        assert!(
            settlement == expected || repeated,
            "{settlement:?} instead of {expected:?}: {report:?}"
        );
        if report.corrected {
            return;
        }
        for (place, before, after) in
            report.changes(quotas).filter(|(_, before, after)| before != after)
        {
            *self.net.entry(place).or_default() +=
                i64::try_from(after).unwrap() - i64::try_from(before).unwrap();
            if after > before {
                self.raised.insert(place);
            }
        }
    }

    pub fn fail(&mut self, code: tonic::Code, stopping: bool) {
        *self.failed[usize::from(!stopping)].entry(code.into()).or_default() += 1;
    }

    /// Puts the counts of another lane to these.
    pub fn add(&mut self, other: &Self) {
        for (place, units) in &other.net {
            *self.net.entry(*place).or_default() += units;
        }
        self.raised.extend(&other.raised);
        for (caller, count) in &other.admitted {
            *self.admitted.entry(*caller).or_default() += count;
        }
        for (place, count) in &other.refused {
            *self.refused.entry(*place).or_default() += count;
        }
        for (caller, units) in &other.unknown {
            *self.unknown.entry(*caller).or_default() += units;
        }
        for (settlement, count) in &other.settled {
            *self.settled.entry(*settlement).or_default() += count;
        }
        for (mine, theirs) in self.rules.iter_mut().zip(other.rules) {
            *mine = (mine.0 + theirs.0, mine.1 + theirs.1);
        }
        self.unknown_rules += other.unknown_rules;
        for (mine, theirs) in self.failed.iter_mut().zip(&other.failed) {
            for (code, count) in theirs {
                *mine.entry(*code).or_default() += count;
            }
        }
    }

    /// Refusals by reason.
    pub fn reasons(&self) -> BTreeMap<i32, u64> {
        let mut reasons = BTreeMap::new();
        for ((_, reason), count) in &self.refused {
            *reasons.entry(*reason).or_default() += count;
        }
        reasons
    }
}
