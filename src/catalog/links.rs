//! Who names whom, from the named one's side: what an edit or a delete must know without reading the whole catalog.

use imbl::{HashMap, OrdSet};

use crate::decide::plan::Id;

/// From a named id to the ids of those that name it, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(HashMap<Id, OrdSet<Id>>);

impl Links {
    /// Those that name `named`, in order.
    pub(super) fn of<'a>(&'a self, named: &str) -> impl Iterator<Item = &'a Id> + use<'a> {
        self.0.get(named).into_iter().flatten()
    }

    /// How many name `named`.
    pub(super) fn count(&self, named: &str) -> usize {
        self.0.get(named).map_or(0, OrdSet::len)
    }

    pub(super) fn add(&mut self, named: &Id, by: &Id) {
        self.0.entry(named.clone()).or_default().insert(by.clone());
    }

    pub(super) fn remove(&mut self, named: &Id, by: &Id) {
        if let Some(all) = self.0.get_mut(named) {
            all.remove(by);
            if all.is_empty() {
                self.0.remove(named);
            }
        }
    }

    /// `by` named `before` and names `after` now.
    pub(super) fn change<'a>(&mut self, by: &Id, before: impl Iterator<Item = &'a Id>, after: impl Iterator<Item = &'a Id>) {
        let before: std::collections::HashSet<&Id> = before.collect();
        let after: std::collections::HashSet<&Id> = after.collect();
        for gone in before.difference(&after) {
            self.remove(gone, by);
        }
        for new in after.difference(&before) {
            self.add(new, by);
        }
    }
}
