//! A rate-limit request decided: which rules its descriptors meet, what their counters say, and
//! what that makes of the request.
//!
//! The tables are those of the reference service (`envoyproxy/ratelimit`); what it gets wrong on
//! purpose or by accident is noted where we differ.

use std::sync::Arc;

use smallvec::SmallVec;

use super::durable::{DurableAsk, DurableCounters, NoCounters};
use super::{Ask, Budget, Identity, Mode, RuleEngine, Standing, Standings};
use crate::decide::compiled::CompiledQuota;
use crate::decide::gcra::RateLimit;
use crate::decide::time::{Now, SECOND_NS};
use crate::rules::{Domain, Limit, Match, PerUnit, Rule, RuleSet, Unit};

/// One descriptor of a request. Keys and values are any bytes.
#[derive(Clone, Debug)]
pub struct Descriptor<'q> {
    pub entries: SmallVec<[(&'q [u8], &'q [u8]); 4]>,
    /// A limit that the request brings along; the rules of the domain are then not consulted.
    pub limit_override: Option<PerUnit>,
    /// 0 is a peek.
    pub hits: u64,
    /// The hits are given back.
    pub negative: bool,
}

/// What the operator has set for all rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    pub shadow_mode: bool,
    pub quota_mode: bool,
    /// Where a descriptor is over its limit, it alone is charged.
    pub stop_when_over_limit: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Decision<'r, 'q> {
    pub over_limit: bool,
    /// It was over its limit, and `shadow_mode` of all rules let it pass.
    pub shadowed: bool,
    /// The domain is one that the rules know.
    pub domain_found: bool,
    /// One for each descriptor, in order.
    pub statuses: Statuses<'r, 'q>,
}

/// The answers to the descriptors, in order.
pub type Statuses<'r, 'q> = SmallVec<[Status<'r, 'q>; 4]>;

impl<'r, 'q> Decision<'r, 'q> {
    fn of(over: bool, modes: Modes, statuses: Statuses<'r, 'q>) -> Self {
        Self {
            over_limit: over && !modes.shadow_mode,
            shadowed: over && modes.shadow_mode,
            domain_found: true,
            statuses,
        }
    }
}

/// The answer to a descriptor.
#[derive(Debug)]
pub struct Status<'r, 'q> {
    pub over_limit: bool,
    /// It counts as a quota in the overall answer: only when all quotas are over is the request
    /// over.
    pub quota: bool,
    pub met: Met<'r, 'q>,
}

/// What a descriptor met.
#[derive(Debug)]
pub enum Met<'r, 'q> {
    Nothing,
    Unlimited(&'r Rule),
    Limit(LimitMet<'r, 'q>),
}

/// A limit with what its counter says.
#[derive(Debug)]
pub struct LimitMet<'r, 'q> {
    pub per: PerUnit,
    /// `None`: the request brought the limit along.
    pub matched: Option<Match<'r, 'q>>,
    pub standing: Standing,
    /// It was over, and the rule's own shadow mode says otherwise.
    pub shadowed: bool,
    pub hits: u64,
    pub negative: bool,
}

impl<'r> LimitMet<'r, '_> {
    /// The rule, where it was not the request that brought the limit.
    pub fn rule(&self) -> Option<&'r Arc<Rule>> {
        self.matched.as_ref().map(|matched| matched.rule)
    }
}

/// A descriptor's limit before its counter is asked.
enum Candidate<'r, 'q> {
    Nothing,
    Unlimited(&'r Rule),
    Limit { per: PerUnit, budget: Budget, matched: Option<Match<'r, 'q>> },
}

impl Candidate<'_, '_> {
    /// What the hits are charged to, where they outlive crashes. A limit that the request brings
    /// along never does.
    fn durable(&self) -> Option<&CompiledQuota> {
        let Self::Limit { matched: Some(matched), .. } = self else { return None };
        matched.rule.durable.as_deref()
    }
}

impl RuleEngine {
    /// Decides a request in `domain` and charges what it is charged. Durable rules admit nothing:
    /// see [`Self::decide_with`].
    pub fn decide<'r, 'q>(
        &self,
        rules: &'r RuleSet,
        domain_name: &[u8],
        descriptors: &'q [Descriptor<'_>],
        modes: Modes,
        now: Now,
    ) -> Decision<'r, 'q> {
        self.decide_with(&NoCounters, rules, domain_name, descriptors, modes, now)
            .unwrap_or_else(|never| match never {})
    }

