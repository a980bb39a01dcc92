//! Closes connections where a core falls behind although it sheds calls.
//!
//! To refuse a call takes HTTP/2 half of what it takes to answer one. So beyond some load a core
//! that only refused would do nothing else, ever later, for callers that have all given up. What it
//! does not read costs it nothing: it reads from as many connections as it can answer in time, and
//! closes others, whose callers then know at once.
//!
//! That is for a core that stays behind, not for a burst or a pause of the machine: no call's turn
//! may have come in time for a while. It is how queues of routers are told from bursts ("CoDel",
//! RFC 8289).

use std::sync::atomic::{AtomicU64, Ordering};

/// For so long no call's turn has come in time before connections are closed.
const BEHIND_NS: u64 = 250_000_000;
/// A core that has closed none for so long has caught up.
const CAUGHT_UP_NS: u64 = 1_000_000_000;
/// What is known of how late turns come says nothing any more so long after they should have come.
const HEARD_NS: u64 = 100_000_000;
/// A core that has waited so long for something to do had nothing to do. To look what lies there
/// takes less.
const IDLE_NS: u64 = 1_000_000;
/// Of who made no more calls the last time that he was read, nothing is gained by closing.
const MANY: u64 = 8;
/// A connection is so many parts.
const WHOLE: u64 = 1 << 20;

/// How far a core is behind with reading. It is used by that core alone.
#[derive(Debug)]
pub(super) struct Unread {
    /// Longer than this no call may wait for its turn. A call waits twice, to be read and for its
    /// turn, and both for about as long: half of what it may wait in all.
    max_ns: u64,
    /// What it comes back to when it was longer.
    aim_ns: u64,
    /// Since when no call's turn has come in time. 0: the last one's did.
    late_since_ns: AtomicU64,
    /// When a turn came late, the last time.
    late_ns: AtomicU64,
    /// How late turns come: the longest of the last [`HEARD_NS`], and when that was.
    lag_ns: AtomicU64,
    lag_at_ns: AtomicU64,
    /// Since when the core waits for something to do. 0: it does not, or it does not matter.
    looks_ns: AtomicU64,
    /// Connections are closed until then. 0: none.
    closes_until_ns: AtomicU64,
    /// Parts of a connection that ought to have been closed, less those that were.
    due: AtomicU64,
}

impl Unread {
    /// A call may wait for so long, `u64::MAX`: for ever, and where they wait for longer, for so
    /// long again.
    pub(super) fn new(max_ns: u64, aim_ns: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            max_ns: max_ns / 2,
            aim_ns,
            late_since_ns: zero(),
            late_ns: zero(),
            lag_ns: zero(),
            lag_at_ns: zero(),
            looks_ns: zero(),
            closes_until_ns: zero(),
            due: zero(),
        }
    }

    /// A call's turn came after it had waited so long.
    pub(super) fn turn(&self, waited_ns: u64, now_ns: u64) {
        if waited_ns > self.max_ns {
            if self.late_since_ns.load(Ordering::Relaxed) == 0 {
                self.late_since_ns.store(now_ns, Ordering::Relaxed);
            }
            self.late_ns.store(now_ns, Ordering::Relaxed);
        } else if self.matters() {
            self.late_since_ns.store(0, Ordering::Relaxed);
            if self.closes_until_ns.load(Ordering::Relaxed) <= now_ns {
                self.closes_until_ns.store(0, Ordering::Relaxed);
            }
        } else {
            return;
        }
        let is_old = now_ns.saturating_sub(self.lag_at_ns.load(Ordering::Relaxed)) > HEARD_NS;
        if is_old || waited_ns >= self.lag_ns.load(Ordering::Relaxed) {
            self.lag_ns.store(waited_ns, Ordering::Relaxed);
            self.lag_at_ns.store(now_ns, Ordering::Relaxed);
        }
    }

    /// The core looks what there is to do.
    pub(super) fn looks(&self, clock: impl FnOnce() -> u64) {
        if self.matters() {
            self.looks_ns.store(clock(), Ordering::Relaxed);
        }
    }

    /// There is something to do. If it had to wait for it, nobody waited for anything.
    pub(super) fn found(&self, clock: impl FnOnce() -> u64) {
        let looks_ns = self.looks_ns.load(Ordering::Relaxed);
        if looks_ns == 0 {
            return;
        }
        self.looks_ns.store(0, Ordering::Relaxed);
        if clock().saturating_sub(looks_ns) >= IDLE_NS {
            self.late_since_ns.store(0, Ordering::Relaxed);
            self.lag_ns.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it must be known when a connection is read, and when a call's turn comes.
    pub(super) fn matters(&self) -> bool {
        self.late_since_ns.load(Ordering::Relaxed) != 0
            || self.closes_until_ns.load(Ordering::Relaxed) != 0
    }

    /// How long a call waits here now, as far as is known. Where nobody's turn came in that time,
    /// nobody waits.
    fn lag_ns(&self, now_ns: u64) -> u64 {
        let lag_ns = self.lag_ns.load(Ordering::Relaxed);
        let heard_ns = now_ns.saturating_sub(self.lag_at_ns.load(Ordering::Relaxed));
        if heard_ns > lag_ns.saturating_add(HEARD_NS) { 0 } else { lag_ns }
    }

    /// Whether a connection is to be closed that was not read for so long, and has something to be
    /// read.
    fn closes(&self, unread_ns: u64, now_ns: u64) -> bool {
        let (since_ns, late_ns) =
            (self.late_since_ns.load(Ordering::Relaxed), self.late_ns.load(Ordering::Relaxed));
        let is_behind = since_ns != 0 && late_ns.saturating_sub(since_ns) >= BEHIND_NS;
        // What lies there may have come just now, after a silence: it has not waited for longer to
        // be read than calls wait here for their turn.
        let unread_ns = unread_ns.min(self.lag_ns(now_ns));
        // Once is what calls wait where shedding them is enough.
        if (!is_behind && self.closes_until_ns.load(Ordering::Relaxed) <= now_ns)
            || unread_ns <= self.aim_ns.saturating_mul(2)
        {
            return false;
        }
        // As many are kept as can be read in time.
        let kept = WHOLE.saturating_mul(self.aim_ns) / unread_ns;
        let due = self.due.load(Ordering::Relaxed) + WHOLE.saturating_sub(kept);
        self.due.store(due % WHOLE, Ordering::Relaxed);
        if due >= WHOLE {
            self.closes_until_ns.store(now_ns.saturating_add(CAUGHT_UP_NS), Ordering::Relaxed);
        }
        due >= WHOLE
    }
}

/// What a connection carries, and when it was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// When nothing was left to be read, the last time. `None`: nobody looked.
    dry_ns: Option<u64>,
    /// Something has come since.
    came: bool,
    /// The calls that had come over all, when something was read for the first time after that.
    calls: u64,
    /// Those since the time before.
    lately: u64,
}

