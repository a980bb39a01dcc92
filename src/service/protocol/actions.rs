//! What can happen next, and what it does.

use std::rc::Rc;

use super::world::{MINUTE_S, Message, Post, Reply, Ticket, World};
use super::{GrantKind, Mutant};
use crate::decide::calendar::Period;
use crate::decide::outcome::Outcome;
use crate::decide::quota::Grant;
use crate::decide::time::SECOND_NS;
use crate::engine::leases::LeaseBook;
use crate::engine::plans::{
    Change, Checked, Committed, Correction, Need, PlanExtra, Report, ReportSubject, Settled,
    Shortage, Subject,
};
use crate::ledger::{Answer, GiveBack, Holder, Mark, Operation, Settle};
use crate::testkit::declared::request;
use crate::testkit::plans::AsksPlans;

/// How an engine is told what became of a give-back.
type Tell = fn(&LeaseBook<PlanExtra>, GiveBack);

/// One thing that happens, to the holder of this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Check(usize),
    /// The first question on its way arrives.
    Arrive(usize),
    /// It arrives, and the holder is told that it failed.
    Lose(usize),
    Fail(usize),
    Twice(usize),
    /// An answer comes, of any that are on their way.
    Answer(usize, usize),
    /// `true`: its questions still arrive.
    Crash(usize, bool),
    /// A question of a dead holder arrives.
    Orphan,
    /// The target failed: the request of this receipt is told of, to this holder.
    Report(usize, usize),
    Grant(usize),
    /// The lowered limit comes to a holder, which lets go of what it has.
    Edit(usize),
    /// What it let go of is sent.
    Send(usize),
    Forth,
    Back,
    Sweep(usize),
    Stop(usize),
}

/// The most questions, and the most answers, that are on their way of one holder.
const ON_THEIR_WAY: usize = 2;

impl World {
    pub(super) fn possible(&self) -> Vec<Act> {
        let left = self.rest.left;
        let mut acts = Vec::new();
        for (place, post) in self.rest.posts.iter().enumerate() {
            let mut may = |may: bool, act: Act| acts.extend(may.then_some(act));
            let room = post.queue.len() < ON_THEIR_WAY;
            let arrives = !post.queue.is_empty() && post.replies.len() < ON_THEIR_WAY;
            let lease =
                matches!(post.queue.front(), Some(Message::Lease(_) | Message::GiveBack(_)));
            may(room && left.checks > 0, Act::Check(place));
            may(arrives, Act::Arrive(place));
            may(arrives && left.lost > 0, Act::Lose(place));
            may(arrives && left.failed > 0, Act::Fail(place));
            may(arrives && left.twice > 0 && lease, Act::Twice(place));
            (0..post.replies.len()).for_each(|reply| may(true, Act::Answer(place, reply)));
            may(left.crashes > 0, Act::Crash(place, false));
            may(left.crashes > 0 && !post.queue.is_empty(), Act::Crash(place, true));
            (0..self.rest.tickets.len())
                .for_each(|ticket| may(room && left.reports > 0, Act::Report(place, ticket)));
            may(room && left.grants > 0, Act::Grant(place));
            may(left.edits > 0 && !post.edited, Act::Edit(place));
            may(room && !post.unsent.is_empty(), Act::Send(place));
            may(left.sweeps > 0, Act::Sweep(place));
            may(left.stops > 0, Act::Stop(place));
        }
        acts.extend((!self.rest.orphans.is_empty()).then_some(Act::Orphan));
        acts.extend((left.forth > 0).then_some(Act::Forth));
        acts.extend((left.back > 0).then_some(Act::Back));
        acts
    }

