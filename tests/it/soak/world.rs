//! Whom the soak asks about: plans with every kind of quota, and their subscribers.

use bytes::Bytes;
use tollgate::grpc::pb::tollgate::entitlement::CounterScope;
use tollgate::grpc::pb::tollgate::quota::{Charge, OnBreach, Unit};
use tollgate::grpc::pb::tollgate::{
    ApiKey, ApiKeyWithValue, ApplyRequest, Entitlement, Quota, RateLimit, Subscriber,
    SubscriberWithKeys, Target, UsagePlan,
};

pub const TARGETS: [&str; 2] = ["shop/orders", "shop/users"];
/// Nobody comes to its end.
const AMPLE: u64 = 1 << 50;

/// A plan, and how many have it.
#[derive(Debug)]
pub struct Kind {
    pub plan: &'static str,
    pub subscribers: u32,
    /// Of each subscriber. More than one: each has counters of its own.
    pub keys: u32,
    pub quotas: &'static [QuotaKind],
}

#[derive(Debug)]
pub struct QuotaKind {
    pub name: &'static str,
    unit: Unit,
    limit: u64,
    /// What the edits of the plan put on top of it, in turn.
    raised: &'static [u64],
    pub lets_pass: bool,
    /// Counts 1xx to 3xx.
    pub successes_only: bool,
    pub at_report: bool,
}

const fn quota(name: &'static str, unit: Unit, limit: u64) -> QuotaKind {
    QuotaKind {
        name,
        unit,
        limit,
        raised: &[0],
        lets_pass: false,
        successes_only: false,
        at_report: false,
    }
}

pub const KINDS: [Kind; 7] = [
    Kind {
        plan: "ample",
        subscribers: 120,
        keys: 1,
        quotas: &[quota("minute", Unit::Minute, AMPLE), quota("year", Unit::Year, AMPLE)],
    },
    Kind {
        plan: "tight",
        subscribers: 60,
        keys: 1,
        quotas: &[
            QuotaKind { raised: &[0, 6, 3], ..quota("minute", Unit::Minute, 10) },
            quota("month", Unit::Month, AMPLE),
        ],
    },
    Kind {
        plan: "daily",
        subscribers: 60,
        keys: 1,
        quotas: &[QuotaKind { raised: &[0, 20], ..quota("day", Unit::Day, 60) }],
    },
    Kind {
        plan: "lenient",
        subscribers: 30,
        keys: 1,
        quotas: &[
            QuotaKind { lets_pass: true, ..quota("minute", Unit::Minute, 10) },
            quota("week", Unit::Week, AMPLE),
        ],
    },
    Kind { plan: "keyed", subscribers: 20, keys: 3, quotas: &[quota("hour", Unit::Hour, AMPLE)] },
    Kind {
        plan: "successes",
        subscribers: 40,
        keys: 1,
        quotas: &[
            QuotaKind { successes_only: true, ..quota("minute", Unit::Minute, AMPLE) },
            quota("day", Unit::Day, AMPLE),
        ],
    },
    Kind {
        plan: "reported",
        subscribers: 30,
        keys: 1,
        quotas: &[
            QuotaKind { at_report: true, ..quota("day", Unit::Day, AMPLE) },
            quota("hour", Unit::Hour, AMPLE),
        ],
    },
];

impl QuotaKind {
    fn limit(&self, turn: usize) -> u64 {
        self.limit + self.raised[turn % self.raised.len()]
    }

    /// The most that may be used, without grants. `None`: it is no bound.
    pub fn most(&self) -> Option<u64> {
        (!self.lets_pass && !self.at_report).then(|| self.limit + self.raised.iter().max().unwrap())
    }

    /// Calls come to its end.
    pub fn ends(&self) -> bool {
        self.limit < AMPLE && !self.lets_pass
    }

    fn declared(&self, turn: usize) -> Quota {
        let counted: &[&str] = if self.successes_only { &["1xx", "2xx", "3xx"] } else { &[] };
        Quota {
            name: self.name.to_owned(),
            limit: Some(self.limit(turn)),
            unit: self.unit.into(),
            on_breach: (if self.lets_pass { OnBreach::Allow } else { OnBreach::Reject }).into(),
            count_statuses: counted.iter().map(|&class| class.to_owned()).collect(),
            charge: (if self.at_report { Charge::AtReport } else { Charge::AtCheck }).into(),
            ..Quota::default()
        }
    }
}

