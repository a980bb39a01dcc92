//! Counters of durable rules: leases, lost answers, edits, stops and crashes, against the naive
//! ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{AtOnce, DurableRuleEngine, Leased};
use crate::decide::compiled::CompiledQuota;
use crate::decide::ledger::{CounterId, CounterIdentity, Holder, PeriodRow, RULES};
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::leases::{BookSettings, Need, Shortage};
use crate::engine::plans::tests::leases::site::Ledger;
use crate::engine::rules::durable::{DurableAsk, DurableCounters};
use crate::engine::rules::{Mode, Standing};
use crate::rules::{self, LoadOptions, Source};

const DAY_S: u64 = 86_400;

/// What a rule of so many a day is charged to.
fn quota(limit: u64) -> Arc<CompiledQuota> {
    let text = format!(
        "{{domain: d, descriptors: [{{key: k, rate_limit: {{unit: day, requests_per_unit: {limit}, durable: true}}}}]}}"
    );
    let loaded =
        rules::load(&[Source { name: "f".to_owned(), text }], &LoadOptions::default()).unwrap();
    loaded.rules.rules().next().unwrap().durable.clone().unwrap()
}

fn ask(quota: &CompiledQuota, key: u8, hits: u64) -> DurableAsk<'_> {
    DurableAsk { counter: [key; 16], domain: "d", quota, hits, negative: false }
}

fn at(s: u64) -> Now {
    Now { unix_ns: (20_000 * DAY_S + s) * SECOND_NS, steady_ns: 1 + s * SECOND_NS }
}

fn engine(epoch: u32) -> DurableRuleEngine {
    DurableRuleEngine::new([9; 16], BookSettings::new(Holder { id: 1, epoch }))
}

fn any_over(standings: &[Standing]) -> bool {
    standings.iter().any(|standing| standing.over)
}

/// An engine, the ledger behind it, and the time.
struct Site {
    engine: DurableRuleEngine,
    ledger: Ledger,
    epoch: u32,
    s: u64,
}

impl Site {
    fn new() -> Self {
        Self { engine: engine(1), ledger: Ledger::default(), epoch: 1, s: 0 }
    }

    fn lease(&mut self, need: &Need, lost: bool) {
        let granted = self.ledger.lease(self.epoch, need);
        if lost {
            self.engine.leases().lease_failed(need);
        } else {
            self.engine.leases().apply_lease(need, &granted, at(self.s));
        }
    }

