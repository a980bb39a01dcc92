//! An edit in the making: the catalog as it will be, and which resources differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::{EditError, MAX_NAMED, clipped};
use super::kind::Kind;
use super::links::Links;
use super::snapshot::Catalog;
use super::table::{Resource, Stored, Table};
use crate::decide::plan::Id;
use crate::decide::time::Now;

pub(super) mod apply;
mod difference;
mod fields;
mod keys;
mod plans;
mod prune;
mod subscribers;
mod targets;
mod words;

pub use difference::Changed;
pub use fields::{Field, Fields, Stated};
pub use keys::NewValue;

/// An edit in the making. What fails leaves it half done: it is thrown away then.
#[derive(Debug)]
pub struct Draft {
    next: Catalog,
    changed: BTreeSet<(Kind, Id)>,
    /// Targets whose default plan must cover them in the end, and who is to blame if not.
    defaults: BTreeMap<Id, Blame>,
    now_ns: u64,
}

#[derive(Debug)]
enum Blame {
    /// The target, declared in this edit; the text leads to it in a file of many.
    Declared(String),
    /// The plan that was edited.
    Plan,
}

impl Draft {
    pub(super) fn new(base: &Catalog, now: Now) -> Self {
        let mut next = base.clone();
        next.revision += 1;
        Self { next, changed: BTreeSet::new(), defaults: BTreeMap::new(), now_ns: now.unix_ns }
    }

    /// The catalog as it will be.
    pub fn catalog(&self) -> &Catalog {
        &self.next
    }

    /// The resources that differ from before, each once. One that [`Self::catalog`] does not hold
    /// was deleted.
    pub fn changed(&self) -> impl Iterator<Item = &(Kind, Id)> {
        self.changed.iter()
    }

    pub(super) fn into_catalog(mut self) -> Catalog {
        if !self.next.unreadable.is_empty() {
            let left = self.next.unreadable.difference(&self.changed).cloned().collect();
            self.next.unreadable = Arc::new(left);
        }
        self.next
    }

    /// What can be said only when all of the edit is done.
    pub(super) fn check(&self) -> Result<(), EditError> {
        let mut mistakes = Vec::new();
        let mut broken: BTreeMap<&Id, Vec<String>> = BTreeMap::new();
        for (id, blame) in &self.defaults {
            let Some(target) = self.next.targets.get(id) else { continue };
            let Some(plan) = target
                .value
                .target
                .default_plan
                .as_ref()
                .filter(|plan| !self.next.covers(plan, id))
            else {
                continue;
            };
            match blame {
                Blame::Declared(at) => mistakes.push(crate::decide::invalid::Invalid::new(
                    format!("{at}default_plan"),
                    match self.next.plans.get(plan) {
                        Some(_) => format!(
                            "names the plan `{plan}`, which does not cover the target `{id}`"
                        ),
                        None => format!("names the plan `{plan}`, which does not exist"),
                    },
                )),
                Blame::Plan => broken.entry(plan).or_default().push(id.to_string()),
            }
        }
        if !mistakes.is_empty() {
            return Err(EditError::Invalid(mistakes));
        }
        match broken.into_iter().next() {
            None => Ok(()),
            Some((plan, mut by)) => {
                let count = by.len();
                by.truncate(MAX_NAMED);
                let why = "must go on covering the targets whose default plan it is";
                Err(EditError::InUse { kind: Kind::Plan, id: plan.to_string(), why, by, count })
            }
        }
    }

    fn note<T: Resource>(&mut self, value: &T) {
        self.changed.insert((T::KIND, value.id().clone()));
    }

    /// `value` as it is stored by this edit, in the place of `before`.
    fn stored<T>(&self, value: T, before: Option<&Stored<T>>) -> Arc<Stored<T>> {
        Arc::new(Stored {
            value,
            revision: self.next.revision,
            create_ns: before.map_or(self.now_ns, |before| before.create_ns),
            update_ns: self.now_ns,
        })
    }
}

/// What `id` names in `table`. An `etag` must be the current one; an empty one is none.
fn current<T: Resource>(
    table: &Table<T>,
    id: &str,
    etag: &str,
) -> Result<Arc<Stored<T>>, EditError> {
    let found = table.find(id)?;
    let right = found.etag();
    if !etag.is_empty() && etag != right {
        return Err(EditError::Stale {
            kind: T::KIND,
            id: id.to_owned(),
            given: clipped(etag),
            current: right,
        });
    }
    Ok(found.clone())
}

fn absent<T: Resource>(table: &Table<T>, id: &str) -> Result<(), EditError> {
    match table.get(id) {
        Some(_) => Err(EditError::Exists { kind: T::KIND, id: id.to_owned() }),
        None => Ok(()),
    }
}

/// Refuses to delete what others name.
fn unused(kind: Kind, id: &str, links: &Links, why: &'static str) -> Result<(), EditError> {
    unnamed(kind, id, links.count(id), links.of(id), why)
}

/// The same, of so many others.
fn unnamed<'i>(
    kind: Kind,
    id: &str,
    count: usize,
    by: impl Iterator<Item = &'i Id>,
    why: &'static str,
) -> Result<(), EditError> {
    if count == 0 {
        return Ok(());
    }
    let by = by.take(MAX_NAMED).map(ToString::to_string).collect();
    Err(EditError::InUse { kind, id: id.to_owned(), why, by, count })
}
