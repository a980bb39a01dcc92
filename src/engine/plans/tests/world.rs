//! A world in words: declarations, clocks, requests and reports, one a line, so that cases can be
//! data.
//!
//! ```text
//! plan gold                                     declares (or replaces) a plan; then its entitlements
//!   ent all a,b rate=5/5 key                    targets; rate/burst; `key`: counters by key
//!   method GET /users/{id} 1/1 beside target=a  a method limit; `beside`: the general one is checked too
//!   quota daily 10 day zone=Asia/Seoul week=sunday allow report count=2xx,404,others
//! target a rate=5/5 default=free                may be followed by `method` and `open GET /health`
//! sub acme gold,silver
//! key k1 acme disabled from=TIME until=TIME     its value is its id
//! account 5/5
//! drop plan gold
//! at TIME | wait 5s                             the wall clock steps | time passes
//! check k1 a GET /x cost=2 op=7 as=r1 -> ALLOW over left:daily=9 plan=gold/all
//! check k1 a -> QUOTA_EXCEEDED after=5s violated=daily
//! report r1 503 gateway cost=3 -> REFUNDED      also grpc:14, no_response, gone; `r1!` is altered; k1@a has no receipt
//! grant acme gold/all/daily +5                  also =5 and reset; acme:k1 where counters are by key
//! used acme gold/all/daily 3
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::desk::Desk;
use crate::decide::compiled::{CompiledPlan, CompiledTarget};
use crate::decide::gcra::{MicroRate, RateLimit};
use crate::decide::ledger::Scope;
use crate::decide::lookup::Lookup;
use crate::decide::outcome::{Ending, Outcome};
use crate::decide::plan::*;
use crate::decide::quota::Grant;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{Decision, Verdict};
use crate::engine::plans::{
    CheckInput, InvalidRequest, QuotaUsage, Report, ReportSubject, Settings, Settlement, Subject,
};

use crate::testkit::declared;
pub(crate) use crate::testkit::declared::{entitlement, plan, quota, request, target};

/// 2026-11-22 10:00:00 UTC, a Sunday.
pub(crate) const START_S: u64 = 1_795_341_600;

/// A catalog in maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) plans: BTreeMap<String, CompiledPlan>,
    pub(crate) targets: BTreeMap<String, CompiledTarget>,
    pub(crate) subscribers: BTreeMap<String, Subscriber>,
    pub(crate) keys: BTreeMap<String, ApiKey>,
    pub(crate) account: Option<RateLimit>,
    pub(crate) revision: u64,
}

impl Lookup for Catalog {
    fn api_key(&self, presented: &[u8]) -> Option<&ApiKey> {
        self.keys.get(std::str::from_utf8(presented).ok()?)
    }
    fn subscriber(&self, id: &str) -> Option<&Subscriber> {
        self.subscribers.get(id)
    }
    fn plan(&self, id: &str) -> Option<&CompiledPlan> {
        self.plans.get(id)
    }
    fn target(&self, id: &str) -> Option<&CompiledTarget> {
        self.targets.get(id)
    }
    fn account(&self) -> Option<&RateLimit> {
        self.account.as_ref()
    }
    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Catalog {
    pub(crate) fn put_plan(&mut self, plan: Plan) {
        self.plans.insert(plan.id.to_string(), CompiledPlan::new(Arc::new(plan)).unwrap());
    }

    pub(crate) fn put_target(&mut self, target: Target) {
        self.targets.insert(target.id.to_string(), CompiledTarget::new(Arc::new(target)).unwrap());
    }

    pub(crate) fn put_subscriber(&mut self, id: &str, plans: &[&str]) {
        self.subscribers.insert(id.to_owned(), declared::subscriber(id, plans));
    }

    pub(crate) fn put_key(&mut self, id: &str, subscriber: &str) {
        self.keys.insert(id.to_owned(), declared::key(id, subscriber));
    }
}

pub(crate) fn settings() -> Settings {
    Settings::new([7; 32], [9; 16])
}

/// Declarations, an engine and two clocks.
pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) engine: Desk,
    pub(crate) now: Now,
    plans: BTreeMap<String, Plan>,
    targets: BTreeMap<String, Target>,
    /// What `method`, `open` and `quota` lines add to.
    open: Option<Open>,
    receipts: HashMap<String, String>,
}

