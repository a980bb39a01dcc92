//! The wall clock is compared with the ledger and the steady clock, and what comes of it is told:
//! in the log, in health, in metrics.

use std::sync::Arc;

use jiff::Timestamp;
use metrics::{Counter, Gauge};
use parking_lot::Mutex;

use crate::clock::vouching::{Newest, Standing, Vouching};
use crate::decide::time::{Now, SECOND_NS};
use crate::ledger::{Believed, Expire, LedgerError, LedgerThread, Times};
use crate::metrics::Metrics;

/// Watches the wall clock. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub(super) struct Timekeeping(Arc<Shared>);

struct Shared {
    watched: Mutex<Watched>,
    leaps: Counter,
    doubtful: Gauge,
}

struct Watched {
    vouching: Vouching,
    standing: Standing,
    now: Now,
}

impl Timekeeping {
    /// Compares the clock of a start with the ledger, before anything is asked of it. What a wrong
    /// clock made it drop is open again.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub(super) fn start(
        ledger: &LedgerThread,
        now: Now,
        metrics: &Metrics,
    ) -> Result<Self, LedgerError> {
        metrics.describe_counter(
            "tollgate_clock_leaps",
            "Steps of the wall clock of more than an hour, forward or back",
        );
        metrics.describe_gauge(
            "tollgate_clock_doubtful",
            "1 while the wall clock is more than an hour from where the ledger and the steady clock say it should be: nothing is deleted",
        );
        let times = ledger.ledger().times()?;
        let mut vouching = Vouching::start(newest(&times), now);
        let standing = vouching.look(now);
        if standing.is_believed() && times.dropped_after(now.unix_s()) {
            let believed =
                Some(Believed { now_s: now.unix_s(), vouched: standing == Standing::Vouched });
            ledger.call(Expire { believed, ..Expire::default() })?;
            tell_reopened(now);
        }
        let shared = Shared {
            watched: Mutex::new(Watched { vouching, standing: Standing::New, now }),
            leaps: metrics.counter("tollgate_clock_leaps", &[]),
            doubtful: metrics.gauge("tollgate_clock_doubtful", &[]),
        };
        let timekeeping = Self(Arc::new(shared));
        timekeeping.tell(standing, now);
        Ok(timekeeping)
    }

    /// Looks at the clock, and tells what has changed. What is believed may be kept; `None`:
    /// nothing may be deleted or kept.
    pub(super) fn look(&self, now: Now) -> Option<Believed> {
        let standing = {
            let mut watched = self.0.watched.lock();
            if watched.vouching.has_leapt(now) {
                let (from, to) = (shown(watched.vouching.before()), shown(now));
                tracing::warn!(from, to, "the wall clock has stepped by more than an hour");
                self.0.leaps.increment(1);
            }
            watched.vouching.look(now)
        };
        self.tell(standing, now);
        standing
            .is_believed()
            .then(|| Believed { now_s: now.unix_s(), vouched: standing == Standing::Vouched })
    }

    fn tell(&self, standing: Standing, now: Now) {
        let before = {
            let mut watched = self.0.watched.lock();
            watched.now = now;
            std::mem::replace(&mut watched.standing, standing)
        };
        self.0.doubtful.set(if standing.is_believed() { 0.0 } else { 1.0 });
        match (before.is_believed(), says(standing, now)) {
            (true, Some(doubt)) => tracing::warn!("{doubt}"),
            (false, None) => tracing::info!(
                now = shown(now),
                "the wall clock is believed again, and what is old is deleted again"
            ),
            _ => {}
        }
    }

    /// What an operator should know, while the clock is not believed.
    pub(super) fn says(&self) -> Option<String> {
        let watched = self.0.watched.lock();
        says(watched.standing, watched.now)
    }
}

/// Tells that what a wrong clock dropped is open again.
pub(super) fn tell_reopened(now: Now) {
    tracing::warn!(
        now = shown(now),
        "the ledger had dropped periods or receipts that cannot be old yet: a clock was wrong. Those that go on now are open again: their \
         quotas start from what the ledger still has of them, which may be nothing"
    );
}

fn newest(times: &Times) -> Option<Newest> {
    times.vouched_s.map(Newest::Vouched).or(times.seen_s.map(Newest::Seen))
}

fn says(standing: Standing, now: Now) -> Option<String> {
    let (by_ns, left_ns, way) = match standing {
        Standing::Vouched | Standing::New => return None,
        Standing::Ahead { by_ns, left_ns } => (by_ns, left_ns, "ahead of"),
        Standing::Behind { by_ns, left_ns } => (by_ns, left_ns, "behind"),
    };
    Some(format!(
        "the wall clock shows {}, {} {way} the newest time that is known: nothing is deleted until it has gone on like this for another {}. \
         If it is wrong, set it right",
        shown(now),
        lasting(by_ns),
        lasting(left_ns)
    ))
}

fn shown(now: Now) -> String {
    let second =
        i64::try_from(now.unix_s()).ok().and_then(|second| Timestamp::from_second(second).ok());
    second.map_or_else(|| format!("{} s after 1970", now.unix_s()), |second| second.to_string())
}

/// In two units at most.
fn lasting(ns: u64) -> String {
    let minutes = ns.div_ceil(60 * SECOND_NS);
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
