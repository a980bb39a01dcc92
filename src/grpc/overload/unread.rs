//! Closes connections where a core falls behind although it sheds calls.
//!
//! To refuse a call takes HTTP/2 most of what it takes to answer one. So beyond some load a core that only refused would do nothing else, ever
//! later, for callers that have all given up. What it does not read costs it nothing: it reads from as many connections as it can answer in
//! time, and closes others, whose callers then know at once.
//!
//! That is for a core that stays behind, not for a burst or a pause of the machine: no call's turn may have come in time for a while. It is
//! how queues of routers are told from bursts ("CoDel", RFC 8289).

use std::sync::atomic::{AtomicU64, Ordering};

/// For so long no call's turn has come in time before connections are closed.
const BEHIND_NS: u64 = 250_000_000;
/// A core that has closed none for so long has caught up.
const CAUGHT_UP_NS: u64 = 1_000_000_000;
/// Of who has sent no more since he was read last, nothing is gained by closing.
const MUCH_BYTES: usize = 8 << 10;
/// A connection is so many parts.
const WHOLE: u64 = 1 << 20;

/// How far a core is behind with reading. It is used by that core alone.
#[derive(Debug)]
pub(super) struct Unread {
    /// Longer than this no call may lie unread. `u64::MAX`: for ever.
    max_ns: u64,
    /// What it comes back to when it was longer.
    aim_ns: u64,
    /// Since when no call's turn has come in time. 0: the last one's did.
    late_since_ns: AtomicU64,
    /// When a call's turn came late, the last time, and how late.
    late_ns: AtomicU64,
    lag_ns: AtomicU64,
    /// Connections are closed until then. 0: none.
    closes_until_ns: AtomicU64,
    /// Parts of a connection that ought to have been closed, less those that were.
    due: AtomicU64,
}

impl Unread {
    pub(super) fn new(max_ns: u64, aim_ns: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { max_ns, aim_ns, late_since_ns: zero(), late_ns: zero(), lag_ns: zero(), closes_until_ns: zero(), due: zero() }
    }

    /// A call's turn came after it had waited so long.
    pub(super) fn turn(&self, waited_ns: u64, now_ns: u64) {
        if waited_ns <= self.max_ns {
            self.late_since_ns.store(0, Ordering::Relaxed);
            return;
        }
        if self.late_since_ns.load(Ordering::Relaxed) == 0 {
            self.late_since_ns.store(now_ns, Ordering::Relaxed);
        }
        self.late_ns.store(now_ns, Ordering::Relaxed);
        self.lag_ns.store(waited_ns, Ordering::Relaxed);
    }

    /// Whether it must be known when a connection is read, and when a call's turn comes.
    pub(super) fn matters(&self) -> bool {
        self.late_since_ns.load(Ordering::Relaxed) != 0 || self.closes_until_ns.load(Ordering::Relaxed) != 0
    }

    /// Whether a connection is to be closed that has more to read than it should, for at most so long.
    fn closes(&self, unread_ns: u64, now_ns: u64) -> bool {
        let (since_ns, late_ns) = (self.late_since_ns.load(Ordering::Relaxed), self.late_ns.load(Ordering::Relaxed));
        let is_behind = since_ns != 0 && late_ns.saturating_sub(since_ns) >= BEHIND_NS && now_ns.saturating_sub(late_ns) < CAUGHT_UP_NS;
        if !is_behind && self.closes_until_ns.load(Ordering::Relaxed) <= now_ns {
            self.closes_until_ns.store(0, Ordering::Relaxed);
            return false;
        }
        // One that was silent before may have sent all of it just now: it has waited no longer than calls do.
        let unread_ns = unread_ns.min(self.lag_ns.load(Ordering::Relaxed).saturating_mul(2));
        if unread_ns <= self.aim_ns {
            return false;
        }
        self.closes_until_ns.store(now_ns.saturating_add(CAUGHT_UP_NS), Ordering::Relaxed);
        // As many are kept as can be read in time.
        let kept = WHOLE.saturating_mul(self.aim_ns) / unread_ns;
        let due = self.due.load(Ordering::Relaxed) + WHOLE.saturating_sub(kept);
        self.due.store(due % WHOLE, Ordering::Relaxed);
        due >= WHOLE
    }
}

/// What was read of a connection, and whether it is to be closed.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// When nothing was left to be read, the last time. `None`: nobody looked.
    dry_ns: Option<u64>,
    /// Since then.
    bytes: usize,
}

impl Reading {
    /// All was read.
    pub(super) fn dry(&mut self, unread: &Unread, clock: impl FnOnce() -> u64) {
        *self = Self { dry_ns: unread.matters().then(clock), bytes: 0 };
    }

