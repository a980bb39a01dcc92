//! Bounds, books and statistics.

use super::world::{START_S, World, request, settings};
use crate::decide::ledger::Scope;
use crate::decide::outcome::{Class, Ending, Outcome};
use crate::decide::plan::Id;
use crate::decide::quota::Grant;
use crate::decide::resolve::{Call, Resolution, resolve};
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, Reason, Verdict};
use crate::engine::plans::{
    CheckInput, EntryHandle, GrantError, InvalidRequest, Settings, Settlement, Shortage, Subject,
};

const DAY_NS: u64 = 86_400 * SECOND_NS;
const DECLARED: &str = "
    target a
    plan gold
      ent all a
      quota q 3 day
    sub acme gold
    sub other gold
    key k1 acme
    key k2 other";

fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    let mut world = World::with(settings);
    world.run(DECLARED).unwrap();
    world
}

fn world() -> World {
    world_with(|_| {})
}

#[test]
fn at_the_bound_of_entries_fresh_subjects_are_refused_and_live_ones_go_on() {
    let mut world = world_with(|settings| settings.max_entries = 1);
    world.run("check k1 a -> ALLOW\ncheck k2 a -> LEDGER_UNAVAILABLE http=503 after=1s\ncheck k1 a -> ALLOW left:q=1").unwrap();
    assert_eq!(
        (world.engine.leases().live_entries(), world.engine.leases().entries_refused()),
        (1, 1)
    );
}

#[test]
fn an_entry_is_swept_once_its_books_are_old_by_both_clocks() {
    let mut world = world();
    world.run("check k1 a -> ALLOW\nat 2026-12-31T00:00:00Z\nsweep\nat 2026-11-22T10:00:00Z\ncheck k1 a -> ALLOW left:q=1").unwrap();
    world.wait(48 * 3600 * SECOND_NS - 1);
    // What was not spent goes back, and the period is forgotten.
    for _ in 0..2 {
        world.engine.sweep(world.now);
    }
    assert_eq!(world.engine.leases().live_entries(), 1);
    world.wait(1);
    world.engine.sweep(world.now);
    assert_eq!(world.engine.leases().live_entries(), 0);
    world.run("check k1 a -> ALLOW left:q=2").unwrap();
}

const RATED: &str = "target a rate=1/2\nplan gold\n ent all a rate=1/1\nsub acme gold\nkey k1 acme\ncheck k1 a -> ALLOW";

#[test]
fn an_entry_of_rates_alone_is_swept_a_minute_after_its_last_request() {
    let mut world = World::new();
    world
        .run(&format!("{RATED}\nwait 59s\nsweep\ncheck k1 a -> ALLOW\nwait 60s-1ns\nsweep"))
        .unwrap();
    assert_eq!(world.engine.leases().live_entries(), 1, "it is full long since");
    world.run("wait 1ns\nsweep").unwrap();
    assert_eq!(world.engine.leases().live_entries(), 0);
}

#[test]
fn where_more_than_half_is_full_it_is_swept_once_its_buckets_are_full() {
    let mut half = World::with(Settings { max_entries: 2, ..settings() });
    half.run(&format!("{RATED}\nwait 60s-1ns\nsweep")).unwrap();
    assert_eq!(half.engine.leases().live_entries(), 1);
    let mut world = World::with(Settings { max_entries: 1, ..settings() });
    world.run(&format!("{RATED}\nwait 1s-1ns\nsweep")).unwrap();
    assert_eq!(world.engine.leases().live_entries(), 1);
    world.run("check k1 a -> RATE_EXCEEDED\nwait 1ns\nsweep").unwrap();
    assert_eq!(world.engine.leases().live_entries(), 0);
}

#[test]
fn at_the_bound_of_operations_the_oldest_is_forgotten() {
    let mut world = world_with(|settings| settings.max_operations = 1);
    world.run("check k1 a op=1 -> ALLOW left:q=2\ncheck k1 a op=2 -> ALLOW left:q=1\ncheck k1 a op=2 -> ALLOW left:q=1").unwrap();
    assert_eq!((world.engine.live_operations(), world.engine.operations_forgotten()), (1, 1));
    world.run("check k1 a op=1 -> ALLOW left:q=0\nwait 60s\nsweep").unwrap();
    assert_eq!(world.engine.live_operations(), 0);
}

