//! Runs of the simulation: a fixed set of seeds, one that nobody chose, and components that are
//! wrong.

use super::simulation::{Bug, House, Seeded, Tally};

/// How much happens for one seed.
fn acts() -> u64 {
    std::env::var("TOLLGATE_SIM_ACTS").ok().and_then(|acts| acts.parse().ok()).unwrap_or(12_000)
}

fn run(seed: u64, acts: u64, bug: Option<Bug>) -> Result<Tally, String> {
    let mut sum = Tally::default();
    // Houses of some thousand acts each, so that the clock never leaves its span.
    let (each, mut left, mut house_seed) = (4_000, acts, seed);
    while left > 0 {
        let mut house = House::new(Seeded(house_seed), bug);
        house
            .run(each.min(left))
            .map_err(|wrong| format!("TOLLGATE_SIM_SEED={seed}: house {house_seed}, {wrong}"))?;
        sum.add(&house.tally);
        left = left.saturating_sub(each);
        house_seed = house_seed.wrapping_add(0x9e37);
    }
    Ok(sum)
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.rule_decisions += other.rule_decisions;
        self.reports += other.reports;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.edits += other.edits;
        self.grants += other.grants;
    }
}

#[test]
fn every_answer_of_a_simulated_node_is_right() {
    let random = std::collections::hash_map::RandomState::new();
    let seeds = match std::env::var("TOLLGATE_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => vec![
            1,
            2,
            3,
            4,
            5,
            243_019,
            2_608_627_406_059_092_265,
            std::hash::BuildHasher::hash_one(&random, 0),
        ],
    };
    let mut sum = Tally::default();
    for seed in seeds {
        println!("TOLLGATE_SIM_SEED={seed}");
        sum.add(&run(seed, acts(), None).unwrap_or_else(|wrong| panic!("{wrong}")));
    }
    println!("{sum:?}");
    let all = [
        sum.admitted,
        sum.refused,
        sum.rule_decisions,
        sum.reports,
        sum.faults,
        sum.crashes,
        sum.stops,
        sum.edits,
        sum.grants,
    ];
    assert!(all.iter().all(|&times| times > 0), "something never happened: {sum:?}");
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let once = || format!("{:?}", run(77, 3_000, None));
    assert_eq!(once(), once());
}

#[test]
fn a_component_that_breaks_a_law_is_noticed() {
    let bugs = [
        Bug::ReturnsWhatWasSpent,
        Bug::RefundsTwice,
        Bug::RefundsClientErrors,
        Bug::ForgetsTheMark,
        Bug::KeepsTheEpoch,
        Bug::ForgetsGiveBacks,
        Bug::TakesAnyReceipt,
    ];
    for bug in bugs {
        let wrong = run(1, 12_000, Some(bug)).expect_err(&format!("{bug:?} was not noticed"));
        println!("{bug:?}: {wrong}");
    }
}
