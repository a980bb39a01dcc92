//! Random checks, reports, grants, edits, late and lost answers, stops and crashes against the
//! naive ledger.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::site::Site;
use crate::decide::ledger::{GiveBack, Lease, Settle};
use crate::decide::outcome::Outcome;
use crate::decide::plan::Id;
use crate::decide::quota::Grant;
use crate::decide::time::SECOND_NS;
use crate::engine::plans::PlanEngine;
use crate::engine::plans::settle::{Change, Committed, Correction, Settled};
use crate::engine::plans::{Checked, Need, Shortage};
use crate::engine::plans::{LeaseSettings, Subject};
use crate::testkit::plans::AsksPlans;

/// What a request may cost.
const MOST: u64 = 3;

#[derive(Clone, Debug)]
enum Act {
    Check {
        cost: u64,
        fate: Fate,
    },
    Ahead(Fate),
    /// An answer that was kept back arrives; `true`: it stays, and arrives again.
    Answer(usize, bool),
    Report {
        receipt: usize,
        cost: Option<u64>,
        late: bool,
    },
    /// The engine learns of a commit.
    Learn(usize),
    Grant(Grant),
    Limit(u64),
    /// A give-back that is on its way arrives.
    Arrive,
    Wait(u64),
    /// The wall clock steps back.
    Back(u64),
    /// What it finds is on its way from now on.
    Sweep,
    Crash,
    Stop,
}

/// What becomes of a question to the ledger.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    Late,
    /// It was done, and the answer is lost.
    Lost,
    NotDone,
}

fn act() -> impl Strategy<Value = Act> {
    let fate = || prop_oneof![6 => Just(Fate::Answered), 2 => Just(Fate::Late), 1 => Just(Fate::Lost), 1 => Just(Fate::NotDone)];
    let grant = prop_oneof![
        (0u64..4).prop_map(Grant::Add),
        (0u64..8).prop_map(Grant::SetRemaining),
        Just(Grant::Reset)
    ];
    prop_oneof![
        14 => (1..=MOST, fate()).prop_map(|(cost, fate)| Act::Check { cost, fate }),
        3 => fate().prop_map(Act::Ahead),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(place, again)| Act::Answer(place, again)),
        5 => (any::<usize>(), prop::option::of(0u64..6), any::<bool>()).prop_map(|(receipt, cost, late)| Act::Report { receipt, cost, late }),
        3 => any::<usize>().prop_map(Act::Learn),
        1 => grant.prop_map(Act::Grant),
        1 => (0u64..40).prop_map(Act::Limit),
        2 => Just(Act::Arrive),
        3 => (1u64..20 * SECOND_NS).prop_map(Act::Wait),
        1 => (60 * SECOND_NS..300 * SECOND_NS).prop_map(Act::Wait),
        1 => (1u64..300 * SECOND_NS).prop_map(Act::Back),
        3 => Just(Act::Sweep),
        1 => Just(Act::Crash),
        1 => Just(Act::Stop),
    ]
}

/// What became of one counter in one period.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    admitted: u64,
    /// Of this epoch.
    spent: u64,
    refunded: u64,
    added: u64,
    lost: u64,
}

struct Run {
    site: Site,
    limit: u64,
    /// By the ledger's number and the start of the period.
    tallies: BTreeMap<(u64, u64), Tally>,
    receipts: Vec<String>,
    answers: Vec<(Need, Lease)>,
    unlearned: Vec<(Box<Correction>, Vec<Committed>)>,
    backs: Vec<GiveBack>,
}

fn script(limit: u64) -> String {
    format!(
        "plan gold\n ent all a\n quota q {limit} minute\n quota r 400 hour\nsub acme gold\nkey k1 acme"
    )
}

impl Run {
    fn new(limit: u64) -> Self {
        let site = Site::with(&script(limit), LeaseSettings::default());
        Self {
            site,
            limit,
            tallies: BTreeMap::new(),
            receipts: vec![],
            answers: vec![],
            unlearned: vec![],
            backs: vec![],
        }
    }

