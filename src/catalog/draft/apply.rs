//! A set of resources as they should be, and the edits that make them so.

use std::collections::HashSet;
use std::sync::Arc;

use super::Draft;
use super::difference::{key_fields, plan_fields, subscriber_fields, target_fields};
use crate::catalog::error::EditError;
use crate::catalog::table::{Kind, Resource, Table};
use crate::decide::plan::validate::Mistakes;
use crate::decide::plan::{ApiKey, Id, Plan, Subscriber, Target};

/// What should be.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub targets: Vec<Target>,
    pub plans: Vec<Plan>,
    pub subscribers: Vec<DeclaredSubscriber>,
    /// Delete what is not named.
    pub prune: bool,
}

/// A subscriber with its API keys.
#[derive(Clone, Debug)]
pub struct DeclaredSubscriber {
    pub subscriber: Subscriber,
    pub keys: Vec<DeclaredKey>,
}

/// An API key. `value` is needed where the key does not exist yet; where it does, another value takes the place of the one it had.
#[derive(Clone, Debug)]
pub struct DeclaredKey {
    pub key: ApiKey,
    pub value: Option<String>,
}

/// One resource that is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub action: Action,
    pub kind: Kind,
    pub id: Id,
    /// The fields that differ, of an update.
    pub fields: Vec<&'static str>,
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
struct Work {
    done: Vec<Difference>,
    mistakes: Mistakes,
}

impl Work {
    fn did(&mut self, action: Action, kind: Kind, id: &Id, fields: Vec<&'static str>) {
        self.done.push(Difference { action, kind, id: id.clone(), fields });
    }

    /// Created when there was nothing before, else updated.
    fn put(&mut self, kind: Kind, id: &Id, before: Option<Vec<&'static str>>) {
        match before {
            Some(fields) => self.did(Action::Update, kind, id, fields),
            None => self.did(Action::Create, kind, id, Vec::new()),
        }
    }

