//! What this node holds of the ledger: for each counter the units that were leased ahead of use,
//! what was spent of them, and how the counter stands.
//!
//! Nothing here does I/O. A decision that needs units says so by a [`Need`], and has charged
//! nothing; its caller asks the ledger, applies the answer ([`LeaseBook::apply_lease`]) and decides
//! again, with a new `now`. Units ahead of use are asked for through
//! [`LeaseBook::take_prefetches`], and nobody waits for them.
//!
//! One (counter, period) is never admitted more than the ledger leased, whatever is lost, late or
//! repeated in between. A give-back must not be sent to the ledger again once
//! [`LeaseBook::gave_back`] or [`LeaseBook::give_back_failed`] was told of it.
//!
//! Plans and durable rules have a book each. A decision takes what it meets from there, locked
//! (`Entry`), looks at each quota (`LeaseBook::ask`), and then charges (`Slot::spend`) or
//! says what is missing (`Asking::missing`).

mod answers;
mod asking;
mod books;
mod by_plan;
mod count_rules;
mod give_backs;
mod held;
mod owner;
mod paged;
mod settings;

use std::sync::Arc;

pub(in crate::engine) use self::asking::{Asking, QuotaAsk, Wanted};
pub use self::asking::{Need, Shortage};
pub(in crate::engine) use self::books::{Books, Entry, Slot, State};
pub use self::books::{EntryHandle, Extra, Full};
use self::count_rules::CountRules;
pub(in crate::engine) use self::held::{Doubt, Held, Room};
pub(in crate::engine) use self::owner::{EntitlementRef, EntitlementRefs, Owner, shard_of};
pub use self::settings::{BookSettings, LeaseSettings};
use crate::decide::compiled::CompiledQuota;
use crate::decide::ledger::{CounterId, CounterIdentity, GiveBack, Holder, PeriodRow};
use crate::decide::outcome::CountRule;
use crate::decide::plan::CounterScope;
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use crate::fingerprint::{Fingerprint, Fingerprinter};

/// Rows of a count are forgotten once the ledger knows all of them, and never dropped for their age:
/// a clock that leapt twice would leave periods behind that have nothing left.
pub(in crate::engine) const KEEP_ROWS_NS: u64 = u64::MAX;

/// The counters of an engine, and what it holds of the ledger for them. `E`: what an entry holds
/// beside the counts of its quotas.
#[derive(Debug)]
pub struct LeaseBook<E> {
    pub(in crate::engine) settings: BookSettings,
    pub(in crate::engine) books: Books<E>,
    fingerprints: Fingerprinter,
    rules: CountRules,
    pub(in crate::engine) prefetches: Mutex<Vec<Need>>,
    pub(in crate::engine) has_prefetches: AtomicBool,
    has_urgent_prefetches: AtomicBool,
    dropped_prefetches: AtomicU64,
    /// Unspent units of periods that are over.
    pub(in crate::engine) ended: Mutex<Vec<GiveBack>>,
}

/// An engine that spends from leases.
pub trait HoldsLeases: std::fmt::Debug + Send + Sync + 'static {
    type Extra: Extra;

    fn leases(&self) -> &LeaseBook<Self::Extra>;

    /// Drops what remembers nothing any more. `true`: more has ended than
    /// [`LeaseBook::take_ended`] gives now; sweep again when that is given back.
    fn sweep(&self, now: Now) -> bool;
}

impl<E: Extra> LeaseBook<E> {
    pub(in crate::engine) fn new(fingerprints: Fingerprinter, settings: BookSettings) -> Self {
        Self {
            books: Books::new(settings.max_entries),
            fingerprints,
            rules: CountRules::default(),
            prefetches: Mutex::default(),
            has_prefetches: AtomicBool::new(false),
            has_urgent_prefetches: AtomicBool::new(false),
            dropped_prefetches: AtomicU64::new(0),
            ended: Mutex::default(),
            settings,
        }
    }

    /// Who leases.
    pub fn holder(&self) -> Holder {
        self.settings.holder
    }

    /// Entries that live: one for each subject under an entitlement, or name in a domain, that was
    /// asked for.
    pub fn live_entries(&self) -> usize {
        self.books.live()
    }

    /// Decisions that found no room for another entry.
    pub fn entries_refused(&self) -> u64 {
        self.books.refused()
    }

    /// Units that were to be leased ahead of use, and found no room in the queue.
    pub fn prefetches_dropped(&self) -> u64 {
        self.dropped_prefetches.load(Ordering::Relaxed)
    }

    /// The fingerprint of an entry.
    pub(in crate::engine) fn fingerprint(
        &self,
        scope: CounterScope,
        subject: &str,
        (plan, entitlement): (&str, &str),
    ) -> Fingerprint {
        let tag = match scope {
            CounterScope::Subscriber => b's',
            CounterScope::Key => b'k',
        };
        let parts = [subject.as_bytes(), plan.as_bytes(), entitlement.as_bytes()];
        self.fingerprints.of_parts(tag, &parts)
    }

    pub(in crate::engine) fn fingerprint_of(&self, counter: &CounterIdentity) -> Fingerprint {
        let CounterIdentity { subscriber, key, plan, entitlement, .. } = counter;
        let (scope, subject) = match key {
            Some(key) => (CounterScope::Key, key),
            None => (CounterScope::Subscriber, subscriber),
        };
        self.fingerprint(scope, subject, (plan, entitlement))
    }

