//! Asking for units: what is written into a need, what a decision that is short asks for, and when
//! more is asked for than one decision takes.

use super::books::Slot;
use super::held::{Held, Question, Room, Round};
use super::owner::Owner;
use super::{Extra, LeaseBook, LeaseSettings};
use crate::decide::calendar::Period;
use crate::decide::compiled::CompiledQuota;
use crate::decide::ledger::{Counter, CounterId, CounterIdentity, Holder, LeaseRequest};
use crate::decide::outcome::CountRule;
use crate::decide::plan::{Charge, OnBreach};
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::sync::atomic::Ordering;

/// What a decision does where units are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// It says what it needs.
    Ask,
    /// It is refused as `LEDGER_UNAVAILABLE`.
    Deny,
    /// It is admitted, and the next lease has to cover it. A check gets no receipt if its counter
    /// has no number yet.
    Allow,
}

/// How soon what is asked for ahead of use should be asked of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// Within some milliseconds, together with others.
    Some,
    /// At once.
    Much,
}

/// What to ask the ledger for. It is handed back with the answer.
#[derive(Clone, Debug)]
pub struct Need {
    pub counter: CounterIdentity,
    /// The ledger's number of the counter, once it is known.
    pub number: Option<CounterId>,
    pub period: Period,
    /// Units that this engine wants to have leased in this period since its start, all together. 0,
    /// or what is leased already, asks for the balance alone.
    pub want: u64,
    /// Units of them that it has spent.
    pub spent: u64,
    /// Units in a period, without grants.
    pub limit: u64,
    /// The lease may pass limit + grants.
    pub may_pass: bool,
    /// The catalog's revision that the limit is of.
    pub revision: u64,
    /// Which statuses the quota counts.
    pub rule: CountRule,
    pub(in crate::engine) round: Round,
    pub(super) question: Question,
}

impl Need {
    /// As the ledger is asked, by the counter's number where it is known.
    pub fn request(&self, holder: Holder, now_s: u64) -> LeaseRequest {
        let named = || Counter::Named(self.counter.clone());
        LeaseRequest {
            counter: self.number.map_or_else(named, Counter::Known),
            count_rule: self.rule,
            period: self.period,
            holder,
            want: self.want,
            spent: self.spent,
            limit: self.limit,
            may_pass: self.may_pass,
            revision: self.revision,
            now_s,
        }
    }
}

/// A quota that a request meets: the place of its locked slot, and the row of now.
pub(in crate::engine) struct QuotaAsk<'a> {
    pub(in crate::engine) quota: &'a CompiledQuota,
    pub(in crate::engine) slot: usize,
    pub(in crate::engine) row: Row,
    /// What was counted in its period was forgotten: the ledger knows it.
    pub(in crate::engine) resumes: bool,
}

impl QuotaAsk<'_> {
    /// The ledger has dropped its period: nothing is left of it, and nothing counted in it.
    pub(in crate::engine) fn is_dropped(&self) -> bool {
        self.row.is_dropped()
    }

    /// What is held of its period.
    pub(in crate::engine) fn held<'s>(&self, slots: &'s [Slot]) -> Option<&'s Held> {
        slots.get(self.slot)?.leases.held(self.row.period.start_ns)
    }

    /// May so many units be spent without asking?
    pub(in crate::engine) fn covers(
        &self,
        slots: &[Slot],
        units: u64,
        settings: &LeaseSettings,
    ) -> bool {
        let fresh = units <= settings.optimistic_units;
        self.held(slots).map_or(fresh, |held| held.covers(units, settings))
    }
}

/// Units that a decision lacks.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Wanted {
    /// That it takes by this ask.
    pub(in crate::engine) cost: u64,
    /// The same, with what its asks before this one take of the same count.
    pub(in crate::engine) in_all: u64,
}

impl Room {
    pub(in crate::engine) fn of(row: &Row, quota: &CompiledQuota) -> Self {
        let may_pass = quota.on_breach == OnBreach::Allow;
        Self {
            allowance: row.allowance(quota.limit),
            remaining: row.remaining(quota.limit),
            may_pass,
        }
    }
}