    fn ask(&mut self, need: &Need, fate: Fate) {
        // A counter without a number cannot be given back: its first question is always answered.
        let fate = if need.number.is_none() { Fate::Answered } else { fate };
        match fate {
            Fate::Answered => self.site.lease(need),
            Fate::Late => {
                self.answers.push((need.clone(), self.site.ledger.lease(self.site.epoch, need)))
            }
            Fate::Lost => {
                self.site.ledger.lease(self.site.epoch, need);
                self.site.world.engine.leases().lease_failed(need);
            }
            Fate::NotDone => self.site.world.engine.leases().lease_failed(need),
        }
    }

    /// Was it decided?
    fn check(&mut self, cost: u64, fate: Fate) -> Result<bool, TestCaseError> {
        let decided = match self.site.ask("k1", Some(cost), Shortage::Ask) {
            Checked::Decided(decision) => {
                Ok((decision.verdict.is_allowed(), decision.receipt.clone()))
            }
            Checked::Needs(needs) => Err(needs),
        };
        match decided {
            Err(needs) => {
                needs.iter().for_each(|need| self.ask(need, fate));
                return Ok(false);
            }
            Ok((true, receipt)) => {
                self.receipts.push(receipt.expect("an admission has a receipt"));
                self.admitted(cost)?;
            }
            Ok((false, receipt)) => prop_assert!(receipt.is_none()),
        }
        Ok(true)
    }

    fn admitted(&mut self, cost: u64) -> Result<(), TestCaseError> {
        let now_s = self.site.now().unix_s();
        let limits = [(60, self.limit), (3600, 400)];
        for ((number, start_s), kept) in &self.site.ledger.rows {
            let Some((_, limit)) = limits.iter().find(|(length, _)| {
                kept.length_s() == *length && now_s / length * length == *start_s
            }) else {
                continue;
            };
            let tally = self.tallies.entry((*number, *start_s)).or_default();
            (tally.admitted, tally.spent) = (tally.admitted + cost, tally.spent + cost);
            let allowed = limit.saturating_add_signed(kept.granted);
            prop_assert!(tally.admitted - tally.refunded <= allowed, "{tally:?} of {allowed}");
        }
        Ok(())
    }

    fn report(&mut self, place: usize, cost: Option<u64>, late: bool) {
        if self.receipts.is_empty() {
            return;
        }
        let receipt = &self.receipts[place % self.receipts.len()];
        let outcome = Outcome::http(if cost.is_some() { 200 } else { 503 });
        let Settled::Commit(correction) = self.site.settle(receipt, outcome, cost) else { return };
        let committed = self.site.ledger.commit(&correction);
        for (change, committed) in correction.changes.iter().zip(&committed) {
            let Change::Settle(Settle { deltas, .. }) = change else {
                unreachable!("all is charged at the check")
            };
            for delta in deltas.iter().filter(|_| *committed == Committed::Done) {
                let tally =
                    self.tallies.entry((delta.counter.0, delta.period_start_s)).or_default();
                let counted = if delta.units < 0 { &mut tally.refunded } else { &mut tally.added };
                *counted += delta.units.unsigned_abs();
            }
        }
        self.unlearned.push((correction, committed));
        if !late {
            self.learn(self.unlearned.len() - 1);
        }
    }

    fn learn(&mut self, place: usize) {
        if !self.unlearned.is_empty() {
            let (correction, committed) = self.unlearned.swap_remove(place % self.unlearned.len());
            self.site.world.engine.apply_correction(&correction, &committed, self.site.world.now);
        }
    }

    fn answer(&mut self, place: usize, again: bool) {
        if !self.answers.is_empty() {
            let place = place % self.answers.len();
            let (need, granted) = self.answers[place].clone();
            self.site.world.engine.leases().apply_lease(&need, &granted, self.site.world.now);
            if !again {
                self.answers.swap_remove(place);
            }
        }
    }

    fn grant(&mut self, change: Grant) {
        self.arrive();
        let (acme, names) = (Id::from("acme"), ("gold", "all", "q"));
        let engine = &self.site.world.engine;
        let plan = engine
            .prepare_grant(
                &self.site.world.catalog,
                Subject::Subscriber(&acme),
                names,
                change,
                self.site.world.now,
            )
            .unwrap();
        self.site.give_back(plan.give_back.as_slice());
        let balance = self.site.ledger.grant(&plan);
        self.site.world.engine.apply_grant(&plan, balance, self.site.world.now).unwrap();
    }

