//! Values in the words of people.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::quota;
use crate::grpc::pb::tollgate::{MethodRateLimit, Quota, RateLimit};

/// `20/s, burst 40`, or `no rate limit`.
pub(in crate::cli) fn rate(limit: Option<&RateLimit>) -> String {
    limit.map_or("no rate limit".to_owned(), |limit| tokens(limit.requests_per_second, limit.burst))
}

/// `GET /users/{id} 5/s, burst 5`.
pub(in crate::cli) fn method_rate(limit: &MethodRateLimit) -> String {
    let target = if limit.target.is_empty() { String::new() } else { format!(" of {}", limit.target) };
    let beside = if limit.replaces_general == Some(false) { ", beside the general limit" } else { "" };
    format!("{} {}{target}: {}{beside}", limit.method, limit.path, tokens(limit.requests_per_second, limit.burst))
}

fn tokens(requests_per_second: f64, burst: Option<u64>) -> String {
    // What the contract says where the burst is left out.
    let burst = burst.map_or_else(|| format!("{:.0}", requests_per_second.ceil().max(1.0)), |burst| burst.to_string());
    format!("{requests_per_second}/s, burst {burst}")
}

/// `daily=100/day, monthly=2000/month`, or `no quota`.
pub(in crate::cli) fn quotas(quotas: &[Quota]) -> String {
    or(&quotas.iter().map(quota::write).collect::<Vec<_>>().join(", "), "no quota")
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
    or(&pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", "), "none")
}

/// An instant of UTC, or the words for none.
pub(in crate::cli) fn instant(time: Option<&prost_types::Timestamp>, none: &str) -> String {
    let Some(time) = time else { return none.to_owned() };
    Timestamp::new(time.seconds, time.nanos).map_or("out of range".to_owned(), |time| time.to_string())
}

/// Reads an instant of a flag.
pub(in crate::cli) fn parse_instant(text: &str) -> Result<prost_types::Timestamp, String> {
    let time: Timestamp = text.parse().map_err(|_| "an instant is written such as 2026-11-22T09:30:00Z or 2026-11-22T18:30:00+09:00")?;
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
    use super::{duration, instant, method_rate, parse_instant, quotas, rate};
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
        assert_eq!(method_rate(&limit), "GET /users/{id} of users/prod: 5/s, burst 5, beside the general limit");
    }

    #[test]
    fn instants_are_read_with_their_offset_and_shown_in_utc() {
        let at = parse_instant("2026-11-22T18:30:00.5+09:00").unwrap();
        assert_eq!(instant(Some(&at), ""), "2026-11-22T09:30:00.5Z");
        assert!(parse_instant("2026-11-22").unwrap_err().contains("2026-11-22T09:30:00Z"));
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
