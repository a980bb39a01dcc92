//! Over both ledgers, with a clock that is set: whatever it shows, nothing is lost, and nothing is
//! refused that has begun.

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::decide::calendar::{Calendar, Period};
use crate::decide::compiled::QuotaIdentity;
use crate::decide::outcome::CountRule;
use crate::decide::plan::{Id, PeriodUnit, Weekday};
use crate::ledger::{
    Counter, CounterIdentity, DailyChange, DailyCounts, DailyKey, DailyName, DailyReport, Holder,
    LeaseRequest, Ledger, Mark, MarkKind, MemoryLedger, Scope, Settle, Settled, SqliteLedger,
    WindowReport, WindowRow,
};
use crate::metrics::Metrics;
use crate::testkit::declared::UNITS;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3600;
/// Noon of 2026-11-30, UTC: every unit's period goes on for some time, but the minute's.
const T_S: u64 = 1_796_040_000;
const LIMIT: u64 = 50;
const USED: u64 = 30;
const TTL_NS: u64 = HOUR_S * SECOND_NS;
const USAGE_DAYS: u64 = 100;

/// A ledger with a service that starts and stops in front of it, without one that serves.
struct House {
    folder: Option<TempDir>,
    ledger: Arc<LedgerThread>,
    holder: Holder,
    time: Timekeeping,
    upkeep: Upkeep,
    now: Arc<Mutex<Now>>,
    metrics: Metrics,
}

fn both(unix_s: u64) -> [House; 2] {
    [Arc::new(MemoryLedger::new().unwrap()) as Arc<dyn Ledger>]
        .map(|ledger| House::start(ledger, None, unix_s))
        .into_iter()
        .chain({
            let folder = TempDir::new().unwrap();
            let ledger = SqliteLedger::open(folder.path()).unwrap();
            [House::start(Arc::new(ledger), Some(folder), unix_s)]
        })
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .unwrap()
}

impl House {
    fn start(ledger: Arc<dyn Ledger>, folder: Option<TempDir>, unix_s: u64) -> Self {
        let holder = ledger.join(1).unwrap();
        let ledger = Arc::new(LedgerThread::start(ledger, 100).unwrap());
        let now = Arc::new(Mutex::new(Now { unix_ns: unix_s * SECOND_NS, steady_ns: 1 }));
        let told = now.clone();
        let clock = Clock::from_fn(move || *told.lock());
        let metrics = Metrics::new();
        let time = Timekeeping::start(&ledger, clock.now(), &metrics).unwrap();
        let upkeep = Upkeep::of(ledger.clone(), clock, time.clone(), TTL_NS, USAGE_DAYS);
        let mut house = Self { folder, ledger, holder, time, upkeep, now, metrics };
        house.round();
        house
    }

    /// The process ends without a word, and starts again.
    fn restart(self, unix_s: u64) -> Self {
        let Self { folder, ledger, upkeep, .. } = self;
        drop(upkeep);
        let kept = match &folder {
            None => ledger.ledger().clone(),
            Some(folder) => {
                drop(ledger);
                Arc::new(SqliteLedger::open(folder.path()).unwrap()) as Arc<dyn Ledger>
            }
        };
        Self::start(kept, folder, unix_s)
    }

    /// A round of upkeep, until the ledger has it.
    fn round(&mut self) {
        drop(self.upkeep.round());
        // Operations are done in their order.
        self.ledger.call(Expire::default()).unwrap();
    }

    fn set(&mut self, unix_s: u64) {
        self.now.lock().unix_ns = unix_s * SECOND_NS;
        self.round();
    }

    /// Both clocks go on, with a round now and then.
    fn go_on(&mut self, for_s: u64) {
        let mut left_s = for_s;
        while left_s > 0 {
            let some_s = left_s.min(HOUR_S / 4);
            left_s -= some_s;
            {
                let mut now = self.now.lock();
                now.unix_ns += some_s * SECOND_NS;
                now.steady_ns += some_s * SECOND_NS;
            }
            self.round();
        }
    }

