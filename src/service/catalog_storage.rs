//! Keeps the catalog in the ledger. A resource is written as [`StoredForms`] has it, behind a byte
//! that says how; an API key with its hash between the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::lease_broker::LeaseBroker;
use super::patience::FOR_AN_EDIT;
use super::stored::{Resource, StoredForms};
use crate::catalog::{
    Catalog, Draft, FirstRequest, HashKey, Image, Keeper, KeyEntry, Kind, MadeRequest, RequestKey,
    Stored, ValueHash,
};
use crate::decide::plan::Id;
use crate::ledger::{
    CatalogChange, CatalogEdit, CatalogImage, CatalogResource, Ledger, LedgerError, LedgerThread,
    Once, OnceKind,
};

/// How values are written. Another way gets another number, and this one stays readable.
const WRITTEN_AS: u8 = 1;
const HASH_BYTES: usize = 32;

const KINDS: [Kind; 4] = [Kind::Target, Kind::Plan, Kind::Subscriber, Kind::Key];

/// An edit waits so long for each of its changes besides.
const PATIENCE_FOR_ONE: Duration = Duration::from_millis(1);

/// Keeps the catalog in a ledger.
#[derive(Debug)]
pub struct CatalogStorage {
    ledger: Arc<LedgerThread>,
    broker: LeaseBroker,
    forms: &'static dyn StoredForms,
    patience: Duration,
    /// What the ledger was asked, and has not answered yet: one thing at a time.
    asked: Arc<AtomicBool>,
}

impl CatalogStorage {
    /// `broker` hands back what was leased by limits that an edit has lowered.
    pub fn new(
        ledger: Arc<LedgerThread>,
        broker: LeaseBroker,
        forms: &'static dyn StoredForms,
    ) -> Self {
        Self { ledger, broker, forms, patience: FOR_AN_EDIT, asked: Arc::default() }
    }

    /// Asks, and waits so long at most, or until the ledger answers. Until then it is asked nothing
    /// more: each would wait as long, and would stay behind.
    fn ask<T: Send + 'static>(
        &self,
        at_most: Option<Duration>,
        ask: impl FnOnce(Box<dyn FnOnce(Result<T, LedgerError>) + Send>),
    ) -> Result<T, LedgerError> {
        if self.asked.swap(true, Ordering::AcqRel) {
            return Err(LedgerError::Late);
        }
        let (tell, told) = std::sync::mpsc::channel();
        let asked = Asked(Arc::clone(&self.asked));
        ask(Box::new(move |answer| {
            drop(asked);
            // Who asked may have gone.
            drop(tell.send(answer));
        }));
        let answer = match at_most {
            Some(at_most) => told.recv_timeout(at_most),
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        answer.unwrap_or_else(|none| {
            Err(match none {
                RecvTimeoutError::Timeout => LedgerError::Late,
                RecvTimeoutError::Disconnected => LedgerError::Stopped,
            })
        })
    }

    /// Reads on a thread of its own.
    fn read<T: Send + 'static>(
        &self,
        at_most: Option<Duration>,
        read: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, String> {
        let ledger = Arc::clone(self.ledger.ledger());
        let answer = self.ask(at_most, |tell| {
            let reading = std::thread::Builder::new().name("catalog-read".to_owned());
            // An error drops what would tell: the ledger counts as stopped.
            drop(reading.spawn(move || tell(read(&*ledger))));
        });
        answer.map_err(|error| error.to_string())
    }
}