    /// Decides, waiting for the ledger as long as it takes. The first `lost` answers are lost.
    fn charge(&mut self, asks: &[DurableAsk<'_>], mode: Mode, mut lost: usize) -> Vec<Standing> {
        for _ in 0..10 {
            let needs = match Leased(&self.engine).charge(asks, mode, at(self.s), &mut any_over) {
                Ok(standings) => {
                    self.engine
                        .leases()
                        .take_prefetches()
                        .iter()
                        .for_each(|need| self.lease(need, false));
                    return standings.to_vec();
                }
                Err(needs) => needs,
            };
            for need in &needs {
                self.lease(need, lost > 0);
                lost = lost.saturating_sub(1);
            }
        }
        panic!("a request that got what it needs needs more");
    }

    fn admits(&mut self, quota: &CompiledQuota, hits: u64) -> bool {
        !self.charge(&[ask(quota, 1, hits)], Mode::Each, 0)[0].over
    }

    fn crash(&mut self) {
        self.epoch += 1;
        self.engine = engine(self.epoch);
        for row in self.ledger.live(at(self.s)) {
            self.engine.leases().restore(&row, at(self.s)).unwrap();
        }
    }

    fn stop(&mut self) {
        let backs = self.engine.leases().put_away();
        backs.iter().for_each(|back| self.ledger.give_back(self.epoch, back));
        self.crash();
    }
}

#[test]
fn a_cold_counter_asks_and_has_charged_nothing_anywhere() {
    let site = &mut Site::new();
    let (small, large) = (quota(1), quota(100));
    site.admits(&large, 1);
    let asks = [ask(&large, 1, 1), ask(&small, 2, 1)];
    let needs = Leased(&site.engine).charge(&asks, Mode::Each, at(0), &mut any_over).unwrap_err();
    assert_eq!(needs.len(), 1, "only the second is cold");
    assert_eq!(
        (needs[0].want, needs[0].limit, needs[0].may_pass, &*needs[0].counter.plan),
        (1, 1, false, RULES)
    );
    let standings = site.charge(&asks, Mode::Each, 0);
    assert_eq!(standings.iter().map(|standing| standing.before).collect::<Vec<_>>(), [1, 0]);
}

/// By these names ledgers keep the counters of durable rules since the first that did.
#[test]
fn what_a_ledger_keeps_of_a_durable_rule_is_found_by_its_names() {
    let (site, quota) = (Site::new(), quota(3));
    let identity = CounterIdentity {
        subscriber: "01".repeat(16).into(),
        key: None,
        plan: "(rules)".into(),
        entitlement: "d".into(),
        quota: Arc::clone(&quota.identity),
    };
    assert!(identity.is_of_rule());
    let row = PeriodRow {
        counter: CounterId(1),
        identity,
        period: quota.calendar.period(at(0).unix_ns),
        charged: 3,
        granted: 0,
        lost: 0,
        held: 0,
        active_s: 0,
    };
    site.engine.leases().restore(&row, at(0)).unwrap();
    let Ok(standings) =
        Leased(&site.engine).charge(&[ask(&quota, 1, 1)], Mode::Each, at(0), &mut any_over)
    else {
        panic!("it needs nothing of the ledger")
    };
    assert_eq!((standings[0].over, standings[0].before), (true, 3));
}

#[test]
fn what_is_refused_anyway_asks_for_nothing() {
    let site = &mut Site::new();
    let (none, many) = (quota(1), quota(100));
    assert!(site.admits(&none, 1));
    let asked = site.ledger.asked;
    let asks = [ask(&none, 1, 1), ask(&many, 2, 1)];
    assert!(any_over(&site.charge(&asks, Mode::AllOrNothing, 0)));
    assert!(any_over(&site.charge(&[ask(&none, 1, 1)], Mode::Each, 0)));
    assert_eq!(site.ledger.asked, asked);
}

#[test]
fn in_a_day_that_was_forgotten_nothing_is_admitted_without_the_ledger() {
    let site = &mut Site::new();
    let quota = quota(3);
    assert_eq!((0..5).filter(|_| site.admits(&quota, 1)).count(), 3);
    site.s = 2 * DAY_S;
    for _ in 0..2 {
        site.engine.leases().sweep(at(site.s));
        for back in site.engine.leases().take_ended() {
            site.ledger.give_back(site.epoch, &back);
            site.engine.leases().gave_back(back);
        }
    }
    site.s = 0;
    // A peek, too: nothing is known of what is left.
    for hits in [1, 0] {
        let deny = AtOnce { engine: &site.engine, shortage: Shortage::Deny };
        let Ok(standings) = deny.charge(&[ask(&quota, 1, hits)], Mode::Each, at(0), &mut any_over);
        assert_eq!((standings[0].over, standings[0].reset_ns), (true, SECOND_NS));
    }
    assert!(!site.admits(&quota, 1));
}

#[test]
fn a_request_that_costs_more_than_the_bound_of_a_lease_gets_it_twice_over() {
    let site = &mut Site::new();
    let quota = quota(10_000);
    let asks = [ask(&quota, 1, 3_000), ask(&quota, 1, 4_000)];
    let remaining: Vec<_> = site
        .charge(&asks, Mode::AllOrNothing, 0)
        .iter()
        .map(|standing| standing.remaining)
        .collect();
    assert_eq!(remaining, [7_000, 3_000]);
    assert!(!site.admits(&quota, 3_001));
    assert!(site.admits(&quota, 3_000));
}

#[test]
fn the_window_ends_on_its_instant_and_a_restart_does_not_end_it() {
    for (s, admitted) in [(DAY_S - 1, false), (DAY_S, true)] {
        for restart in [Site::crash, Site::stop] {
            let site = &mut Site::new();
            assert!(site.admits(&quota(1), 1));
            site.s = s;
            restart(site);
            assert_eq!(site.admits(&quota(1), 1), admitted, "at {s}");
        }
    }
}

#[test]
fn a_lowered_limit_holds_at_once_whatever_was_leased() {
    let site = &mut Site::new();
    let high = quota(10_000);
    for _ in 0..500 {
        assert!(site.admits(&high, 1));
    }
    let spent = 500;
    assert!(
        site.ledger.rows.values().next().unwrap().charged > spent + 10,
        "there are units in hand"
    );
    let low = quota(spent + 3);
    assert_eq!([(); 4].map(|()| site.admits(&low, 1)), [true, true, true, false]);
    assert!(!site.admits(&quota(100), 1));
    assert!(site.admits(&quota(spent + 4), 1), "raised again");
}

#[test]
fn a_ledger_that_cannot_answer_leaves_it_to_the_settings() {
    let quota = quota(2);
    let engine = engine(1);
    for (shortage, over) in
        [(Shortage::Deny, true), (Shortage::Allow, false), (Shortage::Ask, true)]
    {
        let Ok(standings) = AtOnce { engine: &engine, shortage }.charge(
            &[ask(&quota, 1, 1)],
            Mode::Each,
            at(0),
            &mut any_over,
        );
        assert_eq!(
            (standings[0].over, standings[0].reset_ns),
            (over, if over { SECOND_NS } else { DAY_S * SECOND_NS }),
            "{shortage:?}"
        );
    }
}

#[test]
fn counters_beyond_the_bound_are_refused() {
    let quota = quota(2);
    let engine = DurableRuleEngine::new(
        [9; 16],
        BookSettings { max_entries: 1, ..BookSettings::new(Holder { id: 1, epoch: 1 }) },
    );
    let counters = AtOnce { engine: &engine, shortage: Shortage::Allow };
    let Ok(standings) =
        counters.charge(&[ask(&quota, 1, 1), ask(&quota, 2, 1)], Mode::Each, at(0), &mut any_over);
    assert_eq!(standings.iter().map(|standing| standing.over).collect::<Vec<_>>(), [false, true]);
}

#[derive(Clone, Debug)]
enum Step {
    Charge { asks: Vec<(u8, u64)>, all_or_nothing: bool, lost: usize },
    Limit(u64),
    Wait(u64),
    Crash,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let asks = prop::collection::vec((0..3_u8, 0..4_u64), 1..4);
    prop_oneof![
        12 => (asks, any::<bool>(), prop_oneof![3 => Just(0_usize), 1 => 1..3_usize])
            .prop_map(|(asks, all_or_nothing, lost)| Step::Charge { asks, all_or_nothing, lost }),
        1 => (0..30_u64).prop_map(Step::Limit),
        2 => (0..40_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Crash),
        2 => Just(Step::Stop),
    ]
}

proptest! {
    /// By one counter after the other, as if there were no leases: exact where no crash has cost
    /// units, and never above the limit where one has.
    #[test]
    fn durable_counters_agree_with_a_naive_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut site = Site::new();
        let mut limit = 12;
        // By key and day: what was admitted.
        let mut used: BTreeMap<(u8, u64), u64> = BTreeMap::new();
        // Days whose units a crash may have cost: the first of a day are leased 5 minutes ahead.
        let mut crashed = 0..0;
        for step in steps {
            match step {
                Step::Limit(next) => limit = next,
                Step::Wait(wait) => site.s += wait,
                Step::Stop => site.stop(),
                Step::Crash => {
                    site.crash();
                    crashed = site.s / DAY_S..(site.s + 300) / DAY_S + 1;
                }
                Step::Charge { asks, all_or_nothing, lost } => {
                    let (day, quota) = (site.s / DAY_S, quota(limit));
                    let mode = if all_or_nothing { Mode::AllOrNothing } else { Mode::Each };
                    let asked: Vec<_> = asks.iter().map(|&(key, hits)| ask(&quota, key, hits)).collect();
                    let over: Vec<_> = site.charge(&asked, mode, lost).iter().map(|standing| standing.over).collect();
                    let mut after = used.clone();
                    let mut naive = Vec::new();
                    for (&(key, hits), &over) in asks.iter().zip(&over) {
                        let used = after.entry((key, day)).or_default();
                        let fits = *used + hits.max(1) <= limit;
                        naive.push(!fits);
                        // Where a crash has cost units, what was said is what counts.
                        let counts = if crashed.contains(&day) { !over } else { fits };
                        *used += if counts { hits } else { 0 };
                        prop_assert!(over || hits == 0 || *used <= limit, "{} of {limit} were admitted", *used);
                    }
                    if !crashed.contains(&day) {
                        prop_assert_eq!(&over, &naive);
                    }
                    if mode == Mode::Each || !over.contains(&true) {
                        used = after;
                    }
                }
            }
        }
    }
}
