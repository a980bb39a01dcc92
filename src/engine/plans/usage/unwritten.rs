//! Which rows changed since they were written: a list of them, in which a row stands once however
//! often it changes.

use std::sync::Arc;

use super::{Row, Usage};
use crate::decide::ledger::{DailyChange, DailyName};
use crate::engine::sync::{
    Mutex,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};
use crate::fingerprint::Fingerprint;

/// So that threads that touch different rows for the first time seldom meet.
const LANES: usize = 16;
/// Rows come from memory so many at once.
const AHEAD: usize = 32;
/// Counts of so many neighbouring numbers are written in one piece.
const NEIGHBOURS: u64 = 64;
/// What names, or another piece, take beside counts that lie where others are written.
const MUCH: usize = 8;
/// The row stands in the list.
const WAITS: u8 = 1;
/// The row was taken, and nobody has said yet what came of it.
const TAKEN: u8 = 2;
/// The row was written before: whose it is needs not be said again.
const KNOWN: u8 = 4;
/// The row has left memory: whose it is is said each time.
const GONE: u8 = 8;

/// A row, with its number: to put rows in order they need not be looked at.
type Listed = (u64, Arc<Row>);

/// Rows that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    lanes: Box<[Mutex<Vec<Listed>>; LANES]>,
    /// Those that were taken, too, until they are written.
    waiting: AtomicUsize,
}

/// Is a row written?
#[derive(Debug)]
pub(super) struct State {
    bits: AtomicU8,
    lane: u8,
}

/// Rows that were taken to be written.
#[derive(Debug)]
#[must_use]
pub struct UnwrittenUsage(Vec<Listed>);

/// Some of them.
#[derive(Clone, Copy, Debug)]
pub struct TakenUsage<'a>(&'a [Listed]);

impl UnwrittenUsage {
    /// At most so much at once, in the order of days and numbers, about: rows are made in it. A row
    /// whose counts alone are written is 1, and 64 neighbours of its number lie with it; to tell
    /// whose a row is, and to go on to others than its neighbours, is 8 more each.
    pub fn parts(&self, most: usize) -> impl Iterator<Item = TakenUsage<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let some = rest.split_off(..part(rest, most))?;
            (!some.is_empty()).then_some(TakenUsage(some))
        })
    }
}

/// How many rows are a part, at least one.
fn part(rows: &[Listed], most: usize) -> usize {
    let (mut work, mut last) = (0, None);
    let fits = |(number, row): &&Listed| {
        let neighbours = Some(number / NEIGHBOURS);
        let goes_on = std::mem::replace(&mut last, neighbours) != neighbours;
        work += 1 + MUCH * (usize::from(goes_on) + usize::from(!row.state.is_known()));
        work <= most
    };
    rows.chunks(AHEAD).inspect(touch).flatten().take_while(fits).count().max(1).min(rows.len())
}

/// Has some rows come from memory at once.
fn touch(some: &&[Listed]) {
    some.iter().for_each(|(_, row)| row.touch_counts());
}

impl TakenUsage<'_> {
    /// As they are counted now. Who counts in one from now on puts it on the list again, and nobody
    /// before: read them before you say what came of them.
    pub fn changes(&self) -> impl Iterator<Item = DailyChange> {
        self.0.chunks(AHEAD).inspect(touch).flatten().map(|(number, row)| {
            row.state.take();
            let name = if row.state.is_known() {
                DailyName::Known { day: row.day() }
            } else {
                DailyName::Told(row.key())
            };
            DailyChange { number: *number, name, counts: row.counts() }
        })
    }

    fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.0.iter().map(|(_, row)| row)
    }
}

impl State {
    pub(super) fn of(fingerprint: Fingerprint) -> Self {
        Self { bits: AtomicU8::new(0), lane: fingerprint.spread().to_le_bytes()[0] }
    }

    /// It is off the list. Before what is counted is read: see [`Unwritten::note`].
    fn take(&self) {
        // In this order: in between it must not look as if it were written.
        self.bits.fetch_or(TAKEN, Ordering::SeqCst);
        self.bits.fetch_and(!WAITS, Ordering::SeqCst);
    }

    /// Whose it is needs not be said.
    fn is_known(&self) -> bool {
        self.bits.load(Ordering::SeqCst) & (KNOWN | GONE) == KNOWN
    }

    /// Nothing of the row waits or is on its way.
    pub(super) fn is_written(&self) -> bool {
        self.bits.load(Ordering::SeqCst) & (WAITS | TAKEN) == 0
    }

    /// The row leaves memory. Who still counts in it, after a leap of the clock, cannot know
    /// whether the ledger has dropped the day, too.
    pub(super) fn forget(&self) {
        self.bits.fetch_or(GONE, Ordering::SeqCst);
    }
}

impl Unwritten {
    /// The row has changed. Takes a lock for the first change after the row was taken, and then
    /// none.
    ///
    /// Of a change and a taker that race one sees the other, because all four steps are in one
    /// order: the change is made before it looks for the row in the list; the taker takes it off
    /// the list before it reads it.
    pub(super) fn note(&self, row: &Arc<Row>) {
        if row.state.bits.load(Ordering::SeqCst) & WAITS == 0 {
            self.list(row);
        }
    }

    fn list(&self, row: &Arc<Row>) {
        if row.state.bits.fetch_or(WAITS, Ordering::SeqCst) & WAITS == 0
            && let Some(lane) = self.lanes.get(usize::from(row.state.lane) % LANES)
        {
            let mut lane = lane.lock();
            lane.push((row.number, Arc::clone(row)));
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Leaves room for as many: a decision should not have to make it.
    fn take_lane(lane: &Mutex<Vec<Listed>>) -> Vec<Listed> {
        let many = lane.lock().len();
        let room = Vec::with_capacity(many);
        std::mem::replace(&mut *lane.lock(), room)
    }

    /// The rows themselves are not looked at: that is done once, when they are read.
    fn take(&self) -> Vec<Listed> {
        let mut taken: Vec<Listed> = self.lanes.iter().flat_map(Self::take_lane).collect();
        taken.sort_unstable_by_key(|(number, _)| *number);
        taken
    }
}

impl Usage {
    /// Rows that wait to be written, or are on their way.
    pub(in crate::engine::plans) fn unwritten(&self) -> usize {
        self.unwritten.waiting.load(Ordering::Relaxed)
    }

    /// Takes all of them.
    pub(in crate::engine::plans) fn take(&self) -> UnwrittenUsage {
        UnwrittenUsage(self.unwritten.take())
    }

    /// What was taken is kept elsewhere: a sweep may drop it.
    pub(in crate::engine::plans) fn written(&self, taken: TakenUsage<'_>) {
        for row in taken.rows() {
            row.state.bits.fetch_or(KNOWN, Ordering::SeqCst);
        }
        self.let_go(taken);
    }

    /// What was taken has to be taken again.
    pub(in crate::engine::plans) fn not_written(&self, taken: TakenUsage<'_>) {
        taken.rows().for_each(|row| self.unwritten.list(row));
        // After it waits again: in between it would look as if it were written.
        self.let_go(taken);
    }

    fn let_go(&self, taken: TakenUsage<'_>) {
        for row in taken.rows() {
            row.state.bits.fetch_and(!TAKEN, Ordering::SeqCst);
        }
        self.unwritten.waiting.fetch_sub(taken.0.len(), Ordering::Relaxed);
    }
}
