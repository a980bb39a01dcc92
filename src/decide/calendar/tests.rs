use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::testkit::declared::UNITS;

fn at(text: &str) -> u64 {
    clamp(text.parse::<Timestamp>().unwrap().as_nanosecond())
}

fn shown(unix_ns: u64) -> String {
    Timestamp::from_nanosecond(unix_ns.into()).unwrap().to_string()
}

const CASES: &[(PeriodUnit, &str, Weekday, &str, &str, &str)] = {
    use PeriodUnit::*;
    use Weekday::*;
    &[
        (
            Minute,
            "UTC",
            Monday,
            "2026-11-22T10:00:30Z",
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:01:00Z",
        ),
        (
            Hour,
            "UTC",
            Monday,
            "2026-11-22T10:00:30Z",
            "2026-11-22T10:00:00Z",
            "2026-11-22T11:00:00Z",
        ),
        (
            Hour,
            "Asia/Kolkata",
            Monday,
            "2026-11-22T10:00:00Z",
            "2026-11-22T09:30:00Z",
            "2026-11-22T10:30:00Z",
        ),
        (
            Hour,
            "Asia/Kathmandu",
            Monday,
            "2026-11-22T10:00:00Z",
            "2026-11-22T09:15:00Z",
            "2026-11-22T10:15:00Z",
        ),
        (
            Minute,
            "Asia/Kathmandu",
            Monday,
            "2026-11-22T10:00:59Z",
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:01:00Z",
        ),
        // Clocks go back by an hour: the hour comes twice, as two hours.
        (
            Hour,
            "America/New_York",
            Monday,
            "2026-11-01T05:59:59Z",
            "2026-11-01T05:00:00Z",
            "2026-11-01T06:00:00Z",
        ),
        (
            Hour,
            "America/New_York",
            Monday,
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T07:00:00Z",
        ),
        // Clocks go back by half an hour.
        (
            Hour,
            "Australia/Lord_Howe",
            Monday,
            "2026-04-04T14:30:00Z",
            "2026-04-04T14:00:00Z",
            "2026-04-04T15:00:00Z",
        ),
        (
            Hour,
            "Australia/Lord_Howe",
            Monday,
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:30:00Z",
        ),
        (
            Hour,
            "Australia/Lord_Howe",
            Monday,
            "2026-04-04T15:30:00Z",
            "2026-04-04T15:30:00Z",
            "2026-04-04T16:30:00Z",
        ),
        (
            Day,
            "UTC",
            Monday,
            "2026-11-22T10:00:30Z",
            "2026-11-22T00:00:00Z",
            "2026-11-23T00:00:00Z",
        ),
        (
            Day,
            "Asia/Seoul",
            Monday,
            "2026-11-22T15:00:00Z",
            "2026-11-22T15:00:00Z",
            "2026-11-23T15:00:00Z",
        ),
        (
            Day,
            "America/New_York",
            Monday,
            "2026-03-08T12:00:00Z",
            "2026-03-08T05:00:00Z",
            "2026-03-09T04:00:00Z",
        ),
        (
            Day,
            "America/New_York",
            Monday,
            "2026-11-01T12:00:00Z",
            "2026-11-01T04:00:00Z",
            "2026-11-02T05:00:00Z",
        ),
        // Midnight is skipped: the day starts at 01:00.
        (
            Day,
            "America/Sao_Paulo",
            Monday,
            "2018-11-04T03:00:00Z",
            "2018-11-04T03:00:00Z",
            "2018-11-05T02:00:00Z",
        ),
        (
            Day,
            "America/Sao_Paulo",
            Monday,
            "2018-11-04T02:59:59Z",
            "2018-11-03T03:00:00Z",
            "2018-11-04T03:00:00Z",
        ),
        // Midnight comes twice: the day starts at the first.
        (
            Day,
            "America/Havana",
            Monday,
            "2026-11-01T05:00:00Z",
            "2026-11-01T04:00:00Z",
            "2026-11-02T05:00:00Z",
        ),
        // A minute after midnight the clock goes back into the day before: the day goes on.
        (
            Day,
            "America/St_Johns",
            Monday,
            "2010-11-07T02:29:59Z",
            "2010-11-06T02:30:00Z",
            "2010-11-07T02:30:00Z",
        ),
        (
            Day,
            "America/St_Johns",
            Monday,
            "2010-11-07T03:00:00Z",
            "2010-11-07T02:30:00Z",
            "2010-11-08T03:30:00Z",
        ),
        // A date that never was.
        (
            Day,
            "Pacific/Apia",
            Monday,
            "2011-12-30T09:59:59Z",
            "2011-12-29T10:00:00Z",
            "2011-12-30T10:00:00Z",
        ),
        (
            Day,
            "Pacific/Apia",
            Monday,
            "2011-12-30T10:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-31T10:00:00Z",
        ),
        (
            Week,
            "UTC",
            Monday,
            "2026-11-22T23:59:59Z",
            "2026-11-16T00:00:00Z",
            "2026-11-23T00:00:00Z",
        ),
        (
            Week,
            "UTC",
            Sunday,
            "2026-11-22T00:00:00Z",
            "2026-11-22T00:00:00Z",
            "2026-11-29T00:00:00Z",
        ),
        (
            Week,
            "UTC",
            Saturday,
            "2026-11-22T00:00:00Z",
            "2026-11-21T00:00:00Z",
            "2026-11-28T00:00:00Z",
        ),
        (
            Week,
            "America/New_York",
            Sunday,
            "2026-11-01T04:00:00Z",
            "2026-11-01T04:00:00Z",
            "2026-11-08T05:00:00Z",
        ),
        (
            Month,
            "UTC",
            Monday,
            "2028-02-29T12:00:00Z",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        ),
        (
            Month,
            "UTC",
            Monday,
            "2026-02-28T12:00:00Z",
            "2026-02-01T00:00:00Z",
            "2026-03-01T00:00:00Z",
        ),
        (
            Month,
            "Asia/Seoul",
            Monday,
            "2026-11-30T15:00:00Z",
            "2026-11-30T15:00:00Z",
            "2026-12-31T15:00:00Z",
        ),
        (
            Month,
            "America/New_York",
            Monday,
            "2026-11-15T00:00:00Z",
            "2026-11-01T04:00:00Z",
            "2026-12-01T05:00:00Z",
        ),
        (
            Year,
            "UTC",
            Monday,
            "2026-06-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
        ),
        (
            Year,
            "Pacific/Auckland",
            Monday,
            "2026-06-01T00:00:00Z",
            "2025-12-31T11:00:00Z",
            "2026-12-31T11:00:00Z",
        ),
        // What began before 1970 begins at 0.
        (
            Year,
            "Asia/Seoul",
            Monday,
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "1970-12-31T15:00:00Z",
        ),
        (
            Week,
            "UTC",
            Monday,
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "1970-01-05T00:00:00Z",
        ),
    ]
};

