//! The names of API keys and targets behind the numbers that receipts carry.
//!
//! Each epoch draws its numbers from 1 on, and a receipt names the epoch: a number never gets another name, whatever was written of it.

use std::sync::Arc;

use super::names::Names;
use crate::decide::plan::Id;
use crate::decide::time::Now;
use crate::engine::sync::{DashMap, Mutex};

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameKind {
    Key,
    Target,
}

/// The name behind a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedName {
    pub kind: NameKind,
    pub number: u32,
    pub name: Id,
}

/// Holder, epoch, and the number of this kind.
type Place = (u32, u32, NameKind, u32);

/// The names of this epoch, and those of earlier ones that were restored.
#[derive(Debug)]
pub(super) struct ReceiptNames {
    keys: Names<Id>,
    targets: Names<Id>,
    /// Numbered since they were taken last. `None`: nobody takes them.
    fresh: Option<Mutex<Vec<NumberedName>>>,
    earlier: DashMap<Place, Id>,
    restored: Mutex<Option<Now>>,
}

impl ReceiptNames {
    /// At most `max` of each kind.
    pub(super) fn new(max: u32, kept: bool) -> Self {
        Self {
            keys: Names::new(max),
            targets: Names::new(max),
            fresh: kept.then(Mutex::default),
            earlier: DashMap::new(),
            restored: Mutex::default(),
        }
    }

    fn names(&self, kind: NameKind) -> &Names<Id> {
        match kind {
            NameKind::Key => &self.keys,
            NameKind::Target => &self.targets,
        }
    }

    /// The number of a name in this epoch. 0: there are too many.
    pub(super) fn number(&self, kind: NameKind, name: &Id) -> u32 {
        let drawn = |number| {
            if let Some(fresh) = &self.fresh {
                fresh.lock().push(NumberedName { kind, number, name: Arc::clone(name) });
            }
        };
        self.names(kind).number_or_draw(&**name, || Arc::clone(name), drawn)
    }

    /// The name of a number of this epoch.
    pub(super) fn name(&self, kind: NameKind, number: u32) -> Option<Id> {
        self.names(kind).value(number)
    }

    /// The name of a number of another holder or epoch.
    pub(super) fn earlier(&self, holder: u32, epoch: u32, kind: NameKind, number: u32) -> Option<Id> {
        self.earlier.get(&(holder, epoch, kind, number)).map(|name| Arc::clone(&name))
    }

    pub(super) fn restore(&self, holder: u32, epoch: u32, name: NumberedName, now: Now) {
        self.earlier.insert((holder, epoch, name.kind, name.number), name.name);
        self.restored.lock().get_or_insert(now);
    }

    pub(super) fn earlier_names(&self) -> usize {
        self.earlier.len()
    }

    pub(super) fn take_fresh(&self, most: usize) -> Vec<NumberedName> {
        let Some(fresh) = &self.fresh else { return Vec::new() };
        let mut fresh = fresh.lock();
        let rest = fresh.len().saturating_sub(most);
        fresh.drain(rest..).collect()
    }

    pub(super) fn put_back(&self, names: Vec<NumberedName>) {
        if let Some(fresh) = &self.fresh {
            fresh.lock().extend(names);
        }
    }

    /// Drops the restored names when every receipt that was issued before they were restored has expired. By the steady clock: a leap of the
    /// other one would end them early.
    pub(super) fn sweep(&self, now: Now, receipts_ttl_ns: u64) {
        let mut restored = self.restored.lock();
        if restored.is_some_and(|restored| now.steady_ns.saturating_sub(restored.steady_ns) >= receipts_ttl_ns) {
            *restored = None;
            self.earlier.clear();
            self.earlier.shrink_to_fit();
        }
    }
}