/// Is being asked, until it is dropped.
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Keeper for CatalogStorage {
    fn keep(
        &self,
        expected: u64,
        edit: &Draft,
        request: Option<MadeRequest<'_>>,
    ) -> Result<(), String> {
        let catalog = edit.catalog();
        let change = |(kind, id): &(Kind, _)| CatalogChange {
            kind: number(*kind),
            id: Arc::clone(id),
            value: write(self.forms, catalog, *kind, id),
        };
        let changes: Vec<_> = edit.changed().map(change).collect();
        let revision = if changes.is_empty() { expected } else { catalog.revision() };
        let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        let at_most = self.patience.saturating_add(PATIENCE_FOR_ONE.saturating_mul(count));
        let edit = CatalogEdit { expected, revision, changes, once: request.map(once) };
        match self.ask(Some(at_most), |tell| self.ledger.submit(edit, tell)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(conflict)) => Err(conflict.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn find(&self, request: &RequestKey) -> Result<Option<FirstRequest>, String> {
        let name = request.name;
        let most = Some(self.patience);
        let made = self.read(most, move |ledger| ledger.find_made(OnceKind::Request, &name))?;
        Ok(made.map(|made| FirstRequest { fields: made.fields, answer: made.note }))
    }

    fn published(&self, before: &Catalog, after: &Catalog, changed: &[(Kind, Id)]) {
        let lowered = |id: &Id| {
            let plan = |catalog: &'_ Catalog| {
                catalog.plans().get(id).map(|stored| Arc::clone(&stored.value.plan))
            };
            plan(before).is_some_and(|was| plan(after).is_none_or(|now| now.lowers(&was)))
        };
        let plans: Vec<Id> = changed
            .iter()
            .filter(|(kind, id)| *kind == Kind::Plan && lowered(id))
            .map(|(_, id)| Arc::clone(id))
            .collect();
        if plans.is_empty() {
            return;
        }
        // It goes on when nobody waits for it any more, and never has more under way than that a
        // cold counter still gets its lease.
        let (done, told) = std::sync::mpsc::channel::<()>();
        let broker = self.broker.clone();
        let work = move || {
            for id in plans {
                if let Err(error) = broker.take_back(&id) {
                    tracing::warn!(
                        plan = &*id,
                        "unspent units of the plan are not handed back, and nobody spends them: {error}"
                    );
                }
            }
            drop(done);
        };
        let thread = std::thread::Builder::new().name("take-back".to_owned());
        if let Err(wrong) = thread.spawn(work) {
            tracing::error!("unspent units of lowered plans are not handed back: {wrong}");
        }
        if told.recv_timeout(self.patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the ledger is slow: unspent units of lowered plans are still being handed back"
            );
        }
    }

    fn load(&self) -> Result<Image, String> {
        // However long it takes: an image that comes late would be read again for ever.
        let kept = self.read(None, |ledger| ledger.load_catalog())?;
        let (image, reasons) = decode(self.forms, &kept);
        for reason in reasons {
            tracing::error!(
                "the ledger holds {reason}: it is not served, and what needs it is refused. Declare it again, or restore a backup"
            );
        }
        Ok(image)
    }
}

fn once(MadeRequest { key, answer, now }: MadeRequest<'_>) -> Once {
    Once {
        kind: OnceKind::Request,
        name: key.name,
        fields: key.fields,
        note: answer,
        now_s: now.unix_s(),
    }
}

/// What in a catalog cannot be used, a line for each.
pub fn unusable(forms: &dyn StoredForms, kept: &CatalogImage) -> Vec<String> {
    let (image, mut reasons) = decode(forms, kept);
    let unread = image.unreadable.clone();
    let restored = Catalog::restore(HashKey([0; 32]), None, image);
    let unprepared = restored.unreadable_resources().filter(|resource| !unread.contains(resource));
    reasons.extend(
        unprepared.map(|(kind, id)| format!("a {} that cannot be used: `{id}`", kind.word())),
    );
    reasons
}

/// The resources that can be read, and why the others cannot.
fn decode(forms: &dyn StoredForms, kept: &CatalogImage) -> (Image, Vec<String>) {
    let mut image = Image { revision: kept.revision, ..Image::default() };
    let mut reasons = Vec::new();
    for (kind, id) in &kept.damaged {
        image.unreadable.extend(kinds(*kind).iter().map(|kind| (*kind, Arc::clone(id))));
    }
    for resource in &kept.resources {
        if let Err(reason) = read(forms, resource, &mut image) {
            let CatalogResource { kind, id, .. } = resource;
            reasons.push(format!("a resource that cannot be read (kind {kind}, `{id}`): {reason}"));
            image.unreadable.extend(kinds(*kind).iter().map(|kind| (*kind, Arc::clone(id))));
        }
    }
    (image, reasons)
}

/// The kind of a number, or all where it may be any.
fn kinds(of: u8) -> Vec<Kind> {
    let known: Vec<Kind> = KINDS.into_iter().filter(|kind| number(*kind) == of).collect();
    if known.is_empty() { KINDS.to_vec() } else { known }
}

/// Numbers in the ledger never change.
fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Target => 1,
        Kind::Plan => 2,
        Kind::Subscriber => 3,
        Kind::Key => 4,
    }
}

/// `None`: it was deleted.
fn write(forms: &dyn StoredForms, catalog: &Catalog, kind: Kind, id: &str) -> Option<Vec<u8>> {
    let mut value = vec![WRITTEN_AS];
    if kind == Kind::Key {
        value.extend(catalog.keys().get(id)?.value.hash.0);
    }
    value.extend(forms.write_resource(catalog, kind, id)?);
    Some(value)
}