    fn now_s(&self) -> u64 {
        self.now.lock().unix_s()
    }

    fn says(&self) -> String {
        self.time.says().unwrap_or_default()
    }

    fn doubtful(&self) -> bool {
        self.metrics.render().lines().any(|line| line == "tollgate_clock_doubtful 1")
    }

    /// What a lease of a quota of this unit may spend, all together, in the period of a time.
    fn lease(&self, unit: PeriodUnit, at_s: u64, want: u64) -> u64 {
        let period = period(unit, at_s);
        let request = LeaseRequest {
            counter: Counter::Named(identity(unit)),
            count_rule: CountRule::of_bits([1; 8]),
            period,
            holder: self.holder,
            want,
            spent: 0,
            limit: LIMIT,
            may_pass: false,
            revision: 1,
            now_s: self.now_s(),
        };
        self.ledger.call(request).unwrap().map_or(0, |lease| lease.leased)
    }

    fn charged(&self, unit: PeriodUnit, at_s: u64) -> Option<u64> {
        let start_s = period(unit, at_s).start_s();
        let rows = self.ledger.ledger().usage(&Scope::All, 0, i64::MAX.cast_unsigned()).unwrap();
        rows.iter()
            .find(|row| row.identity == identity(unit) && row.period.start_s() == start_s)
            .map(|row| row.charged)
    }

    /// Everything that a clock could delete: quotas of every unit, a mark, a day, a window.
    fn fill(&self, at_s: u64) {
        for unit in UNITS {
            assert_eq!(self.lease(unit, at_s, USED), USED);
        }
        assert_eq!(self.settle(1, at_s), Settled::Done(vec![]));
        let [subscriber, key, plan, entitlement, target] = [(); 5].map(|()| Id::from("a"));
        let key = DailyKey { day: at_s / DAY_S, subscriber, key, plan, entitlement, target };
        let counts = DailyCounts { admitted: 7, ..DailyCounts::default() };
        self.ledger
            .call(DailyReport {
                holder: self.holder,
                rows: vec![DailyChange { number: 1, name: DailyName::Told(key), counts }],
            })
            .unwrap();
        let rows = vec![WindowRow { fingerprint: [1; 16], end_s: at_s + HOUR_S, count: 3 }];
        self.ledger.call(WindowReport { holder: self.holder, rows }).unwrap();
    }

    fn settle(&self, seq: u64, issued_s: u64) -> Settled {
        // The first holder's: a receipt outlives a restart.
        let mark = Mark {
            holder: Holder { id: 1, epoch: 1 },
            shard: 1,
            seq,
            kind: MarkKind::Corrected,
            issued_s,
        };
        self.ledger.call(Settle { mark, deltas: vec![] }).unwrap()
    }

    #[track_caller]
    fn is_whole(&self, at_s: u64, why: &str) {
        for unit in UNITS {
            assert_eq!(self.charged(unit, at_s), Some(USED), "{unit:?}: {why}");
        }
        assert_eq!(self.settle(1, at_s), Settled::Duplicate, "{why}");
        let days = self.ledger.ledger().daily(&Scope::All, 0, i64::MAX.cast_unsigned()).unwrap();
        assert_eq!(
            days.iter().map(|(_, row)| row.counts.admitted).collect::<Vec<_>>(),
            [7],
            "{why}"
        );
        let mut windows = 0;
        self.ledger.ledger().load_windows(1, 0, &mut |_| windows += 1).unwrap();
        assert_eq!(windows, 1, "{why}");
    }
}

fn identity(unit: PeriodUnit) -> CounterIdentity {
    let name = Id::from("a");
    let quota = QuotaIdentity {
        name: name.clone(),
        unit,
        time_zone: "UTC".into(),
        week_start: Weekday::Monday,
    };
    CounterIdentity {
        subscriber: name.clone(),
        key: None,
        plan: name.clone(),
        entitlement: name,
        quota: Arc::new(quota),
    }
}