    pub(super) fn act(&mut self, act: Act) -> Result<(), String> {
        let left = &mut self.rest.left;
        match act {
            Act::Check(_) => left.checks -= 1,
            Act::Lose(_) => left.lost -= 1,
            Act::Fail(_) => left.failed -= 1,
            Act::Twice(_) => left.twice -= 1,
            Act::Crash(..) => left.crashes -= 1,
            Act::Report(..) => left.reports -= 1,
            Act::Grant(_) => left.grants -= 1,
            Act::Edit(_) => left.edits -= 1,
            Act::Forth => left.forth -= 1,
            Act::Back => left.back -= 1,
            Act::Sweep(_) => left.sweeps -= 1,
            Act::Stop(_) => left.stops -= 1,
            Act::Arrive(_) | Act::Answer(..) | Act::Orphan | Act::Send(_) => {}
        }
        match act {
            Act::Check(place) => drop(self.check(place)),
            Act::Arrive(place) => self.arrive(place, 1)?,
            Act::Twice(place) => self.arrive(place, 2)?,
            Act::Lose(place) => {
                let before = self.rest.posts[place].replies.len();
                let message = self.rest.posts[place].queue[0].clone();
                self.arrive(place, 1)?;
                if let Message::Settle(correction) = &message {
                    self.rest.unheard.insert(name(correction));
                }
                self.rest.posts[place].replies.truncate(before);
                self.failed(place, message);
            }
            Act::Fail(place) => {
                let message = self.post(place).queue.pop_front();
                message.into_iter().for_each(|message| self.failed(place, message));
            }
            Act::Answer(place, reply) => self.answer(place, reply),
            Act::Crash(place, arrive) => self.crash(place, arrive),
            Act::Orphan => {
                let Some(orphan) = self.rest.orphans.pop_front() else { return Ok(()) };
                // The next start of the same holder has read the books before.
                let unheard = match &orphan {
                    Operation::Settle(settle) => {
                        Some((settle.mark.holder.id, settle.mark.holder.epoch, settle.mark.seq))
                    }
                    Operation::Grant(_) | Operation::GiveBack(_) => Some((0, 0, 0)),
                    _ => None,
                };
                self.rest.unheard.extend(unheard);
                self.commit(orphan)?;
            }
            Act::Report(place, ticket) => self.report(place, ticket),
            Act::Grant(place) => self.grant(place),
            Act::Edit(place) => self.edit(place),
            Act::Send(place) => self.send(place),
            Act::Forth => self.step(MINUTE_S * SECOND_NS),
            Act::Back => self.rest.now.unix_ns -= MINUTE_S * SECOND_NS,
            Act::Sweep(place) => {
                self.engines[place].sweep(self.rest.now);
                let ended = self.engines[place].leases().take_ended();
                self.post(place).unsent.extend(ended);
            }
            Act::Stop(place) => self.stop(place)?,
        }
        Ok(())
    }

    pub(super) fn post(&mut self, place: usize) -> &mut Post {
        &mut self.rest.posts[place]
    }

    fn step(&mut self, ns: u64) {
        self.rest.now.unix_ns += ns;
        self.rest.now.steady_ns += ns;
    }

    /// Decided, and how? What is missing is asked for.
    pub(super) fn check(&mut self, place: usize) -> Option<bool> {
        let input = request(b"k", "a");
        let (decided, needs) = {
            let checked = self.engines[place]
                .check_or_need(self.shop(place), &input, Shortage::Ask, self.rest.now)
                .unwrap();
            match checked {
                Checked::Decided(decision) => {
                    (Some((decision.verdict.is_allowed(), decision.receipt.clone())), vec![])
                }
                Checked::Needs(needs) => (None, needs),
            }
        };
        let ahead = self.engines[place].leases().take_prefetches();
        let questions: Vec<Need> = needs.into_iter().chain(ahead).collect();
        self.post(place).queue.extend(questions.into_iter().map(Message::Lease));
        let (admitted, receipt) = decided?;
        if admitted {
            let (start_s, holder) = (self.start_s(), self.rest.posts[place].holder);
            let truth = self.rest.truths.entry(start_s).or_default();
            truth.admitted += 1;
            *truth.spent.entry(holder).or_default() += 1;
            let text = receipt.expect("an admission has a receipt");
            // Only where something will be told of it.
            if self.setup.left.reports > 0 {
                self.rest.tickets.push(Ticket { text, start_s });
            }
        }
        Some(admitted)
    }

