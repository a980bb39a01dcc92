//! Which rows changed since they were written: a list of them, in which a row stands once however often it changes.

use std::sync::Arc;

use super::{DailyUsage, Keep, Row, Usage};
use crate::engine::plans::fingerprint::Fingerprint;
use crate::engine::sync::{
    Mutex,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

/// So that threads that touch different rows for the first time seldom meet.
const LANES: usize = 16;
/// The row stands in the list.
const WAITS: u8 = 1;
/// The row was taken, and nobody has said yet what came of it.
const TAKEN: u8 = 2;

/// Rows that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    lanes: Box<[Mutex<Vec<Arc<Row>>>; LANES]>,
    waiting: AtomicUsize,
}

/// Is a row written?
#[derive(Debug)]
pub(super) struct State {
    bits: AtomicU8,
    lane: u8,
}

/// A row of statistics as one engine has counted it. What it counts again after it let go of the row is another part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePart {
    pub part: u32,
    pub usage: DailyUsage,
}

/// Rows that were taken to be written.
#[derive(Debug)]
#[must_use]
pub struct UnwrittenUsage {
    pub parts: Vec<UsagePart>,
    rows: Vec<Arc<Row>>,
}

impl State {
    pub(super) fn of(fingerprint: Fingerprint) -> Self {
        Self { bits: AtomicU8::new(0), lane: fingerprint.spread() }
    }

    /// Nothing of the row waits or is on its way.
    pub(super) fn is_written(&self) -> bool {
        self.bits.load(Ordering::SeqCst) == 0
    }
}

impl Unwritten {
    /// The row has changed. Takes a lock for the first change after the row was taken, and then none.
    ///
    /// Of a change and a taker that race one sees the other, because all four steps are in one order: the change is made before it looks for
    /// the row in the list; the taker takes it off the list before it reads it.
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
            lane.push(Arc::clone(row));
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self, most: usize) -> Vec<Arc<Row>> {
        let mut taken = Vec::new();
        for lane in self.lanes.iter() {
            let mut lane = lane.lock();
            let rest = lane.len().saturating_sub(most.saturating_sub(taken.len()));
            self.waiting.fetch_sub(lane.len().saturating_sub(rest), Ordering::Relaxed);
            taken.extend(lane.drain(rest..));
        }
        taken.iter().for_each(|row| row.state.bits.store(TAKEN, Ordering::SeqCst));
        taken
    }
}

impl Usage {
    fn behind(&self) -> Option<&Unwritten> {
        match &self.keep {
            Keep::Days(_) => None,
            Keep::UntilWritten(unwritten) => Some(unwritten),
        }
    }

    /// Rows that wait to be written.
    pub(in crate::engine::plans) fn unwritten(&self) -> usize {
        self.behind().map_or(0, |unwritten| unwritten.waiting.load(Ordering::Relaxed))
    }

    /// Takes at most so many of them.
    pub(in crate::engine::plans) fn take(&self, most: usize) -> UnwrittenUsage {
        let rows = self.behind().map(|unwritten| unwritten.take(most)).unwrap_or_default();
        UnwrittenUsage { parts: rows.iter().map(|row| row.usage_part()).collect(), rows }
    }

    /// What was taken is kept elsewhere: a sweep may drop it.
    pub(in crate::engine::plans) fn written(&self, taken: &UnwrittenUsage) {
        for row in &taken.rows {
            row.state.bits.fetch_and(!TAKEN, Ordering::SeqCst);
        }
    }

    /// What was taken has to be taken again.
    pub(in crate::engine::plans) fn not_written(&self, taken: &UnwrittenUsage) {
        let Some(unwritten) = self.behind() else { return };
        taken.rows.iter().for_each(|row| unwritten.list(row));
        // After it waits again: in between it would look as if it were written.
        self.written(taken);
    }
}
