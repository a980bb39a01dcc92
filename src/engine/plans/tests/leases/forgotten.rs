//! Periods that are over leave memory, and go on from the ledger where the clock steps back into them.

use super::site::Site;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::Reason;
use crate::engine::plans::Scope;
use crate::engine::plans::lease::{Checked, Granted, Shortage};

/// The clock comes to an instant, and then two sweeps, with the give-backs of the first between them.
fn swept(site: &mut Site, unix_ns: u64) {
    site.world.wait(unix_ns - site.now().unix_ns);
    for _ in 0..2 {
        site.world.engine.sweep(site.now());
        let ended = site.world.engine.take_ended();
        site.give_back(&ended);
    }
}

/// What the engine itself still counts.
fn remembered(site: &Site) -> usize {
    site.world.engine.quota_usage(&site.world.catalog, Scope::All, 0, u64::MAX).len()
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
    let not_known: [fn(&mut Site); 4] = [
        // Admitted without a lease.
        |site| (0..5).for_each(|_| assert!(matches!(site.ask("k1", None, Shortage::Allow), Checked::Decided(_)))),
        // What became of a question is not known.
        |site| site.world.engine.lease_failed(&site.needs(Some(5))[0]),
        // A give-back is on its way.
        |site| drop(site.world.engine.take_back(Scope::All)),
        // What became of a give-back is not known.
        |site| site.world.engine.take_back(Scope::All).into_iter().for_each(|back| site.world.engine.give_back_failed(back)),
    ];
    for act in not_known {
        let site = &mut Site::new("100 minute");
        assert!(site.admits());
        act(site);
        site.world.wait(3600 * SECOND_NS);
        for _ in 0..3 {
            site.world.engine.sweep(site.now());
            site.world.engine.take_ended().into_iter().for_each(|back| site.world.engine.give_back_failed(back));
        }
        assert_eq!(remembered(site), 1);
    }
}

#[test]
fn what_was_leased_without_an_answer_is_given_back_before_its_period_is_forgotten() {
    let site = &mut Site::new("2 minute");
    // The answer to the first question comes last, and knows nothing of the second.
    let balance = site.needs(Some(3));
    let told = site.ledger.lease(1, &balance[0]);
    let lost = site.needs(None);
    site.ledger.lease(1, &lost[0]);
    site.world.engine.lease_failed(&lost[0]);
    site.world.engine.apply_lease(&balance[0], &told, site.now());
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
    site.world.engine.apply_lease(&late[0], &granted, site.now());
    assert_eq!(granted.leased, 11);
    let then = site.now().unix_ns;
    swept(site, then + 3600 * SECOND_NS);
    assert_eq!((remembered(site), site.charged()), (0, 1));
    // Into the forgotten period, and into what goes on of it.
    site.world.engine.apply_lease(&late[0], &granted, site.now());
    assert_eq!(remembered(site), 0);
    site.world.now.unix_ns = then;
    let balance = site.needs(None);
    assert_eq!((balance[0].want, balance[0].spent), (0, 0));
    site.world.engine.apply_lease(&late[0], &granted, site.now());
    assert_eq!(site.needs(None)[0].want, 0, "an answer of before was taken for what was spent");
    site.lease(&balance[0]);
    site.world.engine.apply_lease(&late[0], &granted, site.now());
    assert_eq!((site.needs(None)[0].want, site.needs(None)[0].spent), (3, 1), "units that were given back were spent");
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
    assert!(site.world.engine.take_back(Scope::All).is_empty() && site.world.engine.give_backs().is_empty());
    site.lease(&balance[0]);
    assert_eq!((0..100).filter(|_| site.admits()).count(), 93);
}

#[test]
fn an_entry_that_was_dropped_goes_on_from_the_ledger_and_has_nothing_left_where_that_dropped_it_too() {
    let site = &mut Site::new("100 hour");
    assert!(site.admits());
    let then = site.now().unix_ns;
    site.world.wait(60 * 3600 * SECOND_NS);
    let ended = |site: &mut Site| {
        site.world.engine.sweep(site.now());
        let ended = site.world.engine.take_ended();
        site.give_back(&ended);
    };
    ended(site);
    assert_eq!(site.world.engine.live_entries(), 0);
    assert!(site.admits());
    // The wall clock steps back by days.
    site.world.now.unix_ns = then;
    assert!(site.admits());
    assert_eq!(site.used(), 2);
    site.world.wait(60 * 3600 * SECOND_NS);
    ended(site);
    site.world.now.unix_ns = then;
    let need = site.needs(None).remove(0);
    let dropped = Granted { counter: 1, rule: 0, leased: 0, spent: 0, charged: i64::MAX as u64, granted: 0 };
    site.world.engine.apply_lease(&need, &dropped, site.now());
    assert_eq!(site.decided(None).verdict.reason(), Some(Reason::QuotaExceeded));
}
