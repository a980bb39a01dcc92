//! The search: breadth first, so that what it finds is short. A state is known by a hash of all
//! that decides what can follow.

use std::collections::{HashSet, VecDeque};

use super::Setup;
use super::actions::Act;
use super::world::{Image, World};

/// What a search came to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// A law that does not hold, and the way there.
    pub(super) broken: Option<String>,
}

struct Known {
    before: usize,
    act: Option<Act>,
}

pub(super) fn explore(setup: Setup) -> Found {
    let mut world = World::new(setup);
    let mut seen = HashSet::from([world.imprint()]);
    let mut known = vec![Known { before: 0, act: None }];
    let mut open: VecDeque<(usize, Image)> = VecDeque::from([(0, world.image())]);
    let mut steps = 0;
    while let Some((place, image)) = open.pop_front() {
        world.return_to(&image);
        for act in world.possible() {
            world.return_to(&image);
            steps += 1;
            let fine = world.act(act).and_then(|()| world.obeys());
            let fresh = seen.insert(world.imprint());
            if fresh {
                known.push(Known { before: place, act: Some(act) });
                open.push_back((known.len() - 1, world.image()));
            }
            // What is left can be given out, from every state once.
            let fine = fine.and_then(|()| if fresh { world.ends_well() } else { Ok(()) });
            if let Err(broken) = fine {
                let mut way = way(&known, place);
                way.push(act);
                return Found {
                    states: seen.len(),
                    steps,
                    broken: Some(format!("{broken}, by {way:?}")),
                };
            }
        }
    }
    Found { states: seen.len(), steps, broken: None }
}

fn way(known: &[Known], mut place: usize) -> Vec<Act> {
    let mut way = Vec::new();
    while let Some(act) = known[place].act {
        way.push(act);
        place = known[place].before;
    }
    way.reverse();
    way
}
