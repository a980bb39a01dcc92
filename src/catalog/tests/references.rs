use super::*;

fn in_use(error: EditError) -> (Vec<String>, usize) {
    match error {
        EditError::InUse { by, count, .. } => (by, count),
        other => panic!("not in use: {other:?}"),
    }
}

#[test]
fn targets_that_a_plan_names_are_registered() {
    let store = store();
    edit(&store, 1, |draft| draft.create_plan(plan("gold", &["orders", "users"])));
    let orders = store.load().targets().get("orders").unwrap().clone();
    assert_eq!((orders.revision, orders.value.display_name()), (1, "orders"));
    edit(&store, 2, |draft| draft.replace_plan(plan("gold", &["orders", "late"])));
    assert!(store.load().targets().get("late").is_some());
    assert!(
        store.load().targets().get("users").is_some(),
        "a target outlives the plan's interest in it"
    );
    assert_eq!(
        store.load().targets().get("orders").unwrap().revision,
        1,
        "a known target is left alone"
    );
}

#[test]
fn a_subscriber_cannot_name_an_unknown_plan() {
    let store = furnished();
    let (field, reason) = mistake(refused(&store, |draft| {
        draft.create_subscriber(subscriber("new", &["gold", "lead"]))
    }));
    assert_eq!(
        (field.as_str(), reason.as_str()),
        ("plans[1]", "names the plan `lead`, which does not exist")
    );
}

#[test]
fn a_plan_in_use_is_deleted_only_by_force() {
    let store = furnished();
    let (by, count) = in_use(refused(&store, |draft| draft.delete_plan("free", "", false)));
    assert_eq!((by, count), (vec!["subscriber acme".to_owned(), "target orders".to_owned()], 2));
    edit(&store, 2, |draft| draft.delete_plan("free", "", true));
    let catalog = store.snapshot();
    assert!(catalog.plan("free").is_none());
    assert_eq!(*Lookup::subscriber(&*catalog, "acme").unwrap().plans, ["gold".into()]);
    assert_eq!(catalog.target("orders").unwrap().target.default_plan, None);
    assert_eq!(
        catalog.subscribers().get("acme").unwrap().revision,
        2,
        "those that lost it were edited"
    );
    assert_eq!(catalog.subscribers().get("zeta").unwrap().revision, 1);
}

#[test]
fn a_default_plan_alone_keeps_a_plan() {
    let store = furnished();
    edit(&store, 2, |draft| draft.replace_subscriber(subscriber("acme", &["gold"])));
    assert_eq!(
        in_use(refused(&store, |draft| draft.delete_plan("free", "", false))),
        (vec!["orders".to_owned()], 1)
    );
}

#[test]
fn a_refusal_names_ten() {
    let store = store();
    edit(&store, 1, |draft| {
        draft.create_plan(plan("gold", &[]))?;
        (0..12).try_for_each(|i| {
            draft.create_subscriber(subscriber(&format!("s{i:02}"), &["gold"])).map(|_| ())
        })
    });
    let error = refused(&store, |draft| draft.delete_plan("gold", "", false));
    assert!(error.to_string().ends_with("subscriber s09 and 2 more"), "{error}");
    let (by, count) = in_use(error);
    assert_eq!((by.len(), by[0].as_str(), count), (10, "subscriber s00", 12));
}

#[test]
fn a_target_in_plans_is_deleted_only_by_force() {
    let store = furnished();
    edit(&store, 2, |draft| {
        let mut gold = plan("gold", &["orders", "users"]);
        gold.entitlements[0].method_rate_limits =
            vec![method_rate("/a", "orders"), method_rate("/a", "users")];
        draft.replace_plan(gold)
    });
    let (by, count) = in_use(refused(&store, |draft| draft.delete_target("orders", "", false)));
    assert_eq!((by, count), (vec!["free".to_owned(), "gold".to_owned()], 2));
    edit(&store, 3, |draft| draft.delete_target("orders", "", true));
    let catalog = store.snapshot();
    assert!(catalog.target("orders").is_none());
    let gold = &catalog.plan("gold").unwrap().plan.entitlements[0];
    assert_eq!(gold.targets, ["users".into()]);
    assert_eq!(
        gold.method_rate_limits,
        [method_rate("/a", "users")],
        "limits for the target alone went with it"
    );
}

