//! The engine against a sequential model that was written from the contract alone: plain maps,
//! declared limits, leaky debts in nanoseconds.

mod acts;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use self::acts::*;
use super::desk::Desk;
use super::world::*;
use crate::decide::gcra::RateLimit;
use crate::decide::outcome::{Ending, Outcome};
use crate::decide::plan::*;
use crate::decide::quota::Grant;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{Reason, Verdict};
use crate::engine::plans::{CheckInput, Report, ReportSubject, Settlement, Subject};

const HOUR: u64 = 3600 * SECOND_NS;
/// The wall clock stays in this span, in which no row may be dropped.
const SPAN: u64 = 47 * HOUR;
const TTL: u64 = HOUR;

/// A counter of a quota, by every part of its identity, and its period.
type Counter = (String, String, String, PeriodUnit, String, u64);

#[derive(Clone, Debug)]
struct Issued {
    text: String,
    at: u64,
    steady: u64,
    cost: u64,
    charges: Vec<(Counter, Option<CountStatuses>, Charge)>,
    corrected: bool,
    charged: bool,
}

/// Debt of a bucket in nanoseconds, and when it was that.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    ns: u64,
    at: u64,
}

#[derive(Clone, Default)]
struct Model {
    debts: BTreeMap<String, Debt>,
    /// Used, granted.
    counts: BTreeMap<Counter, (i128, i128)>,
}

struct Met {
    reason: Option<Reason>,
    over: bool,
    /// Name, what remains after the decision, violated.
    limits: Vec<(String, u64, bool)>,
    counters: Vec<(Counter, Quota)>,
    quotas: bool,
}

fn period_start(unit: PeriodUnit, zone: &str, unix_ns: u64) -> u64 {
    let local = Timestamp::from_nanosecond(unix_ns.into())
        .unwrap()
        .to_zoned(TimeZoneDatabase::bundled().get(zone).unwrap());
    let start = match unit {
        PeriodUnit::Minute => local.with().second(0).subsec_nanosecond(0).build().unwrap(),
        PeriodUnit::Hour => local.with().minute(0).second(0).subsec_nanosecond(0).build().unwrap(),
        PeriodUnit::Day => local.start_of_day().unwrap(),
        PeriodUnit::Week => {
            let back = i64::from(local.weekday().to_monday_zero_offset());
            local.start_of_day().unwrap().checked_sub(jiff::Span::new().days(back)).unwrap()
        }
        PeriodUnit::Month => local.first_of_month().unwrap().start_of_day().unwrap(),
        PeriodUnit::Year => local.first_of_year().unwrap().start_of_day().unwrap(),
    };
    u64::try_from(start.timestamp().as_nanosecond()).unwrap()
}

fn counts(rule: Option<&CountStatuses>, outcome: Outcome) -> bool {
    let status = match outcome.ending {
        Ending::CallerGone => return true,
        Ending::NoResponse => return false,
        Ending::Http(status) => status,
        Ending::Grpc(14) => 503,
        Ending::Grpc(5) => 404,
        Ending::Grpc(other) => panic!("the model does not know {other}"),
    };
    if outcome.made_by_gateway && status >= 400 {
        return false;
    }
    let Some(rule) = rule else { return status < 500 };
    let class = usize::from(status / 100 - 1);
    let named = rule.classes[class] || rule.codes.iter().any(|code| code / 100 == status / 100);
    rule.classes[class] || rule.codes.contains(&status) || (rule.others && !named)
}

impl Model {
    /// What a bucket owes now, given its limit, and whether `cost` more fits.
    fn owes(&mut self, name: &str, limit: &RateLimit, now: Now) -> u64 {
        let debt = self.debts.entry(name.to_owned()).or_default();
        let owed = debt
            .ns
            .saturating_sub(now.steady_ns - debt.at)
            .min(limit.interval_ns() * limit.burst());
        *debt = Debt { ns: owed, at: now.steady_ns };
        owed
    }

