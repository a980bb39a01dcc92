//! An engine, the naive ledger behind it, and what stands between them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::desk::Desk;
use super::super::world::{World, request, settings};
use crate::decide::ledger::{
    Balance, CounterId, CounterIdentity, GiveBack, Holder, Lease, Mark, PeriodRow, Settle,
};
use crate::decide::outcome::{CountRule, Outcome};
use crate::decide::quota::{Grant, Row};
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::Decision;
use crate::engine::leases::LeaseBook;
use crate::engine::plans::PlanExtra;
use crate::engine::plans::settle::{Change, Committed, Correction, ReportCharge, Settled};
use crate::engine::plans::{
    CheckInput, GrantPlan, LeaseSettings, PlanEngine, QuotaUsage, Report, ReportSubject, Settings,
    Settlement,
};
use crate::engine::plans::{Checked, Need, Shortage};
use crate::testkit::plans::AsksPlans;

/// A ledger in maps. It does what it is told, in order, at once.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) rows: BTreeMap<(u64, u64), Kept>,
    numbers: HashMap<CounterIdentity, u64>,
    rules: Vec<CountRule>,
    marks: HashSet<Mark>,
    /// Leases that were asked for.
    pub(crate) asked: usize,
}

/// One counter in one period.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) counter: CounterIdentity,
    pub(crate) period: crate::decide::calendar::Period,
    pub(crate) charged: u64,
    pub(crate) granted: i64,
    /// By epoch.
    pub(crate) leased: BTreeMap<u32, u64>,
    /// Units of them that were told to be spent.
    told: BTreeMap<u32, u64>,
}

impl Ledger {
    fn row(
        &mut self,
        counter: &CounterIdentity,
        period: crate::decide::calendar::Period,
    ) -> (u64, &mut Kept) {
        let next = self.numbers.len() as u64 + 1;
        let number = *self.numbers.entry(counter.clone()).or_insert(next);
        let fresh = || Kept {
            counter: counter.clone(),
            period,
            charged: 0,
            granted: 0,
            leased: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        (number, self.rows.entry((number, period.start_ns / SECOND_NS)).or_insert_with(fresh))
    }

    pub(crate) fn lease(&mut self, epoch: u32, need: &Need) -> Lease {
        self.asked += 1;
        let rule = self.rules.iter().position(|known| *known == need.rule).unwrap_or_else(|| {
            self.rules.push(need.rule);
            self.rules.len() - 1
        });
        let (counter, row) = self.row(&need.counter, need.period);
        assert!(need.number.is_none_or(|number| number == CounterId(counter)));
        let leased = row.leased.entry(epoch).or_default();
        let told = row.told.entry(epoch).or_default();
        *told = (*told).max(need.spent.min(*leased));
        let left = need.limit.saturating_add_signed(row.granted).saturating_sub(row.charged);
        let more = need.want.saturating_sub(*leased);
        let more = if need.may_pass { more } else { more.min(left) };
        (*leased, row.charged) = (*leased + more, row.charged + more);
        Lease {
            counter: CounterId(counter),
            rule: rule.try_into().unwrap(),
            leased: *leased,
            spent: *told,
            balance: Balance { charged: row.charged, granted: row.granted, others: 0 },
        }
    }

    /// The periods that go on.
    pub(crate) fn live(&self, now: Now) -> Vec<PeriodRow> {
        let live = self.rows.iter().filter(|(_, kept)| kept.period.end_ns > now.unix_ns);
        live.map(|((number, _), kept)| {
            let Kept { counter, period, charged, granted, .. } = kept;
            PeriodRow {
                counter: CounterId(*number),
                identity: counter.clone(),
                period: *period,
                charged: *charged,
                granted: *granted,
                lost: 0,
                held: 0,
                active_s: 0,
            }
        })
        .collect()
    }

    pub(crate) fn give_back(&mut self, epoch: u32, back: &GiveBack) {
        let Some(row) = self.rows.get_mut(&(back.counter.0, back.period_start_s)) else {
            return assert_eq!(back.spent, 0, "spent what was never leased");
        };
        let leased = row.leased.entry(epoch).or_default();
        assert!(back.spent <= *leased, "more was spent than leased");
        row.charged -= *leased - back.spent;
        *leased = back.spent;
        row.told.insert(epoch, back.spent);
    }

    pub(crate) fn commit(&mut self, correction: &Correction) -> Vec<Committed> {
        let one = |change: &Change| match change {
            Change::Settle(Settle { mark, .. }) if !self.marks.insert(*mark) => {
                Committed::Duplicate
            }
            Change::Settle(Settle { deltas, .. }) => {
                for delta in deltas {
                    let row = self.rows.get_mut(&(delta.counter.0, delta.period_start_s)).unwrap();
                    row.charged = row.charged.checked_add_signed(delta.units).unwrap();
                }
                Committed::Done
            }
            Change::Charge(ReportCharge { counter, period, units, .. }) => {
                self.row(counter, *period).1.charged += units;
                Committed::Done
            }
        };
        correction.changes.iter().map(one).collect()
    }

    pub(crate) fn grant(&mut self, plan: &GrantPlan) -> Balance {
        let (limit, change) = (i128::from(plan.limit), plan.change);
        let row = self.row(&plan.counter, plan.period).1;
        let granted = match change {
            Grant::Add(units) => i128::from(row.granted) + i128::from(units),
            Grant::SetRemaining(units) => i128::from(row.charged) + i128::from(units) - limit,
            Grant::Reset => i128::from(row.charged),
        };
        row.granted = granted.try_into().unwrap();
        Balance { charged: row.charged, granted: row.granted, others: 0 }
    }
}

impl Kept {
    /// Where nothing of it is held.
    pub(crate) fn usage(&self) -> QuotaUsage {
        let CounterIdentity { subscriber, key, plan, entitlement, quota } = self.counter.clone();
        let row = Row { period: self.period, used: self.charged, granted: self.granted };
        QuotaUsage { subscriber, key, plan, entitlement, quota, limit: None, row, lost: 0 }
    }

