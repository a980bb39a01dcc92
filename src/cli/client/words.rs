//! Values in the words of people.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::quota;
use crate::clock::Clock;
use crate::grpc::pb::tollgate::{MethodRateLimit, Quota, RateLimit};

/// `20/s, burst 40`, or `no rate limit`.
pub(in crate::cli) fn rate(limit: Option<&RateLimit>) -> String {
    limit.map_or("no rate limit".to_owned(), |limit| tokens(limit.requests_per_second, limit.burst))
}

/// `GET /users/{id} 5/s, burst 5`.
pub(in crate::cli) fn method_rate(limit: &MethodRateLimit) -> String {
    let target =
        if limit.target.is_empty() { String::new() } else { format!(" of {}", limit.target) };
    let beside =
        if limit.replaces_general == Some(false) { ", beside the general limit" } else { "" };
    format!(
        "{} {}{target}: {}{beside}",
        limit.method,
        limit.path,
        tokens(limit.requests_per_second, limit.burst)
    )
}

fn tokens(requests_per_second: f64, burst: Option<u64>) -> String {
    // What the contract says where the burst is left out.
    let burst = burst.map_or_else(
        || format!("{:.0}", requests_per_second.ceil().max(1.0)),
        |burst| burst.to_string(),
    );
    format!("{requests_per_second}/s, burst {burst}")
}

/// `daily=100/day, monthly=2000/month`, or `no quota`.
pub(in crate::cli) fn quotas(quotas: &[Quota]) -> String {
    or(&cut(quotas.iter().map(quota::write)), "no quota")
}

/// Columns that a list in a cell may take before it is cut.
const LIST_COLUMNS: usize = 48;

/// `a, b and 998 more`: a list in a cell of a table.
pub(in crate::cli) fn cut(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    let whole = items.join(", ");
    if whole.len() <= LIST_COLUMNS || items.len() <= 2 {
        return whole;
    }
    let mut said = String::new();
    let mut named = 0;
    for item in &items {
        if named >= 2 && said.len() + 2 + item.len() > LIST_COLUMNS - " and 999 more".len() {
            break;
        }
        if named > 0 {
            said.push_str(", ");
        }
        said.push_str(item);
        named += 1;
    }
    match items.len() - named {
        0 => said,
        more => format!("{said} and {more} more"),
    }
}

/// `a, b and 998 more` in a cell of a table, or the words for none.
pub(in crate::cli) fn some_ids(ids: &[String], none: &str) -> String {
    or(&cut(ids.iter().cloned()), none)
}

/// `a, b`, or the words for none.
pub(in crate::cli) fn ids(ids: &[String], none: &str) -> String {
    or(&ids.join(", "), none)
}

/// A text, or the words for none.
pub(in crate::cli) fn or(text: &str, none: &str) -> String {
    if text.is_empty() { none.to_owned() } else { text.to_owned() }
}

/// `a=1, b=2`, or `none`.
pub(in crate::cli) fn pairs<V: std::fmt::Display>(pairs: &BTreeMap<String, V>) -> String {
    or(
        &pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", "),
        "none",
    )
}

/// An instant of UTC to the second, or the words for none.
pub(in crate::cli) fn instant(time: Option<&prost_types::Timestamp>, none: &str) -> String {
    let Some(time) = time else { return none.to_owned() };
    Timestamp::from_second(time.seconds).map_or("out of range".to_owned(), |time| time.to_string())
}

/// An instant of UTC as short as it can be said: `2026-11-22` for a midnight, `2026-11-22 09:30`.
pub(in crate::cli) fn short_instant(time: Option<&prost_types::Timestamp>, none: &str) -> String {
    let text = instant(time, none);
    let Some((date, clock)) = text.strip_suffix('Z').and_then(|text| text.split_once('T')) else {
        return text;
    };
    match clock.strip_suffix(":00") {
        Some("00:00") => date.to_owned(),
        Some(minute) => format!("{date} {minute}"),
        None => format!("{date} {clock}"),
    }
}

/// When something begins or ends, as a flag says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) enum When {
    At(prost_types::Timestamp),
    /// So many seconds from now.
    In(u64),
}

impl When {
    pub(in crate::cli) fn at(self, clock: &Clock) -> prost_types::Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(seconds) => {
                let seconds = clock.now().unix_s().saturating_add(seconds);
                prost_types::Timestamp {
                    seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
                    nanos: 0,
                }
            }
        }
    }
}

/// Reads an instant, or a length of time from now.
pub(in crate::cli) fn parse_when(text: &str) -> Result<When, String> {
    const FORMS: &str = "is written as an instant, such as 2026-11-22T09:30:00Z or 2026-11-22T18:30:00+09:00, or as a time from now, such as 24h, 90min or 30d";
    match (seconds(text), parse_instant(text)) {
        (Some(0), _) => Err("a time from now must be more than 0".to_owned()),
        (Some(seconds), _) => Ok(When::In(seconds)),
        (None, Ok(at)) => Ok(When::At(at)),
        (None, Err(_)) => Err(FORMS.to_owned()),
    }
}

/// `24h`, `90min`, `1d12h`: at most a thousand years.
fn seconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("s", 1),
        ("min", 60),
        ("m", 60),
        ("h", 3_600),
        ("d", 86_400),
        ("w", 604_800),
        ("sec", 1),
        ("day", 86_400),
        ("days", 86_400),
    ];
    const LONGEST: u64 = 1_000 * 365 * 86_400;
    let (mut total, mut rest) = (0_u64, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, unit_s) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit_s)?)?;
        rest = after.trim_start();
    }
    (total <= LONGEST).then_some(total)
}

