//! Checks every limit that a request meets, then charges all of them, or none.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::decide::gcra::{Passing, RateLimit};
use crate::decide::plan::{Charge, OnBreach};
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{LimitKind, LimitScope, LimitStatus, Limits, Reason, Verdict};
use crate::engine::leases::{Doubt, Held, KEEP_ROWS_NS, LeaseSettings, QuotaAsk, Shortage, Slot};

/// What a check that finds no room for its counters, or no ledger, is told to wait.
pub(super) const NO_ROOM_RETRY_NS: u64 = SECOND_NS;

/// What a request takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take {
    /// Units; a peek asks for 1.
    pub(super) cost: u64,
    pub(super) peek: bool,
}

impl Take {
    /// Absent is 1, and 0 is a peek.
    pub(super) fn of(cost: Option<u64>) -> Self {
        match cost {
            Some(0) => Self { cost: 1, peek: true },
            cost => Self { cost: cost.unwrap_or(1), peek: false },
        }
    }
}

/// A rate limit that the request meets, and its locked bucket.
pub(super) struct RateAsk<'a, 's> {
    pub(super) name: &'a str,
    pub(super) scope: LimitScope,
    pub(super) limit: &'a RateLimit,
    pub(super) tat: &'s mut u64,
}

/// How quotas are spent from leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leasing<'s> {
    pub(super) settings: &'s LeaseSettings,
    pub(super) shortage: Shortage,
    /// A period that ended by then, and of which nothing is held, may have been forgotten.
    pub(super) forgotten_to_ns: u64,
}

/// Places, among the quotas that were asked, of those that need something from the ledger first.
/// Nothing was charged.
#[derive(Debug)]
pub(super) struct Short(pub(super) SmallVec<[usize; 4]>);

pub(super) type RateAsks<'a, 's> = SmallVec<[RateAsk<'a, 's>; 4]>;
pub(super) type QuotaAsks<'a> = SmallVec<[QuotaAsk<'a>; 2]>;

/// Everything that one request meets, in the order of the decision.
pub(super) struct LockedLimits<'a, 's, 'q> {
    pub(super) rates: &'q mut [RateAsk<'a, 's>],
    pub(super) quotas: &'q [QuotaAsk<'a>],
    pub(super) slots: &'q mut [Slot],
    pub(super) now: Now,
    pub(super) leasing: Leasing<'s>,
}

impl<'a> LockedLimits<'a, '_, '_> {
    /// Decides, and says how the limits stand then. Nothing is charged unless all of it passes.
    pub(super) fn decide(&mut self, take: Take, limits: &mut Limits<'a>) -> Result<Verdict, Short> {
        // A refusal shows what is left, too: that must be known.
        let resumes = self.places(|ask| ask.resumes);
        if !resumes.is_empty() && self.leasing.shortage == Shortage::Ask {
            return Err(Short(resumes));
        }
        let mut answers: SmallVec<[Passing; 4]> = SmallVec::new();
        for ask in &mut *self.rates {
            // After an edit the bucket may owe more than the new limit knows: kept, or it would be
            // put off again at each refusal.
            *ask.tat = ask.limit.adopt(*ask.tat, self.now.steady_ns);
            answers.push(ask.limit.check(*ask.tat, self.now.steady_ns, take.cost));
        }
        let refusing = self
            .rates
            .iter()
            .zip(&answers)
            .find(|(_, answer)| !matches!(answer, Passing::Pass { .. }))
            .map(|(ask, _)| ask.scope.rate_exceeded());
        let breached =
            |ask: &QuotaAsk<'_>, on: OnBreach| ask.quota.on_breach == on && !fits(ask, take);
        let refusing = refusing.or_else(|| {
            let certain =
                |ask: &QuotaAsk<'_>| breached(ask, OnBreach::Reject) && !self.must_ask(ask);
            self.quotas.iter().any(certain).then_some(Reason::QuotaExceeded)
        });
        let refusing = match refusing {
            None => self.short_of(take)?,
            refusing => refusing,
        };
        let verdict = match refusing {
            Some(Reason::LedgerUnavailable) => Verdict::Deny {
                reason: Reason::LedgerUnavailable,
                retry_after_ns: Some(NO_ROOM_RETRY_NS),
            },
            Some(reason) => {
                Verdict::Deny { reason, retry_after_ns: self.retry_after_ns(&answers, take) }
            }
            None => Verdict::Allow {
                over_quota: self.quotas.iter().any(|ask| breached(ask, OnBreach::Allow)),
            },
        };
        let charged = verdict.is_allowed() && !take.peek;
        if charged {
            self.charge(&answers, take);
        }
        self.show(&answers, take, charged, limits);
        Ok(verdict)
    }

