//! What is held of the ledger's units: leased by this engine, spent from that, and how much more to
//! ask for.
//!
//! Amounts are cumulative over the life of the engine, for each period. An answer of the ledger may
//! arrive late, twice, or behind another one, so it is told apart by the round that it was asked
//! in: units count only while nothing was given back since, and the balance only while nothing was
//! corrected or granted since.
//!
//! Of a period that is over, and of whose units the ledger knows all, nothing is remembered. Where
//! the clock steps back into it, the ledger is asked first what was leased and spent in it.

use smallvec::SmallVec;

use super::settings::LeaseSettings;
use crate::decide::calendar::Period;
use crate::decide::few::Few;
use crate::decide::quota::{QuotaCount, Row};

/// Periods without a row of which the ledger may know more, because it did something and never
/// answered: so many are remembered.
const MANY_DOUBTS: usize = 16;

fn take_one(room: &mut usize) -> bool {
    let left = room.checked_sub(1);
    *room = left.unwrap_or_default();
    left.is_some()
}

/// What a slot knows of its counter in the ledger.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(in crate::engine) struct Leases {
    /// The ledger's number of the counter. 0: not known yet.
    pub(in crate::engine) counter: u64,
    /// The ledger's number of the count rule.
    pub(in crate::engine) rule: Option<u16>,
    /// [`Round::backs`] that no question about a forgotten period has.
    first_back: u32,
    pub(in crate::engine) pace: Pace,
    /// By period. At most one for each row of the count.
    held: Few<Held>,
}

/// The units of one period.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Held {
    pub(in crate::engine) start_ns: u64,
    /// Admitted here in this period, all together.
    pub(in crate::engine) spent: u64,
    /// Leased in this period, all together. Below `spent` only where requests were admitted without
    /// a lease.
    pub(in crate::engine) leased: u64,
    /// Until then, by the steady clock, an answer is expected, and nothing is asked for ahead of
    /// use.
    pub(in crate::engine) asked_until_ns: u64,
    pub(in crate::engine) round: Round,
    questions: Questions,
    /// Units that decisions wait for. More than it holds are served in turns.
    waiting: u32,
    /// Give-backs that are on their way to the ledger: until they are there, no answer tells what
    /// may still be spent.
    pub(in crate::engine) giving: u16,
    doubt: Doubt,
    /// The ledger may have leased more for it than is known here.
    pub(in crate::engine) may_have_more: bool,
    /// The ledger does not know yet of all that was admitted here.
    untold: bool,
    /// The first units of the next period were asked for.
    pub(in crate::engine) ahead: bool,
    heard: Heard,
    closing: Closing,
}

/// Is the balance what the ledger would tell?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) enum Doubt {
    #[default]
    None,
    /// It may be wrong until the ledger tells it: a refusal is asked about first.
    Refusals,
    /// More may have been charged than is known here, by a correction whose answer was lost: an
    /// admission is asked about first, too.
    All,
}

/// What the ledger has told of the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Heard {
    #[default]
    Nothing,
    /// Nothing since more was spent here in this period, and forgotten: the ledger knows how much.
    NothingSinceForgotten,
    /// It keeps a row that corrections can change.
    Balance,
}

/// Has the ledger been told what was spent, at a time when no question was on its way?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Closing {
    #[default]
    Open,
    /// It is being told.
    Underway,
    Closed,
}

/// Questions that were asked and are not answered: a bit for each of the last 24, and above them
/// the number of the next one.
#[derive(Clone, Copy, Debug, Default)]
struct Questions(u32);

const QUESTIONS: u32 = 24;

/// The number of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Question(u32);

/// How often something happened that makes earlier answers old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Round {
    /// Units were given back: what an earlier answer leased may be gone.
    backs: u32,
    /// The balance was corrected, granted to, or given back to: an earlier answer tells an old one.
    changes: u32,
}

/// How many units are spent in [`LeaseSettings::chunk_ns`], about.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct Pace {
    since_ns: u64,
    /// Units. A pace beyond what these hold asks for no more ahead of use than they hold.
    units: u32,
    before: u32,
}

/// What there is to share out in a period.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Room {
    /// The limit with its grants.
    pub(in crate::engine) allowance: u64,
    pub(in crate::engine) remaining: u64,
    pub(in crate::engine) may_pass: bool,
}

