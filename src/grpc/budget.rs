//! One budget of bytes for all calls in work.
//!
//! A call that comes whole and is answered at once takes nothing of it. What has to be kept for
//! longer does: a call that waits for the rest of its message, a stream that is open. So what
//! strangers make the server hold is bounded over all connections, and not only for each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::overload::ConnectionState;

/// What calls may take that need no token, of the whole.
const PART_WITHOUT_TOKEN: u64 = 16;
/// What the calls of one connection may take, of the whole.
const PART_OF_CONNECTION: u64 = 4;
/// The most calls that need no token, open at once on one connection. A client that watches its
/// health has one or two.
const OPEN_WITHOUT_TOKEN: u64 = 16;
/// What an open call takes beside its header fields and its message.
const CALL_BYTES: u64 = 1024;

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
    without_token: AtomicU64,
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

    fn refuse(&self, why: Full) -> Full {
        self.refused.fetch_add(1, Ordering::Relaxed);
        why
    }
}

/// What the calls of one connection hold.
#[derive(Debug, Default)]
pub(super) struct Holding {
    budget: Arc<Budget>,
    held: AtomicU64,
    open_without_token: AtomicU64,
}

impl Holding {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: AtomicU64::new(0), open_without_token: AtomicU64::new(0) }
    }

    fn take(&self, bytes: u64, known: Known) -> Result<(), Full> {
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

    fn give_back(&self, bytes: u64, known: Known) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
        if known == Known::No {
            self.budget.without_token.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// What one call holds. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    connection: Arc<ConnectionState>,
    known: Known,
    header_bytes: u64,
    bytes: u64,
}

impl Share {
    /// Nothing yet.
    pub(super) fn new(connection: Arc<ConnectionState>, known: Known, header_bytes: usize) -> Self {
        Self {
            connection,
            known,
            header_bytes: header_bytes.try_into().unwrap_or(u64::MAX),
            bytes: 0,
        }
    }

    /// The call stays open, and holds so much of a message.
    pub(super) fn hold(&mut self, message_bytes: usize) -> Result<(), Full> {
        let message_bytes = u64::try_from(message_bytes).unwrap_or(u64::MAX);
        self.set(CALL_BYTES.saturating_add(self.header_bytes).saturating_add(message_bytes))
    }

    fn set(&mut self, bytes: u64) -> Result<(), Full> {
        let holding = self.connection.holding();
        if bytes > self.bytes {
            holding.take(bytes - self.bytes, self.known)?;
        } else {
            holding.give_back(self.bytes - bytes, self.known);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.connection.holding().give_back(self.bytes, self.known);
        }
    }
}

/// A call that needs no token, for as long as it is open.
#[derive(Debug)]
pub(super) struct OpenWithoutToken {
    connection: Arc<ConnectionState>,
    _share: Share,
}

impl OpenWithoutToken {
    pub(super) fn new(connection: Arc<ConnectionState>, header_bytes: usize) -> Result<Self, Full> {
        let holding = connection.holding();
        // One thread serves the connection.
        let open = holding.open_without_token.load(Ordering::Relaxed);
        if open >= OPEN_WITHOUT_TOKEN {
            return Err(holding.budget.refuse(Full::Open));
        }
        let mut share = Share::new(connection.clone(), Known::No, header_bytes);
        share.hold(0)?;
        holding.open_without_token.store(open + 1, Ordering::Relaxed);
        Ok(Self { connection, _share: share })
    }
}

impl Drop for OpenWithoutToken {
    fn drop(&mut self) {
        self.connection.holding().open_without_token.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(budget: &Arc<Budget>) -> Arc<ConnectionState> {
        Arc::new(ConnectionState::holding_of(budget.clone()))
    }

    #[test]
    fn a_call_holds_what_fits_and_gives_all_of_it_back() {
        let budget = Arc::new(Budget::new(64 * 1024));
        let connection = connected(&budget);
        let mut share = Share::new(connection.clone(), Known::Yes, 100);
        // A quarter for the connection.
        let room = 16 * 1024 - 1024 - 100;
        assert_eq!(share.hold(room + 1), Err(Full::Connection));
        assert_eq!((budget.held(), budget.refused()), (0, 1));
        assert_eq!(share.hold(room), Ok(()));
        assert_eq!(Share::new(connection, Known::Yes, 0).hold(0), Err(Full::Connection));
        // Three others fill it, so there is no room for a fifth.
        let others: Vec<_> = (0..3)
            .map(|_| {
                let mut other = Share::new(connected(&budget), Known::Yes, 100);
                other.hold(room).map(|()| other)
            })
            .collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(budget.held(), 64 * 1024);
        assert_eq!(Share::new(connected(&budget), Known::Yes, 0).hold(0), Err(Full::All));
        assert_eq!(share.hold(0), Ok(()), "the message was handed on");
        assert_eq!(budget.held(), 48 * 1024 + 1024 + 100);
        drop((share, others));
        assert_eq!((budget.held(), budget.refused()), (0, 3));
    }

    #[test]
    fn who_needs_no_token_has_a_sixteenth_and_sixteen_calls() {
        let budget = Arc::new(Budget::new(16 * 20 * 1024));
        let connection = connected(&budget);
        let open = || OpenWithoutToken::new(connection.clone(), 0);
        let mut calls: Vec<_> = (0..16).map(|_| open().unwrap()).collect();
        assert_eq!(open().err(), Some(Full::Open));
        calls.pop();
        calls.push(open().unwrap());
        let others: Vec<_> =
            (0..5).map_while(|_| OpenWithoutToken::new(connected(&budget), 0).ok()).collect();
        assert_eq!(others.len(), 4, "20 KiB, 1 KiB each");
        assert_eq!(OpenWithoutToken::new(connected(&budget), 0).err(), Some(Full::WithoutToken));
        assert_eq!(
            Share::new(connection, Known::Yes, 0).hold(1024),
            Ok(()),
            "who was let in has the rest"
        );
        drop((calls, others));
        assert_eq!((budget.held(), budget.without_token.load(Ordering::Relaxed)), (0, 0));
    }
}
