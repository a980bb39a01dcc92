//! What an entry of a plan holds beside the counts of its quotas: token buckets, and where its
//! requests are counted.

use std::sync::Arc;

use smallvec::SmallVec;

use super::usage::Row as UsageRow;
use crate::decide::time::Now;
use crate::engine::leases::Extra;

/// How many method counters an entry may hold before those that are full again are dropped.
const MANY_METHODS: usize = 64;

/// Beside the counts of quotas.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct PlanExtra {
    pub(super) rates: Rates,
    /// The statistics that the last request of the entry was counted in.
    pub(super) last_usage: Option<Arc<UsageRow>>,
}

impl Extra for PlanExtra {
    const BY_PLAN: bool = true;

    fn is_idle(&self, now: Now) -> bool {
        self.rates.are_full(now)
    }
}

/// The token buckets of an entry or a target, as theoretical arrival times.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Rates {
    general: u64,
    /// By the identity of the declared limit. Only those that were ever asked for: most entries
    /// have none.
    methods: Option<Box<Methods>>,
}

type Methods = SmallVec<[(u64, u64); 2]>;

/// Buckets of method limits.
pub(super) type Buckets<'s> = SmallVec<[&'s mut u64; 1]>;

impl Rates {
    /// The general bucket, and those of method limits, by their identities and in their order.
    pub(super) fn buckets(&mut self, met: &[u64], now: Now) -> (&mut u64, Buckets<'_>) {
        if met.is_empty() {
            return (&mut self.general, Buckets::new());
        }
        let methods = self.methods.get_or_insert_default();
        let is_known =
            |methods: &Methods, identity| methods.iter().any(|&(known, _)| known == identity);
        let missing = met.iter().filter(|&&identity| !is_known(methods, identity)).count();
        if missing > 0 && methods.len() + missing > MANY_METHODS {
            methods.retain(|&mut (_, tat)| tat > now.steady_ns);
        }
        for &identity in met {
            if !is_known(methods, identity) {
                methods.push((identity, 0));
            }
        }
        let place = |identity| met.iter().position(|&wanted| wanted == identity);
        let found = methods.iter_mut().filter_map(|(identity, tat)| Some((place(*identity)?, tat)));
        let mut found: SmallVec<[(usize, &mut u64); 1]> = found.collect();
        found.sort_unstable_by_key(|(place, _)| *place);
        (&mut self.general, found.into_iter().map(|(_, tat)| tat).collect())
    }

    /// Are all buckets full?
    pub(super) fn are_full(&self, now: Now) -> bool {
        self.general <= now.steady_ns
            && self
                .methods
                .iter()
                .flat_map(|methods| methods.iter())
                .all(|&(_, tat)| tat <= now.steady_ns)
    }
}