    /// Would a refusal by this quota be one by a balance that may be wrong?
    fn must_ask(&self, ask: &QuotaAsk<'_>) -> bool {
        let asks = self.leasing.shortage != Shortage::Allow;
        // Of a period that the ledger never told of, it may know a grant.
        let is_doubtful = |held: &Held| held.doubts(Doubt::Refusals) || !held.is_known();
        asks && ask.held(self.slots).map_or(!ask.is_dropped(), is_doubtful)
    }

    /// A request that nothing refuses, as far as is known, may be short of units, or of what a
    /// receipt needs to know.
    fn short_of(&self, take: Take) -> Result<Option<Reason>, Short> {
        if self.quotas.is_empty() {
            return Ok(None);
        }
        // First to be sure that it is not refused anyway.
        let mut short =
            self.places(|ask| ask.quota.on_breach == OnBreach::Reject && !fits(ask, take));
        if short.is_empty() {
            // A peek takes nothing, and only has to know what there is.
            short =
                self.places(|ask| if take.peek { ask.resumes } else { self.is_short(ask, take) });
        }
        match self.leasing.shortage {
            _ if short.is_empty() => Ok(None),
            Shortage::Ask => Err(Short(short)),
            Shortage::Deny => Ok(Some(Reason::LedgerUnavailable)),
            Shortage::Allow => Ok(None),
        }
    }

