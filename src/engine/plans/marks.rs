//! Which receipts were settled with a change: one bit for each, until they expire.

use roaring::RoaringBitmap;

use super::receipt::Receipt;
use crate::decide::ledger::{Holder, MarkKind};
use crate::decide::time::Now;
use crate::engine::sync::{
    DashMap,
    atomic::{AtomicU64, Ordering},
};

/// Whether something was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// It is marked now.
    Now,
    /// It was marked before.
    Before,
    /// The marks of its time were dropped: the receipt is too old, although the wall clock, stepped
    /// back, does not show it.
    TooOld,
}

/// 65,536 sequence numbers of one shard of one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    holder: Holder,
    shard: u8,
    high: u64,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Row {
    corrected: RoaringBitmap,
    charged: RoaringBitmap,
    /// Every receipt in it has expired at this instant, by the wall clock.
    expires_unix_ns: u64,
    /// And by the steady clock: a leap of the wall clock must not make a receipt good a second
    /// time.
    expires_steady_ns: u64,
}

/// The marks of all receipts. At most 8 KiB (16 with charges at the report) for each 65,536 of
/// them.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) rows: DashMap<Place, Row>,
    /// By holder and shard: marks below this sequence number were dropped. They are drawn in
    /// the order of time.
    floors: DashMap<(Holder, u8), u64>,
    max_rows: usize,
    ttl_ns: u64,
    refused: AtomicU64,
}

/// There is no room for another row of marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full;

impl Marks {
    pub(super) fn new(max_rows: usize, ttl_ns: u64) -> Self {
        Self {
            rows: DashMap::new(),
            floors: DashMap::new(),
            max_rows,
            ttl_ns,
            refused: AtomicU64::new(0),
        }
    }

    /// Marks a receipt.
    pub(super) fn mark(&self, receipt: &Receipt, done: MarkKind, now: Now) -> Result<Marked, Full> {
        if self.were_dropped(receipt) {
            return Ok(Marked::TooOld);
        }
        let (place, low) = place_of(receipt);
        // Threads that race here may pass the bound by their number.
        if !self.rows.contains_key(&place) && self.rows.len() >= self.max_rows {
            self.sweep(now);
            if self.rows.len() >= self.max_rows {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Full);
            }
        }
        let mut row = self.rows.entry(place).or_default();
        let latest_ns = now.unix_ns.max(receipt.issued_us.saturating_add(1).saturating_mul(1000));
        row.expires_unix_ns = row.expires_unix_ns.max(latest_ns.saturating_add(self.ttl_ns));
        row.expires_steady_ns = now.steady_ns.saturating_add(self.ttl_ns);
        let fresh = match done {
            MarkKind::Corrected => row.corrected.insert(low),
            MarkKind::Charged => row.charged.insert(low),
        };
        Ok(if fresh { Marked::Now } else { Marked::Before })
    }

    /// The marks of the receipt's time were dropped: what was done for it is not known any more.
    pub(super) fn were_dropped(&self, receipt: &Receipt) -> bool {
        self.floors.get(&(receipt.holder, receipt.shard)).is_some_and(|floor| receipt.seq < *floor)
    }

    /// What is known here of a receipt, without marking it. `None`: nothing.
    pub(super) fn seen(&self, receipt: &Receipt, done: MarkKind) -> Option<Marked> {
        if self.were_dropped(receipt) {
            return Some(Marked::TooOld);
        }
        self.has(receipt, done).then_some(Marked::Before)
    }

    /// Was this done for a receipt?
    pub(super) fn has(&self, receipt: &Receipt, done: MarkKind) -> bool {
        let (place, low) = place_of(receipt);
        self.rows.get(&place).is_some_and(|row| match done {
            MarkKind::Corrected => row.corrected.contains(low),
            MarkKind::Charged => row.charged.contains(low),
        })
    }

    /// Drops the rows whose receipts have all expired.
    pub(super) fn sweep(&self, now: Now) {
        self.rows.retain(|place, row| {
            let live = now.unix_ns < row.expires_unix_ns || now.steady_ns < row.expires_steady_ns;
            if !live {
                let last = row.corrected.max().max(row.charged.max()).unwrap_or_default();
                let mut floor = self.floors.entry((place.holder, place.shard)).or_default();
                *floor = (*floor).max((place.high << 16 | u64::from(last)) + 1);
            }
            live
        });
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The row of a receipt, and its bit there.
fn place_of(receipt: &Receipt) -> (Place, u32) {
    let Receipt { holder, shard, seq, .. } = *receipt;
    (Place { holder, shard, high: seq >> 16 }, u32::try_from(seq & 0xffff).unwrap_or_default())
}
