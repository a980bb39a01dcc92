//! What can happen in a sequence, and what is declared at each moment of it.

use proptest::prelude::*;

use super::super::world::*;
use super::{HOUR, SPAN};
use crate::decide::gcra::MicroRate;
use crate::decide::outcome::Ending;
use crate::decide::plan::*;
use crate::decide::quota::Grant;
use crate::decide::time::SECOND_NS;

#[derive(Clone, Debug)]
pub(super) enum Act {
    Check { key: usize, target: usize, path: usize, cost: Option<u64> },
    Report { receipt: usize, ending: usize, gateway: bool, cost: Option<u64> },
    ReportCaller { key: usize, target: usize, ending: usize, cost: Option<u64> },
    Wait(u64),
    Wall(u64),
    Edit(Edit),
    Grant { subscriber: usize, quota: usize, grant: Grant },
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
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

pub(super) const KEYS: [&str; 4] = ["k0", "k1", "k2", "stranger"];
pub(super) const OWNERS: [usize; 3] = [0, 0, 1];
pub(super) const SUBSCRIBERS: [&str; 2] = ["s0", "s1"];
pub(super) const TARGETS: [&str; 3] = ["a", "b", "nowhere"];
pub(super) const PLANS: [&str; 2] = ["p0", "p1"];
pub(super) const QUOTAS: [&str; 2] = ["q0", "q1"];
pub(super) const PATHS: [&str; 4] = ["/users/me", "/users/7?x=1", "/files/a/b", "/other"];
pub(super) const UNITS: [PeriodUnit; 5] =
    [PeriodUnit::Minute, PeriodUnit::Hour, PeriodUnit::Day, PeriodUnit::Week, PeriodUnit::Month];
pub(super) const ZONES: [&str; 3] = ["UTC", "Asia/Kolkata", "America/New_York"];
pub(super) const ENDINGS: [Ending; 8] = [
    Ending::Http(200),
    Ending::Http(404),
    Ending::Http(503),
    Ending::Http(302),
    Ending::NoResponse,
    Ending::CallerGone,
    Ending::Grpc(14),
    Ending::Grpc(5),
];
pub(super) const RULES: [Option<&str>; 4] = [None, Some("2xx"), Some("404,others"), Some("5xx")];
pub(super) const ORDERS: [&[&str]; 4] = [&["p0", "p1"], &["p1", "p0"], &["p1"], &[]];

pub(super) fn act() -> impl Strategy<Value = Act> {
    let cost = || prop_oneof![4 => Just(None), 1 => Just(Some(0)), 3 => (1u64..5).prop_map(Some)];
    let small = || prop_oneof![3 => 1u64..4 * SECOND_NS, 2 => 1u64..10 * 60 * SECOND_NS, 1 => 1u64..9 * HOUR];
    let grant = prop_oneof![
        (0u64..4).prop_map(Grant::Add),
        (0u64..8).prop_map(Grant::SetRemaining),
        Just(Grant::Reset)
    ];
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
        (pq(), any::<bool>()).prop_map(|((plan, quota), allow)| Edit::Breach {
            plan,
            quota,
            allow
        }),
        (pq(), any::<bool>()).prop_map(|((plan, quota), at_report)| Edit::Charge {
            plan,
            quota,
            at_report
        }),
        (pq(), 0..4usize).prop_map(|((plan, quota), rule)| Edit::Statuses { plan, quota, rule }),
        (0..2usize, 1u64..20, 1u64..6).prop_map(|(plan, rate, burst)| Edit::Rate {
            plan,
            rate,
            burst
        }),
        (0..2usize).prop_map(|plan| Edit::NoRate { plan }),
        (0..2usize, 1u64..20, 1u64..4, any::<bool>())
            .prop_map(|(plan, rate, burst, beside)| Edit::MethodRate { plan, rate, burst, beside }),
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
pub(super) struct Declared {
    pub(super) plans: [Plan; 2],
    pub(super) dropped: [bool; 2],
    pub(super) orders: [usize; 2],
    pub(super) target: Option<Rate>,
    pub(super) account: Option<Rate>,
    pub(super) enabled: [bool; 3],
}

fn tenths(rate: u64, burst: u64) -> Rate {
    Rate { rate: MicroRate(rate * 100_000), burst: Some(burst) }
}

impl Declared {
    pub(super) fn new() -> Self {
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

    pub(super) fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Limit { plan, quota, limit } => self.quota(plan, quota).limit = limit,
            Edit::Unit { plan, quota, unit } => self.quota(plan, quota).unit = UNITS[unit],
            Edit::Zone { plan, quota, zone } => {
                self.quota(plan, quota).time_zone = Id::from(ZONES[zone])
            }
            Edit::Breach { plan, quota, allow } => {
                self.quota(plan, quota).on_breach =
                    if allow { OnBreach::Allow } else { OnBreach::Reject }
            }
            Edit::Charge { plan, quota, at_report } => {
                self.quota(plan, quota).charge =
                    if at_report { Charge::AtReport } else { Charge::AtCheck }
            }
            Edit::Statuses { plan, quota, rule } => {
                self.quota(plan, quota).count_statuses = RULES[rule].map(count_statuses)
            }
            Edit::Rate { plan, rate, burst } => {
                self.plans[plan].entitlements[0].rate_limit = Some(tenths(rate, burst))
            }
            Edit::NoRate { plan } => self.plans[plan].entitlements[0].rate_limit = None,
            Edit::MethodRate { plan, rate, burst, beside } => {
                let one = |path: &str, target: Option<&str>| MethodRate {
                    method: "*".to_owned(),
                    path: path.to_owned(),
                    target: target.map(Id::from),
                    rate: tenths(rate, burst),
                    replaces_general: !beside,
                };
                self.plans[plan].entitlements[0].method_rate_limits = vec![
                    one("/files/*", None),
                    one("/users/{id}", None),
                    one("/users/me", Some("b")),
                ];
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

    pub(super) fn catalog(&self) -> Catalog {
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
    pub(super) fn covering(&self, subscriber: usize, target: &str) -> Option<usize> {
        let covers = |id: &str| {
            let place = PLANS.iter().position(|plan| *plan == id).unwrap();
            let named =
                self.plans[place].entitlements[0].targets.iter().any(|named| &**named == target);
            (!self.dropped[place] && named).then_some(place)
        };
        let own = ORDERS[self.orders[subscriber]].iter().find_map(|plan| covers(plan));
        own.or_else(|| if target == "a" { covers("p0") } else { None })
    }
}
