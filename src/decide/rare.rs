//! What most things do not have: a word where there is none of it, and a box where there is.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What may be rare.
pub trait Nothing: Default + PartialEq + 'static {
    /// None of it: the default.
    const NOTHING: &'static Self;
}

/// Read as if it were always there; written, it is.
#[derive(Clone)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Nothing> From<T> for Rare<T> {
    fn from(it: T) -> Self {
        Self((it != *T::NOTHING).then(|| Box::new(it)))
    }
}

impl<T: Nothing> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::NOTHING)
    }
}

impl<T: Nothing> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Nothing> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Nothing + Eq> Eq for Rare<T> {}

impl<T: Nothing + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct Size {
        bytes: u64,
    }

    impl Nothing for Size {
        const NOTHING: &'static Self = &Self { bytes: 0 };
    }

    #[test]
    fn nothing_is_a_word_and_reads_as_the_default() {
        assert_eq!(size_of::<Rare<Size>>(), size_of::<usize>());
        let (nothing, mut some) = (Rare::from(Size { bytes: 0 }), Rare::from(Size { bytes: 7 }));
        assert!(nothing.0.is_none() && some.0.is_some());
        assert_eq!((nothing.bytes, some.bytes), (0, 7));
        assert_eq!(format!("{nothing:?}"), "Size { bytes: 0 }");
        assert_ne!(some, nothing);
        some.bytes = 0;
        assert_eq!(some, nothing, "what it says counts, and not whether there is a box");
    }
}
