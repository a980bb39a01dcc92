//! Which receipts were settled with a change: one bit for each, until they expire.

use roaring::RoaringBitmap;

use super::receipt::Receipt;
use crate::decide::ledger::{Holder, MarkKind};
use crate::decide::time::Now;
use crate::engine::sync::{
    DashMap,
    atomic::{AtomicU64, Ordering},
};

/// What is known here of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// It was made before.
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

    /// Remembers a mark that the ledger has. Without room for it a second report for the same
    /// receipt asks the ledger, which knows.
    pub(super) fn mark(&self, receipt: &Receipt, kind: MarkKind, now: Now) {
        if self.were_dropped(receipt) {
            return;
        }
        let (place, low) = place_of(receipt);
        // Threads that race here may pass the bound by their number.
        if !self.rows.contains_key(&place) && self.rows.len() >= self.max_rows {
            self.sweep(now);
            if self.rows.len() >= self.max_rows {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut row = self.rows.entry(place).or_default();
        let latest_ns = now.unix_ns.max(receipt.issued_us.saturating_add(1).saturating_mul(1000));
        row.expires_unix_ns = row.expires_unix_ns.max(latest_ns.saturating_add(self.ttl_ns));
        row.expires_steady_ns = now.steady_ns.saturating_add(self.ttl_ns);
        match kind {
            MarkKind::Corrected => row.corrected.insert(low),
            MarkKind::Charged => row.charged.insert(low),
        };
    }

    /// The marks of the receipt's time were dropped: what was done for it is not known any more.
    pub(super) fn were_dropped(&self, receipt: &Receipt) -> bool {
        self.floors.get(&(receipt.holder, receipt.shard)).is_some_and(|floor| receipt.seq < *floor)
    }

    /// What is known here of a mark. `None`: nothing.
    pub(super) fn seen(&self, receipt: &Receipt, kind: MarkKind) -> Option<Marked> {
        if self.were_dropped(receipt) {
            return Some(Marked::TooOld);
        }
        self.has(receipt, kind).then_some(Marked::Before)
    }

    /// Was this done for a receipt?
    pub(super) fn has(&self, receipt: &Receipt, kind: MarkKind) -> bool {
        let (place, low) = place_of(receipt);
        self.rows.get(&place).is_some_and(|row| match kind {
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
