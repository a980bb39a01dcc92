//! Edits of plans.

use std::sync::Arc;

use super::{Blame, Draft, absent, current, unused};
use crate::catalog::error::{EditError, MAX_NAMED, clipped};
use crate::catalog::kind::Kind;
use crate::catalog::table::Stored;
use crate::decide::compiled::CompiledPlan;
use crate::decide::plan::validate::{self, Mistakes};
use crate::decide::plan::{Entitlement, Id, Plan};

/// A plan as the catalog keeps it.
type StoredPlan = Arc<Stored<CompiledPlan>>;

impl Draft {
    /// The plan as it is now; an `etag` that is not empty must be its current one.
    pub fn plan(&self, id: &str, etag: &str) -> Result<StoredPlan, EditError> {
        current(&self.next.plans, id, etag)
    }

    /// Adds a plan. Targets that it names and nobody knows are registered.
    pub fn create_plan(&mut self, plan: Plan) -> Result<StoredPlan, EditError> {
        absent(&self.next.plans, &plan.id)?;
        self.put_plan(plan)
    }

    /// Puts `plan` in the place of the one with its id. Targets that it names and nobody knows are
    /// registered.
    pub fn replace_plan(&mut self, plan: Plan) -> Result<StoredPlan, EditError> {
        self.plan(&plan.id, "")?;
        self.put_plan(plan)
    }

    /// Deletes a plan. While subscribers or targets use it, it is refused, unless `force`, which
    /// takes it from them.
    pub fn delete_plan(&mut self, id: &str, etag: &str, force: bool) -> Result<(), EditError> {
        let plan = self.plan(id, etag)?;
        if !force {
            self.plan_unused(id)?;
        }
        let subscribers: Vec<Id> = self.next.subscribers_of.of(id).cloned().collect();
        for subscriber in subscribers {
            let mut changed = self.subscriber(&subscriber, "")?.value.clone();
            changed.plans.retain(|plan| **plan != *id);
            self.put_subscriber(changed)?;
        }
        let targets: Vec<Id> = self.next.defaults_of.of(id).cloned().collect();
        for target in targets {
            let mut changed = (*self.target(&target, "")?.value.target).clone();
            changed.default_plan = None;
            self.put_target(changed, "")?;
        }
        self.next.plans_of.change(&plan.value.plan.id, targets_of(&plan.value.plan), [].iter());
        self.next.plans.remove(id);
        self.note(&plan.value);
        Ok(())
    }

    fn plan_unused(&self, id: &str) -> Result<(), EditError> {
        let (subscribers, targets) = (&self.next.subscribers_of, &self.next.defaults_of);
        if subscribers.count(id) == 0 {
            return unused(
                Kind::Plan,
                id,
                targets,
                "is the default plan of targets (force takes it from them)",
            );
        }
        let named = subscribers
            .of(id)
            .map(|by| format!("subscriber {by}"))
            .chain(targets.of(id).map(|by| format!("target {by}")));
        let by = named.take(MAX_NAMED).collect();
        let count = subscribers.count(id) + targets.count(id);
        Err(EditError::InUse {
            kind: Kind::Plan,
            id: id.to_owned(),
            why: "is in use (force takes it from them)",
            by,
            count,
        })
    }

    /// Adds a target to an entitlement of a plan. `entitlement` may be empty where the plan has
    /// one. A target that is there already stays.
    pub fn attach_target(
        &mut self,
        plan: &str,
        entitlement: &str,
        target: &str,
        etag: &str,
    ) -> Result<StoredPlan, EditError> {
        let current = self.plan(plan, etag)?;
        let mut changed = (*current.value.plan).clone();
        let owner = changed
            .entitlements
            .iter()
            .find(|one| one.targets.iter().any(|id| **id == *target))
            .map(|one| one.name.clone());
        let chosen = chosen_entitlement(&mut changed, entitlement)?;
        match owner {
            Some(owner) if owner == chosen.name => return Ok(current),
            Some(owner) => {
                return Err(EditError::invalid(
                    "target",
                    format!(
                        "is in the entitlement `{owner}` of the plan `{plan}` already, and cannot be in `{}` too: \
                         a target may be in one entitlement of a plan only",
                        chosen.name
                    ),
                ));
            }
            None => {}
        }
        let mut found = Mistakes::default();
        validate::id("target", target, &mut found);
        found.or_else(())?;
        chosen.targets.push(target.into());
        self.put_plan(changed)
    }

    /// Takes a target, and the method limits that are for it alone, out of a plan.
    pub fn detach_target(
        &mut self,
        plan: &str,
        target: &str,
        etag: &str,
    ) -> Result<StoredPlan, EditError> {
        let mut changed = (*self.plan(plan, etag)?.value.plan).clone();
        if !take_out(&mut changed, target) {
            return Err(EditError::invalid(
                "target",
                format!("is not in the plan `{plan}`: `{}`", clipped(target)),
            ));
        }
        self.put_plan(changed)
    }

    pub(super) fn put_plan(&mut self, plan: Plan) -> Result<StoredPlan, EditError> {
        let mut found = Mistakes::default();
        validate::plan(&plan, &mut found);
        found.or_else(())?;
        for target in targets_of(&plan) {
            self.register_target(target)?;
        }
        let before = self.next.plans.get(&plan.id).cloned();
        let old = before.iter().flat_map(|before| targets_of(&before.value.plan));
        self.next.plans_of.change(&plan.id, old, targets_of(&plan));
        for target in self.next.defaults_of.of(&plan.id) {
            self.defaults.entry(target.clone()).or_insert(Blame::Plan);
        }
        let compiled = CompiledPlan::new(Arc::new(plan)).map_err(|wrong| vec![wrong])?;
        let stored = self.stored(compiled, before.as_deref());
        self.next.plans.put(stored.clone());
        self.note(&stored.value);
        Ok(stored)
    }
}

fn targets_of(plan: &Plan) -> impl Iterator<Item = &Id> {
    plan.entitlements.iter().flat_map(|one| &one.targets)
}

fn chosen_entitlement<'a>(
    plan: &'a mut Plan,
    name: &str,
) -> Result<&'a mut Entitlement, EditError> {
    let id = plan.id.clone();
    let names = || {
        plan.entitlements
            .iter()
            .take(MAX_NAMED)
            .map(|one| one.name.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let at = match (name, plan.entitlements.as_slice()) {
        ("", []) => {
            return Err(EditError::invalid(
                "entitlement",
                format!("cannot be left out: the plan `{id}` has none yet"),
            ));
        }
        ("", [_]) => Some(0),
        ("", _) => {
            return Err(EditError::invalid(
                "entitlement",
                format!("is needed: the plan `{id}` has several ({})", names()),
            ));
        }
        (name, all) => all.iter().position(|one| *one.name == *name),
    };
    let unknown = || {
        EditError::invalid(
            "entitlement",
            format!("`{}` is not in the plan `{id}` ({})", clipped(name), names()),
        )
    };
    let at = at.ok_or_else(unknown)?;
    plan.entitlements.get_mut(at).ok_or_else(|| EditError::invalid("entitlement", "is needed"))
}

/// Whether the plan named the target.
pub(super) fn take_out(plan: &mut Plan, target: &str) -> bool {
    let mut named = false;
    for entitlement in &mut plan.entitlements {
        let before = entitlement.targets.len();
        entitlement.targets.retain(|id| **id != *target);
        named |= entitlement.targets.len() < before;
        entitlement.method_rate_limits.retain(|limit| limit.target.as_deref() != Some(target));
    }
    named
}