    pub(super) fn arrive(&mut self, place: usize, times: usize) -> Result<(), String> {
        let Some(message) = self.post(place).queue.pop_front() else { return Ok(()) };
        let (holder, now_s) = (self.rest.posts[place].holder, self.rest.now.unix_s());
        for time in 0..times {
            let reply = match &message {
                Message::Lease(need) => {
                    match self.commit(Operation::Lease(need.request(holder, now_s)))? {
                        Answer::Lease(Ok(lease)) => Some(Reply::Lease(need.clone(), lease)),
                        _ => {
                            self.engines[place].leases().lease_failed(need);
                            None
                        }
                    }
                }
                Message::GiveBack(back) => {
                    self.commit(Operation::GiveBack(*back))?;
                    (time == 0).then_some(Reply::GaveBack(*back))
                }
                Message::Settle(correction) => self.settle(place, correction)?,
                Message::Mark(correction) => {
                    let mark = settle(correction).mark;
                    self.commit(Operation::Settle(Settle { mark, deltas: vec![] }))?;
                    Some(Reply::Settled(Rc::clone(correction), Committed::Done))
                }
                Message::Grant(plan) => {
                    if let Some(back) = plan.give_back {
                        self.commit(Operation::GiveBack(back))?;
                    }
                    match self.commit(Operation::Grant(plan.request(None, now_s)))? {
                        Answer::Grant(Ok(crate::ledger::GrantMade {
                            balance: Some(balance),
                            ..
                        })) => Some(Reply::Granted(plan.clone(), balance)),
                        _ => None,
                    }
                }
            };
            self.post(place).replies.extend(reply);
        }
        Ok(())
    }

    fn settle(
        &mut self,
        place: usize,
        correction: &Rc<Correction>,
    ) -> Result<Option<Reply>, String> {
        let settle = settle(correction);
        if self.setup.mutant != Some(Mutant::MarkApart) {
            let Answer::Settle(settled) = self.commit(Operation::Settle(settle.clone()))? else {
                unreachable!()
            };
            return Ok(Some(Reply::Settled(Rc::clone(correction), Committed::from(&settled))));
        }
        if self.rest.marked.contains(&name(correction)) {
            return Ok(Some(Reply::Settled(Rc::clone(correction), Committed::Duplicate)));
        }
        // The change goes first, under a mark that nobody looks at.
        let mut apart = settle.clone();
        apart.mark.seq += 0x100 * (1 + u64::from(self.rest.left.reports));
        self.commit(Operation::Settle(apart))?;
        self.post(place).queue.push_front(Message::Mark(Rc::clone(correction)));
        Ok(None)
    }

    /// A holder is told that its question was not done.
    fn failed(&mut self, place: usize, message: Message) {
        match message {
            Message::Lease(need) => self.engines[place].leases().lease_failed(&need),
            Message::GiveBack(back) => self.returned(place, back, LeaseBook::give_back_failed),
            Message::Grant(plan) => self.engines[place].grant_failed(&plan),
            // The report is answered as not recorded.
            Message::Settle(_) | Message::Mark(_) => {}
        }
    }

    /// A holder is told what became of a give-back.
    fn returned(&mut self, place: usize, back: GiveBack, tell: Tell) {
        if self.setup.mutant != Some(Mutant::NotFenced) {
            tell(self.engines[place].leases(), back);
        }
        let post = self.post(place);
        post.returning = post.returning.saturating_sub(1);
        self.acknowledge();
    }

    pub(super) fn answer(&mut self, place: usize, reply: usize) {
        let now = self.rest.now;
        match self.post(place).replies.remove(reply) {
            Reply::Lease(mut need, granted) => {
                if self.setup.mutant == Some(Mutant::ForgetPeriod) {
                    let start_ns = self.start_s() * SECOND_NS;
                    need.period = Period { start_ns, end_ns: start_ns + MINUTE_S * SECOND_NS };
                }
                self.engines[place].leases().apply_lease(&need, &granted, now);
                self.post(place).named = true;
            }
            Reply::GaveBack(back) => self.returned(place, back, LeaseBook::gave_back),
            Reply::Settled(correction, committed) => {
                self.rest.marked.insert(name(&correction));
                self.rest.unheard.remove(&name(&correction));
                self.engines[place].apply_correction(&correction, &[committed], now);
            }
            Reply::Granted(plan, balance) => {
                drop(self.engines[place].apply_grant(&plan, balance, now))
            }
        }
    }

    fn crash(&mut self, place: usize, arrive: bool) {
        let (holder, now_s) = (self.rest.posts[place].holder, self.rest.now.unix_s());
        if arrive {
            for message in std::mem::take(&mut self.post(place).queue) {
                self.rest.orphans.extend(operations(&message, holder, now_s));
            }
        }
        self.rest.gone.insert(holder);
        self.start(place);
        self.acknowledge();
    }

