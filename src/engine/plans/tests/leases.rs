//! Quotas that are spent from leases.

mod ahead;
mod forgotten;
mod property;
pub(in crate::engine) mod site;

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use self::site::{Ledger, QUOTA, Site};
use crate::decide::ledger::{CounterId, Delta, Holder, Scope, Settle};
use crate::decide::outcome::Outcome;
use crate::decide::plan::Id;
use crate::decide::quota::Grant;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Reason, Verdict};
use crate::engine::plans::settle::{Change, Settled};
use crate::engine::plans::{
    CheckInput, LeaseSettings, PlanEngine, Report, ReportSubject, Settlement, Subject,
};
use crate::engine::plans::{Checked, Shortage};
use crate::testkit::declared::request;
use crate::testkit::plans::AsksPlans;

const DAY_NS: u64 = 86_400 * SECOND_NS;

#[test]
fn a_cold_check_charges_nothing_until_it_has_units() {
    let site = &mut Site::new("100 day");
    let needs = site.needs(None);
    assert_eq!(needs.len(), 1);
    assert_eq!(
        (needs[0].want, needs[0].spent, needs[0].limit, needs[0].may_pass, needs[0].number),
        (2, 0, 100, false, None)
    );
    assert_eq!(
        (site.used(), site.world.engine.daily_usage(&Scope::All, 0, u64::MAX).len()),
        (0, 0)
    );
    site.lease(&needs[0]);
    // Two units: two checks in memory, and the third has to wait.
    assert_eq!(site.decided(None).limits[0].remaining, 99);
    assert!(site.decided(None).receipt.is_some());
    assert_eq!(
        (site.needs(None)[0].want, site.needs(None)[0].spent, site.needs(None)[0].number),
        (4, 2, Some(CounterId(1)))
    );
    assert_eq!((site.used(), site.charged()), (2, 2));
}

#[test]
fn the_last_unit_is_given_out_exactly_and_then_memory_answers() {
    for (limit, allowed) in [(1, 1), (2, 2), (3, 3), (7, 7), (100, 100), (2_345, 2_345)] {
        let site = &mut Site::new(&format!("{limit} day"));
        let admitted = (0..limit + 5).filter(|_| site.admits()).count();
        assert_eq!(admitted, allowed);
        assert_eq!(site.charged(), limit);
        let asked = site.ledger.asked;
        assert_eq!(site.decided(None).verdict.reason(), Some(Reason::QuotaExceeded));
        assert_eq!((site.ledger.asked, site.decided(None).limits[0].remaining), (asked, 0));
    }
}

#[test]
fn a_cost_above_a_chunk_is_leased_whole_or_refused_whole() {
    let site = &mut Site::new("100 day");
    assert_eq!(site.needs(Some(60))[0].want, 60);
    assert!(site.check(Some(60)).verdict.is_allowed());
    assert_eq!(site.check(Some(41)).verdict.reason(), Some(Reason::QuotaExceeded));
    assert!(site.check(Some(40)).verdict.is_allowed());
    assert_eq!((site.used(), site.charged()), (100, 100));
}

#[test]
fn those_that_wait_together_are_demand_but_never_lease_past_the_bound() {
    // The limit, and what the first callers ask for while nothing is answered yet.
    for (limit, expected) in [
        (100_u64, [2, 2, 2, 2, 2, 2]),
        (300, [2, 2, 3, 3, 3, 3]),
        (1000, [2, 2, 3, 4, 5, 6]),
        (20, [2, 2, 2, 2, 2, 2]),
    ] {
        let site = Site::new(&format!("{limit} day"));
        let wants: Vec<u64> = (0..6).map(|_| site.needs(None)[0].want).collect();
        assert_eq!(wants, expected, "of {limit}");
    }
}

#[test]
fn a_check_that_is_refused_anyway_and_a_peek_draw_no_lease() {
    let mut site = Site::with(
        "plan gold\n ent all a rate=1/1\n quota q 9 day\n quota r 1 day\nsub acme gold\nkey k1 acme",
        LeaseSettings::default(),
    );
    assert!(site.decided(Some(0)).verdict.is_allowed());
    assert_eq!(site.decided(Some(2)).verdict.reason(), Some(Reason::RateExceeded));
    assert!(site.admits());
    site.world.wait(SECOND_NS);
    // `r` is used up, `q` would have to lease if it were not.
    site.give_back(&site.world.engine.leases().put_away());
    let asked = site.ledger.asked;
    assert_eq!(site.decided(None).verdict.reason(), Some(Reason::QuotaExceeded));
    assert_eq!(site.decided(Some(0)).verdict.reason(), Some(Reason::QuotaExceeded));
    assert_eq!(site.ledger.asked, asked);
}

