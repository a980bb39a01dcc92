//! The names of API keys and targets behind the numbers that receipts carry.
//!
//! Each epoch draws its own numbers, and a receipt names the epoch: a number never gets another
//! name, whatever was written of it.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::decide::ledger::{Holder, NameKind, NumberedName};
use crate::decide::plan::Id;
use crate::decide::time::Now;
use crate::engine::sync::{
    DashMap, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Names that are numbered at once seldom meet.
const PARTS: usize = 64;

/// Whose number, and which of this kind.
type Place = (Holder, NameKind, u32);

/// The names of this epoch, and those of earlier ones that were restored.
#[derive(Debug)]
pub(super) struct ReceiptNames {
    keys: Numbered,
    targets: Numbered,
    /// Numbered since they were taken last.
    fresh: Mutex<Vec<NumberedName>>,
    earlier: DashMap<Place, Id>,
    restored: Mutex<Option<Now>>,
}

/// Names of one kind. Each is kept once, in the order of its number within its part.
#[derive(Debug)]
struct Numbered {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    used: AtomicUsize,
    max: usize,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    names: Vec<Id>,
    /// Places in `names`, by the hash of what is there.
    places: HashTable<u32>,
}

impl Numbered {
    fn new(max: u32) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self {
            parts,
            hasher: RandomState::default(),
            used: AtomicUsize::new(0),
            max: usize::try_from(max).unwrap_or(usize::MAX),
            refused: AtomicU64::new(0),
        }
    }

    /// The number of a name: the same each time. 0: there are as many as there may be. `drawn` is
    /// told of a number that is drawn now, before anyone else can get it.
    fn number(&self, name: &Id, drawn: impl FnOnce(u32)) -> u32 {
        self.find_or_draw(name, drawn).unwrap_or(0)
    }

    fn find_or_draw(&self, name: &Id, drawn: impl FnOnce(u32)) -> Option<u32> {
        let hash = self.hasher.hash_one(&**name);
        let index = usize::try_from(hash >> 32).ok()? % PARTS;
        let mut part = self.parts.get(index)?.lock();
        let Part { names, places } = &mut *part;
        let at = |place: u32| names.get(usize::try_from(place).ok()?);
        if let Some(&place) = places.find(hash, |&place| at(place) == Some(name)) {
            return number_of(index, place);
        }
        let place = u32::try_from(names.len()).ok()?;
        let number = number_of(index, place)?;
        // Threads that race here may pass the bound by their number.
        if self.used.load(Ordering::Relaxed) >= self.max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.used.fetch_add(1, Ordering::Relaxed);
        places.insert_unique(hash, place, |&place| {
            at(place).map_or(0, |name| self.hasher.hash_one(&**name))
        });
        names.push(Arc::clone(name));
        drawn(number);
        Some(number)
    }

    fn name(&self, number: u32) -> Option<Id> {
        let number = usize::try_from(number.checked_sub(1)?).ok()?;
        self.parts.get(number % PARTS)?.lock().names.get(number / PARTS).map(Arc::clone)
    }
}

/// The number of a place. The parts take turns.
fn number_of(part: usize, place: u32) -> Option<u32> {
    place.checked_mul(u32::try_from(PARTS).ok()?)?.checked_add(u32::try_from(part).ok()? + 1)
}

impl ReceiptNames {
    /// At most `max` of each kind.
    pub(super) fn new(max: u32) -> Self {
        Self {
            keys: Numbered::new(max),
            targets: Numbered::new(max),
            fresh: Mutex::default(),
            earlier: DashMap::new(),
            restored: Mutex::default(),
        }
    }

    /// Names that have a number in this epoch.
    pub(super) fn numbered(&self) -> usize {
        self.keys
            .used
            .load(Ordering::Relaxed)
            .saturating_add(self.targets.used.load(Ordering::Relaxed))
    }

    /// How often a name got no number, because there were too many.
    pub(super) fn refused(&self) -> u64 {
        self.keys
            .refused
            .load(Ordering::Relaxed)
            .saturating_add(self.targets.refused.load(Ordering::Relaxed))
    }

    fn names(&self, kind: NameKind) -> &Numbered {
        match kind {
            NameKind::Key => &self.keys,
            NameKind::Target => &self.targets,
        }
    }

    /// The number of a name in this epoch. 0: there are too many.
    pub(super) fn number(&self, kind: NameKind, name: &Id) -> u32 {
        let drawn = |number| {
            self.fresh.lock().push(NumberedName { kind, number, name: Arc::clone(name) });
        };
        self.names(kind).number(name, drawn)
    }

    /// The name of a number of this epoch.
    pub(super) fn name(&self, kind: NameKind, number: u32) -> Option<Id> {
        self.names(kind).name(number)
    }

    /// The name of a number of another holder, or of this one before it started again.
    pub(super) fn earlier(&self, holder: Holder, kind: NameKind, number: u32) -> Option<Id> {
        self.earlier.get(&(holder, kind, number)).map(|name| Arc::clone(&name))
    }

    pub(super) fn restore(&self, holder: Holder, name: NumberedName, now: Now) {
        self.earlier.insert((holder, name.kind, name.number), name.name);
        self.restored.lock().get_or_insert(now);
    }

    pub(super) fn earlier_names(&self) -> usize {
        self.earlier.len()
    }

    pub(super) fn take_fresh(&self, most: usize) -> Vec<NumberedName> {
        let mut fresh = self.fresh.lock();
        let rest = fresh.len().saturating_sub(most);
        fresh.drain(rest..).collect()
    }

    pub(super) fn put_back(&self, names: Vec<NumberedName>) {
        self.fresh.lock().extend(names);
    }

    /// Drops the restored names when every receipt that was issued before they were restored has
    /// expired. By the steady clock: a leap of the other one would end them early.
    pub(super) fn sweep(&self, now: Now, receipts_ttl_ns: u64) {
        let mut restored = self.restored.lock();
        if restored.is_some_and(|restored| {
            now.steady_ns.saturating_sub(restored.steady_ns) >= receipts_ttl_ns
        }) {
            *restored = None;
            self.earlier.clear();
            self.earlier.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_a_number_one_name_and_the_last_that_fits_is_the_last() {
        let names = Numbered::new(1_000);
        let name = |number: usize| Id::from(format!("key-{number}"));
        let drawn = Mutex::new(Vec::new());
        let number = |index: usize| names.number(&name(index), |number| drawn.lock().push(number));
        let numbers: Vec<u32> = (0..1_000).map(number).collect();
        assert_eq!(*drawn.lock(), numbers, "each is drawn once");
        for (index, &number) in numbers.iter().enumerate() {
            assert_eq!(names.name(number), Some(name(index)));
        }
        assert_eq!(names.refused.load(Ordering::Relaxed), 0);
        assert_eq!(number(1_000), 0, "there is no room for another");
        assert_eq!(names.refused.load(Ordering::Relaxed), 1, "and that is counted");
        assert_eq!(
            (number(999), number(0)),
            (numbers[999], numbers[0]),
            "and who has a number keeps it"
        );
        assert_eq!((names.name(0), names.name(u32::MAX), drawn.lock().len()), (None, None, 1_000));
    }
}
