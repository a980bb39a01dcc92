//! A set of resources as they should be, and the edits that make them so.

use std::collections::HashSet;
use std::sync::Arc;

use super::difference::Changed;
use super::fields::Stated;
use super::{Draft, difference, fields};
use crate::catalog::error::EditError;
use crate::catalog::kind::{Kind, last_four};
use crate::decide::plan::validate::Mistakes;
use crate::decide::plan::{ApiKey, Id, Plan, Subscriber, Target};

/// What should be.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub targets: Vec<Stated<Target>>,
    pub plans: Vec<Stated<Plan>>,
    pub subscribers: Vec<DeclaredSubscriber>,
    pub prune: Prune,
}

/// What is deleted because it is not named.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// [`Kind::Subscriber`] stands for API keys too: those of subscribers that go, and of those
    /// whose keys are said.
    pub kinds: Vec<Kind>,
    /// Also more than half of a kind.
    pub most: bool,
}

/// A subscriber with its API keys.
#[derive(Clone, Debug)]
pub struct DeclaredSubscriber {
    pub subscriber: Stated<Subscriber>,
    pub keys: Vec<DeclaredKey>,
}

/// An API key. `value` is needed where the key does not exist yet; where it does, another value
/// takes the place of the one it had.
#[derive(Clone, Debug)]
pub struct DeclaredKey {
    pub key: Stated<ApiKey>,
    pub value: Option<String>,
}

/// One resource that is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub action: Action,
    pub kind: Kind,
    pub id: Id,
    /// The values that differ, of an update.
    pub changed: Vec<Changed>,
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Delete,
}

/// The work so far.
#[derive(Default)]
pub(super) struct Work {
    done: Vec<Difference>,
    mistakes: Mistakes,
}

impl Work {
    fn did(&mut self, action: Action, kind: Kind, id: &Id, changed: Vec<Changed>) {
        self.done.push(Difference { action, kind, id: id.clone(), changed });
    }

    pub(super) fn deleted(&mut self, kind: Kind, id: &Id) {
        self.did(Action::Delete, kind, id, Vec::new());
    }

    /// Created when there was nothing before, else updated.
    fn put(&mut self, kind: Kind, id: &Id, changed: Option<Vec<Changed>>) {
        match changed {
            Some(changed) => self.did(Action::Update, kind, id, changed),
            None => self.did(Action::Create, kind, id, Vec::new()),
        }
    }