#[test]
fn without_a_ledger_a_check_is_denied_or_admitted_as_it_was_said() {
    let site = &mut Site::new("3 day");
    let decide = |site: &Site, shortage| match site.ask("k1", None, shortage) {
        Checked::Decided(decision) => (decision.verdict, decision.receipt.is_some()),
        Checked::Needs(needs) => panic!("needs {needs:?}"),
    };
    let denied =
        Verdict::Deny { reason: Reason::LedgerUnavailable, retry_after_ns: Some(SECOND_NS) };
    assert_eq!(decide(site, Shortage::Deny), (denied, false));
    assert_eq!(site.used(), 0);
    // Admitted without a lease: the counter has no number, so no receipt can name it.
    let allowed = Verdict::Allow { over_quota: false };
    assert_eq!(decide(site, Shortage::Allow), (allowed, false));
    assert_eq!((site.used(), site.charged(), site.world.engine.without_receipt()), (1, 0, 1));
    // The next lease covers it.
    site.prefetch();
    assert_eq!(site.charged(), 3);
    assert!(site.admits() && site.admits() && !site.admits());
    assert_eq!(decide(site, Shortage::Allow).0.reason(), Some(Reason::QuotaExceeded));
    site.give_back(&site.world.engine.leases().put_away());
    assert_eq!((site.used(), site.charged()), (3, 3));
}

#[test]
fn optimistic_units_are_admitted_before_the_first_lease() {
    let lease = LeaseSettings { optimistic_units: 2, ..LeaseSettings::default() };
    let mut site =
        Site::with("plan gold\n ent all a\n quota q 5 day\nsub acme gold\nkey k1 acme", lease);
    assert!(site.decided(None).verdict.is_allowed() && site.decided(None).verdict.is_allowed());
    assert_eq!(site.needs(None)[0].want, 4);
    site.prefetch();
    assert_eq!((0..9).filter(|_| site.admits()).count(), 3);
    assert_eq!(site.charged(), 5);
}

#[test]
fn a_refund_is_spendable_once_it_is_committed_and_never_twice() {
    let site = &mut Site::new("10 day");
    let receipts: Vec<String> = (0..10).map(|_| site.check(None).receipt.unwrap()).collect();
    assert!(!site.admits());
    let Settled::Commit(correction) = site.settle(&receipts[3], Outcome::http(503), None) else {
        panic!("nothing to commit")
    };
    let [Change::Settle(Settle { mark, deltas })] = &correction.changes[..] else {
        panic!("{correction:?}")
    };
    assert_eq!((mark.holder, deltas.len()), (Holder { id: 1, epoch: 1 }, 1));
    assert_eq!(
        deltas[0],
        Delta { counter: CounterId(1), period_start_s: site.row().period.start_s(), units: -1 }
    );
    assert!(!site.admits(), "a refund was spent before it was committed");
    // It crashes after the commit, and the report comes again.
    site.ledger.commit(&correction);
    assert!(!site.admits(), "a refund was spent before it was known");
    site.crash();
    assert_eq!(site.used(), 9);
    assert_eq!(site.report(&receipts[3], Outcome::http(503), None), Settlement::Duplicate);
    assert!(site.admits() && !site.admits());
    // A receipt of the dead epoch that was not settled yet.
    assert_eq!(site.report(&receipts[4], Outcome::http(503), None), Settlement::Refunded);
    assert!(matches!(
        site.settle(&receipts[4], Outcome::http(503), None),
        Settled::Done(Settlement::Duplicate)
    ));
    assert!(site.admits() && !site.admits());
    assert_eq!((site.used(), site.charged()), (10, 10));
}

