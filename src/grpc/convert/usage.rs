//! What was used, as messages show it.

use jiff::Span;
use jiff::civil::Date;

use super::plans::unit_to_wire;
use super::timestamp;
use crate::decide::ledger::DailyUsage;
use crate::decide::outcome::Class;
use crate::decide::plan::validate::MAX_QUOTA_LIMIT;
use crate::decide::verdict::Reason;
use crate::engine::plans::QuotaUsage;
use crate::grpc::pb::tollgate as pb;

/// One quota in one period. Units beyond 2^53 are shown as that: the real cost of a request may be
/// any number, and what a count cannot hold is not told from what it can.
pub fn quota_to_wire(usage: &QuotaUsage) -> pb::QuotaUsage {
    pb::QuotaUsage {
        subscriber: usage.subscriber.to_string(),
        api_key: usage.key.as_deref().unwrap_or_default().to_owned(),
        plan: usage.plan.to_string(),
        entitlement: usage.entitlement.to_string(),
        quota: usage.quota.name.to_string(),
        unit: unit_to_wire(usage.quota.unit).into(),
        period_start: Some(timestamp(usage.row.period.start_ns)),
        period_end: Some(timestamp(usage.row.period.end_ns)),
        limit: usage.limit.unwrap_or_default(),
        granted: usage.row.granted,
        used: usage.row.used.min(MAX_QUOTA_LIMIT),
        remaining: usage.remaining(),
        lost: usage.lost.min(MAX_QUOTA_LIMIT),
    }
}

/// One day of one caller. What is 0 is left out.
pub fn day_to_wire(DailyUsage { of, counts }: &DailyUsage) -> pb::DailyUsage {
    let refused = Reason::ALL.iter().map(|reason| (reason.name(), counts.refused_for(*reason)));
    let responses = Class::ALL.iter().map(|class| (class.name(), counts.ended_in(*class)));
    pb::DailyUsage {
        date: date(of.day),
        subscriber: of.subscriber.to_string(),
        api_key: of.key.to_string(),
        plan: of.plan.to_string(),
        entitlement: of.entitlement.to_string(),
        target: of.target.to_string(),
        admitted: counts.admitted,
        refused: refused
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
        responses: responses
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
    }
}

/// A day since 1970-01-01 as `2026-11-22`.
fn date(day: u64) -> String {
    let span = i64::try_from(day).ok().and_then(|days| Span::new().try_days(days).ok());
    let date = span.and_then(|span| Date::constant(1970, 1, 1).checked_add(span).ok());
    date.unwrap_or(Date::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::calendar::Period;
    use crate::decide::compiled::QuotaIdentity;
    use crate::decide::plan::{PeriodUnit, Weekday};
    use crate::decide::quota::Row;

    #[test]
    fn what_a_count_cannot_hold_is_shown_as_the_most_that_a_quota_can_be() {
        let quota = QuotaIdentity {
            name: "q".into(),
            unit: PeriodUnit::Day,
            time_zone: "UTC".into(),
            week_start: Weekday::Monday,
        };
        let shown = |used, granted| {
            let row = Row { period: Period { start_ns: 0, end_ns: 1 }, used, granted };
            let (subscriber, plan, entitlement) = ("acme".into(), "gold".into(), "all".into());
            let quota = std::sync::Arc::new(quota.clone());
            let usage = QuotaUsage {
                subscriber,
                key: None,
                plan,
                entitlement,
                quota,
                limit: Some(9),
                row,
                lost: 0,
            };
            let wire = quota_to_wire(&usage);
            (wire.used, wire.remaining)
        };
        const MOST: u64 = 1 << 53;
        assert_eq!(
            [shown(7, 0), shown(MOST - 1, 0), shown(MOST, 0)],
            [(7, 2), (MOST - 1, 0), (MOST, 0)]
        );
        // In memory, and after a restart.
        assert_eq!([shown(u64::MAX, 0), shown(i64::MAX as u64, 0)], [(MOST, 0); 2]);
    }

    #[test]
    fn days_have_dates() {
        assert_eq!(
            [date(0), date(11_016), date(20_779), date(u64::MAX)],
            ["1970-01-01", "2000-02-29", "2026-11-22", "9999-12-31"]
        );
    }
}