    /// Decides; charges unless it is a peek.
    fn check(
        &mut self,
        declared: &Declared,
        key: usize,
        target: &str,
        path: &str,
        cost: Option<u64>,
        now: Now,
    ) -> Met {
        let refused = |reason| Met {
            reason: Some(reason),
            over: false,
            limits: vec![],
            counters: vec![],
            quotas: false,
        };
        if key == 3 {
            return refused(Reason::ApiKeyUnknown);
        }
        if !declared.enabled[key] {
            return refused(Reason::ApiKeyDisabled);
        }
        let Some(place) = declared.covering(OWNERS[key], target) else {
            return refused(Reason::NotSubscribed);
        };
        let covering = declared.plans[place].entitlements[0].clone();
        let subject = if covering.counter_scope == CounterScope::Key {
            KEYS[key].to_owned()
        } else {
            SUBSCRIBERS[OWNERS[key]].to_owned()
        };
        let ask = cost.map_or(1, |cost| cost.max(1));

        let mut buckets: Vec<(String, String, RateLimit, Reason)> = vec![];
        let path = path.split('?').next().unwrap();
        let pattern = match path {
            "/users/me" if target == "b" => Some("/users/me"),
            _ if path.starts_with("/users/") => Some("/users/{id}"),
            _ if path.starts_with("/files/") => Some("/files/*"),
            _ => None,
        };
        let method =
            covering.method_rate_limits.iter().find(|limit| Some(limit.path.as_str()) == pattern);
        let bucket = |rate: Rate| rate.rate.limit(rate.burst).unwrap();
        if let Some(rate) =
            covering.rate_limit.filter(|_| method.is_none_or(|method| !method.replaces_general))
        {
            buckets.push((
                "rate".to_owned(),
                format!("{subject} {place}"),
                bucket(rate),
                Reason::RateExceeded,
            ));
        }
        if let Some(method) = method {
            let name = format!("method:* {}", method.path);
            buckets.push((
                name,
                format!("{subject} {place} {}", method.path),
                bucket(method.rate),
                Reason::MethodRateExceeded,
            ));
        }
        if let Some(rate) = declared.target.filter(|_| target == "a") {
            buckets.push((
                "target".to_owned(),
                "target".to_owned(),
                bucket(rate),
                Reason::TargetRateExceeded,
            ));
        }
        if let Some(rate) = declared.account {
            buckets.push((
                "account".to_owned(),
                "account".to_owned(),
                bucket(rate),
                Reason::AccountRateExceeded,
            ));
        }
        let mut reason = None;
        let mut violated = vec![];
        for (_, counter, limit, on) in &buckets {
            let full = limit.interval_ns() * limit.burst();
            let bad = self.owes(counter, limit, now) + ask * limit.interval_ns() > full;
            violated.push(bad);
            reason = reason.or(bad.then_some(*on));
        }
        let mut over = false;
        let mut counters = vec![];
        for quota in &covering.quotas {
            let start = period_start(quota.unit, &quota.time_zone, now.unix_ns);
            let counter = (
                subject.clone(),
                PLANS[place].to_owned(),
                quota.name.to_string(),
                quota.unit,
                quota.time_zone.to_string(),
                start,
            );
            let bad = i128::from(ask) > self.left(&counter, quota.limit);
            violated.push(bad);
            if bad && quota.on_breach == OnBreach::Reject {
                reason = reason.or(Some(Reason::QuotaExceeded));
            }
            over |= bad && quota.on_breach == OnBreach::Allow;
            counters.push((counter, quota.clone()));
        }
        if reason.is_none() && cost != Some(0) {
            for (_, counter, limit, _) in &buckets {
                self.debts.get_mut(counter).unwrap().ns += ask * limit.interval_ns();
            }
            for (counter, quota) in &counters {
                if quota.charge == Charge::AtCheck {
                    self.counts.entry(counter.clone()).or_default().0 += i128::from(ask);
                }
            }
        }
        let mut limits = vec![];
        for ((name, counter, limit, _), bad) in buckets.iter().zip(&violated) {
            let full = limit.interval_ns() * limit.burst();
            limits.push((
                name.clone(),
                (full - self.debts[counter].ns) / limit.interval_ns(),
                *bad,
            ));
        }
        for ((counter, quota), bad) in counters.iter().zip(violated.iter().skip(buckets.len())) {
            limits.push((
                quota.name.to_string(),
                u64::try_from(self.left(counter, quota.limit)).unwrap(),
                *bad,
            ));
        }
        Met {
            reason,
            over: over && reason.is_none(),
            limits,
            counters,
            quotas: !covering.quotas.is_empty(),
        }
    }