enum Open {
    Plan(String),
    Target(String),
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self {
            catalog: Catalog::default(),
            engine: Desk::new(settings),
            now: Now { unix_ns: START_S * SECOND_NS, steady_ns: 1_000 * SECOND_NS },
            plans: BTreeMap::new(),
            targets: BTreeMap::new(),
            open: None,
            receipts: HashMap::new(),
        }
    }

    /// Callers are known, and where their counters are.
    pub(crate) fn remembering(self) -> Self {
        Self { engine: self.engine.remembering(), ..self }
    }

    /// Does a script, and says which line failed.
    pub(crate) fn run(&mut self, script: &str) -> Result<(), String> {
        for (number, line) in script.lines().enumerate() {
            let line = line.split(" # ").next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            self.line(line).map_err(|wrong| format!("line {}: `{line}`: {wrong}", number + 1))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (words, expected) =
            line.split_once("->").map_or((line, ""), |(words, expected)| (words, expected));
        let words: Vec<&str> = words.split_whitespace().collect();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        let (verb, rest) = words.split_first().ok_or("empty")?;
        match *verb {
            "plan" => {
                self.plans.insert(rest[0].to_owned(), plan(rest[0], vec![]));
                self.open = Some(Open::Plan(rest[0].to_owned()));
                self.recompile();
            }
            "target" => {
                let mut declared = target(rest[0]);
                declared.rate_limit = option(rest, "rate").map(rate);
                declared.default_plan = option(rest, "default").map(Id::from);
                self.targets.insert(rest[0].to_owned(), declared);
                self.open = Some(Open::Target(rest[0].to_owned()));
                self.recompile();
            }
            "ent" | "quota" | "method" | "open" => {
                self.part(verb, rest)?;
                self.recompile();
            }
            "sub" => self.catalog.put_subscriber(
                rest[0],
                &rest.get(1).map_or(vec![], |plans| plans.split(',').collect()),
            ),
            "key" => {
                self.catalog.put_key(rest[0], rest[1]);
                let key = self.catalog.keys.get_mut(rest[0]).ok_or("no key")?;
                key.enabled = !rest.contains(&"disabled");
                key.dates.not_before_ns = option(rest, "from").map(time);
                key.dates.expire_ns = option(rest, "until").map(time);
            }
            "account" => {
                self.catalog.account =
                    rest.first().filter(|&&word| word != "off").map(|word| bucket(rate(word)))
            }
            "drop" => match rest[0] {
                "plan" => {
                    self.plans.remove(rest[1]);
                    self.catalog.plans.remove(rest[1]);
                }
                "key" => drop(self.catalog.keys.remove(rest[1])),
                "sub" => drop(self.catalog.subscribers.remove(rest[1])),
                other => return Err(format!("cannot drop {other}")),
            },
            "at" => self.now.unix_ns = time(rest[0]),
            "wait" => self.wait(duration(rest[0])),
            "sweep" => _ = self.engine.sweep(self.now),
            "check" => return self.check_line(rest, &expected),
            "report" => return self.report_line(rest, &expected),
            "grant" => self.grant_line(rest)?,
            "used" => return same("used", self.used(rest[0], rest[1]), rest[2].parse().unwrap()),
            other => return Err(format!("unknown verb {other}")),
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self, ns: u64) {
        self.now.unix_ns += ns;
        self.now.steady_ns += ns;
    }

    fn part(&mut self, verb: &str, words: &[&str]) -> Result<(), String> {
        match self.open.as_ref().ok_or("nothing is being declared")? {
            Open::Plan(id) => {
                let plan = self.plans.get_mut(id).ok_or("no plan")?;
                if verb == "ent" {
                    let targets: Vec<&str> =
                        words[1].split(',').filter(|&word| word != "-").collect();
                    let mut declared = entitlement(words[0], &targets);
                    declared.rate_limit = option(words, "rate").map(rate);
                    declared.counter_scope = if words.contains(&"key") {
                        CounterScope::Key
                    } else {
                        CounterScope::Subscriber
                    };
                    plan.entitlements.push(declared);
                    return Ok(());
                }
                let declared = plan.entitlements.last_mut().ok_or("no entitlement")?;
                match verb {
                    "quota" => declared.quotas.push(quota_of(words)),
                    _ => declared.method_rate_limits.push(method(words)),
                }
            }
            Open::Target(id) => {
                let target = self.targets.get_mut(id).ok_or("no target")?;
                match verb {
                    "open" => target.open_methods.push(OpenMethod {
                        method: words[0].to_owned(),
                        path: words[1].to_owned(),
                    }),
                    _ => target.method_rate_limits.push(method(words)),
                }
            }
        }
        Ok(())
    }

    fn recompile(&mut self) {
        match &self.open {
            Some(Open::Plan(id)) => self.catalog.put_plan(self.plans[id].clone()),
            Some(Open::Target(id)) => self.catalog.put_target(self.targets[id].clone()),
            None => {}
        }
    }

    pub(crate) fn check(&self, key: &str, target: &str, cost: Option<u64>) -> Decision<'_> {
        self.ask(&[if key == "-" { "" } else { key }, target], cost, "").unwrap()
    }

    fn ask(
        &self,
        words: &[&str],
        cost: Option<u64>,
        operation: &str,
    ) -> Result<Decision<'_>, InvalidRequest> {
        let word = |place: usize| words.get(place).copied().unwrap_or_default();
        let input = CheckInput {
            api_key: word(0).as_bytes(),
            target: word(1),
            method: word(2).as_bytes(),
            path: word(3).as_bytes(),
            cost,
            operation_id: operation.as_bytes(),
        };
        self.engine.check(&self.catalog, &input, self.now)
    }

    fn check_line(&mut self, words: &[&str], expected: &[&str]) -> Result<(), String> {
        let plain: Vec<&str> = words
            .iter()
            .copied()
            .filter(|word| !["cost=", "op=", "as="].iter().any(|name| word.starts_with(name)))
            .map(|word| if word == "-" { "" } else { word })
            .collect();
        let cost = option(words, "cost").map(|cost| cost.parse().unwrap());
        let receipt = match self.ask(&plain, cost, option(words, "op").unwrap_or_default()) {
            Ok(decision) => {
                verify(&decision, expected)?;
                decision.receipt.clone()
            }
            Err(error) => {
                return same(
                    "error",
                    format!("{error:?}").as_str(),
                    expected.first().copied().unwrap_or_default(),
                );
            }
        };
        if let (Some(name), Some(receipt)) = (option(words, "as"), receipt) {
            self.receipts.insert(name.to_owned(), receipt);
        }
        Ok(())
    }

    pub(crate) fn report(&self, receipt: &str, outcome: Outcome, cost: Option<u64>) -> Settlement {
        self.settle(&Report { subject: ReportSubject::Receipt(receipt.as_bytes()), outcome, cost })
    }

    fn settle(&self, report: &Report<'_>) -> Settlement {
        self.engine.settle(&self.catalog, report, self.now)
    }

    fn report_line(&mut self, words: &[&str], expected: &[&str]) -> Result<(), String> {
        let outcome =
            Outcome { ending: ending(words[1]), made_by_gateway: words.contains(&"gateway") };
        let cost = option(words, "cost").map(|cost| cost.parse().unwrap());
        let settlement = if let Some((key, target)) = words[0].split_once('@') {
            let subject =
                ReportSubject::Caller { api_key: key.as_bytes(), target, operation_id: b"" };
            self.settle(&Report { subject, outcome, cost })
        } else {
            let name = words[0].trim_end_matches('!');
            let mut receipt = self.receipts.get(name).ok_or("no such receipt")?.clone();
            if name != words[0] {
                let first = if receipt.starts_with('A') { "B" } else { "A" };
                receipt.replace_range(0..1, first);
            }
            self.report(&receipt, outcome, cost)
        };
        same(
            "settlement",
            format!("{settlement:?}").to_uppercase().as_str(),
            expected.first().copied().unwrap_or_default(),
        )
    }

    fn grant_line(&mut self, words: &[&str]) -> Result<(), String> {
        let change = match words[2] {
            "reset" => Grant::Reset,
            word if word.starts_with('+') => Grant::Add(word[1..].parse().unwrap()),
            word => Grant::SetRemaining(word[1..].parse().unwrap()),
        };
        let (subscriber, key) = words[0]
            .split_once(':')
            .map_or((Id::from(words[0]), None), |(one, key)| (Id::from(one), Some(Id::from(key))));
        let subject = key.as_ref().map_or(Subject::Subscriber(&subscriber), |key| Subject::Key {
            subscriber: &subscriber,
            key,
        });
        let names: Vec<&str> = words[1].split('/').collect();
        let names = (names[0], names[1], names[2]);
        self.engine
            .grant(&self.catalog, subject, names, change, self.now)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// What was used of the running period.
    pub(crate) fn used(&self, who: &str, quota: &str) -> u64 {
        self.usage(who, quota).map_or(0, |usage| usage.row.used)
    }

    pub(crate) fn usage(&self, who: &str, quota: &str) -> Option<QuotaUsage> {
        let (subscriber, key) =
            who.split_once(':').map_or((who, None), |(one, key)| (one, Some(key)));
        let rows = self.engine.quota_usage(
            &self.catalog,
            &Scope::Subscriber(subscriber.into()),
            self.now.unix_ns..self.now.unix_ns + 1,
            ("", None),
        );
        let named = |usage: &QuotaUsage| {
            format!("{}/{}/{}", usage.plan, usage.entitlement, usage.quota.name) == quota
        };
        rows.into_iter()
            .find(|usage| named(usage) && usage.key.as_deref() == key && usage.limit.is_some())
    }
}