#[test]
fn a_real_cost_above_the_charged_one_is_seen_by_the_next_check() {
    let site = &mut Site::new("10 day");
    let receipt = site.check(None).receipt.unwrap();
    assert_eq!(site.report(&receipt, Outcome::http(200), None), Settlement::Counted);
    assert_eq!(site.report(&receipt, Outcome::http(200), Some(12)), Settlement::Corrected);
    assert!(!site.admits(), "units in hand are no reason to pass the limit");
    assert_eq!(site.used(), 12);
    site.give_back(&site.world.engine.leases().put_away());
    assert_eq!(site.charged(), 12);
}

#[test]
fn quotas_charged_at_the_report_lease_nothing_and_are_charged_by_the_commit() {
    let site = &mut Site::new("2 day report");
    // The first check learns the number of the counter, for its receipt.
    assert_eq!(site.needs(None)[0].want, 0);
    let receipt = site.check(None).receipt.unwrap();
    assert_eq!((site.used(), site.charged()), (0, 0));
    assert_eq!(site.report(&receipt, Outcome::http(200), Some(1)), Settlement::Counted);
    assert_eq!(site.report(&receipt, Outcome::http(200), Some(1)), Settlement::Duplicate);
    let caller = ReportSubject::Caller { api_key: b"k1", target: "a", operation_id: b"" };
    let report = Report { subject: caller, outcome: Outcome::http(200), cost: None };
    let Settled::Commit(correction) =
        PlanEngine::settle(&site.world.engine, &site.world.catalog, &report, site.now())
    else {
        panic!("nothing to commit")
    };
    assert_eq!(site.used(), 1);
    let committed = site.ledger.commit(&correction);
    assert_eq!(
        site.world.engine.apply_correction(&correction, &committed, site.now()),
        Settlement::Counted
    );
    assert_eq!((site.used(), site.charged()), (2, 2));
    assert_eq!(site.check(None).verdict.reason(), Some(Reason::QuotaExceeded));
}

#[test]
fn a_quota_that_may_be_passed_leases_past_its_limit() {
    let site = &mut Site::new("3 day allow");
    let over: Vec<Verdict> = (0..6).map(|_| site.check(None).verdict).collect();
    let [under, over_quota] = [false, true].map(|over_quota| Verdict::Allow { over_quota });
    assert_eq!(over, [under, under, under, over_quota, over_quota, over_quota]);
    site.give_back(&site.world.engine.leases().put_away());
    assert_eq!((site.used(), site.charged()), (6, 6));
}

#[test]
fn an_exhausted_counter_wakes_for_a_grant_a_raised_limit_and_the_next_period() {
    let site = &mut Site::new("2 day");
    let grant = |site: &mut Site, change| {
        let (acme, names) = (Id::from("acme"), ("gold", "all", "q"));
        let plan = site
            .world
            .engine
            .prepare_grant(
                &site.world.catalog,
                Subject::Subscriber(&acme),
                names,
                change,
                site.world.now,
            )
            .unwrap();
        site.give_back(plan.give_back.as_slice());
        let balance = site.ledger.grant(&plan);
        site.world.engine.apply_grant(&plan, balance, site.world.now).unwrap().remaining()
    };
    assert!(site.admits() && site.admits() && !site.admits());
    assert_eq!(grant(site, Grant::Add(1)), 1);
    assert!(site.admits() && !site.admits());
    assert_eq!(grant(site, Grant::SetRemaining(3)), 3);
    assert!(site.admits());
    assert_eq!(grant(site, Grant::SetRemaining(1)), 1, "unspent units count as used");
    assert!(site.admits() && !site.admits());
    assert_eq!(grant(site, Grant::Reset), 2);
    site.world.run("plan gold\n ent all a\n quota q 3 day").unwrap();
    assert_eq!((0..5).filter(|_| site.admits()).count(), 3);
    site.world.wait(DAY_NS - (site.now().unix_ns % DAY_NS) - 1);
    assert!(!site.admits());
    site.world.wait(1);
    assert_eq!((0..5).filter(|_| site.admits()).count(), 3);
}

