//! A wall clock that is wrong, at a start and while the service runs: no period has more than its
//! limit, and none is refused for good.

use super::*;
use crate::decide::calendar::Calendar;
use crate::decide::plan::{PeriodUnit, Weekday};
use crate::decide::quota::Grant as Change;
use crate::decide::time::Now;
use crate::grpc::stored::Messages;
use crate::ledger::{Believed, Expire, Scope};
use crate::service::grant::{Grant, GrantAnswer};
use crate::service::grants::Grants;
use crate::service::usage::Usage;
use crate::testkit::{declared, started};

const DAY_S: i64 = 86_400;
/// Noon of 2026-11-30, UTC.
const T_S: u64 = 1_796_040_000;
const LIMIT: usize = 3;
const STEPS_S: [i64; 8] =
    [60, -60, 3 * DAY_S, -3 * DAY_S, 38 * DAY_S, -38 * DAY_S, 450 * DAY_S, -450 * DAY_S];

fn stepped(step_s: i64) -> u64 {
    T_S.checked_add_signed(step_s).unwrap()
}

/// What a service does on its way to another time of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Runs,
    Stops,
    Crashes,
}

/// One service after another over one ledger.
struct House {
    folder: Option<tempfile::TempDir>,
    memory: Arc<dyn Ledger>,
    unit: &'static str,
    told: ToldClock,
    plans: Option<Decisions>,
}

impl House {
    fn new(in_file: bool, unit: &'static str) -> Self {
        let folder = in_file.then(|| tempfile::tempdir().unwrap());
        let told = ToldClock::at(Now { unix_ns: T_S * SECOND_NS, steady_ns: 1 });
        let mut house = Self {
            folder,
            memory: Arc::new(MemoryLedger::new().unwrap()),
            unit,
            told,
            plans: None,
        };
        house.start(settings());
        house
    }

    /// The ledger, as soon as the service before has let go of it.
    fn ledger(&self) -> Arc<dyn Ledger> {
        let Some(folder) = &self.folder else { return self.memory.clone() };
        Arc::new(started::open(folder.path()))
    }

    fn start(&mut self, settings: config::Plans) {
        self.plans = None;
        self.plans = Some(over(settings, self.ledger(), self.told.clock(), self.unit));
    }

    fn at(&self) -> Now {
        self.told.now()
    }

    fn plans(&self) -> &Decisions {
        self.plans.as_ref().unwrap()
    }

    fn broker(&self) -> LeaseBroker {
        self.plans().broker.clone()
    }

    fn go(&mut self, way: Way, unix_s: u64) {
        if way == Way::Stops {
            self.broker().put_away().unwrap();
        }
        self.told.step_to_ns(unix_s * SECOND_NS);
        if way == Way::Runs {
            // As it does now and then.
            (0..2).for_each(|_| self.broker().sweep().unwrap());
        } else {
            self.start(settings());
        }
    }

    async fn peek(&self) -> Option<Reason> {
        let input = CheckInput { cost: Some(0), ..request(KEY, "t") };
        self.plans().check(&input, None, |decision| decision.verdict.reason()).await.unwrap()
    }

    /// How often it is admitted. A peek says before each check what it will say.
    async fn admits(&self, most: usize) -> usize {
        for admitted in 0..most {
            let peeked = self.peek().await;
            let checked = check(self.plans(), None).await;
            assert_eq!(peeked, checked, "after {admitted}");
            match checked {
                None => {}
                Some(Reason::QuotaExceeded) => return admitted,
                Some(other) => panic!("{other:?}"),
            }
        }
        most
    }

    /// What is left, and of how much, as an answer shows it.
    async fn shown(&self) -> (u64, u64) {
        let input = request(KEY, "t");
        self.plans()
            .check(&input, None, |decision| {
                (decision.limits[0].remaining, decision.limits[0].limit)
            })
            .await
            .unwrap()
    }

