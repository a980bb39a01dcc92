//! Plans to test the services with, and what becomes of decisions when the ledger fails.

mod reports;
mod restart;
mod wall;

use std::sync::mpsc;

use super::*;
use crate::catalog::EditOptions;
use crate::decide::ledger::Scope;
use crate::decide::plan::{ApiKey, OpenMethod, Target};
use crate::engine::plans::LeaseSettings;
use crate::ledger::faults::{Fault, FaultyLedger};
use crate::ledger::{Ledger, MemoryLedger};
use crate::testkit::declared::{self, request, target};
use crate::testkit::started::{Started, settings};
use crate::testkit::told_clock::ToldClock;

const KEY: &[u8] = b"a-value-of-twenty-characters";

/// Plans with a quota of 3 in each `unit`, over a ledger, as a start makes them.
fn over(settings: config::Plans, ledger: Arc<dyn Ledger>, clock: Clock, unit: &str) -> Decisions {
    let file = format!(
        "{{plans: [{{id: gold, entitlements: [{{name: all, targets: [t], quotas: [{{name: q, limit: 3, unit: {unit}}}]}}]}}],
          subscribers: [{{id: acme, plans: [gold], keys: [{{id: k, value: a-value-of-twenty-characters}}]}}]}}"
    );
    let catalog = declared::catalog(&file, clock.now());
    Started::over(ledger, 1, catalog, clock, settings).decisions(&Metrics::new())
}

/// Declares what a file says, beside what there is.
fn declare(plans: &Decisions, file: &str) {
    declared::apply(file, &plans.catalog, plans.clock.now());
}

async fn check(plans: &Decisions, time_left: Option<Duration>) -> Option<Reason> {
    let input = request(KEY, "t");
    plans.check(&input, time_left, |decision| decision.verdict.reason()).await.unwrap()
}

/// A quota of 3 a year over a ledger whose commits meet faults.
struct Bench {
    plans: Decisions,
    ledger: Arc<FaultyLedger>,
}

impl Bench {
    fn new(settings: config::Plans) -> Self {
        let memory = Arc::new(MemoryLedger::new().unwrap());
        let ledger = Arc::new(FaultyLedger::new(memory, |_| Fault::None));
        Self { plans: over(settings, ledger.clone(), Clock::system(), "YEAR"), ledger }
    }

    fn every_commit(&self, mut fault: impl FnMut() -> Fault + Send + 'static) {
        self.ledger.set_plan(move |_| fault());
    }

    async fn check(&self, time_left: Option<Duration>) -> Option<Reason> {
        check(&self.plans, time_left).await
    }
}

/// Plans with a quota of 3 a year for each of so many callers, over a ledger that says how often it
/// committed.
fn of_many(callers: usize) -> (Bench, LeaseBroker) {
    let bench = Bench::new(settings());
    let subscribers: String = (0..callers)
        .map(|caller| format!("{{id: s{caller}, plans: [gold], keys: [{{id: k{caller}, value: a-value-of-caller-number-{caller:03}}}]}},"))
        .collect();
    declare(&bench.plans, &format!("{{subscribers: [{subscribers}]}}"));
    let broker = bench.plans.broker.clone();
    (bench, broker)
}

/// Checks one after the other of these callers in one batch, and gives the reasons.
async fn check_batch(plans: &Decisions, callers: &[usize]) -> Vec<Option<Reason>> {
    let keys: Vec<String> =
        callers.iter().map(|caller| format!("a-value-of-caller-number-{caller:03}")).collect();
    let input = |place: usize| request(&keys[place], "t");
    let mut answers = vec![None; keys.len()];
    plans
        .check_all(keys.len(), None, input, |place, decision| {
            let before = answers[place].replace(decision.unwrap().verdict.reason());
            assert_eq!(before, None, "answered twice");
        })
        .await;
    answers.into_iter().map(|answer| answer.expect("not answered")).collect()
}

#[tokio::test]
async fn a_sweep_closes_all_periods_that_are_over_however_few_it_finds_at_once() {
    let told = ToldClock::at_s(1_795_341_600);
    let clock = told.clock();
    let lease = LeaseSettings { max_ended: 1, ..settings().lease };
    let plans = over(
        config::Plans { lease, ..settings() },
        Arc::new(MemoryLedger::new().unwrap()),
        clock,
        "MINUTE",
    );
    let broker = plans.broker.clone();
    let remembered = || {
        plans
            .engine
            .quota_usage(&**plans.catalog.load(), &Scope::All, 0..u64::MAX, ("", None))
            .len()
    };
    for _ in 0..3 {
        assert_eq!(check(&plans, None).await, None);
        told.pass_s(60);
    }
    told.pass_s(60);
    // The last one is closed, and forgotten the next time.
    for left in [1, 0] {
        broker.sweep().unwrap();
        assert_eq!(remembered(), left);
    }
}

