//! The engine against a sequential model that was written from the contract alone: plain maps, declared limits, leaky debts in nanoseconds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::world::*;
use crate::decide::gcra::{MicroRate, RateLimit};
use crate::decide::outcome::{Ending, Outcome};
use crate::decide::plan::*;
use crate::decide::quota::Grant;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{Reason, Verdict};
use crate::engine::plans::{CheckInput, PlanEngine, Report, ReportSubject, Scope, Settlement, Subject};

const HOUR: u64 = 3600 * SECOND_NS;
/// The wall clock stays in this span, in which no row may be dropped.
const SPAN: u64 = 47 * HOUR;
const TTL: u64 = HOUR;

#[derive(Clone, Debug)]
enum Act {
    Check { key: usize, target: usize, path: usize, cost: Option<u64> },
    Report { receipt: usize, ending: usize, gateway: bool, cost: Option<u64> },
    ReportCaller { key: usize, target: usize, ending: usize, cost: Option<u64> },
    Wait(u64),
    Wall(u64),
    Edit(Edit),
    Grant { subscriber: usize, quota: usize, grant: Grant },
}

#[derive(Clone, Debug)]
enum Edit {
    Limit { plan: usize, quota: usize, limit: u64 },
    Unit { plan: usize, quota: usize, unit: usize },
    Zone { plan: usize, quota: usize, zone: usize },
    Breach { plan: usize, quota: usize, allow: bool },
    Charge { plan: usize, quota: usize, at_report: bool },
    Statuses { plan: usize, quota: usize, rule: usize },
    Rate { plan: usize, rate: u64, burst: u64 },
    NoRate { plan: usize },
    MethodRate { plan: usize, rate: u64, burst: u64, beside: bool },
    Target { rate: Option<(u64, u64)> },
    Account { rate: Option<(u64, u64)> },
    Order { subscriber: usize, order: usize },
    Drop { plan: usize },
    Restore { plan: usize },
    Key { key: usize, enabled: bool },
}

const KEYS: [&str; 4] = ["k0", "k1", "k2", "stranger"];
const OWNERS: [usize; 3] = [0, 0, 1];
const SUBSCRIBERS: [&str; 2] = ["s0", "s1"];
const TARGETS: [&str; 3] = ["a", "b", "nowhere"];
const PLANS: [&str; 2] = ["p0", "p1"];
const QUOTAS: [&str; 2] = ["q0", "q1"];
const PATHS: [&str; 4] = ["/users/me", "/users/7?x=1", "/files/a/b", "/other"];
const UNITS: [PeriodUnit; 5] = [PeriodUnit::Minute, PeriodUnit::Hour, PeriodUnit::Day, PeriodUnit::Week, PeriodUnit::Month];
const ZONES: [&str; 3] = ["UTC", "Asia/Kolkata", "America/New_York"];
const ENDINGS: [Ending; 8] = [
    Ending::Http(200),
    Ending::Http(404),
    Ending::Http(503),
    Ending::Http(302),
    Ending::NoResponse,
    Ending::CallerGone,
    Ending::Grpc(14),
    Ending::Grpc(5),
];
const RULES: [Option<&str>; 4] = [None, Some("2xx"), Some("404,others"), Some("5xx")];
const ORDERS: [&[&str]; 4] = [&["p0", "p1"], &["p1", "p0"], &["p1"], &[]];

