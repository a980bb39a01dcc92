use super::*;

#[test]
fn what_is_created_is_found_with_its_revision_and_times() {
    let store = store();
    assert_eq!(store.load().revision(), 0);
    edit(&store, 10, |draft| draft.create_plan(plan("gold", &["orders"])));
    edit(&store, 20, |draft| draft.create_subscriber(subscriber("acme", &["gold"])));
    let catalog = store.snapshot();
    assert_eq!(catalog.revision(), 2);
    let gold = catalog.plans().get("gold").unwrap();
    assert_eq!(
        (gold.revision, gold.create_ns, gold.update_ns),
        (1, 10 * SECOND_NS, 10 * SECOND_NS)
    );
    assert_eq!(catalog.subscribers().get("acme").unwrap().revision, 2);
    assert!(catalog.plan("gold").is_some_and(|plan| plan.entitlement_for("orders").is_some()));
    assert!(Lookup::subscriber(&*catalog, "acme").is_some());
    assert!(Lookup::subscriber(&*catalog, "ACME").is_none());
    assert!(catalog.account().is_none());
}

#[test]
fn every_edit_changes_the_etag_and_a_stale_one_is_refused() {
    let store = store();
    let first = edit(&store, 1, |draft| draft.create_plan(plan("gold", &[]))).etag();
    let second = edit(&store, 2, |draft| {
        draft.plan("gold", &first)?;
        draft.replace_plan(plan("gold", &["orders"]))
    })
    .etag();
    assert_ne!(first, second);
    let stale = refused(&store, |draft| draft.plan("gold", &first));
    assert!(
        matches!(&stale, EditError::Stale { given, current, .. } if *given == first && *current == second),
        "{stale}"
    );
    for delete in [
        refused(&store, |draft| draft.delete_plan("gold", &first, false)),
        refused(&store, |draft| draft.attach_target("gold", "", "users", &first)),
        refused(&store, |draft| draft.detach_target("gold", "orders", &first)),
    ] {
        assert!(matches!(delete, EditError::Stale { .. }));
    }
    edit(&store, 3, |draft| draft.delete_plan("gold", &second, false));
    let again = edit(&store, 4, |draft| draft.create_plan(plan("gold", &["orders"]))).etag();
    assert!(again != first && again != second, "a re-created resource has an etag of its own");
}

#[test]
fn an_update_keeps_the_time_of_creation() {
    let store = furnished();
    let acme = edit(&store, 50, |draft| draft.replace_subscriber(subscriber("acme", &["free"])));
    assert_eq!((acme.create_ns, acme.update_ns, acme.revision), (SECOND_NS, 50 * SECOND_NS, 2));
}

#[test]
fn what_exists_cannot_be_created_and_what_does_not_cannot_be_edited() {
    let store = furnished();
    let exists = |error: EditError| assert!(matches!(error, EditError::Exists { .. }), "{error}");
    exists(refused(&store, |draft| draft.create_plan(plan("gold", &[]))));
    exists(refused(&store, |draft| draft.create_target(target("orders"))));
    exists(refused(&store, |draft| draft.create_subscriber(subscriber("acme", &[]))));
    exists(refused(&store, |draft| draft.create_key(key("acme-1", "acme"), NewValue::Made)));
    let missing =
        |error: EditError| assert!(matches!(error, EditError::NotFound { .. }), "{error}");
    missing(refused(&store, |draft| draft.replace_plan(plan("x", &[]))));
    missing(refused(&store, |draft| draft.replace_target(target("x"))));
    missing(refused(&store, |draft| draft.replace_subscriber(subscriber("x", &[]))));
    missing(refused(&store, |draft| draft.replace_key(key("x", "acme"))));
    missing(refused(&store, |draft| draft.delete_plan("x", "", true)));
    missing(refused(&store, |draft| draft.delete_target("x", "", true)));
    missing(refused(&store, |draft| draft.delete_subscriber("x", "", true)));
    missing(refused(&store, |draft| draft.delete_key("x", "")));
    missing(refused(&store, |draft| draft.attach_target("x", "", "orders", "")));
    let long = refused(&store, |draft| draft.plan(&"x".repeat(1 << 20), "")).to_string();
    assert!(long.len() < 1_000, "a message repeats a long id");
}