    /// So much was read. Whether the connection is to be closed instead of what was read being looked at.
    pub(super) fn read(&mut self, bytes: usize, unread: &Unread, clock: impl FnOnce() -> u64) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let Some(dry_ns) = self.dry_ns.filter(|_| self.bytes > MUCH_BYTES && unread.matters()) else { return false };
        let now_ns = clock();
        // It is asked once for all that lay there.
        self.dry_ns = None;
        unread.closes(now_ns.saturating_sub(dry_ns), now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const MAX: u64 = 250 * MS;
    const AIM: u64 = 50 * MS;

    /// A core whose calls' turns have come late for so long.
    fn late_for(ns: u64) -> Unread {
        let unread = Unread::new(MAX, AIM);
        for now_ns in [1, 1 + ns / 2, 1 + ns] {
            unread.turn(MAX + 1, now_ns);
        }
        unread
    }

    /// Whether a connection is closed that was read to its end at `dry_ns`, when a lot comes.
    fn closes(unread: &Unread, dry_ns: u64, now_ns: u64) -> bool {
        let mut reading = Reading::default();
        reading.dry(unread, || dry_ns);
        reading.read(MUCH_BYTES + 1, unread, || now_ns)
    }

    #[test]
    fn a_core_that_stays_behind_closes_connections_and_one_that_was_behind_for_a_moment_does_not() {
        for (ns, closed) in [(BEHIND_NS - 1, 0), (BEHIND_NS, 8)] {
            let unread = late_for(ns);
            assert_eq!((0..10).filter(|_| closes(&unread, 1, 1 + ns)).count(), closed, "{ns}: 50 of 250 ms are kept");
        }
        let unread = late_for(BEHIND_NS);
        unread.turn(MAX, 2 + BEHIND_NS);
        assert!(!(0..10).any(|_| closes(&unread, 1, 3 + BEHIND_NS)), "one came in time");
    }

    #[test]
    fn nothing_is_closed_for_what_was_long_ago() {
        for (ago_ns, closes_some) in [(CAUGHT_UP_NS - 1, true), (CAUGHT_UP_NS, false)] {
            let unread = late_for(BEHIND_NS);
            let now_ns = 1 + BEHIND_NS + ago_ns;
            assert_eq!((0..10).any(|_| closes(&unread, now_ns - MAX, now_ns)), closes_some, "{ago_ns}");
        }
    }

    #[test]
    fn it_goes_on_until_none_had_to_be_closed_for_a_second() {
        let unread = late_for(BEHIND_NS);
        let mut now_ns = 1 + BEHIND_NS;
        while !closes(&unread, 1, now_ns) {}
        unread.turn(0, now_ns);
        // Half of what lies for twice as long as it should, and nothing that does not.
        for _ in 0..5 {
            now_ns += CAUGHT_UP_NS - 1;
            assert_eq!((0..10).filter(|_| closes(&unread, now_ns - 2 * AIM, now_ns)).count(), 5);
            assert!(!(0..10).any(|_| closes(&unread, now_ns - AIM, now_ns)));
        }
        now_ns += CAUGHT_UP_NS;
        assert!(!(0..10).any(|_| closes(&unread, now_ns - 2 * AIM, now_ns)));
        assert!(!unread.matters());
    }

    #[test]
    fn who_sends_little_is_never_closed_and_who_was_silent_not_for_that() {
        let unread = late_for(BEHIND_NS);
        let now_ns = 1 + BEHIND_NS;
        let mut reading = Reading::default();
        reading.dry(&unread, || 1);
        for _ in 0..MUCH_BYTES {
            assert!(!reading.read(1, &unread, || now_ns));
        }
        assert_eq!(reading.bytes, MUCH_BYTES);
        // Of what came after an hour of silence it is not said that it lay there for an hour.
        let unread = Unread::new(MAX, AIM);
        [0, BEHIND_NS].iter().for_each(|ns| unread.turn(MAX + 1, 3_600_000 * MS + ns));
        let closed = (0..20).filter(|_| closes(&unread, 1, 3_600_000 * MS + BEHIND_NS)).count();
        assert_eq!(closed, 18, "50 of 500 ms are kept");
    }

    #[test]
    fn while_all_is_well_nobody_reads_a_clock() {
        let unread = Unread::new(MAX, AIM);
        unread.turn(MAX, 5);
        let mut reading = Reading::default();
        reading.dry(&unread, || unreachable!());
        assert!(!reading.read(usize::MAX, &unread, || unreachable!()));
        // And one that was not looked at before is not closed for what lies there.
        let late = late_for(BEHIND_NS);
        assert!(!reading.read(1, &late, || unreachable!()));
        let never = Unread::new(u64::MAX, u64::MAX);
        [1, 1 + BEHIND_NS].iter().for_each(|&now_ns| never.turn(u64::MAX, now_ns));
        assert!(!never.matters());
    }
}
