//! Values of resources in words for people, each of a bounded length.

use std::collections::{BTreeMap, HashSet};

use crate::catalog::error::clipped;
use crate::decide::plan::validate::written_statuses;
use crate::decide::plan::{
    Charge, CounterScope, Entitlement, Id, MethodRate, OnBreach, OpenMethod, PeriodUnit, Quota,
    Rate, Weekday,
};

/// Items of a list that are named.
const NAMED: usize = 5;

/// `a, b and 998 more`.
pub(super) fn cut(items: impl IntoIterator<Item = String>) -> String {
    let mut items = items.into_iter();
    let named: Vec<String> = items.by_ref().take(NAMED).map(|item| clipped(&item)).collect();
    match items.count() {
        0 if named.is_empty() => "none".to_owned(),
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Two lists of names that differ; of long ones what the one has and the other has not.
pub(super) fn ids(before: &[Id], after: &[Id]) -> (Option<String>, Option<String>) {
    let all = |ids: &[Id]| (!ids.is_empty()).then(|| cut(ids.iter().map(ToString::to_string)));
    if before.len().max(after.len()) <= NAMED {
        return (all(before), all(after));
    }
    let only = |ids: &[Id], others: &[Id], word: &str| {
        let others: HashSet<&Id> = others.iter().collect();
        let own: Vec<String> =
            ids.iter().filter(|id| !others.contains(id)).map(ToString::to_string).collect();
        match (ids.len(), own.is_empty()) {
            (0, _) => None,
            (all, true) => Some(format!("{all}")),
            (all, false) => Some(format!("{all} ({word} {})", cut(own))),
        }
    };
    (only(before, after, "no longer:"), only(after, before, "new:"))
}

pub(super) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| format!("{:?}", clipped(text)))
}

pub(super) fn labels(labels: &BTreeMap<String, String>) -> Option<String> {
    (!labels.is_empty()).then(|| cut(labels.iter().map(|(key, value)| format!("{key}={value}"))))
}

/// `20/s burst 40`.
pub(super) fn rate(rate: Rate) -> String {
    // Millionths: the decimal that was declared.
    let (whole, part) = (rate.rate.0 / 1_000_000, rate.rate.0 % 1_000_000);
    let decimals = format!(".{part:06}");
    let burst = rate.burst.unwrap_or_else(|| whole + u64::from(part > 0)).max(1);
    format!("{whole}{}/s burst {burst}", decimals.trim_end_matches('0').trim_end_matches('.'))
}

/// `GET /users/{id}`.
pub(super) fn call(limit: &MethodRate) -> String {
    let target = limit.target.as_ref().map_or(String::new(), |target| format!(" of {target}"));
    format!("{} {}{target}", limit.method, limit.path)
}

pub(super) fn method_rate(limit: &MethodRate) -> String {
    rate(limit.rate) + if limit.replaces_general { "" } else { ", beside the general limit" }
}

pub(super) fn open_methods(open: &[OpenMethod]) -> Option<String> {
    (!open.is_empty())
        .then(|| cut(open.iter().map(|open| format!("{} {}", open.method, open.path))))
}

/// `100/day`, and what else is not the default.
pub(super) fn quota(quota: &Quota) -> String {
    let unit = match quota.unit {
        PeriodUnit::Minute => "minute",
        PeriodUnit::Hour => "hour",
        PeriodUnit::Day => "day",
        PeriodUnit::Week => "week",
        PeriodUnit::Month => "month",
        PeriodUnit::Year => "year",
    };
    let mut said = format!("{}/{unit}", quota.limit);
    if *quota.time_zone != *"UTC" {
        said += &format!(" of {}", quota.time_zone);
    }
    if quota.week_start != Weekday::Monday {
        said += &format!(", weeks from {:?}", quota.week_start);
    }
    if quota.on_breach == OnBreach::Allow {
        said += ", allowed beyond it";
    }
    if quota.count_statuses.is_some() {
        said += &format!(", counts {}", written_statuses(quota.count_statuses.as_ref()).join(" "));
    }
    if quota.charge == Charge::AtReport {
        said += ", charged at the report";
    }
    said
}

pub(super) fn scope(scope: CounterScope) -> &'static str {
    match scope {
        CounterScope::Subscriber => "all keys of a subscriber together",
        CounterScope::Key => "each key on its own",
    }
}

/// All that an entitlement gives, in short.
pub(super) fn entitlement(entitlement: &Entitlement) -> String {
    let rate = entitlement.rate_limit.map_or("no rate limit".to_owned(), rate);
    let quotas = if entitlement.quotas.is_empty() {
        "no quota".to_owned()
    } else {
        cut(entitlement.quotas.iter().map(quota))
    };
    format!("{}; {rate}; {quotas}", cut(entitlement.targets.iter().map(ToString::to_string)))
}

/// An instant of UTC.
pub(super) fn instant(at_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at_ns))
        .map_or_else(|_| format!("{at_ns} ns"), |at| at.to_string())
}
