//! Quotas as a flag says them: `NAME=LIMIT/UNIT[@ZONE][:allow]`, for example
//! `monthly=2000/month@Asia/Seoul:allow`.

use crate::grpc::pb::tollgate::Quota;
use crate::grpc::pb::tollgate::quota::{OnBreach, Unit};

const UNITS: [(&str, Unit); 6] = [
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("year", Unit::Year),
];

/// Reads the flag. The name is the unit where it is left out.
pub(in crate::cli) fn parse(text: &str) -> Result<Quota, String> {
    let (name, rest) = text.split_once('=').map_or((None, text), |(name, rest)| (Some(name), rest));
    let (rest, action) =
        rest.split_once(':').map_or((rest, "reject"), |(rest, action)| (rest, action));
    let (rest, zone) = rest.split_once('@').map_or((rest, None), |(rest, zone)| (rest, Some(zone)));
    let (limit, unit) = rest.split_once('/').ok_or("is LIMIT/UNIT missing, such as 100/day?")?;
    let limit: u64 = limit.parse().map_err(|_| format!("`{limit}` is not a number of requests"))?;
    let (word, unit) = UNITS
        .into_iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(unit))
        .ok_or_else(|| format!("`{unit}` is not one of minute, hour, day, week, month, year"))?;
    let on_breach = match action {
        "reject" => OnBreach::Unspecified,
        "allow" => OnBreach::Allow,
        _ => {
            return Err(format!(
                "after the colon stands what happens at the limit, `allow` or `reject`, not `{action}`"
            ));
        }
    };
    if name == Some("") || zone == Some("") {
        return Err("a name and a zone are not empty; leave out the `=` or the `@`".to_owned());
    }
    Ok(Quota {
        name: name.unwrap_or(word).to_owned(),
        limit: Some(limit),
        unit: unit.into(),
        time_zone: zone.unwrap_or_default().to_owned(),
        on_breach: on_breach.into(),
        ..Quota::default()
    })
}

/// The same, written: `daily=100/day`. What a flag cannot say (week starts, statuses) is left out.
pub(in crate::cli) fn write(quota: &Quota) -> String {
    let limit = quota.limit.map_or("?".to_owned(), |limit| limit.to_string());
    let zone = if quota.time_zone.is_empty() || quota.time_zone == "UTC" {
        String::new()
    } else {
        format!("@{}", quota.time_zone)
    };
    let allow = if quota.on_breach() == OnBreach::Allow { ":allow" } else { "" };
    let blocked = if quota.limit == Some(0) && allow.is_empty() { " (blocked)" } else { "" };
    format!("{}={limit}/{}{zone}{allow}{blocked}", quota.name, unit_word(quota.unit()))
}

/// `day`.
pub(in crate::cli) fn unit_word(unit: Unit) -> &'static str {
    UNITS.into_iter().find(|(_, known)| *known == unit).map_or("?", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::{parse, write};
    use crate::grpc::pb::tollgate::quota::{OnBreach, Unit};

    #[test]
    fn the_flag_says_what_a_quota_is_and_is_written_as_it_is_read() {
        let cases = [
            ("daily=100/day", ("daily", 100, Unit::Day, "", false)),
            (
                "monthly=2000/month@Asia/Seoul:allow",
                ("monthly", 2000, Unit::Month, "Asia/Seoul", true),
            ),
            ("a=1/minute:allow", ("a", 1, Unit::Minute, "", true)),
            ("a=1/hour@Etc/GMT+5", ("a", 1, Unit::Hour, "Etc/GMT+5", false)),
            ("w=18446744073709551615/week", ("w", u64::MAX, Unit::Week, "", false)),
            ("y=7/year", ("y", 7, Unit::Year, "", false)),
        ];
        for (text, (name, limit, unit, zone, allow)) in cases {
            let quota = parse(text).unwrap();
            assert_eq!(
                (quota.name.as_str(), quota.limit, quota.unit()),
                (name, Some(limit), unit),
                "{text}"
            );
            assert_eq!(
                (quota.time_zone.as_str(), quota.on_breach() == OnBreach::Allow),
                (zone, allow),
                "{text}"
            );
            assert_eq!(write(&quota), text);
        }
    }

    #[test]
    fn what_is_left_out_is_the_usual_and_zero_is_said_in_words() {
        for (given, written) in [
            ("100/day", "day=100/day"),
            ("100/DAY:reject", "day=100/day"),
            ("x=5/Month@UTC", "x=5/month"),
            ("none=0/day", "none=0/day (blocked)"),
            ("soft=0/day:allow", "soft=0/day:allow"),
        ] {
            assert_eq!(write(&parse(given).unwrap()), written, "{given}");
        }
    }

    #[test]
    fn what_is_not_a_quota_is_said() {
        for (given, said) in [
            ("", "LIMIT/UNIT"),
            ("daily", "LIMIT/UNIT"),
            ("daily=100", "LIMIT/UNIT"),
            ("=100/day", "not empty"),
            ("daily=100/day@", "not empty"),
            ("daily=ten/day", "`ten` is not a number"),
            ("daily=-1/day", "`-1` is not a number"),
            ("daily=1.5/day", "`1.5` is not a number"),
            ("daily=100/days", "`days` is not one of"),
            ("daily=100/day:deny", "not `deny`"),
            ("daily=100/day:", "not ``"),
            ("daily=18446744073709551616/day", "is not a number"),
        ] {
            let error = parse(given).unwrap_err();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
