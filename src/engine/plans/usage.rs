//! Statistics by day (UTC). They never feed a decision.

mod unwritten;

use std::sync::Arc;

use once_cell::race::OnceBox;

use self::unwritten::{State, Unwritten};
pub use self::unwritten::{TakenUsage, UnwrittenUsage};
use crate::decide::ledger::{DailyCounts, DailyKey, DailyRow, NameKind, Scope};
use crate::decide::outcome::Class;
use crate::decide::plan::Id;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Reason;
use crate::engine::filed::{Filed, Files, Fingerprinted, files};
use crate::engine::leases::{EntitlementRef, EntitlementRefs, Owner, shard_of};
use crate::engine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::fingerprint::{Fingerprint, Fingerprinter};

const DAY_S: u64 = 86_400;

/// Whom a statistic is about. Empty where it is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) subscriber: &'a Id,
    pub(super) key: &'a Id,
    pub(super) plan: &'a Id,
    pub(super) entitlement: &'a Id,
    pub(super) target: &'a Id,
}

impl<'a> Who<'a> {
    pub(super) fn under(owner: &'a Owner, key: &'a Id, target: &'a Id) -> Self {
        Self {
            subscriber: &owner.subscriber,
            key,
            plan: &owner.under.plan,
            entitlement: &owner.under.entitlement,
            target,
        }
    }
}

/// One thing to count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Admitted,
    Refused(Reason),
    Response(Class),
}

/// The row that the days of one key under one entitlement to one target are counted in. Counted
/// without a lock.
// In this order what is read when it is written lies, with the counts of its `Arc`, on one cache
// line.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Row {
    key: Id,
    admitted: AtomicU64,
    /// Most rows are never refused, and hear of no response.
    others: OnceBox<Others>,
    day: u32,
    state: State,
    /// Which of the ledger's shards the subscriber is in.
    shard: u8,
    /// Of the key and the target in receipts. 0: not asked for yet.
    numbers: [AtomicU32; 2],
    subscriber: Id,
    target: Id,
    under: Arc<EntitlementRef>,
    number: u64,
    fingerprint: Fingerprint,
}

// The scheduler's atomics are larger.
#[cfg(not(all(test, feature = "schedules")))]
const _: () = assert!(size_of::<Row>() == 112 && std::mem::offset_of!(Row, subscriber) == 48);

#[derive(Debug, Default)]
struct Others {
    refused: [AtomicU64; Reason::ALL.len()],
    responses: [AtomicU64; Class::ALL.len()],
}

/// Days of everyone.
#[derive(Debug)]
pub(super) struct Usage {
    rows: Files<Row>,
    unders: EntitlementRefs,
    /// How many there are: the map itself would count them shard by shard.
    live: AtomicUsize,
    max_rows: usize,
    unwritten: Unwritten,
    /// The number of the next row. One that is made again after it was dropped is another.
    next_number: AtomicU64,
    dropped: AtomicU64,
    /// The day of the last sweep.
    swept_on: AtomicU64,
    /// A row of an earlier day was made since, or could not be dropped.
    is_unswept: AtomicBool,
}