    fn left(&self, counter: &Counter, limit: u64) -> i128 {
        let (used, granted) = self.counts.get(counter).copied().unwrap_or_default();
        ((i128::from(limit) + granted).max(0) - used).max(0)
    }

    fn settle(
        &mut self,
        issued: &mut Issued,
        outcome: Outcome,
        cost: Option<u64>,
        now: Now,
    ) -> Settlement {
        if now.unix_ns.saturating_sub(issued.at / 1000 * 1000) >= TTL {
            return Settlement::Expired;
        }
        let real: Vec<u64> = issued
            .charges
            .iter()
            .map(
                |(_, rule, _)| {
                    if counts(rule.as_ref(), outcome) { cost.unwrap_or(issued.cost) } else { 0 }
                },
            )
            .collect();
        let of = |kind: Charge| {
            issued.charges.iter().zip(&real).filter(move |((_, _, charge), _)| *charge == kind)
        };
        let corrects = of(Charge::AtCheck).any(|(_, &real)| real != issued.cost);
        let charges = of(Charge::AtReport).any(|(_, &real)| real != 0);
        let (do_correct, do_charge) = (corrects && !issued.corrected, charges && !issued.charged);
        for ((counter, _, charge), &real) in issued.charges.iter().zip(&real) {
            let change = match charge {
                Charge::AtCheck if do_correct => i128::from(real) - i128::from(issued.cost),
                Charge::AtReport if do_charge => i128::from(real),
                _ => 0,
            };
            self.counts.entry(counter.clone()).or_default().0 += change;
        }
        let at_check = of(Charge::AtCheck).count();
        let all_free = real.iter().all(|&real| real == 0) && !issued.charged;
        issued.corrected |= do_correct;
        issued.charged |= do_charge;
        match (do_correct, do_charge) {
            (false, false) if corrects || charges => Settlement::Duplicate,
            (true, _) if all_free => Settlement::Refunded,
            (false, false) if all_free && at_check == 0 => Settlement::Refunded,
            (true, _) => Settlement::Corrected,
            (false, _) => Settlement::Counted,
        }
    }
}

struct Run {
    declared: Declared,
    catalog: Catalog,
    engine: Desk,
    model: Model,
    issued: Vec<Issued>,
    now: Now,
    start: u64,
}

