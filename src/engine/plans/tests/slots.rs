//! The counts of an entry: by which numbers a ledger finds them, and which makes room for another.

use std::sync::Arc;

use super::leases::site::Site;
use crate::decide::calendar::Period;
use crate::decide::compiled::QuotaIdentity;
use crate::decide::ledger::{CounterId, Lease};
use crate::decide::plan::{PeriodUnit, Weekday};
use crate::decide::quota::{KEEP_NS, Row};
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::leases::{LeaseBook, Slot, State};

#[test]
fn a_number_that_the_ledger_gave_before_keeps_no_entry() {
    let site = &mut Site::new("100 minute");
    assert!(site.admits());
    assert!(site.world.engine.leases.books.by_counter(1).is_some());
    // It has dropped the counter since, and made it anew.
    let need = &site.needs(Some(5))[0];
    let lease = Lease { counter: CounterId(77), ..site.ledger.lease(1, need) };
    site.world.engine.leases().apply_lease(need, &lease, site.now());
    let found = |site: &Site| {
        [1, 77].map(|number| site.world.engine.leases.books.by_counter(number).is_some())
    };
    assert_eq!(found(site), [false, true]);
    site.world.engine.leases().apply_lease(need, &lease, site.now());
    assert_eq!(found(site), [false, true], "the same answer again");
    site.world.wait(2 * KEEP_NS);
    for _ in 0..2 {
        site.sweep(LeaseBook::gave_back);
    }
    assert_eq!((found(site), site.world.engine.leases().live_entries()), ([false, false], 0));
}

const END_NS: u64 = 100 * SECOND_NS;
const OLD: Now = Now { unix_ns: END_NS + KEEP_NS, steady_ns: 0 };

fn identity(number: usize) -> Arc<QuotaIdentity> {
    let name = format!("q{number}").into();
    Arc::new(QuotaIdentity {
        name,
        unit: PeriodUnit::Day,
        time_zone: "UTC".into(),
        week_start: Weekday::Monday,
    })
}

/// An entry with as many counts as it may have, of which some have counted a unit.
fn full(counted: &[usize]) -> State<()> {
    let mut state = State::default();
    for number in 0..1024 {
        assert_eq!(state.slot(&identity(number), OLD, 0), Some(number));
    }
    for &place in counted {
        let Slot { count, leases, .. } = &mut state.quotas[place];
        let period = Period { start_ns: 0, end_ns: END_NS };
        count.charge(&Row { period, used: 0, granted: 0 }, 1, 0, KEEP_NS);
        leases.hold(period, 0, count).spend(1);
    }
    state
}

#[test]
fn an_entry_that_is_full_of_counts_lets_go_of_one_that_is_over() {
    let mut state = full(&[3, 7]);
    let before = Now { unix_ns: OLD.unix_ns - 1, ..OLD };
    assert_eq!(state.slot(&identity(3), before, 0), Some(3));
    assert_eq!(state.slot(&identity(2000), before, 0), None);
    assert_eq!((state.slot(&identity(2000), OLD, 0), state.floor_ns()), (Some(3), END_NS));
    // The one that was just made may be of the same request.
    assert_eq!(state.slot(&identity(2001), OLD, 0), Some(7));
    assert_eq!(state.slot(&identity(2002), OLD, 0), None);
    assert_eq!(
        (state.slot(&identity(2000), OLD, 0), state.slot(&identity(2001), OLD, 0)),
        (Some(3), Some(7))
    );
}

#[test]
fn a_count_that_the_ledger_does_not_know_all_of_makes_no_room() {
    let mut state = full(&[3, 7]);
    state.quotas[3].leases.counter = 1;
    assert_eq!(state.slot(&identity(2000), OLD, 0), Some(7));
    assert_eq!(state.slot(&identity(2001), OLD, 0), None);
}