fn verify(decision: &Decision<'_>, expected: &[&str]) -> Result<(), String> {
    let (verdict, details) = expected.split_first().ok_or("nothing is expected")?;
    let reason = decision.verdict.reason().map_or("ALLOW", |reason| reason.name());
    same("verdict", reason, verdict)?;
    let listed = |violated: bool| {
        let names = decision
            .limits
            .iter()
            .filter(|limit| !violated || limit.violated)
            .map(|limit| limit.name.to_string());
        names.collect::<Vec<_>>().join(",")
    };
    for detail in details {
        let (name, value) = detail.split_once('=').unwrap_or((detail, ""));
        // `_` stands for the blank in the name of a method limit.
        let value = &*value.replace('_', " ");
        match name {
            "over" => same("over_quota", decision.verdict, Verdict::Allow { over_quota: true })?,
            "under" => same("over_quota", decision.verdict, Verdict::Allow { over_quota: false })?,
            "never" => same("retry_after", after(decision), None)?,
            "after" => same("retry_after", after(decision), Some(duration(value)))?,
            "plan" => {
                same("plan", format!("{}/{}", decision.plan, decision.entitlement).as_str(), value)?
            }
            "sub" => same("subscriber", &*decision.subscriber, value)?,
            "http" => same(
                "http",
                decision.verdict.reason().map_or(200, |reason| reason.http_status()),
                value.parse().unwrap(),
            )?,
            "receipt" => same("receipt", decision.receipt.is_some(), true)?,
            "noreceipt" => same("receipt", decision.receipt.is_some(), false)?,
            "note" => same("note", decision.note.is_some(), true)?,
            "limits" => same("limits", listed(false).as_str(), value)?,
            "violated" => same("violated", listed(true).as_str(), value)?,
            _ => {
                let limit =
                    name.strip_prefix("left:").ok_or_else(|| format!("cannot expect {detail}"))?;
                let limit = limit.replace('_', " ");
                let status = decision
                    .limits
                    .iter()
                    .find(|status| status.name == *limit)
                    .ok_or_else(|| format!("no limit {limit}"))?;
                same("remaining", status.remaining, value.parse().unwrap())?;
            }
        }
    }
    Ok(())
}

