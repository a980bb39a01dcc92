//! Who names whom, from the named one's side: what an edit or a delete must know without reading
//! the whole catalog.

use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use crate::decide::plan::Id;

/// Up to so many names are kept in a row: most subscribers have a key or two, and a set has room
/// for dozens from the first on.
const FEW: usize = 8;

/// From a named id to the ids of those that name it, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(HashMap<Id, Names>);

/// Some ids, in order.
#[derive(Clone, Debug)]
enum Names {
    Few(Arc<[Id]>),
    Many(OrdSet<Id>),
}

impl Names {
    fn few(&self) -> &[Id] {
        match self {
            Self::Few(names) => names,
            Self::Many(_) => &[],
        }
    }

    fn many(&self) -> Option<&OrdSet<Id>> {
        match self {
            Self::Few(_) => None,
            Self::Many(names) => Some(names),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Id> {
        self.few().iter().chain(self.many().into_iter().flatten())
    }

    fn len(&self) -> usize {
        self.few().len() + self.many().map_or(0, OrdSet::len)
    }

    fn add(&mut self, name: &Id) {
        let names = match self {
            Self::Many(names) => return drop(names.insert(name.clone())),
            Self::Few(names) => names,
        };
        let Err(place) = names.binary_search(name) else { return };
        let (before, behind) = names.split_at(place);
        let all = before.iter().chain([name]).chain(behind).cloned();
        *self =
            if names.len() < FEW { Self::Few(all.collect()) } else { Self::Many(all.collect()) };
    }

    fn remove(&mut self, name: &Id) {
        match self {
            Self::Many(names) => drop(names.remove(name)),
            Self::Few(names) => {
                *names = names.iter().filter(|kept| *kept != name).cloned().collect()
            }
        }
    }
}

impl Links {
    /// Those that name `named`, in order.
    pub(super) fn of<'a>(&'a self, named: &str) -> impl Iterator<Item = &'a Id> + use<'a> {
        self.0.get(named).into_iter().flat_map(Names::iter)
    }

    /// How many name `named`.
    pub(super) fn count(&self, named: &str) -> usize {
        self.0.get(named).map_or(0, Names::len)
    }

    pub(super) fn add(&mut self, named: &Id, by: &Id) {
        match self.0.get_mut(named) {
            Some(names) => names.add(by),
            None => drop(self.0.insert(named.clone(), Names::Few([by.clone()].into()))),
        }
    }

    pub(super) fn remove(&mut self, named: &Id, by: &Id) {
        if let Some(all) = self.0.get_mut(named) {
            all.remove(by);
            if all.len() == 0 {
                self.0.remove(named);
            }
        }
    }

    /// `by` named `before` and names `after` now.
    pub(super) fn change<'a>(
        &mut self,
        by: &Id,
        before: impl Iterator<Item = &'a Id>,
        after: impl Iterator<Item = &'a Id>,
    ) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_or_many_they_are_a_set_in_order(steps in prop::collection::vec((any::<bool>(), 0..20_u8), 0..200)) {
            let (mut links, mut expected) = (Links::default(), BTreeSet::new());
            let named = Id::from("named");
            for (adds, name) in steps {
                let name = Id::from(format!("{name:02}"));
                if adds {
                    links.add(&named, &name);
                    expected.insert(name);
                } else {
                    links.remove(&named, &name);
                    expected.remove(&name);
                }
                prop_assert_eq!(links.count("named"), expected.len());
                prop_assert!(links.of("named").eq(&expected));
                prop_assert_eq!(links.0.is_empty(), expected.is_empty());
            }
        }
    }
}
