//! A subscriber with a million API keys.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use tollgate::catalog::{EditOptions, ListOptions, MAX_PAGE_SIZE, NewValue};
use tollgate::decide::plan::ApiKey;
use tollgate::engine::plans::Settings;
use tollgate::testkit::at_once::AtOnce;
use tollgate::testkit::declared::{self, request};

use super::{ALONE, NOW, catalog, scaled};

const QUOTA: u64 = 5_000;
const PLANS: &str = "{plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [{name: q, limit: 5000, unit: YEAR}]}]}],
  subscribers: [{id: acme, plans: [gold]}, {id: small, plans: [gold], keys: [{id: small, value: the-value-of-a-small-subscriber}]}]}";
const AT_ONCE: u64 = 1_000;

fn key(number: u64) -> ApiKey {
    declared::key(&format!("k{number:07}"), "acme")
}

fn value(number: u64) -> String {
    format!("a-value-of-a-large-subscriber-{number:07}")
}

#[test]
fn a_million_keys_of_one_subscriber_are_one_customer_and_nobody_elses_trouble() {
    let _alone = ALONE.blocking_lock();
    let catalog = catalog(PLANS);
    let keys = scaled(1_000_000).max(2 * QUOTA);
    let mut edits: Vec<Duration> = Vec::new();
    let counted = measure(|| {
        for first in (0..keys).step_by(AT_ONCE as usize) {
            let start = Instant::now();
            let made = catalog.edit(EditOptions::default(), NOW, |draft| {
                (first..keys.min(first + AT_ONCE)).try_for_each(|number| {
                    draft.create_key(key(number), NewValue::Given(&value(number))).map(drop)
                })
            });
            made.unwrap();
            edits.push(start.elapsed());
        }
    });
    println!(
        "{keys} keys: {} bytes each; {AT_ONCE} of them took {:?} at first and {:?} at last",
        counted.bytes_current / keys as i64,
        edits[0],
        edits[edits.len() - 1]
    );
    assert!(counted.bytes_current < keys as i64 * 2_048, "{counted:?}");

    // They share what their subscriber has, to the unit; another subscriber has its own.
    let snapshot = catalog.snapshot();
    let at_once = AtOnce::new(Settings::new([7; 32], [9; 16]));
    let admitted = |api_key: &str| {
        let input = request(&api_key, "t");
        at_once.check(&*snapshot, &input, NOW).unwrap().verdict.is_allowed()
    };
    let time = |value: &dyn Fn(u64) -> String| {
        let values: Vec<String> = (0..QUOTA).map(value).collect();
        let start = Instant::now();
        (
            values.iter().filter(|value| admitted(value)).count() as u64,
            start.elapsed() / QUOTA as u32,
        )
    };
    let small = time(&|_| "the-value-of-a-small-subscriber".to_owned());
    let large = time(&|number| value(number * (keys / QUOTA)));
    println!(
        "a check: {:?} by one key again and again, {:?} the first of each of {QUOTA} of {keys} keys",
        small.1, large.1
    );
    assert_eq!((small.0, large.0), (QUOTA, QUOTA));
    assert!(!admitted(&value(1)) && !admitted("the-value-of-a-small-subscriber"));

    // A list is read in pages, each key once; and one of them is found by its filter.
    let (mut token, mut seen, mut slowest, mut pages) =
        (String::new(), HashSet::new(), Duration::ZERO, 0);
    loop {
        let start = Instant::now();
        let page = snapshot
            .list_keys(&ListOptions {
                page_size: i32::MAX,
                page_token: &token,
                ..ListOptions::default()
            })
            .unwrap();
        slowest = slowest.max(start.elapsed());
        pages += 1;
        assert!(page.items.len() <= MAX_PAGE_SIZE && page.total as u64 == keys + 1);
        seen.extend(page.items.iter().map(|item| item.value.key.id.clone()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len() as u64, keys + 1);
    let start = Instant::now();
    let filtered = snapshot
        .list_keys(&ListOptions { filter: "subscriber=acme", ..ListOptions::default() })
        .unwrap();
    println!(
        "a list: {pages} pages, the slowest in {slowest:?}; a page of the subscriber's own in {:?}",
        start.elapsed()
    );
    assert_eq!((filtered.total as u64, filtered.items.len()), (keys, 50));

    // The last key is as good as the first, and can be taken away.
    catalog
        .edit(EditOptions::default(), NOW, |draft| draft.delete_key(&key(keys - 1).id, ""))
        .unwrap();
    let reason = |number| {
        let api_key = value(number);
        let input = request(&api_key, "t");
        at_once
            .check(&**catalog.load(), &input, NOW)
            .unwrap()
            .verdict
            .reason()
            .map(|reason| reason.name())
    };
    assert_eq!(
        (reason(keys - 1), reason(keys - 2)),
        (Some("API_KEY_UNKNOWN"), Some("QUOTA_EXCEEDED"))
    );
}