/// Reads an instant of a flag.
pub(in crate::cli) fn parse_instant(text: &str) -> Result<prost_types::Timestamp, String> {
    let time: Timestamp = text.parse().map_err(
        |_| "an instant is written such as 2026-11-22T09:30:00Z or 2026-11-22T18:30:00+09:00",
    )?;
    Ok(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// `1 h 2 min`, the two largest units that say something; times below a second as `0.25 s`.
pub(in crate::cli) fn duration(time: &prost_types::Duration) -> String {
    const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    if time.seconds < 60 {
        let text = format!("{}.{:09}", time.seconds, time.nanos);
        return format!("{} s", text.trim_end_matches('0').trim_end_matches('.'));
    }
    let mut left = time.seconds;
    let mut said = Vec::new();
    for (unit, seconds) in UNITS {
        if left >= seconds && said.len() < 2 {
            said.push(format!("{} {unit}", left / seconds));
            left %= seconds;
        }
    }
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{
        When, cut, duration, instant, method_rate, parse_instant, parse_when, quotas, rate,
        short_instant,
    };
    use crate::grpc::pb::tollgate::{MethodRateLimit, RateLimit};

    #[test]
    fn what_is_not_set_is_said_in_words() {
        assert_eq!(rate(None), "no rate limit");
        assert_eq!(quotas(&[]), "no quota");
        assert_eq!(instant(None, "never"), "never");
    }

    #[test]
    fn a_burst_that_is_left_out_is_the_rate_rounded_up() {
        for (requests_per_second, burst, said) in [
            (20.0, Some(40), "20/s, burst 40"),
            (20.0, None, "20/s, burst 20"),
            (2.5, None, "2.5/s, burst 3"),
            (0.01, None, "0.01/s, burst 1"),
            (1_000_000_000.0, None, "1000000000/s, burst 1000000000"),
        ] {
            assert_eq!(rate(Some(&RateLimit { requests_per_second, burst })), said);
        }
        let limit = MethodRateLimit {
            method: "GET".into(),
            path: "/users/{id}".into(),
            target: "users/prod".into(),
            requests_per_second: 5.0,
            burst: None,
            replaces_general: Some(false),
        };
        assert_eq!(
            method_rate(&limit),
            "GET /users/{id} of users/prod: 5/s, burst 5, beside the general limit"
        );
    }

    #[test]
    fn instants_are_read_with_their_offset_and_shown_in_utc() {
        let at = parse_instant("2026-11-22T18:30:00.5+09:00").unwrap();
        assert_eq!(instant(Some(&at), ""), "2026-11-22T09:30:00Z");
        assert_eq!(short_instant(Some(&at), ""), "2026-11-22 09:30");
        let at = |text| parse_instant(text).unwrap();
        assert_eq!(short_instant(Some(&at("2026-11-22T00:00:00Z")), ""), "2026-11-22");
        assert_eq!(short_instant(Some(&at("2026-11-22T00:00:07Z")), ""), "2026-11-22 00:00:07");
        assert_eq!(short_instant(None, "never"), "never");
        assert!(parse_instant("2026-11-22").unwrap_err().contains("2026-11-22T09:30:00Z"));
    }

    #[test]
    fn a_time_from_now_is_read_beside_instants() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("90min", 5_400),
            ("30d", 2_592_000),
            ("1d12h", 129_600),
            ("2w", 1_209_600),
            ("1h 30m", 5_400),
            ("1s", 1),
        ] {
            assert_eq!(parse_when(text), Ok(When::In(seconds)), "{text}");
        }
        assert_eq!(
            parse_when("2026-11-22T09:30:00Z"),
            parse_instant("2026-11-22T09:30:00Z").map(When::At)
        );
        for text in [
            "",
            "0h",
            "h",
            "24",
            "-1h",
            "1.5h",
            "24 hours",
            "1y",
            "99999999999999999999h",
            "1001000d",
            "tomorrow",
        ] {
            assert!(parse_when(text).is_err(), "{text}");
        }
        let clock = crate::clock::Clock::from_fn(|| crate::decide::time::Now {
            unix_ns: 5_000_000_000,
            steady_ns: 0,
        });
        assert_eq!(When::In(7).at(&clock).seconds, 12);
    }

    #[test]
    fn a_list_in_a_cell_is_cut() {
        let names = |count: usize| (0..count).map(|i| format!("service-{i}/prod"));
        assert_eq!(cut(names(0)), "");
        assert_eq!(cut(names(3)), "service-0/prod, service-1/prod, service-2/prod");
        assert_eq!(cut(names(1_000)), "service-0/prod, service-1/prod and 998 more");
        let long = "x".repeat(200);
        assert_eq!(
            cut([long.clone(), long.clone(), long.clone()]),
            format!("{long}, {long} and 1 more")
        );
    }

    #[test]
    fn durations_are_two_units_at_most() {
        for (seconds, nanos, said) in [
            (0, 0, "0 s"),
            (0, 50_000_000, "0.05 s"),
            (1, 500_000_000, "1.5 s"),
            (0, 1, "0.000000001 s"),
            (59, 0, "59 s"),
            (60, 1, "1 min"),
            (3_725, 0, "1 h 2 min"),
            (3_605, 0, "1 h 5 s"),
            (86_400 * 31, 0, "31 d"),
        ] {
            assert_eq!(duration(&prost_types::Duration { seconds, nanos }), said);
        }
    }
}
