use std::sync::Arc;

use super::*;
use crate::decide::plan::PeriodUnit;
use crate::decide::time::SECOND_NS;
use crate::testkit::declared;

const DAY: u64 = 86_400 * SECOND_NS;
/// A midnight, UTC.
const START: u64 = 20_000 * DAY;

fn quota(limit: u64, unit: PeriodUnit) -> CompiledQuota {
    CompiledQuota::new(&declared::quota("q", limit, unit)).unwrap()
}

fn charge(count: &mut QuotaCount, quota: &CompiledQuota, now: u64, units: u64) {
    let row = count.at(&quota.calendar, now);
    count.charge(&row, units, now, 0);
}

fn used(count: &QuotaCount, quota: &CompiledQuota, now: u64) -> u64 {
    count.at(&quota.calendar, now).used
}

#[test]
fn a_period_starts_from_0_once() {
    let (quota, mut count) = (quota(10, PeriodUnit::Day), QuotaCount::default());
    charge(&mut count, &quota, START, 4);
    assert_eq!(used(&count, &quota, START + DAY - 1), 4);
    assert_eq!(used(&count, &quota, START + DAY), 0);
    charge(&mut count, &quota, START + DAY, 1);
    charge(&mut count, &quota, START + DAY - 1, 2);
    assert_eq!((used(&count, &quota, START), used(&count, &quota, START + DAY)), (6, 1));
}

#[test]
fn old_rows_are_dropped_and_their_periods_have_nothing_left() {
    let (quota, mut count) = (quota(10, PeriodUnit::Day), QuotaCount::default());
    for day in 0..3 {
        charge(&mut count, &quota, START + day * DAY, 1);
    }
    // The first day ended 48 h before the fourth begins: it may go an instant later at the
    // earliest.
    let (mut before, mut after) = (count.clone(), count);
    let row = before.at(&quota.calendar, START + 3 * DAY);
    before.charge(&row, 1, START + 3 * DAY - 1, 0);
    assert_eq!(before.rows().len(), 4);
    after.charge(&row, 1, START + 3 * DAY, 0);
    assert_eq!(after.rows().len(), 3);
    assert_eq!(after.at(&quota.calendar, START).remaining(10), 0);
    assert_eq!(
        after.at(&quota.calendar, START - DAY).remaining(10),
        0,
        "never touched, and older than what was dropped"
    );
    charge(&mut after, &quota, START, 1);
    assert_eq!(after.rows().len(), 3, "a dropped period is not opened again");
}

#[test]
fn receipts_that_live_longer_keep_rows_longer() {
    let (quota, mut count) = (quota(10, PeriodUnit::Day), QuotaCount::default());
    for day in 0..9 {
        let now = START + day * DAY;
        let row = count.at(&quota.calendar, now);
        count.charge(&row, 1, now, 7 * DAY);
    }
    assert_eq!(count.rows().len(), 8);
}

#[test]
fn the_two_newest_rows_stay_however_old_they_are() {
    let (quota, mut count) = (quota(10, PeriodUnit::Day), QuotaCount::default());
    charge(&mut count, &quota, START, 5);
    charge(&mut count, &quota, START + 4_000 * DAY, 1);
    charge(&mut count, &quota, START + 8_000 * DAY, 1);
    assert_eq!(used(&count, &quota, START), 5);
}

#[test]
fn rows_are_bounded_in_number() {
    let (quota, mut count) = (quota(10, PeriodUnit::Minute), QuotaCount::default());
    let minute = 60 * SECOND_NS;
    for index in 0..MAX_ROWS as u64 + 10 {
        let row = count.at(&quota.calendar, START + index * minute);
        count.charge(&row, 1, START + index * minute, 365 * DAY);
    }
    assert_eq!(count.rows().len(), MAX_ROWS);
    assert_eq!(count.at(&quota.calendar, START + 9 * minute).remaining(10), 0);
    assert_eq!(count.at(&quota.calendar, START + 10 * minute).remaining(10), 9);
    assert!(!count.settle((START + 9 * minute) / SECOND_NS, 1, 0));
    assert!(count.settle((START + 10 * minute) / SECOND_NS, 1, 0));
    assert_eq!(used(&count, &quota, START + 10 * minute), 0);
}