impl Questions {
    fn ask(&mut self) -> Question {
        let number = self.0 >> QUESTIONS;
        self.0 = self.open() | (1 << number) | ((number + 1) % QUESTIONS) << QUESTIONS;
        Question(number)
    }

    fn answered(&mut self, Question(number): Question) {
        self.0 &= !(1 << number);
    }

    fn open(self) -> u32 {
        self.0 & ((1 << QUESTIONS) - 1)
    }
}

impl Leases {
    pub(in crate::engine) fn held(&self, start_ns: u64) -> Option<&Held> {
        self.held.iter().rev().find(|held| held.start_ns == start_ns)
    }

    pub(in crate::engine) fn held_mut(&mut self, start_ns: u64) -> Option<&mut Held> {
        self.held.iter_mut().rev().find(|held| held.start_ns == start_ns)
    }

    /// What is held of a period, from now on. What belongs to no row of the count is dropped,
    /// unless the ledger may know more of it. `forgotten_to_ns`: a period that ended by then, and
    /// of which nothing is held, may have been forgotten.
    pub(in crate::engine) fn hold(
        &mut self,
        period: Period,
        forgotten_to_ns: u64,
        count: &QuotaCount,
    ) -> &mut Held {
        let start_ns = period.start_ns;
        let place =
            self.held.iter().position(|held| held.start_ns == start_ns).unwrap_or_else(|| {
                let mut room = MANY_DOUBTS;
                self.held.retain(|held| {
                    let kept = count.row(held.start_ns).is_some();
                    kept || held.asked_until_ns != 0
                        || ((held.may_have_more || held.doubts(Doubt::Refusals))
                            && take_one(&mut room))
                });
                let round = Round { backs: self.first_back, changes: 0 };
                let heard = if period.end_ns <= forgotten_to_ns {
                    Heard::NothingSinceForgotten
                } else {
                    Heard::Nothing
                };
                let last = self.held.len();
                self.held.insert(last, Held { start_ns, round, heard, ..Held::default() });
                last
            });
        // The place was just found or made.
        #[allow(clippy::indexing_slicing)]
        &mut self.held[place]
    }

    pub(in crate::engine) fn all_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.iter_mut()
    }

    /// Forgets what was held and counted of periods that ended by then, as far as the ledger knows
    /// all of it. Gives the end of the last of them.
    pub(in crate::engine) fn forget(
        &mut self,
        count: &mut QuotaCount,
        ended_by_ns: u64,
    ) -> Option<u64> {
        // There may be a thousand, where a ledger was away for long.
        let mut open: SmallVec<[u64; 4]> =
            self.held.iter().filter(|held| !held.is_settled()).map(|held| held.start_ns).collect();
        open.sort_unstable();
        let is_settled = |row: &Row| {
            row.period.end_ns <= ended_by_ns && open.binary_search(&row.period.start_ns).is_err()
        };
        let forgotten: SmallVec<[Period; 4]> =
            count.rows().filter(is_settled).map(|row| row.period).collect();
        let last_ns = forgotten.iter().map(|period| period.end_ns).max()?;
        let is_forgotten = |start_ns: u64| {
            forgotten.binary_search_by_key(&start_ns, |period| period.start_ns).is_ok()
        };
        count.forget(|row| is_forgotten(row.period.start_ns));
        self.held.retain(|held| {
            let forgets = is_forgotten(held.start_ns);
            if forgets {
                self.first_back = self.first_back.max(held.round.backs.saturating_add(1));
            }
            !forgets
        });
        Some(last_ns)
    }

    /// Does the ledger know all that was spent here?
    pub(in crate::engine) fn are_told(&self, count: &QuotaCount) -> bool {
        // Without a row nothing was spent, and without a number nothing was ever leased.
        let untold = |held: &Held| {
            (held.giving > 0 || held.has_news()) && count.row(held.start_ns).is_some()
        };
        self.counter == 0 || !self.held.iter().any(untold)
    }

    /// The most units that may be held unspent, where decisions wait for so many: they are demand
    /// like those that were spent.
    pub(in crate::engine) fn bound(
        &self,
        settings: &LeaseSettings,
        room: Room,
        waiting: u64,
    ) -> u64 {
        let share = (room.allowance / 100).saturating_mul(settings.waste_percent);
        // Past a limit that may be passed there is no last unit to give out exactly.
        let rest = if room.may_pass && room.remaining == 0 { u64::MAX } else { room.remaining / 8 };
        self.pace.units_per_chunk().saturating_add(waiting).min(share).min(rest).max(2)
    }

    /// What to have leased, all together, so that `held` has its bound unspent, or what one request
    /// costs. Those that wait together for more than that are served in turns: a crash in between
    /// must not waste what they asked for.
    pub(in crate::engine) fn want(
        &self,
        settings: &LeaseSettings,
        room: Room,
        held: &Held,
        cost: u64,
    ) -> u64 {
        let units = self.bound(settings, room, held.waiting.into()).max(cost);
        let units = if room.may_pass { units } else { units.min(room.remaining) };
        held.spent.saturating_add(units)
    }
}