    fn limit(&mut self, limit: u64) {
        self.limit = limit;
        self.site.world.run(&script(limit)).unwrap();
        self.arrive();
        self.backs = self.site.world.engine.take_back("gold");
    }

    fn arrive(&mut self) {
        let backs = std::mem::take(&mut self.backs);
        self.site.give_back(&backs);
    }

    fn crash(&mut self) -> Result<(), TestCaseError> {
        for (key, kept) in &self.site.ledger.rows {
            let tally = self.tallies.entry(*key).or_default();
            let lost = kept.leased.get(&self.site.epoch).map_or(0, |leased| leased - tally.spent);
            prop_assert!(lost <= MOST.max(4), "{lost} lost");
            (tally.lost, tally.spent) = (tally.lost + lost, 0);
        }
        (self.answers, self.unlearned, self.backs) = (vec![], vec![], vec![]);
        self.site.crash();
        Ok(())
    }

    fn stop(&mut self) -> Result<(), TestCaseError> {
        while !self.answers.is_empty() {
            self.answer(0, false);
        }
        while !self.unlearned.is_empty() {
            self.learn(0);
        }
        self.arrive();
        let backs = self.site.world.engine.leases().put_away();
        self.site.give_back(&backs);
        for (key, kept) in &self.site.ledger.rows {
            let tally = self.tallies.get(key).copied().unwrap_or_default();
            let net = tally.admitted + tally.added - tally.refunded + tally.lost;
            prop_assert_eq!(kept.charged, net, "{:?}: {:?}", key, tally);
        }
        self.crash()
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match *act {
            Act::Check { cost, fate } => drop(self.check(cost, fate)?),
            Act::Ahead(fate) => self
                .site
                .world
                .engine
                .leases()
                .take_prefetches()
                .iter()
                .for_each(|need| self.ask(need, fate)),
            Act::Answer(place, again) => self.answer(place, again),
            Act::Report { receipt, cost, late } => self.report(receipt, cost, late),
            Act::Learn(place) => self.learn(place),
            Act::Grant(change) => self.grant(change),
            Act::Limit(limit) => self.limit(limit),
            Act::Arrive => self.arrive(),
            Act::Wait(ns) => self.site.world.wait(ns),
            Act::Back(ns) => self.site.world.now.unix_ns -= ns,
            Act::Sweep => {
                PlanEngine::sweep(&self.site.world.engine, self.site.world.now);
                self.backs.extend(self.site.world.engine.leases().take_ended());
            }
            Act::Crash => self.crash()?,
            Act::Stop => self.stop()?,
        }
        Ok(())
    }

    /// Everything that the ledger still has can be spent, to the last unit.
    fn spend_all(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..4_000 {
            let before = self.receipts.len();
            if self.check(1, Fate::Answered)? && self.receipts.len() == before {
                let now_s = self.site.now().unix_s();
                let minute = |kept: &super::site::Kept| kept.length_s() == 60;
                let rows = self.site.ledger.rows.iter().filter(|((_, start_s), kept)| {
                    let length = if minute(kept) { 60 } else { 3600 };
                    now_s / length * length == *start_s
                });
                let full = rows.into_iter().any(|((number, start_s), kept)| {
                    let limit = if minute(kept) { self.limit } else { 400 };
                    let tally = self.tallies.get(&(*number, *start_s)).copied().unwrap_or_default();
                    let spent = tally.admitted + tally.added - tally.refunded + tally.lost;
                    spent >= limit.saturating_add_signed(kept.granted)
                });
                prop_assert!(full || self.limit == 0, "refused while units were left");
                return Ok(());
            }
        }
        prop_assert!(false, "it never ends");
        Ok(())
    }
}

fn sequences() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: sequences(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_is_admitted_than_the_ledger_allows_whatever_happens(limit in 0u64..60, acts in prop::collection::vec(act(), 1..150)) {
        let mut run = Run::new(limit);
        for (place, act) in acts.iter().enumerate() {
            run.act(act).map_err(|wrong| TestCaseError::fail(format!("act {place}, {act:?}: {wrong}")))?;
        }
        run.stop()?;
        run.spend_all()?;
        run.stop()?;
    }
}
