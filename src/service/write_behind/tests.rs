use std::sync::Arc;

use super::*;
use crate::decide::outcome::{Class, Outcome};
use crate::engine::plans::{Checked, Report, ReportSubject, Settled, Settlement, Shortage};
use crate::ledger::MemoryLedger;
use crate::ledger::faults::{Fault, FaultyLedger};
use crate::testkit::declared::{self, request};
use crate::testkit::plans::AsksPlans;
use crate::testkit::started::{Started, settings};
use crate::testkit::told_clock::ToldClock;

const DAY_S: u64 = 86_400;
/// New rows are written so many at once: seven lots of neighbours, the first of which lacks number
/// 0.
const NEW_AT_ONCE: usize = 438;
const TODAY: u64 = 20_779;
const FILE: &str = "{
    plans: [
        {id: gold, entitlements: [{name: all, targets: [a, b]}]},
        {id: tiny, entitlements: [{name: all, targets: [c], quotas: [{name: q, limit: 9, unit: MINUTE}]}]},
    ],
    subscribers: [
        {id: acme, plans: [gold, tiny], keys: [{id: k1, value: the-value-of-the-key-k1}, {id: k2, value: the-value-of-the-key-k2}]},
        {id: globex, plans: [gold], keys: [{id: k3, value: the-value-of-the-key-k3}]},
    ]}";

/// A ledger, and a clock.
struct World {
    ledger: Arc<FaultyLedger>,
    told: ToldClock,
}

/// A service that uses them.
type Node = Started;

impl World {
    fn new() -> Self {
        let memory = Arc::new(MemoryLedger::new().unwrap());
        let ledger = Arc::new(FaultyLedger::new(memory, |_| Fault::None));
        Self { ledger, told: ToldClock::at_s(TODAY * DAY_S) }
    }

    fn every_commit(&self, mut fault: impl FnMut() -> Fault + Send + 'static) {
        self.ledger.set_plan(move |_| fault());
    }

    fn pass(&self, seconds: u64) {
        self.told.pass_s(seconds);
    }

    fn start(&self, holder: u32) -> Node {
        self.start_with(holder, FILE)
    }

    fn start_with(&self, holder: u32, file: &str) -> Node {
        let catalog = declared::catalog(file, self.told.now());
        Started::over(self.ledger.clone(), holder, catalog, self.told.clock(), settings())
    }
}

impl Node {
    /// Asks once, and gives the receipt.
    async fn check(&self, key: &str, target: &str) -> Option<String> {
        let value = format!("the-value-of-the-key-{key}");
        let input = request(&value, target);
        loop {
            let needs = match self
                .engine
                .check_or_need(&*self.catalog.snapshot(), &input, Shortage::Ask, self.clock.now())
                .unwrap()
            {
                Checked::Decided(decision) => return decision.receipt,
                Checked::Needs(needs) => needs,
            };
            self.broker.draw(needs, std::time::Duration::from_secs(60)).await;
        }
    }

    async fn checks(&self, key: &str, target: &str, many: usize) {
        for _ in 0..many {
            self.check(key, target).await;
        }
    }

    /// Rows as `day key target admitted`, the day after today.
    fn days(&self, scope: &Scope, first: u64, last: u64) -> Vec<String> {
        let rows = self.broker.daily_usage(scope, TODAY + first, TODAY + last).unwrap();
        rows.iter()
            .map(|row| {
                let DailyUsage { of, counts } = row;
                format!("{} {} {} {}", of.day - TODAY, of.key, of.target, counts.admitted)
            })
            .collect()
    }

    fn today(&self) -> Vec<String> {
        self.days(&Scope::All, 0, 0)
    }

    fn report(&self, receipt: &str, status: u16) -> Settlement {
        let report = Report {
            subject: ReportSubject::Receipt(receipt.as_bytes()),
            outcome: Outcome::http(status),
            cost: None,
        };
        let settled = self.engine.settle(&*self.catalog.snapshot(), &report, self.clock.now());
        let Settled::Done(settlement) = settled else { panic!("{settled:?}") };
        settlement
    }
}

fn full() -> Fault {
    Fault::Before(LedgerError::Full("ledger.sqlite".into()))
}