#[tokio::test]
async fn a_caller_who_is_known_is_refused_as_soon_as_the_catalog_says_so() {
    let told = ToldClock::at_s(1_795_341_600);
    let clock = told.clock();
    let plans = over(settings(), Arc::new(MemoryLedger::new().unwrap()), clock, "MINUTE");
    let edit = |change: fn(&mut ApiKey)| {
        let mut key = plans.catalog.load().keys().get("k").unwrap().value.key.clone();
        change(&mut key);
        plans
            .catalog
            .edit(EditOptions::default(), plans.clock.now(), |draft| {
                draft.replace_key(key).map(|_| ())
            })
            .unwrap();
    };
    let known = || plans.remembered_callers() > 0;
    for round in 0..3 {
        told.pass_s(60);
        for _ in 0..3 {
            assert_eq!(check(&plans, None).await, None, "round {round}");
        }
        assert!(known(), "round {round}");
        assert_eq!(
            check(&plans, None).await,
            Some(Reason::QuotaExceeded),
            "round {round}: counted once each"
        );
        edit(|key| key.enabled = false);
        assert_eq!(check(&plans, None).await, Some(Reason::ApiKeyDisabled), "round {round}");
        edit(|key| key.enabled = true);
    }
    // What depends on the moment is looked at in each call.
    told.pass_s(60);
    edit(|key| key.dates.expire_ns = Some(1_795_341_600 * SECOND_NS + 300 * SECOND_NS));
    assert_eq!([check(&plans, None).await, check(&plans, None).await], [None, None]);
    told.step_to_ns((1_795_341_600 + 300) * SECOND_NS - 1);
    assert_eq!(check(&plans, None).await, None);
    assert!(known());
    told.pass_ns(1);
    assert_eq!(check(&plans, None).await, Some(Reason::ApiKeyExpired));
}

#[tokio::test]
async fn a_caller_who_was_let_go_of_goes_on_where_it_was() {
    let plans = over(settings(), Arc::new(MemoryLedger::new().unwrap()), Clock::system(), "YEAR");
    assert_eq!([check(&plans, None).await, check(&plans, None).await], [None, None]);
    plans.forget_idle_callers();
    assert_eq!(plans.remembered_callers(), 1, "it called since the start");
    plans.forget_idle_callers();
    assert_eq!(plans.remembered_callers(), 0);
    assert_eq!(
        [check(&plans, None).await, check(&plans, None).await],
        [None, Some(Reason::QuotaExceeded)]
    );
    assert_eq!(plans.remembered_callers(), 1);
}

#[tokio::test]
async fn an_open_method_is_open_to_a_caller_who_is_known() {
    let plans = over(settings(), Arc::new(MemoryLedger::new().unwrap()), Clock::system(), "YEAR");
    let open = OpenMethod { method: "GET".to_owned(), path: "/health".to_owned() };
    let target = Target { open_methods: vec![open], ..target("t") };
    plans
        .catalog
        .edit(EditOptions::default(), plans.clock.now(), |draft| {
            draft.replace_target(target).map(|_| ())
        })
        .unwrap();
    for _ in 0..3 {
        assert_eq!(check(&plans, None).await, None);
    }
    assert_eq!(check(&plans, None).await, Some(Reason::QuotaExceeded));
    let open = CheckInput { method: b"GET", path: b"/health", ..request(KEY, "t") };
    let decided = plans
        .check(&open, None, |decision| (decision.verdict.reason(), decision.plan.to_string()))
        .await
        .unwrap();
    assert_eq!(decided, (None, String::new()), "no plan is asked");
}

#[tokio::test]
async fn what_waits_in_a_batch_waits_together() {
    let (bench, broker) = of_many(100);
    // The first commit ends when everything has been asked for.
    let (asked, wait) = mpsc::channel();
    let mut until = Some(wait);
    bench.every_commit(move || until.take().map_or(Fault::None, Fault::Wait));
    let callers: Vec<usize> = (0..100).collect();
    let (answers, ()) =
        tokio::join!(biased; check_batch(&bench.plans, &callers), async { drop(asked) });
    assert_eq!(answers, vec![None; 100]);
    let (commits, leases) = (broker.ledger_status().commits, broker.ledger_status().operations);
    assert!(commits <= 3 && leases >= 100, "{commits} commits of {leases} leases");
}