    async fn grant(&self, grant: &Grant) -> GrantAnswer {
        let plans = self.plans();
        let (engine, catalog) = (plans.engine.clone(), plans.catalog.clone());
        let grants = Grants::new(engine, catalog, self.broker(), plans.clock.clone(), &Messages);
        grants.make(grant, None, self.at()).await.unwrap()
    }

    /// Units used of each period that is listed.
    async fn used(&self) -> Vec<u64> {
        let plans = self.plans();
        let (engine, catalog) = (plans.engine.clone(), plans.catalog.clone());
        let usage = Usage::new(engine, catalog, self.broker(), plans.clock.clone());
        let (rows, _) = usage
            .read_quotas(&Scope::All, 0..=100_000, Default::default(), usize::MAX)
            .await
            .unwrap();
        rows.iter().map(|quota| quota.row.used).collect()
    }

    /// As an older program did with a clock that was 450 days ahead.
    fn drop_all(&mut self) {
        self.broker().put_away().unwrap();
        self.plans = None;
        let to_s = stepped(450 * DAY_S);
        let all =
            Expire { periods_ended_by_s: to_s, marks_issued_before_s: to_s, ..Expire::default() };
        self.ledger().commit(&[crate::ledger::Operation::Expire(all)]).unwrap();
        self.start(settings());
    }
}

fn period(unit: PeriodUnit, at_s: u64) -> u64 {
    Calendar::new(unit, "UTC", Weekday::Monday).unwrap().period(at_s * SECOND_NS).start_ns
}