#[tokio::test]
async fn a_restart_loses_what_was_not_written_and_counts_nothing_twice() {
    let world = World::new();
    let first = world.start(1);
    first.checks("k1", "a", 3).await;
    assert_eq!(first.today(), ["0 k1 a 3"], "before it is written");
    first.broker.write_behind().unwrap();
    assert_eq!(first.today(), ["0 k1 a 3"], "and after");
    first.checks("k1", "a", 1).await;
    assert_eq!(first.today(), ["0 k1 a 4"], "memory knows better than the ledger");

    let second = world.start(1);
    assert_eq!(second.today(), ["0 k1 a 3"], "one was not written");
    second.checks("k1", "a", 2).await;
    second.checks("k2", "b", 1).await;
    for _ in 0..2 {
        assert_eq!(second.today(), ["0 k1 a 5", "0 k2 b 1"]);
        second.broker.write_behind().unwrap();
    }
    assert_eq!(world.start(1).today(), ["0 k1 a 5", "0 k2 b 1"]);
}

#[tokio::test]
async fn two_holders_of_one_ledger_add_up() {
    let world = World::new();
    let (one, other) = (world.start(1), world.start(2));
    one.checks("k1", "a", 3).await;
    other.checks("k1", "a", 5).await;
    assert_eq!(
        (one.today(), other.today()),
        (vec!["0 k1 a 3".to_owned()], vec!["0 k1 a 5".to_owned()])
    );
    one.broker.write_behind().unwrap();
    assert_eq!(
        (one.today(), other.today()),
        (vec!["0 k1 a 3".to_owned()], vec!["0 k1 a 8".to_owned()])
    );
    other.broker.write_behind().unwrap();
    one.checks("k1", "a", 1).await;
    assert_eq!(
        (one.today(), other.today()),
        (vec!["0 k1 a 9".to_owned()], vec!["0 k1 a 8".to_owned()])
    );
}

#[tokio::test]
async fn any_range_of_days_is_shown_whether_memory_still_holds_them_or_not() {
    let world = World::new();
    let mut node = world.start(1);
    for day in 0..6 {
        node.checks("k1", "a", 1 + day).await;
        node.checks("k3", "b", 1).await;
        // The last second of the day, and the first of the next.
        world.pass(DAY_S - 1);
        node.checks("k2", "a", 1).await;
        world.pass(1);
        node.engine.sweep(node.clock.now());
        node.broker.write_behind().unwrap();
        if day == 2 {
            node = world.start(1);
        }
        node.engine.sweep(node.clock.now());
    }
    let held = node.engine.usage_rows();
    assert_eq!(held, 3, "of yesterday: today has none");
    let cases: &[(Scope, u64, u64, &[&str])] = &[
        (
            Scope::Key("k1".into()),
            0,
            9,
            &["0 k1 a 1", "1 k1 a 2", "2 k1 a 3", "3 k1 a 4", "4 k1 a 5", "5 k1 a 6"],
        ),
        (Scope::Subscriber("acme".into()), 4, 5, &["4 k1 a 5", "4 k2 a 1", "5 k1 a 6", "5 k2 a 1"]),
        (Scope::Subscriber("globex".into()), 2, 3, &["2 k3 b 1", "3 k3 b 1"]),
        (Scope::Plan("gold".into()), 1, 1, &["1 k1 a 2", "1 k2 a 1", "1 k3 b 1"]),
        (Scope::All, 6, 9, &[]),
        (Scope::Plan("tiny".into()), 0, 9, &[]),
    ];
    for (scope, first, last, expected) in cases {
        assert_eq!(node.days(scope, *first, *last), *expected, "{scope:?} {first} {last}");
    }
}

#[tokio::test]
async fn a_ledger_that_fails_is_told_when_it_works_again() {
    let world = World::new();
    let node = world.start(1);
    node.checks("k1", "a", 2).await;
    world.every_commit(full);
    for _ in 0..3 {
        node.broker.write_behind().unwrap_err();
        assert_eq!((node.engine.unwritten_usage(), node.today()), (1, vec!["0 k1 a 2".to_owned()]));
    }
    // Committed, and nobody knows.
    world.every_commit(|| Fault::After(LedgerError::Full("ledger.sqlite".into())));
    node.checks("k1", "a", 1).await;
    node.broker.write_behind().unwrap_err();
    node.checks("k1", "a", 1).await;
    assert_eq!(node.today(), ["0 k1 a 4"]);
    world.every_commit(|| Fault::None);
    node.broker.write_behind().unwrap();
    assert_eq!((node.engine.unwritten_usage(), node.today()), (0, vec!["0 k1 a 4".to_owned()]));
    assert_eq!(world.start(1).today(), ["0 k1 a 4"]);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_an_error_and_not_half_an_answer() {
    let world = World::new();
    let node = world.start(1);
    node.checks("k1", "a", 2).await;
    world.every_commit(|| Fault::Die);
    node.broker.write_behind().unwrap_err();
    assert_eq!(node.broker.daily_usage(&Scope::All, TODAY, TODAY), Err(LedgerError::Stopped));
}

/// So many rows, each of a target.
async fn counted(world: &World, many: usize) -> Node {
    let targets: Vec<String> = (0..many).map(|number| format!("t{number}")).collect();
    let file = format!(
        "{{plans: [{{id: gold, entitlements: [{{name: all, targets: [{}]}}]}}],
           subscribers: [{{id: acme, plans: [gold], keys: [{{id: k1, value: the-value-of-the-key-k1}}]}}]}}",
        targets.join(", ")
    );
    let node = world.start_with(1, &file);
    for target in &targets {
        node.check("k1", target).await;
    }
    node
}

