//! Things by numbers that are given out one after the other: many of them in one page, so that a
//! map has few entries.

use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::engine::filed::SHARDS;
use crate::engine::sync::DashMap;

/// Numbers of a page. Few, because in some pages there may be only one.
const PAGE: u64 = PLACES as u64;
const PLACES: usize = 32;

#[derive(Debug)]
pub(in crate::engine) struct Paged<T> {
    pages: DashMap<u64, Box<Page<T>>, RandomState>,
}

#[derive(Debug)]
struct Page<T>([Option<Arc<T>>; PLACES]);

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self([const { None }; PLACES])
    }
}

impl<T> Page<T> {
    fn place(&mut self, number: u64) -> Option<&mut Option<Arc<T>>> {
        self.0.get_mut(usize::try_from(number % PAGE).ok()?)
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS) }
    }
}

impl<T> Paged<T> {
    pub(in crate::engine) fn insert(&self, number: u64, thing: Arc<T>) {
        if let Some(place) = self.pages.entry(number / PAGE).or_default().place(number) {
            *place = Some(thing);
        }
    }

    pub(in crate::engine) fn get(&self, number: u64) -> Option<Arc<T>> {
        let page = self.pages.get(&(number / PAGE))?;
        page.0.get(usize::try_from(number % PAGE).ok()?)?.as_ref().map(Arc::clone)
    }

    /// Removes a thing, if it is still the one with this number.
    pub(in crate::engine) fn remove(&self, number: u64, thing: &Arc<T>) {
        self.pages.remove_if_mut(&(number / PAGE), |_, page| {
            if let Some(place) = page.place(number) {
                place.take_if(|found| Arc::ptr_eq(found, thing));
            }
            page.0.iter().all(Option::is_none)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_number_and_the_last_of_a_page_leaves_nothing() {
        let paged = Paged::default();
        let numbers = [1, 2, PAGE - 1, PAGE, 7 * PAGE, (1 << 49) - 1];
        let things = numbers.map(Arc::new);
        for (&number, thing) in numbers.iter().zip(&things) {
            assert_eq!(paged.get(number), None);
            paged.insert(number, Arc::clone(thing));
        }
        let second = Arc::new(22);
        paged.insert(2, Arc::clone(&second));
        let found = || numbers.map(|number| paged.get(number).map(|found| *found));
        assert_eq!(found(), [1, 22, 31, 32, 224, (1 << 49) - 1].map(Some));
        assert_eq!((paged.get(3), paged.get(6 * PAGE), paged.pages.len()), (None, None, 4));
        paged.remove(3, &things[0]);
        numbers
            .iter()
            .zip(&things)
            .take(4)
            .for_each(|(&number, thing)| paged.remove(number, thing));
        assert_eq!(
            found(),
            [None, Some(22), None, None, Some(224), Some((1 << 49) - 1)],
            "another got the number 2 meanwhile"
        );
        assert_eq!(paged.pages.len(), 3);
        paged.remove(2, &second);
        numbers
            .iter()
            .zip(&things)
            .skip(4)
            .for_each(|(&number, thing)| paged.remove(number, thing));
        assert_eq!(paged.pages.len(), 0);
    }
}