/// For one check: whose counters, by which edit.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Asking<'e> {
    owner: &'e Owner,
    revision: u64,
    settings: &'e LeaseSettings,
    /// See [`super::held::Leases::hold`].
    forgotten_to_ns: u64,
    now: Now,
}

impl Asking<'_> {
    /// What a decision that cannot be made yet asks for of one quota. `None` wanted: the balance,
    /// and the counter's number, alone.
    pub(in crate::engine) fn missing(
        self,
        ask: &QuotaAsk<'_>,
        slots: &mut [Slot],
        wanted: Option<Wanted>,
    ) -> Option<Need> {
        let Slot { count, leases, .. } = slots.get_mut(ask.slot)?;
        let (number, start_ns) = (leases.counter, ask.row.period.start_ns);
        let held = leases.hold(ask.row.period, self.forgotten_to_ns, count);
        let want = if let Some(Wanted { cost, in_all }) = wanted {
            held.wait(cost);
            let room = Room::of(&ask.row, ask.quota);
            leases.want(self.settings, room, leases.held(start_ns)?, in_all)
        } else {
            held.spent.min(held.leased)
        };
        Some(self.need(ask.quota, number, leases.held_mut(start_ns)?, ask.row.period, want))
    }

    /// Writes a need, and that it was asked for.
    fn need(
        self,
        quota: &CompiledQuota,
        number: u64,
        held: &mut Held,
        period: Period,
        want: u64,
    ) -> Need {
        let question = held.ask(self.now.steady_ns.saturating_add(self.settings.answer_ns));
        // Sums over what was forgotten, too, are not known yet: it asks for them alone.
        let (want, spent) = if held.resumes() { (0, 0) } else { (want, held.spent) };
        Need {
            counter: self.owner.counter(&quota.identity),
            number: (number != 0).then_some(CounterId(number)),
            period,
            want,
            spent,
            limit: quota.limit,
            may_pass: quota.on_breach == OnBreach::Allow,
            revision: self.revision,
            rule: quota.counts,
            round: held.round,
            question,
        }
    }

    /// Asks for it ahead of use, if there is room.
    fn ask_ahead(
        self,
        need: Need,
        held: &mut Held,
        haste: Haste,
        push: &mut impl FnMut(Need, Haste) -> bool,
    ) {
        let question = need.question;
        if !push(need, haste) {
            held.answered(question);
        }
    }

    /// Asks for more after an admission, before anyone has to wait, and at the end of a period for
    /// the first units of the next.
    fn look_ahead(
        self,
        quota: &CompiledQuota,
        slot: &mut Slot,
        period: Period,
        mut push: impl FnMut(Need, Haste) -> bool,
    ) {
        let Slot { count, leases, .. } = slot;
        let Some(room) = count.row(period.start_ns).map(|row| Room::of(&row, quota)) else {
            return;
        };
        let bound = leases.bound(self.settings, room, 0);
        let number = leases.counter;
        let Some(held) = leases.held(period.start_ns) else { return };
        let at_check = quota.charge == Charge::AtCheck;
        let more = at_check && (room.may_pass || room.remaining > held.unspent());
        // What is left lasts for a part of `chunk_ns`, unless a lease may not be as large as the
        // pace asks for.
        let (left, haste) = if leases.pace.fits(bound) {
            (bound.div_ceil(4), Haste::Some)
        } else {
            (bound.div_ceil(2), Haste::Much)
        };
        if more && held.runs_low(left, self.now.steady_ns) {
            let want = leases.want(self.settings, room, held, 0);
            if let Some(held) = leases.held_mut(period.start_ns).filter(|held| want > held.leased) {
                let need = self.need(quota, number, held, period, want);
                self.ask_ahead(need, held, haste, &mut push);
            }
        }
        if number != 0 && period.end_ns.saturating_sub(self.now.unix_ns) <= lead_ns(number, period)
        {
            self.next_period(quota, slot, period, push);
        }
    }

    fn next_period(
        self,
        quota: &CompiledQuota,
        slot: &mut Slot,
        period: Period,
        mut push: impl FnMut(Need, Haste) -> bool,
    ) {
        let Slot { count, leases, .. } = slot;
        match leases.held_mut(period.start_ns) {
            Some(held) if !held.ahead => held.ahead = true,
            _ => return,
        }
        let next = quota.calendar.period(period.end_ns);
        let row = count.at(&quota.calendar, period.end_ns);
        let room = Room::of(&row, quota);
        let (number, bound) = (leases.counter, leases.bound(self.settings, room, 0));
        let units = if quota.charge == Charge::AtReport {
            0
        } else if room.may_pass {
            bound
        } else {
            bound.min(room.remaining)
        };
        let held = leases.hold(next, self.forgotten_to_ns, count);
        if !held.is_known() {
            let want = held.spent.saturating_add(units);
            let need = self.need(quota, number, held, next, want);
            self.ask_ahead(need, held, Haste::Some, &mut push);
        }
    }
}