#[tokio::test]
async fn all_who_hold_units_of_a_plan_give_them_back_some_after_the_others() {
    let (bench, broker) = of_many(600);
    for callers in (0..600).collect::<Vec<_>>().chunks(50) {
        assert_eq!(check_batch(&bench.plans, callers).await, vec![None; 50]);
    }
    let charged = || {
        bench
            .ledger
            .usage(&Scope::All, 0, u64::MAX / 2)
            .unwrap()
            .iter()
            .map(|row| row.charged)
            .sum::<u64>()
    };
    assert!(charged() > 600, "more is leased than was spent");
    let take_back = move || broker.take_back("gold");
    tokio::task::spawn_blocking(take_back).await.unwrap().unwrap();
    assert_eq!(charged(), 600);
    let exceeded = Some(Reason::QuotaExceeded);
    assert_eq!(
        check_batch(&bench.plans, &[0, 0, 0, 599, 599, 599]).await,
        [None, None, exceeded, None, None, exceeded],
        "1 of 3 is used"
    );
}

#[tokio::test]
async fn a_batch_admits_what_single_checks_would() {
    let (bench, _) = of_many(2);
    let callers = [0, 1, 0, 0, 0, 1, 1, 0, 1];
    let answers = check_batch(&bench.plans, &callers).await;
    // Units that come while a batch is gone through may go to one who did not have to wait for
    // them, as among single checks.
    for caller in [0, 1] {
        let of_caller = || {
            callers.iter().zip(&answers).filter(|(of, _)| **of == caller).map(|(_, answer)| *answer)
        };
        assert_eq!(of_caller().filter(Option::is_none).count(), 3, "{caller} of {answers:?}");
        assert!(
            of_caller().flatten().all(|reason| reason == Reason::QuotaExceeded),
            "{caller} of {answers:?}"
        );
    }
}