#[test]
fn a_lowered_limit_takes_unspent_units_back_and_late_answers_bring_none() {
    let site = &mut Site::new("1000 day");
    assert!(site.admits());
    let late = site.needs(Some(5));
    let granted = site.ledger.lease(1, &late[0]);
    site.world.run("plan gold\n ent all a\n quota q 2 day").unwrap();
    let backs = site.world.engine.take_back("gold");
    assert_eq!((backs.len(), backs[0].spent), (1, 1));
    assert!(site.world.engine.take_back("silver").is_empty());
    site.give_back(&backs);
    assert_eq!(site.charged(), 1);
    site.world.engine.leases().apply_lease(&late[0], &granted, site.now());
    assert!(
        matches!(site.ask("k1", None, Shortage::Ask), Checked::Needs(_)),
        "units that were given back were spent"
    );
    assert!(site.admits() && !site.admits());
    assert_eq!(site.charged(), 2);
}

#[test]
fn while_a_give_back_is_on_its_way_no_answer_brings_units() {
    let site = &mut Site::new("1000 day");
    assert!(site.admits());
    let backs = site.world.engine.take_back("gold");
    assert_eq!(backs.len(), 1);
    // Another edit at the same time: both must have arrived.
    let again = site.world.engine.take_back("gold");
    // A check asks again before the ledger has the give-back: it is answered with the very units
    // that go back.
    let early = site.needs(None);
    let granted = site.ledger.lease(1, &early[0]);
    assert_eq!(granted.leased, 3);
    site.world.engine.leases().apply_lease(&early[0], &granted, site.now());
    site.give_back(&again);
    let late = site.needs(None);
    let second = site.ledger.lease(1, &late[0]);
    site.world.engine.leases().apply_lease(&late[0], &second, site.now());
    assert!(
        matches!(site.ask("k1", None, Shortage::Ask), Checked::Needs(_)),
        "units that go back were spent"
    );
    site.give_back(&backs);
    site.world.engine.leases().apply_lease(&late[0], &second, site.now());
    assert!(
        matches!(site.ask("k1", None, Shortage::Ask), Checked::Needs(_)),
        "units that went back were spent"
    );
    assert_eq!(site.charged(), 1);
    assert!(site.admits());
}

#[test]
fn answers_that_come_twice_late_or_not_at_all_bring_nothing_twice() {
    let site = &mut Site::new("4 day");
    let first = site.needs(None);
    let lost = site.ledger.lease(1, &first[0]);
    site.world.engine.leases().lease_failed(&first[0]);
    // Asked again, for the same amount all together: the same units.
    let again = site.needs(None);
    let granted = site.ledger.lease(1, &again[0]);
    assert_eq!((lost.leased, granted.leased), (2, 2));
    for answer in [granted, granted, lost] {
        site.world.engine.leases().apply_lease(&again[0], &answer, site.now());
    }
    assert!(site.decided(None).verdict.is_allowed() && site.decided(None).verdict.is_allowed());
    assert!(matches!(site.ask("k1", None, Shortage::Ask), Checked::Needs(_)));
    site.world.engine.leases().apply_lease(&again[0], &granted, site.now());
    assert_eq!((0..9).filter(|_| site.admits()).count(), 2);
}

#[test]
fn an_answer_from_before_a_refund_is_no_reason_to_refuse() {
    let site = &mut Site::new("3 day");
    let first = site.needs(None);
    site.lease(&first[0]);
    let receipt = site.decided(None).receipt.unwrap();
    assert!(site.decided(None).verdict.is_allowed());
    // Another holder takes the last unit.
    let mut other = first[0].clone();
    other.want = 1;
    site.ledger.lease(9, &other);
    let need = site.needs(None);
    let before = site.ledger.lease(1, &need[0]);
    assert_eq!((before.leased, before.balance.charged), (2, 3));
    assert_eq!(site.report(&receipt, Outcome::http(503), None), Settlement::Refunded);
    site.world.engine.leases().apply_lease(&need[0], &before, site.now());
    assert!(site.admits() && !site.admits());
}

#[test]
fn an_answer_that_knows_of_a_correction_already_is_no_reason_to_refuse() {
    let site = &mut Site::new("10 day");
    let receipt = site.check(None).receipt.unwrap();
    let Settled::Commit(correction) = site.settle(&receipt, Outcome::http(200), Some(5)) else {
        panic!("nothing to commit")
    };
    let committed = site.ledger.commit(&correction);
    // The balance of the lease has the five units already, and then they are told once more.
    assert!(site.admits() && site.admits());
    site.world.engine.apply_correction(&correction, &committed, site.now());
    assert_eq!((0..9).filter(|_| site.admits()).count(), 3);
    assert_eq!((site.used(), site.charged()), (10, 10));
}

