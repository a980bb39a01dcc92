//! The protocol between holders and the ledger, explored exhaustively at small sizes: every order
//! in which checks, questions, answers, reports, grants, edits, crashes and stops can happen, over
//! the engine and the ledger that are shipped.
//!
//! [`world`] is what stands between the two, [`laws`] what must hold in every state, [`explore`]
//! the search. A [`Mutant`] drops one check of the protocol; the search must find out.
//!
//! `TOLLGATE_EXPLORE=2` (or more) lets more happen in each scenario.

mod actions;
mod explore;
mod laws;
mod world;

use self::explore::explore;

/// What there may be in one search, and how often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Setup {
    holders: usize,
    limit: u64,
    /// The limit that an edit makes of it.
    lowered: u64,
    /// What a grant gives.
    grant: Option<GrantKind>,
    /// The wall clock starts so long before the end of a period.
    before_end_ms: u64,
    mutant: Option<Mutant>,
    left: Left,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Left {
    checks: u8,
    crashes: u8,
    /// A question is done, and its answer does not come.
    lost: u8,
    /// A question is not done.
    failed: u8,
    /// A question is done twice, and both answers come.
    twice: u8,
    reports: u8,
    grants: u8,
    edits: u8,
    /// The clock goes on into the next period, or steps back into the one before.
    forth: u8,
    back: u8,
    sweeps: u8,
    stops: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum GrantKind {
    Add,
    LeaveOne,
}

/// One check that the protocol drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutant {
    /// The ledger keeps one account for all periods.
    OnePeriod,
    /// A holder takes the answer for one period as units of the running one.
    ForgetPeriod,
    /// What is leased is the change, not the sum: a repeat counts twice.
    NotCumulative,
    /// A holder leases again before its give-back is in the ledger.
    NotFenced,
    /// The mark and the refund are committed one after the other.
    MarkApart,
    /// Nobody looks at the mark.
    NoMark,
    /// The ledger leases by any revision of the limit.
    StaleRevision,
    /// The ledger leases one unit past the limit.
    OneMore,
    /// A holder that starts again goes on as the epoch before.
    SameEpoch,
    /// A give-back returns what was spent, too.
    ReturnsAll,
    /// A stop lets go of its units and tells nobody.
    SilentStop,
    /// A stop does not wait for what was asked before it.
    HalfStop,
}

const BASE: Setup = Setup {
    holders: 1,
    limit: 3,
    lowered: 0,
    grant: None,
    before_end_ms: 30_000,
    mutant: None,
    left: Left {
        checks: 0,
        crashes: 0,
        lost: 0,
        failed: 0,
        twice: 0,
        reports: 0,
        grants: 0,
        edits: 0,
        forth: 0,
        back: 0,
        sweeps: 0,
        stops: 0,
    },
};

const NOTHING: Left = BASE.left;

/// One node; answers are lost, late, repeated, behind one another.
const ANSWERS: Setup =
    Setup { left: Left { checks: 7, lost: 1, failed: 1, twice: 1, ..NOTHING }, ..BASE };
/// Two nodes share the counter, and one may die, with its questions on their way.
const CRASHES: Setup =
    Setup { holders: 2, left: Left { checks: 3, crashes: 1, twice: 1, ..NOTHING }, ..BASE };
const REPORTS: Setup =
    Setup { left: Left { checks: 3, reports: 2, crashes: 1, lost: 1, ..NOTHING }, ..BASE };
const REPORTS_BY_TWO: Setup =
    Setup { holders: 2, limit: 2, left: Left { checks: 3, reports: 2, ..NOTHING }, ..BASE };
const EDITS: Setup = Setup {
    holders: 2,
    limit: 4,
    lowered: 2,
    left: Left { checks: 3, edits: 2, ..NOTHING },
    ..BASE
};
const EDIT_AND_FAULTS: Setup = Setup {
    limit: 4,
    lowered: 2,
    left: Left { checks: 4, edits: 1, lost: 1, crashes: 1, ..NOTHING },
    ..BASE
};
const GRANTS: Setup = Setup {
    limit: 2,
    grant: Some(GrantKind::Add),
    left: Left { checks: 4, grants: 1, lost: 1, crashes: 1, ..NOTHING },
    ..BASE
};
const GRANTS_THAT_SET: Setup = Setup {
    holders: 2,
    grant: Some(GrantKind::LeaveOne),
    left: Left { checks: 3, grants: 1, ..NOTHING },
    ..BASE
};
const PERIODS: Setup = Setup {
    limit: 2,
    before_end_ms: 1,
    left: Left { checks: 3, forth: 2, back: 1, sweeps: 1, ..NOTHING },
    ..BASE
};
/// A period ends, is forgotten, and comes back.
const FORGOTTEN: Setup = Setup {
    limit: 3,
    before_end_ms: 1,
    left: Left { checks: 3, forth: 2, back: 2, sweeps: 2, ..NOTHING },
    ..BASE
};
const STOPS: Setup =
    Setup { holders: 2, left: Left { checks: 3, stops: 1, lost: 1, ..NOTHING }, ..BASE };

