//! The count of one quota of one subject: a row for each period that was touched.
//!
//! A row starts from 0 when its period is touched for the first time, and is kept for at least
//! [`KEEP_NS`] after its end (or as long as receipts live, if that is longer), so that a wall clock
//! that steps back goes on with the count of the period that it comes back to, and a late report
//! finds the period of its charge. A period whose row was dropped has nothing left: no period
//! starts from 0 twice. The two newest rows are never dropped for their age, so that a clock that
//! leaps ahead for a moment costs no count.
//!
//! Who keeps the books elsewhere, too, may have rows forgotten before ([`QuotaCount::forget`]), and
//! has to look there where their periods are touched again: here they start from 0.

use std::num::NonZeroU64;

use super::calendar::{Calendar, Period};
use super::compiled::CompiledQuota;
use super::few::Few;

/// How long a row is kept after its period has ended, at least, unless it is kept elsewhere.
/// Nanoseconds.
pub const KEEP_NS: u64 = 48 * 3600 * super::time::SECOND_NS;
/// The most rows of one counter: the minutes of 68 hours. At this bound the oldest row is dropped
/// before its time: its period then has nothing left if the clock ever steps back into it, and
/// reports of its requests change nothing.
pub const MAX_ROWS: usize = 4096;
/// Rows that stay however old they are.
const ALWAYS_KEPT: usize = 2;

/// The books of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub period: Period,
    /// Units charged and not refunded. `u64::MAX`: [`Self::is_dropped`].
    pub used: u64,
    /// Units that an operator gave beside the limit; negative where some were taken away.
    pub granted: i64,
}

/// A change that an operator makes to the current period of a counter. What was used is not
/// rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Units more.
    Add(u64),
    /// Exactly this much remains.
    SetRemaining(u64),
    /// The whole limit remains.
    Reset,
}

/// Units used that are not known: none are left.
const DROPPED: u64 = u64::MAX;

/// Units used and charged, which stay a number that is known.
fn charged(used: u64, units: u64) -> u64 {
    if used == DROPPED { DROPPED } else { used.saturating_add(units).min(DROPPED - 1) }
}

impl Row {
    fn fresh(period: Period) -> Self {
        Self { period, used: 0, granted: 0 }
    }

    /// Of a period whose books were dropped: nothing is left of it, and how much was used is not
    /// known.
    pub fn dropped(period: Period) -> Self {
        Self { used: DROPPED, ..Self::fresh(period) }
    }

    /// Then `used` is no number to show.
    pub fn is_dropped(&self) -> bool {
        self.used == DROPPED
    }

    /// What may be used in this period. The limit with its grants.
    pub fn allowance(&self, limit: u64) -> u64 {
        limit.saturating_add_signed(self.granted)
    }

    /// What is left. 0 where more was used than the limit allows now.
    pub fn remaining(&self, limit: u64) -> u64 {
        self.allowance(limit).saturating_sub(self.used)
    }

    /// Changes what remains.
    pub fn grant(&mut self, grant: Grant, limit: u64) {
        let leaving =
            |units: u64| clamp(i128::from(self.used) + i128::from(units) - i128::from(limit));
        self.granted = match grant {
            Grant::Add(units) => clamp(i128::from(self.granted) + i128::from(units)),
            Grant::SetRemaining(units) => leaving(units),
            Grant::Reset => leaving(limit),
        };
    }
}

fn clamp(units: i128) -> i64 {
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}

/// The count of one quota of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaCount {
    /// By period, oldest first. Beside them: periods that start before this instant and have no row
    /// were dropped.
    rows: Few<Kept, u64>,
}

/// A row as it is kept: an end that is never 0 leaves a value to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    start_ns: u64,
    end_ns: NonZeroU64,
    used: u64,
    granted: i64,
}

impl From<Row> for Kept {
    fn from(Row { period: Period { start_ns, end_ns }, used, granted }: Row) -> Self {
        Self { start_ns, end_ns: NonZeroU64::new(end_ns).unwrap_or(NonZeroU64::MIN), used, granted }
    }
}

impl From<&Kept> for Row {
    fn from(&Kept { start_ns, end_ns, used, granted }: &Kept) -> Self {
        Self { period: Period { start_ns, end_ns: end_ns.get() }, used, granted }
    }
}

impl QuotaCount {
    /// The books of the period that an instant is in: as kept, or fresh.
    pub fn at(&self, calendar: &Calendar, unix_ns: u64) -> Row {
        if let Some(row) =
            self.rows.last().map(Row::from).filter(|row| row.period.contains(unix_ns))
        {
            return row;
        }
        let after = self.rows.partition_point(|row| row.start_ns <= unix_ns);
        let before = after.checked_sub(1).and_then(|index| self.rows.get(index));
        if let Some(row) = before.map(Row::from).filter(|row| row.period.contains(unix_ns)) {
            return row;
        }
        let fresh = Row::fresh(calendar.period(unix_ns));
        if fresh.period.start_ns < self.rows.beside() { Row::dropped(fresh.period) } else { fresh }
    }