#[test]
fn a_hot_counter_is_leased_ahead_and_never_holds_more_than_its_bound() {
    for limit in [100, 1_000, 40_000, 1_000_000] {
        let site = &mut Site::new(&format!("{limit} day"));
        let mut admitted: u64 = 0;
        while site.admits() {
            admitted += 1;
            site.world.wait(SECOND_NS / 2_000);
            // 2,000 a second: 1,000 in half a second.
            let bound = (limit / 100).min(1_000).min((limit - admitted) / 8 + 1).max(2);
            let held = site.charged() - admitted;
            assert!(held <= bound, "{held} held of {limit} after {admitted}, not {bound}");
            if admitted == 30_000 {
                break;
            }
        }
        assert_eq!(admitted, limit.min(30_000));
        assert!(site.waited <= 2, "{} of {admitted} checks had to wait", site.waited);
        assert_eq!(
            site.charged() - admitted,
            site.world
                .engine
                .leases()
                .put_away()
                .first()
                .map_or(0, |_| site.charged() - site.used())
        );
    }
}

#[test]
fn a_steady_counter_needs_few_leases() {
    let site = &mut Site::new("10000000 day");
    for _ in 0..20_000 {
        assert!(site.admits());
        site.world.wait(SECOND_NS / 10_000);
    }
    assert!(site.ledger.asked < 40, "{} leases", site.ledger.asked);
}

#[test]
fn an_active_counter_leases_ahead_for_the_next_period() {
    let site = &mut Site::new("100 day");
    assert!(site.admits());
    site.world.wait(DAY_NS - site.now().unix_ns % DAY_NS - 301 * SECOND_NS);
    assert!(site.admits());
    assert_eq!(site.ledger.rows.len(), 1);
    site.world.wait(301 * SECOND_NS - 1);
    assert!(site.admits());
    assert_eq!(site.ledger.rows.len(), 2);
    assert_eq!(site.charged(), 2);
    site.world.wait(1);
    let waited = site.waited;
    assert!(site.decided(None).verdict.is_allowed());
    assert_eq!((site.waited, site.used()), (waited, 1));
}

#[test]
fn units_of_a_period_die_with_it_and_are_given_back() {
    let site = &mut Site::new("100 hour");
    assert!(site.admits());
    let hour = site.row().period;
    site.world.wait(hour.end_ns - site.now().unix_ns);
    assert!(matches!(site.ask("k1", None, Shortage::Ask), Checked::Needs(_)));
    site.world.wait(60 * SECOND_NS - 1);
    PlanEngine::sweep(&site.world.engine, site.now());
    assert!(site.world.engine.leases().take_ended().is_empty());
    site.world.wait(1);
    PlanEngine::sweep(&site.world.engine, site.now());
    let backs = site.world.engine.leases().take_ended();
    assert_eq!(backs.len(), 1);
    site.give_back(&backs);
    assert_eq!(site.charged(), 1);
}

#[test]
fn a_crash_wastes_what_was_held_and_a_clean_stop_nothing() {
    let site = &mut Site::new("1000 day");
    for _ in 0..100 {
        assert!(site.admits());
        site.world.wait(SECOND_NS / 100);
    }
    site.crash();
    assert!((100..=110).contains(&site.used()), "{} used", site.used());
    let lost = site.used() - 100;
    assert!((0..100).all(|_| site.admits()));
    site.give_back(&site.world.engine.leases().put_away());
    assert_eq!((site.charged(), site.used()), (200 + lost, 200 + lost));
    site.crash();
    assert_eq!((0..1000).filter(|_| site.admits()).count() as u64, 800 - lost);
}

#[test]
fn a_restored_counter_gets_its_first_units_before_anyone_asks() {
    let site = &mut Site::new("3 day");
    assert!(site.admits());
    site.crash();
    site.world.catalog.revision = 7;
    let rows = site.restored();
    let need = site.world.engine.warm(&site.world.catalog, &rows[0], site.now()).unwrap();
    assert_eq!((need.number, need.want, need.limit, need.revision), (Some(CounterId(1)), 1, 3, 7));
    site.lease(&need);
    assert!(site.decided(None).verdict.is_allowed());
    // Two are spent or lost, the last one is spent now: nothing is left to warm.
    assert_eq!(site.decided(None).verdict.reason(), Some(Reason::QuotaExceeded));
    site.crash();
    assert!(site.world.engine.warm(&site.world.catalog, &site.restored()[0], site.now()).is_none());
}

