//! A list of mostly one thing, which then lies in place: as large as the thing, where its type has
//! a value to spare.

use std::ops::{Deref, DerefMut};

/// Things in an order. `B` is something beside them that is there when it differs from the default:
/// then all of them are in a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<T, B = ()>(Kept<T, B>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept<T, B> {
    One(T),
    Boxed(Option<Box<Boxed<T, B>>>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Boxed<T, B> {
    things: Vec<T>,
    beside: B,
}

impl<T, B> Default for Few<T, B> {
    fn default() -> Self {
        Self(Kept::Boxed(None))
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        Vec::from_iter(things).into()
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut things: Vec<T>) -> Self {
        if things.len() > 1 {
            things.shrink_to_fit();
            return Self(Kept::Boxed(Some(Box::new(Boxed { things, beside: () }))));
        }
        things.pop().map_or_else(Self::default, |thing| Self(Kept::One(thing)))
    }
}

impl<T, B> Deref for Few<T, B> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Kept::One(thing) => std::slice::from_ref(thing),
            Kept::Boxed(boxed) => boxed.as_deref().map_or(&[], |boxed| &boxed.things),
        }
    }
}

impl<T, B> DerefMut for Few<T, B> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Kept::One(thing) => std::slice::from_mut(thing),
            Kept::Boxed(boxed) => boxed.as_deref_mut().map_or(&mut [], |boxed| &mut boxed.things),
        }
    }
}

impl<T, B: Copy + Default + PartialEq> Few<T, B> {
    /// What is beside the things.
    pub fn beside(&self) -> B {
        match &self.0 {
            Kept::Boxed(Some(boxed)) => boxed.beside,
            Kept::One(_) | Kept::Boxed(None) => B::default(),
        }
    }

    /// Puts something else beside them.
    pub fn set_beside(&mut self, beside: B) {
        if beside != self.beside() {
            self.boxed(|boxed| boxed.beside = beside);
        }
    }

    /// Adds a thing at a place, or at the end where there are fewer.
    pub fn insert(&mut self, place: usize, thing: T) {
        if matches!(self.0, Kept::Boxed(None)) {
            self.0 = Kept::One(thing);
        } else {
            self.boxed(|boxed| boxed.things.insert(place.min(boxed.things.len()), thing));
        }
    }

    /// Keeps some of them, in their order, and no more room than they need.
    pub fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        match &self.0 {
            Kept::One(thing) if keeps(thing) => {}
            Kept::One(_) => *self = Self::default(),
            Kept::Boxed(None) => {}
            Kept::Boxed(Some(_)) => self.boxed(|boxed| {
                boxed.things.retain(keeps);
                boxed.things.shrink_to_fit();
            }),
        }
    }

    fn boxed(&mut self, change: impl FnOnce(&mut Boxed<T, B>)) {
        let mut boxed = match std::mem::take(self).0 {
            Kept::One(thing) => Box::new(Boxed { things: vec![thing], beside: B::default() }),
            Kept::Boxed(boxed) => boxed
                .unwrap_or_else(|| Box::new(Boxed { things: Vec::new(), beside: B::default() })),
        };
        change(&mut boxed);
        let in_place = boxed.things.len() <= 1 && boxed.beside == B::default();
        self.0 = if in_place {
            boxed.things.pop().map_or(Kept::Boxed(None), Kept::One)
        } else {
            Kept::Boxed(Some(boxed))
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Insert(usize, bool),
        Retain(u8),
        Set(u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..5_usize, any::<bool>()).prop_map(|(place, thing)| Act::Insert(place, thing)),
            any::<u8>().prop_map(Act::Retain),
            (0..2_u8).prop_map(Act::Set),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_list(acts in proptest::collection::vec(act(), 0..40)) {
            let (mut few, mut list, mut beside) = (Few::<bool, u8>::default(), Vec::new(), 0);
            for act in acts {
                match act {
                    Act::Insert(place, thing) => {
                        few.insert(place, thing);
                        list.insert(place.min(list.len()), thing);
                    }
                    Act::Retain(which) => {
                        let keeps = |asked: &mut u32| {
                            *asked += 1;
                            which & (1 << (*asked % 8)) != 0
                        };
                        let (mut one, mut other) = (0, 0);
                        few.retain(|_| keeps(&mut one));
                        list.retain(|_| keeps(&mut other));
                    }
                    Act::Set(value) => {
                        few.set_beside(value);
                        beside = value;
                    }
                }
                prop_assert_eq!((&*few, few.beside()), (&*list, beside));
                prop_assert_eq!(&mut *few, &mut *list);
                let is_in_place = !matches!(few.0, Kept::Boxed(Some(_)));
                prop_assert_eq!(is_in_place, list.len() <= 1 && beside == 0);
            }
        }
    }

    #[test]
    fn it_is_made_of_a_list() {
        for many in 0..4 {
            let few = Few::<u8>::from_iter(0..many);
            assert_eq!(*few, Vec::from_iter(0..many));
            assert_eq!(matches!(few.0, Kept::Boxed(Some(_))), many > 1);
        }
    }

    #[test]
    fn one_thing_takes_no_more_than_itself() {
        assert_eq!(
            (size_of::<Few<(u64, bool)>>(), size_of::<Few<std::num::NonZeroU64>>()),
            (16, 16)
        );
    }
}