#[tokio::test]
async fn many_rows_are_written_in_pieces() {
    let world = World::new();
    let many = 2 * NEW_AT_ONCE + 1;
    let node = counted(&world, many).await;
    let before = world.ledger.commits();
    node.broker.write_behind().unwrap();
    assert_eq!((world.ledger.commits() - before, node.engine.unwritten_usage()), (3, 0));
    assert_eq!(world.start(1).today().len(), many);
}

#[tokio::test]
async fn after_a_piece_that_failed_the_rest_waits_for_the_next_time() {
    let world = World::new();
    let many = 2 * NEW_AT_ONCE + 1;
    let node = counted(&world, many).await;
    let mut commits = 0;
    world.every_commit(move || {
        commits += 1;
        if commits == 2 { full() } else { Fault::None }
    });
    node.broker.write_behind().unwrap_err();
    assert_eq!(node.engine.unwritten_usage(), many - NEW_AT_ONCE);
    node.broker.write_behind().unwrap();
    assert_eq!((node.engine.unwritten_usage(), world.start(1).today().len()), (0, many));
}

#[tokio::test]
async fn a_response_to_a_request_of_an_earlier_epoch_is_counted_under_its_names() {
    let world = World::new();
    let first = world.start(1);
    let receipts = [first.check("k1", "c").await.unwrap(), first.check("k2", "c").await.unwrap()];
    first.broker.write_behind().unwrap();

    // Half an hour, and the periods of both: an entry is all that is left of them.
    world.pass(1_800);
    let second = world.start(1);
    assert_eq!(second.engine.earlier_names(), 3);
    // Numbers of this epoch stand for other names.
    let own = second.check("k2", "c").await.unwrap();
    assert_eq!(
        [&receipts[1], &receipts[0], &own].map(|receipt| second.report(receipt, 200)),
        [Settlement::Counted; 3]
    );
    let responses = |node: &Node| -> Vec<String> {
        let rows = node.broker.daily_usage(&Scope::All, TODAY, TODAY).unwrap();
        rows.iter()
            .map(|row| {
                format!(
                    "{} {} {}/{} {}",
                    row.of.key,
                    row.of.target,
                    row.of.plan,
                    row.of.entitlement,
                    row.counts.ended_in(Class::Success)
                )
            })
            .collect()
    };
    assert_eq!(responses(&second), ["k1 c tiny/all 1", "k2 c tiny/all 2"]);
    second.broker.write_behind().unwrap();
    assert_eq!(responses(&world.start(1)), ["k1 c tiny/all 1", "k2 c tiny/all 2"]);

    // No receipt of before the start lives any longer.
    world.pass(3_599);
    second.engine.sweep(second.clock.now());
    assert_eq!(second.engine.earlier_names(), 3);
    world.pass(1);
    second.engine.sweep(second.clock.now());
    assert_eq!(second.engine.earlier_names(), 0);
}

#[tokio::test]
async fn names_that_the_ledger_did_not_take_are_written_later() {
    let world = World::new();
    let node = world.start(1);
    let receipt = node.check("k1", "c").await.unwrap();
    world.every_commit(full);
    node.broker.write_behind().unwrap_err();
    world.every_commit(|| Fault::None);
    assert_eq!(world.start(1).engine.earlier_names(), 0);
    node.broker.write_behind().unwrap();
    let later = world.start(1);
    assert_eq!(
        (later.engine.earlier_names(), later.report(&receipt, 200)),
        (2, Settlement::Counted)
    );
}

#[tokio::test]
async fn a_receipt_whose_names_were_lost_is_settled_all_the_same() {
    let world = World::new();
    let receipt = world.start(1).check("k1", "c").await.unwrap();
    let later = world.start(1);
    assert!(later.check("k2", "c").await.is_some());
    assert_eq!(later.report(&receipt, 200), Settlement::Counted);
    let rows = later.broker.daily_usage(&Scope::All, TODAY, TODAY).unwrap();
    assert!(
        rows.iter().all(|row| row.counts.ended_in(Class::Success) == 0),
        "counted under another name: {rows:?}"
    );
}
