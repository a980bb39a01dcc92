//! Steps 3 to 6 of the decision: finds the counters that a request meets, locks them, and has them
//! decide.

use smallvec::SmallVec;

use super::rates::{Buckets, PlanExtra, Rates};
use super::receipt::Charged;
use super::verdict::{
    Leasing, LockedLimits, NO_ROOM_RETRY_NS, QuotaAsks, RateAsk, RateAsks, Short, Take,
};
use super::{CheckInput, PlanEngine};
use crate::decide::compiled::{CompiledEntitlement, CompiledTarget, MetLimits};
use crate::decide::lookup::Lookup;
use crate::decide::path::RequestPath;
use crate::decide::plan::{Charge, Id};
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{LimitScope, Limits, Reason, Verdict};
use crate::engine::leases::{
    Asking, Entry, LeaseSettings, Need, QuotaAsk, Room, Shortage, Slot, State, Wanted,
};
use crate::engine::sync::{Mutex, Ref, atomic::Ordering};

/// One request at one moment.
#[derive(Clone, Copy)]
pub(super) struct Asked<'r> {
    pub(super) request: &'r CheckInput<'r>,
    pub(super) shortage: Shortage,
    pub(super) now: Now,
}

/// For the receipt: what was charged.
pub(super) type Charges = SmallVec<[Charged; 4]>;

/// What a decision gives beside its verdict, for when the locks are gone.
pub(super) struct Outputs<'a, 'o> {
    pub(super) limits: &'o mut Limits<'a>,
    pub(super) charges: &'o mut Charges,
}

/// The counters of a subject under an entitlement, locked.
pub(super) type Own<'a, 's> =
    (&'a CompiledEntitlement, &'s Entry<PlanExtra>, &'s mut State<PlanExtra>);

impl PlanEngine {
    /// Steps 3 to 6. The lock of the entry is held already; this takes the target's, then the
    /// account's. An error is what is needed from the ledger first: then nothing is charged.
    pub(super) fn lock_and_decide<'a>(
        &self,
        lookup: &'a impl Lookup,
        own: Option<Own<'a, '_>>,
        target: Option<&'a CompiledTarget>,
        Asked { request, shortage, now }: Asked<'_>,
        outputs: Outputs<'a, '_>,
    ) -> Result<Verdict, Vec<Need>> {
        let limited = target.filter(|target| target.has_limits());
        // Spelled out only where a limit hangs on it.
        let has_methods =
            own.as_ref().is_some_and(|(entitlement, ..)| !entitlement.methods.is_empty())
                || limited.is_some_and(|target| !target.methods.is_empty());
        let path = RequestPath::new(if has_methods { request.path } else { b"" });
        let target_guard = limited.map(|target| self.target_rates(&target.target.id));
        let mut target_rates;
        let mut account_tat;
        let mut rates = RateAsks::new();
        let mut quotas = QuotaAsks::new();
        let mut slots: &mut [Slot] = &mut [];
        let mut entry = None;
        let mut forgotten_to_ns = 0;
        if let Some((entitlement, own_entry, state)) = own {
            entry = Some(own_entry);
            forgotten_to_ns = self.leases.forgotten_to_ns(state);
            for quota in &entitlement.quotas {
                let Some(ask) = self.leases.ask(quota, state, now) else { return Ok(no_room()) };
                quotas.push(ask);
            }
            slots = &mut state.quotas;
            let met = entitlement.methods.for_call(request.target, request.method, &path);
            let (general_tat, method_tats) = state.extra.rates.buckets(&identities(&met), now);
            if let Some(limit) = entitlement.rate.as_ref().filter(|_| meets_general(&met, &path)) {
                let (name, scope, tat) = ("rate", LimitScope::Entitlement, general_tat);
                rates.push(RateAsk { name, scope, limit, tat });
            }
            push_methods(&mut rates, &met, method_tats, LimitScope::Method);
        }

        target_rates = target_guard.as_ref().map(|guard| guard.value().lock());
        if let (Some(target), Some(kept)) = (limited, &mut target_rates) {
            let met = target.methods.for_call(request.target, request.method, &path);
            let (general_tat, method_tats) = kept.buckets(&identities(&met), now);
            push_methods(&mut rates, &met, method_tats, LimitScope::Target);
            if let Some(limit) = target.rate.as_ref().filter(|_| meets_general(&met, &path)) {
                let (name, scope, tat) = ("target", LimitScope::Target, general_tat);
                rates.push(RateAsk { name, scope, limit, tat });
            }
        }
        let account = lookup.account();
        account_tat = account.map(|_| self.account.lock());
        if let (Some(limit), Some(tat)) = (account, &mut account_tat) {
            rates.push(RateAsk { name: "account", scope: LimitScope::Account, limit, tat });
        }

        let take = Take::of(request.cost);
        let settings = &self.settings.lease;
        let mut locked = LockedLimits {
            rates: &mut rates,
            quotas: &quotas,
            slots: &mut *slots,
            now,
            leasing: Leasing { settings, shortage, forgotten_to_ns },
        };
        let decided = locked.decide(take, outputs.limits);
        drop(rates);
        drop((account_tat, target_rates));
        // Without counters of its own a request has no quotas, and is never short.
        let Some(entry) = entry else { return Ok(decided.unwrap_or_else(|Short(_)| no_room())) };
        let revision = lookup.revision();
        let asking = self.leases.asking(&entry.owner, revision, forgotten_to_ns, now);
        let verdict =
            decided.map_err(|short| needs(asking, settings, &short, &quotas, slots, take))?;
        if verdict.is_allowed() && !take.peek {
            quotas.iter().for_each(|ask| self.leases.look_ahead(asking, ask, slots));
            self.name_charges(&quotas, slots, outputs.charges);
        }
        Ok(verdict)
    }

    fn target_rates(&self, id: &Id) -> Ref<'_, Id, Mutex<Rates>> {
        if let Some(rates) = self.targets.get(id) {
            return rates;
        }
        self.targets.entry(std::sync::Arc::clone(id)).or_default().downgrade()
    }

    /// For the receipt. None where the ledger does not keep a counter and its period yet: a receipt
    /// that names some would refund some.
    fn name_charges(&self, quotas: &[QuotaAsk<'_>], slots: &[Slot], charges: &mut Charges) {
        let one = |ask: &QuotaAsk<'_>| {
            let leases = &slots.get(ask.slot)?.leases;
            leases.held(ask.row.period.start_ns).filter(|held| held.is_known())?;
            Some(Charged {
                counter: Some(leases.counter).filter(|&counter| counter != 0)?,
                period_start_s: ask.row.period.start_ns / SECOND_NS,
                rule: leases.rule.map(u32::from)?,
                at_report: ask.quota.charge == Charge::AtReport,
            })
        };
        for ask in quotas {
            let Some(charged) = one(ask) else {
                charges.clear();
                self.events.without_receipt.fetch_add(1, Ordering::Relaxed);
                return;
            };
            charges.push(charged);
        }
    }
}