impl Usage {
    /// Somebody takes what was not written yet, and writes it: see [`Self::take`].
    pub(super) fn new(max_rows: usize) -> Self {
        Self {
            rows: files(),
            unders: EntitlementRefs::default(),
            live: AtomicUsize::new(0),
            max_rows,
            unwritten: Unwritten::default(),
            next_number: AtomicU64::new(1),
            dropped: AtomicU64::new(0),
            swept_on: AtomicU64::new(0),
            is_unswept: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self, fingerprints: &Fingerprinter, who: Who<'_>, event: Event, now: Now) {
        self.count_again(&mut None, fingerprints, who, event, now);
    }

    /// Counts in the row of the last time, if it is the one, or finds the row and keeps it for the
    /// next time.
    pub(super) fn count_again(
        &self,
        last: &mut Option<Arc<Row>>,
        fingerprints: &Fingerprinter,
        who: Who<'_>,
        event: Event,
        now: Now,
    ) {
        let day = day_of(now);
        if last.as_ref().is_none_or(|row| !row.is_of(who, day)) {
            *last = self.row(fingerprints, who, day);
        }
        match last {
            Some(row) => {
                row.count(event);
                self.unwritten.note(row);
            }
            None => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn row(&self, fingerprints: &Fingerprinter, who: Who<'_>, day: u64) -> Option<Arc<Row>> {
        let names = [who.subscriber, who.key, who.plan, who.entitlement, who.target]
            .map(|name| name.as_bytes());
        let [subscriber, key, plan, entitlement, target] = names;
        let fingerprint = fingerprints
            .of_parts(b'd', &[&day.to_le_bytes(), subscriber, key, plan, entitlement, target]);
        if let Some(found) = self.rows.get(&fingerprint) {
            return Some(Arc::clone(&found.key().0));
        }
        // Threads that race here may pass the bound by their number.
        if self.rows() >= self.max_rows {
            return None;
        }
        let under = EntitlementRef {
            plan: Arc::clone(who.plan),
            entitlement: Arc::clone(who.entitlement),
            key: None,
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let fresh =
            Arc::new(Row::new(day, who, self.unders.of(Arc::new(under)), fingerprint, number));
        let filed = self.rows.entry(Filed(fresh)).or_insert_with(|| {
            self.live.fetch_add(1, Ordering::Relaxed);
        });
        if day < self.swept_on.load(Ordering::SeqCst) {
            self.is_unswept.store(true, Ordering::SeqCst);
        }
        Some(Arc::clone(&filed.key().0))
    }

    /// The rows of a scope, from the first to the last day, both included, each with its number, in
    /// no order.
    pub(super) fn numbered(&self, scope: &Scope, first_day: u64, last_day: u64) -> Vec<DailyRow> {
        let wanted = |row: &Row| {
            (first_day..=last_day).contains(&row.day())
                && scope.holds(&row.subscriber, Some(&row.key), &row.under.plan)
        };
        self.rows
            .iter()
            .map(|found| Arc::clone(&found.key().0))
            .filter(|row| wanted(row))
            .map(|row| row.read())
            .collect()
    }

    /// Drops the days before yesterday that are written.
    pub(super) fn sweep(&self, now: Now) {
        let today = day_of(now);
        // Nothing ends but with a day. Before the rows are looked at: what is made meanwhile is for
        // the next time.
        let (last, is_unswept) = (
            self.swept_on.swap(today, Ordering::SeqCst),
            self.is_unswept.swap(false, Ordering::SeqCst),
        );
        if last == today && !is_unswept {
            return;
        }
        self.rows.retain(|Filed(row), ()| {
            let is_over = row.day().saturating_add(1) < today;
            if is_over && row.state.is_written() {
                row.state.forget();
                self.live.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
            if is_over {
                self.is_unswept.store(true, Ordering::SeqCst);
            }
            true
        });
        self.unders.sweep();
    }

    pub(super) fn rows(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Events that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn day_of(now: Now) -> u64 {
    now.unix_ns / SECOND_NS / DAY_S
}

impl Fingerprinted for Row {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl Row {
    fn new(
        day: u64,
        who: Who<'_>,
        under: Arc<EntitlementRef>,
        fingerprint: Fingerprint,
        number: u64,
    ) -> Self {
        Self {
            fingerprint,
            // The nanoseconds of a clock hold some 200,000 days.
            day: u32::try_from(day).unwrap_or(u32::MAX),
            number,
            state: State::of(fingerprint),
            shard: shard_of(who.subscriber),
            subscriber: Arc::clone(who.subscriber),
            key: Arc::clone(who.key),
            target: Arc::clone(who.target),
            under,
            numbers: Default::default(),
            admitted: AtomicU64::new(0),
            others: OnceBox::new(),
        }
    }

    /// Has what is counted come from memory while something else is done.
    pub(super) fn touch(&self) {
        self.touch_counts();
        std::hint::black_box(self.subscriber.len());
    }

    /// The same of what is read when it is written.
    fn touch_counts(&self) {
        std::hint::black_box(self.day);
    }

    /// Is it the row of this key and target on this day? Asked of a row that an entry keeps: plan
    /// and entitlement are the entry's own.
    fn is_of(&self, who: Who<'_>, day: u64) -> bool {
        let same = |kept: &Id, asked: &Id| Arc::ptr_eq(kept, asked) || kept == asked;
        self.day() == day
            && same(&self.key, who.key)
            && same(&self.target, who.target)
            && same(&self.subscriber, who.subscriber)
    }

    fn count(&self, event: Event) {
        let counter = match event {
            Event::Admitted => Some(&self.admitted),
            Event::Refused(reason) => {
                let place = Reason::ALL.iter().position(|&known| known == reason);
                place.and_then(|place| self.others.get_or_init(Box::default).refused.get(place))
            }
            Event::Response(class) => {
                let place = Class::ALL.iter().position(|&known| known == class);
                place.and_then(|place| self.others.get_or_init(Box::default).responses.get(place))
            }
        };
        if let Some(counter) = counter {
            // Before the row is looked at for whether it waits: see `Unwritten::note`.
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The numbers of its key and its target in receipts; drawn at the first time.
    pub(super) fn numbers(&self, draw: impl Fn(NameKind, &Id) -> u32) -> (u32, u32) {
        let [key, target] = &self.numbers;
        let number = |kept: &AtomicU32, kind, name| match kept.load(Ordering::Relaxed) {
            0 => {
                let drawn = draw(kind, name);
                kept.store(drawn, Ordering::Relaxed);
                drawn
            }
            known => known,
        };
        (number(key, NameKind::Key, &self.key), number(target, NameKind::Target, &self.target))
    }

    /// Which of the ledger's shards its subscriber is in.
    pub(super) fn shard(&self) -> u8 {
        self.shard
    }

    fn day(&self) -> u64 {
        self.day.into()
    }

    fn read(&self) -> DailyRow {
        DailyRow { number: self.number, key: self.key(), counts: self.counts() }
    }

    fn key(&self) -> DailyKey {
        DailyKey {
            day: self.day(),
            subscriber: Arc::clone(&self.subscriber),
            key: Arc::clone(&self.key),
            plan: Arc::clone(&self.under.plan),
            entitlement: Arc::clone(&self.under.entitlement),
            target: Arc::clone(&self.target),
        }
    }

    fn counts(&self) -> DailyCounts {
        let others = self.others.get();
        DailyCounts {
            admitted: self.admitted.load(Ordering::SeqCst),
            refused: others.map_or_else(Vec::new, |others| read(&others.refused)),
            responses: others.map_or_else(Vec::new, |others| read(&others.responses)),
        }
    }
}

/// Most rows count admissions alone, and need no lists.
fn read(counts: &[AtomicU64]) -> Vec<u64> {
    let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let is_zero = |count: &AtomicU64| read(count) == 0;
    if counts.iter().all(is_zero) { Vec::new() } else { counts.iter().map(read).collect() }
}

#[cfg(test)]
mod tests;
