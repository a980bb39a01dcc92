use super::*;

/// All of it.
fn whole<T>(value: T) -> Stated<T> {
    value.into()
}

/// These fields of it.
fn some<T>(value: T, fields: &[Field]) -> Stated<T> {
    Stated { value, fields: Fields::of(fields.iter().map(|field| field.path())) }
}

fn declared() -> Declared {
    let keys = ["acme-1", "acme-2"]
        .map(|id| DeclaredKey { key: whole(key(id, "acme")), value: Some(value_of(id)) });
    Declared {
        targets: vec![whole(Target { default_plan: Some("free".into()), ..target("orders") })],
        plans: vec![whole(plan("gold", &["orders", "users"])), whole(plan("free", &["orders"]))],
        subscribers: vec![
            DeclaredSubscriber {
                subscriber: whole(subscriber("acme", &["gold", "free"])),
                keys: keys.into(),
            },
            DeclaredSubscriber {
                subscriber: whole(subscriber("zeta", &["gold"])),
                keys: Vec::new(),
            },
        ],
        prune: Prune::default(),
    }
}

fn all_kinds() -> Prune {
    Prune { kinds: vec![Kind::Target, Kind::Plan, Kind::Subscriber], most: false }
}

fn lines(done: &[Difference]) -> Vec<String> {
    let paths = |one: &Difference| {
        one.changed.iter().map(|changed| changed.path.as_str()).collect::<Vec<_>>().join(",")
    };
    let line = |one: &Difference| {
        format!("{:?} {} {} {}", one.action, one.kind.word(), one.id, paths(one))
    };
    done.iter().map(|one| line(one).trim_end().to_owned()).collect()
}

fn apply(store: &CatalogStore, declared: &Declared) -> Vec<String> {
    lines(&edit(store, 7, |draft| draft.apply(declared)))
}

#[test]
fn an_empty_catalog_is_filled_in_one_edit_and_the_second_time_nothing_changes() {
    let store = store();
    let expected = [
        "Create target orders",
        "Create target users",
        "Create plan gold",
        "Create plan free",
        "Create subscriber acme",
        "Create key acme-1",
        "Create key acme-2",
        "Create subscriber zeta",
    ];
    assert_eq!(apply(&store, &declared()), expected);
    assert_eq!(store.load().revision(), 1);
    assert!(store.load().api_key(value_of("acme-2").as_bytes()).is_some());
    let before = store.snapshot();
    assert_eq!(apply(&store, &declared()), [""; 0]);
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
}

#[test]
fn what_differs_is_updated_and_named_by_field() {
    let store = furnished();
    let mut changed = declared();
    changed.targets[0].value.about.description = "All orders".into();
    changed.plans[0].value.entitlements[0].targets.push("late".into());
    changed.subscribers[1].subscriber.value.plans.retain(|_| false);
    changed.subscribers[0].keys[0].key.value.enabled = false;
    changed.subscribers[0].keys[1].value = None;
    let expected = [
        "Update target orders description",
        "Create target late",
        "Update plan gold entitlements[all].targets",
        "Update key acme-1 enabled",
        "Update subscriber zeta plans",
    ];
    assert_eq!(apply(&store, &changed), expected);
    assert!(
        store.load().api_key(value_of("acme-2").as_bytes()).is_some(),
        "a key without a value in the file keeps its own"
    );
    assert_eq!(
        store.load().plans().get("free").unwrap().revision,
        1,
        "what is as declared is left alone"
    );
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let store = store();
    let only = EditOptions { validate_only: true };
    let dry = lines(&store.edit(only, at(1), |draft| draft.apply(&declared())).unwrap().answer);
    assert!(store.load().plans().is_empty());
    assert_eq!(dry, apply(&store, &declared()));
}

