//! Catalogs to measure with.

use std::sync::Arc;

use tollgate::catalog::{CatalogStore, Declared, DeclaredKey, DeclaredSubscriber, EditOptions};
use tollgate::decide::plan::{About, ApiKey, Id, Subscriber};
use tollgate::decide::time::Now;
use tollgate::testkit::declared;

/// The value of the API key of a subscriber: 39 bytes.
pub fn key(number: usize) -> String {
    format!("api-key-{number:031}")
}

/// The id of a subscriber.
pub fn subscriber_id(number: usize) -> String {
    format!("subscriber-{number:07}")
}

/// What a file declares, and so many subscribers of all its plans, each with one API key.
pub fn declare(file: &str, subscribers: usize) -> Declared {
    let mut declared = declared::in_file(file);
    let plans: Vec<Id> = declared.plans.iter().map(|plan| plan.value.id.clone()).collect();
    declared.subscribers = (0..subscribers).map(|number| subscriber(number, &plans)).collect();
    declared
}

pub fn subscriber(number: usize, plans: &[Id]) -> DeclaredSubscriber {
    let id = Id::from(subscriber_id(number));
    let key = ApiKey {
        subscriber: Arc::clone(&id),
        about: about(),
        ..declared::key(&format!("key-{number:07}"), "")
    };
    DeclaredSubscriber {
        subscriber: Subscriber { id, about: about(), plans: plans.to_vec().into() }.into(),
        keys: vec![DeclaredKey { key: key.into(), value: Some(self::key(number)) }],
    }
}

/// Makes a catalog hold it.
pub fn apply(store: &CatalogStore, declared: &Declared, now: Now) {
    store.edit(EditOptions::default(), now, |draft| draft.apply(declared)).unwrap();
}

fn about() -> About {
    declared::about("bench")
}