fn period(unit: PeriodUnit, at_s: u64) -> Period {
    let period = Calendar::new(unit, "UTC", Weekday::Monday).unwrap().period(at_s * SECOND_NS);
    Period::of_seconds(period.start_ns / SECOND_NS, period.end_ns / SECOND_NS)
}

const STEPS_S: [i64; 10] = [
    60,
    -60,
    3 * 86_400,
    -3 * 86_400,
    38 * 86_400,
    -38 * 86_400,
    450 * 86_400,
    -450 * 86_400,
    // 1970, and a clock that runs out of its range.
    -1_796_040_000,
    1 << 33,
];

/// By so much the clock is wrong. Is it told, and is nothing lost?
fn wrong(step_s: i64) -> (u64, bool) {
    (T_S.checked_add_signed(step_s).unwrap(), step_s.unsigned_abs() > HOUR_S)
}

#[test]
fn a_start_with_a_wrong_clock_loses_nothing_and_the_right_one_goes_on() {
    for step_s in STEPS_S {
        for vouched in [false, true] {
            let before_s = if vouched { 2 * HOUR_S } else { 0 };
            for mut house in both(T_S - before_s) {
                house.go_on(before_s);
                house.fill(T_S);
                house.round();
                let (wrong_s, is_told) = wrong(step_s);
                let mut house = house.restart(wrong_s);
                let why = format!("{step_s} s, vouched for before: {vouched}");
                assert_eq!((house.says() != "", house.doubtful()), (is_told, is_told), "{why}");
                house.is_whole(T_S, &why);
                house.go_on(HOUR_S / 2);
                house.is_whole(T_S, &why);
                // Quotas of the time that it shows are served.
                for unit in
                    UNITS.into_iter().filter(|&unit| period(unit, wrong_s) != period(unit, T_S))
                {
                    assert_eq!(house.lease(unit, wrong_s, 1), 1, "{unit:?}: {why}");
                }
                // Corrected while it runs, then after a restart.
                house.set(T_S + HOUR_S / 2);
                house.is_whole(T_S, &why);
                assert_eq!((house.says() != "", house.doubtful()), (false, false), "{why}");
                let house = house.restart(T_S + HOUR_S / 2 + 60);
                house.is_whole(T_S, &why);
                for unit in [PeriodUnit::Day, PeriodUnit::Week, PeriodUnit::Month, PeriodUnit::Year]
                {
                    assert_eq!(
                        house.lease(unit, T_S, LIMIT),
                        LIMIT - USED,
                        "{unit:?} goes on where it was: {why}"
                    );
                }
                assert_eq!(house.settle(2, T_S), Settled::Done(vec![]), "{why}");
            }
        }
    }
}

#[test]
fn a_step_while_it_runs_loses_nothing_and_comes_back_in_every_way() {
    for step_s in STEPS_S {
        for restarts in [false, true] {
            for mut house in both(T_S - 2 * HOUR_S) {
                house.go_on(2 * HOUR_S);
                house.fill(T_S);
                let (wrong_s, is_told) = wrong(step_s);
                house.set(wrong_s);
                let why = format!("{step_s} s, with restarts: {restarts}");
                assert_eq!(house.says() != "", is_told, "{why}");
                house.go_on(HOUR_S / 2);
                if restarts {
                    house = house.restart(wrong_s + HOUR_S / 2);
                    assert_eq!(
                        house.says() != "",
                        is_told,
                        "what it showed before vouches for nothing: {why}"
                    );
                    house.go_on(HOUR_S / 4);
                }
                house.is_whole(T_S, &why);
                house.set(T_S + HOUR_S);
                if restarts {
                    house = house.restart(T_S + HOUR_S);
                }
                assert_eq!(house.says(), "", "{why}");
                house.is_whole(T_S, &why);
            }
        }
    }
}