#[test]
fn a_need_carries_the_revision_that_its_limit_is_of() {
    let mut site = Site::new("100 day");
    site.world.catalog.revision = 42;
    assert_eq!(site.needs(None)[0].revision, 42);
}

#[test]
fn an_operation_that_waits_for_units_is_charged_once() {
    let site = &mut Site::new("100 day");
    let input = CheckInput {
        api_key: b"k1",
        target: "a",
        method: b"GET",
        path: b"/",
        cost: None,
        operation_id: b"one",
    };
    let ask = |site: &Site| {
        site.world.engine.check_or_need(&site.world.catalog, &input, Shortage::Ask, site.now()).map(
            |checked| match checked {
                Checked::Needs(needs) => Err(needs),
                Checked::Decided(decision) => Ok(decision.receipt),
            },
        )
    };
    let needs = ask(site).unwrap().unwrap_err();
    site.lease(&needs[0]);
    let receipts: BTreeSet<_> = (0..3).map(|_| ask(site).unwrap().unwrap()).collect();
    assert_eq!((receipts.len(), site.used()), (1, 1));
}

#[test]
fn what_a_quota_counts_is_learned_again_after_an_edit() {
    let site = &mut Site::new("100 day count=2xx");
    let receipt = site.check(None).receipt.unwrap();
    site.world.run("plan gold\n ent all a\n quota q 100 day count=4xx").unwrap();
    // The number of the new rule is not known, although there are units.
    assert_eq!(site.needs(None)[0].want, 1);
    let edited = site.check(None).receipt.unwrap();
    assert_eq!(site.report(&receipt, Outcome::http(404), None), Settlement::Refunded);
    assert_eq!(site.report(&edited, Outcome::http(404), None), Settlement::Counted);
    site.crash();
    assert_eq!(site.report(&edited, Outcome::http(200), None), Settlement::Refunded);
}

/// Many callers, and a ledger that answers each of them.
#[test]
fn a_quota_of_1000_takes_exactly_1000_successes_while_a_third_fails() {
    let site = Site::new("1000 day");
    let (engine, catalog, now) = (&*site.world.engine, &site.world.catalog, site.now());
    let ledger = Mutex::new(Ledger::default());
    let start = Barrier::new(16);
    let (admitted, refunded, turn) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let check = |engine: &PlanEngine| loop {
        let input = request(b"k1", "a");
        for need in engine.leases().take_prefetches() {
            let granted = ledger.lock().lease(1, &need);
            engine.leases().apply_lease(&need, &granted, now);
        }
        match engine.check_or_need(catalog, &input, Shortage::Ask, now).unwrap() {
            Checked::Decided(decision) => return decision.receipt,
            Checked::Needs(needs) => needs.iter().for_each(|need| {
                let granted = ledger.lock().lease(1, need);
                engine.leases().apply_lease(need, &granted, now);
            }),
        }
    };
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                // Others may be admitted and refunded between the two.
                while admitted
                    .load(Ordering::SeqCst)
                    .saturating_sub(refunded.load(Ordering::SeqCst))
                    < 1000
                {
                    let Some(receipt) = check(engine) else { continue };
                    admitted.fetch_add(1, Ordering::SeqCst);
                    if turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
                        let report = Report {
                            subject: ReportSubject::Receipt(receipt.as_bytes()),
                            outcome: Outcome::http(503),
                            cost: None,
                        };
                        let Settled::Commit(correction) =
                            PlanEngine::settle(engine, catalog, &report, now)
                        else {
                            panic!("not to commit")
                        };
                        let committed = ledger.lock().commit(&correction);
                        refunded.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(
                            engine.apply_correction(&correction, &committed, now),
                            Settlement::Refunded
                        );
                    }
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::SeqCst) - refunded.load(Ordering::SeqCst), 1000);
    assert_eq!(check(engine), None);
    engine.leases().put_away().iter().for_each(|back| ledger.lock().give_back(1, back));
    assert_eq!(ledger.lock().rows.values().next().map(|kept| kept.charged), Some(1000));
    assert_eq!(site.world.used("acme", QUOTA), 1000);
}