    /// Decides a request in `domain` and charges what it is charged, durable rules by `counters`.
    ///
    /// # Errors
    /// What `counters` need first. Then nothing is charged anywhere.
    pub fn decide_with<'r, 'q, C: DurableCounters>(
        &self,
        counters: &C,
        rules: &'r RuleSet,
        domain_name: &[u8],
        descriptors: &'q [Descriptor<'_>],
        modes: Modes,
        now: Now,
    ) -> Result<Decision<'r, 'q>, C::Wait> {
        let Some(domain) = rules.domain(domain_name) else {
            let statuses = descriptors
                .iter()
                .map(|_| Status { over_limit: false, quota: modes.quota_mode, met: Met::Nothing })
                .collect();
            return Ok(Decision {
                over_limit: false,
                shadowed: false,
                domain_found: false,
                statuses,
            });
        };
        let alone = descriptors.len() == 1 || !modes.stop_when_over_limit;
        if alone && !domain.all_or_nothing() && !domain.has_durable() && !domain.has_replacing() {
            return Ok(self.decide_each(domain, descriptors, modes, now));
        }
        let mut candidates: SmallVec<[Candidate<'r, 'q>; 4]> =
            descriptors.iter().map(|descriptor| candidate(domain, descriptor)).collect();
        drop_replaced(&mut candidates);

        let (memory, durable) =
            self.charge_candidates(counters, domain, &candidates, descriptors, modes, now)?;
        let over = overall(flags(&candidates, &memory, &durable, modes));
        let statuses = {
            let mut standings = InOrder { memory: memory.iter(), durable: durable.iter() };
            candidates
                .into_iter()
                .zip(descriptors)
                .map(|(candidate, descriptor)| {
                    let standing = standings.of(&candidate).copied();
                    let (over_limit, quota) = status_flags(&candidate, standing.as_ref(), modes);
                    Status {
                        over_limit,
                        quota,
                        met: met(candidate, standing, descriptor, over_limit),
                    }
                })
                .collect()
        };
        Ok(Decision::of(over, modes, statuses))
    }

    /// The descriptors one after the other: none has a say in another.
    fn decide_each<'r, 'q>(
        &self,
        domain: &'r Domain,
        descriptors: &'q [Descriptor<'_>],
        modes: Modes,
        now: Now,
    ) -> Decision<'r, 'q> {
        let mut statuses = Statuses::with_capacity(descriptors.len());
        for descriptor in descriptors {
            let candidate = candidate(domain, descriptor);
            let standing =
                self.ask(domain, &candidate, descriptor).map(|ask| self.charge_one(&ask, now));
            let (over_limit, quota) = status_flags(&candidate, standing.as_ref(), modes);
            statuses.push(Status {
                over_limit,
                quota,
                met: met(candidate, standing, descriptor, over_limit),
            });
        }
        let over = overall(statuses.iter().map(|status| (status.over_limit, status.quota)));
        Decision::of(over, modes, statuses)
    }

    /// The standings of the counters in memory, and of those that are durable. The latter are
    /// charged first, under the locks of the former where all belong together.
    fn charge_candidates<C: DurableCounters>(
        &self,
        counters: &C,
        domain: &Domain,
        candidates: &[Candidate<'_, '_>],
        descriptors: &[Descriptor<'_>],
        modes: Modes,
        now: Now,
    ) -> Result<(Standings, Standings), C::Wait> {
        let pairs = || candidates.iter().zip(descriptors);
        let asks: SmallVec<[Ask<'_>; 4]> = pairs()
            .filter_map(|(candidate, descriptor)| self.ask(domain, candidate, descriptor))
            .collect();
        let refused = |memory: &[Standing], durable: &[Standing]| {
            !modes.shadow_mode && overall(flags(candidates, memory, durable, modes))
        };
        // Durable counters never charge a refusal.
        let mode = match (domain.all_or_nothing(), modes.stop_when_over_limit) {
            (true, _) => Mode::AllOrNothing,
            (false, true) if domain.has_durable() => Mode::AllOrNothing,
            (false, true) => Mode::OverAlone,
            (false, false) => Mode::Each,
        };
        if !domain.has_durable() {
            return Ok((
                self.charge(&asks, mode, now, |memory| refused(memory, &[])),
                Standings::new(),
            ));
        }
        let durable: SmallVec<[DurableAsk<'_>; 4]> = pairs()
            .filter_map(|(candidate, descriptor)| self.durable_ask(domain, candidate, descriptor))
            .collect();
        if mode == Mode::Each {
            let durable = counters.charge(&durable, mode, now, &mut |_| false)?;
            return Ok((self.charge(&asks, mode, now, |_| false), durable));
        }
        let mut charged = Ok(Standings::new());
        let memory = self.charge(&asks, mode, now, |memory| {
            let mut refuses = true;
            charged = counters.charge(&durable, mode, now, &mut |durable| {
                refuses = refused(memory, durable);
                refuses
            });
            refuses || charged.is_err()
        });
        Ok((memory, charged?))
    }

    #[inline]
    fn ask<'a>(
        &'a self,
        domain: &'a Domain,
        candidate: &'a Candidate<'_, '_>,
        descriptor: &'a Descriptor<'_>,
    ) -> Option<Ask<'a>> {
        let Candidate::Limit { budget, .. } = candidate else { return None };
        if candidate.durable().is_some() {
            return None;
        }
        Some(self.identify(domain, candidate, descriptor).ask(
            *budget,
            descriptor.hits,
            descriptor.negative,
        ))
    }

    fn durable_ask<'a>(
        &self,
        domain: &'a Domain,
        candidate: &'a Candidate<'_, '_>,
        descriptor: &Descriptor<'_>,
    ) -> Option<DurableAsk<'a>> {
        let quota = candidate.durable()?;
        let counter = self.identify(domain, candidate, descriptor).name();
        Some(DurableAsk {
            counter,
            domain: domain.name(),
            quota,
            hits: descriptor.hits,
            negative: descriptor.negative,
        })
    }

    #[inline]
    fn identify<'a>(
        &'a self,
        domain: &'a Domain,
        candidate: &'a Candidate<'_, '_>,
        descriptor: &'a Descriptor<'_>,
    ) -> Identity<'a> {
        let mut identity = self.identity(domain.name().as_bytes());
        match candidate {
            Candidate::Limit { matched: Some(matched), .. } => {
                let mut levels = matched.rule.levels.iter();
                matched.counter_levels(|pieces| {
                    identity.level(pieces, levels.next().map(String::as_bytes).unwrap_or_default());
                });
            }
            // The same identity as a rule of that unit over the same entries: they share a count,
            // as they do in the reference.
            _ => {
                for (key, value) in &descriptor.entries {
                    identity.level(&[key, b"_", value], key);
                }
            }
        }
        identity
    }
}