impl Run {
    fn new(start: u64, engine: Desk) -> Self {
        let declared = Declared::new();
        Self {
            catalog: declared.catalog(),
            declared,
            engine,
            model: Model::default(),
            issued: vec![],
            now: Now { unix_ns: start, steady_ns: 1_000 * SECOND_NS },
            start,
        }
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Check { key, target, path, cost } => {
                self.check(*key, TARGETS[*target], PATHS[*path], *cost)?
            }
            Act::Report { receipt, ending, gateway, cost } => {
                if self.issued.is_empty() {
                    return Ok(());
                }
                let place = *receipt % self.issued.len();
                let outcome = Outcome { ending: ENDINGS[*ending], made_by_gateway: *gateway };
                let report = Report {
                    subject: ReportSubject::Receipt(self.issued[place].text.as_bytes()),
                    outcome,
                    cost: *cost,
                };
                let found = self.engine.settle(&self.catalog, &report, self.now);
                // A wall clock that steps back makes a receipt no younger; whether that shows
                // depends on when marks were dropped.
                let old = self.now.steady_ns - self.issued[place].steady >= TTL;
                if old && found == Settlement::Expired {
                    return Ok(());
                }
                prop_assert_eq!(
                    found,
                    self.model.settle(&mut self.issued[place], outcome, *cost, self.now)
                );
            }
            Act::ReportCaller { key, target, ending, cost } => {
                let (outcome, target) = (Outcome::of(ENDINGS[*ending]), TARGETS[*target]);
                let report = Report {
                    subject: ReportSubject::Caller {
                        api_key: KEYS[*key].as_bytes(),
                        target,
                        operation_id: b"",
                    },
                    outcome,
                    cost: *cost,
                };
                let found = self.engine.settle(&self.catalog, &report, self.now);
                let known = *key < 3 && self.declared.covering(OWNERS[*key], target).is_some();
                prop_assert_eq!(
                    found,
                    if known { Settlement::Counted } else { Settlement::Invalid }
                );
                if known {
                    // Whose and which counters: as a check would find them.
                    let mut declared = self.declared.clone();
                    declared.enabled = [true; 3];
                    for (counter, quota) in self
                        .model
                        .clone()
                        .check(&declared, *key, target, "/", Some(0), self.now)
                        .counters
                    {
                        if quota.charge == Charge::AtReport
                            && counts(quota.count_statuses.as_ref(), outcome)
                        {
                            self.model.counts.entry(counter).or_default().0 +=
                                i128::from(cost.unwrap_or(1));
                        }
                    }
                }
            }
            Act::Wait(ns) => {
                let ns = (*ns).min((self.start + SPAN).saturating_sub(self.now.unix_ns));
                self.now =
                    Now { unix_ns: self.now.unix_ns + ns, steady_ns: self.now.steady_ns + ns };
            }
            Act::Wall(offset) => self.now.unix_ns = self.start + offset,
            Act::Edit(edit) => {
                self.declared.edit(edit);
                self.catalog = self.declared.catalog();
            }
            Act::Grant { subscriber, quota, grant } => self.grant(*subscriber, *quota, *grant),
        }
        Ok(())
    }

    fn check(
        &mut self,
        key: usize,
        target: &str,
        path: &str,
        cost: Option<u64>,
    ) -> Result<(), TestCaseError> {
        let input = CheckInput {
            api_key: KEYS[key].as_bytes(),
            target,
            method: b"GET",
            path: path.as_bytes(),
            cost,
            operation_id: b"",
        };
        let met = self.model.check(&self.declared, key, target, path, cost, self.now);
        let decision = self.engine.check(&self.catalog, &input, self.now).unwrap();
        prop_assert_eq!(decision.verdict.reason(), met.reason);
        let found: Vec<_> = decision
            .limits
            .iter()
            .map(|limit| (limit.name.to_string(), limit.remaining, limit.violated))
            .collect();
        prop_assert_eq!(found, met.limits);
        prop_assert_eq!(
            decision.receipt.is_some(),
            met.reason.is_none() && met.quotas && cost != Some(0)
        );
        match decision.verdict {
            Verdict::Allow { over_quota } => prop_assert_eq!(over_quota, met.over),
            // Of periods to come that were forgotten it promises what is known.
            Verdict::Deny { retry_after_ns: Some(_), .. }
                if self.engine.has_forgotten_after(self.now) => {}
            Verdict::Deny { retry_after_ns: Some(after), .. } => {
                // A refusal charges nothing, so this is the world of the promise: an instant
                // before, and at the instant, in a world where nobody else asks.
                let at = |ns: u64| Now {
                    unix_ns: self.now.unix_ns + ns,
                    steady_ns: self.now.steady_ns + ns,
                };
                let then = self
                    .model
                    .clone()
                    .check(&self.declared, key, target, path, cost, at(after))
                    .reason;
                prop_assert_eq!(then, None, "refused at the promised instant");
                let early = self
                    .model
                    .clone()
                    .check(&self.declared, key, target, path, cost, at(after - 1))
                    .reason;
                prop_assert!(early.is_some(), "passed before the promised instant");
            }
            Verdict::Deny { retry_after_ns: None, .. } => {
                for wait in [HOUR, 100 * HOUR, 2_000 * HOUR] {
                    let later = Now {
                        unix_ns: self.now.unix_ns + wait,
                        steady_ns: self.now.steady_ns + wait,
                    };
                    let then = self
                        .model
                        .clone()
                        .check(&self.declared, key, target, path, cost, later)
                        .reason;
                    prop_assert!(then.is_some(), "never is not never");
                }
            }
        }
        if let Some(text) = decision.receipt {
            prop_assert!(text.len() <= 160);
            let charges = met
                .counters
                .into_iter()
                .map(|(counter, quota)| (counter, quota.count_statuses, quota.charge))
                .collect();
            self.issued.push(Issued {
                text,
                at: self.now.unix_ns,
                steady: self.now.steady_ns,
                cost: cost.unwrap_or(1),
                charges,
                corrected: false,
                charged: false,
            });
        }
        Ok(())
    }

    /// To the subscriber-wide plan.
    fn grant(&mut self, subscriber: usize, quota: usize, grant: Grant) {
        let names = ("p0", "wide", QUOTAS[quota]);
        let subject = Id::from(SUBSCRIBERS[subscriber]);
        let found =
            self.engine.grant(&self.catalog, Subject::Subscriber(&subject), names, grant, self.now);
        if self.declared.dropped[0] {
            assert!(found.is_err());
            return;
        }
        let declared = &self.declared.plans[0].entitlements[0].quotas[quota];
        let start = period_start(declared.unit, &declared.time_zone, self.now.unix_ns);
        let counter = (
            subject.to_string(),
            "p0".to_owned(),
            QUOTAS[quota].to_owned(),
            declared.unit,
            declared.time_zone.to_string(),
            start,
        );
        let (used, granted) = self.model.counts.entry(counter).or_default();
        let limit = i128::from(declared.limit);
        *granted = match grant {
            Grant::Add(units) => *granted + i128::from(units),
            Grant::SetRemaining(units) => *used + i128::from(units) - limit,
            Grant::Reset => *used,
        };
        assert!(found.is_ok());
    }

    /// Every book of the engine is the model's.
    fn compare(&self) -> Result<(), TestCaseError> {
        let mut books: BTreeMap<Counter, (i128, i128)> = BTreeMap::new();
        for usage in self.engine.books(&self.catalog) {
            let subject = usage.key.unwrap_or(usage.subscriber).to_string();
            let zone = usage.quota.time_zone.to_string();
            let counter = (
                subject,
                usage.plan.to_string(),
                usage.quota.name.to_string(),
                usage.quota.unit,
                zone,
                usage.row.period.start_ns,
            );
            books.insert(counter, (usage.row.used.into(), usage.row.granted.into()));
        }
        books.retain(|_, books| *books != (0, 0));
        let mut expected = self.model.counts.clone();
        expected.retain(|_, books| *books != (0, 0));
        prop_assert_eq!(books, expected);
        Ok(())
    }
}

