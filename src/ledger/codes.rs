//! How ledgers write what is not a number or a name.

use super::{MarkKind, NameKind};
use crate::decide::plan::{PeriodUnit, Weekday};

const UNITS: [(PeriodUnit, &str); 6] = [
    (PeriodUnit::Minute, "minute"),
    (PeriodUnit::Hour, "hour"),
    (PeriodUnit::Day, "day"),
    (PeriodUnit::Week, "week"),
    (PeriodUnit::Month, "month"),
    (PeriodUnit::Year, "year"),
];

const WEEKDAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "monday"),
    (Weekday::Tuesday, "tuesday"),
    (Weekday::Wednesday, "wednesday"),
    (Weekday::Thursday, "thursday"),
    (Weekday::Friday, "friday"),
    (Weekday::Saturday, "saturday"),
    (Weekday::Sunday, "sunday"),
];

pub(super) fn unit(unit: PeriodUnit) -> &'static str {
    UNITS.iter().find(|(known, _)| *known == unit).map_or("", |(_, word)| word)
}

pub(super) fn weekday(day: Weekday) -> &'static str {
    WEEKDAYS.iter().find(|(known, _)| *known == day).map_or("", |(_, word)| word)
}

/// The unit of a word. `None`: it is none of ours.
pub(super) fn unit_of(word: &str) -> Option<PeriodUnit> {
    UNITS.iter().find(|(_, known)| *known == word).map(|(unit, _)| *unit)
}

/// The weekday of a word, likewise.
pub(super) fn weekday_of(word: &str) -> Option<Weekday> {
    WEEKDAYS.iter().find(|(_, known)| *known == word).map(|(day, _)| *day)
}

pub(super) fn kind(kind: MarkKind) -> i64 {
    match kind {
        MarkKind::Corrected => 0,
        MarkKind::Charged => 1,
    }
}

pub(super) fn name_kind(kind: NameKind) -> i64 {
    match kind {
        NameKind::Key => 0,
        NameKind::Target => 1,
    }
}

/// The kind of a number, where there is one.
pub(super) fn name_kind_of(number: i64) -> Option<NameKind> {
    [NameKind::Key, NameKind::Target].into_iter().find(|kind| name_kind(*kind) == number)
}

/// Integers of databases have a sign: greater numbers stand for the greatest.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Numbers of 64 bits, little-endian.
pub(super) fn pack(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Numbers that [`pack`] wrote.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<u64>> {
    let (numbers, rest) = bytes.as_chunks();
    rest.is_empty().then(|| numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}
