//! What was seen lately, found by a tag.
//!
//! It lies in many small tables, so that nobody waits for long when one of them grows or is swept.
//! What was not asked for in a round is let go of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;

/// Tables of one thread. Their heads stay in a cache together.
const PARTS: usize = 256;
/// What each thread has room for in any case.
const OF_EACH: usize = 24_576;
/// What all threads together may hold beside that.
const OF_ALL: usize = 3 << 20;
/// Where there is no room, so many places are looked at for one to be taken.
const LOOKED_AT: usize = 64;

/// What all threads together hold, and may take.
#[derive(Clone, Debug)]
pub struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    of_each: usize,
    left: AtomicUsize,
    held: AtomicUsize,
}

impl Default for Room {
    /// For some 3 million.
    fn default() -> Self {
        Self::of(OF_EACH, OF_ALL)
    }
}

impl Room {
    fn of(of_each: usize, of_all: usize) -> Self {
        Self(Arc::new(Shared {
            of_each,
            left: AtomicUsize::new(of_all),
            held: AtomicUsize::new(0),
        }))
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Room for one more of a thread that holds so many.
    fn take(&self, held: usize) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        let is_there = held < self.0.of_each
            || self.0.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        self.0.held.fetch_add(usize::from(is_there), Ordering::Relaxed);
        is_there
    }

    /// A thread that held `before` holds `after`.
    fn give_back(&self, before: usize, after: usize) {
        let borrowed = |held: usize| held.saturating_sub(self.0.of_each);
        self.0.left.fetch_add(borrowed(before) - borrowed(after), Ordering::Relaxed);
        self.0.held.fetch_sub(before - after, Ordering::Relaxed);
    }
}

/// What one thread has seen lately.
#[derive(Debug)]
pub(super) struct Lately<T> {
    /// None while nothing is held.
    parts: Vec<Part<T>>,
    held: usize,
    room: Room,
}

#[derive(Debug)]
struct Part<T> {
    kept: HashTable<Kept<T>>,
    /// What found no room here last.
    missed: Option<u64>,
}

#[derive(Debug)]
struct Kept<T> {
    /// But for one bit of it, see [`USED`].
    tag: u64,
    thing: Box<T>,
}

/// The bit of a tag, which neither its part nor its place in a table depends on, that says that the
/// thing was asked for in this round.
const USED: u64 = 1 << 48;

impl<T> Kept<T> {
    fn has(&self, tag: u64) -> bool {
        self.tag | USED == tag | USED
    }

    fn is_used(&self) -> bool {
        self.tag & USED != 0
    }
}

/// Where something is, until anything is put or removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    part: usize,
    bucket: usize,
}

/// The part of a tag: by bits that its table does not use.
fn part_of(tag: u64) -> usize {
    usize::try_from((tag >> 32) % PARTS as u64).unwrap_or_default()
}

impl<T> Lately<T> {
    pub(super) fn new(room: Room) -> Self {
        Self { parts: Vec::new(), held: 0, room }
    }

    /// Where a thing with this tag is. A bit of the tag is not looked at.
    pub(super) fn find(&mut self, tag: u64, mut is: impl FnMut(&T) -> bool) -> Option<Place> {
        let part = part_of(tag);
        let kept = &mut self.parts.get_mut(part)?.kept;
        let bucket = kept.find_bucket_index(tag, |kept| kept.has(tag) && is(&kept.thing))?;
        // Written only where it changes anything.
        kept.get_bucket_mut(bucket).filter(|kept| !kept.is_used()).into_iter().for_each(|kept| {
            kept.tag |= USED;
        });
        Some(Place { part, bucket })
    }

    /// Has what a thing with this tag is found by come from memory.
    pub(super) fn touch(&self, tag: u64) {
        let found = self
            .parts
            .get(part_of(tag))
            .map(|part| part.kept.find(tag, |kept| kept.has(tag)).is_some_and(Kept::is_used));
        std::hint::black_box(found);
    }

