//! The books of the ledger with what this node holds of them.

use std::collections::HashMap;

use crate::decide::compiled::QuotaIdentity;
use crate::decide::ledger::{CounterIdentity, Scope, Whose};
use crate::decide::lookup::Lookup;
use crate::decide::quota::Row;
use crate::engine::plans::QuotaUsage;
use crate::ledger::{LedgerError, Stretch};
use crate::service::lease_broker::LeaseBroker;

impl LeaseBroker {
    /// A stretch of the books of a scope: the ledger's, and where this engine holds a lease, what
    /// it has spent of it. And who comes next, where there is more. Blocks on the ledger's file.
    /// `held`: what the engine holds of it, read before.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn usage(
        &self,
        lookup: &impl Lookup,
        mut held: Vec<QuotaUsage>,
        scope: &Scope,
        stretch: &Stretch,
    ) -> Result<(Vec<QuotaUsage>, Option<Whose>), LedgerError> {
        let (kept, next) = self.ledger.ledger().usage_of(scope, stretch)?;
        held.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        let next = [next, cut(&mut held, stretch.most)].into_iter().flatten().min();
        let place = |(place, usage): (usize, &QuotaUsage)| {
            ((counter_of(usage), usage.row.period.start_ns), place)
        };
        let places: HashMap<(CounterIdentity, u64), usize> =
            held.iter().enumerate().map(place).collect();
        for kept in kept {
            if kept.identity.is_of_rule() {
                continue;
            }
            let (used, lost) = (kept.used(), kept.lost.min(kept.charged));
            let counter = (kept.identity, kept.period.start_ns);
            if let Some(usage) = places.get(&counter).and_then(|&place| held.get_mut(place)) {
                // What a dead epoch never told of may have been spent, and refunded since.
                usage.lost = kept.lost.min(usage.row.used);
                usage.row.used -= usage.lost;
            } else {
                let row = Row { period: kept.period, used, granted: kept.granted };
                let CounterIdentity { subscriber, key, plan, entitlement, quota } = counter.0;
                let limit = declared_limit(lookup, &plan, &entitlement, &quota);
                held.push(QuotaUsage {
                    subscriber,
                    key,
                    plan,
                    entitlement,
                    quota,
                    limit,
                    row,
                    lost,
                });
            }
        }
        if let Some((subscriber, key)) = &next {
            held.retain(|usage| (&usage.subscriber, &usage.key) < (subscriber, key));
        }
        held.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        Ok((held, next))
    }
}

/// The limit that is declared now. `None`: the quota is not declared any more.
fn declared_limit(
    lookup: &impl Lookup,
    plan: &str,
    entitlement: &str,
    quota: &QuotaIdentity,
) -> Option<u64> {
    let declared = lookup.plan(plan)?.entitlement(entitlement)?;
    declared
        .quotas
        .iter()
        .find(|declared| *declared.identity == *quota)
        .map(|declared| declared.limit)
}

fn counter_of(usage: &QuotaUsage) -> CounterIdentity {
    let QuotaUsage { subscriber, key, plan, entitlement, quota, .. } = usage.clone();
    CounterIdentity { subscriber, key, plan, entitlement, quota }
}

/// Ends a list in order after so many rows, before the next subscriber or key: that one, where
/// there is more.
fn cut(rows: &mut Vec<QuotaUsage>, most: usize) -> Option<Whose> {
    let whose = |row: &QuotaUsage| (row.subscriber.clone(), row.key.clone());
    let last = whose(rows.get(most.checked_sub(1)?)?);
    let rest = rows.partition_point(|row| whose(row) <= last);
    let next = rows.get(rest).map(whose);
    rows.truncate(rest);
    next
}
