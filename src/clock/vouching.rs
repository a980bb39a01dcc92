//! Is the wall clock right? What is deleted does not come back, so nothing is deleted by a clock
//! that nothing vouches for.
//!
//! Two things vouch: the newest time in the ledger, for a start, and the steady clock, while the
//! service runs. A wall clock that is further than an hour from both is on trial: once it has gone
//! on for an hour as the steady clock does, it is believed. That is how a service that was down for
//! a week, a laptop that slept, and a ledger that was kept by a wrong clock get on.

use crate::decide::time::{Now, SECOND_NS};

/// How far the wall clock may be from where it should be.
pub const TOLERANCE_NS: u64 = 3600 * SECOND_NS;
/// How long a wall clock that nothing vouches for must have gone on as the steady clock does.
pub const TRIAL_NS: u64 = 3600 * SECOND_NS;

/// The newest time in a ledger, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest {
    /// A clock that was vouched for has shown it.
    Vouched(u64),
    /// It was seen, and not for long enough.
    Seen(u64),
}

/// Where the wall clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is believed, and may delete.
    Vouched,
    /// It agrees with all that is known, which is too little yet: a new ledger.
    New,
    /// It is this far ahead of where it should be, and on trial for so much longer.
    Ahead { by_ns: u64, left_ns: u64 },
    /// It is this far behind, and on trial for so much longer.
    Behind { by_ns: u64, left_ns: u64 },
}

impl Standing {
    /// Does the clock agree with all that is known?
    pub fn is_believed(self) -> bool {
        matches!(self, Self::Vouched | Self::New)
    }
}

/// Watches the wall clock.
#[derive(Clone, Debug)]
pub struct Vouching {
    /// Where it should be. `None`: nothing is known.
    known: Option<Line>,
    /// Since when it goes on as the steady clock does, while it is not vouched for.
    trial: Option<Now>,
    before: Now,
}

/// A wall clock that goes on as the steady clock does.
#[derive(Clone, Copy, Debug)]
struct Line {
    from: Now,
    vouched: bool,
}

impl Vouching {
    /// At a start.
    pub fn start(newest: Option<Newest>, now: Now) -> Self {
        let line = |unix_s: u64, vouched| Line {
            from: Now { unix_ns: unix_s.saturating_mul(SECOND_NS), ..now },
            vouched,
        };
        let known = newest.map(|newest| match newest {
            Newest::Vouched(unix_s) => line(unix_s, true),
            Newest::Seen(unix_s) => line(unix_s, false),
        });
        Self { known, trial: None, before: now }
    }

    /// Has the wall clock stepped since the last look? Ask before [`Self::look`].
    pub fn has_leapt(&self, now: Now) -> bool {
        !agree(self.before, now)
    }

    /// What the last look saw.
    pub fn before(&self) -> Now {
        self.before
    }

    /// Looks at the clock. Often: each look must be able to tell a step from the time that has
    /// passed.
    pub fn look(&mut self, now: Now) -> Standing {
        self.before = now;
        let known = self.known.filter(|line| agree(line.from, now));
        if known.is_some_and(|line| line.vouched) {
            self.trial = None;
            // A clock that is a little fast or slow takes the line along.
            if known.is_some_and(|line| passed_ns(line.from, now) >= TRIAL_NS) {
                self.known = Some(Line { from: now, vouched: true });
            }
            return Standing::Vouched;
        }
        let since = *self.trial.get_or_insert(now);
        let since = if agree(since, now) { since } else { *self.trial.insert(now) };
        let left_ns = TRIAL_NS.saturating_sub(passed_ns(since, now));
        if left_ns == 0 {
            self.trial = None;
            self.known = Some(Line { from: now, vouched: true });
            return Standing::Vouched;
        }
        match self.known {
            Some(line) if known.is_none() => {
                let (should_ns, is_ns) = (expected_ns(line.from, now), now.unix_ns);
                let by_ns = is_ns.abs_diff(should_ns);
                if is_ns > should_ns {
                    Standing::Ahead { by_ns, left_ns }
                } else {
                    Standing::Behind { by_ns, left_ns }
                }
            }
            _ => {
                self.known.get_or_insert(Line { from: now, vouched: false });
                Standing::New
            }
        }
    }
}

fn passed_ns(from: Now, now: Now) -> u64 {
    now.steady_ns.saturating_sub(from.steady_ns)
}

/// What the wall clock should show, if it went on as the steady clock did.
fn expected_ns(from: Now, now: Now) -> u64 {
    from.unix_ns.saturating_add(passed_ns(from, now))
}