fn candidate<'r, 'q>(domain: &'r Domain, descriptor: &'q Descriptor<'_>) -> Candidate<'r, 'q> {
    if let Some(per) = descriptor.limit_override {
        return Candidate::Limit { per, budget: window(per), matched: None };
    }
    match domain.find(&descriptor.entries) {
        None => Candidate::Nothing,
        Some(matched) => match matched.rule.limit {
            Limit::Unlimited => Candidate::Unlimited(matched.rule),
            Limit::Window(per) => {
                Candidate::Limit { per, budget: window(per), matched: Some(matched) }
            }
            Limit::Calendar(per) => {
                let budget =
                    Budget::Calendar { limit: per.requests.into(), unit: per.unit.period() };
                Candidate::Limit { per, budget, matched: Some(matched) }
            }
            Limit::Bucket { per, burst } => {
                let period_ns = per.seconds().saturating_mul(SECOND_NS);
                // A bucket that gives nothing is a window that allows nothing. Loading has refused
                // every other rate that makes no bucket.
                let budget = RateLimit::new(per.requests.into(), period_ns, burst.into())
                    .map_or_else(|_| window(per), Budget::Bucket);
                Candidate::Limit { per, budget, matched: Some(matched) }
            }
        },
    }
}

fn window(per: PerUnit) -> Budget {
    Budget::Window { limit: per.requests.into(), length_s: per.seconds() }
}