#[test]
fn nothing_is_deleted_without_prune() {
    let store = furnished();
    assert_eq!(apply(&store, &Declared::default()), [""; 0]);
    let pruned = apply(
        &store,
        &Declared { prune: Prune { most: true, ..all_kinds() }, ..Declared::default() },
    );
    let expected = [
        "Delete key acme-1",
        "Delete key acme-2",
        "Delete subscriber acme",
        "Delete subscriber zeta",
        "Delete plan free",
        "Delete plan gold",
        "Delete target orders",
        "Delete target users",
    ];
    // The default plan of a target that goes too does not hold the plan back.
    assert_eq!(pruned, expected);
}

#[test]
fn prune_keeps_what_is_named_and_the_targets_of_plans() {
    let store = furnished();
    let mut less = declared();
    less.prune = all_kinds();
    less.targets.clear();
    less.targets.push(whole(target("orders")));
    less.plans.truncate(1);
    less.subscribers.truncate(1);
    less.subscribers[0].subscriber.value.plans.retain(|plan| **plan == *"gold");
    less.subscribers[0].keys.truncate(1);
    let expected = [
        "Delete key acme-2",
        "Update target orders default_plan",
        "Update subscriber acme plans",
        "Delete subscriber zeta",
        "Delete plan free",
    ];
    assert_eq!(apply(&store, &less), expected);
    assert!(store.load().targets().get("users").is_some());
}

#[test]
fn prune_leaves_kinds_that_it_is_not_about() {
    let store = furnished();
    let plans = declared().plans;
    let alone = Declared {
        plans,
        prune: Prune { kinds: vec![Kind::Plan], most: false },
        ..Declared::default()
    };
    assert_eq!(apply(&store, &alone), [""; 0], "all plans are named");
    let targets = vec![whole(Target { default_plan: Some("free".into()), ..target("orders") })];
    let targets = Declared {
        targets,
        prune: Prune { kinds: vec![Kind::Target], most: false },
        ..Declared::default()
    };
    assert_eq!(apply(&store, &targets), [""; 0], "a target that a plan covers stays");
    // A subscriber of which it is not said what keys it has keeps them.
    let mut silent = declared();
    for one in &mut silent.subscribers {
        one.subscriber.fields = Fields::of(["plans"]);
        one.keys.clear();
    }
    let silent = Declared {
        subscribers: silent.subscribers,
        prune: Prune { kinds: vec![Kind::Subscriber], most: true },
        ..Declared::default()
    };
    assert_eq!(apply(&store, &silent), [""; 0]);
    let plan = Declared {
        plans: vec![whole(plan("gold", &["orders", "users"]))],
        prune: alone.prune,
        ..Declared::default()
    };
    assert!(
        matches!(refused(&store, |draft| draft.apply(&plan)), EditError::InUse { .. }),
        "another kind still names the plan"
    );
}

#[test]
fn prune_deletes_half_of_a_kind_and_not_more() {
    let store = furnished();
    let prune = Prune { kinds: vec![Kind::Subscriber], most: false };
    let [acme, zeta] = <[_; 2]>::try_from(declared().subscribers).unwrap();
    let half = Declared { subscribers: vec![acme], prune: prune.clone(), ..Declared::default() };
    assert_eq!(apply(&store, &half), ["Delete subscriber zeta"]);
    let other = Declared { subscribers: vec![zeta], prune: prune.clone(), ..Declared::default() };
    match refused(&store, |draft| draft.apply(&other)) {
        EditError::MostOf { kind: Kind::Key, by, count: 2, of: 2 } => {
            assert_eq!(by, ["acme-1", "acme-2"])
        }
        error => panic!("the keys of a subscriber count: {error:?}"),
    }
    let other = Declared { prune: Prune { most: true, ..prune }, ..other };
    assert_eq!(
        apply(&store, &other),
        [
            "Delete key acme-1",
            "Delete key acme-2",
            "Create subscriber zeta",
            "Delete subscriber acme"
        ]
    );
}