fn act() -> impl Strategy<Value = Act> {
    let cost = || prop_oneof![4 => Just(None), 1 => Just(Some(0)), 3 => (1u64..5).prop_map(Some)];
    let small = || prop_oneof![3 => 1u64..4 * SECOND_NS, 2 => 1u64..10 * 60 * SECOND_NS, 1 => 1u64..9 * HOUR];
    let grant = prop_oneof![(0u64..4).prop_map(Grant::Add), (0u64..8).prop_map(Grant::SetRemaining), Just(Grant::Reset)];
    prop_oneof![
        12 => (0..4usize, 0..3usize, 0..4usize, cost()).prop_map(|(key, target, path, cost)| Act::Check { key, target, path, cost }),
        6 => (0..400usize, 0..8usize, any::<bool>(), prop_oneof![3 => Just(None), 1 => (0u64..6).prop_map(Some)])
            .prop_map(|(receipt, ending, gateway, cost)| Act::Report { receipt, ending, gateway, cost }),
        1 => (0..4usize, 0..3usize, 0..8usize, cost()).prop_map(|(key, target, ending, cost)| Act::ReportCaller { key, target, ending, cost }),
        4 => small().prop_map(Act::Wait),
        1 => (0..SPAN).prop_map(Act::Wall),
        3 => edit().prop_map(Act::Edit),
        1 => (0..2usize, 0..2usize, grant).prop_map(|(subscriber, quota, grant)| Act::Grant { subscriber, quota, grant }),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let pq = || (0..2usize, 0..2usize);
    let rate = || prop::option::of((1u64..20, 1u64..6));
    prop_oneof![
        (pq(), 0u64..8).prop_map(|((plan, quota), limit)| Edit::Limit { plan, quota, limit }),
        (pq(), 0..5usize).prop_map(|((plan, quota), unit)| Edit::Unit { plan, quota, unit }),
        (pq(), 0..3usize).prop_map(|((plan, quota), zone)| Edit::Zone { plan, quota, zone }),
        (pq(), any::<bool>()).prop_map(|((plan, quota), allow)| Edit::Breach { plan, quota, allow }),
        (pq(), any::<bool>()).prop_map(|((plan, quota), at_report)| Edit::Charge { plan, quota, at_report }),
        (pq(), 0..4usize).prop_map(|((plan, quota), rule)| Edit::Statuses { plan, quota, rule }),
        (0..2usize, 1u64..20, 1u64..6).prop_map(|(plan, rate, burst)| Edit::Rate { plan, rate, burst }),
        (0..2usize).prop_map(|plan| Edit::NoRate { plan }),
        (0..2usize, 1u64..20, 1u64..4, any::<bool>()).prop_map(|(plan, rate, burst, beside)| Edit::MethodRate {
            plan,
            rate,
            burst,
            beside
        }),
        rate().prop_map(|rate| Edit::Target { rate }),
        rate().prop_map(|rate| Edit::Account { rate }),
        (0..2usize, 0..4usize).prop_map(|(subscriber, order)| Edit::Order { subscriber, order }),
        (0..2usize).prop_map(|plan| Edit::Drop { plan }),
        (0..2usize).prop_map(|plan| Edit::Restore { plan }),
        (0..3usize, any::<bool>()).prop_map(|(key, enabled)| Edit::Key { key, enabled }),
    ]
}

/// What is declared.
#[derive(Clone)]
struct Declared {
    plans: [Plan; 2],
    dropped: [bool; 2],
    orders: [usize; 2],
    target: Option<Rate>,
    account: Option<Rate>,
    enabled: [bool; 3],
}

fn tenths(rate: u64, burst: u64) -> Rate {
    Rate { rate: MicroRate(rate * 100_000), burst: Some(burst) }
}

impl Declared {
    fn new() -> Self {
        let quotas = || vec![quota("q0", 5, PeriodUnit::Day), quota("q1", 7, PeriodUnit::Hour)];
        let mut wide = entitlement("wide", &["a", "b"]);
        wide.quotas = quotas();
        wide.rate_limit = Some(tenths(10, 4));
        let mut by_key = entitlement("by-key", &["b"]);
        by_key.quotas = quotas();
        by_key.counter_scope = CounterScope::Key;
        Self {
            plans: [plan("p0", vec![wide]), plan("p1", vec![by_key])],
            dropped: [false; 2],
            orders: [0, 1],
            target: None,
            account: None,
            enabled: [true; 3],
        }
    }

    fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Limit { plan, quota, limit } => self.quota(plan, quota).limit = limit,
            Edit::Unit { plan, quota, unit } => self.quota(plan, quota).unit = UNITS[unit],
            Edit::Zone { plan, quota, zone } => self.quota(plan, quota).time_zone = Id::from(ZONES[zone]),
            Edit::Breach { plan, quota, allow } => {
                self.quota(plan, quota).on_breach = if allow { OnBreach::Allow } else { OnBreach::Reject }
            }
            Edit::Charge { plan, quota, at_report } => {
                self.quota(plan, quota).charge = if at_report { Charge::AtReport } else { Charge::AtCheck }
            }
            Edit::Statuses { plan, quota, rule } => self.quota(plan, quota).count_statuses = RULES[rule].map(count_statuses),
            Edit::Rate { plan, rate, burst } => self.plans[plan].entitlements[0].rate_limit = Some(tenths(rate, burst)),
            Edit::NoRate { plan } => self.plans[plan].entitlements[0].rate_limit = None,
            Edit::MethodRate { plan, rate, burst, beside } => {
                let one = |path: &str, target: Option<&str>| MethodRate {
                    method: "*".to_owned(),
                    path: path.to_owned(),
                    target: target.map(Id::from),
                    rate: tenths(rate, burst),
                    replaces_general: !beside,
                };
                self.plans[plan].entitlements[0].method_rate_limits =
                    vec![one("/files/*", None), one("/users/{id}", None), one("/users/me", Some("b"))];
            }
            Edit::Target { rate } => self.target = rate.map(|(rate, burst)| tenths(rate, burst)),
            Edit::Account { rate } => self.account = rate.map(|(rate, burst)| tenths(rate, burst)),
            Edit::Order { subscriber, order } => self.orders[subscriber] = order,
            Edit::Drop { plan } => self.dropped[plan] = true,
            Edit::Restore { plan } => self.dropped[plan] = false,
            Edit::Key { key, enabled } => self.enabled[key] = enabled,
        }
    }

    fn quota(&mut self, plan: usize, quota: usize) -> &mut Quota {
        &mut self.plans[plan].entitlements[0].quotas[quota]
    }

    fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for (plan, dropped) in self.plans.iter().zip(self.dropped) {
            if !dropped {
                catalog.put_plan(plan.clone());
            }
        }
        let mut a = target("a");
        a.rate_limit = self.target;
        a.default_plan = Some(Id::from("p0"));
        catalog.put_target(a);
        catalog.put_target(target("b"));
        for (subscriber, order) in SUBSCRIBERS.iter().zip(self.orders) {
            catalog.put_subscriber(subscriber, ORDERS[order]);
        }
        for (place, key) in KEYS.iter().take(3).enumerate() {
            catalog.put_key(key, SUBSCRIBERS[OWNERS[place]]);
            catalog.keys.get_mut(*key).unwrap().enabled = self.enabled[place];
        }
        catalog.account = self.account.map(|rate| rate.rate.limit(rate.burst).unwrap());
        catalog
    }

    /// The plan that covers a target for a subscriber.
    fn covering(&self, subscriber: usize, target: &str) -> Option<usize> {
        let covers = |id: &str| {
            let place = PLANS.iter().position(|plan| *plan == id).unwrap();
            let named = self.plans[place].entitlements[0].targets.iter().any(|named| &**named == target);
            (!self.dropped[place] && named).then_some(place)
        };
        let own = ORDERS[self.orders[subscriber]].iter().find_map(|plan| covers(plan));
        own.or_else(|| if target == "a" { covers("p0") } else { None })
    }
}

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
    let local = Timestamp::from_nanosecond(unix_ns.into()).unwrap().to_zoned(TimeZoneDatabase::bundled().get(zone).unwrap());
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
        let owed = debt.ns.saturating_sub(now.steady_ns - debt.at).min(limit.interval_ns() * limit.burst());
        *debt = Debt { ns: owed, at: now.steady_ns };
        owed
    }

    /// Decides; charges unless it is a peek.
    fn check(&mut self, declared: &Declared, key: usize, target: &str, path: &str, cost: Option<u64>, now: Now) -> Met {
        let refused = |reason| Met { reason: Some(reason), over: false, limits: vec![], counters: vec![], quotas: false };
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
        let subject = if covering.counter_scope == CounterScope::Key { KEYS[key].to_owned() } else { SUBSCRIBERS[OWNERS[key]].to_owned() };
        let ask = cost.map_or(1, |cost| cost.max(1));

        let mut buckets: Vec<(String, String, RateLimit, Reason)> = vec![];
        let path = path.split('?').next().unwrap();
        let pattern = match path {
            "/users/me" if target == "b" => Some("/users/me"),
            _ if path.starts_with("/users/") => Some("/users/{id}"),
            _ if path.starts_with("/files/") => Some("/files/*"),
            _ => None,
        };
        let method = covering.method_rate_limits.iter().find(|limit| Some(limit.path.as_str()) == pattern);
        let bucket = |rate: Rate| rate.rate.limit(rate.burst).unwrap();
        if let Some(rate) = covering.rate_limit.filter(|_| method.is_none_or(|method| !method.replaces_general)) {
            buckets.push(("rate".to_owned(), format!("{subject} {place}"), bucket(rate), Reason::RateExceeded));
        }
        if let Some(method) = method {
            let name = format!("method:* {}", method.path);
            buckets.push((name, format!("{subject} {place} {}", method.path), bucket(method.rate), Reason::MethodRateExceeded));
        }
        if let Some(rate) = declared.target.filter(|_| target == "a") {
            buckets.push(("target".to_owned(), "target".to_owned(), bucket(rate), Reason::TargetRateExceeded));
        }
        if let Some(rate) = declared.account {
            buckets.push(("account".to_owned(), "account".to_owned(), bucket(rate), Reason::AccountRateExceeded));
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
            let counter =
                (subject.clone(), PLANS[place].to_owned(), quota.name.to_string(), quota.unit, quota.time_zone.to_string(), start);
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
            limits.push((name.clone(), (full - self.debts[counter].ns) / limit.interval_ns(), *bad));
        }
        for ((counter, quota), bad) in counters.iter().zip(violated.iter().skip(buckets.len())) {
            limits.push((quota.name.to_string(), u64::try_from(self.left(counter, quota.limit)).unwrap(), *bad));
        }
        Met { reason, over: over && reason.is_none(), limits, counters, quotas: !covering.quotas.is_empty() }
    }

    fn left(&self, counter: &Counter, limit: u64) -> i128 {
        let (used, granted) = self.counts.get(counter).copied().unwrap_or_default();
        ((i128::from(limit) + granted).max(0) - used).max(0)
    }

    fn settle(&mut self, issued: &mut Issued, outcome: Outcome, cost: Option<u64>, now: Now) -> Settlement {
        if now.unix_ns.saturating_sub(issued.at / 1000 * 1000) >= TTL {
            return Settlement::Expired;
        }
        let real: Vec<u64> = issued
            .charges
            .iter()
            .map(|(_, rule, _)| if counts(rule.as_ref(), outcome) { cost.unwrap_or(issued.cost) } else { 0 })
            .collect();
        let of = |kind: Charge| issued.charges.iter().zip(&real).filter(move |((_, _, charge), _)| *charge == kind);
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
    engine: PlanEngine,
    model: Model,
    issued: Vec<Issued>,
    now: Now,
    start: u64,
}