#[tokio::test]
async fn a_batch_over_a_ledger_that_fails_is_answered_all_the_same() {
    let bench = Bench::new(settings());
    bench.every_commit(full);
    let input = |_| request(KEY, "t");
    for _ in 0..3 {
        let mut answers = Vec::new();
        bench
            .plans
            .check_all(5, None, input, |place, decision| {
                answers.push((place, decision.unwrap().verdict.reason()))
            })
            .await;
        assert_eq!(
            answers,
            (0..5).map(|place| (place, Some(Reason::LedgerUnavailable))).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_batch_waits_no_longer_than_one_check_would_and_answers_every_item() {
    // Where units that were asked for ahead of use always come before they are needed, nobody
    // waits: that hangs on the threads, and is then tried again.
    let mut admitted = 64;
    for _ in 0..50 {
        admitted = admitted_of_64_by_a_slow_ledger().await;
        if admitted < 64 {
            break;
        }
    }
    // With a patience for each all are admitted: there are units for them.
    assert!(
        (2..64).contains(&admitted),
        "{admitted} admitted, where each commit takes 20 ms and 100 ms were there"
    );
}

async fn admitted_of_64_by_a_slow_ledger() -> usize {
    let told = ToldClock::at_s(1_795_341_600);
    let clock = told.clock();
    // Each commit takes 20 ms, and of 100 units 2 are leased at once.
    let slow = FaultyLedger::new(Arc::new(MemoryLedger::new().unwrap()), move |_| {
        told.pass_ns(20_000_000);
        Fault::None
    });
    let plans = over(
        config::Plans { max_wait: Duration::from_millis(100), ..settings() },
        Arc::new(slow),
        clock,
        "YEAR",
    );
    let file = "{plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [{name: q, limit: 100, unit: YEAR}]}]}]}";
    declare(&plans, file);
    let input = |_| request(KEY, "t");
    let mut answers = vec![None; 64];
    plans
        .check_all(64, None, input, |place, decision| {
            answers[place] = Some(decision.unwrap().verdict.reason())
        })
        .await;
    let count = |reason| answers.iter().filter(|answer| **answer == Some(reason)).count();
    let (admitted, unavailable) = (count(None), count(Some(Reason::LedgerUnavailable)));
    assert_eq!(admitted + unavailable, 64, "{answers:?}");
    admitted
}

#[tokio::test]
async fn a_refund_whose_answer_was_lost_is_asked_about_before_the_next_refusal() {
    let bench = Bench::new(settings());
    let input = request(KEY, "t");
    let receipt = bench
        .plans
        .check(&input, None, |decision| decision.receipt.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((bench.check(None).await, bench.check(None).await), (None, None));
    assert_eq!(bench.check(None).await, Some(Reason::QuotaExceeded));
    // It is committed, and whoever reports hears nothing, and does not report again.
    bench.every_commit(|| Fault::After(LedgerError::Stopped));
    let outcome = crate::decide::outcome::Outcome::http(503);
    let report = Report {
        subject: crate::engine::plans::ReportSubject::Receipt(receipt.as_bytes()),
        outcome,
        cost: None,
    };
    assert!(bench.plans.settle(&report).await.is_err());
    bench.every_commit(|| Fault::None);
    let mut reason = bench.check(None).await;
    while reason == Some(Reason::LedgerUnavailable) {
        reason = bench.check(None).await;
    }
    assert_eq!(reason, None);
    assert_eq!(bench.check(None).await, Some(Reason::QuotaExceeded));
}

fn full() -> Fault {
    Fault::Before(LedgerError::Full("ledger.sqlite".into()))
}

#[tokio::test]
async fn a_ledger_that_fails_is_a_refusal_until_it_works_again() {
    let bench = Bench::new(settings());
    bench.every_commit(full);
    for _ in 0..5 {
        assert_eq!(bench.check(None).await, Some(Reason::LedgerUnavailable));
    }
    bench.every_commit(|| Fault::None);
    // Each refusal has asked again: the first that finds the ledger at work is waited for by
    // nobody.
    while bench.check(None).await == Some(Reason::LedgerUnavailable) {}
    let mut admitted = 1;
    while bench.check(None).await.is_none() {
        admitted += 1;
    }
    assert_eq!(admitted, 3);
    assert_eq!(bench.check(None).await, Some(Reason::QuotaExceeded));
}

#[tokio::test]
async fn what_is_wanted_ahead_of_use_is_asked_for_at_once_or_gathered_and_never_forgotten() {
    // Of 3 the first lease brings 2: the second admission wants the third ahead of use, and nobody
    // waits for it.
    for gathers in [false, true, true] {
        let bench = Bench::new(settings());
        let broker = bench.plans.broker.clone();
        let leases = || broker.ledger_status().operations;
        let gathered = async {
            if gathers {
                broker.gather().await;
            }
            std::future::pending::<()>().await;
        };
        let asked = async {
            // Whoever gathers has begun.
            tokio::task::yield_now().await;
            assert_eq!((bench.check(None).await, bench.check(None).await), (None, None));
            while leases() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = gathered => {}
            () = asked => {}
        }
        // Nobody gathers any more.
        assert_eq!(
            (bench.check(None).await, bench.check(None).await),
            (None, Some(Reason::QuotaExceeded))
        );
    }
}

#[tokio::test]
async fn what_was_leased_is_spent_while_the_ledger_fails() {
    let bench = Bench::new(settings());
    assert_eq!(bench.check(None).await, None);
    bench.every_commit(full);
    let mut admitted = 1;
    while bench.check(None).await.is_none() {
        admitted += 1;
    }
    assert!((1..=3).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn where_it_is_so_configured_a_failing_ledger_admits_as_far_as_is_known_here() {
    let bench = Bench::new(config::Plans { on_failure: Shortage::Allow, ..settings() });
    bench.every_commit(full);
    for _ in 0..3 {
        assert_eq!(bench.check(None).await, None);
    }
    assert_eq!(bench.check(None).await, Some(Reason::QuotaExceeded));
}

#[tokio::test]
async fn a_slow_ledger_costs_no_more_than_the_calls_own_deadline_and_charges_nothing() {
    let bench = Bench::new(config::Plans { max_wait: Duration::from_secs(60), ..settings() });
    let (go_on, until) = mpsc::channel();
    let mut until = Some(until);
    bench.every_commit(move || until.take().map_or(Fault::None, Fault::Wait));
    assert_eq!(bench.check(Some(Duration::from_millis(5))).await, Some(Reason::LedgerUnavailable));
    drop(go_on);
    let mut admitted = 0;
    while bench.check(None).await.is_none() {
        admitted += 1;
    }
    assert_eq!(admitted, 3, "the call that was given up was charged nothing");
}

#[tokio::test]
async fn a_refusal_and_an_exhausted_quota_ask_the_ledger_nothing() {
    let bench = Bench::new(settings());
    while bench.check(None).await.is_none() {}
    let commits = bench.ledger.commits();
    for _ in 0..10 {
        assert_eq!(bench.check(None).await, Some(Reason::QuotaExceeded));
    }
    let stranger = request(b"nobody", "t");
    bench.plans.check(&stranger, None, |_| ()).await.unwrap();
    assert_eq!(bench.ledger.commits(), commits);
}
