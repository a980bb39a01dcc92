//! Declarations prepared for deciding: built once per edit, so that a decision parses, allocates
//! and searches nothing.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::calendar::Calendar;
use super::gcra::RateLimit;
use super::invalid::Invalid;
use super::method::PatternSet;
use super::outcome::CountRule;
use super::path::RequestPath;
use super::plan::{
    Charge, CounterScope, Entitlement, Id, MethodRate, OnBreach, PeriodUnit, Plan, Quota, Rate,
    Target, Weekday,
};

/// A plan, ready to decide.
#[derive(Clone, Debug)]
pub struct CompiledPlan {
    pub plan: Arc<Plan>,
    /// In the declared order.
    pub entitlements: Vec<Arc<CompiledEntitlement>>,
    by_target: HashMap<Id, usize, RandomState>,
}

/// An entitlement, ready to decide.
#[derive(Debug)]
pub struct CompiledEntitlement {
    pub plan: Id,
    pub name: Id,
    pub counter_scope: CounterScope,
    pub rate: Option<RateLimit>,
    pub methods: MethodLimits,
    /// In the declared order.
    pub quotas: Vec<CompiledQuota>,
}

/// A quota, ready to decide.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledQuota {
    pub identity: Arc<QuotaIdentity>,
    /// Units in a period.
    pub limit: u64,
    pub calendar: Calendar,
    pub on_breach: OnBreach,
    pub charge: Charge,
    pub counts: CountRule,
}

/// What makes the count of a quota its own within its entitlement: an edit of any of these starts
/// another count, and the way back resumes the old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuotaIdentity {
    pub name: Id,
    pub unit: PeriodUnit,
    /// The canonical name of the zone.
    pub time_zone: Id,
    /// Monday unless the unit is a week: no other period depends on it.
    pub week_start: Weekday,
}

/// Rate limits by method and path.
#[derive(Debug, Default)]
pub struct MethodLimits {
    limits: Vec<MethodLimit>,
    patterns: PatternSet,
}

/// One rate limit by method and path.
#[derive(Debug)]
pub struct MethodLimit {
    /// As an answer shows it: `method:GET /users/{id}`, `target:GET /users`.
    pub name: Id,
    /// Names its counter among those of its entitlement or target: the same declaration has the
    /// same counter after an edit.
    pub identity: u64,
    pub target: Option<Id>,
    pub limit: RateLimit,
    pub replaces_general: bool,
}

/// A target, ready to decide.
#[derive(Clone, Debug)]
pub struct CompiledTarget {
    pub target: Arc<Target>,
    pub rate: Option<RateLimit>,
    pub methods: Arc<MethodLimits>,
    open: Arc<PatternSet>,
}

impl CompiledPlan {
    /// Prepares a plan. Errors: a rate that makes no token bucket, an unknown time zone, a path
    /// that is no pattern, a target in two entitlements.
    pub fn new(plan: Arc<Plan>) -> Result<Self, Invalid> {
        let mut by_target = HashMap::default();
        let mut entitlements = Vec::with_capacity(plan.entitlements.len());
        for (index, declared) in plan.entitlements.iter().enumerate() {
            let at = format!("entitlements[{index}]");
            for (place, target) in declared.targets.iter().enumerate() {
                if let Some(other) = by_target.insert(Arc::clone(target), index) {
                    let named =
                        plan.entitlements.get(other).map_or("", |entitlement| &*entitlement.name);
                    let reason = format!(
                        "names `{target}`, which the entitlement `{named}` of this plan has already: leave it in one of the two"
                    );
                    return Err(Invalid::new(format!("{at}.targets[{place}]"), reason));
                }
            }
            let compiled = CompiledEntitlement::new(&plan.id, declared)
                .map_err(|invalid| invalid.within(&at))?;
            entitlements.push(Arc::new(compiled));
        }
        Ok(Self { plan, entitlements, by_target })
    }

    /// The entitlement that covers a target. At most one does.
    pub fn entitlement_for(&self, target: &str) -> Option<&Arc<CompiledEntitlement>> {
        self.covering(target).map(|(_, entitlement)| entitlement)
    }

    /// A target as this plan names it, with the entitlement that covers it.
    pub fn covering(&self, target: &str) -> Option<(&Id, &Arc<CompiledEntitlement>)> {
        let (target, &index) = self.by_target.get_key_value(target)?;
        Some((target, self.entitlements.get(index)?))
    }

    /// The entitlement of this name.
    pub fn entitlement(&self, name: &str) -> Option<&Arc<CompiledEntitlement>> {
        self.entitlements.iter().find(|entitlement| &*entitlement.name == name)
    }
}