    /// Keeps the mistakes of a declaration, so that all are reported; any other error ends the
    /// work.
    fn heed<T>(&mut self, at: &str, result: Result<T, EditError>) -> Result<(), EditError> {
        match result {
            Ok(_) => Ok(()),
            Err(EditError::ValueInUse { id }) => {
                self.mistakes.add(format!("{at}.value"), format!("is in use by the key `{id}`"));
                Ok(())
            }
            Err(EditError::Invalid(mistakes)) => {
                for mistake in mistakes {
                    self.mistakes.add(format!("{at}.{}", mistake.field), mistake.reason);
                }
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// The end of a phase: the next one would only repeat its mistakes.
    fn settled(&mut self) -> Result<(), EditError> {
        Ok(std::mem::take(&mut self.mistakes).or_else(())?)
    }
}

impl Draft {
    /// Makes the catalog hold what is declared: creates what is missing, updates what differs in
    /// what is said, and leaves the rest alone; deletes what is not named only where [`Prune`] says
    /// so. The answer is what was done, in order.
    pub fn apply(&mut self, declared: &Declared) -> Result<Vec<Difference>, EditError> {
        let mut work = Work::default();
        each_once(declared, &mut work.mistakes);
        work.settled()?;
        let doomed = self.doomed(declared)?;
        self.prune_keys(&doomed, &mut work)?;
        self.free_values(declared);
        for (i, target) in declared.targets.iter().enumerate() {
            self.apply_target(&format!("targets[{i}]"), target, &mut work)?;
        }
        for (i, plan) in declared.plans.iter().enumerate() {
            self.apply_plan(&format!("usage_plans[{i}]"), plan, &mut work)?;
        }
        work.settled()?;
        for (i, subscriber) in declared.subscribers.iter().enumerate() {
            self.apply_subscriber(&format!("subscribers[{i}]"), subscriber, &mut work)?;
        }
        // Default plans are looked at when all is done; here, so that their mistakes stand beside
        // the others.
        if let Err(EditError::Invalid(mistakes)) = self.check() {
            mistakes
                .into_iter()
                .for_each(|mistake| work.mistakes.add(mistake.field, mistake.reason));
        }
        work.settled()?;
        self.prune_rest(declared, &doomed, &mut work)?;
        Ok(work.done)
    }

    fn apply_target(
        &mut self,
        at: &str,
        stated: &Stated<Target>,
        work: &mut Work,
    ) -> Result<(), EditError> {
        let (target, changed) = match self.next.targets.get(&stated.value.id) {
            Some(before) => {
                let before = &before.value.target;
                let target = fields::target(before, stated);
                let changed = difference::target(before, &target);
                (target, Some(changed))
            }
            None => (stated.value.clone(), None),
        };
        if changed.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let id = target.id.clone();
        let put = self.put_target(target, &format!("{at}."));
        if put.is_ok() {
            work.put(Kind::Target, &id, changed);
        }
        work.heed(at, put)
    }

    fn apply_plan(
        &mut self,
        at: &str,
        stated: &Stated<Plan>,
        work: &mut Work,
    ) -> Result<(), EditError> {
        let (plan, changed) = match self.next.plans.get(&stated.value.id) {
            Some(before) => {
                let before = &before.value.plan;
                let plan = fields::plan(before, stated);
                let changed = difference::plan(before, &plan);
                (plan, Some(changed))
            }
            None => (stated.value.clone(), None),
        };
        if changed.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let id = plan.id.clone();
        let mut unknown: Vec<Id> =
            plan.entitlements.iter().flat_map(|one| &one.targets).cloned().collect();
        unknown.retain(|target| self.next.targets.get(target).is_none());
        let put = self.put_plan(plan);
        if put.is_ok() {
            for target in unknown {
                work.did(Action::Create, Kind::Target, &target, Vec::new());
            }
            work.put(Kind::Plan, &id, changed);
        }
        work.heed(at, put)
    }

    fn apply_subscriber(
        &mut self,
        at: &str,
        declared: &DeclaredSubscriber,
        work: &mut Work,
    ) -> Result<(), EditError> {
        let stated = &declared.subscriber;
        let (subscriber, changed) = match self.next.subscribers.get(&stated.value.id) {
            Some(before) => {
                let subscriber = fields::subscriber(&before.value, stated);
                let changed = difference::subscriber(&before.value, &subscriber);
                (subscriber, Some(changed))
            }
            None => (stated.value.clone(), None),
        };
        if !changed.as_ref().is_some_and(Vec::is_empty) {
            let id = subscriber.id.clone();
            let put = self.put_subscriber(subscriber);
            let failed = put.is_err();
            work.heed(&format!("{at}.subscriber"), put)?;
            if failed {
                return Ok(());
            }
            work.put(Kind::Subscriber, &id, changed);
        }
        for (i, key) in declared.keys.iter().enumerate() {
            self.apply_key(&format!("{at}.keys[{i}]"), key, work)?;
        }
        Ok(())
    }

    fn apply_key(
        &mut self,
        at: &str,
        declared: &DeclaredKey,
        work: &mut Work,
    ) -> Result<(), EditError> {
        let before = self.next.keys.get(&declared.key.value.id).cloned();
        let Some(before) = before else {
            let key = &declared.key.value;
            let put = match &declared.value {
                None => Err(EditError::invalid(
                    "value",
                    format!("is needed: the key `{}` does not exist yet", key.id),
                )),
                Some(value) => self.put_key_with_value(key.clone(), value),
            };
            if put.is_ok() {
                work.put(Kind::Key, &key.id, None);
            }
            return work.heed(at, put);
        };
        let key = fields::key(&before.value.key, &declared.key);
        let mut changed = difference::key(&before.value.key, &key);
        let other_value =
            declared.value.as_deref().filter(|value| !self.has_value(&before.value, value));
        changed.extend(
            other_value
                .map(|value| difference::value(&before.value.key.last_four, &last_four(value))),
        );
        if changed.is_empty() {
            return Ok(());
        }
        let id = key.id.clone();
        let owner = &before.value.key.subscriber;
        let (at, put) = if *owner != key.subscriber {
            let reason = format!("of the key `{id}` never changes: it is `{owner}`");
            (format!("{at}.api_key"), Err(EditError::invalid("subscriber", reason)))
        } else if let Some(value) = other_value {
            (at.to_owned(), self.put_key_with_value(key, value))
        } else {
            (format!("{at}.api_key"), self.replace_key(key))
        };
        if put.is_ok() {
            work.put(Kind::Key, &id, Some(changed));
        }
        work.heed(&at, put)
    }

    /// Values that keys of this set give up are free for the others of it, whatever the order: two
    /// keys may swap theirs.
    fn free_values(&mut self, declared: &Declared) {
        for declared in declared.subscribers.iter().flat_map(|one| &one.keys) {
            let (Some(value), Some(before)) =
                (&declared.value, self.next.keys.get(&declared.key.value.id).cloned())
            else {
                continue;
            };
            if !self.has_value(&before.value, value) {
                self.release_value(&before);
            }
        }
    }
}

/// A resource that is named twice would be what the second says, and every run would change it
/// twice.
fn each_once(declared: &Declared, mistakes: &mut Mistakes) {
    let targets = declared
        .targets
        .iter()
        .enumerate()
        .map(|(i, one)| (format!("targets[{i}].id"), &one.value.id));
    let plans = declared
        .plans
        .iter()
        .enumerate()
        .map(|(i, one)| (format!("usage_plans[{i}].id"), &one.value.id));
    let subscribers = declared.subscribers.iter().enumerate();
    let keys = subscribers.clone().flat_map(|(i, one)| {
        one.keys.iter().enumerate().map(move |(j, key)| {
            (format!("subscribers[{i}].keys[{j}].api_key.id"), &key.key.value.id)
        })
    });
    let subscribers = subscribers
        .map(|(i, one)| (format!("subscribers[{i}].subscriber.id"), &one.subscriber.value.id));
    let all: [&mut dyn Iterator<Item = (String, &Id)>; 4] = [
        &mut targets.into_iter(),
        &mut plans.into_iter(),
        &mut subscribers.into_iter(),
        &mut keys.into_iter(),
    ];
    for kind in all {
        let mut seen = HashSet::new();
        for (at, id) in kind {
            if !seen.insert(Arc::clone(id)) {
                mistakes.add(at, format!("names `{id}` again"));
            }
        }
    }
}