    pub(super) fn get(&mut self, Place { part, bucket }: Place) -> Option<&mut T> {
        Some(&mut self.parts.get_mut(part)?.kept.get_bucket_mut(bucket)?.thing)
    }

    /// May a thing that was not found be put? Where there is no room, only the second time, before
    /// another is missed there.
    pub(super) fn admits(&mut self, tag: u64) -> bool {
        let room = &self.room.0;
        self.held < room.of_each
            || room.left.load(Ordering::Relaxed) > 0
            || self
                .parts
                .get_mut(part_of(tag))
                .is_some_and(|part| part.missed.replace(tag) == Some(tag))
    }

    /// Puts a thing that was not found, in the place of another where there is no room.
    pub(super) fn put(&mut self, tag: u64, thing: T) -> Option<Place> {
        let part = part_of(tag);
        if !self.room.take(self.held) {
            self.parts.get_mut(part)?.give_up_one(tag)?;
            self.let_go(1);
            self.room.take(self.held).then_some(())?;
        }
        self.held += 1;
        if self.parts.is_empty() {
            let part = || Part { kept: HashTable::new(), missed: None };
            self.parts.extend(std::iter::repeat_with(part).take(PARTS));
        }
        let kept = Kept { tag: tag | USED, thing: Box::new(thing) };
        let entry = self.parts.get_mut(part)?.kept.insert_unique(tag, kept, |kept| kept.tag);
        Some(Place { part, bucket: entry.bucket_index() })
    }

    pub(super) fn remove(&mut self, Place { part, bucket }: Place) {
        let kept = self.parts.get_mut(part).map(|part| &mut part.kept);
        let found = kept.and_then(|kept| kept.get_bucket_entry(bucket).ok());
        let removed = found.map(|found| found.remove().0);
        self.let_go(usize::from(removed.is_some()));
    }

    /// Lets go of what was not asked for since the last time, in one part. `false`: there is no
    /// such part.
    pub(super) fn sweep(&mut self, part: usize) -> bool {
        let Some(Part { kept, .. }) = self.parts.get_mut(part) else { return false };
        let before = kept.len();
        kept.retain(|kept| {
            let is_used = kept.is_used();
            kept.tag &= !USED;
            is_used
        });
        let gone = before - kept.len();
        // Not smaller than what would soon be wanted again.
        if kept.len() < kept.capacity() / 8 {
            kept.shrink_to(2 * kept.len(), |kept| kept.tag);
        }
        self.let_go(gone);
        true
    }

    fn let_go(&mut self, gone: usize) {
        let before = self.held;
        self.held -= gone;
        self.room.give_back(before, self.held);
        if self.held == 0 {
            self.parts = Vec::new();
        }
    }
}

