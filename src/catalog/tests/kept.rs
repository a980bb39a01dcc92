use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use parking_lot::Mutex as Lock;

use super::*;
use crate::catalog::{
    Answer, Catalog, FirstRequest, Image, Keeper, Kind, MadeRequest, RequestKey, Stored,
};
use crate::decide::lookup::Lookup;
use crate::decide::plan::Id;
use crate::decide::resolve::{Call, Resolution, resolve};
use crate::decide::verdict::Reason;

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const FAILS_AFTERWARDS: u8 = 2;

/// Keeps whole catalogs, or fails before or after it has.
#[derive(Debug, Default)]
struct Shelf {
    kept: Lock<Image>,
    requests: Lock<HashMap<[u8; 16], FirstRequest>>,
    mood: AtomicU8,
    /// What it was told of, and between which revisions.
    told: Lock<Vec<(u64, u64, Vec<Id>)>>,
    /// Says when it is told the next time, and waits then.
    pause: Lock<Option<(Sender<()>, Receiver<()>)>>,
}

impl Keeper for Shelf {
    fn keep(
        &self,
        expected: u64,
        edit: &Draft,
        request: Option<MadeRequest<'_>>,
    ) -> Result<(), String> {
        let mood = self.mood.load(Ordering::Relaxed);
        if mood == FAILS {
            return Err("the disk is full".to_owned());
        }
        assert_eq!(self.kept.lock().revision, expected, "edits are kept one after the other");
        if edit.changed().next().is_some() {
            *self.kept.lock() = image(edit.catalog());
        }
        if let Some(MadeRequest { key, answer, .. }) = request {
            self.requests.lock().insert(key.name, FirstRequest { fields: key.fields, answer });
        }
        if mood == FAILS_AFTERWARDS { Err("nobody knows".to_owned()) } else { Ok(()) }
    }

    fn find(&self, request: &RequestKey) -> Result<Option<FirstRequest>, String> {
        Ok(self.requests.lock().get(&request.name).cloned())
    }

    fn published(&self, before: &Catalog, after: &Catalog, changed: &[(Kind, Id)]) {
        assert!(!changed.is_empty() && before.revision() < after.revision());
        let pause = self.pause.lock().take();
        if let Some((begins, go_on)) = pause {
            begins.send(()).unwrap();
            go_on.recv().unwrap();
        }
        let ids = changed.iter().map(|(_, id)| id.clone()).collect();
        self.told.lock().push((before.revision(), after.revision(), ids));
    }

    fn load(&self) -> Result<Image, String> {
        if self.mood.load(Ordering::Relaxed) == FAILS {
            Err("the disk is full".to_owned())
        } else {
            Ok(self.kept.lock().clone())
        }
    }
}

fn record<T, U>(stored: &Stored<T>, value: U) -> Stored<U> {
    Stored {
        value,
        revision: stored.revision,
        create_ns: stored.create_ns,
        update_ns: stored.update_ns,
    }
}

fn image(catalog: &Catalog) -> Image {
    Image {
        revision: catalog.revision(),
        plans: catalog
            .plans()
            .iter_after(None)
            .map(|stored| record(stored, (*stored.value.plan).clone()))
            .collect(),
        targets: catalog
            .targets()
            .iter_after(None)
            .map(|stored| record(stored, (*stored.value.target).clone()))
            .collect(),
        subscribers: catalog
            .subscribers()
            .iter_after(None)
            .map(|stored| (**stored).clone())
            .collect(),
        keys: catalog.keys().iter_after(None).map(|stored| (**stored).clone()).collect(),
        unreadable: catalog.unreadable_resources().cloned().collect(),
    }
}

fn store(shelf: &Arc<Shelf>) -> CatalogStore {
    CatalogStore::kept(HashKey([9; 32]), None, shelf.clone()).unwrap()
}

fn tried(
    store: &CatalogStore,
    work: impl FnOnce(&mut Draft) -> Result<(), EditError>,
) -> Result<(), EditError> {
    store.edit(EditOptions::default(), at(1), work).map(|edited| edited.answer)
}

const VALUE: &str = "a-value-of-twenty-characters";

