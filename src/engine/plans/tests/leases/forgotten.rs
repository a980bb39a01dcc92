//! Periods that are over leave memory, and go on from the ledger where the clock steps back into
//! them.

use super::site::Site;
use crate::decide::ledger::{Balance, CounterId, Lease, Scope};
use crate::decide::outcome::Outcome;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::Reason;
use crate::engine::leases::LeaseBook;
use crate::engine::plans::PlanEngine;
use crate::engine::plans::settle::Settled;
use crate::engine::plans::{Checked, Shortage};
use crate::engine::plans::{LeaseSettings, Settlement};
use crate::testkit::plans::AsksPlans;

/// The clock comes to an instant, and then two sweeps, with the give-backs of the first between
/// them.
fn swept(site: &mut Site, unix_ns: u64) {
    site.world.wait(unix_ns - site.now().unix_ns);
    for _ in 0..2 {
        PlanEngine::sweep(&site.world.engine, site.now());
        let ended = site.world.engine.leases().take_ended();
        site.give_back(&ended);
    }
}

/// What the engine itself still counts.
fn remembered(site: &Site) -> usize {
    site.world.engine.quota_usage(&site.world.catalog, &Scope::All, 0..u64::MAX, ("", None)).len()
}

#[test]
fn a_period_is_forgotten_a_minute_after_its_end_and_goes_on_where_the_clock_steps_back_into_it() {
    for (limit, spent) in [(100, 5), (100, 100), (3, 1)] {
        let site = &mut Site::new(&format!("{limit} minute"));
        (0..spent).for_each(|_| assert!(site.admits()));
        let (then, end_ns) = (site.now().unix_ns, site.row().period.end_ns);
        swept(site, end_ns + 60 * SECOND_NS - 1);
        assert_eq!(remembered(site), 1);
        swept(site, end_ns + 60 * SECOND_NS);
        assert_eq!((remembered(site), site.charged()), (0, spent));
        site.world.now.unix_ns = then;
        if spent == limit {
            // It must not be told by what is not known.
            assert_eq!(site.needs(Some(0))[0].want, 0);
        }
        assert_eq!(site.check(Some(0)).verdict.is_allowed(), spent < limit);
        assert_eq!((0..limit).filter(|_| site.admits()).count() as u64, limit - spent);
        assert_eq!((site.used(), site.charged()), (limit, limit));
    }
}

#[test]
fn however_many_periods_pass_the_last_ones_alone_are_remembered() {
    let site = &mut Site::new("100 minute");
    for _ in 0..200 {
        assert!(site.admits());
        let end_ns = site.row().period.end_ns;
        swept(site, end_ns + 61 * SECOND_NS);
        assert_eq!(remembered(site), 0);
    }
    assert_eq!(site.ledger.rows.values().map(|kept| kept.charged).collect::<Vec<_>>(), [1; 200]);
}

#[test]
fn a_period_of_which_the_ledger_does_not_know_all_is_not_forgotten() {
    type Act = fn(&mut Site);
    let not_known: [(Act, usize); 5] = [
        (|_| (), 0),
        // Admitted without a lease: more than the ledger was ever asked for.
        (
            |site| {
                (0..5).for_each(|_| {
                    assert!(matches!(site.ask("k1", None, Shortage::Allow), Checked::Decided(_)))
                })
            },
            1,
        ),
        // What became of a question is not known.
        (|site| site.world.engine.leases().lease_failed(&site.needs(Some(5))[0]), 0),
        // A give-back is on its way.
        (|site| drop(site.world.engine.take_back("gold")), 1),
        // What became of a give-back is not known.
        (
            |site| {
                site.world
                    .engine
                    .take_back("gold")
                    .into_iter()
                    .for_each(|back| site.world.engine.leases().give_back_failed(back))
            },
            0,
        ),
    ];
    for (place, (act, left)) in not_known.into_iter().enumerate() {
        let site = &mut Site::new("100 minute");
        assert!(site.admits());
        act(site);
        site.world.wait(3600 * SECOND_NS);
        for _ in 0..3 {
            site.sweep(LeaseBook::give_back_failed);
        }
        assert_eq!(remembered(site), 1, "{place}: no give-back was taken");
        for _ in 0..3 {
            PlanEngine::sweep(&site.world.engine, site.now());
            let ended = site.world.engine.leases().take_ended();
            // What was never leased the ledger cannot be told.
            if place != 1 {
                site.give_back(&ended);
            }
        }
        assert_eq!(remembered(site), left, "{place}: the ledger takes all that it can");
    }
}

