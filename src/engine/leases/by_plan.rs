//! The entries of each plan: what an edit of the plan looks through, and nothing else.

use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::decide::plan::Id;
use crate::engine::sync::{
    DashMap, Mutex,
    atomic::{AtomicU32, Ordering},
};

/// Entries of a page. A list grows by pages, so that nobody waits while a long one is moved.
pub(in crate::engine) const PAGE: usize = 1024;

/// The most that a list holds: a place is a `u32`.
pub(in crate::engine) const MOST: usize = u32::MAX as usize;

/// Where something is in its list. Changed under the lock of the list alone.
#[derive(Debug, Default)]
pub(in crate::engine) struct Place(AtomicU32);

/// What remembers its place, so that it is taken out without a search.
pub(in crate::engine) trait Placed {
    fn place(&self) -> &Place;
}

/// A list for each plan that has entries.
#[derive(Debug)]
pub(in crate::engine) struct ByPlan<T>(DashMap<Id, Arc<Mutex<List<T>>>, RandomState>);

impl<T> Default for ByPlan<T> {
    fn default() -> Self {
        Self(DashMap::default())
    }
}

impl<T: Placed> ByPlan<T> {
    /// Something new, that is in no list.
    pub(in crate::engine) fn put(&self, plan: &Id, thing: Arc<T>) {
        let known = self.0.get(plan).map(|list| Arc::clone(list.value()));
        let list =
            known.unwrap_or_else(|| Arc::clone(&self.0.entry(Arc::clone(plan)).or_default()));
        list.lock().push(thing);
    }

    /// Takes something out of the list of its plan.
    pub(in crate::engine) fn remove(&self, plan: &str, thing: &Arc<T>) {
        // The guard of the map is let go of first: the list may be waited for.
        let list = self.0.get(plan).map(|list| Arc::clone(list.value()));
        list.into_iter().for_each(|list| list.lock().remove(thing));
    }

    /// At most `most` of those of a plan that are before a place, and the place where they begin.
    ///
    /// Who begins with [`MOST`], and goes on with the place until that is 0, meets all that are in
    /// the list from the beginning to the end. What is removed meanwhile may let others be met
    /// twice.
    pub(in crate::engine) fn before(
        &self,
        plan: &str,
        place: usize,
        most: usize,
    ) -> (Vec<Arc<T>>, usize) {
        let list = self.0.get(plan).map(|list| Arc::clone(list.value()));
        list.map_or((Vec::new(), 0), |list| list.lock().before(place, most))
    }

    /// Drops the lists that are empty.
    pub(in crate::engine) fn sweep(&self) {
        // Who is about to put something holds the list.
        self.0.retain(|_, list| Arc::strong_count(list) > 1 || list.lock().len() > 0);
    }
}