/// Sundays and ends of months, and the days on which clocks change in New York.
const STARTS: [u64; 4] = [START_S, 1_796_040_000, 1_772_863_200, 1_793_458_800];

fn sequences() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: sequences(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_sequential_model(start in prop::sample::select(STARTS.to_vec()), acts in prop::collection::vec(act(), 1..120)) {
        agrees(Run::new(start * SECOND_NS, Desk::new(settings())), &acts)?;
    }

    #[test]
    fn an_engine_that_knows_its_callers_agrees_with_the_sequential_model(
        start in prop::sample::select(STARTS.to_vec()),
        acts in prop::collection::vec(act(), 1..120),
    ) {
        agrees(Run::new(start * SECOND_NS, Desk::new(settings()).remembering()), &acts)?;
    }
}

fn agrees(mut run: Run, acts: &[Act]) -> Result<(), TestCaseError> {
    for (place, act) in acts.iter().enumerate() {
        run.act(act)
            .map_err(|wrong| TestCaseError::fail(format!("act {place}, {act:?}: {wrong}")))?;
        if place % 8 == 7 {
            run.engine.sweep(run.now);
        }
    }
    run.compare()
}

/// The model must be able to fail: an engine that charged twice would not pass.
#[test]
fn the_model_notices_one_charge_too_many() {
    let mut run = Run::new(START_S * SECOND_NS, Desk::new(settings()));
    run.check(0, "a", "/other", None).unwrap();
    run.compare().unwrap();
    let input = request(b"k0", "a");
    run.engine.check(&run.catalog, &input, run.now).unwrap();
    assert!(run.compare().is_err());
}
