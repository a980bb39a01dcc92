//! Deciding allocates nothing but what is handed out: counted, by the allocator of this binary, for
//! the thread that decides.

use allocation_counter::measure;
use tollgate::catalog::{CatalogStore, EditOptions, HashKey, NewValue};
use tollgate::decide::ledger::{Balance, CounterId, Lease};
use tollgate::decide::plan::{About, ApiKey, Dates, LastFour, Plan, Subscriber};
use tollgate::decide::time::{Now, SECOND_NS};
use tollgate::engine::plans::{CheckInput, Checked, PlanEngine, Settings, Shortage};
use tollgate::engine::rules::RuleEngine;
use tollgate::engine::rules::decision::{Descriptor, Modes};
use tollgate::rules::{LoadOptions, Source, load};
use tollgate::testkit::declared::{self, request};
use tollgate::testkit::plans::AsksPlans;

const NOW: Now = Now { unix_ns: 1_795_341_600 * SECOND_NS, steady_ns: SECOND_NS };

const PLANS: &str = "{plans: [{id: gold, entitlements: [
    {name: rate, targets: [rate], rateLimit: {requestsPerSecond: 1000000}},
    {name: all, targets: [all], rateLimit: {requestsPerSecond: 1000000},
     methodRateLimits: [{method: GET, path: '/orders/{id}', requestsPerSecond: 1000000, replacesGeneral: false}],
     quotas: [{name: daily, limit: 1000000, unit: DAY}, {name: monthly, limit: 1000000, unit: MONTH, timeZone: Asia/Seoul}]}]}],
  subscribers: [{id: acme, plans: [gold], keys: [{id: k, value: a-value-of-twenty-characters}]}]}";

#[test]
fn an_admitting_check_allocates_its_receipt_and_nothing_else() {
    let catalog = declared::catalog(PLANS, NOW);
    for (target, receipts) in [("rate", 0), ("all", 1)] {
        let engine = PlanEngine::new(Settings::new([7; 32], [9; 16]));
        let request = CheckInput {
            method: b"GET",
            path: b"/orders/17?a=b",
            ..request(b"a-value-of-twenty-characters", target)
        };
        // The first checks make the counters, and ask for units.
        let mut counters = 0;
        loop {
            match engine.check_or_need(&**catalog.load(), &request, Shortage::Ask, NOW).unwrap() {
                Checked::Decided(_) => break,
                Checked::Needs(needs) => {
                    for need in needs {
                        counters += 1;
                        let balance = Balance { charged: 500_000, ..Balance::default() };
                        let counter = CounterId(counters);
                        let lease = Lease { counter, rule: 0, leased: 500_000, spent: 0, balance };
                        engine.leases().apply_lease(&need, &lease, NOW);
                    }
                }
            }
        }
        let snapshot = catalog.snapshot();
        let mut admitted = None;
        let counted = measure(|| {
            admitted = Some(engine.check_or_need(&*snapshot, &request, Shortage::Ask, NOW))
        });
        let Some(Ok(Checked::Decided(decision))) = admitted else {
            panic!("undecided: {admitted:?}")
        };
        assert!(decision.verdict.is_allowed(), "{decision:?}");
        assert_eq!(decision.limits.len(), if target == "all" { 4 } else { 1 });
        assert_eq!(decision.receipt.iter().count(), receipts);
        assert_eq!(counted.count_total, decision.receipt.iter().count() as u64, "{target}");
        // The text itself, without room to spare.
        assert_eq!(
            counted.bytes_total,
            decision.receipt.map_or(0, |receipt| receipt.len() as u64),
            "{target}"
        );
    }
}

#[test]
fn a_rules_decision_allocates_nothing() {
    let text = "domain: d
descriptors:
- key: api_key
  rate_limit: {unit: hour, requests_per_unit: 3}
- key: bucket
  rate_limit: {unit: second, requests_per_unit: 3, algorithm: token_bucket, burst: 3}
- key: tenant
  descriptors:
  - {key: path, value: /a*, rate_limit: {unit: day, requests_per_unit: 3}}
";
    let loaded = load(
        &[Source { name: "rules.yaml".to_owned(), text: text.to_owned() }],
        &LoadOptions::default(),
    );
    let rules = loaded.unwrap().rules;
    let engine = RuleEngine::new(1_000).unwrap();
    let entries: [&[(&[u8], &[u8])]; 3] = [
        &[(b"api_key", b"a-value")],
        &[(b"bucket", b"another")],
        &[(b"tenant", b"acme"), (b"path", b"/a/very/long/path")],
    ];
    let descriptor = |entries: &[(&'static [u8], &'static [u8])]| Descriptor {
        entries: entries.iter().copied().collect(),
        limit_override: None,
        hits: 1,
        negative: false,
    };
    let descriptors = entries.map(descriptor);
    // The first makes the counters; the last ones are refused.
    for call in 0..5 {
        let mut over = None;
        let counted = measure(|| {
            over = Some(engine.decide(&rules, b"d", &descriptors, Modes::default(), NOW).over_limit)
        });
        assert_eq!(over, Some(call >= 3));
        assert!(call == 0 || counted.count_total == 0, "call {call}: {counted:?}");
    }
}

/// With ids of 24 bytes, and an API key each. Of a million every hundred bytes are 100 MB.
#[test]
fn a_customer_takes_few_bytes_of_the_catalog() {
    const CUSTOMERS: i64 = 4_000;
    const AT_ONCE: usize = 500;
    let catalog = CatalogStore::new(HashKey([7; 32]), None);
    let plan = Plan { id: "gold".into(), about: About::default(), entitlements: Vec::new() };
    catalog.edit(EditOptions::default(), NOW, |draft| draft.create_plan(plan)).unwrap();
    let add = |first: i64, with_keys: bool| {
        let counted = measure(|| {
            let edited = catalog.edit(EditOptions::default(), NOW, |draft| {
                for number in (first..).take(AT_ONCE) {
                    let id = format!("of-a-test-and-{number:010}");
                    let subscriber = Subscriber {
                        id: id.as_str().into(),
                        plans: vec!["gold".into()].into(),
                        about: About::default(),
                    };
                    if !with_keys {
                        draft.create_subscriber(subscriber)?;
                        continue;
                    }
                    let key = ApiKey {
                        id: id.as_str().into(),
                        subscriber: id.as_str().into(),
                        about: About::default(),
                        enabled: true,
                        dates: Dates::default().into(),
                        last_four: LastFour::default(),
                    };
                    draft.create_key(key, NewValue::Given(&id))?;
                }
                Ok(())
            });
            drop(edited.unwrap());
        });
        counted.bytes_current
    };
    let all = |with_keys| {
        let bytes: i64 = (0..CUSTOMERS).step_by(AT_ONCE).map(|first| add(first, with_keys)).sum();
        bytes / CUSTOMERS
    };
    let (subscriber, key) = (all(false), all(true));
    // A record of 80 bytes, its id, and its places in two trees.
    assert!((120..=200).contains(&subscriber), "{subscriber} bytes for a subscriber");
    // A record of 128 bytes, its id, and its places in two trees and in the map of values.
    assert!((168..=340).contains(&key), "{key} bytes for an API key");
}