#[test]
fn denials_leave_no_operation_behind() {
    let mut world = world();
    world
        .run("check k1 a cost=4 op=1 -> QUOTA_EXCEEDED\ncheck k9 a op=1 -> API_KEY_UNKNOWN")
        .unwrap();
    assert_eq!(world.engine.live_operations(), 0);
}

#[test]
fn an_operation_id_has_at_most_128_bytes() {
    let world = world();
    let ask = |length: usize| {
        let id = vec![b'x'; length];
        let input = CheckInput {
            api_key: b"k1",
            target: "a",
            method: b"",
            path: b"",
            cost: None,
            operation_id: &id,
        };
        world.engine.check(&world.catalog, &input, world.now).map(|decision| decision.verdict)
    };
    assert_eq!(ask(128), Ok(Verdict::Allow { over_quota: false }));
    assert_eq!(ask(129), Err(InvalidRequest::OperationIdTooLong));
}

#[test]
fn at_the_bound_of_marks_the_ledger_knows_what_was_corrected() {
    let world = world_with(|settings| settings.max_mark_rows = 0);
    let receipt = world.check("k1", "a", None).receipt.unwrap();
    assert_eq!(world.report(&receipt, Outcome::http(503), None), Settlement::Refunded);
    assert_eq!(world.report(&receipt, Outcome::http(503), None), Settlement::Duplicate);
    assert_eq!(world.used("acme", "gold/all/q"), 0);
    assert_eq!((world.engine.mark_rows(), world.engine.marks_refused()), (0, 2));
}

#[test]
fn marks_are_dropped_once_their_receipts_have_expired() {
    let mut world = world();
    let first = world.check("k1", "a", None).receipt.unwrap();
    assert_eq!(world.report(&first, Outcome::http(503), None), Settlement::Refunded);
    world.wait(3600 * SECOND_NS - 1);
    world.engine.sweep(world.now);
    assert_eq!(world.engine.mark_rows(), 1);
    world.wait(2000);
    world.engine.sweep(world.now);
    assert_eq!(world.engine.mark_rows(), 0);
    // The wall clock steps back: the receipt looks young again, and is not good again.
    world.now.unix_ns = START_S * SECOND_NS;
    assert_eq!(world.report(&first, Outcome::http(503), None), Settlement::Expired);
    assert_eq!(world.engine.expired_units(), 1);
    assert_eq!(world.used("acme", "gold/all/q"), 0);
}

#[test]
fn a_receipt_under_another_key_changes_nothing() {
    let receipt = world().check("k1", "a", Some(2)).receipt.unwrap();
    let other_key = world_with(|settings| settings.receipt_key = [8; 32]);
    let _ = other_key.check("k1", "a", Some(2));
    assert_eq!(other_key.report(&receipt, Outcome::http(503), None), Settlement::Invalid);
    assert_eq!(other_key.engine.invalid_reports(), 1);
    assert_eq!(other_key.used("acme", "gold/all/q"), 2);
}

#[test]
fn the_ttl_of_receipts_can_be_days() {
    let mut world = world_with(|settings| settings.receipts_ttl_ns = 7 * DAY_NS);
    let receipt = world.check("k1", "a", None).receipt.unwrap();
    for day in 1..7 {
        world.wait(DAY_NS);
        world
            .run("check k1 a -> ALLOW left:q=2\nsweep")
            .unwrap_or_else(|wrong| panic!("day {day}: {wrong}"));
    }
    world.wait(DAY_NS - 1000);
    assert_eq!(world.report(&receipt, Outcome::http(503), None), Settlement::Refunded);
    assert_eq!(world.engine.dropped_settlements(), 0);
    world.now.unix_ns = START_S * SECOND_NS;
    world.run("check k1 a cost=0 -> ALLOW left:q=3").unwrap();
}

