//! Which receipts were settled with a change: one bit for each, until they expire.

use dashmap::DashMap;
use roaring::RoaringBitmap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::receipt::Receipt;
use crate::decide::time::Now;

/// What was done for a receipt. Each is done at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Charges that were made at the check were refunded or corrected.
    Corrected,
    /// Quotas that are charged at the report were charged.
    Charged,
}

/// 65,536 sequence numbers of one shard of one epoch of one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    holder: u32,
    epoch: u32,
    shard: u8,
    high: u64,
}

#[derive(Debug, Default)]
struct Row {
    corrected: RoaringBitmap,
    charged: RoaringBitmap,
    /// Every receipt in it has expired at this instant, by the wall clock.
    expires_unix_ns: u64,
    /// And by the steady clock: a leap of the wall clock must not make a receipt good a second time.
    expires_steady_ns: u64,
}

/// The marks of all receipts. At most 8 KiB (16 with charges at the report) for each 65,536 of them.
#[derive(Debug)]
pub(super) struct Marks {
    rows: DashMap<Place, Row>,
    max_rows: usize,
    ttl_ns: u64,
    refused: AtomicU64,
}

/// There is no room for another row of marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full;

impl Marks {
    pub(super) fn new(max_rows: usize, ttl_ns: u64) -> Self {
        Self { rows: DashMap::new(), max_rows, ttl_ns, refused: AtomicU64::new(0) }
    }

    /// Marks a receipt. `false`: it was marked so before.
    pub(super) fn mark(&self, receipt: &Receipt, done: Done, now: Now) -> Result<bool, Full> {
        let Receipt { holder, epoch, shard, seq, .. } = *receipt;
        let place = Place { holder, epoch, shard, high: seq >> 16 };
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
        let low = u32::try_from(seq & 0xffff).unwrap_or_default();
        Ok(match done {
            Done::Corrected => row.corrected.insert(low),
            Done::Charged => row.charged.insert(low),
        })
    }

    /// Drops the rows whose receipts have all expired.
    pub(super) fn sweep(&self, now: Now) {
        self.rows.retain(|_, row| now.unix_ns < row.expires_unix_ns || now.steady_ns < row.expires_steady_ns);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
