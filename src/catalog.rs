//! Plans, targets, subscribers and API keys: the immutable snapshot that decisions read, and its
//! edits.
//!
//! An edit is worked out on a [`Draft`], a copy of the snapshot that shares all but what it
//! changes; when all of it has succeeded, the draft takes the snapshot's place in one step. A
//! decision that holds the older snapshot goes on with it: it sees one consistent catalog.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::decide::compiled::CompiledPlan;
use crate::decide::gcra::RateLimit;
use crate::decide::plan::Id;
use crate::decide::time::Now;

mod draft;
mod error;
mod key_entry;
mod kind;
mod links;
mod list;
mod owned;
mod recent;
mod requests;
mod restore;
mod secret;
mod snapshot;
mod table;
mod walks;

pub use draft::apply::{Action, Declared, DeclaredKey, DeclaredSubscriber, Difference, Prune};
pub use draft::{Changed, Draft, Field, Fields, NewValue, Stated};
pub use error::{EditError, MAX_NAMED};
pub use key_entry::KeyEntry;
pub use kind::Kind;
pub use list::{DEFAULT_PAGE_SIZE, ListOptions, MAX_PAGE_SIZE, Page};
pub use recent::{Caller, Recent, Room, Who};
pub use requests::{
    Answer, FirstRequest, KEPT_NS, MAX_REQUEST_ID, MAX_REQUESTS, MadeRequest, RequestKey, Requests,
};
pub use restore::{Image, Keeper};
pub use secret::{HashKey, VALUE_PREFIX, ValueHash};
pub use snapshot::Catalog;
pub use table::{Resource, Stored, Table};

/// How long an edit waits for those before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an edit is made.
#[derive(Clone, Debug, Default)]
pub struct EditOptions {
    /// Work everything out, answer, and change nothing.
    pub validate_only: bool,
}

/// The answer to an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited<A> {
    pub answer: A,
    /// A retry: this is what the first request was answered.
    pub repeated: bool,
    /// What is different now. `None`: nothing.
    pub change: Option<Change>,
}

/// What an edit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision that it made.
    pub revision: u64,
    pub resources: Vec<(Kind, Id)>,
}

/// The catalog in memory: one snapshot for all readers, one writer at a time.
pub struct CatalogStore {
    current: ArcSwap<Catalog>,
    writer: Mutex<Writer>,
    keeper: Option<Arc<dyn Keeper>>,
    /// Read while what was published is told to the keeper, and nothing is acknowledged yet.
    telling: RwLock<()>,
    patience: Duration,
}

/// An edit that is in force, and whose keeper was not told yet.
struct Published<'s> {
    before: Arc<Catalog>,
    after: Arc<Catalog>,
    changed: Vec<(Kind, Id)>,
    _telling: RwLockReadGuard<'s, ()>,
}

/// What edits take turns at.
#[derive(Debug, Default)]
struct Writer {
    /// Where nobody keeps them.
    requests: Requests,
    /// It is not known whether the last edit was kept.
    unsure: bool,
}

/// The catalog itself would fill the log.
impl fmt::Debug for CatalogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogStore")
            .field("revision", &self.load().revision())
            .finish_non_exhaustive()
    }
}

impl CatalogStore {
    /// An empty catalog that nobody keeps. `account` limits the traffic of all plans together.
    pub fn new(hash_key: HashKey, account: Option<RateLimit>) -> Self {
        Self {
            current: ArcSwap::from_pointee(Catalog::new(hash_key, account)),
            writer: Mutex::default(),
            keeper: None,
            telling: RwLock::default(),
            patience: PATIENCE,
        }
    }

    /// The catalog that `keeper` has kept; from now on an edit is acknowledged when it is kept.
    ///
    /// # Errors
    /// Why what was kept cannot be used.
    pub fn kept(
        hash_key: HashKey,
        account: Option<RateLimit>,
        keeper: Arc<dyn Keeper>,
    ) -> Result<Self, String> {
        let catalog = Catalog::restore(hash_key, account, keeper.load()?);
        Ok(Self {
            current: ArcSwap::from_pointee(catalog),
            writer: Mutex::default(),
            keeper: Some(keeper),
            telling: RwLock::default(),
            patience: PATIENCE,
        })
    }

    /// The snapshot of this moment, for one decision. Keep it short: it must not be held across an
    /// await.
    pub fn load(&self) -> Guard<Arc<Catalog>> {
        self.current.load()
    }

    /// Remembers callers of this catalog, in one thread. None yet. All threads share the room.
    pub fn recent<S: Default>(&self, room: &Room) -> Recent<S> {
        Recent::new(&self.load().hash_key, room)
    }