#[test]
fn statistics_count_by_day_and_never_by_names_that_callers_make_up() {
    let mut world = world();
    world
        .run("check k1 a as=r1 -> ALLOW\ncheck k1 a as=r2 -> ALLOW\ncheck k1 a cost=9 -> QUOTA_EXCEEDED\ncheck k1 made-up-1 -> NOT_SUBSCRIBED\n\
              check k1 made-up-2 -> NOT_SUBSCRIBED\ncheck k9 a -> API_KEY_UNKNOWN\nreport r1 503 -> REFUNDED\nreport r2 200 -> COUNTED\n\
              report r1 503 -> DUPLICATE\ncheck k1 a cost=0 -> ALLOW\ncheck k2 a -> ALLOW\nwait 24h\ncheck k1 a -> ALLOW")
        .unwrap();
    let today = START_S / 86_400;
    let rows = world.engine.daily_usage(&Scope::Subscriber("acme".into()), today, today);
    let names = |place: usize| {
        let of = &rows[place].of;
        (&*of.key, &*of.plan, &*of.entitlement, &*of.target)
    };
    assert_eq!(rows.len(), 2);
    assert_eq!(names(0), ("k1", "", "", ""));
    assert_eq!(rows[0].counts.refused_for(Reason::NotSubscribed), 2);
    assert_eq!(names(1), ("k1", "gold", "all", "a"));
    assert_eq!(
        (rows[1].counts.admitted, rows[1].counts.refused_for(Reason::QuotaExceeded)),
        (2, 1)
    );
    assert_eq!(
        (rows[1].counts.ended_in(Class::Success), rows[1].counts.ended_in(Class::TargetError)),
        (1, 1)
    );
    assert_eq!(world.engine.daily_usage(&Scope::All, today, today + 1).len(), 4);
    assert_eq!(world.engine.daily_usage(&Scope::Key("k2".into()), 0, u64::MAX).len(), 1);
    assert_eq!(world.engine.daily_usage(&Scope::Plan("gold".into()), 0, u64::MAX).len(), 3);
    world.wait(2 * DAY_NS);
    world.engine.sweep(world.now);
    assert_eq!(world.engine.usage_rows(), 4, "nothing was written yet");
    world.engine.write();
    world.engine.sweep(world.now);
    assert_eq!(world.engine.usage_rows(), 0);
}

#[test]
fn statistics_are_bounded_and_feed_no_decision() {
    let mut world = world_with(|settings| settings.max_usage_rows = 0);
    world.run("check k1 a as=r1 -> ALLOW\nreport r1 503 -> REFUNDED").unwrap();
    assert_eq!((world.engine.usage_rows(), world.engine.usage_dropped()), (0, 2));
}

#[test]
fn without_room_for_names_receipts_settle_all_the_same() {
    let mut world = world_with(|settings| settings.max_names = 0);
    world
        .run("check k1 a as=r1 -> ALLOW\nreport r1 503 -> REFUNDED\nused acme gold/all/q 0")
        .unwrap();
    let rows = world.engine.daily_usage(&Scope::All, 0, u64::MAX);
    assert_eq!((rows.len(), rows[0].counts.ended_in(Class::TargetError)), (1, 0));
}

