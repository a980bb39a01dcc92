use super::*;

fn declared() -> Declared {
    let keys = ["acme-1", "acme-2"].map(|id| DeclaredKey { key: key(id, "acme"), value: Some(value_of(id)) });
    Declared {
        targets: vec![Target { default_plan: Some("free".into()), ..target("orders") }],
        plans: vec![plan("gold", &["orders", "users"]), plan("free", &["orders"])],
        subscribers: vec![
            DeclaredSubscriber { subscriber: subscriber("acme", &["gold", "free"]), keys: keys.into() },
            DeclaredSubscriber { subscriber: subscriber("zeta", &["gold"]), keys: Vec::new() },
        ],
        prune: false,
    }
}

fn lines(done: &[Difference]) -> Vec<String> {
    let line = |one: &Difference| format!("{:?} {} {} {}", one.action, one.kind.word(), one.id, one.fields.join(","));
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
    changed.targets[0].about.description = "All orders".into();
    changed.plans[0].entitlements[0].targets.push("late".into());
    changed.subscribers[1].subscriber.plans.clear();
    changed.subscribers[0].keys[0].key.enabled = false;
    changed.subscribers[0].keys[1].value = None;
    let expected = [
        "Update target orders description",
        "Create target late",
        "Update plan gold entitlements",
        "Update key acme-1 enabled",
        "Update subscriber zeta plans",
    ];
    assert_eq!(apply(&store, &changed), expected);
    assert!(store.load().api_key(value_of("acme-2").as_bytes()).is_some(), "a key without a value in the file keeps its own");
    assert_eq!(store.load().plans().get("free").unwrap().revision, 1, "what is as declared is left alone");
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
    let pruned = apply(&store, &Declared { prune: true, ..Declared::default() });
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
fn prune_keeps_what_is_named_and_the_targets_of_named_plans() {
    let store = furnished();
    let mut less = declared();
    less.prune = true;
    less.targets.clear();
    less.targets.push(target("orders"));
    less.plans.truncate(1);
    less.subscribers.truncate(1);
    less.subscribers[0].subscriber.plans.truncate(1);
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
fn values_move_between_keys_in_any_order() {
    let store = furnished();
    let mut swapped = declared();
    swapped.subscribers[0].keys[0].value = Some(value_of("acme-2"));
    swapped.subscribers[0].keys[1].value = Some(value_of("acme-1"));
    assert_eq!(apply(&store, &swapped), ["Update key acme-1 value", "Update key acme-2 value"]);
    assert_eq!(&*store.load().api_key(value_of("acme-1").as_bytes()).unwrap().id, "acme-2");
    assert_eq!(&*store.load().api_key(value_of("acme-2").as_bytes()).unwrap().id, "acme-1");

    let mut renamed = swapped.clone();
    renamed.prune = true;
    renamed.subscribers[0].keys[0].key.id = "acme-3".into();
    assert_eq!(apply(&store, &renamed), ["Delete key acme-1", "Create key acme-3"], "a pruned key gives its value up");
    super::consistent::check(&store.snapshot());
}

/// What is spoilt, and the fields that must be named.
type Case = (fn(&mut Declared), &'static [&'static str]);

#[test]
fn all_mistakes_are_reported_and_nothing_is_done() {
    let cases: &[Case] = &[
        (|d| d.targets.push(target("orders")), &["targets[1].id"]),
        (|d| d.plans[1].id = "gold".into(), &["usage_plans[1].id"]),
        (|d| d.subscribers[1].subscriber.id = "acme".into(), &["subscribers[1].subscriber.id"]),
        (|d| d.subscribers[0].keys[1].key.id = "acme-1".into(), &["subscribers[0].keys[1].api_key.id"]),
        (
            |d| {
                d.plans[0].entitlements[0].name = "".into();
                d.plans[1].about.display_name = String::new();
            },
            &["usage_plans[0].entitlements[0].name", "usage_plans[1].display_name"],
        ),
        (|d| d.subscribers[1].subscriber.plans.push("lead".into()), &["subscribers[1].subscriber.plans[1]"]),
        (|d| d.targets[0].default_plan = Some("lead".into()), &["targets[0].default_plan"]),
        (|d| d.plans[1].entitlements[0].targets.clear(), &["targets[0].default_plan"]),
        (
            |d| {
                d.subscribers[0].keys[0].value = None;
                d.subscribers[0].keys[1].value = Some("short".into());
            },
            &["subscribers[0].keys[0].value", "subscribers[0].keys[1].value"],
        ),
        (|d| d.subscribers[0].keys[0].key.id = "".into(), &["subscribers[0].keys[0].id"]),
    ];
    for (row, (spoil, fields)) in cases.iter().enumerate() {
        let store = store();
        let mut spoilt = declared();
        spoil(&mut spoilt);
        let EditError::Invalid(mistakes) = refused(&store, |draft| draft.apply(&spoilt)) else { panic!("case {row}") };
        let found: Vec<_> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
        assert_eq!(found, *fields, "case {row}: {mistakes:?}");
    }
}

#[test]
fn a_key_does_not_change_hands() {
    let store = furnished();
    let mut moved = declared();
    let mut key = moved.subscribers[0].keys.remove(0);
    key.key.subscriber = "zeta".into();
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
    assert_eq!(refused(&store, |draft| draft.apply(&taken)), EditError::ValueInUse { id: "acme-2".into() });
}