impl CompiledEntitlement {
    fn new(plan: &Id, declared: &Entitlement) -> Result<Self, Invalid> {
        let quotas = declared.quotas.iter().enumerate();
        let quotas = quotas.map(|(index, quota)| {
            CompiledQuota::new(quota).map_err(|invalid| invalid.within(&format!("quotas[{index}]")))
        });
        Ok(Self {
            plan: Arc::clone(plan),
            name: Arc::clone(&declared.name),
            counter_scope: declared.counter_scope,
            rate: declared.rate_limit.map(|rate| bucket(rate, "rateLimit")).transpose()?,
            methods: MethodLimits::new("method", &declared.method_rate_limits)?,
            quotas: quotas.collect::<Result<_, _>>()?,
        })
    }
}

impl CompiledQuota {
    /// Prepares a quota. Errors: an unknown time zone.
    pub fn new(declared: &Quota) -> Result<Self, Invalid> {
        let week_start =
            if declared.unit == PeriodUnit::Week { declared.week_start } else { Weekday::Monday };
        let calendar = Calendar::new(declared.unit, &declared.time_zone, week_start)?;
        Ok(Self {
            identity: Arc::new(QuotaIdentity {
                name: Arc::clone(&declared.name),
                unit: declared.unit,
                time_zone: Id::from(calendar.zone_name()),
                week_start,
            }),
            limit: declared.limit,
            calendar,
            on_breach: declared.on_breach,
            charge: declared.charge,
            counts: declared.count_statuses.as_ref().map_or(CountRule::DEFAULT, CountRule::of),
        })
    }
}

impl MethodLimits {
    fn new(prefix: &str, declared: &[MethodRate]) -> Result<Self, Invalid> {
        let patterns = PatternSet::new(
            "methodRateLimits",
            declared.iter().map(|limit| (limit.method.as_str(), limit.path.as_str())),
        )?;
        let limits = declared.iter().enumerate().map(|(index, declared)| {
            Ok(MethodLimit {
                name: Id::from(format!("{prefix}:{} {}", declared.method, declared.path)),
                identity: identity_of(declared),
                target: declared.target.clone(),
                limit: bucket(declared.rate, &format!("methodRateLimits[{index}]"))?,
                replaces_general: declared.replaces_general,
            })
        });
        Ok(Self { limits: limits.collect::<Result<_, Invalid>>()?, patterns })
    }

    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// The limits of a call. Of those that match it is the most exact, then the first declared; a
    /// path that servers read in several ways meets one for each of them.
    pub fn for_call(&self, target: &str, method: &[u8], path: &RequestPath<'_>) -> MetLimits<'_> {
        if self.limits.is_empty() {
            return MetLimits::new();
        }
        let here = |index: usize| {
            self.limits
                .get(index)
                .is_some_and(|limit| limit.target.as_deref().is_none_or(|only| only == target))
        };
        self.patterns
            .met(method, path, here)
            .into_iter()
            .filter_map(|index| self.limits.get(index))
            .collect()
    }
}

/// The limits by method and path that one call meets: one at most, unless its path is doubtful.
pub type MetLimits<'a> = SmallVec<[&'a MethodLimit; 1]>;

impl CompiledTarget {
    /// Prepares a target. Errors: a rate that makes no token bucket, a path that is no pattern.
    pub fn new(target: Arc<Target>) -> Result<Self, Invalid> {
        let open =
            target.open_methods.iter().map(|open| (open.method.as_str(), open.path.as_str()));
        Ok(Self {
            rate: target.rate_limit.map(|rate| bucket(rate, "rateLimit")).transpose()?,
            methods: Arc::new(MethodLimits::new("target", &target.method_rate_limits)?),
            open: Arc::new(PatternSet::new("openMethods", open)?),
            target,
        })
    }

    /// Does a call of this method and path need no API key?
    pub fn is_open(&self, method: &[u8], path: &[u8]) -> bool {
        !self.open.is_empty() && self.open.surely_has(method, &RequestPath::new(path))
    }

    /// Does the target limit any of its traffic?
    pub fn has_limits(&self) -> bool {
        self.rate.is_some() || !self.methods.is_empty()
    }
}

fn bucket(rate: Rate, field: &str) -> Result<RateLimit, Invalid> {
    rate.rate
        .limit(rate.burst)
        .map_err(|error| Invalid::new(field, format!("cannot be used: {error}")))
}

/// FNV-1a over what a method limit declares of itself beside its rate. Only operators choose these
/// texts, and only within one entitlement.
fn identity_of(declared: &MethodRate) -> u64 {
    let target = declared.target.as_deref().map_or(&[][..], str::as_bytes);
    let parts = [declared.method.as_bytes(), b"\n", declared.path.as_bytes(), b"\n", target];
    parts.iter().flat_map(|part| part.iter()).fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