    /// Keeps the mistakes of a declaration, so that all are reported; any other error ends the work.
    fn heed<T>(&mut self, at: &str, result: Result<T, EditError>) -> Result<(), EditError> {
        match result {
            Ok(_) => Ok(()),
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
    /// Makes the catalog hold what is declared: creates what is missing, updates what differs, and leaves the rest alone; deletes what is
    /// not named only when `prune`. The answer is what was done, in order.
    pub fn apply(&mut self, declared: &Declared) -> Result<Vec<Difference>, EditError> {
        let mut work = Work::default();
        each_once(declared, &mut work.mistakes);
        work.settled()?;
        if declared.prune {
            self.prune_keys(declared, &mut work)?;
        }
        self.free_values(declared);
        for (i, target) in declared.targets.iter().enumerate() {
            self.apply_target(&format!("targets[{i}]"), target, &mut work)?;
        }
        work.settled()?;
        for (i, plan) in declared.plans.iter().enumerate() {
            self.apply_plan(&format!("usage_plans[{i}]"), plan, &mut work)?;
        }
        work.settled()?;
        for (i, subscriber) in declared.subscribers.iter().enumerate() {
            self.apply_subscriber(&format!("subscribers[{i}]"), subscriber, &mut work)?;
        }
        work.settled()?;
        if declared.prune {
            self.prune_rest(declared, &mut work)?;
        }
        Ok(work.done)
    }

    fn apply_target(&mut self, at: &str, target: &Target, work: &mut Work) -> Result<(), EditError> {
        let before = self.next.targets.get(&target.id).map(|before| target_fields(&before.value.target, target));
        if before.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let put = self.put_target(target.clone(), &format!("{at}."));
        if put.is_ok() {
            work.put(Kind::Target, &target.id, before);
        }
        work.heed(at, put)
    }

    fn apply_plan(&mut self, at: &str, plan: &Plan, work: &mut Work) -> Result<(), EditError> {
        let before = self.next.plans.get(&plan.id).map(|before| plan_fields(&before.value.plan, plan));
        if before.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let mut unknown: Vec<&Id> = plan.entitlements.iter().flat_map(|one| &one.targets).collect();
        unknown.retain(|target| self.next.targets.get(target).is_none());
        let put = self.put_plan(plan.clone());
        if put.is_ok() {
            for target in unknown {
                work.did(Action::Create, Kind::Target, target, Vec::new());
            }
            work.put(Kind::Plan, &plan.id, before);
        }
        work.heed(at, put)
    }

    fn apply_subscriber(&mut self, at: &str, declared: &DeclaredSubscriber, work: &mut Work) -> Result<(), EditError> {
        let subscriber = &declared.subscriber;
        let before = self.next.subscribers.get(&subscriber.id).map(|before| subscriber_fields(&before.value, subscriber));
        if !before.as_ref().is_some_and(Vec::is_empty) {
            let put = self.put_subscriber(subscriber.clone());
            let failed = put.is_err();
            work.heed(&format!("{at}.subscriber"), put)?;
            if failed {
                return Ok(());
            }
            work.put(Kind::Subscriber, &subscriber.id, before);
        }
        for (i, key) in declared.keys.iter().enumerate() {
            self.apply_key(&format!("{at}.keys[{i}]"), key, work)?;
        }
        Ok(())
    }

    fn apply_key(&mut self, at: &str, declared: &DeclaredKey, work: &mut Work) -> Result<(), EditError> {
        let key = &declared.key;
        let before = self.next.keys.get(&key.id).cloned();
        let other_value =
            declared.value.as_deref().filter(|value| before.as_ref().is_none_or(|before| !self.has_value(&before.value, value)));
        let mut fields = before.as_ref().map(|before| key_fields(&before.value.key, key));
        if let (Some(fields), Some(_)) = (&mut fields, other_value) {
            fields.push("value");
        }
        if fields.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let (at, put) = match (&before, other_value) {
            (None, None) => {
                (at.to_owned(), Err(EditError::invalid("value", format!("is needed: the key `{}` does not exist yet", key.id))))
            }
            (Some(before), _) if before.value.key.subscriber != key.subscriber => {
                let reason = format!("of the key `{}` never changes: it is `{}`", key.id, before.value.key.subscriber);
                (format!("{at}.api_key"), Err(EditError::invalid("subscriber", reason)))
            }
            (_, Some(value)) => (at.to_owned(), self.put_key_with_value(key.clone(), value)),
            (Some(_), None) => (format!("{at}.api_key"), self.replace_key(key.clone())),
        };
        if put.is_ok() {
            work.put(Kind::Key, &key.id, fields);
        }
        work.heed(&at, put)
    }

    /// Values that keys of this set give up are free for the others of it, whatever the order: two keys may swap theirs.
    fn free_values(&mut self, declared: &Declared) {
        for declared in declared.subscribers.iter().flat_map(|one| &one.keys) {
            let (Some(value), Some(before)) = (&declared.value, self.next.keys.get(&declared.key.id).cloned()) else { continue };
            if !self.has_value(&before.value, value) {
                self.release_value(&before);
            }
        }
    }

    /// First, so that their values are free.
    fn prune_keys(&mut self, declared: &Declared, work: &mut Work) -> Result<(), EditError> {
        let named = declared.subscribers.iter().flat_map(|one| &one.keys).map(|one| &one.key.id).collect();
        for id in not_named(&self.next.keys, &named) {
            self.delete_key(&id, "")?;
            work.did(Action::Delete, Kind::Key, &id, Vec::new());
        }
        Ok(())
    }

    /// Those that name others go before those that are named.
    fn prune_rest(&mut self, declared: &Declared, work: &mut Work) -> Result<(), EditError> {
        let named = declared.subscribers.iter().map(|one| &one.subscriber.id).collect();
        for id in not_named(&self.next.subscribers, &named) {
            self.delete_subscriber(&id, "", false)?;
            work.did(Action::Delete, Kind::Subscriber, &id, Vec::new());
        }
        let in_plans = declared.plans.iter().flat_map(|plan| &plan.entitlements).flat_map(|one| &one.targets);
        let named = declared.targets.iter().map(|one| &one.id).chain(in_plans).collect();
        let targets = not_named(&self.next.targets, &named);
        self.drop_default_plans(&targets)?;
        let named = declared.plans.iter().map(|one| &one.id).collect();
        for id in not_named(&self.next.plans, &named) {
            self.delete_plan(&id, "", false)?;
            work.did(Action::Delete, Kind::Plan, &id, Vec::new());
        }
        for id in targets {
            self.delete_target(&id, "", false)?;
            work.did(Action::Delete, Kind::Target, &id, Vec::new());
        }
        Ok(())
    }

    /// A target that goes must not hold back the plan that was its default.
    fn drop_default_plans(&mut self, targets: &[Id]) -> Result<(), EditError> {
        for id in targets {
            let target = self.target(id, "")?;
            if target.value.target.default_plan.is_some() {
                self.put_target(Target { default_plan: None, ..(*target.value.target).clone() }, "")?;
            }
        }
        Ok(())
    }
}

fn not_named<T: Resource>(table: &Table<T>, named: &HashSet<&Id>) -> Vec<Id> {
    table.iter_after(None).map(|stored| stored.value.id()).filter(|id| !named.contains(id)).cloned().collect()
}

/// A resource that is named twice would be what the second says, and every run would change it twice.
fn each_once(declared: &Declared, mistakes: &mut Mistakes) {
    let targets = declared.targets.iter().enumerate().map(|(i, one)| (format!("targets[{i}].id"), &one.id));
    let plans = declared.plans.iter().enumerate().map(|(i, one)| (format!("usage_plans[{i}].id"), &one.id));
    let subscribers = declared.subscribers.iter().enumerate();
    let keys = subscribers.clone().flat_map(|(i, one)| {
        one.keys.iter().enumerate().map(move |(j, key)| (format!("subscribers[{i}].keys[{j}].api_key.id"), &key.key.id))
    });
    let subscribers = subscribers.map(|(i, one)| (format!("subscribers[{i}].subscriber.id"), &one.subscriber.id));
    let all: [&mut dyn Iterator<Item = (String, &Id)>; 4] =
        [&mut targets.into_iter(), &mut plans.into_iter(), &mut subscribers.into_iter(), &mut keys.into_iter()];
    for kind in all {
        let mut seen = HashSet::new();
        for (at, id) in kind {
            if !seen.insert(Arc::clone(id)) {
                mistakes.add(at, format!("names `{id}` again"));
            }
        }
    }
}
