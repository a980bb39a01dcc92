//! Steps 1 and 2 of the decision: whose request is this, and which entitlement covers it?

use std::sync::Arc;

use super::compiled::{CompiledEntitlement, CompiledTarget};
use super::lookup::Lookup;
use super::plan::{ApiKey, Id, Subscriber};
use super::time::Now;
use super::verdict::{Note, Reason};

/// Who asks, for what.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// As it was presented. Empty: none was.
    pub api_key: &'a [u8],
    pub target: &'a str,
    pub method: &'a [u8],
    /// With or without a query.
    pub path: &'a [u8],
}

/// What steps 1 and 2 found.
#[derive(Clone, Debug)]
pub enum Resolution<'a> {
    /// A call that needs no key: only the limits of the target and of the account apply.
    Open {
        target: &'a CompiledTarget,
    },
    Covered(Covered<'a>),
    Refused(Refused<'a>),
}

/// A subscriber's request under an entitlement.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    pub key: &'a ApiKey,
    pub subscriber_id: &'a Id,
    pub entitlement: &'a Arc<CompiledEntitlement>,
    /// As the plan names it.
    pub target_id: &'a Id,
    /// `None` where a plan names a target that is not registered: it has no limits of its own.
    pub target: Option<&'a CompiledTarget>,
}

/// A request that fell at step 1 or 2.
#[derive(Clone, Debug)]
pub struct Refused<'a> {
    pub reason: Reason,
    /// Known unless the key is missing or unknown.
    pub key: Option<&'a ApiKey>,
    pub note: Option<Note>,
}

/// Steps 1 and 2. A target that nothing knows is refused as `NOT_SUBSCRIBED` to a valid key, and
/// never before the key was looked at.
pub fn resolve<'a>(lookup: &'a impl Lookup, call: &Call<'_>, now: Now) -> Resolution<'a> {
    let target = lookup.target(call.target);
    if let Some(target) = target.filter(|target| target.is_open(call.method, call.path)) {
        return Resolution::Open { target };
    }
    match identify(lookup, call.api_key, now)
        .and_then(|caller| subscribe(lookup, caller, call.target, target))
    {
        Ok(covered) => Resolution::Covered(covered),
        Err(refused) => Resolution::Refused(refused),
    }
}

/// Steps 1 and 2, where an earlier call of this API key to this target was covered at the same
/// state of the declarations. Only what depends on the moment and on the call itself is looked at
/// again. `None`: it is not covered now, and [`resolve`] says why.
pub fn resolve_again<'a>(known: Covered<'a>, call: &Call<'_>, now: Now) -> Option<Covered<'a>> {
    let is_open = known.target.is_some_and(|target| target.is_open(call.method, call.path));
    (!is_open && usable(known.key, now).is_ok()).then_some(known)
}

/// May this key be used now?
///
/// # Errors
/// Why not.
pub fn usable(key: &ApiKey, now: Now) -> Result<(), Reason> {
    if !key.enabled {
        return Err(Reason::ApiKeyDisabled);
    }
    if key.dates.not_before_ns.is_some_and(|from| now.unix_ns < from) {
        return Err(Reason::ApiKeyNotYetValid);
    }
    if key.dates.expire_ns.is_some_and(|end| now.unix_ns >= end) {
        return Err(Reason::ApiKeyExpired);
    }
    Ok(())
}

/// Who presents this key? Step 1.
pub fn identify<'a>(
    lookup: &'a impl Lookup,
    presented: &[u8],
    now: Now,
) -> Result<(&'a ApiKey, &'a Subscriber), Refused<'a>> {
    let refused = |reason, key| Refused { reason, key, note: None };
    if presented.is_empty() {
        return Err(refused(Reason::ApiKeyMissing, None));
    }
    let (key, subscriber) = lookup.caller(presented).ok_or_else(|| {
        let is_unknown = !lookup.unreadable().keys;
        refused(if is_unknown { Reason::ApiKeyUnknown } else { Reason::LedgerUnavailable }, None)
    })?;
    usable(key, now).map_err(|reason| refused(reason, Some(key)))?;
    let subscriber = subscriber.ok_or_else(|| {
        if lookup.unreadable().subscribers {
            return refused(Reason::LedgerUnavailable, Some(key));
        }
        let note = Note::SubscriberMissing {
            key: Arc::clone(&key.id),
            subscriber: Arc::clone(&key.subscriber),
        };
        Refused { reason: Reason::ApiKeyUnknown, key: Some(key), note: Some(note) }
    })?;
    Ok((key, subscriber))
}

/// Which entitlement covers the target? Step 2: the first plan of the subscriber that does, else
/// the target's default plan. `target` is what the lookup has of it. Where the answer may depend on
/// what cannot be read, there is none.
pub fn subscribe<'a>(
    lookup: &'a impl Lookup,
    (key, subscriber): (&'a ApiKey, &'a Subscriber),
    target_id: &str,
    target: Option<&'a CompiledTarget>,
) -> Result<Covered<'a>, Refused<'a>> {
    let unavailable = || Refused { reason: Reason::LedgerUnavailable, key: Some(key), note: None };
    let covers = |plan: &str| match lookup.plan(plan) {
        Some(plan) => Ok(plan.covering(target_id)),
        None if lookup.unreadable().plans => Err(unavailable()),
        None => Ok(None),
    };
    let refused = |note| Refused { reason: Reason::NotSubscribed, key: Some(key), note };
    if target.is_none() && lookup.unreadable().targets {
        return Err(unavailable());
    }
    let subscriber_id = &subscriber.id;
    for plan in &*subscriber.plans {
        // In their order: a plan that cannot be read may be the one that covers it.
        if let Some((target_id, entitlement)) = covers(plan)? {
            return Ok(Covered { key, subscriber_id, entitlement, target_id, target });
        }
    }
    let Some((declared, default)) = target
        .and_then(|target| target.target.default_plan.as_ref().map(|plan| (&target.target, plan)))
    else {
        return Err(refused(None));
    };
    let (target_id, entitlement) = covers(default)?.ok_or_else(|| {
        refused(Some(Note::DefaultPlanDoesNotCover {
            target: Arc::clone(&declared.id),
            plan: Arc::clone(default),
        }))
    })?;
    Ok(Covered { key, subscriber_id, entitlement, target_id, target })
}