#[test]
fn a_mistake_names_its_field_and_changes_nothing() {
    let store = furnished();
    let mut spoilt = plan("silver", &["orders"]);
    spoilt.entitlements[0].rate_limit =
        Some(Rate { rate: crate::decide::gcra::MicroRate(1), burst: Some(0) });
    spoilt.about.display_name = "x".repeat(257);
    let error = refused(&store, |draft| draft.create_plan(spoilt));
    assert_eq!(
        error.to_string(),
        "display_name must be at most 256 characters, not 257; entitlements[0].rate_limit.burst must be at least 1"
    );
}

#[test]
fn a_failure_late_in_an_edit_undoes_all_of_it() {
    let store = furnished();
    refused(&store, |draft| {
        draft.create_plan(plan("silver", &["users", "new"]))?;
        draft.create_subscriber(subscriber("late", &["no-such-plan"]))
    });
    assert!(
        store.load().plans().get("silver").is_none() && store.load().targets().get("new").is_none()
    );
}

#[test]
fn a_reader_goes_on_with_the_snapshot_that_it_holds() {
    let store = furnished();
    let held = store.snapshot();
    edit(&store, 2, |draft| draft.delete_subscriber("acme", "", true));
    assert!(
        Lookup::subscriber(&*held, "acme").is_some()
            && held.api_key(value_of("acme-1").as_bytes()).is_some()
    );
    let new = store.snapshot();
    assert!(
        Lookup::subscriber(&*new, "acme").is_none()
            && new.api_key(value_of("acme-1").as_bytes()).is_none()
    );
}

#[test]
fn an_edit_that_changes_nothing_makes_no_revision() {
    let store = furnished();
    let before = store.snapshot();
    edit(&store, 2, |draft| draft.attach_target("gold", "all", "orders", ""));
    edit(&store, 2, |draft| draft.plan("gold", ""));
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
}

/// An answer as it is written down.
#[derive(Debug, PartialEq, Eq)]
struct Revision(u64);

impl Answer for Revision {
    fn write(&self) -> Vec<u8> {
        self.0.to_le_bytes().into()
    }

    fn read(written: &[u8]) -> Option<Self> {
        written.try_into().ok().map(u64::from_le_bytes).map(Self)
    }
}

fn create(id: &'static str) -> impl Fn(&mut Draft) -> Result<Revision, EditError> {
    move |draft| draft.create_plan(plan(id, &["new"])).map(|stored| Revision(stored.revision))
}

#[test]
fn validate_only_answers_and_changes_nothing() {
    let store = furnished();
    let before = store.snapshot();
    let request = RequestKey::new("r1", "Create", b"x").unwrap().unwrap();
    let only = || EditOptions { validate_only: true };
    let edited = store.edit_once(&request, only(), at(2), create("silver")).unwrap();
    assert_eq!((edited.answer, edited.repeated), (Revision(2), false));
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
    assert!(store.edit_once(&request, only(), at(2), create("gold")).is_err());
    let real = store.edit_once(&request, EditOptions::default(), at(2), create("silver")).unwrap();
    assert!(!real.repeated, "nothing was remembered");
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let store = furnished();
    let named = |message: &[u8]| RequestKey::new("r1", "Create", message).unwrap().unwrap();
    let tried = |message: &[u8], at, id| {
        store.edit_once(&named(message), EditOptions::default(), at, create(id))
    };
    assert!(
        matches!(tried(b"x", at(2), "gold"), Err(EditError::Exists { .. })),
        "what failed is not remembered"
    );
    let first = tried(b"x", at(2), "silver").unwrap();
    edit(&store, 3, |draft| draft.delete_plan("silver", "", false));
    let retried = tried(b"x", at(4), "silver").unwrap();
    assert_eq!((retried.answer, retried.repeated), (first.answer, true));
    assert!(store.load().plans().get("silver").is_none());
    assert_eq!(mistake(tried(b"y", at(4), "bronze").unwrap_err()).0, "request_id");
}

#[test]
fn the_account_limit_is_that_of_the_store() {
    let limit = RateLimit::new(5, SECOND_NS, 5).unwrap();
    assert_eq!(CatalogStore::new(HashKey([7; 32]), Some(limit)).load().account(), Some(&limit));
}