impl<E: Extra> LeaseBook<E> {
    /// For decisions on an entry: whose counters it asks for, by which edit of their limits.
    pub(in crate::engine) fn asking<'e>(
        &'e self,
        owner: &'e Owner,
        revision: u64,
        forgotten_to_ns: u64,
        now: Now,
    ) -> Asking<'e> {
        Asking { owner, revision, settings: &self.settings.lease, forgotten_to_ns, now }
    }

    /// Asks for more after an admission, ahead of use: see [`Asking::look_ahead`].
    pub(in crate::engine) fn look_ahead(
        &self,
        asking: Asking<'_>,
        ask: &QuotaAsk<'_>,
        slots: &mut [Slot],
    ) {
        if let Some(slot) = slots.get_mut(ask.slot).filter(|_| !ask.is_dropped()) {
            asking.look_ahead(ask.quota, slot, ask.row.period, |need, haste| {
                self.queue_prefetch(need, haste)
            });
        }
    }

    /// Is there room for it?
    fn queue_prefetch(&self, need: Need, haste: Haste) -> bool {
        let mut queue = self.prefetches.lock();
        let has_room = queue.len() < self.settings.lease.max_prefetches;
        if has_room {
            queue.push(need);
            self.has_prefetches.store(true, Ordering::Release);
            if haste == Haste::Much {
                self.has_urgent_prefetches.store(true, Ordering::Release);
            }
        } else {
            self.dropped_prefetches.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Is there something for [`Self::take_prefetches`]? Costs nothing: ask it after every
    /// admission.
    pub fn has_prefetches(&self) -> bool {
        self.has_prefetches.load(Ordering::Acquire)
    }

    /// Should they be taken at once? Else it does no harm to let others join them for some
    /// milliseconds: what is held lasts much longer.
    pub fn has_urgent_prefetches(&self) -> bool {
        self.has_urgent_prefetches.load(Ordering::Acquire)
    }

    /// What should be leased ahead of use since the last call. Nobody waits for it.
    pub fn take_prefetches(&self) -> Vec<Need> {
        let mut queue = self.prefetches.lock();
        self.has_prefetches.store(false, Ordering::Release);
        self.has_urgent_prefetches.store(false, Ordering::Release);
        std::mem::take(&mut *queue)
    }

    /// The first units of a counter that was restored, so that its first request need not wait.
    /// `None`: it needs none.
    pub(in crate::engine) fn warm(
        &self,
        quota: &CompiledQuota,
        counter: &CounterIdentity,
        period: Period,
        revision: u64,
        now: Now,
    ) -> Option<Need> {
        self.find(counter, |entry, slot, forgotten_to_ns| {
            let Slot { count, leases, .. } = slot;
            let room = Room::of(&count.row(period.start_ns)?, quota);
            if quota.charge == Charge::AtReport
                || !period.contains(now.unix_ns)
                || (room.remaining == 0 && !room.may_pass)
            {
                return None;
            }
            let number = leases.counter;
            let want = leases.want(&self.settings.lease, room, leases.held(period.start_ns)?, 0);
            let asking = self.asking(&entry.owner, revision, forgotten_to_ns, now);
            Some(asking.need(quota, number, leases.held_mut(period.start_ns)?, period, want))
        })?
    }
}

/// How long before the end of a period the next one's first units are asked for: spread over the
/// last 5 minutes, or the last tenth.
fn lead_ns(number: u64, period: Period) -> u64 {
    let spread_ns = (period.length_ns() / 10).min(300 * SECOND_NS);
    let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    spread_ns / 1024 * (place + 1)
}
