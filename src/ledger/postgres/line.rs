//! A connection that is there when it is needed: opened where it is missing, and not too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::address::Address;
use super::failure::Wrong;
use super::session::{Purpose, Session, in_time};
use crate::ledger::LedgerError;

/// How long a list may take.
pub(super) const LIST: Duration = Duration::from_secs(60);
/// The first pause after a connection could not be opened, and the longest. Each is twice the one
/// before, less a random half.
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 2_000;

/// A connection, or the way to one.
#[derive(Debug)]
pub(super) struct Line {
    address: Arc<Address>,
    purpose: Purpose,
    session: tokio::sync::Mutex<Option<Session>>,
    dialling: Arc<Dialling>,
}

/// Over all connections of a ledger: a database that comes back is not met by all at once.
#[derive(Debug, Default)]
struct Dialling {
    turn: tokio::sync::Mutex<()>,
    failures: AtomicU32,
    pausing: AtomicBool,
    last: Mutex<Option<LedgerError>>,
}

impl Line {
    pub(super) fn new(address: Arc<Address>, purpose: Purpose) -> Self {
        Self { address, purpose, session: tokio::sync::Mutex::default(), dialling: Arc::default() }
    }

    /// Another to the same database.
    pub(super) fn another(&self, purpose: Purpose) -> Self {
        let (address, dialling) = (Arc::clone(&self.address), Arc::clone(&self.dialling));
        Self { address, purpose, session: tokio::sync::Mutex::default(), dialling }
    }

    /// Where it leads, without a password.
    pub(super) fn place(&self) -> &str {
        self.address.shown()
    }

    /// The connection, opened where it is missing. Whoever takes it keeps it afterwards, unless it
    /// is broken.
    pub(super) async fn take(&self) -> Result<Session, LedgerError> {
        match self.session.lock().await.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => self.dial().await,
        }
    }

    pub(super) async fn keep(&self, session: Session) {
        *self.session.lock().await = Some(session);
    }

    /// Opens a connection. Soon after one could not be opened this fails at once.
    pub(super) async fn dial(&self) -> Result<Session, LedgerError> {
        let dialling = &self.dialling;
        let refused = || {
            let pausing = dialling.pausing.load(Ordering::Acquire);
            dialling.last.lock().clone().filter(|_| pausing)
        };
        let _turn = dialling.turn.lock().await;
        if let Some(wrong) = refused() {
            return Err(wrong);
        }
        match Session::connect(&self.address, self.purpose).await {
            Ok(session) => {
                dialling.failures.store(0, Ordering::Release);
                if dialling.last.lock().take().is_some() {
                    tracing::info!(
                        place = self.place(),
                        "the database of the ledger answers again"
                    );
                }
                Ok(session)
            }
            Err(wrong) => {
                let wrong = wrong.classify(self.place());
                if dialling.last.lock().replace(wrong.clone()).as_ref() != Some(&wrong) {
                    tracing::warn!("{wrong}");
                }
                let failures = dialling.failures.fetch_add(1, Ordering::AcqRel);
                dialling.pausing.store(true, Ordering::Release);
                let over = Arc::clone(dialling);
                tokio::spawn(async move {
                    tokio::time::sleep(pause(failures)).await;
                    over.pausing.store(false, Ordering::Release);
                });
                Err(wrong)
            }
        }
    }

    /// Does something on the connection, in so much time. One that fails is closed.
    pub(super) async fn use_for<T>(
        &self,
        at_most: Duration,
        work: impl for<'a> FnOnce(&'a Session) -> BoxFuture<'a, Result<T, Wrong>>,
    ) -> Result<T, LedgerError> {
        // One at a time: the next waits here.
        let mut place = self.session.lock().await;
        let session = match place.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.dial().await?,
        };
        let done = in_time(at_most, work(&session)).await;
        if done.is_ok() {
            *place = Some(session);
        }
        done.map_err(|wrong| wrong.classify(self.address.shown()))
    }
}

/// How long to wait after so many failures.
fn pause(failures: u32) -> Duration {
    let longest = FIRST_PAUSE_MS.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE_MS);
    let mut dice = [0; 8];
    // Without random bytes it is the longest.
    let random = getrandom::fill(&mut dice).map_or(0, |()| u64::from_le_bytes(dice));
    Duration::from_millis(longest - random % (longest / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_nothing() {
        for failures in [0, 1, 4, 5, 40, u32::MAX] {
            let longest = (100u64 << failures.min(16)).min(2_000);
            for _ in 0..50 {
                let paused = u64::try_from(pause(failures).as_millis()).unwrap();
                assert!(paused > longest / 2 && paused <= longest, "{failures}: {paused}");
            }
        }
    }
}
