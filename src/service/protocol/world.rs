//! Holders, the ledger, and the messages between them. The model adds only what the network and the
//! operators do.

use std::collections::{BTreeMap, BTreeSet, VecDeque, hash_map::DefaultHasher};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use super::{Left, Mutant, Setup};
use crate::decide::calendar::Period;
use crate::decide::compiled::{CompiledPlan, CompiledTarget};
use crate::decide::gcra::RateLimit;
use crate::decide::lookup::Lookup;
use crate::decide::plan::{ApiKey, Entitlement, PeriodUnit, Subscriber};
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::durable_rules::DurableRuleEngine;
use crate::engine::leases::BookSettings;
use crate::engine::plans::{
    Committed, Correction, GrantPlan, LeaseSettings, Memory, Need, PlanEngine, Settings,
};
use crate::ledger::{
    self, Answer, Balance, CounterIdentity, GiveBack, Holder, Lease, Ledger, MemoryLedger,
    Operation,
};
use crate::testkit::declared::{entitlement, key, plan, quota, subscriber};

pub(super) const MINUTE_S: u64 = 60;
/// A full minute.
const START_S: u64 = 1_795_341_600;

/// One plan with one quota, as one revision of the catalog has it.
#[derive(Debug)]
pub(super) struct Shop {
    plan: CompiledPlan,
    subscriber: Subscriber,
    key: ApiKey,
    revision: u64,
}

impl Shop {
    fn new(limit: u64, revision: u64) -> Self {
        let quotas = vec![quota("q", limit, PeriodUnit::Minute)];
        let entitlement = Entitlement { quotas, ..entitlement("all", &["a"]) };
        let plan = plan("gold", vec![entitlement]);
        let (subscriber, key) = (subscriber("acme", &["gold"]), key("k", "acme"));
        Self { plan: CompiledPlan::new(Arc::new(plan)).unwrap(), subscriber, key, revision }
    }
}

impl Lookup for Shop {
    fn api_key(&self, _: &[u8]) -> Option<&ApiKey> {
        Some(&self.key)
    }
    fn subscriber(&self, _: &str) -> Option<&Subscriber> {
        Some(&self.subscriber)
    }
    fn plan(&self, _: &str) -> Option<&CompiledPlan> {
        Some(&self.plan)
    }
    fn target(&self, _: &str) -> Option<&CompiledTarget> {
        None
    }
    fn account(&self) -> Option<&RateLimit> {
        None
    }
    fn revision(&self) -> u64 {
        self.revision
    }
}

/// A question on its way to the ledger.
#[derive(Clone)]
pub(super) enum Message {
    Lease(Need),
    GiveBack(GiveBack),
    Settle(Rc<Correction>),
    /// What is left of a settlement where the mark goes apart.
    Mark(Rc<Correction>),
    Grant(GrantPlan),
}

/// An answer on its way back.
#[derive(Clone)]
pub(super) enum Reply {
    Lease(Need, Lease),
    GaveBack(GiveBack),
    Settled(Rc<Correction>, Committed),
    Granted(GrantPlan, Balance),
}

/// What one holder has beside its engine.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) holder: Holder,
    /// The edit has come to it.
    pub(super) edited: bool,
    /// Let go of, and not on its way yet.
    pub(super) unsent: Vec<GiveBack>,
    pub(super) queue: VecDeque<Message>,
    pub(super) replies: Vec<Reply>,
    /// Give-backs of the edit that were not answered yet.
    pub(super) returning: usize,
    /// The ledger's number of the counter has come.
    pub(super) named: bool,
}

/// A receipt, and what was told of it.
#[derive(Clone, Hash)]
pub(super) struct Ticket {
    pub(super) text: String,
    pub(super) start_s: u64,
}

/// What really happened in one period.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Truth {
    pub(super) admitted: u64,
    pub(super) refunded: u64,
    /// By the holder and epoch that admitted it.
    pub(super) spent: BTreeMap<Holder, u64>,
    /// What was admitted and not refunded when the lowered limit was acknowledged.
    pub(super) at_edit: u64,
}