impl<T> Part<T> {
    /// Drops one thing, from about where `tag` points to on.
    fn give_up_one(&mut self, tag: u64) -> Option<()> {
        let buckets = self.kept.num_buckets();
        let first = usize::try_from(tag >> 8).unwrap_or_default().checked_rem(buckets)?;
        let taken = (0..LOOKED_AT.min(buckets))
            .map(|step| (first + step) % buckets)
            .find(|&at| self.kept.get_bucket(at).is_some())?;
        self.kept.get_bucket_entry(taken).ok()?.remove();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags as good as hashes.
    fn tag(number: u64) -> u64 {
        siphasher::sip::SipHasher13::new().hash(&number.to_le_bytes())
    }

    fn ask(lately: &mut Lately<u64>, number: u64) -> Option<u64> {
        let place = lately.find(tag(number), |&held| held == number)?;
        lately.get(place).copied()
    }

    fn put(lately: &mut Lately<u64>, number: u64) -> bool {
        let admits = lately.admits(tag(number));
        admits && lately.put(tag(number), number).is_some()
    }

    fn round(lately: &mut Lately<u64>) {
        assert!((0..).take_while(|&part| lately.sweep(part)).count() > 0);
    }

    #[test]
    fn what_is_put_is_found_again_while_more_and_more_is_put() {
        let mut lately = Lately::new(Room::of(10, OF_ALL));
        for number in 0..50_000 {
            assert_eq!(ask(&mut lately, number), None);
            assert!(put(&mut lately, number));
            assert_eq!(ask(&mut lately, number), Some(number), "as soon as it was put");
        }
        assert!((0..50_000).all(|number| ask(&mut lately, number) == Some(number)));
        assert_eq!((lately.held, lately.room.held()), (50_000, 50_000));
        assert_eq!(lately.room.0.left.load(Ordering::Relaxed), OF_ALL - 49_990);
    }

    #[test]
    fn things_with_one_tag_are_told_apart() {
        let mut lately = Lately::new(Room::default());
        let (one, other) = (lately.put(7, 1).unwrap(), lately.put(7, 2).unwrap());
        for (place, thing) in [(one, 1), (other, 2)] {
            assert_eq!(lately.get(place).copied(), Some(thing));
            let found = lately.find(7, |&held| held == thing).unwrap();
            assert_eq!(lately.get(found).copied(), Some(thing));
        }
        assert!(lately.find(7, |&held| held == 3).is_none());
    }

    #[test]
    fn where_there_is_no_room_who_asks_twice_takes_the_place_of_another() {
        let room = Room::of(5_000, 1_000);
        let (mut lately, mut other) = (Lately::new(room.clone()), Lately::new(room));
        assert_eq!((0..16_000).filter(|&number| put(&mut lately, number)).count(), 6_000);
        assert_eq!(lately.held, 6_000, "what it has of its own, and what there was for all");
        assert_eq!((0..16_000).filter(|&number| put(&mut other, number)).count(), 5_000);
        assert_eq!(lately.room.held(), 11_000);
        let fresh = 20_000;
        assert!(!put(&mut lately, fresh));
        assert!(put(&mut lately, fresh), "the second time");
        assert_eq!((ask(&mut lately, fresh), lately.held), (Some(fresh), 6_000));
        let left = (0..6_000).filter(|&number| ask(&mut lately, number).is_some()).count();
        assert_eq!((left, lately.room.held()), (5_999, 11_000), "one has gone for it");
        // Another that is missed in the same part in between makes the first one wait again.
        let same_part: Vec<u64> = (30_000..)
            .filter(|&number| part_of(tag(number)) == part_of(tag(fresh)))
            .take(2)
            .collect();
        let asked = [0, 1, 0, 0].map(|which| put(&mut lately, same_part[which]));
        assert_eq!(asked, [false, false, false, true]);
    }

    #[test]
    fn what_was_not_asked_for_in_a_round_is_let_go_of_and_the_last_leaves_nothing() {
        let mut lately = Lately::new(Room::of(1_000, 9_000));
        assert!((0..5_000).all(|number| put(&mut lately, number)));
        round(&mut lately);
        assert_eq!(lately.held, 5_000, "all were asked for in this round");
        for number in (0..5_000).step_by(3) {
            assert_eq!(ask(&mut lately, number), Some(number));
        }
        round(&mut lately);
        let left: Vec<u64> =
            (0..5_000).filter(|&number| ask(&mut lately, number).is_some()).collect();
        assert!(left.iter().copied().eq((0..5_000).step_by(3)));
        assert_eq!((lately.held, lately.room.held()), (left.len(), left.len()));
        round(&mut lately);
        assert_eq!(lately.held, left.len());
        round(&mut lately);
        assert_eq!((lately.held, lately.room.held()), (0, 0));
        assert_eq!(lately.parts.capacity(), 0);
        assert_eq!(lately.room.0.left.load(Ordering::Relaxed), 9_000, "others may have it");
        assert!(put(&mut lately, 1) && ask(&mut lately, 1) == Some(1), "and it begins anew");
        let place = lately.find(tag(1), |_| true).unwrap();
        lately.remove(place);
        assert_eq!((ask(&mut lately, 1), lately.held, lately.room.held()), (None, 0, 0));
    }
}
