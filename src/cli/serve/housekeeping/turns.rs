//! What the log says by itself of a service that goes badly: once at each turn, and at a bounded
//! rate.

use crate::decide::time::SECOND_NS;
use crate::http::Degraded;

/// So seldom is it said how many were refused.
const REFUSALS_NS: u64 = 10 * SECOND_NS;

/// Looks each second.
pub(super) struct Turns {
    degraded: Degraded,
    state: State,
    refusals: Refusals,
}

impl Turns {
    pub(super) fn new(degraded: Degraded) -> Self {
        Self { degraded, state: State::default(), refusals: Refusals::default() }
    }

    /// `refused`: for want of the ledger, so far.
    pub(super) fn look(&mut self, steady_ns: u64, refused: u64) {
        match self.state.turn(steady_ns, (self.degraded)()) {
            Some(Turn::Degraded(why)) => tracing::error!("health has turned to DEGRADED: {why}"),
            Some(Turn::Ok { for_ns }) => {
                tracing::info!(after_s = for_ns / SECOND_NS, "health has turned back to OK");
            }
            None => {}
        }
        if let Some(checks) = self.refusals.told(steady_ns, refused) {
            tracing::warn!(
                checks,
                "checks were refused as LEDGER_UNAVAILABLE: the ledger did not answer in time (ledger.max_wait_ms)"
            );
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Degraded(String),
    Ok { for_ns: u64 },
}

/// Since when it is degraded, and why.
#[derive(Debug, Default)]
struct State(Option<(u64, String)>);

impl State {
    fn turn(&mut self, steady_ns: u64, why: Option<String>) -> Option<Turn> {
        match (why, &mut self.0) {
            (Some(why), Some((_, said))) => {
                // A number that grows is no other reason.
                let is_new = without_numbers(&why).ne(without_numbers(said));
                said.clone_from(&why);
                is_new.then_some(Turn::Degraded(why))
            }
            (Some(why), state) => {
                *state = Some((steady_ns, why.clone()));
                Some(Turn::Degraded(why))
            }
            (None, state) => state
                .take()
                .map(|(since_ns, _)| Turn::Ok { for_ns: steady_ns.saturating_sub(since_ns) }),
        }
    }
}

fn without_numbers(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|letter| !letter.is_ascii_digit())
}

/// How many were told, and when more may be.
#[derive(Debug, Default)]
struct Refusals {
    told: u64,
    next_ns: u64,
}

impl Refusals {
    fn told(&mut self, steady_ns: u64, refused: u64) -> Option<u64> {
        let fresh = refused.saturating_sub(self.told);
        if fresh == 0 || steady_ns < self.next_ns {
            return None;
        }
        (self.told, self.next_ns) = (refused, steady_ns.saturating_add(REFUSALS_NS));
        Some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_told_once_with_its_reason_and_how_long_it_was() {
        let mut state = State::default();
        let why = |text: &str| Some(text.to_owned());
        for (at_ns, now, told) in [
            (1, None, None),
            (2, why("stalled for 1 s"), Some(Turn::Degraded("stalled for 1 s".to_owned()))),
            (3, why("stalled for 12 s"), None),
            (4, why("the disk is full"), Some(Turn::Degraded("the disk is full".to_owned()))),
            (5, why("the disk is full"), None),
            (9, None, Some(Turn::Ok { for_ns: 7 })),
            (10, None, None),
            (11, why("the disk is full"), Some(Turn::Degraded("the disk is full".to_owned()))),
        ] {
            assert_eq!(state.turn(at_ns, now.clone()), told, "{now:?} at {at_ns}");
        }
    }

    #[test]
    fn refusals_are_told_at_once_and_then_once_in_ten_seconds_and_none_is_left_out() {
        let mut refusals = Refusals::default();
        for (at_ns, refused, told) in [
            (5, 0, None),
            (6, 3, Some(3)),
            (7, 10, None),
            (5 + REFUSALS_NS, 11, None),
            (6 + REFUSALS_NS, 11, Some(8)),
            (6 + 2 * REFUSALS_NS, 11, None),
            (7 + 3 * REFUSALS_NS, 12, Some(1)),
        ] {
            assert_eq!(refusals.told(at_ns, refused), told, "{refused} at {at_ns}");
        }
    }
}