    /// What one quota has now. `None`: there is no room for its count.
    pub(in crate::engine) fn ask<'a>(
        &self,
        quota: &'a CompiledQuota,
        state: &mut State<E>,
        now: Now,
    ) -> Option<QuotaAsk<'a>> {
        let place = state.slot(&quota.identity, now, self.settings.keep_ns)?;
        let forgotten_to_ns = self.forgotten_to_ns(state);
        let Slot { count, leases, .. } = state.quotas.get_mut(place)?;
        let row = count.at(&quota.calendar, now.unix_ns);
        if leases.rule.is_none() && leases.counter != 0 {
            leases.rule = self.rules.number(&quota.counts);
        }
        let resumes = row.period.end_ns <= forgotten_to_ns
            && leases.held(row.period.start_ns).is_none_or(|held| !held.is_known());
        Some(QuotaAsk { quota, slot: place, row, resumes })
    }

    /// The count rule of a number of the ledger's, if it was learned.
    pub(in crate::engine) fn count_rule(&self, number: u32) -> Option<CountRule> {
        self.rules.rule(u16::try_from(number).ok()?)
    }

    /// Periods of an entry that ended by then may have been forgotten.
    pub(in crate::engine) fn forgotten_to_ns(&self, state: &State<E>) -> u64 {
        state.floor_ns().max(self.books.floor_ns())
    }

    /// Works on the count of a counter, where it has one, and is told up to when its periods may
    /// have been forgotten.
    pub(in crate::engine) fn find<R>(
        &self,
        counter: &CounterIdentity,
        work: impl FnOnce(&Arc<Entry<E>>, &mut Slot, u64) -> R,
    ) -> Option<R> {
        let entry = self.books.find(self.fingerprint_of(counter))?;
        let mut state = entry.lock();
        let forgotten_to_ns = self.forgotten_to_ns(&state);
        state.find(&counter.quota).map(|slot| work(&entry, slot, forgotten_to_ns))
    }

    /// The same, where the ledger's number of the counter is known.
    pub(in crate::engine) fn find_numbered(
        &self,
        CounterId(number): CounterId,
        work: impl FnOnce(&mut Slot),
    ) {
        if let Some(entry) = self.books.by_counter(number)
            && let Some(slot) = entry.lock().numbered(number)
        {
            work(slot);
        }
    }

    /// The same, where the counter gets a count if it has none.
    pub(in crate::engine) fn with<R>(
        &self,
        counter: &CounterIdentity,
        now: Now,
        work: impl FnOnce(&Arc<Entry<E>>, &mut Slot, u64) -> R,
    ) -> Result<R, Full> {
        let fingerprint = self.fingerprint_of(counter);
        self.books.with(
            fingerprint,
            || Owner::of(counter),
            now,
            |entry, state| {
                let place = state.slot(&counter.quota, now, self.settings.keep_ns).ok_or(Full)?;
                let forgotten_to_ns = self.forgotten_to_ns(state);
                let slot = state.quotas.get_mut(place).ok_or(Full)?;
                Ok(work(entry, slot, forgotten_to_ns))
            },
        )?
    }

    /// Of periods that ended by then the ledger may know more than memory does, or has dropped
    /// them: where the clock steps back into one, it is asked first.
    pub fn ask_of_periods_to(&self, end_ns: u64) {
        self.books.raise_floor(end_ns);
    }

    /// Takes over a running period from the ledger, at start, before anything is decided.
    ///
    /// # Errors
    /// There is no room for another entry, or for another count in it.
    pub fn restore(&self, row: &PeriodRow, now: Now) -> Result<(), Full> {
        let &PeriodRow { counter: CounterId(number), period, charged, granted, .. } = row;
        self.with(&row.identity, now, |entry, slot, forgotten_to_ns| {
            let Slot { count, leases, .. } = slot;
            leases.counter = number;
            count.tell(Row { period, used: charged, granted }, now.unix_ns, KEEP_ROWS_NS);
            leases.hold(period, forgotten_to_ns, count).become_known();
            self.books.number(number, entry);
        })
    }

    /// Takes over whose a counter is of which no period runs any more, at start: a response to a
    /// request that it admitted may still be reported. Those without room are missing in the
    /// statistics of responses.
    pub fn restore_owner(&self, counter: CounterId, identity: &CounterIdentity, now: Now) {
        let CounterId(number) = counter;
        if self.books.by_counter(number).is_none() {
            let _ = self.with(identity, now, |entry, slot, _| {
                slot.leases.counter = number;
                self.books.number(number, entry);
            });
        }
    }

    /// Takes over the ledger's number of a count rule, at start: receipts name it.
    pub fn restore_rule(&self, number: u16, rule: CountRule) {
        self.rules.learn(number, rule);
    }
}

impl Slot {
    /// Counts units that a decision takes, and that a lease covers or will have to.
    pub(in crate::engine) fn spend(
        &mut self,
        row: &Row,
        units: u64,
        forgotten_to_ns: u64,
        chunk_ns: u64,
        now: Now,
    ) {
        let Self { count, leases, .. } = self;
        count.charge(row, units, now.unix_ns, KEEP_ROWS_NS);
        leases.hold(row.period, forgotten_to_ns, count).spend(units);
        leases.pace.count(units, now.steady_ns, chunk_ns);
    }

    /// What is held of a period by its start in seconds, as the ledger names it.
    pub(in crate::engine) fn held_from(
        &mut self,
        period_start_s: u64,
    ) -> impl Iterator<Item = &mut Held> {
        self.leases.all_mut().filter(move |held| held.start_ns / SECOND_NS == period_start_s)
    }
}