/// What a check that is short asks the ledger for.
fn needs(
    asking: Asking<'_>,
    settings: &LeaseSettings,
    short: &Short,
    quotas: &[QuotaAsk<'_>],
    slots: &mut [Slot],
    take: Take,
) -> Vec<Need> {
    let one = |ask: &QuotaAsk<'_>| {
        let covers = ask.covers(slots, take.cost, settings);
        let room = Room::of(&ask.row, ask.quota);
        let may_have_them = room.may_pass || take.cost <= room.remaining;
        let wants = ask.quota.charge == Charge::AtCheck && !covers && may_have_them && !take.peek;
        let wanted = Wanted { cost: take.cost, in_all: take.cost };
        asking.missing(ask, slots, wants.then_some(wanted))
    };
    short.0.iter().filter_map(|&place| quotas.get(place)).filter_map(one).collect()
}

fn identities(met: &MetLimits<'_>) -> SmallVec<[u64; 1]> {
    met.iter().map(|method| method.identity).collect()
}

/// Does the general rate limit apply beside the method limits that the call meets? A path that
/// servers read in several ways may be one that no method limit is for.
fn meets_general(met: &MetLimits<'_>, path: &RequestPath<'_>) -> bool {
    path.is_doubtful() || met.iter().all(|method| !method.replaces_general)
}

fn push_methods<'a, 's>(
    rates: &mut RateAsks<'a, 's>,
    met: &MetLimits<'a>,
    tats: Buckets<'s>,
    scope: LimitScope,
) {
    for (method, tat) in met.iter().zip(tats) {
        rates.push(RateAsk { name: &method.name, scope, limit: &method.limit, tat });
    }
}

/// The books cannot be kept: refused as when the ledger cannot answer.
pub(super) fn no_room() -> Verdict {
    Verdict::Deny { reason: Reason::LedgerUnavailable, retry_after_ns: Some(NO_ROOM_RETRY_NS) }
}