#[test]
fn books_are_listed_by_scope_and_time() {
    let mut world = world();
    world.run("plan by-key\n ent all b key\n quota q 3 hour\nsub acme gold,by-key\ncheck k1 a -> ALLOW\ncheck k1 b -> ALLOW\ncheck k2 a -> ALLOW").unwrap();
    let list = |scope| {
        let rows = world.engine.quota_usage(&world.catalog, &scope, 0..u64::MAX, ("", None));
        rows.iter()
            .map(|row| {
                format!("{}/{}/{}", row.subscriber, row.key.as_deref().unwrap_or("-"), row.plan)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(list(Scope::All), ["acme/-/gold", "acme/k1/by-key", "other/-/gold"]);
    assert_eq!(list(Scope::Subscriber("acme".into())), ["acme/-/gold", "acme/k1/by-key"]);
    assert_eq!(list(Scope::Key("k1".into())), ["acme/k1/by-key"]);
    assert_eq!(list(Scope::Plan("gold".into())), ["acme/-/gold", "other/-/gold"]);
    let end = (START_S + 14 * 3600) * SECOND_NS;
    let after = |from| {
        world
            .engine
            .quota_usage(&world.catalog, &Scope::Plan("gold".into()), from..u64::MAX, ("", None))
            .len()
    };
    assert_eq!((after(end - 1), after(end)), (2, 0));
    world.run("drop plan gold").unwrap();
    let gone = &world.engine.quota_usage(
        &world.catalog,
        &Scope::Plan("gold".into()),
        0..u64::MAX,
        ("", None),
    )[0];
    assert_eq!((gone.limit, gone.row.used, gone.remaining()), (None, 1, 0));
}

#[test]
fn a_grant_names_its_counter_or_says_what_is_wrong() {
    let mut world = world();
    world.run("plan by-key\n ent all b key\n quota q 3 hour").unwrap();
    let (acme, key) = (Id::from("acme"), Id::from("k1"));
    let by_key = Subject::Key { subscriber: &acme, key: &key };
    let grant = |subject, names| {
        world.engine.grant(&world.catalog, subject, names, Grant::Add(1), world.now)
    };
    let subscriber = Subject::Subscriber(&acme);
    assert_eq!(grant(subscriber, ("x", "all", "q")), Err(GrantError::NoPlan("x".to_owned())));
    assert_eq!(
        grant(subscriber, ("gold", "x", "q")),
        Err(GrantError::NoEntitlement("x".to_owned()))
    );
    assert_eq!(grant(subscriber, ("gold", "all", "x")), Err(GrantError::NoQuota("x".to_owned())));
    assert_eq!(grant(subscriber, ("by-key", "all", "q")), Err(GrantError::CountsByKey));
    assert_eq!(grant(by_key, ("gold", "all", "q")), Err(GrantError::CountsBySubscriber));
    let granted = grant(by_key, ("by-key", "all", "q")).unwrap();
    assert_eq!((granted.limit, granted.row.granted, granted.remaining()), (Some(3), 1, 4));
}

#[test]
fn receipts_keep_within_their_lengths() {
    let mut world = World::new();
    let quotas = |count: usize| {
        (0..count).map(|number| format!(" quota q{number} 9 year\n")).collect::<String>()
    };
    for (count, longest) in [(1, 160), (4, 160), (16, 400)] {
        world
            .run(&format!(
                "plan p{count}\n ent all a\n{}sub acme p{count}\nkey k1 acme",
                quotas(count)
            ))
            .unwrap();
        let receipt = world.check("k1", "a", None).receipt.unwrap();
        assert!(receipt.len() <= longest, "{count} quotas: {}", receipt.len());
        assert_eq!(
            world.report(&receipt, Outcome::of(Ending::NoResponse), None),
            Settlement::Refunded
        );
    }
}

#[test]
fn a_handle_of_counters_that_a_sweep_dropped_is_given_up() {
    let mut world = World::new();
    world.run("plan gold\n ent all a rate=1/5\nsub acme gold\nkey k1 acme").unwrap();
    let input = request(b"k1", "a");
    let call = Call { api_key: b"k1", target: "a", method: b"", path: b"" };
    let is_admitted = |world: &World, handle: Option<&mut EntryHandle>| {
        let Resolution::Covered(covered) = resolve(&world.catalog, &call, world.now) else {
            panic!("not covered")
        };
        let mut decision = Decision::refused(Reason::InvalidRequest, None);
        let known = handle.map(|handle| (covered, handle));
        let needs = world
            .engine
            .check_into(&world.catalog, known, &input, Shortage::Deny, world.now, &mut decision)
            .unwrap();
        assert!(needs.is_none());
        decision.verdict.is_allowed()
    };
    let mut handle = EntryHandle::default();
    assert!(is_admitted(&world, Some(&mut handle)));
    // The bucket is full again, and is forgotten.
    world.run("wait 60s").unwrap();
    world.engine.sweep(world.now);
    // By the handle and without it: one bucket.
    let admitted =
        (0..10).filter(|turn| is_admitted(&world, (turn % 2 == 0).then_some(&mut handle))).count();
    assert_eq!(admitted, 5);
}