impl Held {
    /// May so many units be spent without asking?
    pub(in crate::engine) fn covers(&self, cost: u64, settings: &LeaseSettings) -> bool {
        let allowed = if self.leased == 0 { settings.optimistic_units } else { self.leased };
        self.spent.checked_add(cost).is_some_and(|spent| spent <= allowed)
    }

    pub(in crate::engine) fn unspent(&self) -> u64 {
        self.leased.saturating_sub(self.spent)
    }

    /// Is it time to ask for more, so that nobody has to wait: are fewer than so many left?
    pub(in crate::engine) fn runs_low(&self, left: u64, steady_ns: u64) -> bool {
        self.asked_until_ns <= steady_ns && self.unspent() < left
    }

    pub(in crate::engine) fn ask(&mut self, until_ns: u64) -> Question {
        self.asked_until_ns = until_ns;
        self.may_have_more = true;
        self.closing = Closing::Open;
        self.questions.ask()
    }

    /// A decision waits for so many units.
    pub(in crate::engine) fn wait(&mut self, units: u64) {
        self.waiting = self.waiting.saturating_add(u32::try_from(units).unwrap_or(u32::MAX));
    }

    /// A question was not answered: the ledger may have leased for it.
    pub(in crate::engine) fn unanswered(&mut self, question: Question) {
        self.answered(question);
        self.may_have_more = true;
    }

    /// Takes an answer, or its failure, off what is waited for.
    pub(in crate::engine) fn answered(&mut self, question: Question) {
        self.questions.answered(question);
        self.asked_until_ns = 0;
        self.waiting = 0;
    }

    /// Takes over what the ledger has leased when it was told of so many `spent`, unless units were
    /// given back since it was asked, or are on their way.
    pub(in crate::engine) fn lease(&mut self, leased: u64, spent: u64, asked: Round) {
        self.untold &= spent < self.spent;
        if self.round.backs == asked.backs && self.giving == 0 {
            self.leased = self.leased.max(leased);
            self.may_have_more = false;
        } else {
            self.may_have_more = true;
        }
    }

    /// Would a give-back make sure that the ledger holds nothing for this period that nobody here
    /// knows of? Not while a question is on its way.
    pub(in crate::engine) fn can_close(&self) -> bool {
        !self.resumes()
            && self.closing == Closing::Open
            && self.giving == 0
            && self.questions.open() == 0
    }

    /// Does the ledger know all that was done here, and hold nothing for it?
    pub(in crate::engine) fn is_settled(&self) -> bool {
        let nothing_done = self.resumes() && self.spent == 0 && self.questions.open() == 0;
        nothing_done
            || (self.closing == Closing::Closed && self.leased == self.spent && !self.has_news())
    }

    /// Takes over what was spent in this period before it was forgotten. `false`: the question is
    /// older than that.
    pub(in crate::engine) fn resume(&mut self, spent: u64, asked: Round) -> bool {
        let answers = asked.backs == self.round.backs;
        if answers {
            self.spent = self.spent.saturating_add(spent);
            self.become_known();
        }
        answers
    }

    /// A request was admitted.
    pub(in crate::engine) fn spend(&mut self, units: u64) {
        self.spent = self.spent.saturating_add(units);
        self.untold |= units > 0;
    }