    pub(crate) fn length_s(&self) -> u64 {
        self.period.length_ns() / SECOND_NS
    }
}

/// An engine with its ledger.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) ledger: Ledger,
    pub(crate) epoch: u32,
    pub(crate) lease: LeaseSettings,
    /// Decisions that had to wait for the ledger.
    pub(crate) waited: usize,
}

pub(crate) const QUOTA: &str = "gold/all/q";

impl Site {
    /// One subscriber `acme` with one quota: the words behind `quota q`.
    pub(crate) fn new(quota: &str) -> Self {
        Self::with(
            &format!("plan gold\n ent all a\n quota q {quota}\nsub acme gold\nkey k1 acme"),
            LeaseSettings::default(),
        )
    }

    pub(crate) fn with(script: &str, lease: LeaseSettings) -> Self {
        let mut world = World::with(leased(lease, 1));
        world.run(script).unwrap();
        Self { world, ledger: Ledger::default(), epoch: 1, lease, waited: 0 }
    }

    pub(crate) fn now(&self) -> Now {
        self.world.now
    }

    pub(crate) fn ask(&self, key: &str, cost: Option<u64>, shortage: Shortage) -> Checked<'_> {
        let input = CheckInput { cost, ..request(key, "a") };
        self.world.engine.check_or_need(&self.world.catalog, &input, shortage, self.now()).unwrap()
    }

    /// What a check needs; it must need something.
    pub(crate) fn needs(&self, cost: Option<u64>) -> Vec<Need> {
        match self.ask("k1", cost, Shortage::Ask) {
            Checked::Needs(needs) => needs,
            Checked::Decided(decision) => panic!("decided: {:?}", decision.verdict),
        }
    }

    /// Decides from what is in memory; it must be able to.
    pub(crate) fn decided(&self, cost: Option<u64>) -> Decision<'_> {
        match self.ask("k1", cost, Shortage::Ask) {
            Checked::Decided(decision) => decision,
            Checked::Needs(needs) => panic!("needs {needs:?}"),
        }
    }

    pub(crate) fn lease(&mut self, need: &Need) {
        let granted = self.ledger.lease(self.epoch, need);
        self.world.engine.leases().apply_lease(need, &granted, self.world.now);
    }

    /// Checks, waits for the ledger as long as it takes, and has everything leased ahead that the
    /// engine asks for.
    pub(crate) fn check(&mut self, cost: Option<u64>) -> Decision<'static> {
        for _ in 0..4 {
            let needs = match self.ask("k1", cost, Shortage::Ask) {
                Checked::Needs(needs) => Err(needs),
                Checked::Decided(decision) => Ok(decision.into_owned()),
            };
            let needs = match needs {
                Err(needs) => needs,
                Ok(decision) => {
                    self.prefetch();
                    return decision;
                }
            };
            self.waited += 1;
            needs.iter().for_each(|need| self.lease(need));
        }
        panic!("a check that got what it needs needs more");
    }

    pub(crate) fn prefetch(&mut self) {
        let announced = self.world.engine.leases().has_prefetches();
        let needs = self.world.engine.leases().take_prefetches();
        assert_eq!(announced, !needs.is_empty());
        needs.iter().for_each(|need| self.lease(need));
    }

    pub(crate) fn admits(&mut self) -> bool {
        self.check(None).verdict.is_allowed()
    }

    pub(crate) fn settle(&self, receipt: &str, outcome: Outcome, cost: Option<u64>) -> Settled {
        let report = Report { subject: ReportSubject::Receipt(receipt.as_bytes()), outcome, cost };
        PlanEngine::settle(&self.world.engine, &self.world.catalog, &report, self.now())
    }

    /// Settles, and has the ledger commit.
    pub(crate) fn report(
        &mut self,
        receipt: &str,
        outcome: Outcome,
        cost: Option<u64>,
    ) -> Settlement {
        match self.settle(receipt, outcome, cost) {
            Settled::Done(settlement) => settlement,
            Settled::Commit(correction) => {
                let committed = self.ledger.commit(&correction);
                self.world.engine.apply_correction(&correction, &committed, self.now())
            }
        }
    }

    /// Gives back what a list says.
    pub(crate) fn give_back(&mut self, backs: &[GiveBack]) {
        backs.iter().for_each(|back| self.ledger.give_back(self.epoch, back));
        backs.iter().for_each(|back| self.world.engine.leases().gave_back(*back));
    }

    /// Sweeps, and has the engine told what became of the give-backs that it found.
    pub(crate) fn sweep(&self, told: fn(&LeaseBook<PlanExtra>, GiveBack)) {
        PlanEngine::sweep(&self.world.engine, self.now());
        let leases = self.world.engine.leases();
        leases.take_ended().into_iter().for_each(|back| told(leases, back));
    }

    /// The engine is gone; another starts from what the ledger kept.
    pub(crate) fn crash(&mut self) {
        self.epoch += 1;
        self.world.engine = Desk::new(leased(self.lease, self.epoch));
        for (number, rule) in self.ledger.rules.iter().enumerate() {
            self.world.engine.leases().restore_rule(number.try_into().unwrap(), *rule);
        }
        for row in self.restored() {
            self.world.engine.leases().restore(&row, self.world.now).unwrap();
        }
    }

    /// The running periods, as the ledger kept them.
    pub(crate) fn restored(&self) -> Vec<PeriodRow> {
        self.ledger.live(self.world.now)
    }

    /// What the engine shows of the running period.
    pub(crate) fn row(&self) -> Row {
        self.world.usage("acme", QUOTA).unwrap().row
    }

    pub(crate) fn used(&self) -> u64 {
        self.world.used("acme", QUOTA)
    }

    /// What the ledger has charged in the latest period.
    pub(crate) fn charged(&self) -> u64 {
        self.ledger.rows.values().last().map_or(0, |kept| kept.charged)
    }
}

fn leased(lease: LeaseSettings, epoch: u32) -> Settings {
    Settings { lease, holder: Holder { id: 1, epoch }, ..settings() }
}
