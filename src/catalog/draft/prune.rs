//! What an applied set deletes because it does not name it: of the kinds that it is about, and
//! never most of a kind unless that is said.

use std::collections::HashSet;

use super::Draft;
use super::apply::{Declared, Work};
use super::fields::Field;
use crate::catalog::error::{EditError, MAX_NAMED};
use crate::catalog::kind::Kind;
use crate::catalog::table::{Resource, Table};
use crate::decide::plan::{Id, Target};

/// What goes, by kind. All of it was there before.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    keys: Vec<Id>,
    subscribers: Vec<Id>,
    plans: Vec<Id>,
    /// Those of them that a plan still covers in the end stay.
    targets: Vec<Id>,
}

impl Draft {
    /// What goes. Errors: it would be most of a kind.
    pub(super) fn doomed(&self, declared: &Declared) -> Result<Doomed, EditError> {
        let mut doomed = Doomed::default();
        let prunes = |kind| declared.prune.kinds.contains(&kind);
        if prunes(Kind::Subscriber) {
            let named = declared.subscribers.iter().map(|one| &one.subscriber.value.id).collect();
            doomed.subscribers = not_named(&self.next.subscribers, &named);
            doomed.keys = self.doomed_keys(declared, &doomed.subscribers);
        }
        if prunes(Kind::Plan) {
            let named = declared.plans.iter().map(|one| &one.value.id).collect();
            doomed.plans = not_named(&self.next.plans, &named);
        }
        if prunes(Kind::Target) {
            let named = declared.targets.iter().map(|one| &one.value.id).collect();
            doomed.targets = not_named(&self.next.targets, &named);
        }
        if !declared.prune.most {
            few(&self.next.keys, &doomed.keys)?;
            few(&self.next.subscribers, &doomed.subscribers)?;
            few(&self.next.plans, &doomed.plans)?;
        }
        Ok(doomed)
    }

    /// Keys go with their subscribers, and from subscribers of which it is said what keys they
    /// have.
    fn doomed_keys(&self, declared: &Declared, subscribers: &[Id]) -> Vec<Id> {
        let named: HashSet<&Id> = declared
            .subscribers
            .iter()
            .flat_map(|one| &one.keys)
            .map(|one| &one.key.value.id)
            .collect();
        let said = declared
            .subscribers
            .iter()
            .filter(|one| one.subscriber.fields.has(Field::Keys))
            .map(|one| &one.subscriber.value.id);
        let mut keys: Vec<Id> =
            said.chain(subscribers).flat_map(|id| self.next.keys_of.ids_of(id)).cloned().collect();
        keys.retain(|key| !named.contains(key));
        keys.sort();
        keys
    }

    /// First, so that their values are free.
    pub(super) fn prune_keys(&mut self, doomed: &Doomed, work: &mut Work) -> Result<(), EditError> {
        for id in &doomed.keys {
            self.delete_key(id, "")?;
            work.deleted(Kind::Key, id);
        }
        Ok(())
    }

    /// Those that name others go before those that are named.
    pub(super) fn prune_rest(
        &mut self,
        declared: &Declared,
        doomed: &Doomed,
        work: &mut Work,
    ) -> Result<(), EditError> {
        for id in &doomed.subscribers {
            self.delete_subscriber(id, "", false)?;
            work.deleted(Kind::Subscriber, id);
        }
        let going: HashSet<&Id> = doomed.plans.iter().collect();
        let mut targets = doomed.targets.clone();
        targets.retain(|target| self.next.plans_of.of(target).all(|plan| going.contains(plan)));
        if !declared.prune.most {
            few(&self.next.targets, &targets)?;
        }
        self.drop_default_plans(&targets)?;
        for id in &doomed.plans {
            self.delete_plan(id, "", false)?;
            work.deleted(Kind::Plan, id);
        }
        for id in &targets {
            self.delete_target(id, "", false)?;
            work.deleted(Kind::Target, id);
        }
        Ok(())
    }

    /// A target that goes must not hold back the plan that was its default.
    fn drop_default_plans(&mut self, targets: &[Id]) -> Result<(), EditError> {
        for id in targets {
            let target = self.target(id, "")?;
            if target.value.target.default_plan.is_some() {
                self.put_target(
                    Target { default_plan: None, ..(*target.value.target).clone() },
                    "",
                )?;
            }
        }
        Ok(())
    }
}

fn not_named<T: Resource>(table: &Table<T>, named: &HashSet<&Id>) -> Vec<Id> {
    table
        .iter_after(None)
        .map(|stored| stored.value.id())
        .filter(|id| !named.contains(id))
        .cloned()
        .collect()
}

/// Refuses to delete more than half of what there is.
fn few<T: Resource>(table: &Table<T>, doomed: &[Id]) -> Result<(), EditError> {
    if doomed.len() * 2 <= table.len() {
        return Ok(());
    }
    let by = doomed.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    Err(EditError::MostOf { kind: T::KIND, by, count: doomed.len(), of: table.len() })
}
