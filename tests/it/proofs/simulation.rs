//! One node, simulated: the engine of plans, the engine of rules, the catalog and the ledger that
//! are shipped, under a virtual clock that steps back and forth, with a ledger that fails, floods
//! of keys, edits, grants, reports, crashes and stops. What happens is chosen by a seed, or by the
//! bytes of a fuzzer; what really happened is counted beside it, and every answer is compared with
//! that.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tollgate::catalog::{
    CatalogStore, Declared, DeclaredKey, DeclaredSubscriber, EditOptions, HashKey,
};
use tollgate::decide::gcra::MicroRate;
use tollgate::decide::outcome::Outcome;
use tollgate::decide::plan::{ApiKey, Entitlement, Id, PeriodUnit, Rate};
use tollgate::decide::quota::Grant;
use tollgate::decide::time::{Now, SECOND_NS};
use tollgate::decide::verdict::Reason;
use tollgate::engine::plans::{
    CheckInput, Checked, LeaseSettings, Need, Report, ReportSubject, Settings, Settled, Settlement,
    Shortage, Subject,
};
use tollgate::engine::rules::{Budget, Mode, RuleEngine};
use tollgate::ledger::faults::{Fault, FaultyLedger};
use tollgate::ledger::{
    self, GiveBack, Lease, Ledger, LedgerError, MemoryLedger, Operation, Scope,
};
use tollgate::testkit::at_once::AtOnce;
use tollgate::testkit::declared::{entitlement, key, plan, quota, request, subscriber};
use tollgate::testkit::plans::AsksPlans;

const MINUTE_S: u64 = 60;
const START_S: u64 = 1_795_341_600;
/// The wall clock stays in this span, in which no period is forgotten.
const SPAN_S: u64 = 40 * 3600;
const TTL_NS: u64 = 3600 * SECOND_NS;
const SUBSCRIBERS: u64 = 4;
/// The most that a request may cost.
const MOST: u64 = 3;
/// The most units that a crash may waste of a counter: the design's bound at the limits of this
/// house, and one request's cost.
const WASTE: u64 = 4;
const RULE_LIMIT: u64 = 5;

/// Where choices come from.
pub trait Choices {
    /// A number below `many`.
    fn below(&mut self, many: u64) -> u64;
    /// Nothing is left to choose from.
    fn is_over(&self) -> bool {
        false
    }
}

/// SplitMix64: the same seed makes the same choices, everywhere.
pub struct Seeded(pub u64);

impl Choices for Seeded {
    fn below(&mut self, many: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % many
    }
}

/// The bytes of a fuzzer.
pub struct Bytes<'a>(pub &'a [u8]);

impl Choices for Bytes<'_> {
    fn below(&mut self, many: u64) -> u64 {
        let (value, rest) = match self.0 {
            [high, low, rest @ ..] if many > 256 => (u64::from(*high) << 8 | u64::from(*low), rest),
            [one, rest @ ..] => (u64::from(*one), rest),
            [] => (0, self.0),
        };
        self.0 = rest;
        value % many
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// A component that breaks one law, to show that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    ReturnsWhatWasSpent,
    RefundsTwice,
    RefundsClientErrors,
    ForgetsTheMark,
    KeepsTheEpoch,
    ForgetsGiveBacks,
    TakesAnyReceipt,
}

/// What was done in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub decisions: u64,
    pub admitted: u64,
    pub refused: u64,
    pub rule_decisions: u64,
    pub reports: u64,
    pub faults: u64,
    pub crashes: u64,
    pub stops: u64,
    pub edits: u64,
    pub grants: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    /// Charged by checks and corrections, less what was refunded.
    net: u64,
    /// Wasted by crashes.
    lost: u64,
}

struct Issued {
    text: String,
    subscriber: u64,
    start_s: u64,
    issued_ns: u64,
    cost: u64,
    settled: bool,
}

pub struct House<C> {
    choices: C,
    bug: Option<Bug>,
    catalog: CatalogStore,
    node: AtOnce<FaultyLedger>,
    rules: RuleEngine,
    memory: Arc<MemoryLedger>,
    /// What becomes of the next commits.
    fates: Arc<Mutex<VecDeque<Fate>>>,
    now: Now,
    limit: u64,
    enabled: Vec<bool>,
    burst_at_ns: Vec<u64>,
    truths: BTreeMap<(u64, u64), Truth>,
    issued: Vec<Issued>,
    late: Vec<(Need, Lease)>,
    windows: HashMap<(u64, u64), u64>,
    pub tally: Tally,
}

