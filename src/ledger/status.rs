//! How a ledger's thread is doing: counts for metrics, states for health and for the log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Answer, LedgerError, Operation};

/// What the threads of a ledger have done so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    operations: AtomicU64,
    begun: AtomicU64,
    commits: AtomicU64,
    failures: AtomicU64,
    waiting: AtomicU64,
    row_failures: AtomicU64,
    tidy_failures: AtomicU64,
    untidy_bytes: AtomicU64,
    is_failing: AtomicBool,
    states: Mutex<States>,
}

#[derive(Debug, Default)]
struct States {
    failing: Option<LedgerError>,
    last_failure: Option<LedgerError>,
    last_row_failure: Option<String>,
    /// Tidying is of two parts, each with a state of its own.
    checkpoint: Option<LedgerError>,
    expiry: Option<LedgerError>,
}

/// What a ledger's thread has done so far, for metrics and health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Operations that were committed.
    pub operations: u64,
    /// Transactions that were begun: one more than committed and failed together while one is under
    /// way.
    pub begun: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Operations that wait for a transaction.
    pub waiting: u64,
    /// Why the last transaction failed. `None`: it did not.
    pub failing: Option<LedgerError>,
    /// Why a transaction failed last, also where others have worked since.
    pub last_failure: Option<LedgerError>,
    /// Operations that failed, each alone, because a row that they need cannot be read.
    pub row_failures: u64,
    /// Which one it was last, and why.
    pub last_row_failure: Option<String>,
    /// How often tidying failed.
    pub tidy_failures: u64,
    /// Why the log is not written back, or what is old not dropped. `None`: it is. Commits go on
    /// meanwhile.
    pub tidying: Option<LedgerError>,
    /// Bytes of the log that is to be written back.
    pub untidy_bytes: u64,
}

impl LedgerStatus {
    /// What an operator should know. `None`: all is well.
    pub fn says(&self) -> Option<String> {
        if let Some(wrong) = &self.failing {
            return Some(format!(
                "{wrong}. Until it works again counters with a lease go on, checks of others are answered as ledger.on_failure says, and grants, \
                 edits and reports that correct fail"
            ));
        }
        if let Some(wrong) = &self.tidying {
            return Some(format!(
                "the ledger works, and is not tidied: its log grows, or what is old stays. {wrong}"
            ));
        }
        let last = self.last_row_failure.as_ref()?;
        Some(format!(
            "{} operations of the ledger have failed since the start because of rows that cannot be read, the last: {last}",
            self.row_failures
        ))
    }
}

impl Counts {
    pub(super) fn status(&self) -> LedgerStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let states = self.states.lock();
        LedgerStatus {
            begun: read(&self.begun),
            operations: read(&self.operations),
            commits: read(&self.commits),
            failures: read(&self.failures),
            waiting: read(&self.waiting),
            failing: states.failing.clone(),
            last_failure: states.last_failure.clone(),
            row_failures: read(&self.row_failures),
            last_row_failure: states.last_row_failure.clone(),
            tidy_failures: read(&self.tidy_failures),
            tidying: states.checkpoint.clone().or_else(|| states.expiry.clone()),
            untidy_bytes: read(&self.untidy_bytes),
        }
    }

    /// Did the last transaction fail?
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// One more waits, unless so many do: then `false`.
    pub(super) fn waits(&self, most: u64) -> bool {
        let more = |waiting| (waiting < most).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn waits_no_more(&self, operations: u64) {
        self.waiting.fetch_sub(operations, Ordering::Relaxed);
    }

    pub(super) fn begins(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of the operations of a transaction.
    pub(super) fn note(&self, operations: &[Operation], done: &[Result<Answer, LedgerError>]) {
        let worked: u64 = done.iter().map(|done| u64::from(done.is_ok())).sum();
        let mut states = self.states.lock();
        let mut failing = None;
        for (operation, done) in operations.iter().zip(done) {
            match done {
                Err(wrong @ LedgerError::Row { .. }) => {
                    self.note_row(&mut states, operation, wrong)
                }
                // A file that is damaged where others work is damaged in what this one needs.
                Err(wrong) if wrong.is_of_one() && worked > 0 => {
                    self.note_row(&mut states, operation, wrong)
                }
                Err(wrong) => failing = Some(wrong.clone()),
                Ok(Answer::Expire(_)) => states.expiry = None,
                Ok(_) => {}
            }
        }
        self.operations.fetch_add(worked, Ordering::Relaxed);
        let count = if failing.is_some() { &self.failures } else { &self.commits };
        count.fetch_add(1, Ordering::Relaxed);
        self.is_failing.store(failing.is_some(), Ordering::Relaxed);
        if failing.is_some() {
            states.last_failure.clone_from(&failing);
        }
        states.failing = failing;
    }

    fn note_row(&self, states: &mut States, operation: &Operation, wrong: &LedgerError) {
        self.row_failures.fetch_add(1, Ordering::Relaxed);
        states.last_row_failure = Some(format!("{}: {wrong}", operation.shown()));
        if matches!(operation, Operation::Expire(_)) {
            self.tidy_failures.fetch_add(1, Ordering::Relaxed);
            states.expiry = Some(wrong.clone());
        }
    }

    /// How tidying went.
    pub(super) fn note_tidied(&self, done: Result<(), LedgerError>) {
        if done.is_err() {
            self.tidy_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.states.lock().checkpoint = done.err();
    }

    pub(super) fn note_untidy(&self, bytes: u64) {
        self.untidy_bytes.store(bytes, Ordering::Relaxed);
    }
}
