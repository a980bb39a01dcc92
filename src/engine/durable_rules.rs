//! The counters of durable rate-limit rules: leased through the ledger, as quotas are.
//!
//! A rule's file is each service's own, and has no revision that a ledger could compare. It needs
//! none: each decision compares what is known to be used with the limit of that moment, so a
//! lowered limit holds at once, whatever was leased by the old one.

use std::sync::Arc;

use smallvec::SmallVec;

use super::filed::Fingerprinted;
use super::leases::{
    BookSettings, Doubt, Entry, HoldsLeases, LeaseBook, Need, Owner, QuotaAsk, Shortage, State,
    Wanted,
};
use crate::decide::ledger::RULES;
use crate::decide::plan::CounterScope;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::rules::durable::{DurableAsk, DurableCounters};
use crate::engine::rules::{Mode, Standing, Standings};
use crate::engine::sync::MutexGuard;
use crate::fingerprint::Fingerprinter;

/// Limits of rules have no revision.
const REVISION: u64 = 0;

/// The counters of durable rules. At the bound of [`BookSettings::max_entries`] hits on a fresh one
/// are refused.
#[derive(Debug)]
pub struct DurableRuleEngine {
    leases: LeaseBook<()>,
}

/// Asks the ledger where units are missing.
#[derive(Clone, Copy, Debug)]
pub struct Leased<'e>(pub &'e DurableRuleEngine);

/// Decides by what is there.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce<'e> {
    pub engine: &'e DurableRuleEngine,
    /// What is admitted where units are missing. Nothing is asked for.
    pub shortage: Shortage,
}

impl DurableCounters for Leased<'_> {
    type Wait = Vec<Need>;

    fn charge(
        &self,
        asks: &[DurableAsk<'_>],
        mode: Mode,
        now: Now,
        refuses: &mut dyn FnMut(&[Standing]) -> bool,
    ) -> Result<Standings, Vec<Need>> {
        self.0.charge(asks, mode, Shortage::Ask, now, refuses)
    }
}

impl DurableCounters for AtOnce<'_> {
    type Wait = std::convert::Infallible;

    fn charge(
        &self,
        asks: &[DurableAsk<'_>],
        mode: Mode,
        now: Now,
        refuses: &mut dyn FnMut(&[Standing]) -> bool,
    ) -> Result<Standings, Self::Wait> {
        let shortage = if self.shortage == Shortage::Ask { Shortage::Deny } else { self.shortage };
        let charged = self.engine.charge(asks, mode, shortage, now, &mut *refuses);
        // Nothing is needed where nothing is asked for.
        Ok(charged.unwrap_or_else(|_| {
            let standings: Standings = asks.iter().map(Standing::unavailable).collect();
            refuses(&standings);
            standings
        }))
    }
}

/// The locked entries of one request, each once.
type Locked<'h> = SmallVec<[(&'h Arc<Entry<()>>, MutexGuard<'h, State<()>>); 4]>;

/// One ask, looked at with all locks held.
struct Looked<'a> {
    /// Among the locked entries.
    entry: usize,
    quota: QuotaAsk<'a>,
    /// Units that the asks before it take of the same count.
    before: u64,
    /// Units: a peek asks for 1, and what is given back for none.
    cost: u64,
    charges: bool,
    fits: bool,
    /// It does not fit by a balance that may be wrong.
    unsure: bool,
    /// It fits, and there is no lease for it.
    short: bool,
}

impl Looked<'_> {
    /// Units of its count that are used once it is charged.
    fn in_all(&self) -> u64 {
        self.before.saturating_add(self.cost)
    }

    fn lacks_something(&self) -> bool {
        self.short || self.unsure
    }
}

type AllLooked<'a> = SmallVec<[Option<Looked<'a>>; 4]>;

impl DurableRuleEngine {
    /// `hash_key`: the secret key of fingerprints.
    pub fn new(hash_key: [u8; 16], settings: BookSettings) -> Self {
        Self { leases: LeaseBook::new(Fingerprinter::new(hash_key), settings) }
    }

