use super::*;
use crate::decide::gcra::MicroRate;
use crate::decide::lookup::Lookup;
use crate::decide::plan::{
    ApiKey, Entitlement, LastFour, MethodRate, Plan, Rate, Subscriber, Target,
};
use crate::decide::time::SECOND_NS;
use crate::testkit::declared;
use crate::testkit::declared::{about, entitlement, key, subscriber, target};

mod applied;
mod consistent;
mod edits;
mod kept;
mod keys;
mod references;

pub(super) fn at(second: u64) -> Now {
    Now { unix_ns: second * SECOND_NS, steady_ns: second * SECOND_NS }
}

pub(super) fn store() -> CatalogStore {
    CatalogStore::new(HashKey([7; 32]), None)
}

/// A plan of one entitlement, `all`.
pub(super) fn plan(id: &str, targets: &[&str]) -> Plan {
    declared::plan(id, vec![entitlement("all", targets)])
}

pub(super) fn value_of(id: &str) -> String {
    format!("{id}-value-of-twenty-or-more")
}

/// An edit at `second` that must succeed.
pub(super) fn edit<A: Clone + Send + 'static>(
    store: &CatalogStore,
    second: u64,
    work: impl FnOnce(&mut Draft) -> Result<A, EditError>,
) -> A {
    store.edit(EditOptions::default(), at(second), work).expect("the edit is accepted").answer
}

/// An edit that must be refused, and change nothing.
pub(super) fn refused<A: Clone + Send + 'static + std::fmt::Debug>(
    store: &CatalogStore,
    work: impl FnOnce(&mut Draft) -> Result<A, EditError>,
) -> EditError {
    let before = store.snapshot();
    let error = store.edit(EditOptions::default(), at(99), work).expect_err("the edit is refused");
    assert!(Arc::ptr_eq(&before, &store.snapshot()), "a refused edit changed the catalog");
    error
}

/// Plans gold (orders, users) and free (orders), the default of orders; acme has gold and free and
/// two keys.
pub(super) fn furnished() -> CatalogStore {
    let store = store();
    edit(&store, 1, |draft| {
        draft.create_plan(plan("gold", &["orders", "users"]))?;
        draft.create_plan(plan("free", &["orders"]))?;
        draft.replace_target(Target { default_plan: Some("free".into()), ..target("orders") })?;
        draft.create_subscriber(subscriber("acme", &["gold", "free"]))?;
        draft.create_subscriber(subscriber("zeta", &["gold"]))?;
        for id in ["acme-1", "acme-2"] {
            draft.create_key(key(id, "acme"), NewValue::Given(&value_of(id)))?;
        }
        Ok(())
    });
    store
}

/// The one mistake of a refusal.
pub(super) fn mistake(error: EditError) -> (String, String) {
    match error {
        EditError::Invalid(mistakes) if mistakes.len() == 1 => {
            let one = mistakes.into_iter().next().unwrap();
            (one.field, one.reason)
        }
        other => panic!("not one mistake: {other:?}"),
    }
}

pub(super) fn method_rate(path: &str, target: &str) -> MethodRate {
    MethodRate {
        method: "GET".to_owned(),
        path: path.to_owned(),
        target: Some(target.into()),
        rate: Rate { rate: MicroRate(1_000_000), burst: None },
        replaces_general: true,
    }
}