/// All but the engines and the ledger.
#[derive(Clone)]
pub(super) struct Rest {
    pub(super) left: Left,
    pub(super) now: Now,
    pub(super) posts: Vec<Post>,
    /// Questions of the dead that still arrive.
    pub(super) orphans: VecDeque<Operation>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) truths: BTreeMap<u64, Truth>,
    pub(super) refunds: BTreeSet<(u32, u32, u64)>,
    /// The limit of the newest revision that the ledger leased by.
    pub(super) newest: (u64, u64),
    /// Stopped or dead.
    pub(super) gone: BTreeSet<Holder>,
    /// The edit was made, and it was acknowledged.
    pub(super) lower: bool,
    pub(super) acknowledged: bool,
    /// Receipts whose report was answered.
    pub(super) marked: BTreeSet<(u32, u32, u64)>,
    /// What changed a balance in the ledger, and nobody who lives has learned of.
    pub(super) unheard: BTreeSet<(u32, u32, u64)>,
}

#[derive(Clone)]
pub(super) struct Image {
    rest: Rest,
    engines: Vec<Memory>,
    ledger: ledger::Image,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) shops: [Shop; 2],
    pub(super) counter: CounterIdentity,
    pub(super) engines: Vec<PlanEngine>,
    /// Nothing is counted there.
    rules: DurableRuleEngine,
    pub(super) ledger: MemoryLedger,
    pub(super) rest: Rest,
}