    /// The earliest instant from `from_ns` on at which `cost` units are left, if nothing else is
    /// charged until then.
    pub fn passes_at(&self, quota: &CompiledQuota, from_ns: u64, cost: u64) -> Option<u64> {
        let mut row = self.at(&quota.calendar, from_ns);
        if cost <= row.remaining(quota.limit) {
            return Some(from_ns);
        }
        if cost > quota.limit {
            // Only a period that has grants already could take it.
            let mut later = self.rows().filter(|kept| kept.period.start_ns >= row.period.end_ns);
            return later
                .find(|kept| cost <= kept.remaining(quota.limit))
                .map(|kept| kept.period.start_ns);
        }
        // Behind the last kept row every period is fresh.
        for _ in 0..=MAX_ROWS {
            let next_ns = row.period.end_ns;
            row = self.at(&quota.calendar, next_ns);
            if cost <= row.remaining(quota.limit) {
                return Some(next_ns);
            }
        }
        None
    }

    /// Charges units to the period of a row that [`Self::at`] gave. `keep_ns`: how long rows are
    /// kept.
    pub fn charge(&mut self, row: &Row, units: u64, now_ns: u64, keep_ns: u64) {
        self.change(row, now_ns, keep_ns, |row| row.used = charged(row.used, units));
    }

    /// Changes what remains of the period of a row that [`Self::at`] gave, and gives the row as it
    /// stands after.
    pub fn grant(&mut self, row: &Row, grant: Grant, limit: u64, now_ns: u64, keep_ns: u64) -> Row {
        self.change(row, now_ns, keep_ns, |row| row.grant(grant, limit));
        self.row(row.period.start_ns).unwrap_or(*row)
    }

    fn change(&mut self, row: &Row, now_ns: u64, keep_ns: u64, change: impl FnOnce(&mut Row)) {
        if let Some(kept) =
            self.find(row.period.start_ns).and_then(|index| self.rows.get_mut(index))
        {
            let mut row = Row::from(&*kept);
            change(&mut row);
            *kept = row.into();
            return;
        }
        if row.period.start_ns < self.rows.beside() {
            return;
        }
        self.drop_old(now_ns, keep_ns.max(KEEP_NS));
        let mut row = *row;
        change(&mut row);
        let place = self.rows.partition_point(|kept| kept.start_ns < row.period.start_ns);
        self.rows.insert(place, row.into());
    }

    /// Takes over what is known elsewhere of a period. Nothing where its row was dropped.
    pub fn tell(&mut self, told: Row, now_ns: u64, keep_ns: u64) {
        self.change(&told, now_ns, keep_ns, |row| *row = told);
    }

    /// The kept row of the period with this start.
    pub fn row(&self, start_ns: u64) -> Option<Row> {
        self.rows.get(self.find(start_ns)?).map(Row::from)
    }

    /// Where the row of the period with this start is.
    fn find(&self, start_ns: u64) -> Option<usize> {
        let last = self.rows.len().checked_sub(1)?;
        if self.rows.get(last).is_some_and(|row| row.start_ns == start_ns) {
            return Some(last);
        }
        self.rows.binary_search_by_key(&start_ns, |row| row.start_ns).ok()
    }

    fn drop_old(&mut self, now_ns: u64, keep_ns: u64) {
        let may_go = self.rows.len().saturating_sub(ALWAYS_KEPT);
        let old = self
            .rows()
            .take(may_go)
            .take_while(|row| row.period.end_ns.saturating_add(keep_ns) <= now_ns)
            .count();
        let gone = old.max((self.rows.len() + 1).saturating_sub(MAX_ROWS));
        if let Some(last) = gone.checked_sub(1).and_then(|last| self.rows.get(last)).copied() {
            self.rows.set_beside(self.rows.beside().max(last.end_ns.get()));
            self.rows.retain(|row| row.start_ns > last.start_ns);
        }
    }

    /// Drops rows whose books are kept elsewhere: their periods start from 0 here, if they are
    /// touched again.
    pub fn forget(&mut self, forgets: impl Fn(&Row) -> bool) {
        self.rows.retain(|row| !forgets(&row.into()));
    }

    /// Changes the units charged to the period with this start, in whole seconds since the epoch,
    /// from `before` to `real`. `false`: the period was dropped, and nothing changed.
    pub fn settle(&mut self, start_s: u64, before: u64, real: u64) -> bool {
        let index =
            self.rows.partition_point(|row| row.start_ns / super::time::SECOND_NS < start_s);
        let row =
            self.rows.get_mut(index).filter(|row| row.start_ns / super::time::SECOND_NS == start_s);
        let row = row.filter(|row| !Row::from(&**row).is_dropped());
        let found = row.is_some();
        if let Some(row) = row {
            row.used = if real >= before {
                charged(row.used, real - before)
            } else {
                row.used.saturating_sub(before - real)
            };
        }
        found
    }

    /// The kept rows, oldest first.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = Row> + ExactSizeIterator {
        self.rows.iter().map(Row::from)
    }

    /// Have all periods ended at least `keep_ns` ago?
    pub fn is_old(&self, now_ns: u64, keep_ns: u64) -> bool {
        self.rows().all(|row| row.period.end_ns.saturating_add(keep_ns.max(KEEP_NS)) <= now_ns)
    }
}

#[cfg(test)]
mod tests;