#[test]
fn utc_is_a_zone_like_any_other() {
    use PeriodUnit::*;
    for unit in [Minute, Hour, Day, Week, Month, Year] {
        let (short, long) =
            (Calendar::utc(unit), Calendar::new(unit, "UTC", Weekday::Monday).unwrap());
        for now in (0..4_000_000_000 * SECOND_NS).step_by(9_876_543_210_987_654) {
            assert_eq!(short.period(now), long.period(now), "{unit:?} at {now}");
        }
    }
}

#[test]
fn periods_of_one_length_are_counted_from_the_epoch() {
    let month = Calendar::fixed(2_592_000);
    let length_ns = 2_592_000 * SECOND_NS;
    for (now, start) in
        [(0, 0), (length_ns - 1, 0), (length_ns, length_ns), (650 * length_ns + 5, 650 * length_ns)]
    {
        assert_eq!(month.period(now), Period { start_ns: start, end_ns: start + length_ns });
    }
}

#[test]
fn periods_start_and_end_where_calendars_say() {
    for &(unit, zone, week_start, now, start, end) in CASES {
        let calendar = Calendar::new(unit, zone, week_start).unwrap();
        let period = calendar.period(at(now));
        assert_eq!(
            (shown(period.start_ns), shown(period.end_ns)),
            (start.to_owned(), end.to_owned()),
            "{unit:?} of {zone} at {now}"
        );
        assert_eq!(calendar.period(period.start_ns), period, "the first instant");
        assert_eq!(calendar.period(period.end_ns - 1), period, "the last instant");
        assert_eq!(calendar.period(period.end_ns).start_ns, period.end_ns, "the instant after");
        if period.start_ns > 0 {
            assert_eq!(
                calendar.period(period.start_ns - 1).end_ns,
                period.start_ns,
                "the instant before"
            );
        }
    }
}

#[test]
fn zones_are_iana_zones() {
    for zone in ["", "Nowhere/Town", "KST+9", "../etc/passwd", "+09:00"] {
        let invalid = Calendar::new(PeriodUnit::Day, zone, Weekday::Monday).unwrap_err();
        assert_eq!(invalid.field, "timeZone");
    }
    assert_eq!(
        Calendar::new(PeriodUnit::Day, "asia/seoul", Weekday::Monday).unwrap().zone_name(),
        "Asia/Seoul"
    );
    assert_eq!(Calendar::new(PeriodUnit::Day, "UTC", Weekday::Monday).unwrap().zone_name(), "UTC");
}

