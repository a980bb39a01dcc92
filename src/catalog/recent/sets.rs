//! Places for what was seen lately, found by a tag.
//!
//! Places come in sets of one cache line. Where a set is full, its neighbour takes what there is no
//! room for. There are more sets the more is held (linear hashing: one set at a time is split, so
//! nobody waits for all of them to be moved), and what was not asked for in a round is let go of.
//! What is lost when a set is split is put again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

const PLACES: usize = 3;
/// Sets come in pages, so that none has to move where more are needed, and in so few that all
/// pointers to them stay in a cache. A power of two.
const PAGE: usize = 1024;
/// What each thread has from the first thing on: room for some 10,000. A power of two.
const FIRST_PAGES: usize = 8;
/// What all threads together may have beside that.
const MORE_PAGES: usize = 1 << 10;
/// How many sets are swept at once.
const PART: usize = 64;

/// What all threads together hold, and may take.
#[derive(Clone, Debug)]
pub struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    first_pages: usize,
    pages_left: AtomicUsize,
    held: AtomicUsize,
}

impl Default for Room {
    /// For some 3 million.
    fn default() -> Self {
        Self::of(FIRST_PAGES, MORE_PAGES)
    }
}

impl Room {
    fn of(first_pages: usize, pages_left: usize) -> Self {
        Self(Arc::new(Shared {
            first_pages,
            pages_left: AtomicUsize::new(pages_left),
            held: AtomicUsize::new(0),
        }))
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    fn take_page(&self) -> bool {
        self.0
            .pages_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

/// What one thread has seen lately.
#[derive(Debug)]
pub(super) struct Sets<T> {
    pages: Vec<Box<[Set<T>; PAGE]>>,
    /// Of the last page some may not be in use yet.
    sets: usize,
    held: usize,
    room: Room,
}

#[derive(Debug)]
#[repr(align(64))]
struct Set<T> {
    things: [Option<Box<T>>; PLACES],
    /// So that others need not be looked at.
    tags: [u64; PLACES],
    /// What was not found here last.
    missed: u64,
    /// Was it asked for in this round?
    used: [bool; PLACES],
    /// Which place is given up next.
    next: u8,
}

/// Where something is, until anything is put or removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    set: usize,
    place: usize,
}

/// The set of a tag, of so many: a set that is not split yet takes what will go to its other half.
fn set_of(tag: u64, sets: usize) -> usize {
    let all = sets.next_power_of_two();
    // Below a power of two nothing above it matters.
    #[allow(clippy::cast_possible_truncation)]
    let place = tag as usize & all.saturating_sub(1);
    if place < sets { place } else { place & (all / 2).saturating_sub(1) }
}

impl<T> Sets<T> {
    pub(super) fn new(room: Room) -> Self {
        Self { pages: Vec::new(), sets: 0, held: 0, room }
    }

    /// Where a thing with this tag is.
    pub(super) fn find(&mut self, tag: u64, mut is: impl FnMut(&T) -> bool) -> Option<Place> {
        self.sets_of(tag)
            .into_iter()
            .find_map(|set| Some(Place { set, place: self.set(set)?.find(tag, &mut is)? }))
    }

    /// Has what a thing with this tag is found by come from memory.
    pub(super) fn touch(&mut self, tag: u64) {
        let home = set_of(tag, self.sets);
        std::hint::black_box(self.set(home).map(|set| set.next));
    }

    pub(super) fn get(&mut self, Place { set, place }: Place) -> Option<&mut T> {
        self.set(set)?.things.get_mut(place)?.as_deref_mut()
    }

    /// May a thing that was not found be put? Where no place is free, only the second time, before
    /// another is missed there.
    pub(super) fn admits(&mut self, tag: u64) -> bool {
        let home = set_of(tag, self.sets);
        self.sets == 0
            || self.free(tag).is_some()
            || self.set(home).is_some_and(|set| std::mem::replace(&mut set.missed, tag) == tag)
    }

    /// Gives a thing that was not found a place, and that of another where none is free.
    pub(super) fn put(&mut self, tag: u64, thing: T) -> Option<Place> {
        // So that most sets have a free place.
        if 4 * self.held >= 5 * self.sets {
            self.grow();
        }
        let free = self.free(tag);
        if free.is_some() {
            self.held += 1;
            self.room.0.held.fetch_add(1, Ordering::Relaxed);
        }
        let set = set_of(tag, self.sets);
        let at = free.or_else(|| Some(Place { set, place: self.set(set)?.give_up() }))?;
        self.keep(at, tag, true, Box::new(thing));
        Some(at)
    }

    pub(super) fn remove(&mut self, Place { set, place }: Place) {
        let removed = self.set(set).and_then(|set| set.things.get_mut(place)?.take());
        self.let_go(usize::from(removed.is_some()));
    }

    /// Lets go of what was not asked for since the last time, in one part. `false`: there is no
    /// such part.
    pub(super) fn sweep(&mut self, part: usize) -> bool {
        let sets = self
            .pages
            .get_mut(part / (PAGE / PART))
            .and_then(|page| page.chunks_mut(PART).nth(part % (PAGE / PART)));
        let Some(sets) = sets else { return false };
        let mut gone = 0;
        for set in sets {
            for (thing, used) in set.things.iter_mut().zip(&mut set.used) {
                if !std::mem::take(used) {
                    gone += usize::from(thing.take().is_some());
                }
            }
        }
        self.let_go(gone);
        if self.held == 0 {
            self.room.0.pages_left.fetch_add(
                self.pages.len().saturating_sub(self.room.0.first_pages),
                Ordering::Relaxed,
            );
            (self.pages, self.sets) = (Vec::new(), 0);
        }
        true
    }

    fn let_go(&mut self, gone: usize) {
        self.held -= gone;
        self.room.0.held.fetch_sub(gone, Ordering::Relaxed);
    }

    /// The set of a tag, and its neighbour.
    fn sets_of(&self, tag: u64) -> [usize; 2] {
        let home = set_of(tag, self.sets);
        [home, if home ^ 1 < self.sets { home ^ 1 } else { home }]
    }

    fn free(&mut self, tag: u64) -> Option<Place> {
        self.sets_of(tag)
            .into_iter()
            .find_map(|set| Some(Place { set, place: self.set(set)?.free()? }))
    }

    fn keep(&mut self, Place { set, place }: Place, tag: u64, used: bool, thing: Box<T>) {
        if let Some(set) = self.set(set) {
            set.keep(place, tag, used, thing);
        }
    }

    fn set(&mut self, set: usize) -> Option<&mut Set<T>> {
        self.pages.get_mut(set / PAGE)?.get_mut(set % PAGE)
    }

    /// One set more, or the first ones, if there is room for them.
    fn grow(&mut self) {
        if self.sets == PAGE * self.pages.len() {
            let first = self.pages.is_empty();
            if !first && !self.room.take_page() {
                return;
            }
            // Not by way of the stack.
            let page = || {
                std::iter::repeat_with(Set::default)
                    .take(PAGE)
                    .collect::<Box<[_]>>()
                    .try_into()
                    .ok()
            };
            self.pages.extend(
                std::iter::repeat_with(page)
                    .take(if first { self.room.0.first_pages } else { 1 })
                    .flatten(),
            );
        }
        let Some(bits) = self.sets.checked_ilog2() else {
            self.sets = PAGE * self.pages.len();
            return;
        };
        let split = self.sets - (1 << bits);
        self.sets += 1;
        // What its neighbour has taken for it, too.
        let moved: SmallVec<[_; 2 * PLACES]> = [split, split ^ 1]
            .into_iter()
            .filter_map(|set| Some(self.set(set)?.take_all()))
            .flatten()
            .collect();
        for (tag, used, thing) in moved {
            match self.free(tag) {
                Some(at) => self.keep(at, tag, used, thing),
                None => self.let_go(1),
            }
        }
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self {
            things: [const { None }; PLACES],
            tags: [0; PLACES],
            missed: 0,
            used: [false; PLACES],
            next: 0,
        }
    }
}

impl<T> Set<T> {
    fn find(&mut self, tag: u64, mut is: impl FnMut(&T) -> bool) -> Option<usize> {
        let is = |(thing, known): (&Option<Box<T>>, &u64)| {
            *known == tag && thing.as_deref().is_some_and(&mut is)
        };
        let place = self.things.iter().zip(&self.tags).position(is)?;
        // Written only where it changes anything.
        self.used.get_mut(place).filter(|used| !**used).into_iter().for_each(|used| *used = true);
        Some(place)
    }

    fn free(&self) -> Option<usize> {
        self.things.iter().position(Option::is_none)
    }

    /// The place that is given up next.
    fn give_up(&mut self) -> usize {
        let next = usize::from(self.next.wrapping_add(1)) % PLACES;
        self.next = u8::try_from(next).unwrap_or_default();
        next
    }

    fn keep(&mut self, place: usize, tag: u64, used: bool, thing: Box<T>) {
        if let (Some(to), Some(known), Some(is_used)) =
            (self.things.get_mut(place), self.tags.get_mut(place), self.used.get_mut(place))
        {
            (*to, *known, *is_used) = (Some(thing), tag, used);
        }
    }

    fn take_all(&mut self) -> SmallVec<[(u64, bool, Box<T>); PLACES]> {
        let each = self.things.iter_mut().zip(self.tags).zip(self.used);
        each.filter_map(|((thing, tag), used)| Some((tag, used, thing.take()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags as good as hashes.
    fn tag(number: u64) -> u64 {
        siphasher::sip::SipHasher13::new().hash(&number.to_le_bytes())
    }

    fn ask(sets: &mut Sets<u64>, number: u64) -> Option<u64> {
        let place = sets.find(tag(number), |&held| held == number)?;
        sets.get(place).copied()
    }

    fn put(sets: &mut Sets<u64>, number: u64) -> bool {
        let admits = sets.admits(tag(number));
        admits && sets.put(tag(number), number).is_some()
    }

    #[test]
    fn a_set_is_one_cache_line() {
        assert_eq!(size_of::<Set<u64>>(), 64);
    }

    #[test]
    fn what_is_put_is_found_again_while_more_and_more_is_put() {
        let mut sets = Sets::new(Room::of(1, MORE_PAGES));
        for number in 0..50_000 {
            assert_eq!(ask(&mut sets, number), None);
            if put(&mut sets, number) {
                assert_eq!(ask(&mut sets, number), Some(number), "as soon as it was put");
            }
        }
        // Some found no room while there were fewer sets.
        let again = (0..50_000)
            .filter(|&number| ask(&mut sets, number).is_none() && put(&mut sets, number))
            .count();
        assert!(again > 100, "{again}");
        let found = (0..50_000).filter(|&number| ask(&mut sets, number).is_some()).count();
        assert_eq!(
            (found, found),
            (sets.held, sets.room.held()),
            "what is counted is there, and no other is found"
        );
        assert!(found > 48_000, "most sets have room: {found}");
        assert!(sets.sets < 41_000, "and there are no more than it takes: {}", sets.sets);
    }

    #[test]
    fn where_there_is_no_room_who_asks_twice_takes_the_place_of_another() {
        let mut sets = Sets::new(Room::of(1, 1));
        let first = (0..16_000).filter(|&number| put(&mut sets, number)).count();
        assert_eq!(
            (sets.sets, sets.pages.len()),
            (2 * PAGE, 2),
            "its first page, and the one that there was room for"
        );
        let held = sets.held;
        assert!(
            first >= held && held > 5_600,
            "nearly every place is taken: {held} of {first}, some of which found none when a set was split"
        );
        let fresh = (16_000..32_000).find(|&number| !put(&mut sets, number)).unwrap();
        assert!(put(&mut sets, fresh), "the second time");
        assert_eq!((ask(&mut sets, fresh), sets.held), (Some(fresh), held));
    }

    #[test]
    fn what_was_not_asked_for_in_a_round_is_let_go_of_and_the_last_leaves_nothing() {
        let mut sets = Sets::new(Room::of(1, 100));
        assert!((0..5_000).filter(|&number| put(&mut sets, number)).count() > 4_000);
        let held: Vec<u64> =
            (0..5_000).filter(|&number| ask(&mut sets, number).is_some()).collect();
        let round = |sets: &mut Sets<u64>| (0..).take_while(|&page| sets.sweep(page)).count();
        assert!(round(&mut sets) > 40);
        assert_eq!(sets.held, held.len(), "all were asked for in this round");
        let again: Vec<u64> = held.iter().copied().filter(|number| number % 3 == 0).collect();
        again.iter().for_each(|&number| assert_eq!(ask(&mut sets, number), Some(number)));
        round(&mut sets);
        assert_eq!(sets.held, again.len());
        let left: Vec<u64> =
            held.iter().copied().filter(|&number| ask(&mut sets, number).is_some()).collect();
        assert!(
            left == again && sets.room.held() == sets.held,
            "{} of {}",
            left.len(),
            again.len()
        );
        round(&mut sets);
        assert!(sets.held > 0 && !sets.pages.is_empty());
        round(&mut sets);
        assert_eq!((sets.held, sets.pages.len(), sets.room.held()), (0, 0, 0));
        assert_eq!(sets.room.0.pages_left.load(Ordering::Relaxed), 100, "others may have it");
        assert!(put(&mut sets, 1) && ask(&mut sets, 1) == Some(1), "and it begins anew");
        let place = sets.find(tag(1), |_| true).unwrap();
        sets.remove(place);
        assert_eq!((ask(&mut sets, 1), sets.held, sets.room.held()), (None, 0, 0));
    }
}