    /// What is held of the ledger, and the counters.
    pub fn leases(&self) -> &LeaseBook<()> {
        &self.leases
    }

    /// Decides counters and charges what is not over: all of it under the locks of all of them.
    fn charge(
        &self,
        asks: &[DurableAsk<'_>],
        mode: Mode,
        shortage: Shortage,
        now: Now,
        refuses: &mut dyn FnMut(&[Standing]) -> bool,
    ) -> Result<Standings, Vec<Need>> {
        let entries: SmallVec<[Option<Arc<Entry<()>>>; 4]> =
            asks.iter().map(|ask| self.entry(ask, now)).collect();
        let mut locked = lock(&entries);
        let mut looked = AllLooked::new();
        for (ask, entry) in asks.iter().zip(&entries) {
            let found = entry
                .as_ref()
                .and_then(|entry| self.look(ask, entry, &mut locked, &looked, shortage, now));
            looked.push(found);
        }
        if looked.iter().flatten().any(Looked::lacks_something) && shortage == Shortage::Ask {
            // What is refused anyway asks for nothing.
            let hopeful = standings(asks, &looked, now, |look| look.fits || look.unsure);
            if mode == Mode::AllOrNothing && refuses(&hopeful) {
                return Ok(hopeful);
            }
            return Err(self.needs(&mut locked, &looked, now));
        }
        let admits = |look: &Looked<'_>| {
            look.fits && (shortage == Shortage::Allow || !look.lacks_something())
        };
        let decided = standings(asks, &looked, now, admits);
        if mode == Mode::AllOrNothing && refuses(&decided) {
            return Ok(decided);
        }
        let mut charged = decided;
        for (look, standing) in looked.iter().zip(&mut charged) {
            if let Some(look) = look.as_ref().filter(|look| look.charges && admits(look)) {
                self.charge_one(&mut locked, look, now);
                standing.remaining = standing.remaining.saturating_sub(look.cost);
            }
        }
        Ok(charged)
    }

    /// The entry of a counter, with a slot for its count. `None`: there is no room.
    fn entry(&self, ask: &DurableAsk<'_>, now: Now) -> Option<Arc<Entry<()>>> {
        let name = hexadecimal(ask.counter);
        let name = std::str::from_utf8(&name).ok()?;
        let fingerprint =
            self.leases.fingerprint(CounterScope::Subscriber, name, (RULES, ask.domain));
        let owner = || Owner::of_rule(ask.domain, name);
        // With a slot it is not dropped before its lock is taken.
        let slotted = self.leases.books.with(fingerprint, owner, now, |entry, state| {
            state.slot(&ask.quota.identity, now, self.leases.settings.keep_ns)?;
            Some(Arc::clone(entry))
        });
        slotted.ok().flatten()
    }