type Step = Result<(), String>;

fn value_of(subscriber: u64) -> String {
    format!("a-key-of-twenty-characters-{subscriber}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    NotDone,
    /// It was done, and answered as if not.
    AnswerLost,
}

/// What a wrong component makes of an operation.
fn alter(bug: Option<Bug>, operation: &mut Operation, settlements: &mut u64) {
    match (bug, operation) {
        (Some(Bug::ReturnsWhatWasSpent), Operation::GiveBack(back)) => {
            back.spent = back.spent.saturating_sub(1)
        }
        (Some(Bug::RefundsTwice), Operation::Settle(settle)) => {
            settle.deltas.iter_mut().for_each(|delta| delta.units *= 2)
        }
        (Some(Bug::ForgetsTheMark), Operation::Settle(settle)) => {
            *settlements += 1;
            settle.mark.seq += *settlements << 20;
        }
        (Some(Bug::ForgetsGiveBacks), Operation::GiveBack(back)) => {
            back.counter = ledger::CounterId(9_999)
        }
        _ => {}
    }
}

impl<C: Choices> House<C> {
    pub fn new(choices: C, bug: Option<Bug>) -> Self {
        let memory = Arc::new(MemoryLedger::new().unwrap());
        let fates = Arc::new(Mutex::new(VecDeque::new()));
        let (chosen, mut settlements) = (fates.clone(), 0);
        let plan = move |_| match chosen.lock().unwrap().pop_front() {
            Some(Fate::NotDone) => Fault::Before(LedgerError::Busy),
            Some(Fate::AnswerLost) => Fault::After(LedgerError::Stopped),
            Some(Fate::Done) | None => Fault::None,
        };
        let ledger = FaultyLedger::new(memory.clone(), plan)
            .altering(move |operation| alter(bug, operation, &mut settlements));
        let settings = Settings {
            lease: LeaseSettings::default(),
            max_entries: 64,
            ..Settings::new([7; 32], [9; 16])
        };
        let many = usize::try_from(SUBSCRIBERS).unwrap();
        let mut house = Self {
            choices,
            bug,
            catalog: CatalogStore::new(HashKey([3; 32]), None),
            node: AtOnce::over(Arc::new(ledger), settings),
            rules: RuleEngine::new(64).unwrap(),
            memory,
            fates,
            now: Now { unix_ns: (START_S + 7) * SECOND_NS, steady_ns: 1_000 * SECOND_NS },
            limit: 40,
            enabled: vec![true; many],
            burst_at_ns: vec![0; many],
            truths: BTreeMap::new(),
            issued: vec![],
            late: vec![],
            windows: HashMap::new(),
            tally: Tally::default(),
        };
        house.declare();
        house
    }

    /// Does so many things, then stops cleanly and balances the books.
    pub fn run(&mut self, acts: u64) -> Step {
        for number in 0..acts {
            if self.choices.is_over() || self.now.unix_s() > START_S + SPAN_S {
                break;
            }
            let kind = self.choices.below(64);
            self.act(kind).map_err(|wrong| format!("act {number} (kind {kind}): {wrong}"))?;
        }
        self.stop()
    }

    fn act(&mut self, kind: u64) -> Step {
        match kind {
            0..=33 => self.check(),
            34..=39 => self.rule(),
            40 => self.flood(),
            41..=48 => self.report(),
            49 => self.forged(),
            50..=51 => self.deliver_late(),
            52..=55 => self.wait(),
            56 => self.step_wall(),
            57 => self.edit(),
            58 => self.disable(),
            59 => self.grant(),
            60 => self.sweep(),
            61 => self.crash(),
            62 => self.stop(),
            _ => self.peek(),
        }
    }

    /// Of the next commit that has none yet.
    fn choose_fate(&mut self) -> Fate {
        let fate = match self.choices.below(24) {
            0 => Fate::NotDone,
            1 => Fate::AnswerLost,
            _ => Fate::Done,
        };
        self.tally.faults += u64::from(fate != Fate::Done);
        self.fates.lock().unwrap().push_back(fate);
        fate
    }

    fn ask(&mut self, need: &Need) -> bool {
        // A counter whose number never came cannot be given back: its first question is answered.
        if need.number.is_some() {
            self.choose_fate();
        }
        let Some(lease) = self.node.lease(need, self.now) else { return false };
        if self.choices.below(8) == 0 {
            // It comes a second time, later.
            self.late.push((need.clone(), lease));
        }
        true
    }

    fn deliver_late(&mut self) -> Step {
        if !self.late.is_empty() {
            let place = self.choices.below(self.late.len() as u64);
            let (need, lease) = self.late.swap_remove(usize::try_from(place).unwrap());
            self.node.engine.leases().apply_lease(&need, &lease, self.now);
        }
        Ok(())
    }

    fn start_s(&self) -> u64 {
        self.now.unix_s() / MINUTE_S * MINUTE_S
    }

    fn granted(&self, subscriber: u64, start_s: u64) -> i64 {
        self.row(subscriber, start_s).map_or(0, |row| row.granted)
    }

    fn row(&self, subscriber: u64, start_s: u64) -> Option<ledger::PeriodRow> {
        let scope = Scope::Subscriber(Id::from(name_of(subscriber)));
        self.memory
            .usage(&scope, start_s, start_s + 1)
            .unwrap()
            .into_iter()
            .find(|row| row.period.start_s() == start_s)
    }

    fn check(&mut self) -> Step {
        let subscriber = self.choices.below(SUBSCRIBERS);
        let cost = match self.choices.below(6) {
            0 => Some(2),
            1 => Some(MOST),
            _ => None,
        };
        self.check_of(subscriber, cost)
    }

    fn check_of(&mut self, subscriber: u64, cost: Option<u64>) -> Step {
        self.tally.decisions += 1;
        let (value, units) = (value_of(subscriber), cost.unwrap_or(1));
        let input = CheckInput { cost, ..request(&value, "t") };
        let catalog = self.catalog.snapshot();
        let mut failed = false;
        for round in 0.. {
            let shortage = if failed { Shortage::Deny } else { Shortage::Ask };
            let (reason, receipt) = match self
                .node
                .engine
                .check_or_need(&*catalog, &input, shortage, self.now)
                .unwrap()
            {
                Checked::Decided(decision) => (decision.verdict.reason(), decision.receipt.clone()),
                Checked::Needs(needs) => {
                    if round > 6 {
                        return Err("a check is never decided".to_owned());
                    }
                    for need in needs {
                        failed |= !self.ask(&need);
                    }
                    continue;
                }
            };
            for need in self.node.engine.leases().take_prefetches() {
                self.ask(&need);
            }
            return self.decided(subscriber, units, reason, receipt, failed);
        }
        Ok(())
    }

    /// Is that what should have been decided?
    fn decided(
        &mut self,
        subscriber: u64,
        units: u64,
        reason: Option<Reason>,
        receipt: Option<String>,
        failed: bool,
    ) -> Step {
        let place = usize::try_from(subscriber).unwrap();
        let start_s = self.start_s();
        let truth = self.truths.get(&(subscriber, start_s)).copied().unwrap_or_default();
        let allowed = self.limit.saturating_add_signed(self.granted(subscriber, start_s));
        let fits_rate = self.fits_rate(place, units);
        let expected = if !self.enabled[place] {
            Some(Reason::ApiKeyDisabled)
        } else if !fits_rate {
            Some(Reason::RateExceeded)
        } else if truth.net + truth.lost + units > allowed {
            Some(Reason::QuotaExceeded)
        } else {
            None
        };
        let excused =
            failed && reason == Some(Reason::LedgerUnavailable) && self.enabled[place] && fits_rate;
        if reason != expected && !excused {
            return Err(format!(
                "{reason:?}, not {expected:?}: {units} units, {truth:?} of {allowed}"
            ));
        }
        if receipt.is_some() != reason.is_none() {
            return Err("a receipt for a refusal, or none for an admission".to_owned());
        }
        let Some(text) = receipt else {
            self.tally.refused += 1;
            return Ok(());
        };
        self.tally.admitted += 1;
        self.truths.entry((subscriber, start_s)).or_default().net += units;
        let interval_ns = SECOND_NS / 50;
        self.burst_at_ns[place] =
            self.burst_at_ns[place].max(self.now.steady_ns) + units * interval_ns;
        self.issued.push(Issued {
            text,
            subscriber,
            start_s,
            issued_ns: self.now.unix_ns,
            cost: units,
            settled: false,
        });
        Ok(())
    }

    /// 50 a second and a burst of 20, as a debt that melts.
    fn fits_rate(&self, place: usize, units: u64) -> bool {
        let interval_ns = SECOND_NS / 50;
        let owed_ns = self.burst_at_ns[place].saturating_sub(self.now.steady_ns);
        owed_ns + units * interval_ns <= 20 * interval_ns
    }

    fn peek(&mut self) -> Step {
        let value = value_of(self.choices.below(SUBSCRIBERS));
        let before = self.memory.usage(&Scope::All, 0, u64::MAX / 2).unwrap();
        let input = CheckInput { cost: Some(0), ..request(&value, "t") };
        let catalog = self.catalog.snapshot();
        let receipt = match self
            .node
            .engine
            .check_or_need(&*catalog, &input, Shortage::Deny, self.now)
            .unwrap()
        {
            Checked::Decided(decision) => decision.receipt.clone(),
            Checked::Needs(_) => None,
        };
        let untouched = self.memory.usage(&Scope::All, 0, u64::MAX / 2).unwrap() == before;
        if receipt.is_none() && untouched {
            Ok(())
        } else {
            Err("a peek charged something".to_owned())
        }
    }

    /// Nobody's keys: nothing is kept of them.
    fn flood(&mut self) -> Step {
        let (entries, seed) =
            (self.node.engine.leases().live_entries(), self.choices.below(1 << 16));
        let catalog = self.catalog.snapshot();
        for number in 0..50 {
            let value = format!("nobody-{seed}-{number}");
            let input = request(&value, "t");
            let checked =
                self.node.engine.check_or_need(&*catalog, &input, Shortage::Ask, self.now).unwrap();
            self.tally.decisions += 1;
            let refused = match checked {
                Checked::Decided(decision) => decision.verdict.reason(),
                Checked::Needs(needs) => return Err(format!("a stranger needs {needs:?}")),
            };
            if refused != Some(Reason::ApiKeyUnknown) {
                return Err("a stranger was not refused as one".to_owned());
            }
            self.hit(1_000 + seed * 50 + number)?;
        }
        if self.node.engine.leases().live_entries() == entries {
            Ok(())
        } else {
            Err("a stranger's key takes room".to_owned())
        }
    }

    /// Anonymous hits on a rule of 5 a minute: few callers come often, at most 64 have a counter of
    /// their own.
    fn rule(&mut self) -> Step {
        let caller = self.choices.below(6);
        self.hit(caller)
    }

    fn hit(&mut self, caller: u64) -> Step {
        self.tally.rule_decisions += 1;
        let mut identity = self.rules.identity(b"domain");
        identity.level(&[&caller.to_le_bytes()], b"caller");
        let budget = Budget::Window { limit: RULE_LIMIT, length_s: MINUTE_S };
        // Windows are of the wall clock; this one never steps.
        let now = Now {
            unix_ns: START_S * SECOND_NS + self.now.steady_ns,
            steady_ns: self.now.steady_ns,
        };
        let standings =
            self.rules.charge(&[identity.ask(budget, 1, false)], Mode::Each, now, |standings| {
                standings.iter().any(|one| one.over)
            });
        let window = now.unix_s() / MINUTE_S;
        let admitted = self.windows.entry((caller, window)).or_default();
        let over = standings[0].over;
        *admitted += u64::from(!over);
        if *admitted > RULE_LIMIT {
            return Err(format!("{admitted} hits passed of {RULE_LIMIT}"));
        }
        if self.windows.len() > 20_000 {
            self.windows.retain(|(_, other), _| *other == window);
        }
        Ok(())
    }

    fn report(&mut self) -> Step {
        if self.issued.is_empty() {
            return Ok(());
        }
        let recent = self.issued.len().min(200) as u64;
        let place = self.issued.len() - 1 - usize::try_from(self.choices.below(recent)).unwrap();
        let (status, cost) = match self.choices.below(6) {
            0 => (200, None),
            1 => (404, None),
            2 => (200, Some(self.choices.below(6))),
            _ => (503, None),
        };
        // A gateway sends a report that was not recorded again.
        for _ in 0..4 {
            if self.report_once(place, status, cost)? {
                break;
            }
        }
        Ok(())
    }

    /// Was it answered?
    fn report_once(
        &mut self,
        place: usize,
        status: u16,
        cost: Option<u64>,
    ) -> Result<bool, String> {
        self.tally.reports += 1;
        let issued = &self.issued[place];
        let (key, charged) = ((issued.subscriber, issued.start_s), issued.cost);
        let counted =
            status < 500 && !(self.bug == Some(Bug::RefundsClientErrors) && status == 404);
        let outcome = Outcome::http(if counted { status } else { 503 });
        let real = if status < 500 { cost.unwrap_or(charged) } else { 0 };
        let expired = self.now.unix_ns.saturating_sub(issued.issued_ns / 1000 * 1000) >= TTL_NS;
        let report =
            Report { subject: ReportSubject::Receipt(issued.text.as_bytes()), outcome, cost };
        let catalog = self.catalog.snapshot();
        let expected = match (expired, real == charged, issued.settled) {
            (true, ..) => Settlement::Expired,
            (_, true, _) => Settlement::Counted,
            (_, _, true) => Settlement::Duplicate,
            _ if real == 0 => Settlement::Refunded,
            _ => Settlement::Corrected,
        };
        let found = match self.node.engine.settle(&*catalog, &report, self.now) {
            Settled::Done(settlement) => settlement,
            Settled::Commit(correction) => {
                let done = self.choose_fate() != Fate::NotDone;
                let settled = self.node.correct(&correction, self.now);
                if done && !self.issued[place].settled && real != charged {
                    let truth = self.truths.entry(key).or_default();
                    truth.net = truth.net + real - charged;
                    self.issued[place].settled = true;
                }
                let Ok(settlement) = settled else { return Ok(false) };
                settlement
            }
        };
        self.expect(found, expected)
    }

    fn expect(&self, found: Settlement, expected: Settlement) -> Result<bool, String> {
        if found == expected {
            Ok(true)
        } else {
            Err(format!("the report was answered {found:?}, not {expected:?}"))
        }
    }

    fn forged(&mut self) -> Step {
        let Some(issued) = self.issued.last() else { return Ok(()) };
        let mut text = issued.text.clone().into_bytes();
        let place = usize::try_from(self.choices.below(text.len() as u64)).unwrap();
        text[place] = match (self.bug, text[place]) {
            (Some(Bug::TakesAnyReceipt), byte) => byte,
            (_, b'A') => b'B',
            _ => b'A',
        };
        let report = Report {
            subject: ReportSubject::Receipt(&text),
            outcome: Outcome::http(503),
            cost: None,
        };
        match self.node.engine.settle(&**self.catalog.load(), &report, self.now) {
            Settled::Done(Settlement::Invalid) => Ok(()),
            other => Err(format!("a forged receipt was answered {other:?}")),
        }
    }

    fn wait(&mut self) -> Step {
        let ns = match self.choices.below(8) {
            0 => 20 * SECOND_NS,
            1..=3 => SECOND_NS,
            _ => 50_000_000,
        };
        let ns = 1 + self.choices.below(ns);
        self.now = Now { unix_ns: self.now.unix_ns + ns, steady_ns: self.now.steady_ns + ns };
        Ok(())
    }

    /// Within a period, across some, or far.
    fn step_wall(&mut self) -> Step {
        let reach_s = [5, 90, 600, 7200][usize::try_from(self.choices.below(4)).unwrap()];
        let step_ns = self.choices.below(reach_s * 1_000) * 1_000_000;
        let earliest_ns = (START_S + 1) * SECOND_NS;
        self.now.unix_ns = if self.choices.below(2) == 0 {
            self.now.unix_ns + step_ns
        } else {
            (self.now.unix_ns - step_ns).max(earliest_ns)
        };
        Ok(())
    }

    fn declare(&mut self) {
        let rate = Rate { rate: MicroRate(50_000_000), burst: Some(20) };
        let entitlement = Entitlement {
            rate_limit: Some(rate),
            quotas: vec![quota("q", self.limit, PeriodUnit::Minute)],
            ..entitlement("all", &["t"])
        };
        let plan = plan("gold", vec![entitlement]);
        let subscribers = (0..SUBSCRIBERS).map(|number| {
            let id = name_of(number);
            let enabled = self.enabled[usize::try_from(number).unwrap()];
            let key = ApiKey { enabled, ..key(&format!("k{number}"), id) };
            DeclaredSubscriber {
                subscriber: subscriber(id, &["gold"]).into(),
                keys: vec![DeclaredKey { key: key.into(), value: Some(value_of(number)) }],
            }
        });
        let declared = Declared {
            targets: vec![],
            plans: vec![plan.into()],
            subscribers: subscribers.collect(),
            ..Declared::default()
        };
        self.catalog
            .edit(EditOptions::default(), self.now, |draft| draft.apply(&declared))
            .unwrap();
    }

    fn edit(&mut self) -> Step {
        self.tally.edits += 1;
        self.limit = [0, 3, 10, 40, 100, 300][usize::try_from(self.choices.below(6)).unwrap()];
        self.declare();
        let backs = self.node.engine.take_back("gold");
        self.give_back(&backs);
        Ok(())
    }

    fn give_back(&mut self, backs: &[GiveBack]) {
        for back in backs {
            self.choose_fate();
            self.node.give_back(&[*back]);
        }
    }

    fn disable(&mut self) -> Step {
        let place = usize::try_from(self.choices.below(SUBSCRIBERS)).unwrap();
        self.enabled[place] = !self.enabled[place];
        self.declare();
        Ok(())
    }

    fn grant(&mut self) -> Step {
        self.tally.grants += 1;
        let subscriber: Id = name_of(self.choices.below(SUBSCRIBERS)).into();
        let change = match self.choices.below(3) {
            0 => Grant::Add(self.choices.below(8)),
            1 => Grant::SetRemaining(self.choices.below(8)),
            _ => Grant::Reset,
        };
        let catalog = self.catalog.snapshot();
        let plan = self.node.engine.prepare_grant(
            &*catalog,
            Subject::Subscriber(&subscriber),
            ("gold", "all", "q"),
            change,
            self.now,
        );
        let plan = plan.map_err(|wrong| wrong.to_string())?;
        // Where nothing is handed back, nothing is granted either.
        if plan.give_back.is_none() || self.choose_fate() == Fate::Done {
            self.choose_fate();
        }
        self.node.grant(&plan, self.now);
        Ok(())
    }

    fn sweep(&mut self) -> Step {
        self.node.engine.sweep(self.now);
        self.rules.sweep(Now {
            unix_ns: START_S * SECOND_NS + self.now.steady_ns,
            steady_ns: self.now.steady_ns,
        });
        let ended = self.node.engine.leases().take_ended();
        self.give_back(&ended);
        Ok(())
    }

    fn crash(&mut self) -> Step {
        self.tally.crashes += 1;
        self.wasted(WASTE)?;
        self.start();
        Ok(())
    }

    /// Nobody may spend any more what is charged and was not spent: how much is that?
    fn wasted(&mut self, most: u64) -> Step {
        for row in self.memory.usage(&Scope::All, 0, u64::MAX / 2).unwrap() {
            let subscriber = number_of(&row.identity.subscriber);
            let truth = self.truths.entry((subscriber, row.period.start_s())).or_default();
            let unspent = row.charged.checked_sub(truth.net + truth.lost);
            let unspent = unspent
                .ok_or_else(|| format!("{} units are charged, and {truth:?}", row.charged))?;
            if unspent > most {
                return Err(format!("{unspent} units are wasted, {most} may be"));
            }
            truth.lost += unspent;
        }
        Ok(())
    }

    /// Nothing is wasted, and the books are right to the unit.
    fn stop(&mut self) -> Step {
        self.tally.stops += 1;
        // As `LeaseBroker::put_away` does it: what was asked before is answered between its two halves.
        for _ in 0..2 {
            if !self.node.give_back(&self.node.engine.leases().put_away()) {
                return Err("a clean stop fails".to_owned());
            }
            while !self.late.is_empty() {
                self.deliver_late()?;
            }
        }
        // What could not be given back at an edit or after a period was given back now, or is lost
        // to a ledger that failed.
        self.wasted(0)?;
        self.start();
        Ok(())
    }

    fn start(&mut self) {
        self.late.clear();
        if self.bug == Some(Bug::KeepsTheEpoch) {
            self.node.start_as(self.node.engine.leases().holder(), self.now);
        } else {
            self.node.restart(self.now);
        }
        // Rates are of a node and a life: a restart gives a burst.
        self.burst_at_ns.iter_mut().for_each(|at_ns| *at_ns = 0);
    }
}

fn name_of(subscriber: u64) -> &'static str {
    ["s0", "s1", "s2", "s3"][usize::try_from(subscriber).unwrap()]
}

fn number_of(name: &str) -> u64 {
    name[1..].parse().unwrap()
}
