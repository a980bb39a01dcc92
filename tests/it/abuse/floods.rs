//! Floods of what nobody has seen before: API keys that do not exist, and fresh values of
//! descriptors.

use std::time::Instant;

use allocation_counter::measure;
use tollgate::decide::verdict::Reason;
use tollgate::engine::plans::{CheckInput, Settings};
use tollgate::engine::rules::decision::{Descriptor, Modes};
use tollgate::engine::rules::{OVERFLOW_COUNTERS, RuleEngine};
use tollgate::rules::{LoadOptions, RuleSet, Source, load};
use tollgate::testkit::at_once::AtOnce;

use super::{ALONE, NOW, catalog, scaled};

#[test]
fn api_keys_that_do_not_exist_leave_nothing_behind_and_harm_nobody() {
    let _alone = ALONE.blocking_lock();
    const KEYS: usize = 100;
    const QUOTA: u64 = 50;
    let subscribers: Vec<String> = (0..KEYS)
        .map(|number| {
            format!("{{id: s{number}, plans: [gold], keys: [{{id: k{number}, value: a-value-of-twenty-characters-{number:03}}}]}}")
        })
        .collect();
    let catalog = catalog(&format!(
        "{{plans: [{{id: gold, entitlements: [{{name: all, targets: [t], quotas: [{{name: q, limit: {QUOTA}, unit: YEAR}}]}}]}}],
          subscribers: [{}]}}",
        subscribers.join(", ")
    ));
    let snapshot = catalog.snapshot();
    let at_once = AtOnce::new(Settings::new([7; 32], [9; 16]));
    let ask = |api_key: &[u8], operation_id: &[u8]| {
        let input = CheckInput {
            api_key,
            target: "t",
            method: b"GET",
            path: b"/",
            cost: None,
            operation_id,
        };
        at_once.check(&*snapshot, &input, NOW).unwrap().verdict.reason()
    };
    let engine = &at_once.engine;
    let values: Vec<String> =
        (0..KEYS).map(|number| format!("a-value-of-twenty-characters-{number:03}")).collect();
    let mut admitted = [0; KEYS];
    let mut live = |turn: usize| {
        let place = turn % KEYS;
        match ask(values[place].as_bytes(), b"") {
            None => admitted[place] += 1,
            Some(reason) => assert_eq!(reason, Reason::QuotaExceeded),
        }
    };
    // They have their counters before the flood comes.
    (0..KEYS).for_each(&mut live);

    let flood = scaled(5_000_000);
    let start = Instant::now();
    let counted = measure(|| {
        for number in 0..flood {
            let unknown = format!("tg_unknown-key-{number:020}");
            assert_eq!(ask(unknown.as_bytes(), unknown.as_bytes()), Some(Reason::ApiKeyUnknown));
        }
    });
    let took = start.elapsed();
    println!(
        "{flood} unknown API keys in {took:?}, {:.0} a second: {} bytes left behind",
        flood as f64 / took.as_secs_f64(),
        counted.bytes_current
    );
    assert!(counted.bytes_current < 64 * 1024, "{counted:?}");
    assert_eq!(
        (engine.leases().live_entries(), engine.usage_rows(), engine.live_operations()),
        (KEYS, KEYS, 0)
    );

    // In the middle of it, too, those who hold a key have exactly what they are entitled to.
    let turns = KEYS * (QUOTA as usize + 10);
    for turn in KEYS..turns {
        let unknown = format!("tg_another-key-{turn:020}");
        assert_eq!(ask(unknown.as_bytes(), b""), Some(Reason::ApiKeyUnknown));
        live(turn);
    }
    assert_eq!(admitted, [QUOTA; KEYS]);
}

const LIMIT: u64 = 5;

fn rules() -> RuleSet {
    let text = format!(
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: {{unit: hour, requests_per_unit: {LIMIT}}}\n"
    );
    load(&[Source { name: "rules.yaml".to_owned(), text }], &LoadOptions::default()).unwrap().rules
}

#[test]
fn fresh_descriptors_share_what_is_left_and_push_out_nobody() {
    let _alone = ALONE.blocking_lock();
    let rules = rules();
    let (most, flood) = (scaled(1_000_000), scaled(5_000_000));
    let engine = RuleEngine::new(most as usize).unwrap();
    let passes = |value: &str| {
        let entries = [(&b"a"[..], value.as_bytes())];
        let descriptor = Descriptor {
            entries: entries.into_iter().collect(),
            limit_override: None,
            hits: 1,
            negative: false,
        };
        !engine.decide(&rules, b"d", &[descriptor], Modes::default(), NOW).over_limit
    };
    for number in 0..most {
        let live = format!("live-{number}");
        assert!(passes(&live) && passes(&live) && passes(&live));
    }
    assert_eq!(engine.live_counters(), most as usize);

    let mut admitted = 0;
    let start = Instant::now();
    let counted = measure(|| {
        for number in 0..flood {
            let fresh = format!("fresh-{number}");
            admitted += u64::from(passes(&fresh));
            if number % 1_000 == 0 {
                // Whoever comes again, too, and whatever the others have taken: never more than its
                // limit.
                let again = (0..2 * LIMIT).filter(|_| passes(&fresh)).count() as u64;
                assert!(again <= LIMIT, "{fresh}: {again}");
                admitted += again;
            }
        }
    });
    let took = start.elapsed();
    println!(
        "{flood} fresh values beside {most} live counters in {took:?}, {:.0} a second: {} overflow counters, {admitted} admitted, {} bytes more",
        flood as f64 / took.as_secs_f64(),
        engine.overflow_counters(),
        counted.bytes_current
    );
    assert_eq!(engine.live_counters(), most as usize);
    assert!(engine.overflow_counters() as u64 <= OVERFLOW_COUNTERS);
    assert!(admitted <= LIMIT * OVERFLOW_COUNTERS, "{admitted}");
    assert!(counted.bytes_current < 4 << 20, "{counted:?}");
    // All that were there before the flood go on from where they stood.
    for number in 0..most {
        let live = format!("live-{number}");
        assert_eq!([passes(&live), passes(&live), passes(&live)], [true, true, false], "{live}");
    }
}
