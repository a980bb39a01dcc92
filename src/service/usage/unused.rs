//! Quotas that somebody has and has not used yet: 0 of so many.

use std::collections::HashSet;

use crate::catalog::Catalog;
use crate::decide::compiled::CompiledEntitlement;
use crate::decide::ledger::Scope;
use crate::decide::plan::{CounterScope, Id};
use crate::decide::quota::Row;
use crate::decide::time::Now;
use crate::engine::plans::QuotaUsage;

/// Rows that are added for one subscriber.
const MOST: usize = 1_000;

/// The current periods of the quotas of a subscriber or a key of which `found` has none. Of all
/// others, and of a whole plan, there may be any number: they are not looked for.
pub(super) fn unused(
    catalog: &Catalog,
    scope: &Scope,
    found: &[QuotaUsage],
    now: Now,
) -> Vec<QuotaUsage> {
    let (subscriber, keys): (&Id, Vec<&Id>) = match scope {
        Scope::Subscriber(id) => {
            let Some(subscriber) = catalog.subscribers().get(id) else { return Vec::new() };
            (&subscriber.value.id, catalog.keys_of(id).collect())
        }
        Scope::Key(id) => {
            let Some(key) = catalog.keys().get(id) else { return Vec::new() };
            (&key.value.key.subscriber, vec![&key.value.key.id])
        }
        Scope::All | Scope::Plan(_) => return Vec::new(),
    };
    let of_a_key = matches!(scope, Scope::Key(_));
    let known: HashSet<_> = found
        .iter()
        .map(|one| (one.key.as_ref(), &one.plan, &one.entitlement, &one.quota, one.row.period))
        .collect();
    let plans = catalog
        .subscribers()
        .get(subscriber)
        .map(|one| one.value.plans.clone())
        .unwrap_or_default();
    let mut unused = Vec::new();
    for entitlement in plans
        .iter()
        .filter_map(|plan| catalog.plans().get(plan))
        .flat_map(|plan| &plan.value.entitlements)
    {
        let whose: Vec<Option<&Id>> = match entitlement.counter_scope {
            CounterScope::Key => keys.iter().map(|&key| Some(key)).collect(),
            CounterScope::Subscriber if of_a_key => Vec::new(),
            CounterScope::Subscriber => vec![None],
        };
        for key in whose {
            let rows = fresh(subscriber, key, entitlement, now);
            unused.extend(rows.filter(|one| {
                !known.contains(&(
                    one.key.as_ref(),
                    &one.plan,
                    &one.entitlement,
                    &one.quota,
                    one.row.period,
                ))
            }));
            if unused.len() > MOST {
                unused.truncate(MOST);
                return unused;
            }
        }
    }
    unused
}

fn fresh<'a>(
    subscriber: &'a Id,
    key: Option<&'a Id>,
    entitlement: &'a CompiledEntitlement,
    now: Now,
) -> impl Iterator<Item = QuotaUsage> + 'a {
    entitlement.quotas.iter().map(move |quota| QuotaUsage {
        subscriber: subscriber.clone(),
        key: key.cloned(),
        plan: entitlement.plan.clone(),
        entitlement: entitlement.name.clone(),
        quota: quota.identity.clone(),
        limit: Some(quota.limit),
        row: Row { period: quota.calendar.period(now.unix_ns), used: 0, granted: 0 },
        lost: 0,
    })
}