#[test]
fn what_is_old_goes_after_an_hour_of_a_clock_that_leapt_and_not_an_instant_before() {
    // A service that was down, or a machine that slept, for a week.
    for restarts in [false, true] {
        for mut house in both(T_S - 2 * HOUR_S) {
            house.go_on(2 * HOUR_S);
            house.fill(T_S);
            let week_s = 7 * DAY_S;
            if restarts {
                house = house.restart(T_S + week_s);
            } else {
                house.set(T_S + week_s);
            }
            assert_eq!(
                house.lease(PeriodUnit::Day, T_S + week_s, LIMIT),
                LIMIT,
                "the quotas of a new period are served at once"
            );
            assert!(house.says().contains("7 d 0 h ahead of"), "{}", house.says());
            house.go_on(HOUR_S - MINUTE_S);
            {
                let mut now = house.now.lock();
                now.unix_ns += MINUTE_S * SECOND_NS;
                now.steady_ns += MINUTE_S * SECOND_NS - 1;
            }
            house.round();
            assert_eq!(house.charged(PeriodUnit::Day, T_S), Some(USED), "a nanosecond is missing");
            house.now.lock().steady_ns += 1;
            house.round();
            assert_eq!(house.charged(PeriodUnit::Day, T_S), None);
            assert_eq!((house.says().as_str(), house.doubtful()), ("", false));
            assert_eq!(house.charged(PeriodUnit::Year, T_S), Some(USED), "the year goes on");
            assert_eq!(
                house.restart(T_S + week_s + HOUR_S).says(),
                "",
                "and the next start is vouched for"
            );
        }
    }
}

#[test]
fn what_a_clock_that_was_wrong_for_long_dropped_is_open_an_hour_after_it_was_set_right() {
    for mut house in both(T_S - 2 * HOUR_S) {
        house.go_on(2 * HOUR_S);
        house.fill(T_S);
        let mut house = house.restart(T_S + 450 * DAY_S);
        house.go_on(2 * HOUR_S);
        assert_eq!(house.charged(PeriodUnit::Year, T_S), None, "by a clock that was vouched for");
        let mut house = house.restart(T_S);
        assert!(house.says().contains("behind"), "{}", house.says());
        assert_eq!(
            house.lease(PeriodUnit::Year, T_S, 1),
            0,
            "which of the two is wrong cannot be known yet"
        );
        house.go_on(HOUR_S);
        assert_eq!(house.says(), "");
        assert_eq!(house.lease(PeriodUnit::Year, T_S, 1), 1);
        assert!(house.restart(T_S + 450 * DAY_S).doubtful(), "and the lie is forgotten");
    }
}

#[test]
fn a_ledger_that_an_older_program_poisoned_is_healed_by_a_start_with_the_right_clock() {
    for house in both(T_S) {
        house.fill(T_S);
        // As the older program did, with a clock of 450 days later: nothing was kept of it but what
        // it dropped.
        let later_s = T_S + 450 * DAY_S;
        let all = Expire {
            periods_ended_by_s: later_s,
            marks_issued_before_s: later_s,
            ..Expire::default()
        };
        house.ledger.call(all).unwrap();
        assert_eq!(house.lease(PeriodUnit::Year, T_S, 1), 0);
        let house = house.restart(T_S + 600);
        assert_eq!(house.says(), "");
        for unit in [
            PeriodUnit::Hour,
            PeriodUnit::Day,
            PeriodUnit::Week,
            PeriodUnit::Month,
            PeriodUnit::Year,
        ] {
            assert_eq!(house.lease(unit, T_S, LIMIT), LIMIT, "{unit:?} goes on, from nothing");
        }
        assert_eq!(house.lease(PeriodUnit::Minute, T_S, 1), 0, "what is over does not begin again");
        assert_eq!(house.settle(2, T_S + 601), Settled::Done(vec![]));
    }
}