#[test]
fn what_is_not_said_stays_as_it_is() {
    let store = furnished();
    edit(&store, 2, |draft| {
        let mut key = key("acme-1", "acme");
        (key.enabled, key.dates.expire_ns) = (false, Some(5));
        key.about.labels.insert("a".into(), "b".into());
        draft.replace_key(key)
    });
    edit(&store, 3, |draft| {
        let limit = Rate { rate: MicroRate(5_000_000), burst: Some(50) };
        draft.replace_target(Target {
            rate_limit: Some(limit),
            default_plan: Some("free".into()),
            ..target("orders")
        })
    });
    let before = store.snapshot();
    let nothing = Declared {
        targets: vec![some(target("orders"), &[])],
        plans: vec![some(plan("gold", &[]), &[])],
        subscribers: vec![DeclaredSubscriber {
            subscriber: some(subscriber("acme", &[]), &[Field::Keys]),
            keys: vec![DeclaredKey {
                key: some(key("acme-1", "acme"), &[]),
                value: Some(value_of("acme-1")),
            }],
        }],
        prune: Prune::default(),
    };
    assert_eq!(apply(&store, &nothing), [""; 0]);
    assert!(Arc::ptr_eq(&before, &store.snapshot()));

    // Each field that is said changes alone.
    let faster = Target {
        rate_limit: Some(Rate { rate: MicroRate(9_000_000), burst: None }),
        ..target("orders")
    };
    let mut said = nothing.clone();
    said.targets = vec![some(faster.clone(), &[Field::RequestsPerSecond])];
    said.subscribers[0].keys[0].key.fields = Fields::of(["enabled"]);
    assert_eq!(
        apply(&store, &said),
        ["Update target orders rate_limit", "Update key acme-1 enabled"]
    );
    let now = store.snapshot();
    let key = &now.keys().get("acme-1").unwrap().value.key;
    assert_eq!((key.enabled, key.dates.expire_ns, key.about.labels.len()), (true, Some(5), 1));
    let target_now = &now.targets().get("orders").unwrap().value.target;
    assert_eq!(
        target_now.rate_limit,
        Some(Rate { rate: MicroRate(9_000_000), burst: Some(50) }),
        "the burst was not said"
    );
    assert_eq!(target_now.default_plan.as_deref(), Some("free"));

    said.targets = vec![some(faster, &[Field::RateLimit])];
    let done = edit(&store, 9, |draft| draft.apply(&said));
    let [changed] = done[0].changed.as_slice() else { panic!("{done:?}") };
    assert_eq!(
        (changed.before.as_deref(), changed.after.as_deref()),
        (Some("9/s burst 50"), Some("9/s burst 9"))
    );
}

#[test]
fn a_change_says_what_was_and_what_is() {
    let store = furnished();
    let mut changed = declared();
    changed.targets[0].value.default_plan = None;
    let gold = &mut changed.plans[0].value;
    gold.entitlements[0].rate_limit = Some(Rate { rate: MicroRate(2_500_000), burst: None });
    gold.entitlements[0].targets = (0..30).map(|i| format!("t{i:02}").into()).collect();
    gold.entitlements
        .push(Entitlement { name: "more".into(), ..plan("x", &["late"]).entitlements.remove(0) });
    changed.subscribers[0].keys[0].value = Some("another-value-of-the-key".into());
    let done = edit(&store, 7, |draft| draft.apply(&changed));
    let say = |value: &Option<String>| value.clone().unwrap_or("none".into());
    let said: Vec<String> = done
        .iter()
        .flat_map(|one| &one.changed)
        .map(|one| format!("{}: {} -> {}", one.path, say(&one.before), say(&one.after)))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    default_plan: free -> none
    entitlements[all].targets: 2 (no longer: orders, users) -> 30 (new: t00, t01, t02, t03, t04 and 25 more)
    entitlements[all].rate_limit: none -> 2.5/s burst 3
    entitlements[more]: none -> late; no rate limit; no quota
    value: ...more -> ...-key
    ");
}

