//! Random work with crashes, against a plain reading of what a ledger promises.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 20;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A holder spends some of what it has, and asks for more.
    Lease {
        holder: usize,
        counter: usize,
        spend: u64,
        more: u64,
    },
    GiveBack {
        holder: usize,
        counter: usize,
        spend: u64,
    },
    /// A report of a 5xx, new or sent again.
    Refund {
        counter: usize,
        seq: u64,
    },
    Grant {
        counter: usize,
        change: Grant,
    },
    /// The process ends without a word, and starts again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let (holder, counter) = (0..2usize, 0..2usize);
    prop_oneof![
        6 => (holder.clone(), counter.clone(), 0..6u64, 0..8u64)
            .prop_map(|(holder, counter, spend, more)| Step::Lease { holder, counter, spend, more }),
        2 => (holder, counter.clone(), 0..6u64).prop_map(|(holder, counter, spend)| Step::GiveBack { holder, counter, spend }),
        3 => (counter.clone(), 0..8u64).prop_map(|(counter, seq)| Step::Refund { counter, seq }),
        1 => (counter.clone(), 0..6u64).prop_map(|(counter, units)| Step::Grant { counter, change: Grant::Add(units) }),
        1 => (counter, 0..6u64).prop_map(|(counter, units)| Step::Grant { counter, change: Grant::SetRemaining(units) }),
        1 => Just(Step::Crash),
    ]
}

/// What a holder knows of a counter. Lost in a crash.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    leased: u64,
    spent: u64,
}

/// What was told, by anyone, of one counter.
#[derive(Debug, Default)]
struct Told {
    /// By holder and epoch: leased and not given back, and told to be spent.
    shares: HashMap<Holder, Held>,
    refunded: u64,
    granted: i64,
    /// Admitted in truth, also what a crash made everyone forget.
    admitted: u64,
}

impl Told {
    fn charged(&self) -> u64 {
        self.shares.values().map(|share| share.leased).sum::<u64>() - self.refunded
    }

    fn allowed(&self) -> u64 {
        LIMIT.saturating_add_signed(self.granted)
    }
}

struct World {
    bench: Bench,
    holders: [Holder; 2],
    held: HashMap<(usize, usize), Held>,
    told: [Told; 2],
    marks: HashSet<u64>,
    ids: [CounterId; 2],
}

impl World {
    fn new(bench: Bench) -> Self {
        let holders = [bench.join(1), bench.join(2)];
        let ids = [0, 1]
            .map(|counter| bench.one(Self::request(holders[0], counter, 0, 0)).unwrap().counter);
        Self {
            bench,
            holders,
            held: HashMap::new(),
            told: Default::default(),
            marks: HashSet::new(),
            ids,
        }
    }

    fn request(holder: Holder, counter: usize, spent: u64, want: u64) -> LeaseRequest {
        let counter = Counter::Named(identity(["acme", "umbrella"][counter]));
        LeaseRequest { counter, spent, limit: LIMIT, ..lease(holder, want) }
    }