impl Reading {
    /// All was read. It may not have been handed out yet.
    pub(super) fn dry(&mut self, unread: &Unread, clock: impl FnOnce() -> u64) {
        self.dry_ns = unread.matters().then(clock);
        self.came = false;
    }

    /// Something has come, after so many calls over all. Whether the connection is to be closed
    /// instead of it being looked at.
    pub(super) fn read(
        &mut self,
        calls: u64,
        unread: &Unread,
        clock: impl FnOnce() -> u64,
    ) -> bool {
        if !std::mem::replace(&mut self.came, true) {
            (self.lately, self.calls) = (calls.saturating_sub(self.calls), calls);
        }
        // It is asked once for all that lay there.
        let Some(dry_ns) = self.dry_ns.take().filter(|_| self.lately > MANY && unread.matters())
        else {
            return false;
        };
        let now_ns = clock();
        unread.closes(now_ns.saturating_sub(dry_ns), now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    /// For its turn.
    const MAX: u64 = 250 * MS;
    const AIM: u64 = 50 * MS;

    /// A core whose calls' turns have come late for so long.
    fn late_for(ns: u64) -> Unread {
        let unread = Unread::new(2 * MAX, AIM);
        for now_ns in [1, 1 + ns / 2, 1 + ns] {
            unread.turn(MAX + 1, now_ns);
        }
        unread
    }

    /// Of ten connections that were read to their end at `dry_ns`, and made so many calls then, how
    /// many are closed when something comes.
    fn closed(unread: &Unread, calls: u64, dry_ns: u64, now_ns: u64) -> usize {
        let one = |_: &i32| {
            let mut reading = Reading::default();
            assert!(!reading.read(1_000, unread, || unreachable!()), "nobody has looked");
            (0..3).for_each(|_| reading.dry(unread, || dry_ns));
            let closed = reading.read(1_000 + calls, unread, || now_ns);
            assert!(!reading.read(9_000, unread, || unreachable!()), "once for all that lay there");
            closed
        };
        (0..10).filter(one).count()
    }

    fn closed_of_many(unread: &Unread, dry_ns: u64, now_ns: u64) -> usize {
        closed(unread, MANY + 1, dry_ns, now_ns)
    }

    #[test]
    fn a_core_that_stays_behind_closes_connections_and_one_that_was_behind_for_a_moment_does_not() {
        for (ns, some) in [(BEHIND_NS - 1, 0), (BEHIND_NS, 8)] {
            assert_eq!(
                closed_of_many(&late_for(ns), 1, 1 + ns),
                some,
                "{ns}: 50 of 250 ms are kept"
            );
        }
        let unread = late_for(BEHIND_NS);
        unread.turn(MAX, 2 + BEHIND_NS);
        assert_eq!(closed_of_many(&unread, 1, 3 + BEHIND_NS), 0, "one came in time");
    }

    #[test]
    fn where_no_turn_comes_any_more_nothing_is_closed() {
        let heard_for = MAX + 1 + HEARD_NS;
        for (ago_ns, some) in [(heard_for, 8), (heard_for + 1, 0)] {
            let now_ns = 1 + BEHIND_NS + ago_ns;
            assert_eq!(
                closed_of_many(&late_for(BEHIND_NS), now_ns - MAX, now_ns),
                some,
                "{ago_ns}"
            );
        }
    }

    #[test]
    fn it_goes_on_while_turns_come_later_than_they_should_until_none_had_to_be_closed_for_a_second()
    {
        let unread = late_for(BEHIND_NS);
        let mut now_ns = 1 + BEHIND_NS;
        assert_eq!(closed_of_many(&unread, 1, now_ns), 8);
        for _ in 0..5 {
            now_ns += CAUGHT_UP_NS - 1;
            unread.turn(2 * AIM + AIM / 2, now_ns);
            assert_eq!(
                closed_of_many(&unread, now_ns - 3 * AIM, now_ns),
                6,
                "of 125 ms 50 are kept"
            );
            assert_eq!(
                closed_of_many(&unread, now_ns - 2 * AIM, now_ns),
                0,
                "where shedding is enough, nothing"
            );
        }
        now_ns += CAUGHT_UP_NS;
        unread.turn(3 * AIM, now_ns);
        assert_eq!(closed_of_many(&unread, now_ns - 3 * AIM, now_ns), 0);
        assert!(!unread.matters());
    }

    #[test]
    fn who_comes_back_to_a_core_that_had_nothing_to_do_is_not_closed() {
        let idle_for = |unread: &Unread, ns| {
            unread.looks(|| BEHIND_NS);
            unread.found(|| BEHIND_NS + ns);
        };
        let unread = late_for(BEHIND_NS);
        assert_eq!(closed_of_many(&unread, 1, 1 + BEHIND_NS), 8);
        idle_for(&unread, IDLE_NS - 1);
        assert_eq!(
            closed_of_many(&unread, 1, 2 + BEHIND_NS),
            8,
            "it has only looked what there is to do"
        );
        idle_for(&unread, IDLE_NS);
        assert_eq!(
            closed_of_many(&unread, 1, 2 + BEHIND_NS),
            0,
            "it was late, and nobody waits now"
        );
        unread.turn(MAX + 1, 3 + BEHIND_NS);
        assert_eq!(
            closed_of_many(&unread, 1, 4 + BEHIND_NS),
            8,
            "one waits, and it has closed others within a second"
        );
        let unread = late_for(BEHIND_NS);
        idle_for(&unread, IDLE_NS);
        unread.turn(MAX + 1, 2 + BEHIND_NS);
        assert_eq!(closed_of_many(&unread, 1, 3 + BEHIND_NS), 0, "it is not behind since then");
    }

    #[test]
    fn who_was_silent_is_not_closed_for_that() {
        let unread = late_for(BEHIND_NS);
        let mut now_ns = 1 + BEHIND_NS;
        assert_eq!(closed_of_many(&unread, 1, now_ns), 8);
        // The core has caught up, and somebody sends a lot now and then.
        for _ in 0..100 {
            now_ns += 4 * AIM;
            unread.turn(2 * AIM, now_ns);
            assert_eq!(closed_of_many(&unread, now_ns - 4 * AIM, now_ns), 0);
        }
        assert!(!unread.matters(), "and it does not go on for ever");
        // Of what comes after an hour it is not said that it lay there for an hour.
        let hour_ns = 3_600_000 * MS;
        let unread = Unread::new(2 * MAX, AIM);
        [hour_ns, hour_ns + BEHIND_NS].iter().for_each(|&now_ns| unread.turn(MAX + 1, now_ns));
        assert_eq!(closed_of_many(&unread, 1, hour_ns + BEHIND_NS), 8, "50 of 250 ms are kept");
    }

    #[test]
    fn who_asks_little_or_for_other_things_is_never_closed() {
        let unread = late_for(BEHIND_NS);
        assert_eq!(closed(&unread, MANY, 1, 1 + BEHIND_NS), 0);
        // The last time nothing, whatever it was before.
        let mut reading = Reading { calls: 1_000, lately: 1_000, ..Reading::default() };
        reading.dry(&unread, || 1);
        assert!(!reading.read(1_000, &unread, || unreachable!()));
        assert!(closed_of_many(&unread, 1, 1 + BEHIND_NS) > 0);
    }

    #[test]
    fn while_all_is_well_nobody_reads_a_clock() {
        let unread = Unread::new(2 * MAX, AIM);
        unread.turn(MAX, 5);
        let mut reading = Reading::default();
        reading.dry(&unread, || unreachable!());
        assert!(!reading.read(1_000, &unread, || unreachable!()));
        unread.looks(|| unreachable!());
        unread.found(|| unreachable!());
        // And one that was not looked at before is not closed for what lies there.
        assert!(!reading.read(2_000, &late_for(BEHIND_NS), || unreachable!()));
        let never = Unread::new(u64::MAX, u64::MAX);
        [1, 1 + BEHIND_NS].iter().for_each(|&now_ns| never.turn(u64::MAX / 2, now_ns));
        assert!(!never.matters());
    }
}