/// In pages, all of them full but the last.
#[derive(Debug)]
struct List<T>(Vec<Vec<Arc<T>>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Placed> List<T> {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PAGE + last.len())
    }

    fn push(&mut self, thing: Arc<T>) {
        // The number of entries is bounded by `MOST`.
        let place = u32::try_from(self.len()).unwrap_or(u32::MAX);
        thing.place().0.store(place, Ordering::Relaxed);
        match self.0.last_mut() {
            Some(last) if last.len() < PAGE => last.push(thing),
            _ => self.0.push(vec![thing]),
        }
    }

    /// The last one takes its place.
    fn remove(&mut self, thing: &Arc<T>) {
        let Some(last) = self.0.last_mut().and_then(Vec::pop) else { return };
        if self.0.last().is_some_and(Vec::is_empty) {
            self.0.pop();
        }
        if Arc::ptr_eq(&last, thing) {
            return;
        }
        let place = thing.place().0.load(Ordering::Relaxed);
        let found = usize::try_from(place)
            .ok()
            .and_then(|at| self.0.get_mut(at / PAGE)?.get_mut(at % PAGE))
            .filter(|found| Arc::ptr_eq(found, thing));
        if let Some(found) = found {
            last.place().0.store(place, Ordering::Relaxed);
            *found = last;
        } else {
            self.push(last);
        }
    }

    // From the end: what moves, moves from the end to where was not looked yet.
    fn before(&self, place: usize, most: usize) -> (Vec<Arc<T>>, usize) {
        let end = place.min(self.len());
        let begin = end.saturating_sub(most);
        let things = self.0.iter().skip(begin / PAGE).flatten().skip(begin % PAGE);
        (things.take(end - begin).map(Arc::clone).collect(), begin)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Thing(usize, Place);

    impl Placed for Thing {
        fn place(&self) -> &Place {
            &self.1
        }
    }

    fn thing(number: usize) -> Arc<Thing> {
        Arc::new(Thing(number, Place::default()))
    }

    fn all(lists: &ByPlan<Thing>, plan: &str, most: usize) -> Vec<usize> {
        let (mut found, mut place) = (Vec::new(), MOST);
        while place > 0 {
            let (some, next) = lists.before(plan, place, most);
            assert!(some.len() <= most && next < place, "{} at {next}", some.len());
            found.extend(some.iter().map(|thing| thing.0));
            place = next;
        }
        found
    }

    #[test]
    fn what_is_put_is_met_until_it_is_removed() {
        let lists = ByPlan::default();
        let (gold, silver): (Id, Id) = ("gold".into(), "silver".into());
        let things: Vec<_> = (0..3 * PAGE + 5).map(thing).collect();
        for thing in &things {
            lists.put(if thing.0 % 2 == 0 { &gold } else { &silver }, Arc::clone(thing));
        }
        let of = |rest: usize| -> Vec<usize> {
            (0..things.len()).filter(|number| number % 2 == rest).collect()
        };
        for most in [1, 7, PAGE, 2 * PAGE, usize::MAX] {
            let mut found = all(&lists, "gold", most);
            found.sort_unstable();
            assert_eq!(found, of(0), "{most} at once");
        }
        assert_eq!(all(&lists, "bronze", 7), [0; 0]);
        for thing in things.iter().filter(|thing| thing.0 % 2 == 0) {
            lists.remove("silver", thing);
            lists.remove("gold", thing);
        }
        assert_eq!(all(&lists, "gold", 7), [0; 0]);
        assert_eq!(all(&lists, "silver", PAGE).len(), of(1).len(), "removed where it is alone");
        lists.sweep();
        assert_eq!(lists.0.len(), 1, "a plan without entries takes no room");
        lists.put(&gold, thing(0));
        assert_eq!(all(&lists, "gold", 7), [0]);
    }

    proptest! {
        #[test]
        fn who_walks_meets_all_that_stay(
            removed in proptest::collection::vec((0..2 * PAGE, 0..40_usize), 0..60),
            most in 50..PAGE,
        ) {
            let (lists, gold): (_, Id) = (ByPlan::default(), "gold".into());
            let things: Vec<_> = (0..2 * PAGE).map(thing).collect();
            things.iter().for_each(|thing| lists.put(&gold, Arc::clone(thing)));
            let mut stay: BTreeSet<usize> = (0..things.len()).collect();
            let (mut met, mut place, mut step) = (BTreeSet::new(), MOST, 0);
            while place > 0 {
                for (number, _) in removed.iter().filter(|(_, when)| *when == step) {
                    if stay.remove(number) {
                        lists.remove("gold", &things[*number]);
                    }
                    lists.put(&gold, thing(things.len()));
                }
                let (some, next) = lists.before("gold", place, most);
                met.extend(some.iter().map(|thing| thing.0));
                place = next;
                step += 1;
            }
            prop_assert!(stay.is_subset(&met));
            let left: BTreeSet<_> = all(&lists, "gold", most).into_iter().collect();
            prop_assert!(stay.is_subset(&left));
            prop_assert!(left.iter().all(|number| stay.contains(number) || *number == things.len()));
        }
    }
}