impl Kind {
    /// The plan as the edit of this turn leaves it.
    pub fn declared(&self, turn: usize) -> UsagePlan {
        let scope = if self.keys > 1 { CounterScope::Key } else { CounterScope::Subscriber };
        let entitlement = Entitlement {
            name: "shop".to_owned(),
            targets: TARGETS.map(str::to_owned).to_vec(),
            rate_limit: Some(RateLimit {
                requests_per_second: 1e8 - f64::from(u32::try_from(turn).unwrap()),
                burst: None,
            }),
            quotas: self.quotas.iter().map(|quota| quota.declared(turn)).collect(),
            counter_scope: scope.into(),
            ..Entitlement::default()
        };
        UsagePlan {
            id: self.plan.to_owned(),
            display_name: self.plan.to_owned(),
            entitlements: vec![entitlement],
            ..UsagePlan::default()
        }
    }
}

/// One API key.
#[derive(Debug)]
pub struct Caller {
    /// Among [`KINDS`].
    pub kind: usize,
    pub subscriber: String,
    pub key: String,
    pub value: Bytes,
}

impl Caller {
    pub fn kind(&self) -> &'static Kind {
        &KINDS[self.kind]
    }

    /// As the books name whose counters they are: empty where they are the subscriber's.
    pub fn counted_key(&self) -> &str {
        if self.kind().keys > 1 { &self.key } else { "" }
    }
}

pub fn callers() -> Vec<Caller> {
    let mut callers = Vec::new();
    for (kind, Kind { plan, subscribers, keys, .. }) in KINDS.iter().enumerate() {
        for subscriber in 0..*subscribers {
            for key in 0..*keys {
                let subscriber = format!("{plan}-{subscriber}");
                let key = format!("{subscriber}-{key}");
                let value = Bytes::from(format!("the-value-of-the-key-{key}"));
                callers.push(Caller { kind, subscriber, key, value });
            }
        }
    }
    callers
}

/// Everything, as it is before the first edit.
pub fn declared(callers: &[Caller]) -> ApplyRequest {
    let mut subscribers: Vec<SubscriberWithKeys> = Vec::new();
    for caller in callers {
        let id = &caller.subscriber;
        if subscribers.last().is_none_or(|last| last.subscriber.as_ref().unwrap().id != *id) {
            let subscriber = Subscriber {
                id: id.clone(),
                plans: vec![caller.kind().plan.to_owned()],
                ..Subscriber::default()
            };
            subscribers.push(SubscriberWithKeys {
                subscriber: Some(subscriber),
                keys: Vec::new(),
                mask: None,
            });
        }
        let api_key =
            ApiKey { id: caller.key.clone(), subscriber: id.clone(), ..ApiKey::default() };
        let value = String::from_utf8(caller.value.to_vec()).unwrap();
        subscribers.last_mut().unwrap().keys.push(ApiKeyWithValue {
            api_key: Some(api_key),
            value,
            mask: None,
        });
    }
    ApplyRequest {
        targets: TARGETS.map(|id| Target { id: id.to_owned(), ..Target::default() }).to_vec(),
        usage_plans: KINDS.iter().map(|kind| kind.declared(0)).collect(),
        subscribers,
        ..ApplyRequest::default()
    }
}

/// Keys of rules, and how many values of each are asked for. `open` is a window in memory, the
/// others are durable.
pub const RULES: [(&str, u64); 3] = [("open", 100), ("kept", 20), ("few", 1)];
/// The limit of `few`.
pub const FEW: u64 = 500;

/// The rules, of which some that nobody asks for differ from turn to turn.
pub fn rules(turn: usize) -> String {
    let others: String = (0..100)
        .map(|value| format!("- {{key: other, value: v{value}, rate_limit: {{unit: hour, requests_per_unit: {}}}}}\n", turn + 1))
        .collect();
    format!(
        "domain: soak\ndescriptors:\n\
         - {{key: open, rate_limit: {{unit: second, requests_per_unit: 4000000000}}}}\n\
         - {{key: kept, rate_limit: {{unit: year, requests_per_unit: 4000000000, durable: true}}}}\n\
         - {{key: few, rate_limit: {{unit: year, requests_per_unit: {FEW}, durable: true}}}}\n{others}"
    )
}
