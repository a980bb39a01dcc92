//! Operations that were done once, in memory.

use std::collections::{BTreeMap, HashMap};

use crate::ledger::{Made, OnceKind};

/// What was done, by name and in the order of doing.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct MadeOnce {
    by_name: HashMap<(OnceKind, [u8; 16]), Made>,
    /// By kind and number: the oldest first.
    order: BTreeMap<(OnceKind, u64), [u8; 16]>,
    last: u64,
}

impl MadeOnce {
    pub(super) fn find(&self, kind: OnceKind, name: &[u8; 16]) -> Option<Made> {
        self.by_name.get(&(kind, *name)).cloned()
    }

    pub(super) fn put(&mut self, kind: OnceKind, name: [u8; 16], made: Made) {
        if self.by_name.insert((kind, name), made).is_none() {
            self.last += 1;
            self.order.insert((kind, self.last), name);
        }
    }

    /// Those that were done after that second, the oldest first.
    pub(super) fn each(&self, kind: OnceKind, after_s: u64, visit: &mut dyn FnMut([u8; 16], Made)) {
        for name in self.order.range((kind, 0)..=(kind, u64::MAX)).map(|(_, name)| name) {
            if let Some(made) =
                self.by_name.get(&(kind, *name)).filter(|made| made.made_s > after_s)
            {
                visit(*name, made.clone());
            }
        }
    }

    /// Drops, from the oldest on, what was done before that second, and what is more than is kept
    /// of a kind: at most so many.
    pub(super) fn expire(&mut self, kind: OnceKind, before_s: u64, most: usize) -> u64 {
        let max = usize::try_from(kind.max_kept()).unwrap_or(usize::MAX);
        let of_kind = || self.order.range((kind, 0)..=(kind, u64::MAX));
        let too_many = of_kind().count().saturating_sub(max);
        let is_old = |name: &[u8; 16]| {
            self.by_name.get(&(kind, *name)).is_none_or(|made| made.made_s < before_s)
        };
        let old = of_kind()
            .enumerate()
            .take_while(|(place, (_, name))| *place < too_many || is_old(name))
            .take(most);
        let old: Vec<_> = old.map(|(_, (place, name))| (*place, *name)).collect();
        for (place, name) in &old {
            self.order.remove(place);
            self.by_name.remove(&(kind, *name));
        }
        old.len().try_into().unwrap_or(u64::MAX)
    }
}
