//! Calendar periods: which minute, hour, day, week, month or year of a time zone an instant is in.
//!
//! Periods tile time: each instant is in exactly one. A day starts at the first instant that its
//! zone calls by its date, so it has 23 to 25 hours where clocks change, and an instant that a
//! clock set back over midnight gives to the day before stays in the day that has begun. Weeks,
//! months and years start with their first day. Minutes and hours start on the local minute and
//! hour, and where the zone's offset changes.

use std::sync::OnceLock;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp, ToSpan};

use super::invalid::Invalid;
use super::plan::{PeriodUnit, Weekday};
use super::time::SECOND_NS;

const MINUTE_NS: u64 = 60 * SECOND_NS;
const HOUR_NS: u64 = 60 * MINUTE_NS;
const DAY_NS: u64 = 24 * HOUR_NS;
/// How many empty or displaced days in a row a zone may have. No zone has had two.
const MAX_STEPS: usize = 8;

/// A division of time into periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    unit: PeriodUnit,
    zone: TimeZone,
    week_start: Weekday,
    /// Every local minute is 60 s of a whole minute since the epoch, always.
    utc: bool,
    /// No calendar at all: periods of this length, from the epoch on.
    fixed_ns: Option<u64>,
}

/// A period, from its first instant to the first of the next. Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    pub start_ns: u64,
    pub end_ns: u64,
}

impl Period {
    /// The same in seconds. What is beyond the reach of nanoseconds is at its end.
    pub const fn of_seconds(start_s: u64, end_s: u64) -> Self {
        Self {
            start_ns: start_s.saturating_mul(SECOND_NS),
            end_ns: end_s.saturating_mul(SECOND_NS),
        }
    }

    /// Its first second since the Unix epoch, which names it. Periods start with whole seconds.
    pub const fn start_s(&self) -> u64 {
        self.start_ns / SECOND_NS
    }

    /// The first second of the next period.
    pub const fn end_s(&self) -> u64 {
        self.end_ns.div_ceil(SECOND_NS)
    }

    pub fn contains(&self, unix_ns: u64) -> bool {
        self.start_ns <= unix_ns && unix_ns < self.end_ns
    }

    pub fn length_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// The time zones that the program carries: the same on every machine.
fn zones() -> &'static TimeZoneDatabase {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    ZONES.get_or_init(TimeZoneDatabase::bundled)
}

impl Calendar {
    /// Errors: a `time_zone` that is not the name of an IANA time zone.
    pub fn new(unit: PeriodUnit, time_zone: &str, week_start: Weekday) -> Result<Self, Invalid> {
        let zone = zones().get(time_zone).map_err(|_| {
            Invalid::new(
                "timeZone",
                format!(
                    "must be an IANA time zone such as `Asia/Seoul`; `{time_zone}` is not known"
                ),
            )
        })?;
        let utc = matches!(zone.iana_name(), None | Some("UTC" | "Etc/UTC"));
        Ok(Self { unit, zone, week_start, utc, fixed_ns: None })
    }

    /// The calendar of UTC, with weeks that start on Monday.
    pub const fn utc(unit: PeriodUnit) -> Self {
        Self { unit, zone: TimeZone::UTC, week_start: Weekday::Monday, utc: true, fixed_ns: None }
    }

    /// Periods of one length in seconds, at least 1, the first of which started with the epoch.
    /// Only [`Self::period`] makes sense of it.
    pub fn fixed(length_s: u64) -> Self {
        Self {
            fixed_ns: Some(length_s.max(1).saturating_mul(SECOND_NS)),
            ..Self::utc(PeriodUnit::Minute)
        }
    }

    /// The canonical spelling of the zone's name.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The period that an instant is in. Callers keep the answer and use it again while it contains
    /// their `now`.
    pub fn period(&self, unix_ns: u64) -> Period {
        if let Some(length_ns) = self.fixed_ns {
            return whole(unix_ns, length_ns);
        }
        match self.unit {
            PeriodUnit::Minute => self.short(unix_ns, MINUTE_NS),
            PeriodUnit::Hour => self.short(unix_ns, HOUR_NS),
            PeriodUnit::Day if self.utc => whole(unix_ns, DAY_NS),
            PeriodUnit::Day | PeriodUnit::Week | PeriodUnit::Month | PeriodUnit::Year => {
                // jiff reaches the year 9999 and 64 bits of nanoseconds the year 2554: there is
                // always an answer.
                self.by_date(unix_ns).unwrap_or_else(|| whole(unix_ns, DAY_NS))
            }
        }
    }