fn fill(store: &CatalogStore) {
    tried(store, |draft| {
        draft.create_plan(plan("gold", &["orders", "users"]))?;
        draft.create_plan(plan("free", &["orders"]))?;
        draft.replace_target(Target { default_plan: Some("free".into()), ..target("orders") })?;
        draft.create_subscriber(subscriber("acme", &["gold", "free"]))?;
        draft.create_key(key("acme-1", "acme"), NewValue::Given(VALUE)).map(|_| ())
    })
    .unwrap();
    tried(store, |draft| draft.replace_plan(plan("gold", &["orders"])).map(|_| ())).unwrap();
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let shelf = Arc::new(Shelf::default());
    let before = store(&shelf);
    fill(&before);
    let after = store(&shelf);
    let (before, after) = (before.snapshot(), after.snapshot());
    assert_eq!(image(&before).revision, image(&after).revision);
    assert_eq!(format!("{:?}", image(&before)), format!("{:?}", image(&after)));
    assert_eq!(after.api_key(VALUE.as_bytes()).unwrap().id, "acme-1".into());
    consistent::check(&after);
    let indexes = |catalog: &Catalog| {
        let texts = |ids: Vec<&Id>| ids.into_iter().map(ToString::to_string).collect::<Vec<_>>();
        [
            texts(catalog.keys_of("acme").collect()),
            texts(catalog.subscribers_of("gold").collect()),
            texts(catalog.targets_defaulting_to("free").collect()),
            texts(catalog.plans_of("orders").collect()),
            texts(catalog.plans_of("users").collect()),
        ]
    };
    assert_eq!(indexes(&before), indexes(&after));
    assert_eq!(
        indexes(&after),
        [vec!["acme-1"], vec!["acme"], vec!["orders"], vec!["free", "gold"], vec![]]
    );
}

#[test]
fn what_could_not_be_kept_is_not_acknowledged_and_not_seen() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    fill(&store);
    shelf.mood.store(FAILS, Ordering::Relaxed);
    let work =
        |draft: &mut Draft| draft.create_subscriber(subscriber("other", &["gold"])).map(|_| ());
    for _ in 0..2 {
        assert_eq!(
            tried(&store, work).unwrap_err(),
            EditError::NotKept("the disk is full".to_owned())
        );
        assert!(store.load().subscriber("other").is_none());
    }
    shelf.mood.store(WORKS, Ordering::Relaxed);
    tried(&store, work).unwrap();
    assert!(store.load().subscriber("other").is_some());
}

#[test]
fn an_edit_that_was_kept_although_it_failed_is_seen_by_the_next() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    fill(&store);
    shelf.mood.store(FAILS_AFTERWARDS, Ordering::Relaxed);
    let work =
        |draft: &mut Draft| draft.create_subscriber(subscriber("other", &["gold"])).map(|_| ());
    assert!(matches!(tried(&store, work), Err(EditError::NotKept(_))));
    shelf.mood.store(WORKS, Ordering::Relaxed);
    assert!(matches!(tried(&store, work), Err(EditError::Exists { .. })));
}

#[test]
fn an_edit_that_was_kept_although_it_failed_comes_into_force_by_itself() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    fill(&store);
    let before = store.load().revision();
    store.catch_up();
    shelf.mood.store(FAILS_AFTERWARDS, Ordering::Relaxed);
    let work =
        |draft: &mut Draft| draft.create_subscriber(subscriber("other", &["gold"])).map(|_| ());
    assert!(matches!(tried(&store, work), Err(EditError::NotKept(_))));
    assert_eq!(store.load().revision(), before, "nobody knows yet");
    shelf.mood.store(WORKS, Ordering::Relaxed);
    store.catch_up();
    assert_eq!(store.load().revision(), before + 1);
    assert!(store.load().subscribers().get("other").is_some());
}