#[test]
fn the_last_instant_of_64_bits_has_a_period() {
    for unit in UNITS {
        for zone in ZONES {
            let calendar = Calendar::new(unit, zone, Weekday::Sunday).unwrap();
            let period = calendar.period(u64::MAX);
            assert!(
                period.start_ns > at("2553-01-01T00:00:00Z") && period.end_ns == u64::MAX,
                "{unit:?} of {zone}: {period:?}"
            );
        }
    }
}

const ZONES: [&str; 14] = [
    "UTC",
    "Asia/Seoul",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "America/Caracas",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Africa/Casablanca",
    "Antarctica/Troll",
];
const WEEK_STARTS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// The date of the first day of the period that an instant's local date is in, read naively.
fn naive_first_day(unit: PeriodUnit, zone: &str, week_start: usize, unix_ns: u64) -> Date {
    let zone = zones().get(zone).unwrap();
    let mut date = Timestamp::from_nanosecond(unix_ns.into()).unwrap().to_zoned(zone).date();
    let starts = |date: Date| match unit {
        PeriodUnit::Week => {
            usize::try_from(date.weekday().to_monday_zero_offset()).unwrap() == week_start
        }
        PeriodUnit::Month => date.day() == 1,
        PeriodUnit::Year => date.day() == 1 && date.month() == 1,
        _ => true,
    };
    while !starts(date) {
        date = date.yesterday().unwrap();
    }
    date
}

proptest! {
    /// Long periods start with the first instant of their first date, and hold no instant of a
    /// later one.
    #[test]
    fn dates_agree_with_a_naive_reading(
        unix_s in 86_400u64 * 3_660..86_400 * 25_000, unit in prop::sample::select(UNITS[2..].to_vec()), zone in prop::sample::select(ZONES.to_vec()),
        week_start in 0..7usize, inside in 0.0..1.0f64,
    ) {
        let calendar = Calendar::new(unit, zone, WEEK_STARTS[week_start]).unwrap();
        let now = unix_s * SECOND_NS;
        let period = calendar.period(now);
        prop_assert!(period.contains(now));
        prop_assert_eq!(calendar.period(period.end_ns).start_ns, period.end_ns);
        prop_assert_eq!(calendar.period(period.start_ns - 1).end_ns, period.start_ns);
        let first = |unix_ns| naive_first_day(unit, zone, week_start, unix_ns);
        let date = first(period.start_ns);
        prop_assert!(first(period.start_ns - 1) < date);
        prop_assert!(first(period.end_ns) > date);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let some = period.start_ns + (period.length_ns() as f64 * inside) as u64;
        prop_assert!(first(some.min(period.end_ns - 1)) <= date);
        prop_assert!(first(period.end_ns - 1) <= date);
    }

    /// Minutes and hours are whole on the local clock, except beside a change of the offset.
    #[test]
    fn minutes_and_hours_agree_with_a_naive_reading(
        unix_ns in 86_400u64 * 3_660 * SECOND_NS..86_400 * 25_000 * SECOND_NS, hour in any::<bool>(), zone in prop::sample::select(ZONES.to_vec()),
    ) {
        let (unit, length) = if hour { (PeriodUnit::Hour, HOUR_NS) } else { (PeriodUnit::Minute, MINUTE_NS) };
        let calendar = Calendar::new(unit, zone, Weekday::Monday).unwrap();
        let period = calendar.period(unix_ns);
        prop_assert!(period.contains(unix_ns));
        prop_assert_eq!(calendar.period(period.end_ns).start_ns, period.end_ns);
        prop_assert_eq!(calendar.period(period.start_ns - 1).end_ns, period.start_ns);
        let tz = zones().get(zone).unwrap();
        let local = |unix_ns: u64| Timestamp::from_nanosecond(unix_ns.into()).unwrap().to_zoned(tz.clone());
        let (start, last, end) = (local(period.start_ns), local(period.end_ns - 1), local(period.end_ns));
        prop_assert_eq!(start.offset(), last.offset());
        prop_assert_eq!((start.hour(), last.hour()), (local(unix_ns).hour(), local(unix_ns).hour()));
        let whole = |zoned: &jiff::Zoned| zoned.second() == 0 && (!hour || zoned.minute() == 0);
        prop_assert!(whole(&start) || local(period.start_ns - 1).offset() != start.offset());
        prop_assert!(whole(&end) || last.offset() != end.offset());
        prop_assert!(period.length_ns() <= length);
    }
}
