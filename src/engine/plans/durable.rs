//! Counters of durable rate-limit rules: leased through the ledger as quotas are, by an engine of
//! their own, whose owners are no subscribers.
//!
//! A rule's file is each service's own, and has no revision that a ledger could compare. It needs
//! none: each decision compares what is known to be used with the limit of that moment, so a
//! lowered limit holds at once, whatever was leased by the old one.

use std::sync::Arc;

use smallvec::SmallVec;

use super::asking::Asking;
use super::books::{Entry, Slot, State, subject_fingerprint};
use super::fingerprint::Fingerprinted;
use super::held::Room;
use super::lease::{Need, Shortage};
use super::under::Owner;
use super::{KEEP_ROWS_NS, PlanEngine};
use crate::decide::plan::{CounterScope, Id};
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::rules::durable::{DurableAsk, DurableCounters};
use crate::engine::rules::{Mode, Standing, Standings};
use crate::engine::sync::MutexGuard;

/// Stands for the plan in the names of these counters. No plan can have this id.
pub const RULES: &str = "(rules)";

/// Limits of rules have no revision.
const REVISION: u64 = 0;

/// Asks the ledger where units are missing.
#[derive(Clone, Copy, Debug)]
pub struct Leased<'e>(pub &'e PlanEngine);

/// Decides by what is there.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce<'e> {
    pub engine: &'e PlanEngine,
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
        self.0.charge_durable(asks, mode, Shortage::Ask, now, refuses)
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
        let charged = self.engine.charge_durable(asks, mode, shortage, now, &mut *refuses);
        // Nothing is needed where nothing is asked for.
        Ok(charged.unwrap_or_else(|_| {
            let standings: Standings = asks.iter().map(Standing::unavailable).collect();
            refuses(&standings);
            standings
        }))
    }
}

/// The locked entries of one request, each once.
type Held<'h> = SmallVec<[(&'h Arc<Entry>, MutexGuard<'h, State>); 4]>;