    fn spend(&mut self, holder: usize, counter: usize, units: u64) -> Held {
        let held = self.held.entry((holder, counter)).or_default();
        let units = units.min(held.leased - held.spent);
        held.spent += units;
        self.told[counter].admitted += units;
        *held
    }

    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Lease { holder, counter, spend, more } => {
                self.lease(holder, counter, spend, more)
            }
            Step::GiveBack { holder, counter, spend } => self.give_back(holder, counter, spend),
            Step::Refund { counter, seq } => self.refund(counter, seq),
            Step::Grant { counter, change } => self.grant(counter, change),
            Step::Crash => {
                self.bench = self.bench.reopened();
                self.holders = [self.bench.join(1), self.bench.join(2)];
                self.held.clear();
            }
        }
        self.agree();
        self
    }

    fn lease(&mut self, holder: usize, counter: usize, spend: u64, more: u64) {
        let held = self.spend(holder, counter, spend);
        let told = &mut self.told[counter];
        let room = told.allowed().saturating_sub(told.charged());
        let expected = held.leased + more.min(room);
        let request = Self::request(self.holders[holder], counter, held.spent, held.leased + more);
        let lease = self.bench.one(request.clone()).unwrap();
        assert_eq!(lease.leased, expected);
        assert_eq!(self.bench.one(request).unwrap().leased, expected, "a repeat");
        let now = Held { leased: lease.leased, ..held };
        told.shares.insert(self.holders[holder], now);
        self.held.insert((holder, counter), now);
    }

    fn give_back(&mut self, holder: usize, counter: usize, spend: u64) {
        let held = self.spend(holder, counter, spend);
        let give_back = GiveBack {
            counter: self.ids[counter],
            period_start_s: DAY.start_s(),
            holder: self.holders[holder],
            spent: held.spent,
        };
        for expected in [held.leased - held.spent, 0] {
            assert_eq!(self.bench.one(give_back).returned, expected);
        }
        let now = Held { leased: held.spent, spent: held.spent };
        if held.leased > 0 {
            self.told[counter].shares.insert(self.holders[holder], now);
        }
        self.held.insert((holder, counter), now);
    }

    /// Only what was admitted can be reported.
    fn refund(&mut self, counter: usize, seq: u64) {
        let fresh = !self.marks.contains(&seq);
        if fresh && self.told[counter].admitted == self.told[counter].refunded {
            return;
        }
        let settled =
            self.bench.one(settle(Holder { id: 1, epoch: 1 }, seq, &[(self.ids[counter], -1)]));
        assert_eq!(matches!(settled, Settled::Done(_)), fresh, "{settled:?}");
        if self.marks.insert(seq) {
            self.told[counter].refunded += 1;
        }
    }

    fn grant(&mut self, counter: usize, change: Grant) {
        let request = GrantRequest {
            counter: Counter::Known(self.ids[counter]),
            period: DAY,
            change,
            limit: LIMIT,
            now_s: NOON,
            once: None,
        };
        let told = &mut self.told[counter];
        told.granted = match change {
            Grant::Add(units) => told.granted + units.cast_signed(),
            Grant::SetRemaining(units) => {
                (told.charged() + units).cast_signed() - LIMIT.cast_signed()
            }
            Grant::Reset => told.charged().cast_signed(),
        };
        assert_eq!(self.bench.one(request).unwrap().balance.unwrap().granted, told.granted);
    }

    /// The ledger says what it was told, and never more was admitted than allowed.
    fn agree(&self) {
        let rows = self.bench.ledger.usage(&Scope::All, 0, u64::MAX).unwrap();
        for (row, told) in rows.iter().zip(&self.told) {
            assert_eq!((row.charged, row.granted), (told.charged(), told.granted));
            assert!(row.charged <= told.allowed(), "{row:?}");
            assert!(told.admitted - told.refunded <= told.allowed(), "{told:?}");
            let unspent = |living: bool| {
                let shares = told
                    .shares
                    .iter()
                    .filter(|(holder, _)| self.holders.contains(holder) == living);
                shares.map(|(_, share)| share.leased - share.spent).sum::<u64>()
            };
            assert_eq!((row.held, row.lost), (unspent(true), unspent(false)));
        }
        assert_eq!(rows.len(), 2);
    }
}

fn run(bench: Bench, steps: Vec<Step>) {
    steps.into_iter().fold(World::new(bench), World::step);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_ledger_in_memory_keeps_what_it_promises(steps in prop::collection::vec(step(), 1..60)) {
        run(Bench::memory(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_ledger_in_a_file_keeps_what_it_promises_through_crashes(steps in prop::collection::vec(step(), 1..60)) {
        run(Bench::file(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_ledger_in_postgres_keeps_what_it_promises_through_crashes(steps in prop::collection::vec(step(), 1..60)) {
        run(Bench::postgres(), steps);
    }
}