    /// The snapshot of this moment, to keep.
    pub fn snapshot(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Makes an edit, all or nothing: `work` says what to do and what to answer.
    ///
    /// # Errors
    /// Those of `work`, those that show when all of it is done (a default plan that does not cover
    /// its target); [`EditError::NotKept`] and [`EditError::Waiting`].
    pub fn edit<A>(
        &self,
        options: EditOptions,
        now: Now,
        work: impl FnOnce(&mut Draft) -> Result<A, EditError>,
    ) -> Result<Edited<A>, EditError> {
        let mut writer = self.turn()?;
        self.make_sure(&mut writer)?;
        let (draft, answer) = self.draft(now, work)?;
        let published =
            if options.validate_only { None } else { self.publish(draft, &mut writer, None)? };
        drop(writer);
        Ok(Edited { answer, repeated: false, change: self.tell(published) })
    }

    /// The same, where the request has a name: a retry gets the first answer, and changes nothing.
    ///
    /// # Errors
    /// As there, and where another request had the name.
    pub fn edit_once<A: Answer>(
        &self,
        request: &RequestKey,
        options: EditOptions,
        now: Now,
        work: impl FnOnce(&mut Draft) -> Result<A, EditError>,
    ) -> Result<Edited<A>, EditError> {
        let mut writer = self.turn()?;
        self.make_sure(&mut writer)?;
        let first = match &self.keeper {
            Some(keeper) => keeper.find(request).map_err(EditError::NotKept)?,
            None => writer.requests.find(request, now).cloned(),
        };
        if let Some(first) = first {
            drop(writer);
            // The first request may be waiting for its keeper still: the retry waits with it.
            drop(self.telling.write());
            let written =
                request.answered(&first).map_err(|wrong| EditError::Invalid(vec![wrong]))?;
            let unread = || {
                EditError::NotKept(
                    "the first answer to this request cannot be read: run a newer tollgate"
                        .to_owned(),
                )
            };
            return Ok(Edited {
                answer: A::read(&written).ok_or_else(unread)?,
                repeated: true,
                change: None,
            });
        }
        let (draft, answer) = self.draft(now, work)?;
        let published = if options.validate_only {
            None
        } else {
            self.publish(
                draft,
                &mut writer,
                Some(MadeRequest { key: request, answer: answer.write(), now }),
            )?
        };
        drop(writer);
        Ok(Edited { answer, repeated: false, change: self.tell(published) })
    }

    /// Waits for the edits before this one.
    fn turn(&self) -> Result<MutexGuard<'_, Writer>, EditError> {
        self.writer.try_lock_for(self.patience).ok_or(EditError::Waiting)
    }

    /// Works an edit out.
    fn draft<A>(
        &self,
        now: Now,
        work: impl FnOnce(&mut Draft) -> Result<A, EditError>,
    ) -> Result<(Draft, A), EditError> {
        let mut draft = Draft::new(&self.current.load(), now);
        let answer = work(&mut draft)?;
        draft.check()?;
        Ok((draft, answer))
    }

    /// What a draft changed becomes what everyone reads, once it is kept.
    fn publish(
        &self,
        draft: Draft,
        writer: &mut Writer,
        request: Option<MadeRequest<'_>>,
    ) -> Result<Option<Published<'_>>, EditError> {
        let is_empty = draft.changed().next().is_none();
        if is_empty && request.is_none() {
            return Ok(None);
        }
        match (&self.keeper, request) {
            (Some(keeper), request) => {
                let kept = keeper.keep(self.current.load().revision(), &draft, request);
                writer.unsure = kept.is_err();
                kept.map_err(EditError::NotKept)?;
            }
            (None, Some(request)) => writer.requests.remember(request),
            (None, None) => {}
        }
        if is_empty {
            return Ok(None);
        }
        let changed: Vec<_> = draft.changed().cloned().collect();
        let after = Arc::new(draft.into_catalog());
        // Whoever waits for it to be told must not keep others from being told.
        let telling = self.telling.read_recursive();
        let before = self.current.swap(Arc::clone(&after));
        Ok(Some(Published { before, after, changed, _telling: telling }))
    }

    /// Tells the keeper of an edit that is in force. Other edits go on meanwhile: what is taken
    /// back may be the units of a million counters.
    fn tell(&self, published: Option<Published<'_>>) -> Option<Change> {
        let Published { before, after, changed, _telling } = published?;
        if let Some(keeper) = &self.keeper {
            keeper.published(&before, &after, &changed);
        }
        Some(Change { revision: after.revision(), resources: changed })
    }

    /// An edit that failed, and was kept all the same, comes into force: for each second. Where no
    /// edit has failed, nothing is done.
    pub fn catch_up(&self) {
        let Some(mut writer) = self.writer.try_lock().filter(|writer| writer.unsure) else {
            return;
        };
        let before = self.load().revision();
        match self.make_sure(&mut writer) {
            Ok(()) if self.load().revision() != before => tracing::warn!(
                revision = self.load().revision(),
                "an edit that seemed to fail was kept, and is in force now"
            ),
            Ok(()) => {}
            Err(error) => {
                tracing::debug!("whether the last edit was kept is not known yet: {error}")
            }
        }
    }

    /// After a failure the edit may have been kept all the same: goes on from what was.
    fn make_sure(&self, writer: &mut Writer) -> Result<(), EditError> {
        let (true, Some(keeper)) = (writer.unsure, &self.keeper) else { return Ok(()) };
        let current = self.current.load_full();
        let image = keeper.load().map_err(EditError::NotKept)?;
        let catalog = Catalog::restore(current.hash_key.clone(), current.account, image);
        let after = Arc::new(catalog);
        let before = self.current.swap(Arc::clone(&after));
        writer.unsure = false;
        // What it lowered was not taken back.
        let differs = |plan: &&Arc<Stored<CompiledPlan>>| {
            after.plans().get(plan.value.id()).is_none_or(|now| now.revision != plan.revision)
        };
        let plans = before.plans().iter_after(None).filter(differs);
        let changed: Vec<_> = plans.map(|plan| (Kind::Plan, plan.value.id().clone())).collect();
        if !changed.is_empty() {
            keeper.published(&before, &after, &changed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
