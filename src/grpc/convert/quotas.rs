//! Quotas.

use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{Charge, OnBreach, PeriodUnit, Quota, Weekday};
use crate::grpc::pb::tollgate as pb;
use pb::quota::{
    Charge as WireCharge, OnBreach as WireOnBreach, Unit as WireUnit, Weekday as WireWeekday,
};

use super::member;

pub(super) fn quotas(wire: Vec<pb::Quota>, found: &mut Mistakes) -> Vec<Quota> {
    let one = |(i, wire)| {
        let mut inner = Mistakes::default();
        let quota = quota(wire, &mut inner);
        found.add_within(&format!("quotas[{i}]"), inner);
        quota
    };
    wire.into_iter().enumerate().map(one).collect()
}

fn quota(wire: pb::Quota, found: &mut Mistakes) -> Quota {
    let unit = unit(wire.unit, found);
    let week_start = weekday(wire.week_start, unit, found);
    let limit = wire.limit.unwrap_or_else(|| {
        found.add("limit", "is needed (0 refuses every request; leave the quota out for no limit)");
        0
    });
    Quota {
        name: wire.name.into(),
        limit,
        unit: unit.unwrap_or(PeriodUnit::Week),
        time_zone: if wire.time_zone.is_empty() { "UTC".into() } else { wire.time_zone.into() },
        week_start,
        on_breach: match member("on_breach".to_owned(), wire.on_breach, found) {
            WireOnBreach::Unspecified | WireOnBreach::Reject => OnBreach::Reject,
            WireOnBreach::Allow => OnBreach::Allow,
        },
        count_statuses: validate::count_statuses("count_statuses", &wire.count_statuses, found),
        charge: match member("charge".to_owned(), wire.charge, found) {
            WireCharge::Unspecified | WireCharge::AtCheck => Charge::AtCheck,
            WireCharge::AtReport => Charge::AtReport,
        },
    }
}

fn unit(number: i32, found: &mut Mistakes) -> Option<PeriodUnit> {
    let unit = WireUnit::try_from(number).ok().and_then(unit_of);
    if unit.is_none() {
        found.add("unit", "is needed: MINUTE, HOUR, DAY, WEEK, MONTH or YEAR");
    }
    unit
}

/// The unit that a message names.
pub fn unit_of(unit: WireUnit) -> Option<PeriodUnit> {
    match unit {
        WireUnit::Minute => Some(PeriodUnit::Minute),
        WireUnit::Hour => Some(PeriodUnit::Hour),
        WireUnit::Day => Some(PeriodUnit::Day),
        WireUnit::Week => Some(PeriodUnit::Week),
        WireUnit::Month => Some(PeriodUnit::Month),
        WireUnit::Year => Some(PeriodUnit::Year),
        WireUnit::Unspecified => None,
    }
}

fn weekday(number: i32, unit: Option<PeriodUnit>, found: &mut Mistakes) -> Weekday {
    let wire = member("week_start".to_owned(), number, found);
    if wire != WireWeekday::Unspecified && unit.is_some_and(|unit| unit != PeriodUnit::Week) {
        found.add("week_start", "is only for the unit WEEK");
        return Weekday::Monday;
    }
    match wire {
        WireWeekday::Unspecified | WireWeekday::Monday => Weekday::Monday,
        WireWeekday::Tuesday => Weekday::Tuesday,
        WireWeekday::Wednesday => Weekday::Wednesday,
        WireWeekday::Thursday => Weekday::Thursday,
        WireWeekday::Friday => Weekday::Friday,
        WireWeekday::Saturday => Weekday::Saturday,
        WireWeekday::Sunday => Weekday::Sunday,
    }
}

/// The unit as messages name it.
pub fn unit_to_wire(unit: PeriodUnit) -> WireUnit {
    match unit {
        PeriodUnit::Minute => WireUnit::Minute,
        PeriodUnit::Hour => WireUnit::Hour,
        PeriodUnit::Day => WireUnit::Day,
        PeriodUnit::Week => WireUnit::Week,
        PeriodUnit::Month => WireUnit::Month,
        PeriodUnit::Year => WireUnit::Year,
    }
}

fn weekday_to_wire(weekday: Weekday) -> WireWeekday {
    match weekday {
        Weekday::Monday => WireWeekday::Monday,
        Weekday::Tuesday => WireWeekday::Tuesday,
        Weekday::Wednesday => WireWeekday::Wednesday,
        Weekday::Thursday => WireWeekday::Thursday,
        Weekday::Friday => WireWeekday::Friday,
        Weekday::Saturday => WireWeekday::Saturday,
        Weekday::Sunday => WireWeekday::Sunday,
    }
}

pub(super) fn quota_to_wire(quota: &Quota) -> pb::Quota {
    let week_start = if quota.unit == PeriodUnit::Week {
        weekday_to_wire(quota.week_start)
    } else {
        WireWeekday::Unspecified
    };
    pb::Quota {
        name: quota.name.to_string(),
        limit: Some(quota.limit),
        unit: unit_to_wire(quota.unit).into(),
        time_zone: quota.time_zone.to_string(),
        week_start: week_start.into(),
        on_breach: match quota.on_breach {
            OnBreach::Reject => WireOnBreach::Reject,
            OnBreach::Allow => WireOnBreach::Allow,
        }
        .into(),
        count_statuses: validate::written_statuses(quota.count_statuses.as_ref()),
        charge: match quota.charge {
            Charge::AtCheck => WireCharge::AtCheck,
            Charge::AtReport => WireCharge::AtReport,
        }
        .into(),
    }
}