#[test]
fn an_entry_is_kept_until_the_ledger_knows_what_was_spent_in_it() {
    let script = "plan gold\n ent all a\n quota q 1000 hour\nsub acme gold\nkey k1 acme";
    for max_ended in [0, 1] {
        let site = &mut Site::with(script, LeaseSettings { max_ended, ..LeaseSettings::default() });
        (0..46).for_each(|_| assert!(site.admits()));
        assert!(site.charged() > 46, "units are left");
        let then = site.now().unix_ns;
        // The clock leaps ahead by days for one sweep, and what that found does not reach the
        // ledger.
        site.world.wait(60 * 3600 * SECOND_NS);
        PlanEngine::sweep(&site.world.engine, site.now());
        let ended = site.world.engine.leases().take_ended();
        assert_eq!(ended.len(), max_ended);
        ended.into_iter().for_each(|back| site.world.engine.leases().give_back_failed(back));
        site.world.now.unix_ns = then;
        assert_eq!((0..2_000).filter(|_| site.admits()).count(), 1_000 - 46);
        assert_eq!((site.used(), site.charged()), (1_000, 1_000));
    }
}

#[test]
fn an_entry_goes_although_a_question_was_never_answered() {
    let site = &mut Site::new("1000 hour");
    assert!(site.admits());
    site.world.wait(3600 * SECOND_NS);
    drop(site.needs(None));
    let then = site.now().unix_ns;
    swept(site, then + 60 * 3600 * SECOND_NS);
    assert_eq!(site.world.engine.leases().live_entries(), 0);
}

#[test]
fn what_one_sweep_cannot_give_back_the_next_does() {
    let script = "plan gold\n ent all a\n quota q 9 minute\nsub s1 gold\nsub s2 gold\nsub s3 gold\nkey k1 s1\nkey k2 s2\nkey k3 s3";
    let site = &mut Site::with(script, LeaseSettings { max_ended: 2, ..LeaseSettings::default() });
    for key in ["k1", "k2", "k3"] {
        let Checked::Needs(needs) = site.ask(key, None, Shortage::Ask) else {
            panic!("nothing is leased yet")
        };
        needs.iter().for_each(|need| site.lease(need));
        assert!(matches!(site.ask(key, None, Shortage::Ask), Checked::Decided(_)));
    }
    site.world.wait(3600 * SECOND_NS);
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let is_more = PlanEngine::sweep(&site.world.engine, site.now());
        let ended = site.world.engine.leases().take_ended();
        site.give_back(&ended);
        rounds.push((is_more, ended.len()));
    }
    assert_eq!((rounds, remembered(site)), (vec![(true, 2), (false, 1), (false, 0)], 0));
}

#[test]
fn in_a_period_that_was_forgotten_not_even_units_without_a_lease_are_admitted() {
    let lease = LeaseSettings { optimistic_units: 2, ..LeaseSettings::default() };
    let site = &mut Site::with(
        "plan gold\n ent all a\n quota q 5 minute\nsub acme gold\nkey k1 acme",
        lease,
    );
    assert_eq!((0..9).filter(|_| site.admits()).count(), 5);
    let then = site.now().unix_ns;
    swept(site, then + 3600 * SECOND_NS);
    site.world.now.unix_ns = then;
    for cost in [None, Some(0)] {
        let Checked::Decided(decision) = site.ask("k1", cost, Shortage::Deny) else {
            panic!("asks")
        };
        assert_eq!(decision.verdict.reason(), Some(Reason::LedgerUnavailable));
    }
    assert!(!site.admits());
}

#[test]
fn a_report_on_its_way_beside_a_question_does_not_empty_a_period_that_was_forgotten() {
    let site = &mut Site::new("3 minute report");
    let receipts: Vec<String> = (0..4).map(|_| site.check(None).receipt.unwrap()).collect();
    for receipt in &receipts[..3] {
        assert_eq!(site.report(receipt, Outcome::http(200), None), Settlement::Counted);
    }
    let then = site.now().unix_ns;
    swept(site, then + 600 * SECOND_NS);
    assert_eq!((remembered(site), site.charged()), (0, 3));
    site.world.now.unix_ns = then;
    let Settled::Commit(correction) = site.settle(&receipts[3], Outcome::http(200), None) else {
        panic!("nothing to commit")
    };
    let question = site.needs(None).remove(0);
    let committed = site.ledger.commit(&correction);
    let granted = site.ledger.lease(1, &question);
    site.world.engine.apply_correction(&correction, &committed, site.now());
    site.world.engine.leases().apply_lease(&question, &granted, site.now());
    assert_eq!((site.used(), site.check(None).verdict.reason()), (4, Some(Reason::QuotaExceeded)));
}

