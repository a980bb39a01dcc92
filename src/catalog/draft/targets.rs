//! Edits of targets.

use std::sync::Arc;

use super::plans::take_out;
use super::{Blame, Draft, absent, current, unused};
use crate::catalog::error::EditError;
use crate::catalog::kind::Kind;
use crate::catalog::table::Stored;
use crate::decide::compiled::CompiledTarget;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{About, Id, Target};

/// A target as the catalog keeps it.
type StoredTarget = Arc<Stored<CompiledTarget>>;

impl Draft {
    /// The target as it is now; an `etag` that is not empty must be its current one.
    pub fn target(&self, id: &str, etag: &str) -> Result<StoredTarget, EditError> {
        current(&self.next.targets, id, etag)
    }

    /// Adds a target. Its default plan, where it has one, must cover it when the edit is done.
    pub fn create_target(&mut self, target: Target) -> Result<StoredTarget, EditError> {
        absent(&self.next.targets, &target.id)?;
        self.put_target(target, "")
    }

    /// Puts `target` in the place of the one with its id. Its default plan must cover it when the
    /// edit is done.
    pub fn replace_target(&mut self, target: Target) -> Result<StoredTarget, EditError> {
        self.target(&target.id, "")?;
        self.put_target(target, "")
    }

    /// Deletes a target. While plans name it, it is refused, unless `force`, which takes it out of
    /// them.
    pub fn delete_target(&mut self, id: &str, etag: &str, force: bool) -> Result<(), EditError> {
        let target = self.target(id, etag)?;
        if !force {
            unused(
                Kind::Target,
                id,
                &self.next.plans_of,
                "is in plans (force takes it out of them)",
            )?;
        }
        // It goes first: with it goes its default plan, and nothing has to cover it any more.
        let target_id = target.value.target.id.clone();
        self.next.targets.remove(id);
        self.next.defaults_of.change(
            &target_id,
            target.value.target.default_plan.iter(),
            [].iter(),
        );
        let plans: Vec<Id> = self.next.plans_of.of(id).cloned().collect();
        for plan in plans {
            let mut changed = (*self.plan(&plan, "")?.value.plan).clone();
            take_out(&mut changed, id);
            self.put_plan(changed)?;
        }
        self.note(&target.value);
        Ok(())
    }

    /// Makes sure that there is a target of this id.
    pub(super) fn register_target(&mut self, id: &Id) -> Result<(), EditError> {
        if self.next.targets.get(id).is_some() {
            return Ok(());
        }
        let target = Target {
            id: id.clone(),
            about: About::default(),
            rate_limit: None,
            method_rate_limits: Vec::new(),
            open_methods: Vec::new(),
            default_plan: None,
        };
        self.put_target(target, "").map(|_| ())
    }

    /// `at` leads to the target in a file of many.
    pub(super) fn put_target(
        &mut self,
        target: Target,
        at: &str,
    ) -> Result<StoredTarget, EditError> {
        let mut found = Mistakes::default();
        validate::target(&target, &mut found);
        found.or_else(())?;
        let before = self.next.targets.get(&target.id).cloned();
        let old = before.iter().filter_map(|before| before.value.target.default_plan.as_ref());
        self.next.defaults_of.change(&target.id, old, target.default_plan.iter());
        if target.default_plan.is_some() {
            self.defaults.insert(target.id.clone(), Blame::Declared(at.to_owned()));
        }
        let compiled = CompiledTarget::new(Arc::new(target)).map_err(|wrong| vec![wrong])?;
        let stored = self.stored(compiled, before.as_deref());
        self.next.targets.put(stored.clone());
        self.note(&stored.value);
        Ok(stored)
    }
}