#[test]
fn a_subscriber_with_keys_is_deleted_only_by_force() {
    let store = furnished();
    assert_eq!(in_use(refused(&store, |draft| draft.delete_subscriber("acme", "", false))).1, 2);
    edit(&store, 2, |draft| draft.delete_subscriber("zeta", "", false));
    edit(&store, 3, |draft| draft.delete_subscriber("acme", "", true));
    let catalog = store.snapshot();
    assert!(catalog.keys().is_empty() && catalog.api_key(value_of("acme-1").as_bytes()).is_none());
    assert_eq!(catalog.subscribers_of("gold").count(), 0);
}

#[test]
fn a_default_plan_must_exist_and_cover_its_target() {
    let store = furnished();
    let with_default = |plan: &str| Target { default_plan: Some(plan.into()), ..target("users") };
    let (field, reason) =
        mistake(refused(&store, |draft| draft.replace_target(with_default("free"))));
    assert_eq!(
        (field.as_str(), reason.as_str()),
        ("default_plan", "names the plan `free`, which does not cover the target `users`")
    );
    let (field, reason) =
        mistake(refused(&store, |draft| draft.replace_target(with_default("lead"))));
    assert_eq!(
        (field.as_str(), reason.as_str()),
        ("default_plan", "names the plan `lead`, which does not exist")
    );
    edit(&store, 2, |draft| draft.replace_target(with_default("gold")));
    assert_eq!(store.load().target("users").unwrap().target.default_plan.as_deref(), Some("gold"));
}

#[test]
fn a_plan_goes_on_covering_the_targets_whose_default_it_is() {
    let store = furnished();
    for refusal in [
        refused(&store, |draft| draft.detach_target("free", "orders", "")),
        refused(&store, |draft| draft.replace_plan(plan("free", &["users"]))),
    ] {
        assert_eq!(in_use(refusal), (vec!["orders".to_owned()], 1));
    }
    edit(&store, 2, |draft| {
        draft.replace_plan(plan("free", &["users"]))?;
        draft.replace_target(target("orders"))
    });
}

#[test]
fn targets_are_attached_and_detached() {
    let store = furnished();
    edit(&store, 2, |draft| draft.attach_target("free", "", "new", ""));
    assert!(store.load().plan("free").unwrap().entitlement_for("new").is_some());
    assert!(store.load().target("new").is_some(), "an unknown target is registered");
    edit(&store, 3, |draft| draft.detach_target("free", "new", ""));
    assert!(store.load().plan("free").unwrap().entitlement_for("new").is_none());

    edit(&store, 4, |draft| {
        let mut two = plan("two", &["orders"]);
        two.entitlements.push(entitlement("other", &[]));
        draft.create_plan(two)?;
        draft.create_plan(Plan { entitlements: Vec::new(), ..plan("none", &[]) })
    });
    let cases = [
        (("none", "", "orders"), "entitlement", "has none yet"),
        (("two", "", "users"), "entitlement", "has several (all, other)"),
        (("two", "lead", "users"), "entitlement", "`lead` is not in the plan `two` (all, other)"),
        (
            ("two", "other", "orders"),
            "target",
            "is in the entitlement `all` of the plan `two` already",
        ),
        (("two", "other", "no target"), "target", "must not hold ' '"),
    ];
    for ((plan, entitlement, target), field, reason) in cases {
        let (found, why) =
            mistake(refused(&store, |draft| draft.attach_target(plan, entitlement, target, "")));
        assert!(
            found == field && why.contains(reason),
            "{plan} {entitlement} {target}: {found} {why}"
        );
    }
    assert_eq!(
        mistake(refused(&store, |draft| draft.detach_target("two", "users", ""))).0,
        "target"
    );
}