#[test]
fn a_keeper_is_told_of_an_edit_that_was_kept_although_it_failed() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    fill(&store);
    shelf.told.lock().clear();
    shelf.mood.store(FAILS_AFTERWARDS, Ordering::Relaxed);
    let lower = |draft: &mut Draft| draft.replace_plan(plan("gold", &["users"])).map(|_| ());
    assert!(matches!(tried(&store, lower), Err(EditError::NotKept(_))));
    assert!(shelf.told.lock().is_empty());
    shelf.mood.store(WORKS, Ordering::Relaxed);
    tried(&store, |draft| draft.create_subscriber(subscriber("other", &[])).map(|_| ())).unwrap();
    let names = |ids: &[&str]| ids.iter().map(|id| Id::from(*id)).collect::<Vec<_>>();
    assert_eq!(
        *shelf.told.lock(),
        [(2, 3, names(&["gold"])), (3, 4, names(&["other"]))],
        "what the plan had leased was not taken back"
    );
}

#[test]
fn while_the_keeper_is_told_others_are_edited_and_a_retry_waits() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    fill(&store);
    let (begins, begun) = mpsc::channel();
    let (go_on, pause) = mpsc::channel();
    *shelf.pause.lock() = Some((begins, pause));
    let key = RequestKey::new("r", "Update", b"x").unwrap().unwrap();
    let lower = || {
        let work =
            |draft: &mut Draft| draft.replace_plan(plan("gold", &["users"])).map(|_| Count(7));
        store.edit_once(&key, EditOptions::default(), at(1), work).unwrap().repeated
    };
    std::thread::scope(|threads| {
        let first = threads.spawn(lower);
        begun.recv().unwrap();
        // It is in force, and not acknowledged.
        assert_eq!(store.load().revision(), 3);
        tried(&store, |draft| draft.create_subscriber(subscriber("other", &[])).map(|_| ()))
            .unwrap();
        let (answers, answered) = mpsc::channel();
        let retry = threads.spawn(move || answers.send(lower()));
        assert!(
            answered.recv_timeout(std::time::Duration::from_millis(50)).is_err(),
            "a retry was acknowledged before the first"
        );
        go_on.send(()).unwrap();
        assert!(answered.recv().unwrap() && !first.join().unwrap());
        retry.join().unwrap().unwrap();
    });
    assert_eq!(shelf.told.lock().len(), 4);
}

#[test]
fn an_edit_waits_for_those_before_it_and_not_for_ever() {
    let shelf = Arc::new(Shelf::default());
    let mut store = store(&shelf);
    fill(&store);
    store.patience = std::time::Duration::from_millis(20);
    let work =
        |draft: &mut Draft| draft.create_subscriber(subscriber("other", &["gold"])).map(|_| ());
    let before = store.writer.lock();
    assert_eq!(tried(&store, work), Err(EditError::Waiting));
    drop(before);
    tried(&store, work).unwrap();
}

/// An answer as it is written down.
#[derive(Debug, PartialEq, Eq)]
struct Count(u8);

impl Answer for Count {
    fn write(&self) -> Vec<u8> {
        vec![self.0]
    }

    fn read(written: &[u8]) -> Option<Self> {
        written.first().copied().map(Self)
    }
}

#[test]
fn a_request_that_was_kept_is_made_once_also_where_it_seemed_to_fail_and_after_a_restart() {
    let shelf = Arc::new(Shelf::default());
    let before = store(&shelf);
    fill(&before);
    let key = |message: &[u8]| RequestKey::new("r", "Create", message).unwrap().unwrap();
    let create = |store: &CatalogStore, message: &[u8], answer: u8| {
        let work = |draft: &mut Draft| {
            draft.create_subscriber(subscriber("other", &["gold"])).map(|_| Count(answer))
        };
        store.edit_once(&key(message), EditOptions::default(), at(1), work)
    };
    shelf.mood.store(FAILS_AFTERWARDS, Ordering::Relaxed);
    assert!(matches!(create(&before, b"x", 7), Err(EditError::NotKept(_))));
    shelf.mood.store(WORKS, Ordering::Relaxed);
    for store in [before, store(&shelf)] {
        let retried = create(&store, b"x", 8).unwrap();
        assert_eq!((retried.answer, retried.repeated), (Count(7), true), "the first answer");
        assert_eq!(mistake(create(&store, b"y", 8).unwrap_err()).0, "request_id");
    }
}

