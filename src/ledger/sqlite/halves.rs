//! The running periods, read by two threads at a start: to read a row and hash it costs more than
//! to take it over, and a start that waits for one core leaves the other idle.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{Builder, scope};

use super::lists::Counters;
use crate::ledger::{LedgerError, PeriodRow};

/// Rows that one thread hands to the other at once, and how many times so many may wait.
const AT_ONCE: usize = 1_024;
const MAX_WAITING: usize = 8;

/// Visits what `read` finds in both halves, on the thread that calls.
///
/// # Errors
/// One of the halves cannot be read, or the system gives no thread.
pub(super) fn both(
    [here, there]: [Counters; 2],
    read: impl Fn(Counters, &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError> + Sync,
    visit: &mut dyn FnMut(PeriodRow),
) -> Result<(), LedgerError> {
    let (hand_over, handed) = sync_channel::<Vec<PeriodRow>>(MAX_WAITING);
    scope(|scope| {
        let read = &read;
        let reader =
            Builder::new().name("ledger-reader".to_owned()).spawn_scoped(scope, move || {
                let mut some = Vec::with_capacity(AT_ONCE);
                let mut is_heard = true;
                read(there, &mut |row| {
                    some.push(row);
                    if some.len() == AT_ONCE && is_heard {
                        let full = std::mem::replace(&mut some, Vec::with_capacity(AT_ONCE));
                        is_heard = hand_over.send(full).is_ok();
                    } else if !is_heard {
                        some.clear();
                    }
                })?;
                // An error means that nobody listens any more: the other half could not be read.
                let _ = hand_over.send(some);
                Ok(())
            });
        let reader = reader
            .map_err(|wrong| LedgerError::Fault(format!("the system gives no thread: {wrong}")))?;
        let mut seen = 0_usize;
        let done = read(here, &mut |row| {
            visit(row);
            seen += 1;
            if seen.is_multiple_of(AT_ONCE) {
                drain(&handed, visit);
            }
        });
        if done.is_ok() {
            handed.iter().flatten().for_each(&mut *visit);
        }
        drop(handed);
        let other = reader.join().map_err(|_| {
            LedgerError::Fault("the thread that reads the ledger has ended".to_owned())
        })?;
        done.and(other)
    })
}

/// Visits what waits.
fn drain(handed: &Receiver<Vec<PeriodRow>>, visit: &mut dyn FnMut(PeriodRow)) {
    loop {
        match handed.try_recv() {
            Ok(some) => some.into_iter().for_each(&mut *visit),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
        }
    }
}