#[tokio::test]
async fn every_period_has_its_limit_wherever_the_clock_was_in_between() {
    let units = [
        ("MINUTE", PeriodUnit::Minute),
        ("HOUR", PeriodUnit::Hour),
        ("DAY", PeriodUnit::Day),
        ("WEEK", PeriodUnit::Week),
        ("MONTH", PeriodUnit::Month),
        ("YEAR", PeriodUnit::Year),
    ];
    for ((word, unit), in_file) in units.into_iter().flat_map(|unit| [(unit, false), (unit, true)])
    {
        for step_s in STEPS_S {
            for (there, back) in [
                (Way::Runs, Way::Runs),
                (Way::Stops, Way::Runs),
                (Way::Runs, Way::Stops),
                (Way::Crashes, Way::Crashes),
            ] {
                if in_file
                    && ((there, back) == (Way::Runs, Way::Runs)
                        || unit != PeriodUnit::Month
                        || step_s.abs() < DAY_S)
                {
                    continue;
                }
                let mut house = House::new(in_file, word);
                let same = period(unit, T_S) == period(unit, stepped(step_s));
                let why = format!(
                    "{word}, {step_s} s, {there:?} there and {back:?} back, in a file: {in_file}"
                );
                assert_eq!(house.admits(1).await, 1, "{why}");
                house.go(there, stepped(step_s));
                let wrong = house.admits(if same { 1 } else { 2 * LIMIT }).await;
                house.go(back, T_S);
                let right = 1 + house.admits(2 * LIMIT).await;
                let sum = if same { right + wrong } else { right };
                if there == Way::Crashes {
                    // A lease is 2 units at most: what is wasted of it never comes again.
                    assert!(
                        (1..=LIMIT).contains(&sum) && wrong <= LIMIT,
                        "{right} and {wrong}: {why}"
                    );
                } else {
                    assert_eq!((sum, wrong), (LIMIT, if same { 1 } else { LIMIT }), "{why}");
                }
                assert_eq!(house.admits(1).await, 0, "{why}");
                house.go(there, stepped(step_s));
                assert_eq!(house.admits(1).await, 0, "no period begins twice: {why}");
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_several_times_leaves_no_period_behind_that_is_refused() {
    for (word, unit) in
        [("HOUR", PeriodUnit::Hour), ("DAY", PeriodUnit::Day), ("YEAR", PeriodUnit::Year)]
    {
        let house = House::new(false, word);
        assert_eq!(house.admits(1).await, 1);
        for step_s in [3, 38, 450, 900, 1_500].map(|days| days * DAY_S) {
            house.told.step_to_ns(stepped(step_s) * SECOND_NS);
            house.admits(1).await;
        }
        // Periods between those that were seen, and those that were.
        for step_s in [0, DAY_S, 37 * DAY_S, 38 * DAY_S, 449 * DAY_S] {
            house.told.step_to_ns(stepped(step_s) * SECOND_NS);
            assert!(
                house.admits(1).await == 1 || unit == PeriodUnit::Year,
                "{word}, after {} days",
                step_s / DAY_S
            );
        }
    }
}

#[tokio::test]
async fn a_start_knows_that_periods_which_are_over_were_counted_before_it() {
    for optimistic_units in [0, 2] {
        for in_file in [false, true] {
            let mut house = House::new(in_file, "DAY");
            assert_eq!(house.admits(9).await, LIMIT);
            house.broker().put_away().unwrap();
            house.told.step_to_ns(stepped(DAY_S) * SECOND_NS);
            let lease = LeaseSettings { optimistic_units, ..settings().lease };
            house.start(config::Plans { lease, ..settings() });
            house.told.step_to_ns(T_S * SECOND_NS);
            assert_eq!(
                house.peek().await,
                Some(Reason::QuotaExceeded),
                "the first that asks is a peek"
            );
            assert_eq!(house.admits(9).await, 0, "not even units that need no lease");
        }
    }
}

#[tokio::test]
async fn a_dropped_period_is_refused_without_a_number_that_is_none_and_opened_by_each_grant() {
    for in_file in [false, true] {
        for (change, left) in [
            (Change::Add(2), 2),
            (Change::SetRemaining(1), 1),
            (Change::SetRemaining(0), 0),
            (Change::Reset, LIMIT),
        ] {
            let mut house = House::new(in_file, "YEAR");
            assert_eq!(house.admits(1).await, 1);
            house.drop_all();
            // Known to memory, and not.
            for asked in [false, true] {
                if asked {
                    assert_eq!(house.admits(9).await, 0);
                    assert_eq!(house.shown().await, (0, LIMIT as u64));
                }
                assert_eq!(house.used().await, [0; 0], "nothing is known of it");
            }
            let grant = declared::grant(change);
            let granted = house.grant(&grant).await;
            assert_eq!(
                (granted.used, granted.remaining),
                (LIMIT as u64, left as u64),
                "{change:?}"
            );
            assert_eq!(house.admits(9).await, left, "{change:?}");
            assert_eq!(house.used().await, [(LIMIT + left) as u64], "{change:?}");
            let again = house.grant(&Grant { change: Change::Add(1), ..grant }).await;
            assert_eq!(again.remaining, 1);
            house.go(Way::Stops, T_S + 1);
            assert_eq!(house.admits(9).await, 1, "{change:?}");
        }
    }
}

#[tokio::test]
async fn a_grant_opens_a_dropped_period_that_nobody_has_asked_of() {
    let mut house = House::new(false, "MONTH");
    house.admits(1).await;
    house.drop_all();
    let (subscriber, plan, entitlement, quota) =
        ("acme".into(), "gold".into(), "all".into(), "q".into());
    let grant = Grant { subscriber, key: None, plan, entitlement, quota, change: Change::Reset };
    assert_eq!(house.grant(&grant).await.remaining, LIMIT as u64);
    assert_eq!(house.peek().await, None);
    assert_eq!(house.admits(9).await, LIMIT);
}

#[tokio::test]
async fn a_period_that_is_open_again_is_asked_of_again() {
    let mut house = House::new(false, "YEAR");
    house.admits(1).await;
    house.drop_all();
    assert_eq!(house.admits(9).await, 0);
    let believed = Some(Believed { now_s: T_S, vouched: true });
    let done = house
        .memory
        .commit(&[crate::ledger::Operation::Expire(Expire { believed, ..Expire::default() })])
        .unwrap();
    assert!(matches!(done[..], [crate::ledger::Answer::Expire(expired)] if expired.reopened));
    house.plans().engine.leases().reopen();
    assert_eq!(house.admits(9).await, LIMIT);
}
