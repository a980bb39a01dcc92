//! Asking for units: what is written into a need, and when more is asked for than one check takes.

use super::LeaseSettings;
use super::books::Slot;
use super::held::{Held, Room};
use super::lease::{Haste, Need};
use super::under::Owner;
use crate::decide::calendar::Period;
use crate::decide::compiled::CompiledQuota;
use crate::decide::ledger::CounterId;
use crate::decide::plan::{Charge, OnBreach};
use crate::decide::quota::Row;
use crate::decide::time::{Now, SECOND_NS};

impl Room {
    pub(super) fn of(row: &Row, quota: &CompiledQuota) -> Self {
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
pub(super) struct Asking<'e> {
    pub(super) owner: &'e Owner,
    pub(super) revision: u64,
    pub(super) settings: &'e LeaseSettings,
    /// See [`super::held::Leases::hold`].
    pub(super) forgotten_to_ns: u64,
    pub(super) now: Now,
}

impl Asking<'_> {
    /// Writes a need, and that it was asked for.
    pub(super) fn need(
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
    pub(super) fn look_ahead(
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

/// How long before the end of a period the next one's first units are asked for: spread over the
/// last 5 minutes, or the last tenth.
fn lead_ns(number: u64, period: Period) -> u64 {
    let spread_ns = (period.length_ns() / 10).min(300 * SECOND_NS);
    let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    spread_ns / 1024 * (place + 1)
}