fn after(decision: &Decision<'_>) -> Option<u64> {
    match decision.verdict {
        Verdict::Allow { .. } => Some(0),
        Verdict::Deny { retry_after_ns, .. } => retry_after_ns,
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn rate(word: &str) -> Rate {
    let (rate, burst) =
        word.split_once('/').map_or((word, None), |(rate, burst)| (rate, Some(burst)));
    let micro = rate.parse::<f64>().unwrap() * 1e6;
    Rate {
        rate: MicroRate(format!("{micro:.0}").parse().unwrap()),
        burst: burst.map(|burst| burst.parse().unwrap()),
    }
}

fn bucket(rate: Rate) -> RateLimit {
    rate.rate.limit(rate.burst).unwrap()
}

fn method(words: &[&str]) -> MethodRate {
    MethodRate {
        method: words[0].to_owned(),
        path: words[1].to_owned(),
        target: option(words, "target").map(Id::from),
        rate: rate(words[2]),
        replaces_general: !words.contains(&"beside"),
    }
}

fn quota_of(words: &[&str]) -> Quota {
    let unit = match words[2] {
        "minute" => PeriodUnit::Minute,
        "hour" => PeriodUnit::Hour,
        "day" => PeriodUnit::Day,
        "week" => PeriodUnit::Week,
        "month" => PeriodUnit::Month,
        "year" => PeriodUnit::Year,
        other => panic!("no unit {other}"),
    };
    let mut declared = quota(words[0], words[1].parse().unwrap(), unit);
    declared.time_zone = Id::from(option(words, "zone").unwrap_or("UTC"));
    declared.week_start = match option(words, "week") {
        Some("sunday") => Weekday::Sunday,
        Some("saturday") => Weekday::Saturday,
        _ => Weekday::Monday,
    };
    declared.on_breach = if words.contains(&"allow") { OnBreach::Allow } else { OnBreach::Reject };
    declared.charge = if words.contains(&"report") { Charge::AtReport } else { Charge::AtCheck };
    declared.count_statuses = option(words, "count").map(count_statuses);
    declared
}

pub(crate) fn count_statuses(words: &str) -> CountStatuses {
    let mut declared = CountStatuses::default();
    for word in words.split(',') {
        match word.as_bytes() {
            b"others" => declared.others = true,
            [class, b'x', b'x'] => declared.classes[usize::from(class - b'1')] = true,
            _ => declared.codes.push(word.parse().unwrap()),
        }
    }
    declared
}

pub(crate) fn ending(word: &str) -> Ending {
    match word {
        "no_response" => Ending::NoResponse,
        "gone" => Ending::CallerGone,
        _ => word.strip_prefix("grpc:").map_or_else(
            || Ending::Http(word.parse().unwrap()),
            |status| Ending::Grpc(status.parse().unwrap()),
        ),
    }
}

fn time(word: &str) -> u64 {
    let parsed: jiff::Timestamp = word.parse().unwrap();
    u64::try_from(parsed.as_nanosecond()).unwrap()
}

/// `5s`, `10ms`, `1d-1ns`.
fn duration(word: &str) -> u64 {
    let one = |part: &str| {
        let digits = part.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match &part[digits.len()..] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND_NS,
            "m" => 60 * SECOND_NS,
            "h" => 3600 * SECOND_NS,
            "d" => 86_400 * SECOND_NS,
            other => panic!("no unit {other:?} in {part}"),
        };
        digits.parse::<u64>().unwrap() * unit
    };
    let mut parts = word.split('-').map(one);
    let first = parts.next().unwrap();
    parts.fold(first, |left, part| left - part)
}