impl Run {
    fn new(start: u64) -> Self {
        let declared = Declared::new();
        Self {
            catalog: declared.catalog(),
            declared,
            engine: PlanEngine::new(settings()),
            model: Model::default(),
            issued: vec![],
            now: Now { unix_ns: start, steady_ns: 1_000 * SECOND_NS },
            start,
        }
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Check { key, target, path, cost } => self.check(*key, TARGETS[*target], PATHS[*path], *cost)?,
            Act::Report { receipt, ending, gateway, cost } => {
                if self.issued.is_empty() {
                    return Ok(());
                }
                let place = *receipt % self.issued.len();
                let outcome = Outcome { ending: ENDINGS[*ending], made_by_gateway: *gateway };
                let report = Report { subject: ReportSubject::Receipt(self.issued[place].text.as_bytes()), outcome, cost: *cost };
                let found = self.engine.settle(&self.catalog, &report, self.now).unwrap();
                // A wall clock that steps back makes a receipt no younger; whether that shows depends on when marks were dropped.
                let old = self.now.steady_ns - self.issued[place].steady >= TTL;
                if old && found == Settlement::Expired {
                    return Ok(());
                }
                prop_assert_eq!(found, self.model.settle(&mut self.issued[place], outcome, *cost, self.now));
            }
            Act::ReportCaller { key, target, ending, cost } => {
                let (outcome, target) = (Outcome::of(ENDINGS[*ending]), TARGETS[*target]);
                let report = Report { subject: ReportSubject::Caller { api_key: KEYS[*key].as_bytes(), target }, outcome, cost: *cost };
                let found = self.engine.settle(&self.catalog, &report, self.now).unwrap();
                let known = *key < 3 && self.declared.covering(OWNERS[*key], target).is_some();
                prop_assert_eq!(found, if known { Settlement::Counted } else { Settlement::Invalid });
                if known {
                    // Whose and which counters: as a check would find them.
                    let mut declared = self.declared.clone();
                    declared.enabled = [true; 3];
                    for (counter, quota) in self.model.clone().check(&declared, *key, target, "/", Some(0), self.now).counters {
                        if quota.charge == Charge::AtReport && counts(quota.count_statuses.as_ref(), outcome) {
                            self.model.counts.entry(counter).or_default().0 += i128::from(cost.unwrap_or(1));
                        }
                    }
                }
            }
            Act::Wait(ns) => {
                let ns = (*ns).min((self.start + SPAN).saturating_sub(self.now.unix_ns));
                self.now = Now { unix_ns: self.now.unix_ns + ns, steady_ns: self.now.steady_ns + ns };
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

    fn check(&mut self, key: usize, target: &str, path: &str, cost: Option<u64>) -> Result<(), TestCaseError> {
        let input = CheckInput { api_key: KEYS[key].as_bytes(), target, method: b"GET", path: path.as_bytes(), cost, operation_id: b"" };
        let met = self.model.check(&self.declared, key, target, path, cost, self.now);
        let decision = self.engine.check(&self.catalog, &input, self.now).unwrap();
        prop_assert_eq!(decision.verdict.reason(), met.reason);
        let found: Vec<_> = decision.limits.iter().map(|limit| (limit.name.to_string(), limit.remaining, limit.violated)).collect();
        prop_assert_eq!(found, met.limits);
        prop_assert_eq!(decision.receipt.is_some(), met.reason.is_none() && met.quotas && cost != Some(0));
        match decision.verdict {
            Verdict::Allow { over_quota } => prop_assert_eq!(over_quota, met.over),
            Verdict::Deny { retry_after_ns: Some(after), .. } => {
                // A refusal charges nothing, so this is the world of the promise: an instant before, and at the instant, in a world where nobody else asks.
                let at = |ns: u64| Now { unix_ns: self.now.unix_ns + ns, steady_ns: self.now.steady_ns + ns };
                let then = self.model.clone().check(&self.declared, key, target, path, cost, at(after)).reason;
                prop_assert_eq!(then, None, "refused at the promised instant");
                let early = self.model.clone().check(&self.declared, key, target, path, cost, at(after - 1)).reason;
                prop_assert!(early.is_some(), "passed before the promised instant");
            }
            Verdict::Deny { retry_after_ns: None, .. } => {
                for wait in [HOUR, 100 * HOUR, 2_000 * HOUR] {
                    let later = Now { unix_ns: self.now.unix_ns + wait, steady_ns: self.now.steady_ns + wait };
                    let then = self.model.clone().check(&self.declared, key, target, path, cost, later).reason;
                    prop_assert!(then.is_some(), "never is not never");
                }
            }
        }
        if let Some(text) = decision.receipt {
            prop_assert!(text.len() <= 160);
            let charges = met.counters.into_iter().map(|(counter, quota)| (counter, quota.count_statuses, quota.charge)).collect();
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
        let found = self.engine.grant(&self.catalog, Subject::Subscriber(&subject), names, grant, self.now);
        if self.declared.dropped[0] {
            assert!(found.is_err());
            return;
        }
        let declared = &self.declared.plans[0].entitlements[0].quotas[quota];
        let start = period_start(declared.unit, &declared.time_zone, self.now.unix_ns);
        let counter =
            (subject.to_string(), "p0".to_owned(), QUOTAS[quota].to_owned(), declared.unit, declared.time_zone.to_string(), start);
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
        for usage in self.engine.quota_usage(&self.catalog, Scope::All, 0, u64::MAX) {
            let subject = usage.key.unwrap_or(usage.subscriber).to_string();
            let zone = usage.quota.time_zone.to_string();
            let counter =
                (subject, usage.plan.to_string(), usage.quota.name.to_string(), usage.quota.unit, zone, usage.row.period.start_ns);
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
        let mut run = Run::new(start * SECOND_NS);
        for (place, act) in acts.iter().enumerate() {
            run.act(act).map_err(|wrong| TestCaseError::fail(format!("act {place}, {act:?}: {wrong}")))?;
            run.engine.sweep(run.now);
        }
        run.compare()?;
    }
}

/// The model must be able to fail: an engine that charged twice would not pass.
#[test]
fn the_model_notices_one_charge_too_many() {
    let mut run = Run::new(START_S * SECOND_NS);
    run.check(0, "a", "/other", None).unwrap();
    run.compare().unwrap();
    let input = CheckInput { api_key: b"k0", target: "a", method: b"GET", path: b"/", cost: None, operation_id: b"" };
    run.engine.check(&run.catalog, &input, run.now).unwrap();
    assert!(run.compare().is_err());
}