#[test]
fn what_was_leased_without_an_answer_is_given_back_before_its_period_is_forgotten() {
    let site = &mut Site::new("2 minute");
    // The answer to the first question comes last, and knows nothing of the second.
    let balance = site.needs(Some(3));
    let told = site.ledger.lease(1, &balance[0]);
    let lost = site.needs(None);
    site.ledger.lease(1, &lost[0]);
    site.world.engine.leases().lease_failed(&lost[0]);
    site.world.engine.leases().apply_lease(&balance[0], &told, site.now());
    assert_eq!((balance[0].want, remembered(site), site.charged()), (0, 1, 2));
    let end_ns = site.row().period.end_ns;
    swept(site, end_ns + 60 * SECOND_NS);
    assert_eq!((remembered(site), site.charged()), (0, 0));
}

#[test]
fn an_answer_of_before_brings_nothing_into_a_period_that_was_forgotten() {
    let site = &mut Site::new("100 minute");
    assert!(site.admits());
    let late = site.needs(Some(10));
    let granted = site.ledger.lease(1, &late[0]);
    site.world.engine.leases().apply_lease(&late[0], &granted, site.now());
    assert_eq!(granted.leased, 11);
    let then = site.now().unix_ns;
    swept(site, then + 3600 * SECOND_NS);
    assert_eq!((remembered(site), site.charged()), (0, 1));
    // Into the forgotten period, and into what goes on of it.
    site.world.engine.leases().apply_lease(&late[0], &granted, site.now());
    assert_eq!(remembered(site), 0);
    site.world.now.unix_ns = then;
    let balance = site.needs(None);
    assert_eq!((balance[0].want, balance[0].spent), (0, 0));
    site.world.engine.leases().apply_lease(&late[0], &granted, site.now());
    assert_eq!(site.needs(None)[0].want, 0, "an answer of before was taken for what was spent");
    site.lease(&balance[0]);
    site.world.engine.leases().apply_lease(&late[0], &granted, site.now());
    assert_eq!(
        (site.needs(None)[0].want, site.needs(None)[0].spent),
        (3, 1),
        "units that were given back were spent"
    );
    assert_eq!((0..100).filter(|_| site.admits()).count(), 99);
    assert_eq!(site.charged(), 100);
}

#[test]
fn what_is_asked_about_a_forgotten_period_gives_nothing_back() {
    let site = &mut Site::new("100 minute");
    (0..7).for_each(|_| assert!(site.admits()));
    let then = site.now().unix_ns;
    swept(site, then + 3600 * SECOND_NS);
    site.world.now.unix_ns = then;
    let balance = site.needs(None);
    // An edit, and a clean stop: what was spent is not known yet.
    assert!(
        site.world.engine.take_back("gold").is_empty()
            && site.world.engine.leases().put_away().is_empty()
    );
    site.lease(&balance[0]);
    assert_eq!((0..100).filter(|_| site.admits()).count(), 93);
}

#[test]
fn an_entry_that_was_dropped_goes_on_from_the_ledger_and_has_nothing_left_where_that_dropped_it_too()
 {
    let site = &mut Site::new("100 hour");
    assert!(site.admits());
    let then = site.now().unix_ns;
    site.world.wait(60 * 3600 * SECOND_NS);
    let ended = |site: &mut Site| swept(site, site.now().unix_ns);
    ended(site);
    assert_eq!(site.world.engine.leases().live_entries(), 0);
    assert!(site.admits());
    // The wall clock steps back by days.
    site.world.now.unix_ns = then;
    assert!(site.admits());
    assert_eq!(site.used(), 2);
    site.world.wait(60 * 3600 * SECOND_NS);
    ended(site);
    site.world.now.unix_ns = then;
    let need = site.needs(None).remove(0);
    let balance = Balance { charged: i64::MAX as u64, ..Balance::default() };
    let dropped = Lease { counter: CounterId(1), rule: 0, leased: 0, spent: 0, balance };
    site.world.engine.leases().apply_lease(&need, &dropped, site.now());
    assert_eq!(site.decided(None).verdict.reason(), Some(Reason::QuotaExceeded));
}
