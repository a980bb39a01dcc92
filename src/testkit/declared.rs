//! Declarations in a line: the least that each must say, so that a test says only what it is about.
//!
//! What differs is written over it: `Quota { on_breach: OnBreach::Allow, ..quota("q", 3, Day) }`.

use crate::catalog::{CatalogStore, Declared, EditOptions, HashKey};
use crate::decide::plan::{
    About, ApiKey, Charge, CounterScope, Dates, Entitlement, Id, LastFour, OnBreach, PeriodUnit,
    Plan, Quota, Said, Subscriber, Target, Weekday,
};
use crate::decide::quota::Grant as Change;
use crate::decide::time::Now;
use crate::engine::plans::CheckInput;
use crate::grpc::convert::apply;
use crate::grpc::{json, pb};
use crate::service::grant::Grant;

/// Every unit of a period, shortest first.
pub const UNITS: [PeriodUnit; 6] = [
    PeriodUnit::Minute,
    PeriodUnit::Hour,
    PeriodUnit::Day,
    PeriodUnit::Week,
    PeriodUnit::Month,
    PeriodUnit::Year,
];

/// A display name, and nothing else.
pub fn about(display_name: &str) -> About {
    Said { display_name: display_name.to_owned(), ..Said::default() }.into()
}

pub fn plan(id: &str, entitlements: Vec<Entitlement>) -> Plan {
    Plan { id: id.into(), about: about(id), entitlements }
}

/// Without limits, counted by subscriber.
pub fn entitlement(name: &str, targets: &[&str]) -> Entitlement {
    Entitlement {
        name: name.into(),
        description: String::new(),
        targets: targets.iter().map(|&target| target.into()).collect(),
        rate_limit: None,
        method_rate_limits: Vec::new(),
        quotas: Vec::new(),
        counter_scope: CounterScope::Subscriber,
    }
}

/// In UTC, charged at the check; what is over it is refused.
pub fn quota(name: &str, limit: u64, unit: PeriodUnit) -> Quota {
    Quota {
        name: name.into(),
        limit,
        unit,
        time_zone: "UTC".into(),
        week_start: Weekday::Monday,
        on_breach: OnBreach::Reject,
        count_statuses: None,
        charge: Charge::AtCheck,
    }
}

/// Without limits of its own.
pub fn target(id: &str) -> Target {
    Target {
        id: id.into(),
        about: about(id),
        rate_limit: None,
        method_rate_limits: Vec::new(),
        open_methods: Vec::new(),
        default_plan: None,
    }
}

pub fn subscriber(id: &str, plans: &[&str]) -> Subscriber {
    Subscriber {
        id: id.into(),
        about: about(id),
        plans: plans.iter().map(|&plan| plan.into()).collect(),
    }
}

/// Enabled, and valid at any time.
pub fn key(id: &str, subscriber: &str) -> ApiKey {
    ApiKey {
        id: id.into(),
        subscriber: Id::from(subscriber),
        about: about(id),
        enabled: true,
        dates: Dates::default().into(),
        last_four: LastFour::default(),
    }
}

/// A change of the current period of acme's quota `q`, in the entitlement `all` of the plan `gold`.
pub fn grant(change: Change) -> Grant {
    Grant {
        subscriber: "acme".into(),
        key: None,
        plan: "gold".into(),
        entitlement: "all".into(),
        quota: "q".into(),
        change,
    }
}

/// A request of one unit, without method, path and operation id.
pub fn request<'a>(api_key: &'a (impl AsRef<[u8]> + ?Sized), target: &'a str) -> CheckInput<'a> {
    let api_key = api_key.as_ref();
    CheckInput { api_key, target, method: b"", path: b"", cost: None, operation_id: b"" }
}

/// What a declarative file says, as the API takes it.
pub fn message(file: &str) -> pb::tollgate::ApplyRequest {
    let document = crate::yaml::parse(file).unwrap().root.to_json().unwrap();
    json::declared(document).unwrap().message
}

/// What a declarative file says, as the catalog takes it.
pub fn in_file(file: &str) -> Declared {
    apply::declared(message(file)).unwrap()
}

/// Makes a catalog hold what a declarative file says.
pub fn apply(file: &str, catalog: &CatalogStore, now: Now) {
    let declared = in_file(file);
    catalog.edit(EditOptions::default(), now, |draft| draft.apply(&declared)).unwrap();
}

/// A catalog in memory, with what a declarative file says.
pub fn catalog(file: &str, now: Now) -> CatalogStore {
    let catalog = CatalogStore::new(HashKey([3; 32]), None);
    apply(file, &catalog, now);
    catalog
}