    /// The balance was changed: answers from before tell an old one.
    pub(in crate::engine) fn change_balance(&mut self) {
        self.round.changes = self.round.changes.wrapping_add(1);
        self.doubt_balance(Doubt::Refusals);
    }

    /// The balance may be wrong, until the ledger tells it.
    pub(in crate::engine) fn doubt_balance(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }

    /// The balance is what the ledger has told.
    pub(in crate::engine) fn trust_balance(&mut self) {
        self.doubt = Doubt::None;
    }

    /// Is so much in doubt?
    pub(in crate::engine) fn doubts(&self, what: Doubt) -> bool {
        self.doubt >= what
    }

    /// The ledger has told of this period.
    pub(in crate::engine) fn become_known(&mut self) {
        self.heard = Heard::Balance;
    }

    pub(in crate::engine) fn is_known(&self) -> bool {
        self.heard == Heard::Balance
    }

    /// Was more spent here, and forgotten?
    pub(in crate::engine) fn resumes(&self) -> bool {
        self.heard == Heard::NothingSinceForgotten
    }

    /// Is there something that the ledger should be told of: units to give back, or units that it
    /// would count as lost although they are spent?
    pub(in crate::engine) fn has_news(&self) -> bool {
        // Of what it did before it knows nothing, and must tell nothing.
        !self.resumes() && (self.leased > self.spent || self.may_have_more || self.untold)
    }

    /// Lets go of what is not spent.
    pub(in crate::engine) fn let_go(&mut self) {
        self.untold = false;
        self.leased = self.leased.min(self.spent);
        self.round.backs = self.round.backs.wrapping_add(1);
        self.round.changes = self.round.changes.wrapping_add(1);
    }

    /// A give-back is on its way to the ledger.
    pub(in crate::engine) fn give_back(&mut self) {
        self.giving = self.giving.saturating_add(1);
        self.closing = if self.questions.open() == 0 { Closing::Underway } else { Closing::Open };
    }

    /// The ledger has one of them.
    pub(in crate::engine) fn gave_back(&mut self) {
        self.giving = self.giving.saturating_sub(1);
        // What was asked in the meantime may have been answered before.
        self.round.backs = self.round.backs.wrapping_add(1);
        if self.closing == Closing::Underway && self.giving == 0 {
            (self.closing, self.may_have_more) = (Closing::Closed, false);
        }
    }

    /// The ledger may have one of them, or not.
    pub(in crate::engine) fn give_back_failed(&mut self) {
        self.closing = Closing::Open;
        self.gave_back();
        (self.may_have_more, self.untold) = (true, true);
    }
}

#[cfg(test)]
impl Held {
    /// What it waits for: units, and how many answers.
    pub(in crate::engine) fn waits(&self) -> (u32, u32) {
        (self.waiting, self.questions.open().count_ones())
    }

    pub(in crate::engine) fn knows(&self) -> (Doubt, Heard, Closing, bool) {
        (self.doubt, self.heard, self.closing, self.untold)
    }
}

#[cfg(test)]
impl Round {
    /// Were units given back since, and has the balance changed since?
    pub(in crate::engine) fn compared(self, asked: Self) -> (bool, bool) {
        (self.backs == asked.backs, self.changes == asked.changes)
    }
}

impl Pace {
    pub(in crate::engine) fn count(&mut self, units: u64, steady_ns: u64, chunk_ns: u64) {
        let passed_ns = steady_ns.saturating_sub(self.since_ns);
        if passed_ns >= chunk_ns {
            let mean = self.before / 2 + self.units / 2;
            // Each chunk of time without any halves it again.
            let idle = (passed_ns / chunk_ns.max(1)).saturating_sub(1);
            self.before =
                u32::try_from(idle).ok().and_then(|idle| mean.checked_shr(idle)).unwrap_or(0);
            (self.units, self.since_ns) = (0, steady_ns);
        }
        self.units = self.units.saturating_add(u32::try_from(units).unwrap_or(u32::MAX));
    }

    /// Is a lease of so many units as large as the pace asks for?
    pub(in crate::engine) fn fits(&self, units: u64) -> bool {
        self.units_per_chunk() <= units
    }

    fn units_per_chunk(&self) -> u64 {
        self.before.max(self.units).into()
    }
}
