//! What a clock that moved while the service was down makes of the counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::decide::time::Now;
use crate::testkit::started;

const DAY_NS: u64 = 86_400 * SECOND_NS;
/// Noon of some day.
const NOON_NS: u64 = 20_000 * DAY_NS + DAY_NS / 2;

/// One service after another on one data folder.
struct Site {
    folder: tempfile::TempDir,
    unix_ns: Arc<AtomicU64>,
}

impl Site {
    /// Starts at a time of the wall clock, asks until it is refused, at most `most` times, and
    /// stops: cleanly, or as a crash does.
    async fn run(&self, unix_ns: u64, most: usize, clean: bool) -> usize {
        self.unix_ns.store(unix_ns, Ordering::SeqCst);
        let wall = self.unix_ns.clone();
        let clock =
            Clock::from_fn(move || Now { unix_ns: wall.load(Ordering::SeqCst), steady_ns: 1 });
        let plans = over(settings(), Arc::new(started::open(self.folder.path())), clock, "DAY");
        let mut admitted = 0;
        while admitted < most && check(&plans, None).await.is_none() {
            admitted += 1;
        }
        if clean {
            plans.broker.put_away().unwrap();
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

/// Asks once under an operation id: the receipt, or that the id is another's.
async fn named(plans: &Decisions, path: &[u8]) -> Result<Option<String>, InvalidRequest> {
    let input = CheckInput {
        api_key: KEY,
        target: "t",
        method: b"",
        path,
        cost: None,
        operation_id: b"op",
    };
    plans.check(&input, None, |decision| decision.receipt.clone()).await
}

#[tokio::test]
async fn an_operation_id_holds_its_minute_over_a_clean_stop_and_a_crash_forgets_it() {
    // How the first run ends, how long the service is away, and whether the id is known then.
    for (clean, away_ns, known) in [
        (true, 0, true),
        (true, 60 * SECOND_NS - 1, true),
        (true, 60 * SECOND_NS, false),
        (false, 0, false),
    ] {
        let site = Site { folder: tempfile::tempdir().unwrap(), unix_ns: Arc::default() };
        let start = |unix_ns: u64| {
            let clock = Clock::from_fn(move || Now { unix_ns, steady_ns: 1 });
            over(settings(), Arc::new(started::open(site.folder.path())), clock, "DAY")
        };
        let plans = start(NOON_NS);
        let first = named(&plans, b"/a").await.unwrap();
        assert!(first.is_some());
        if clean {
            plans.broker.put_away().unwrap();
        }
        drop(plans);
        let plans = start(NOON_NS + away_ns);
        if known {
            assert_eq!(
                named(&plans, b"/b").await,
                Err(InvalidRequest::OperationIdReused),
                "{away_ns}: another check under the id"
            );
        }
        let again = named(&plans, b"/a").await;
        assert_eq!(again == Ok(first), known, "{away_ns}: the same check, {again:?}");
    }
}

#[tokio::test]
async fn what_was_restored_ends_with_its_own_minute() {
    let site = Site { folder: tempfile::tempdir().unwrap(), unix_ns: Arc::default() };
    let start = |unix_ns: u64| {
        let passed = Arc::new(AtomicU64::new(0));
        let told = passed.clone();
        let clock = Clock::from_fn(move || {
            let passed = told.load(Ordering::SeqCst);
            Now { unix_ns: unix_ns + passed, steady_ns: 1 + passed }
        });
        (over(settings(), Arc::new(started::open(site.folder.path())), clock, "DAY"), passed)
    };
    let (plans, _) = start(NOON_NS);
    let first = named(&plans, b"").await.unwrap();
    plans.broker.put_away().unwrap();
    drop(plans);
    // 20 s away, 20 s at work, and stopped again.
    let (plans, passed) = start(NOON_NS + 20 * SECOND_NS);
    passed.store(20 * SECOND_NS, Ordering::SeqCst);
    assert_eq!(named(&plans, b"").await.unwrap(), first);
    plans.broker.put_away().unwrap();
    drop(plans);
    let (plans, passed) = start(NOON_NS + 50 * SECOND_NS);
    for (passed_ns, known) in [(10 * SECOND_NS - 1, true), (10 * SECOND_NS, false)] {
        passed.store(passed_ns, Ordering::SeqCst);
        assert_eq!(named(&plans, b"").await.unwrap() == first, known, "{passed_ns}");
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