    fn look<'a>(
        &self,
        ask: &DurableAsk<'a>,
        entry: &Arc<Entry<()>>,
        locked: &mut Locked<'_>,
        before: &[Option<Looked<'_>>],
        shortage: Shortage,
        now: Now,
    ) -> Option<Looked<'a>> {
        let place = locked.iter().position(|(other, _)| Arc::ptr_eq(other, entry))?;
        let (_, state) = locked.get_mut(place)?;
        let quota = self.leases.ask(ask.quota, state, now)?;
        let of_same = |look: &&Looked<'_>| {
            look.entry == place && look.quota.slot == quota.slot && look.charges && look.fits
        };
        let taken = before.iter().flatten().filter(of_same);
        let before = taken.fold(0u64, |sum, look| sum.saturating_add(look.cost));
        let cost = if ask.negative { 0 } else { ask.hits.max(1) };
        let charges = !ask.negative && ask.hits > 0;
        let fits = cost <= quota.row.remaining(ask.quota.limit).saturating_sub(before);
        let doubtful = quota.resumes
            || (!fits
                && quota.held(&state.quotas).is_some_and(|held| held.doubts(Doubt::Refusals)));
        let unsure = doubtful && !quota.is_dropped() && shortage != Shortage::Allow;
        let look =
            Looked { entry: place, quota, before, cost, charges, fits, unsure, short: false };
        let settings = &self.leases.settings.lease;
        let covers = look.quota.covers(&state.quotas, look.in_all(), settings);
        Some(Looked { short: charges && fits && !covers, ..look })
    }

    fn needs(&self, locked: &mut Locked<'_>, looked: &[Option<Looked<'_>>], now: Now) -> Vec<Need> {
        let one = |look: &Looked<'_>| {
            let (entry, state) = locked.get_mut(look.entry)?;
            let forgotten_to_ns = self.leases.forgotten_to_ns(state);
            let asking = self.leases.asking(&entry.owner, REVISION, forgotten_to_ns, now);
            // What it is unsure about is the balance alone.
            let wanted = Wanted { cost: look.cost, in_all: look.in_all() };
            asking.missing(&look.quota, &mut state.quotas, look.short.then_some(wanted))
        };
        looked.iter().flatten().filter(|look| look.lacks_something()).filter_map(one).collect()
    }

    fn charge_one(&self, locked: &mut Locked<'_>, look: &Looked<'_>, now: Now) {
        let Some((entry, state)) = locked.get_mut(look.entry) else { return };
        let forgotten_to_ns = self.leases.forgotten_to_ns(state);
        let Some(slot) = state.quotas.get_mut(look.quota.slot) else { return };
        let chunk_ns = self.leases.settings.lease.chunk_ns;
        slot.spend(&look.quota.row, look.cost, forgotten_to_ns, chunk_ns, now);
        let asking = self.leases.asking(&entry.owner, REVISION, forgotten_to_ns, now);
        self.leases.look_ahead(asking, &look.quota, &mut state.quotas);
    }
}

impl HoldsLeases for DurableRuleEngine {
    type Extra = ();

    fn leases(&self) -> &LeaseBook<()> {
        &self.leases
    }

    fn sweep(&self, now: Now) -> bool {
        self.leases.sweep(now)
    }
}

/// Locks each entry once, in the order of their fingerprints, which is the same for all requests.
fn lock(entries: &[Option<Arc<Entry<()>>>]) -> Locked<'_> {
    let mut wanted: SmallVec<[&Arc<Entry<()>>; 4]> = entries.iter().flatten().collect();
    wanted.sort_unstable_by_key(|entry| *entry.fingerprint());
    wanted.dedup_by_key(|entry| *entry.fingerprint());
    wanted.into_iter().map(|entry| (entry, entry.lock())).collect()
}

/// Where each ask stands before anything is charged.
fn standings(
    asks: &[DurableAsk<'_>],
    looked: &[Option<Looked<'_>>],
    now: Now,
    admits: impl Fn(&Looked<'_>) -> bool,
) -> Standings {
    let one = |(ask, look): (&DurableAsk<'_>, &Option<Looked<'_>>)| {
        let Some(look) = look else { return Standing::unavailable(ask) };
        let row = &look.quota.row;
        let over = !ask.negative && !admits(look);
        let used = row.used.saturating_add(look.before);
        let until_ns =
            (row.period.end_ns / SECOND_NS).saturating_sub(now.unix_s()).saturating_mul(SECOND_NS);
        Standing {
            over,
            before: used,
            after: if ask.negative { used } else { used.saturating_add(ask.hits) },
            remaining: row.remaining(ask.quota.limit).saturating_sub(look.before),
            // Units are missing, and not the limit reached: that can change at any time.
            reset_ns: if over && (look.fits || look.unsure) { SECOND_NS } else { until_ns },
        }
    };
    asks.iter().zip(looked).map(one).collect()
}

fn hexadecimal(name: [u8; 16]) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(name) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        }
    }
    digits
}

#[cfg(test)]
mod tests;
