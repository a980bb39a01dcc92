//! Limits, numbers and times, as a person says them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::decide::gcra::MicroRate;
use crate::decide::plan::{CountStatuses, OnBreach, PeriodUnit, Quota, Rate};

/// `1,204,118`.
pub(super) fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 plan`, `1,204 plans`.
pub(super) fn counted(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let many = if number == 1 { "" } else { "s" };
    format!("{} {what}{many}", grouped(number))
}

/// `20`, `0.5`: requests in a second.
pub(super) fn per_second(rate: MicroRate) -> String {
    let (whole, micro) = (rate.0 / 1_000_000, rate.0 % 1_000_000);
    let fraction = format!("{micro:06}");
    match fraction.trim_end_matches('0') {
        "" => grouped(whole),
        fraction => format!("{}.{fraction}", grouped(whole)),
    }
}

/// What may come at once.
pub(super) fn burst(rate: &Rate) -> u64 {
    rate.burst.unwrap_or_else(|| rate.rate.0.div_ceil(1_000_000).max(1))
}

/// `20 / s, burst 40`.
pub(super) fn rate(rate: &Rate) -> String {
    format!("{} / s, burst {}", per_second(rate.rate), grouped(burst(rate)))
}

/// `day`.
pub(super) fn unit(unit: PeriodUnit) -> &'static str {
    match unit {
        PeriodUnit::Minute => "minute",
        PeriodUnit::Hour => "hour",
        PeriodUnit::Day => "day",
        PeriodUnit::Week => "week",
        PeriodUnit::Month => "month",
        PeriodUnit::Year => "year",
    }
}

/// `10,000 per day`; `5,000,000 per month, then allowed and counted`.
pub(super) fn quota(quota: &Quota) -> String {
    let then = match quota.on_breach {
        OnBreach::Reject => "",
        OnBreach::Allow => ", then allowed and counted",
    };
    format!("{} per {}{then}", grouped(quota.limit), unit(quota.unit))
}

/// Which answers a quota counts, and what becomes of the others.
pub(super) fn counting(counts: Option<&CountStatuses>) -> String {
    match counts {
        None => "answers 1xx to 4xx; a 5xx is given back".to_owned(),
        Some(counts) => {
            let written = crate::decide::plan::validate::written_statuses(Some(counts));
            format!("answers {}; others are given back", written.join(", "))
        }
    }
}

/// An instant: UTC for all, and with script the viewer's own zone before it.
pub(super) fn instant(unix_ns: u64) -> Markup {
    let Ok(at) = Timestamp::from_nanosecond(i128::from(unix_ns)) else {
        return html! { "unknown" };
    };
    let shown = at.to_zoned(TimeZone::UTC).strftime("%-d %b %Y, %H:%M UTC").to_string();
    let machine = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    html! { time datetime=(machine) { (shown) } }
}

/// `12 days ago`, at an instant.
pub(super) fn ago(now_ns: u64, then_ns: u64) -> String {
    const STEPS: [(u64, &str); 4] =
        [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let seconds = now_ns.saturating_sub(then_ns) / 1_000_000_000;
    let step = STEPS.iter().find(|(length, _)| seconds >= *length);
    step.map_or("just now".to_owned(), |(length, unit)| {
        format!("{} ago", counted(seconds / length, unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::plan::{Charge, Weekday};

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (7, "7"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (123_456, "123,456"),
            (1_204_118, "1,204,118"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!([counted(1_u64, "plan"), counted(0_u64, "plan")], ["1 plan", "0 plans"]);
    }

    #[test]
    fn limits_are_said_in_words() {
        let limit = |micro, burst| Rate { rate: MicroRate(micro), burst };
        assert_eq!(rate(&limit(20_000_000, Some(40))), "20 / s, burst 40");
        assert_eq!(rate(&limit(500_000, None)), "0.5 / s, burst 1");
        assert_eq!(rate(&limit(1_000_000_001, None)), "1,000.000001 / s, burst 1,001");
        let mut month = Quota {
            name: "m".into(),
            limit: 5_000_000,
            unit: PeriodUnit::Month,
            time_zone: "UTC".into(),
            week_start: Weekday::Monday,
            on_breach: OnBreach::Allow,
            count_statuses: None,
            charge: Charge::AtCheck,
        };
        assert_eq!(quota(&month), "5,000,000 per month, then allowed and counted");
        month.on_breach = OnBreach::Reject;
        assert_eq!(quota(&month), "5,000,000 per month");
        let mut counts = CountStatuses { others: true, ..CountStatuses::default() };
        counts.classes[1] = true;
        assert_eq!(counting(Some(&counts)), "answers 2xx, others; others are given back");
    }

    #[test]
    fn times_are_said_both_ways() {
        let minute_ns = 60_000_000_000;
        assert_eq!(
            instant(1_796_089_320_000_000_000).into_string(),
            "<time datetime=\"2026-12-01T01:42:00Z\">1 Dec 2026, 01:42 UTC</time>"
        );
        for (then_ns, text) in [
            (100 * minute_ns, "just now"),
            (200 * minute_ns, "just now"),
            (99 * minute_ns, "1 minute ago"),
            (99 * minute_ns + 1, "59 seconds ago"),
            (40 * minute_ns, "1 hour ago"),
        ] {
            assert_eq!(ago(100 * minute_ns, then_ns), text);
        }
    }
}
