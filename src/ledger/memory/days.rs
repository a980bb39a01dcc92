//! Daily usage, by day, holder and number.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::ledger::{DailyCounts, DailyKey, DailyRow, Holder};

/// The most rows that are kept: at the bound the oldest day makes room.
const MAX_ROWS: usize = 10_000_000;
/// Numbers are given one after the other: rows lie together by so many, so that one is found with
/// few looks.
const PAGE: u64 = 64;

/// Rows of all days.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Days {
    by_day: BTreeMap<u64, Pages>,
    rows: usize,
}

/// By holder, and by number in pages; within a page in the order of numbers.
type Pages = BTreeMap<(Holder, u64), Vec<Kept>>;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Kept {
    number: u64,
    counts: DailyCounts,
    key: DailyKey,
}

impl Days {
    /// Keeps a row, instead of the one with its day, holder and number.
    pub(super) fn put(
        &mut self,
        holder: Holder,
        number: u64,
        key: &DailyKey,
        counts: &DailyCounts,
    ) {
        let page =
            self.by_day.entry(key.day).or_default().entry((holder, number / PAGE)).or_default();
        let kept = Kept { number, counts: counts.clone(), key: key.clone() };
        match place(page, number) {
            Ok(place) => drop(page.get_mut(place).map(|known| *known = kept)),
            Err(place) => {
                page.insert(place, kept);
                self.rows += 1;
            }
        }
        if self.rows > MAX_ROWS {
            self.drop_oldest(u64::MAX, 1);
        }
    }

    /// New counts of a row. Where it is gone, so are they.
    pub(super) fn change(&mut self, day: u64, holder: Holder, number: u64, counts: &DailyCounts) {
        let page =
            self.by_day.get_mut(&day).and_then(|pages| pages.get_mut(&(holder, number / PAGE)));
        let known =
            page.and_then(|page| place(page, number).ok().and_then(|place| page.get_mut(place)));
        known.into_iter().for_each(|known| known.counts.clone_from(counts));
    }

    /// The rows of some days.
    pub(super) fn of(
        &self,
        days: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (Holder, &DailyKey, impl FnOnce() -> DailyRow)> {
        let pages = self
            .by_day
            .iter()
            .filter(move |(day, _)| days.contains(day))
            .flat_map(|(_, pages)| pages);
        pages.flat_map(|(&(holder, _), page)| {
            page.iter().map(move |Kept { number, counts, key }| {
                (holder, key, || DailyRow {
                    number: *number,
                    key: key.clone(),
                    counts: counts.clone(),
                })
            })
        })
    }

    /// Drops at most so many rows of the oldest days.
    pub(super) fn drop_oldest(&mut self, before: u64, most: usize) -> u64 {
        let mut left = most;
        while let Some(mut oldest) =
            self.by_day.first_entry().filter(|pages| left > 0 && *pages.key() < before)
        {
            if let Some(mut page) = oldest.get_mut().first_entry() {
                let some = page.get().len().min(left);
                page.get_mut().drain(..some);
                left -= some;
                if page.get().is_empty() {
                    page.remove();
                }
            }
            if oldest.get().is_empty() {
                oldest.remove();
            }
        }
        self.rows -= most - left;
        (most - left).try_into().unwrap_or(u64::MAX)
    }
}

/// Where a number is in its page, or belongs: nearly always as far from the first as it is greater.
fn place(page: &[Kept], number: u64) -> Result<usize, usize> {
    let guess =
        page.first().and_then(|first| usize::try_from(number.checked_sub(first.number)?).ok());
    match guess.filter(|&guess| page.get(guess).is_some_and(|kept| kept.number == number)) {
        Some(place) => Ok(place),
        None => page.binary_search_by_key(&number, |kept| kept.number),
    }
}