    /// Where a quota is so, among those that were asked.
    fn places(&self, is_so: impl Fn(&QuotaAsk<'_>) -> bool) -> SmallVec<[usize; 4]> {
        self.quotas
            .iter()
            .enumerate()
            .filter(|(_, ask)| is_so(ask))
            .map(|(place, _)| place)
            .collect()
    }

    fn is_short(&self, ask: &QuotaAsk<'_>, take: Take) -> bool {
        let settings = self.leasing.settings;
        let Some(leases) = self.slots.get(ask.slot).map(|slot| &slot.leases) else { return false };
        if ask.is_dropped() {
            return false;
        }
        // Not even the units that need no lease: what was spent before is not known.
        if ask.resumes {
            return true;
        }
        let held = ask.held(self.slots);
        if held.is_some_and(|held| held.doubts(Doubt::All)) {
            return true;
        }
        let unnamed = leases.counter == 0
            || leases.rule.is_none()
            || held.is_none_or(|held| !held.is_known());
        match ask.quota.charge {
            Charge::AtReport => unnamed,
            Charge::AtCheck => {
                let covers = ask.covers(self.slots, take.cost, settings);
                !covers || (unnamed && settings.optimistic_units == 0)
            }
        }
    }

    fn charge(&mut self, answers: &[Passing], take: Take) {
        for (ask, answer) in self.rates.iter_mut().zip(answers) {
            if let Passing::Pass { tat } = answer {
                *ask.tat = *tat;
            }
        }
        for ask in self.quotas {
            let Some(slot) = self.slots.get_mut(ask.slot) else { continue };
            let Leasing { settings, forgotten_to_ns, .. } = self.leasing;
            // Charged at the report or at the check: the row exists from now on, and the receipt
            // names it.
            if ask.quota.charge == Charge::AtCheck && !ask.is_dropped() {
                slot.spend(&ask.row, take.cost, forgotten_to_ns, settings.chunk_ns, self.now);
            } else {
                slot.count.charge(&ask.row, units(ask, take), self.now.unix_ns, KEEP_ROWS_NS);
            }
        }
    }

    /// From now to when every limit passes. They are asked in turns until all agree: a quota that
    /// passes now may not pass in its next period. After a clock that was ahead, what was spent in
    /// a period to come may be forgotten: then that period counts as fresh.
    fn retry_after_ns(&self, answers: &[Passing], take: Take) -> Option<u64> {
        let mut wait_ns = 0;
        for answer in answers {
            match answer {
                Passing::Pass { .. } => {}
                Passing::NotUntil { at_ns } => wait_ns = wait_ns.max(at_ns - self.now.steady_ns),
                Passing::Never => return None,
            }
        }
        let enforced = || self.quotas.iter().filter(|ask| ask.quota.on_breach == OnBreach::Reject);
        loop {
            let before = wait_ns;
            for ask in enforced() {
                let from_ns = self.now.unix_ns.saturating_add(wait_ns);
                let at_ns =
                    self.slots.get(ask.slot)?.count.passes_at(ask.quota, from_ns, take.cost)?;
                wait_ns = at_ns - self.now.unix_ns;
            }
            if wait_ns == before {
                return Some(wait_ns);
            }
        }
    }

    /// From now to when a quota that is used up lets the request pass. `None`: never.
    fn quota_wait_ns(&self, ask: &QuotaAsk<'_>, take: Take) -> Option<u64> {
        let at_ns =
            self.slots.get(ask.slot)?.count.passes_at(ask.quota, self.now.unix_ns, take.cost)?;
        Some(at_ns.saturating_sub(self.now.unix_ns))
    }

    fn show(&self, answers: &[Passing], take: Take, charged: bool, limits: &mut Limits<'a>) {
        for (ask, answer) in self.rates.iter().zip(answers) {
            limits.push(LimitStatus {
                name: Cow::Borrowed(ask.name),
                scope: ask.scope,
                kind: LimitKind::Rate,
                limit: ask.limit.burst(),
                remaining: ask.limit.remaining(*ask.tat, self.now.steady_ns),
                reset_after_ns: ask.limit.reset_after_ns(*ask.tat, self.now.steady_ns),
                window_ns: ask.limit.tolerance_ns(),
                violated: !matches!(answer, Passing::Pass { .. }),
                enforced: true,
                wait_ns: match answer {
                    Passing::Pass { .. } => Some(0),
                    Passing::NotUntil { at_ns } => Some(at_ns.saturating_sub(self.now.steady_ns)),
                    Passing::Never => None,
                },
            });
        }
        for ask in self.quotas {
            let used = ask.row.used.saturating_add(if charged { units(ask, take) } else { 0 });
            let enforced = ask.quota.on_breach == OnBreach::Reject;
            limits.push(LimitStatus {
                name: Cow::Borrowed(&ask.quota.identity.name),
                scope: LimitScope::Entitlement,
                kind: LimitKind::Quota,
                limit: ask.row.allowance(ask.quota.limit),
                remaining: Row { used, ..ask.row }.remaining(ask.quota.limit),
                reset_after_ns: ask.row.period.end_ns.saturating_sub(self.now.unix_ns),
                window_ns: ask.row.period.length_ns(),
                violated: !fits(ask, take),
                enforced,
                wait_ns: if fits(ask, take) || !enforced {
                    Some(0)
                } else {
                    self.quota_wait_ns(ask, take)
                },
            });
        }
    }
}

fn fits(ask: &QuotaAsk<'_>, take: Take) -> bool {
    take.cost <= ask.row.remaining(ask.quota.limit)
}

/// What a quota is charged at the check.
fn units(ask: &QuotaAsk<'_>, take: Take) -> u64 {
    match ask.quota.charge {
        Charge::AtCheck => take.cost,
        Charge::AtReport => 0,
    }
}
