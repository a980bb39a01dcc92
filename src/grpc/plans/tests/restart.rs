//! What a clock that moved while the service was down makes of the counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::decide::time::Now;
use crate::ledger::SqliteLedger;

const DAY_NS: u64 = 86_400 * SECOND_NS;
/// Noon of some day.
const NOON_NS: u64 = 20_000 * DAY_NS + DAY_NS / 2;

/// One service after another on one data folder.
struct Site {
    folder: tempfile::TempDir,
    unix_ns: Arc<AtomicU64>,
}

impl Site {
    /// The ledger, as soon as the service before has let go of it: its last callbacks may outlive it.
    fn open(&self) -> SqliteLedger {
        loop {
            match SqliteLedger::open(self.folder.path()) {
                Err(LedgerError::InUse { .. }) => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    }

    /// Starts at a time of the wall clock, asks until it is refused, at most `most` times, and stops: cleanly, or as a crash does.
    async fn run(&self, unix_ns: u64, most: usize, clean: bool) -> usize {
        self.unix_ns.store(unix_ns, Ordering::SeqCst);
        let wall = self.unix_ns.clone();
        let clock = Clock::from_fn(move || Now { unix_ns: wall.load(Ordering::SeqCst), steady_ns: 1 });
        let plans = over(settings(), Arc::new(self.open()), clock, "DAY");
        let mut admitted = 0;
        while admitted < most && check(&plans, None).await.is_none() {
            admitted += 1;
        }
        if clean {
            plans.desk.as_ref().unwrap().put_away().unwrap();
        }
        admitted
    }
}

#[tokio::test]
async fn no_period_starts_from_zero_twice_wherever_the_clock_is_at_the_next_start() {
    // When, how often at most, and how often it is admitted. 3 a day.
    let starts: &[(u64, usize, usize)] = &[
        (NOON_NS, 2, 2),
        // Stepped back within the day, and to its first instant.
        (NOON_NS - DAY_NS / 4, 0, 0),
        (NOON_NS - DAY_NS / 2, 9, 1),
        // The last instant of it, the first of the next, far ahead.
        (NOON_NS + DAY_NS / 2 - 1, 9, 0),
        (NOON_NS + DAY_NS / 2, 2, 2),
        (NOON_NS + 30 * DAY_NS, 1, 1),
        // Stepped back into each of them.
        (NOON_NS + DAY_NS, 9, 1),
        (NOON_NS, 9, 0),
        (NOON_NS + 30 * DAY_NS, 9, 2),
        // And into a day that never was.
        (NOON_NS - DAY_NS, 9, 3),
    ];
    let site = Site { folder: tempfile::tempdir().unwrap(), unix_ns: Arc::default() };
    for (place, &(unix_ns, most, expected)) in starts.iter().enumerate() {
        assert_eq!(site.run(unix_ns, most, true).await, expected, "start {place}");
    }
}

#[tokio::test]
async fn a_crash_before_the_clock_moves_wastes_at_most_a_lease() {
    let site = Site { folder: tempfile::tempdir().unwrap(), unix_ns: Arc::default() };
    assert_eq!(site.run(NOON_NS, 1, false).await, 1);
    assert_eq!(site.run(NOON_NS + DAY_NS, 1, false).await, 1);
    // Of the 3 of each day, 2 were leased when it crashed.
    assert_eq!(site.run(NOON_NS, 9, false).await, 1);
    assert_eq!(site.run(NOON_NS + DAY_NS, 9, false).await, 1);
}