    /// A minute or an hour: fixed arithmetic on the local clock, within one offset.
    fn short(&self, unix_ns: u64, length_ns: u64) -> Period {
        if self.utc {
            return whole(unix_ns, length_ns);
        }
        self.short_local(unix_ns, length_ns).unwrap_or_else(|| whole(unix_ns, length_ns))
    }

    fn short_local(&self, unix_ns: u64, length_ns: u64) -> Option<Period> {
        let at = instant(unix_ns)?;
        let offset = self.zone.to_offset(at);
        let shift = i128::from(offset.seconds()) * i128::from(SECOND_NS);
        let length = i128::from(length_ns);
        let start = (i128::from(unix_ns) + shift).div_euclid(length) * length - shift;
        let end = start + length;
        let since = self
            .zone
            .preceding(at.checked_add(Span::new().nanoseconds(1)).ok()?)
            .take_while(|change| change.timestamp().as_nanosecond() > start);
        let start = since
            .filter(|change| self.offset_before(change.timestamp()) != Some(offset))
            .map(|change| change.timestamp().as_nanosecond())
            .next()
            .unwrap_or(start);
        let until =
            self.zone.following(at).take_while(|change| change.timestamp().as_nanosecond() < end);
        let end = until
            .filter(|change| change.offset() != offset)
            .map(|change| change.timestamp().as_nanosecond())
            .next()
            .unwrap_or(end);
        Some(Period { start_ns: clamp(start), end_ns: clamp(end) })
    }

    fn offset_before(&self, at: Timestamp) -> Option<jiff::tz::Offset> {
        Some(self.zone.to_offset(at.checked_sub(Span::new().nanoseconds(1)).ok()?))
    }

    /// A period of whole days.
    fn by_date(&self, unix_ns: u64) -> Option<Period> {
        let at = i128::from(unix_ns);
        let mut first = self.first_day(self.zone.to_datetime(instant(unix_ns)?).date())?;
        for _ in 0..MAX_STEPS {
            let next = first.checked_add(self.step()).ok()?;
            let (start, end) = (self.start_of(first)?, self.start_of(next)?);
            if at < start {
                first = first.checked_sub(self.step()).ok()?;
            } else if at >= end {
                first = next;
            } else {
                return Some(Period { start_ns: clamp(start), end_ns: clamp(end) });
            }
        }
        None
    }

    fn step(&self) -> Span {
        match self.unit {
            PeriodUnit::Minute | PeriodUnit::Hour | PeriodUnit::Day => 1.day(),
            PeriodUnit::Week => 7.days(),
            PeriodUnit::Month => 1.month(),
            PeriodUnit::Year => 1.year(),
        }
    }

    /// The first date of the period that a date is in.
    fn first_day(&self, date: Date) -> Option<Date> {
        match self.unit {
            PeriodUnit::Minute | PeriodUnit::Hour | PeriodUnit::Day => Some(date),
            PeriodUnit::Week => {
                let since = (date.weekday().to_monday_zero_offset()
                    - self.week_start.days_after_monday())
                .rem_euclid(7);
                date.checked_sub(i64::from(since).days()).ok()
            }
            PeriodUnit::Month => Some(date.first_of_month()),
            PeriodUnit::Year => Some(date.first_of_year()),
        }
    }

    /// The first instant of a date, in nanoseconds since the epoch.
    fn start_of(&self, date: Date) -> Option<i128> {
        let midnight = date.at(0, 0, 0, 0);
        let ambiguous = self.zone.to_ambiguous_timestamp(midnight);
        let AmbiguousOffset::Gap { after, .. } = ambiguous.offset() else {
            return Some(ambiguous.earlier().ok()?.as_nanosecond());
        };
        // Midnight is skipped: the day starts at the instant of the change. Midnight by the later
        // offset is not after that instant.
        let early =
            after.to_timestamp(midnight).ok()?.checked_sub(Span::new().nanoseconds(1)).ok()?;
        let change = self.zone.following(early).find(|change| change.offset() == after)?;
        Some(change.timestamp().as_nanosecond())
    }
}

impl Weekday {
    fn days_after_monday(self) -> i8 {
        match self {
            Self::Monday => 0,
            Self::Tuesday => 1,
            Self::Wednesday => 2,
            Self::Thursday => 3,
            Self::Friday => 4,
            Self::Saturday => 5,
            Self::Sunday => 6,
        }
    }
}

fn instant(unix_ns: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(unix_ns)).ok()
}

fn whole(unix_ns: u64, length_ns: u64) -> Period {
    let start_ns = unix_ns - unix_ns % length_ns;
    Period { start_ns, end_ns: start_ns.saturating_add(length_ns) }
}

/// A period that began before 1970 begins at 0.
fn clamp(nanosecond: i128) -> u64 {
    u64::try_from(nanosecond.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