/// One ask, looked at with all locks held.
struct Looked {
    /// Among the held entries.
    entry: usize,
    slot: usize,
    row: Row,
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

impl PlanEngine {
    /// Decides counters of durable rules and charges what is not over: all of it under the locks of
    /// all of them.
    fn charge_durable(
        &self,
        asks: &[DurableAsk<'_>],
        mode: Mode,
        shortage: Shortage,
        now: Now,
        refuses: &mut dyn FnMut(&[Standing]) -> bool,
    ) -> Result<Standings, Vec<Need>> {
        let entries: SmallVec<[Option<Arc<Entry>>; 4]> =
            asks.iter().map(|ask| self.durable_entry(ask, now)).collect();
        let mut held = hold(&entries);
        let mut looked: SmallVec<[Option<Looked>; 4]> = SmallVec::new();
        for (ask, entry) in asks.iter().zip(&entries) {
            let found = entry
                .as_ref()
                .and_then(|entry| self.look(ask, entry, &mut held, &looked, shortage, now));
            looked.push(found);
        }
        let missing = |look: &Looked| look.short || look.unsure;
        if looked.iter().flatten().any(missing) && shortage == Shortage::Ask {
            // What is refused anyway asks for nothing.
            let hopeful = standings(asks, &looked, now, |look| look.fits || look.unsure);
            if mode == Mode::AllOrNothing && refuses(&hopeful) {
                return Ok(hopeful);
            }
            return Err(self.durable_needs(&mut held, asks, &looked, now));
        }
        let admits = |look: &Looked| look.fits && (shortage == Shortage::Allow || !missing(look));
        let decided = standings(asks, &looked, now, admits);
        if mode == Mode::AllOrNothing && refuses(&decided) {
            return Ok(decided);
        }
        let mut charged = decided;
        for ((ask, look), standing) in asks.iter().zip(&looked).zip(&mut charged) {
            if let Some(look) = look.as_ref().filter(|look| look.charges && admits(look)) {
                self.charge_one(&mut held, ask, look, now);
                standing.remaining = standing.remaining.saturating_sub(look.cost);
            }
        }
        Ok(charged)
    }

    /// The entry of a counter, with a slot for its count. `None`: there is no room.
    fn durable_entry(&self, ask: &DurableAsk<'_>, now: Now) -> Option<Arc<Entry>> {
        let name = hexadecimal(ask.counter);
        let name = std::str::from_utf8(&name).ok()?;
        let fingerprint = subject_fingerprint(
            &self.fingerprints,
            CounterScope::Subscriber,
            name,
            (RULES, ask.domain),
        );
        let owner = || Owner::new(&Id::from(name), None, &Id::from(RULES), &Id::from(ask.domain));
        // With a slot it is not dropped before its lock is taken.
        let slot = self.books.with(fingerprint, owner, now, |_, state| {
            state.slot(&ask.quota.identity, now, self.keep_ns())
        });
        slot.ok().flatten()?;
        self.books.find(fingerprint)
    }

    fn look(
        &self,
        ask: &DurableAsk<'_>,
        entry: &Arc<Entry>,
        held: &mut Held<'_>,
        before: &[Option<Looked>],
        shortage: Shortage,
        now: Now,
    ) -> Option<Looked> {
        let place = held.iter().position(|(other, _)| Arc::ptr_eq(other, entry))?;
        let (_, state) = held.get_mut(place)?;
        let asked = self.ask(ask.quota, state, now)?;
        let of_same = |look: &&Looked| {
            look.entry == place && look.slot == asked.slot && look.charges && look.fits
        };
        let before = before
            .iter()
            .flatten()
            .filter(of_same)
            .fold(0u64, |sum, look| sum.saturating_add(look.cost));
        let cost = if ask.negative { 0 } else { ask.hits.max(1) };
        let charges = !ask.negative && ask.hits > 0;
        let left = asked.row.remaining(ask.quota.limit).saturating_sub(before);
        let fits = cost <= left;
        let leases = state
            .quotas
            .get(asked.slot)
            .and_then(|slot| slot.leases.held(asked.row.period.start_ns));
        let doubtful = asked.resumes || (!fits && leases.is_some_and(|held| held.is_unsure()));
        let unsure = doubtful && !asked.is_forgotten() && shortage != Shortage::Allow;
        let settings = &self.settings.lease;
        let wanted = before.saturating_add(cost);
        let covers = leases
            .map_or(wanted <= settings.optimistic_units, |leases| leases.covers(wanted, settings));
        let short = charges && fits && !covers;
        Some(Looked {
            entry: place,
            slot: asked.slot,
            row: asked.row,
            before,
            cost,
            charges,
            fits,
            unsure,
            short,
        })
    }

    fn durable_needs(
        &self,
        held: &mut Held<'_>,
        asks: &[DurableAsk<'_>],
        looked: &[Option<Looked>],
        now: Now,
    ) -> Vec<Need> {
        let one = |(ask, look): (&DurableAsk<'_>, &Option<Looked>)| {
            let look = look.as_ref().filter(|look| look.short || look.unsure)?;
            let settings = &self.settings.lease;
            let (entry, state) = held.get_mut(look.entry)?;
            let forgotten_to_ns = self.forgotten_to_ns(state);
            let Slot { count, leases, .. } = state.quotas.get_mut(look.slot)?;
            let start_ns = look.row.period.start_ns;
            let units = leases.hold(look.row.period, forgotten_to_ns, count);
            // What it is unsure about is the balance alone.
            let mut want = units.spent.min(units.leased);
            if look.short {
                units.wait(look.cost);
                want = leases.want(
                    settings,
                    Room::of(&look.row, ask.quota),
                    leases.held(start_ns)?,
                    look.before.saturating_add(look.cost),
                );
            }
            let asking =
                Asking { owner: &entry.owner, revision: REVISION, settings, forgotten_to_ns, now };
            let number = leases.counter;
            Some(asking.need(ask.quota, number, leases.held_mut(start_ns)?, look.row.period, want))
        };
        asks.iter().zip(looked).filter_map(one).collect()
    }

    fn charge_one(&self, held: &mut Held<'_>, ask: &DurableAsk<'_>, look: &Looked, now: Now) {
        let Some((entry, state)) = held.get_mut(look.entry) else { return };
        let forgotten_to_ns = self.forgotten_to_ns(state);
        let Some(slot) = state.quotas.get_mut(look.slot) else { return };
        slot.count.charge(&look.row, look.cost, now.unix_ns, KEEP_ROWS_NS);
        let settings = &self.settings.lease;
        let Slot { count, leases, .. } = slot;
        let units = leases.hold(look.row.period, forgotten_to_ns, count);
        units.spend(look.cost);
        leases.pace.count(look.cost, now.steady_ns, settings.chunk_ns);
        let asking =
            Asking { owner: &entry.owner, revision: REVISION, settings, forgotten_to_ns, now };
        asking.look_ahead(ask.quota, slot, look.row.period, |need, haste| {
            self.queue_prefetch(need, haste, settings.max_prefetches)
        });
    }
}

/// Locks each entry once, in the order of their fingerprints, which is the same for all requests.
fn hold(entries: &[Option<Arc<Entry>>]) -> Held<'_> {
    let mut wanted: SmallVec<[&Arc<Entry>; 4]> = entries.iter().flatten().collect();
    wanted.sort_unstable_by_key(|entry| *entry.fingerprint());
    wanted.dedup_by_key(|entry| *entry.fingerprint());
    wanted.into_iter().map(|entry| (entry, entry.lock())).collect()
}

/// Where each ask stands before anything is charged.
fn standings(
    asks: &[DurableAsk<'_>],
    looked: &[Option<Looked>],
    now: Now,
    admits: impl Fn(&Looked) -> bool,
) -> Standings {
    let one = |(ask, look): (&DurableAsk<'_>, &Option<Looked>)| {
        let Some(look) = look else { return Standing::unavailable(ask) };
        let over = !ask.negative && !admits(look);
        let used = look.row.used.saturating_add(look.before);
        let until_ns = (look.row.period.end_ns / SECOND_NS)
            .saturating_sub(now.unix_s())
            .saturating_mul(SECOND_NS);
        Standing {
            over,
            before: used,
            after: if ask.negative { used } else { used.saturating_add(ask.hits) },
            remaining: look.row.remaining(ask.quota.limit).saturating_sub(look.before),
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
