//! One budget of bytes for all calls in work.
//!
//! A call that comes whole and is answered at once takes nothing of it. What has to be kept for
//! longer does: a call that waits for the rest of its message, a stream that is open. So what
//! strangers make the server hold is bounded over all connections, and not only for each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most calls that need no token, open at once on one connection. A client that watches its
/// health has one or two.
pub(super) const OPEN_WITHOUT_TOKEN: u64 = 16;
/// What calls may take that need no token, of the whole.
const PART_WITHOUT_TOKEN: u64 = 16;
/// What the calls of one connection may take, of the whole.
const PART_OF_CONNECTION: u64 = 4;

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error(
        "the calls in work hold as many bytes as they may, see grpc.max_pending_bytes; ask again later"
    )]
    All,
    #[error(
        "the calls in work that need no token hold as many bytes as they may, a sixteenth of grpc.max_pending_bytes; ask again later"
    )]
    WithoutToken,
    #[error(
        "the calls of this connection hold as many bytes as they may, a quarter of grpc.max_pending_bytes; ask again later"
    )]
    Connection,
    #[error(
        "{OPEN_WITHOUT_TOKEN} calls that need no token are open on this connection, and it may have no more; end one first"
    )]
    Open,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was let in.
    Yes,
    /// The call needs no token, so anyone may make it.
    No,
}

/// What all calls in work hold.
#[derive(Debug)]
pub(super) struct Budget {
    max: u64,
    held: AtomicU64,
    pub(super) without_token: AtomicU64,
    refused: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Budget {
    pub(super) fn new(max: u64) -> Self {
        Self {
            max,
            held: AtomicU64::new(0),
            without_token: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Bytes that are held now.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Calls that were refused for it since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, why: Full) -> Full {
        self.refused.fetch_add(1, Ordering::Relaxed);
        why
    }
}

/// What the calls of one connection hold.
#[derive(Debug, Default)]
pub(super) struct Holding {
    pub(super) budget: Arc<Budget>,
    held: AtomicU64,
    pub(super) open_without_token: AtomicU64,
}

impl Holding {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: AtomicU64::new(0), open_without_token: AtomicU64::new(0) }
    }

    pub(super) fn take(&self, bytes: u64, known: Known) -> Result<(), Full> {
        let Budget { max, held, without_token, .. } = &*self.budget;
        let take = |held: &AtomicU64, most: u64| {
            let before = held.fetch_add(bytes, Ordering::Relaxed);
            let fits = before.saturating_add(bytes) <= most;
            if !fits {
                held.fetch_sub(bytes, Ordering::Relaxed);
            }
            fits
        };
        if !take(&self.held, max / PART_OF_CONNECTION) {
            return Err(self.budget.refuse(Full::Connection));
        }
        if !take(held, *max) {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.budget.refuse(Full::All));
        }
        if known == Known::No && !take(without_token, max / PART_WITHOUT_TOKEN) {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.budget.refuse(Full::WithoutToken));
        }
        Ok(())
    }

    pub(super) fn give_back(&self, bytes: u64, known: Known) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
        if known == Known::No {
            self.budget.without_token.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
