//! What an engine takes over from the ledger at start.

use super::asking::Asking;
use super::books::{Slot, State};
use super::held::Room;
use super::lease::Need;
use super::under::Owner;
use super::{GrantError, KEEP_ROWS_NS, PlanEngine};
use crate::decide::ledger::{CounterId, CounterIdentity, PeriodRow};
use crate::decide::lookup::Lookup;
use crate::decide::outcome::CountRule;
use crate::decide::plan::Charge;
use crate::decide::quota::Row;
use crate::decide::time::Now;

impl PlanEngine {
    /// Of periods that ended by then the ledger may know more than memory does, or has dropped
    /// them: where the clock steps back into one, it is asked first.
    pub fn ask_of_periods_to(&self, end_ns: u64) {
        self.books.raise_floor(end_ns);
    }

    /// Takes over a running period from the ledger, at start, before anything is checked.
    ///
    /// # Errors
    /// There is no room for another entry, or for another count in it.
    pub fn restore(&self, row: &PeriodRow, now: Now) -> Result<(), GrantError> {
        let fingerprint = self.fingerprint_of(&row.identity);
        let keep_ns = self.keep_ns();
        let work = |state: &mut State| {
            let forgotten_to_ns = self.forgotten_to_ns(state);
            let place = state.slot(&row.identity.quota, now, keep_ns)?;
            let slot = state.quotas.get_mut(place)?;
            let Slot { count, leases, .. } = slot;
            leases.counter = row.counter.0;
            count.tell(
                Row { period: row.period, used: row.charged, granted: row.granted },
                now.unix_ns,
                KEEP_ROWS_NS,
            );
            leases.hold(row.period, forgotten_to_ns, count).be_known();
            Some(())
        };
        let restored =
            self.books.with(fingerprint, || Owner::of(&row.identity), now, |_, state| work(state));
        restored.ok().flatten().ok_or(GrantError::NoRoom)?;
        if let Some(entry) = self.books.find(fingerprint) {
            self.books.number(row.counter.0, &entry);
        }
        Ok(())
    }

    /// The first units of a counter that was restored, so that its first request need not wait.
    /// `None`: it needs none.
    pub fn warm(&self, lookup: &impl Lookup, row: &PeriodRow, now: Now) -> Option<Need> {
        let settings = &self.settings.lease;
        let CounterIdentity { plan, entitlement, quota, .. } = &row.identity;
        let entitlement = lookup.plan(plan)?.entitlement(entitlement)?;
        let quota = entitlement.quotas.iter().find(|declared| *declared.identity == **quota)?;
        let entry = self.books.find(self.fingerprint_of(&row.identity))?;
        let mut state = entry.lock();
        let forgotten_to_ns = self.forgotten_to_ns(&state);
        let Slot { count, leases, .. } = state.find(&quota.identity)?;
        let room = Room::of(&count.row(row.period.start_ns)?, quota);
        if quota.charge == Charge::AtReport
            || !row.period.contains(now.unix_ns)
            || (room.remaining == 0 && !room.may_pass)
        {
            return None;
        }
        let want = leases.want(settings, room, leases.held(row.period.start_ns)?, 0);
        let asking = Asking {
            owner: &entry.owner,
            revision: lookup.revision(),
            settings,
            forgotten_to_ns,
            now,
        };
        Some(asking.need(
            quota,
            row.counter.0,
            leases.held_mut(row.period.start_ns)?,
            row.period,
            want,
        ))
    }

    /// Takes over whose a counter is of which no period runs any more, at start: a response to a
    /// request that it admitted may still be reported. Those without room are missing in the
    /// statistics of responses.
    pub fn restore_owner(&self, CounterId(number): CounterId, counter: &CounterIdentity, now: Now) {
        if self.books.by_counter(number).is_some() {
            return;
        }
        let fingerprint = self.fingerprint_of(counter);
        let keep_ns = self.keep_ns();
        let work = |state: &mut State| {
            let place = state.slot(&counter.quota, now, keep_ns)?;
            state.quotas.get_mut(place)?.leases.counter = number;
            Some(())
        };
        let restored =
            self.books.with(fingerprint, || Owner::of(counter), now, |_, state| work(state));
        if let (Ok(Some(())), Some(entry)) = (restored, self.books.find(fingerprint)) {
            self.books.number(number, &entry);
        }
    }

    /// Takes over the ledger's number of a count rule, at start: receipts name it.
    pub fn restore_rule(&self, number: u16, rule: CountRule) {
        self.rules.learn(u32::from(number), &rule);
    }
}
