//! What one call holds of the budget of its connection and of all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::budget::{Full, Known, OPEN_WITHOUT_TOKEN};
use super::overload::ConnectionState;

/// What an open call takes beside its header fields and its message.
const CALL_BYTES: u64 = 1024;

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
    use crate::grpc::budget::Budget;

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