    fn report(&mut self, place: usize, ticket: usize) {
        let text = self.rest.tickets[ticket].text.clone();
        let report = Report {
            subject: ReportSubject::Receipt(text.as_bytes()),
            outcome: Outcome::http(503),
            cost: None,
        };
        let settled = self.engines[place].settle(self.shop(place), &report, self.rest.now);
        if let Settled::Commit(correction) = settled {
            self.post(place).queue.push_back(Message::Settle(Rc::new(*correction)));
        }
    }

    fn grant(&mut self, place: usize) {
        let change = match self.setup.grant {
            Some(GrantKind::LeaveOne) => Grant::SetRemaining(1),
            _ => Grant::Add(1),
        };
        let (acme, names) = ("acme".into(), ("gold", "all", "q"));
        let plan = self.engines[place]
            .prepare_grant(
                self.shop(place),
                Subject::Subscriber(&acme),
                names,
                change,
                self.rest.now,
            )
            .unwrap();
        self.post(place).queue.push_back(Message::Grant(plan));
    }

    pub(super) fn edit(&mut self, place: usize) {
        self.rest.lower = true;
        let backs = self.engines[place].take_back("gold");
        if self.setup.mutant == Some(Mutant::NotFenced) {
            backs.iter().for_each(|back| self.engines[place].leases().gave_back(*back));
        }
        let post = self.post(place);
        post.edited = true;
        post.returning = backs.len();
        post.unsent.extend(backs);
        self.acknowledge();
    }

    /// The edit is acknowledged when every holder has it, and nothing that was let go of is on its
    /// way.
    fn acknowledge(&mut self) {
        let here = |post: &Post| post.edited && post.returning == 0;
        if self.rest.lower && !self.rest.acknowledged && self.rest.posts.iter().all(here) {
            self.rest.acknowledged = true;
            for truth in self.rest.truths.values_mut() {
                truth.at_edit = truth.admitted.saturating_sub(truth.refunded);
            }
        }
    }

    fn send(&mut self, place: usize) {
        let post = self.post(place);
        let backs = std::mem::take(&mut post.unsent);
        post.queue.extend(backs.into_iter().map(Message::GiveBack));
    }

    /// Everything that is on its way of one holder arrives.
    pub(super) fn quiet(&mut self, place: usize) -> Result<(), String> {
        self.send(place);
        while !self.rest.posts[place].queue.is_empty() {
            self.arrive(place, 1)?;
            while !self.rest.posts[place].replies.is_empty() {
                self.answer(place, 0);
            }
        }
        while !self.rest.posts[place].replies.is_empty() {
            self.answer(place, 0);
        }
        Ok(())
    }

    /// A clean stop as `LeaseBroker::put_away` makes it, and the next start: what was asked before is
    /// answered between its two halves.
    pub(super) fn stop(&mut self, place: usize) -> Result<(), String> {
        for _ in 0..2 {
            self.send(place);
            let backs = self.engines[place].leases().put_away();
            if self.setup.mutant != Some(Mutant::SilentStop) {
                self.post(place).queue.extend(backs.into_iter().map(Message::GiveBack));
            }
            self.quiet(place)?;
            if self.setup.mutant == Some(Mutant::HalfStop) {
                break;
            }
        }
        self.stopped_clean(place)?;
        let holder = self.rest.posts[place].holder;
        self.rest.gone.insert(holder);
        self.start(place);
        self.acknowledge();
        Ok(())
    }
}

fn name(correction: &Correction) -> (u32, u32, u64) {
    let Mark { holder, seq, .. } = settle(correction).mark;
    (holder.id, holder.epoch, seq)
}

/// What a correction of the model changes: one receipt.
fn settle(correction: &Correction) -> &Settle {
    let Change::Settle(settle) = &correction.changes[0] else { unreachable!() };
    settle
}

fn operations(message: &Message, holder: Holder, now_s: u64) -> Vec<Operation> {
    match message {
        Message::Lease(need) => vec![Operation::Lease(need.request(holder, now_s))],
        Message::GiveBack(back) => vec![Operation::GiveBack(*back)],
        Message::Settle(correction) => vec![Operation::Settle(settle(correction).clone())],
        // The half that came too late.
        Message::Mark(_) => vec![],
        Message::Grant(plan) => {
            let back = plan.give_back.map(Operation::GiveBack);
            back.into_iter().chain([Operation::Grant(plan.request(None, now_s))]).collect()
        }
    }
}