#[test]
fn it_passes_again_when_a_period_has_room() {
    let (three, mut count) = (quota(3, PeriodUnit::Day), QuotaCount::default());
    assert_eq!(count.passes_at(&three, START + 5, 3), Some(START + 5));
    assert_eq!(count.passes_at(&three, START + 5, 4), None);
    charge(&mut count, &three, START, 2);
    assert_eq!(count.passes_at(&three, START + 5, 1), Some(START + 5));
    assert_eq!(count.passes_at(&three, START + 5, 2), Some(START + DAY));
    // The next period is known already: the wall clock was there before.
    charge(&mut count, &three, START + DAY, 3);
    assert_eq!(count.passes_at(&three, START + 5, 2), Some(START + 2 * DAY));
    // A cost above the limit fits only where there are grants.
    let row = count.at(&three.calendar, START + DAY);
    count.grant(&row, Grant::SetRemaining(5), 3, START, 0);
    assert_eq!(count.passes_at(&three, START + 5, 5), Some(START + DAY));
    assert_eq!(count.passes_at(&three, START + DAY, 5), Some(START + DAY));
    assert_eq!(count.passes_at(&three, START + 5, 6), None);
    assert_eq!(QuotaCount::default().passes_at(&quota(0, PeriodUnit::Day), START, 1), None);
}

#[test]
fn grants_change_what_remains_and_not_what_was_used() {
    let (five, mut count) = (quota(5, PeriodUnit::Day), QuotaCount::default());
    charge(&mut count, &five, START, 4);
    let mut grant = |grant| {
        let row = count.at(&five.calendar, START);
        let row = count.grant(&row, grant, 5, START, 0);
        (row.used, row.granted, row.remaining(5))
    };
    assert_eq!(grant(Grant::Add(2)), (4, 2, 3));
    assert_eq!(grant(Grant::Add(2)), (4, 4, 5));
    assert_eq!(grant(Grant::SetRemaining(0)), (4, -1, 0));
    assert_eq!(grant(Grant::Reset), (4, 4, 5));
    assert_eq!(grant(Grant::Add(u64::MAX)).1, i64::MAX);
    assert_eq!(grant(Grant::SetRemaining(u64::MAX)).1, i64::MAX);
}

#[test]
fn no_number_wraps() {
    let (most, mut count) = (quota(u64::MAX, PeriodUnit::Day), QuotaCount::default());
    charge(&mut count, &most, START, u64::MAX);
    charge(&mut count, &most, START, u64::MAX);
    assert_eq!(
        used(&count, &most, START),
        u64::MAX - 1,
        "the greatest number stands for one that is not known"
    );
    let row = Row { granted: i64::MIN, ..Row::fresh(count.at(&most.calendar, START).period) };
    assert_eq!((row.allowance(5), row.remaining(5)), (0, 0));
    assert_eq!(Row { granted: i64::MAX, ..row }.allowance(u64::MAX), u64::MAX);
    assert!(count.settle(START / SECOND_NS, 0, u64::MAX));
    assert!(count.settle(START / SECOND_NS, u64::MAX, 0));
    assert_eq!(used(&count, &most, START), 0);
    assert!(count.settle(START / SECOND_NS, 7, 0));
    assert_eq!(used(&count, &most, START), 0);
    assert!(!count.settle(START / SECOND_NS + 1, 7, 0));
}

#[test]
fn a_count_is_old_once_every_row_was_kept_long_enough() {
    let (five, mut count) = (Arc::new(quota(5, PeriodUnit::Day)), QuotaCount::default());
    assert!(count.is_old(START, 0), "nothing was counted");
    charge(&mut count, &five, START, 1);
    assert!(!count.is_old(START + 3 * DAY - 1, 0));
    assert!(count.is_old(START + 3 * DAY, 0));
    assert!(!count.is_old(START + 3 * DAY, 3 * DAY));
}