/// Each, and the scenario that finds it.
const MUTANTS: &[(Mutant, Setup)] = &[
    (Mutant::OnePeriod, PERIODS),
    (Mutant::ForgetPeriod, PERIODS),
    (Mutant::NotCumulative, ANSWERS),
    (Mutant::NotFenced, EDITS),
    (Mutant::MarkApart, REPORTS),
    (Mutant::NoMark, REPORTS),
    (Mutant::StaleRevision, EDITS),
    (Mutant::OneMore, CRASHES),
    (Mutant::SameEpoch, CRASHES),
    (Mutant::ReturnsAll, STOPS),
    (Mutant::SilentStop, STOPS),
    (Mutant::HalfStop, STOPS),
];

/// How much more may happen than by default.
fn more() -> u8 {
    std::env::var("TOLLGATE_EXPLORE")
        .ok()
        .and_then(|more| more.parse::<u8>().ok())
        .map_or(0, |times| times.saturating_sub(1))
}

fn grown(setup: Setup, more: u8) -> Setup {
    let grow = |times: u8| if times == 0 { 0 } else { times + more };
    let Left {
        checks,
        crashes,
        lost,
        failed,
        twice,
        reports,
        grants,
        edits,
        forth,
        back,
        sweeps,
        stops,
    } = setup.left;
    let left = Left {
        checks: grow(checks),
        crashes: grow(crashes),
        lost: grow(lost),
        failed: grow(failed),
        twice: grow(twice),
        reports: grow(reports),
        grants: grow(grants),
        edits,
        forth: grow(forth),
        back: grow(back),
        sweeps: grow(sweeps),
        stops: grow(stops),
    };
    Setup { left, ..setup }
}

/// In every state of a scenario the laws hold, and from every state all ends well.
fn holds(name: &str, setup: Setup) {
    let found = explore(grown(setup, more()));
    println!("{name}: {} states, {} steps", found.states, found.steps);
    assert!(found.broken.is_none(), "{name}: {}", found.broken.unwrap_or_default());
    assert!(found.states > 500, "{name}: only {} states: something is never tried", found.states);
}

#[test]
fn answers_may_be_lost_late_repeated_and_behind_one_another() {
    holds("answers", ANSWERS);
}

#[test]
fn a_holder_may_die_beside_another_with_its_questions_on_their_way() {
    holds("crashes", CRASHES);
}

#[test]
fn a_refund_is_made_once_whoever_is_told_of_it_and_whoever_dies() {
    holds("reports", REPORTS);
    holds("reports by two", REPORTS_BY_TWO);
}

#[test]
fn a_lowered_limit_holds_from_its_acknowledgement_on() {
    holds("edits", EDITS);
    holds("an edit and faults", EDIT_AND_FAULTS);
}

#[test]
fn what_is_granted_can_be_spent_and_no_more() {
    holds("grants", GRANTS);
    holds("grants that set", GRANTS_THAT_SET);
}

#[test]
fn units_of_one_period_are_never_spent_in_another() {
    holds("periods", PERIODS);
}

#[test]
fn a_period_that_was_forgotten_goes_on_where_it_ended() {
    holds("forgotten", FORGOTTEN);
}

#[test]
fn a_clean_stop_wastes_nothing() {
    holds("stops", STOPS);
}

#[test]
fn a_protocol_that_drops_one_check_is_found_out() {
    for (mutant, setup) in MUTANTS {
        let found = explore(Setup { mutant: Some(*mutant), ..*setup });
        let broken = found
            .broken
            .unwrap_or_else(|| panic!("{mutant:?} was not found in {} states", found.states));
        println!("{mutant:?}, after {} states: {broken}", found.states);
    }
}