fn engine(holder: Holder) -> PlanEngine {
    let settings =
        Settings { holder, lease: LeaseSettings::default(), ..Settings::new([7; 32], [9; 16]) };
    PlanEngine::new(settings)
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let shops = [Shop::new(setup.limit, 1), Shop::new(setup.lowered, 2)];
        let ledger = MemoryLedger::new().unwrap();
        let ids = 1..=u32::try_from(setup.holders).unwrap();
        let holders: Vec<Holder> = ids.map(|id| ledger.join(id).unwrap()).collect();
        let post = |&holder: &Holder| Post {
            holder,
            edited: false,
            unsent: vec![],
            queue: VecDeque::new(),
            replies: vec![],
            returning: 0,
            named: false,
        };
        let unix_ns = (START_S + MINUTE_S) * SECOND_NS - setup.before_end_ms * 1_000_000;
        let rest = Rest {
            left: setup.left,
            now: Now { unix_ns, steady_ns: 1_000 * SECOND_NS },
            posts: holders.iter().map(post).collect(),
            orphans: VecDeque::new(),
            tickets: vec![],
            truths: BTreeMap::new(),
            refunds: BTreeSet::new(),
            newest: (0, setup.limit),
            gone: BTreeSet::new(),
            lower: false,
            acknowledged: false,
            marked: BTreeSet::new(),
            unheard: BTreeSet::new(),
        };
        let quota = Arc::clone(&shops[0].plan.entitlement("all").unwrap().quotas[0].identity);
        let counter = CounterIdentity {
            subscriber: "acme".into(),
            key: None,
            plan: "gold".into(),
            entitlement: "all".into(),
            quota,
        };
        Self {
            setup,
            shops,
            counter,
            rules: DurableRuleEngine::new([9; 16], BookSettings::new(holders[0])),
            engines: holders.into_iter().map(engine).collect(),
            ledger,
            rest,
        }
    }

    pub(super) fn image(&self) -> Image {
        let engines = self.engines.iter().map(|engine| engine.memory(&self.counter)).collect();
        Image { rest: self.rest.clone(), engines, ledger: self.ledger.image() }
    }

    pub(super) fn return_to(&mut self, image: &Image) {
        self.rest = image.rest.clone();
        self.ledger.return_to(&image.ledger);
        for ((engine, memory), post) in
            self.engines.iter_mut().zip(&image.engines).zip(&image.rest.posts)
        {
            engine.return_to(post.holder.epoch, &self.counter, memory, image.rest.now);
        }
    }

    /// A hash of all that decides what can follow, and what must hold.
    pub(super) fn imprint(&self) -> u64 {
        let mut into = DefaultHasher::new();
        let rest = &self.rest;
        self.ledger.imprint(&mut into);
        (
            rest.left,
            rest.now.unix_ns,
            &rest.tickets,
            &rest.truths,
            &rest.refunds,
            rest.newest,
            &rest.gone,
        )
            .hash(&mut into);
        (rest.lower, rest.acknowledged, &rest.marked, &rest.unheard).hash(&mut into);
        format!("{:?}", rest.orphans).hash(&mut into);
        for (engine, post) in self.engines.iter().zip(&rest.posts) {
            engine.imprint(&self.counter, rest.now, &mut into);
            (
                post.holder,
                post.edited,
                post.returning,
                post.named,
                post.queue.len(),
                post.unsent.len(),
            )
                .hash(&mut into);
            post.unsent.iter().for_each(|back| hash_back(*back, &mut into));
            post.queue.iter().for_each(|message| hash_message(engine, message, &mut into));
            // Answers come in any order.
            let mut replies: Vec<u64> =
                post.replies.iter().map(|reply| hash_reply(engine, reply)).collect();
            replies.sort_unstable();
            replies.hash(&mut into);
        }
        into.finish()
    }

    pub(super) fn shop(&self, place: usize) -> &Shop {
        &self.shops[usize::from(self.rest.posts[place].edited)]
    }

    pub(super) fn start_s(&self) -> u64 {
        self.rest.now.unix_s() / MINUTE_S * MINUTE_S
    }

    /// Another life of a holder: it knows what the ledger kept.
    pub(super) fn start(&mut self, place: usize) {
        let id = self.rest.posts[place].holder.id;
        let holder = if self.setup.mutant == Some(Mutant::SameEpoch) {
            self.rest.posts[place].holder
        } else {
            self.ledger.join(id).unwrap()
        };
        self.engines[place].return_to(holder.epoch, &self.counter, &Memory::blank(), self.rest.now);
        let edited = self.rest.lower;
        self.rest.posts[place] = Post {
            holder,
            edited,
            unsent: vec![],
            queue: VecDeque::new(),
            replies: vec![],
            returning: 0,
            named: !self.ledger.books().is_empty(),
        };
        let needs = crate::service::restore::restore(
            &self.engines[place],
            &self.rules,
            &self.ledger,
            &self.shops[usize::from(edited)],
            self.rest.now,
        )
        .unwrap();
        self.rest.posts[place].queue.extend(needs.into_iter().map(Message::Lease));
    }

    /// The ledger does one thing, less what a mutant leaves out.
    pub(super) fn commit(&mut self, operation: Operation) -> Result<Answer, String> {
        let (before, limit) = (
            self.ledger.books(),
            if let Operation::Lease(request) = &operation { request.limit } else { 0 },
        );
        let operation = self.mutated(operation);
        let answer = self.ledger.commit(std::slice::from_ref(&operation)).unwrap().remove(0);
        if let (Operation::Settle(settle), Answer::Settle(ledger::Settled::Done(_))) =
            (&operation, &answer)
        {
            for delta in &settle.deltas {
                self.rest.truths.entry(delta.period_start_s).or_default().refunded +=
                    delta.units.unsigned_abs();
            }
            let mark = settle.mark;
            let name = (mark.holder.id, mark.holder.epoch, mark.seq & 0xff);
            if !settle.deltas.is_empty() && !self.rest.refunds.insert(name) {
                return Err("one request was refunded twice".to_owned());
            }
        }
        if let Answer::Lease(Ok(_)) = &answer {
            self.leased(limit, &before)?;
        }
        Ok(answer)
    }

    /// What is leased is leased by the newest limit that the ledger has seen.
    fn leased(&mut self, limit: u64, before: &[ledger::Book]) -> Result<(), String> {
        let revision = if limit == self.setup.lowered && self.rest.lower { 2 } else { 1 };
        if revision > self.rest.newest.0 {
            self.rest.newest = (revision, limit);
        }
        for book in self.ledger.books() {
            let charged = before
                .iter()
                .find(|before| before.start_s == book.start_s)
                .map_or(0, |before| before.charged);
            let allowed = self.rest.newest.1.saturating_add_signed(book.granted);
            if book.charged > charged && book.charged > allowed {
                return Err(format!("{} units are charged of {allowed}", book.charged));
            }
        }
        Ok(())
    }

    fn mutated(&self, mut operation: Operation) -> Operation {
        let whole = Period::of_seconds(START_S, START_S + MINUTE_S);
        match (self.setup.mutant, &mut operation) {
            (Some(Mutant::OnePeriod), Operation::Lease(request)) => request.period = whole,
            (Some(Mutant::OnePeriod), Operation::GiveBack(back)) => back.period_start_s = START_S,
            (Some(Mutant::NotCumulative), Operation::Lease(request)) => {
                let shares = self
                    .ledger
                    .books()
                    .into_iter()
                    .filter(|book| book.start_s == request.period.start_s());
                let mut shares = shares
                    .flat_map(|book| book.shares)
                    .filter(|(holder, ..)| *holder == request.holder);
                // Of a sum the holder asks for what it has not spent.
                request.want = request.want.saturating_sub(request.spent)
                    + shares.next().map_or(0, |(_, leased, _)| leased);
            }
            (Some(Mutant::NoMark), Operation::Settle(settle)) => {
                settle.mark.seq +=
                    0x100 * (1 + self.rest.refunds.len() as u64 + u64::from(self.rest.left.reports))
            }
            (Some(Mutant::StaleRevision), Operation::Lease(request)) => request.revision = 1,
            (Some(Mutant::OneMore), Operation::Lease(request)) => request.limit += 1,
            (Some(Mutant::ReturnsAll), Operation::GiveBack(back)) => back.spent = 0,
            _ => {}
        }
        operation
    }
}