fn read(
    forms: &dyn StoredForms,
    resource: &CatalogResource,
    image: &mut Image,
) -> Result<(), String> {
    let (&written_as, value) = resource.value.split_first().ok_or("it is empty")?;
    if written_as != WRITTEN_AS {
        return Err(format!(
            "it is written in the way {written_as}, this program knows {WRITTEN_AS}: run a newer one"
        ));
    }
    let known = KINDS.into_iter().find(|kind| number(*kind) == resource.kind);
    let kind = known
        .ok_or_else(|| format!("this program knows no kind {}: run a newer one", resource.kind))?;
    let (hash, value) = match kind {
        Kind::Key => {
            let (hash, value) =
                value.split_first_chunk::<HASH_BYTES>().ok_or("its hash is cut off")?;
            (ValueHash(*hash), value)
        }
        Kind::Target | Kind::Plan | Kind::Subscriber => (ValueHash([0; HASH_BYTES]), value),
    };
    match forms.read_resource(kind, value)? {
        Resource::Target(stored) => image.targets.push(stored),
        Resource::Plan(stored) => image.plans.push(stored),
        Resource::Subscriber(stored) => image.subscribers.push(stored),
        Resource::Key(Stored { value: key, revision, create_ns, update_ns }) => {
            let value = KeyEntry { key, hash };
            image.keys.push(Stored { value, revision, create_ns, update_ns });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{CatalogStore, EditError, EditOptions};
    use crate::clock::Clock;
    use crate::decide::lookup::Lookup;
    use crate::decide::time::Now;
    use crate::engine::plans::{Checked, PlanEngine, Settings, Shortage};
    use crate::grpc::convert::{keys, plans, subscribers, targets};
    use crate::grpc::stored::Messages;
    use crate::ledger::faults::{Fault, FaultyLedger};
    use crate::ledger::{MemoryLedger, Scope, SqliteLedger};
    use crate::testkit::declared::{in_file, request};
    use crate::testkit::plans::AsksPlans;

    const NOW: Now = Now { unix_ns: 1_795_341_600_123_456_789, steady_ns: 1 };

    fn open(folder: &std::path::Path) -> CatalogStore {
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder).unwrap());
        let secrets = ledger.secrets().unwrap();
        let holder = ledger.join(1).unwrap();
        let thread = Arc::new(LedgerThread::start(ledger, 16).unwrap());
        let engine =
            Arc::new(PlanEngine::new(Settings::new(secrets.receipt_key, secrets.fingerprint)));
        let broker = LeaseBroker::new(engine, thread.clone(), holder, Clock::from_fn(|| NOW));
        CatalogStore::kept(
            HashKey(secrets.key_hash),
            None,
            Arc::new(CatalogStorage::new(thread, broker, &Messages)),
        )
        .unwrap()
    }

    #[test]
    fn everything_that_can_be_declared_comes_back_from_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = r#"
targets: [{id: orders/prod, displayName: Orders, labels: {a: b}, rateLimit: {requestsPerSecond: 0.1, burst: 7}, defaultPlan: gold,
  methodRateLimits: [{method: GET, path: "/a/{id}/*", requestsPerSecond: 3}], openMethods: [{method: "*", path: /open}]}]
plans: [{id: gold, description: text, entitlements: [{name: all, counterScope: KEY, targets: [orders/prod, users/prod], rateLimit: {requestsPerSecond: 0.29},
  methodRateLimits: [{method: PUT, path: /x, target: users/prod, requestsPerSecond: 1, burst: 2, replacesGeneral: false}],
  quotas: [{name: d, limit: 0, unit: DAY}, {name: w, limit: 9007199254740992, unit: WEEK, weekStart: SUNDAY, timeZone: Asia/Seoul, onBreach: ALLOW,
            countStatuses: [2xx, "404", others], charge: AT_REPORT}]}]}, {id: empty}]
subscribers: [{id: acme, plans: [gold, empty], keys: [{id: one, value: a-value-of-twenty-characters, enabled: false, notBefore: "2026-01-01T00:00:00.5Z"}]}]
"#;
        let declared = in_file(file);
        let before = {
            let store = open(folder.path());
            store.edit(EditOptions::default(), NOW, |draft| draft.apply(&declared)).unwrap();
            store
                .edit(EditOptions::default(), NOW, |draft| {
                    draft.delete_target("users/prod", "", true)
                })
                .unwrap();
            store.snapshot()
        };
        let store = open(folder.path());
        let after = store.snapshot();
        let shown = |catalog: &Catalog| {
            let plans: Vec<_> =
                catalog.plans().iter_after(None).map(|plan| plans::to_wire(plan)).collect();
            let targets: Vec<_> =
                catalog.targets().iter_after(None).map(|target| targets::to_wire(target)).collect();
            let subscribers: Vec<_> = catalog
                .subscribers()
                .iter_after(None)
                .map(|subscriber| subscribers::to_wire(subscriber))
                .collect();
            let keys: Vec<_> =
                catalog.keys().iter_after(None).map(|key| keys::to_wire(key)).collect();
            format!("{} {plans:?} {targets:?} {subscribers:?} {keys:?}", catalog.revision())
        };
        assert_eq!(shown(&before), shown(&after));
        assert_eq!(&*after.api_key(b"a-value-of-twenty-characters").unwrap().id, "one");
        // The second time nothing differs, and nothing is written.
        assert!(
            store
                .edit(EditOptions::default(), NOW, |draft| draft.apply(&declared))
                .unwrap()
                .answer
                .len()
                <= 2,
            "only what was deleted since"
        );
    }

    /// A catalog that is kept in a ledger, and an engine that leases from it.
    struct Site {
        thread: Arc<LedgerThread>,
        engine: Arc<PlanEngine>,
        broker: LeaseBroker,
        store: CatalogStore,
    }

    impl Site {
        fn over(ledger: Arc<dyn Ledger>, patience: Duration) -> Self {
            let holder = ledger.join(1).unwrap();
            let thread = Arc::new(LedgerThread::start(ledger, 16).unwrap());
            let own = Settings { holder, ..Settings::new([1; 32], [2; 16]) };
            let engine = Arc::new(PlanEngine::new(own));
            let clock = Clock::from_fn(|| NOW);
            let broker = LeaseBroker::new(engine.clone(), thread.clone(), holder, clock);
            let mut keeper = CatalogStorage::new(thread.clone(), broker.clone(), &Messages);
            keeper.patience = patience;
            let store = CatalogStore::kept(HashKey([3; 32]), None, Arc::new(keeper)).unwrap();
            Self { thread, engine, broker, store }
        }

        fn charged(&self) -> u64 {
            let rows = self.thread.ledger().usage(&Scope::All, 0, u64::MAX / 2).unwrap();
            rows.iter().map(|row| row.charged).sum()
        }

        fn check(&self) -> bool {
            let request = request(b"a-value-of-twenty-characters", "t");
            loop {
                let catalog = self.store.load();
                let checked =
                    self.engine.check_or_need(&**catalog, &request, Shortage::Ask, NOW).unwrap();
                let needs = match checked {
                    Checked::Decided(decision) => return decision.verdict.is_allowed(),
                    Checked::Needs(needs) => needs,
                };
                let draw = self.broker.draw(needs, Duration::from_secs(60));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.unwrap().block_on(draw);
            }
        }

        /// Makes an edit, and says what is charged when it is acknowledged.
        fn edit(&self, file: &str) -> u64 {
            let declared = in_file(file);
            self.store.edit(EditOptions::default(), NOW, |draft| draft.apply(&declared)).unwrap();
            self.charged()
        }
    }

    fn gold(rest: &str) -> String {
        format!("plans: [{{id: gold, entitlements: [{{name: all, targets: [t], {rest}}}]}}]")
    }

    const ACME: &str = "subscribers: [{id: acme, plans: [gold], keys: [{id: k, value: a-value-of-twenty-characters}]}]";

    #[test]
    fn the_taking_back_of_units_goes_on_when_an_edit_has_waited_long_enough() {
        let memory = Arc::new(MemoryLedger::new().unwrap());
        let ledger = Arc::new(FaultyLedger::new(memory, |_| Fault::None));
        let site = Site::over(ledger.clone(), Duration::from_millis(50));
        site.edit(&gold("quotas: [{name: q, limit: 1000, unit: YEAR}]"));
        site.edit(ACME);
        assert!(site.check() && site.check() && site.check());
        let leased = site.charged();
        assert!(leased > 3, "more is leased than was spent");
        // The edit is kept, and then the ledger hangs.
        let (go_on, until) = std::sync::mpsc::channel();
        let (mut until, mut commits) = (Some(until), 0);
        ledger.set_plan(move |_| {
            commits += 1;
            until.take_if(|_| commits == 2).map_or(Fault::None, Fault::Wait)
        });
        let lowered = gold("quotas: [{name: q, limit: 4, unit: YEAR}]");
        assert_eq!(site.edit(&lowered), leased, "nothing is back when it is acknowledged");
        assert_eq!(site.store.load().plans().len(), 1);
        go_on.send(()).unwrap();
        while site.charged() != 3 {
            std::thread::yield_now();
        }
        assert!(site.check(), "one of four is left");
        assert!(!site.check());
    }

    #[test]
    fn an_edit_takes_back_what_is_leased_where_it_lowers_a_quota_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(folder.path()).unwrap());
        let site = Site::over(ledger, FOR_AN_EDIT);
        let edit = |file: &str| site.edit(file);
        let (check, charged) = (|| site.check(), || site.charged());
        edit(&gold("quotas: [{name: q, limit: 1000, unit: YEAR}]"));
        edit(ACME);
        assert!(check() && check() && check());
        let leased = charged();
        assert!(leased > 3, "more is leased than was spent");
        assert_eq!(
            edit(&gold(
                "rateLimit: {requestsPerSecond: 9}, quotas: [{name: q, limit: 1000, unit: YEAR}]"
            )),
            leased
        );
        assert_eq!(edit(&gold("quotas: [{name: q, limit: 1001, unit: YEAR}]")), leased);
        assert_eq!(
            edit(&gold("quotas: [{name: q, limit: 1000, unit: YEAR}]")),
            3,
            "when it is acknowledged, no unit is held"
        );
        assert!(check() && charged() > 4);
        assert_eq!(
            edit(&gold("rateLimit: {requestsPerSecond: 9}")),
            4,
            "a quota that is gone is spent no more"
        );
    }

    #[test]
    fn a_ledger_that_hangs_keeps_no_edit_for_ever_and_nobody_from_reading() {
        let memory: Arc<dyn Ledger> = Arc::new(MemoryLedger::new().unwrap());
        let (go_on, told) = std::sync::mpsc::channel();
        let mut told = Some(told);
        let hangs = move |number| match (number, told.take()) {
            (2, Some(told)) => Fault::Wait(told),
            (_, kept) => {
                told = kept;
                Fault::None
            }
        };
        let ledger: Arc<dyn Ledger> = Arc::new(FaultyLedger::new(memory, hangs));
        let holder = ledger.join(1).unwrap();
        let thread = Arc::new(LedgerThread::start(ledger, 16).unwrap());
        let settings = Settings::new([1; 32], [2; 16]);
        let engine = Arc::new(PlanEngine::new(settings));
        let broker = LeaseBroker::new(engine, thread.clone(), holder, Clock::from_fn(|| NOW));
        let mut keeper = CatalogStorage::new(thread, broker, &Messages);
        keeper.patience = Duration::from_millis(50);
        let asked = Arc::clone(&keeper.asked);
        let store = CatalogStore::kept(HashKey([3; 32]), None, Arc::new(keeper)).unwrap();
        let create = |id: &str| {
            let file = format!("subscribers: [{{id: {id}}}]");
            let made =
                store.edit(EditOptions::default(), NOW, |draft| draft.apply(&in_file(&file)));
            made.map(drop)
        };
        let known = || store.load().subscribers().len();
        create("first").unwrap();
        for id in ["second", "third", "fourth"] {
            let late = create(id).unwrap_err().to_string();
            assert!(late.contains("did not answer in time"), "{late}");
            assert_eq!(known(), 1);
        }
        go_on.send(()).unwrap();
        while asked.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        // The one that waited was made after all, and no other.
        assert!(matches!(create("second"), Err(EditError::Exists { .. }) | Ok(())));
        create("third").unwrap();
        assert_eq!(known(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut image = Image::default();
        let mut tried = |kind, value: &[u8]| {
            read(
                &Messages,
                &CatalogResource { kind, id: "x".into(), value: value.to_vec() },
                &mut image,
            )
            .unwrap_err()
        };
        assert!(tried(1, b"").contains("empty"));
        assert!(tried(1, b"\x02").contains("run a newer one"));
        assert!(tried(9, b"\x01").contains("no kind 9"));
        assert!(tried(4, b"\x01short").contains("hash is cut off"));
        assert!(tried(2, b"\x01\xff").contains("invalid"));
    }
}