/// A limit whose name another matched limit of the same request replaces is as if it was not there.
fn drop_replaced(candidates: &mut [Candidate<'_, '_>]) {
    let rule = |candidate: &Candidate<'_, '_>| match candidate {
        Candidate::Limit { matched, .. } => {
            matched.as_ref().map(|matched| Arc::clone(matched.rule))
        }
        _ => None,
    };
    let replaces = |candidate: &Candidate<'_, '_>| match candidate {
        Candidate::Unlimited(rule) => !rule.replaces.is_empty(),
        Candidate::Limit { matched: Some(matched), .. } => !matched.rule.replaces.is_empty(),
        _ => false,
    };
    if !candidates.iter().any(replaces) {
        return;
    }
    let mut replaced: Vec<String> = Vec::new();
    for candidate in candidates.iter() {
        match candidate {
            Candidate::Unlimited(rule) => replaced.extend(rule.replaces.iter().cloned()),
            Candidate::Limit { matched: Some(matched), .. } => {
                replaced.extend(matched.rule.replaces.iter().cloned())
            }
            _ => {}
        }
    }
    for candidate in candidates {
        if rule(candidate)
            .is_some_and(|rule| !rule.name.is_empty() && replaced.contains(&rule.name))
        {
            *candidate = Candidate::Nothing;
        }
    }
}

/// Standings, as the candidates come that they are of.
struct InOrder<'s> {
    memory: std::slice::Iter<'s, Standing>,
    durable: std::slice::Iter<'s, Standing>,
}

impl<'s> InOrder<'s> {
    fn of(&mut self, candidate: &Candidate<'_, '_>) -> Option<&'s Standing> {
        match candidate {
            Candidate::Limit { .. } if candidate.durable().is_some() => self.durable.next(),
            Candidate::Limit { .. } => self.memory.next(),
            Candidate::Nothing | Candidate::Unlimited(_) => None,
        }
    }
}

/// What the overall answer is made of.
fn flags<'c>(
    candidates: &'c [Candidate<'_, '_>],
    memory: &'c [Standing],
    durable: &'c [Standing],
    modes: Modes,
) -> impl Iterator<Item = (bool, bool)> + 'c {
    let mut standings = InOrder { memory: memory.iter(), durable: durable.iter() };
    candidates.iter().map(move |candidate| status_flags(candidate, standings.of(candidate), modes))
}

/// Is the descriptor over its limit, and does it count as a quota?
fn status_flags(
    candidate: &Candidate<'_, '_>,
    standing: Option<&Standing>,
    modes: Modes,
) -> (bool, bool) {
    match candidate {
        // In the reference a descriptor without a limit is a quota that passes, where all rules are
        // in quota mode.
        Candidate::Nothing => (false, modes.quota_mode),
        Candidate::Unlimited(_) => (false, false),
        Candidate::Limit { matched, .. } => {
            let rule = matched.as_ref().map(|matched| matched.rule);
            let over = standing.is_some_and(|standing| standing.over);
            let shadowed = rule.is_some_and(|rule| rule.shadow_mode);
            (over && !shadowed, modes.quota_mode || rule.is_some_and(|rule| rule.quota_mode))
        }
    }
}

/// Over when any limit is, or when all quotas are.
fn overall(statuses: impl Iterator<Item = (bool, bool)>) -> bool {
    let (mut quotas, mut quotas_over) = (0, 0);
    for (over, quota) in statuses {
        match (over, quota) {
            (true, false) => return true,
            (over, true) => {
                quotas += 1;
                quotas_over += usize::from(over);
            }
            (false, false) => {}
        }
    }
    quotas > 0 && quotas == quotas_over
}

fn met<'r, 'q>(
    candidate: Candidate<'r, 'q>,
    standing: Option<Standing>,
    descriptor: &Descriptor<'_>,
    over_limit: bool,
) -> Met<'r, 'q> {
    match (candidate, standing) {
        (Candidate::Limit { per, matched, .. }, Some(standing)) => Met::Limit(LimitMet {
            per,
            matched,
            standing,
            shadowed: standing.over && !over_limit,
            hits: descriptor.hits,
            negative: descriptor.negative,
        }),
        (Candidate::Unlimited(rule), _) => Met::Unlimited(rule),
        _ => Met::Nothing,
    }
}

/// The unit of an override, by its number in `envoy.type.v3.RateLimitUnit`; 7 is a week, as the
/// reference reads it.
pub fn override_unit(number: i32) -> Option<Unit> {
    Some(match number {
        1 => Unit::Second,
        2 => Unit::Minute,
        3 => Unit::Hour,
        4 => Unit::Day,
        5 => Unit::Month,
        6 => Unit::Year,
        7 => Unit::Week,
        _ => return None,
    })
}