#[test]
fn values_move_between_keys_in_any_order() {
    let store = furnished();
    let mut swapped = declared();
    swapped.subscribers[0].keys[0].value = Some(value_of("acme-2"));
    swapped.subscribers[0].keys[1].value = Some(value_of("acme-1"));
    assert_eq!(apply(&store, &swapped), ["Update key acme-1 value", "Update key acme-2 value"]);
    assert_eq!(&*store.load().api_key(value_of("acme-1").as_bytes()).unwrap().id, "acme-2");
    assert_eq!(&*store.load().api_key(value_of("acme-2").as_bytes()).unwrap().id, "acme-1");

    let mut renamed = swapped.clone();
    renamed.prune = all_kinds();
    renamed.subscribers[0].keys[0].key.value.id = "acme-3".into();
    assert_eq!(
        apply(&store, &renamed),
        ["Delete key acme-1", "Create key acme-3"],
        "a pruned key gives its value up"
    );
    super::consistent::check(&store.snapshot());
}

/// What is spoilt, and the fields that must be named.
type Case = (fn(&mut Declared), &'static [&'static str]);

#[test]
fn all_mistakes_are_reported_and_nothing_is_done() {
    let cases: &[Case] = &[
        (|d| d.targets.push(whole(target("orders"))), &["targets[1].id"]),
        (|d| d.plans[1].value.id = "gold".into(), &["usage_plans[1].id"]),
        (
            |d| d.subscribers[1].subscriber.value.id = "acme".into(),
            &["subscribers[1].subscriber.id"],
        ),
        (
            |d| d.subscribers[0].keys[1].key.value.id = "acme-1".into(),
            &["subscribers[0].keys[1].api_key.id"],
        ),
        (
            |d| {
                d.plans[0].value.entitlements[0].name = "".into();
                d.plans[1].value.about.display_name = "x".repeat(257);
            },
            &["usage_plans[0].entitlements[0].name", "usage_plans[1].display_name"],
        ),
        (
            |d| d.subscribers[1].subscriber.value.plans.insert(usize::MAX, "lead".into()),
            &["subscribers[1].subscriber.plans[1]"],
        ),
        (|d| d.targets[0].value.default_plan = Some("lead".into()), &["targets[0].default_plan"]),
        (|d| d.plans[1].value.entitlements[0].targets.clear(), &["targets[0].default_plan"]),
        (
            |d| {
                d.subscribers[0].keys[0].value = None;
                d.subscribers[0].keys[1].value = Some("short".into());
            },
            &["subscribers[0].keys[0].value", "subscribers[0].keys[1].value"],
        ),
        (|d| d.subscribers[0].keys[0].key.value.id = "".into(), &["subscribers[0].keys[0].id"]),
        (
            |d| {
                d.targets[0].value.default_plan = Some("lead".into());
                d.subscribers[1].subscriber.value.plans.insert(usize::MAX, "iron".into());
            },
            &["subscribers[1].subscriber.plans[1]", "targets[0].default_plan"],
        ),
    ];
    for (row, (spoil, fields)) in cases.iter().enumerate() {
        let store = store();
        let mut spoilt = declared();
        spoil(&mut spoilt);
        let EditError::Invalid(mistakes) = refused(&store, |draft| draft.apply(&spoilt)) else {
            panic!("case {row}")
        };
        let found: Vec<_> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
        assert_eq!(found, *fields, "case {row}: {mistakes:?}");
    }
}

#[test]
fn a_key_does_not_change_hands() {
    let store = furnished();
    let mut moved = declared();
    let mut key = moved.subscribers[0].keys.remove(0);
    key.key.value.subscriber = "zeta".into();
    moved.subscribers[1].keys.push(key);
    let (field, reason) = mistake(refused(&store, |draft| draft.apply(&moved)));
    assert_eq!(field, "subscribers[1].keys[0].api_key.subscriber");
    assert!(reason.contains("it is `acme`"), "{reason}");
}

#[test]
fn a_value_of_a_key_that_is_not_named_is_in_use() {
    let store = furnished();
    let mut taken = declared();
    taken.subscribers[0].keys.truncate(1);
    taken.subscribers[0].keys[0].value = Some(value_of("acme-2"));
    let (field, reason) = mistake(refused(&store, |draft| draft.apply(&taken)));
    assert_eq!(
        (field.as_str(), reason.as_str()),
        ("subscribers[0].keys[0].value", "is in use by the key `acme-2`")
    );
}