fn agree(from: Now, now: Now) -> bool {
    now.unix_ns.abs_diff(expected_ns(from, now)) <= TOLERANCE_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: u64 = 3600;
    const DAY_S: u64 = 24 * HOUR_S;
    /// Some day in November 2026.
    const T_S: u64 = 1_796_000_000;

    fn at(unix_s: u64, steady_s: u64) -> Now {
        Now { unix_ns: unix_s * SECOND_NS, steady_ns: steady_s * SECOND_NS + 1 }
    }

    /// Looks each minute from one moment on, for so many seconds, while the wall clock goes on;
    /// gives what the last look saw.
    fn go_on(vouching: &mut Vouching, (unix_s, steady_s): (u64, u64), for_s: u64) -> Standing {
        (0..=for_s).step_by(60).map(|s| vouching.look(at(unix_s + s, steady_s + s))).last().unwrap()
    }

    #[test]
    fn a_start_is_vouched_for_up_to_an_hour_from_the_newest_time_in_the_ledger() {
        for (start_s, is_vouched) in [
            (T_S, true),
            (T_S + HOUR_S, true),
            (T_S + HOUR_S + 1, false),
            (T_S - HOUR_S, true),
            (T_S - HOUR_S - 1, false),
            (T_S + 450 * DAY_S, false),
            (0, false),
        ] {
            let mut vouching = Vouching::start(Some(Newest::Vouched(T_S)), at(start_s, 0));
            let standing = vouching.look(at(start_s, 0));
            assert_eq!(standing == Standing::Vouched, is_vouched, "{start_s}: {standing:?}");
            if !is_vouched {
                let (by_ns, left_ns) = (T_S.abs_diff(start_s) * SECOND_NS, TRIAL_NS);
                let expected = if start_s > T_S {
                    Standing::Ahead { by_ns, left_ns }
                } else {
                    Standing::Behind { by_ns, left_ns }
                };
                assert_eq!(standing, expected);
            }
        }
    }

    #[test]
    fn a_clock_on_trial_is_believed_after_an_hour_and_not_an_instant_before() {
        for days in [7, 450] {
            for wrong_s in [T_S + days * DAY_S, T_S - days * DAY_S] {
                let mut vouching = Vouching::start(Some(Newest::Vouched(T_S)), at(wrong_s, 0));
                assert!(!go_on(&mut vouching, (wrong_s, 0), HOUR_S - 60).is_believed());
                let just_before = Now { steady_ns: HOUR_S * SECOND_NS, ..at(wrong_s + HOUR_S, 0) };
                let standing = vouching.look(just_before);
                assert!(
                    matches!(
                        standing,
                        Standing::Ahead { left_ns: 1, .. } | Standing::Behind { left_ns: 1, .. }
                    ),
                    "a nanosecond is missing: {standing:?}"
                );
                assert_eq!(vouching.look(at(wrong_s + HOUR_S, HOUR_S)), Standing::Vouched);
                let back = vouching.look(at(T_S + HOUR_S + 60, HOUR_S + 60));
                assert!(
                    !back.is_believed(),
                    "what was believed is what it is measured by: {back:?}"
                );
            }
        }
    }

    #[test]
    fn a_new_ledger_has_nothing_to_doubt_and_waits_an_hour_all_the_same() {
        for newest in [None, Some(Newest::Seen(T_S))] {
            let mut vouching = Vouching::start(newest, at(T_S + 600, 0));
            assert_eq!(go_on(&mut vouching, (T_S + 600, 0), HOUR_S - 60), Standing::New);
            assert_eq!(vouching.look(at(T_S + 600 + HOUR_S, HOUR_S)), Standing::Vouched);
        }
        let mut vouching = Vouching::start(Some(Newest::Seen(T_S)), at(T_S + HOUR_S + 1, 0));
        assert!(
            matches!(vouching.look(at(T_S + HOUR_S + 1, 0)), Standing::Ahead { .. }),
            "and what was only seen warns, too"
        );
    }

    #[test]
    fn a_new_ledger_s_first_clock_vouches_for_nothing_that_it_steps_to() {
        let mut vouching = Vouching::start(None, at(T_S + 450 * DAY_S, 0));
        assert_eq!(go_on(&mut vouching, (T_S + 450 * DAY_S, 0), HOUR_S - 60), Standing::New);
        let standing = vouching.look(at(T_S, HOUR_S));
        assert!(
            matches!(standing, Standing::Behind { left_ns: TRIAL_NS, .. }),
            "the trial begins again: {standing:?}"
        );
    }

    #[test]
    fn a_step_while_it_runs_is_on_trial_and_its_undoing_is_believed_at_once() {
        for wrong_s in [T_S + 3 * DAY_S, T_S + 38 * DAY_S, T_S - 3 * DAY_S] {
            let mut vouching = Vouching::start(Some(Newest::Vouched(T_S)), at(T_S, 0));
            assert_eq!(go_on(&mut vouching, (T_S, 0), 600), Standing::Vouched);
            assert!(!go_on(&mut vouching, (wrong_s + 660, 660), 1800).is_believed());
            assert_eq!(vouching.look(at(T_S + 2520, 2520)), Standing::Vouched);
            assert!(
                !go_on(&mut vouching, (wrong_s + 2580, 2580), HOUR_S - 60).is_believed(),
                "and the trial begins again"
            );
        }
    }

    #[test]
    fn each_step_begins_the_trial_again() {
        let mut vouching = Vouching::start(Some(Newest::Vouched(T_S)), at(T_S + 7 * DAY_S, 0));
        for steps in 0..5 {
            let steady_s = steps * (HOUR_S - 60);
            let standing =
                go_on(&mut vouching, (T_S + (7 + steps) * DAY_S, steady_s), HOUR_S - 120);
            assert!(matches!(standing, Standing::Ahead { .. }), "{steps}: {standing:?}");
        }
    }

    #[test]
    fn a_clock_that_is_a_little_fast_stays_vouched_for() {
        let mut vouching = Vouching::start(Some(Newest::Vouched(T_S)), at(T_S, 0));
        // A hundredth: an hour in four days, ten hours in forty.
        for minute in 0..60 * 24 * 40 {
            assert_eq!(
                vouching.look(at(T_S + minute * 60 + minute * 60 / 100, minute * 60)),
                Standing::Vouched,
                "{minute}"
            );
        }
    }

    #[test]
    fn a_leap_is_more_than_an_hour_against_the_steady_clock() {
        let vouching = Vouching::start(None, at(1_000_000, 10));
        for (now, leapt) in [
            (at(1_000_060, 70), false),
            (at(1_003_660, 70), false),
            (at(1_003_661, 70), true),
            (at(996_460, 70), false),
            (at(996_459, 70), true),
            (at(1_100_000, 100_010), false),
        ] {
            assert_eq!(vouching.has_leapt(now), leapt, "{now:?}");
        }
    }
}
