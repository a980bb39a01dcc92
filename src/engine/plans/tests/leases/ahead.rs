//! When more is asked for than one check takes, and what is asked about before a refusal.

use super::*;

#[test]
fn more_is_asked_for_at_a_quarter_of_a_lease_or_at_once_at_a_half_where_it_may_not_be_as_large_as_the_pace()
 {
    for limit in [300, 2_000, 1_000_000] {
        let site = &mut Site::new(&format!("{limit} day"));
        let needs = site.needs(None);
        site.lease(&needs[0]);
        let mut leased = 2;
        for spent in 1..=200_u64 {
            assert!(site.decided(None).verdict.is_allowed());
            let bound = spent.min(limit / 100).min((limit - spent) / 8).max(2);
            let (urgent, left) =
                if spent > bound { (true, bound.div_ceil(2)) } else { (false, bound.div_ceil(4)) };
            let low = leased - spent < left;
            assert_eq!(
                site.world.engine.leases().has_urgent_prefetches(),
                low && urgent,
                "{spent} of {limit} spent, {leased} leased"
            );
            let needs = site.world.engine.leases().take_prefetches();
            assert_eq!(needs.len(), usize::from(low), "{spent} of {limit} spent, {leased} leased");
            for need in needs {
                assert_eq!(need.want, (spent + bound).min(limit));
                site.lease(&need);
                leased = need.want;
            }
        }
    }
}

#[test]
fn the_ledger_may_know_a_grant_in_a_period_that_it_never_told_of() {
    let site = &mut Site::new("1 day");
    assert!(site.admits());
    site.ledger.rows.values_mut().for_each(|kept| kept.granted = 3);
    let then = site.now().unix_ns;
    // A start in the next period takes over that one alone; then the wall clock steps back.
    site.world.wait(DAY_NS);
    site.crash();
    assert!(site.admits());
    site.world.now.unix_ns = then;
    assert_eq!(site.needs(Some(4))[0].want, 0, "nothing is leased for what may be refused");
    assert_eq!(site.check(Some(4)).verdict.reason(), Some(Reason::QuotaExceeded));
    assert!(site.check(Some(3)).verdict.is_allowed());
    // Known now: refused from memory.
    let asked = site.ledger.asked;
    assert_eq!(site.decided(None).verdict.reason(), Some(Reason::QuotaExceeded));
    assert_eq!(site.ledger.asked, asked);
}