#[test]
fn a_request_that_changes_nothing_is_remembered_too() {
    let shelf = Arc::new(Shelf::default());
    let store = store(&shelf);
    fill(&store);
    let (key, revision) =
        (RequestKey::new("r", "Attach", b"x").unwrap().unwrap(), store.load().revision());
    for (repeated, answer) in [(false, 1), (true, 2)] {
        let work = |draft: &mut Draft| {
            draft.attach_target("gold", "all", "orders", "").map(|_| Count(answer))
        };
        let edited = store.edit_once(&key, EditOptions::default(), at(1), work).unwrap();
        assert_eq!((edited.answer, edited.repeated), (Count(1), repeated));
    }
    assert_eq!(store.load().revision(), revision);
}

/// Why a call with a key to a target is refused. `None`: it is covered.
fn refusal(catalog: &Catalog, value: &str, target: &str) -> Option<Reason> {
    let call = Call { api_key: value.as_bytes(), target, method: b"", path: b"" };
    match resolve(catalog, &call, at(1)) {
        Resolution::Refused(refused) => Some(refused.reason),
        _ => None,
    }
}

#[test]
fn who_needs_what_cannot_be_read_is_refused_as_unavailable_and_others_are_served() {
    const OTHER: &str = "another-value-of-twenty-characters";
    type Lose = fn(&mut Image);
    // What cannot be read, whom it keeps down, and what a caller whom nobody knows is told.
    let cases: [(Kind, &str, Lose, Reason); 4] = [
        (
            Kind::Key,
            "acme-1",
            |image| image.keys.retain(|key| &*key.value.key.id != "acme-1"),
            Reason::LedgerUnavailable,
        ),
        (
            Kind::Subscriber,
            "acme",
            |image| image.subscribers.retain(|one| &*one.value.id != "acme"),
            Reason::ApiKeyUnknown,
        ),
        (
            Kind::Plan,
            "gold",
            |image| image.plans.retain(|plan| &*plan.value.id != "gold"),
            Reason::ApiKeyUnknown,
        ),
        (
            Kind::Target,
            "users",
            |image| image.targets.retain(|target| &*target.value.id != "users"),
            Reason::ApiKeyUnknown,
        ),
    ];
    for (kind, id, lose, unknown) in cases {
        let shelf = Arc::new(Shelf::default());
        let before = store(&shelf);
        tried(&before, |draft| {
            draft.create_plan(plan("gold", &["users"]))?;
            draft.create_plan(plan("free", &["orders"]))?;
            draft.create_target(target("lonely"))?;
            draft.create_subscriber(subscriber("acme", &["gold", "free"]))?;
            draft.create_key(key("acme-1", "acme"), NewValue::Given(VALUE))?;
            draft.create_subscriber(subscriber("other", &["free"]))?;
            draft.create_key(key("other-1", "other"), NewValue::Given(OTHER)).map(|_| ())
        })
        .unwrap();
        assert_eq!(refusal(&before.load(), VALUE, "users"), None);
        {
            let mut image = shelf.kept.lock();
            lose(&mut image);
            image.unreadable.insert((kind, id.into()));
        }
        let after = store(&shelf);
        assert_eq!(refusal(&after.load(), VALUE, "users"), Some(Reason::LedgerUnavailable), "{id}");
        assert_eq!(
            refusal(&after.load(), OTHER, "orders"),
            None,
            "{id}: another customer is served"
        );
        assert_eq!(
            refusal(&after.load(), "a-value-that-nobody-has", "users"),
            Some(unknown),
            "{id}"
        );
        // Also where a later plan of the subscriber would cover it: the one that cannot be read
        // comes first.
        if kind == Kind::Plan {
            assert_eq!(refusal(&after.load(), VALUE, "orders"), Some(Reason::LedgerUnavailable));
            tried(&after, |draft| draft.create_plan(plan("gold", &["users"])).map(|_| ())).unwrap();
            assert_eq!(
                refusal(&after.load(), VALUE, "users"),
                None,
                "declared again, it is served again"
            );
            assert_eq!(after.load().unreadable_resources().count(), 0);
        }
    }
}