fn hash_back(back: GiveBack, into: &mut impl Hasher) {
    (back.counter, back.period_start_s, back.spent).hash(into);
}

fn hash_message(engine: &PlanEngine, message: &Message, into: &mut impl Hasher) {
    std::mem::discriminant(message).hash(into);
    match message {
        Message::Lease(need) => engine.imprint_need(need, into),
        Message::GiveBack(back) => hash_back(*back, into),
        Message::Settle(correction) | Message::Mark(correction) => {
            format!("{:?}", correction.changes).hash(into)
        }
        Message::Grant(plan) => hash_grant(plan, into),
    }
}

fn hash_grant(plan: &GrantPlan, into: &mut impl Hasher) {
    (plan.period.start_ns, plan.limit, plan.give_back.is_some()).hash(into);
    plan.give_back.iter().for_each(|back| hash_back(*back, into));
}

fn hash_reply(engine: &PlanEngine, reply: &Reply) -> u64 {
    let into = &mut DefaultHasher::new();
    std::mem::discriminant(reply).hash(into);
    match reply {
        Reply::Lease(need, lease) => {
            engine.imprint_need(need, into);
            let Balance { charged, granted, .. } = lease.balance;
            (lease.counter, lease.leased, charged, granted, lease.spent).hash(into);
        }
        Reply::GaveBack(back) => hash_back(*back, into),
        Reply::Settled(correction, committed) => {
            format!("{:?}", correction.changes).hash(into);
            std::mem::discriminant(committed).hash(into);
        }
        Reply::Granted(plan, balance) => {
            hash_grant(plan, into);
            (balance.charged, balance.granted).hash(into);
        }
    }
    into.finish()
}
