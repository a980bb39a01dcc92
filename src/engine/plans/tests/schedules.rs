//! A quota that several threads spend from leases, while a lease is given back, a refund made, or a
//! period ends, and what is counted beside it: in every order that a scheduler finds. What becomes
//! of messages that are late, lost or repeated is tried by the model of the protocol; here the code
//! runs that the server runs, with a scheduler at each lock, and a ledger that answers at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::thread::{self, JoinHandle};

use super::leases::site::Ledger;
use super::world::{World, request, settings};
use crate::decide::ledger::{CounterId, GiveBack, Holder, Scope};
use crate::decide::outcome::Outcome;
use crate::decide::time::{Now, SECOND_NS};
use crate::engine::plans::PlanEngine;
use crate::engine::plans::settle::Settled;
use crate::engine::plans::{
    CheckInput, LeaseSettings, Report, ReportSubject, Settings, Settlement,
};
use crate::engine::plans::{Checked, Need, Shortage};
use crate::engine::sync::Mutex;
use crate::engine::sync::schedules::{found_out, many_orders};
use crate::testkit::plans::AsksPlans;

const EPOCH: u32 = 1;
const DAY_NS: u64 = 86_400 * SECOND_NS;
const LIMIT: u64 = 5;
/// How often a check asks the ledger before it gives up: while units are given back none come.
const PATIENCE: usize = 3;

/// An engine, its ledger, and what callers were told.
struct Stage {
    world: World,
    ledger: Mutex<Ledger>,
    /// Today and tomorrow.
    admitted: [AtomicU64; 2],
    refunded: [AtomicU64; 2],
    /// Admissions by the number of the row, as the statistics were written.
    written: Mutex<BTreeMap<u64, u64>>,
}

impl Stage {
    fn new() -> Arc<Self> {
        let mut world = World::with(Settings { lease: LeaseSettings::default(), ..settings() });
        world
            .run(&format!(
                "plan gold\n ent all a\n quota q {LIMIT} day\nsub acme gold\nkey k1 acme"
            ))
            .unwrap();
        let (admitted, refunded) = Default::default();
        Arc::new(Self {
            world,
            ledger: Mutex::default(),
            admitted,
            refunded,
            written: Mutex::default(),
        })
    }

    fn now(&self, day: usize) -> Now {
        let ns = day as u64 * DAY_NS;
        Now { unix_ns: self.world.now.unix_ns + ns, steady_ns: self.world.now.steady_ns + ns }
    }

    fn ask(&self, day: usize, cost: Option<u64>, shortage: Shortage) -> Checked<'_> {
        let input = CheckInput { cost, ..request(b"k1", "a") };
        self.world
            .engine
            .check_or_need(&self.world.catalog, &input, shortage, self.now(day))
            .unwrap()
    }

    fn lease(&self, need: &Need, day: usize) {
        let granted = self.ledger.lock().lease(EPOCH, need);
        self.world.engine.leases().apply_lease(need, &granted, self.now(day));
    }

    /// Was it admitted? `None`: there was no deciding it.
    fn check(&self, day: usize) -> Option<bool> {
        for _ in 0..PATIENCE {
            let checked = self.ask(day, None, Shortage::Ask);
            self.world
                .engine
                .leases()
                .take_prefetches()
                .iter()
                .for_each(|need| self.lease(need, day));
            match checked {
                Checked::Needs(needs) => needs.iter().for_each(|need| self.lease(need, day)),
                Checked::Decided(decision) => {
                    let admitted = decision.verdict.is_allowed();
                    self.admitted[day].fetch_add(u64::from(admitted), Ordering::SeqCst);
                    return Some(admitted);
                }
            }
        }
        None
    }

    /// Of an admission that comes before all others.
    fn receipt(&self) -> String {
        self.lease_first();
        let Checked::Decided(decision) = self.ask(0, None, Shortage::Ask) else {
            panic!("there are units")
        };
        self.admitted[0].fetch_add(1, Ordering::SeqCst);
        decision.receipt.unwrap()
    }

    fn lease_first(&self) {
        let Checked::Needs(needs) = self.ask(0, None, Shortage::Ask) else {
            panic!("there are none yet")
        };
        needs.iter().for_each(|need| self.lease(need, 0));
    }

    /// Reports a 503.
    fn refund(&self, receipt: &str) {
        let report = Report {
            subject: ReportSubject::Receipt(receipt.as_bytes()),
            outcome: Outcome::http(503),
            cost: None,
        };
        let settlement =
            match PlanEngine::settle(&self.world.engine, &self.world.catalog, &report, self.now(0))
            {
                Settled::Done(settlement) => settlement,
                Settled::Commit(correction) => {
                    let committed = self.ledger.lock().commit(&correction);
                    self.world.engine.apply_correction(&correction, &committed, self.now(0))
                }
            };
        match settlement {
            Settlement::Refunded => drop(self.refunded[0].fetch_add(1, Ordering::SeqCst)),
            other => assert_eq!(other, Settlement::Duplicate),
        }
    }

    fn give_back(&self, backs: &[GiveBack]) {
        backs.iter().for_each(|back| self.ledger.lock().give_back(EPOCH, back));
        backs.iter().for_each(|back| self.world.engine.leases().gave_back(*back));
    }

    /// As an edit does that lowers.
    fn take_back(&self) {
        self.give_back(&self.world.engine.take_back("gold"));
    }

    /// Every so often, some time after midnight.
    fn sweep(&self) {
        PlanEngine::sweep(&self.world.engine, self.now(1));
        self.give_back(&self.world.engine.leases().take_ended());
    }

    /// As every second.
    fn write(&self) {
        for taken in self.world.engine.take_unwritten_usage().parts(1) {
            for change in taken.changes() {
                self.written.lock().insert(change.number, change.counts.admitted);
            }
            self.world.engine.usage_written(taken);
        }
    }

    /// Everything is written.
    fn check_written(&self) {
        self.write();
        let written = self.written.lock();
        assert_eq!(
            written.values().sum::<u64>(),
            self.admitted[0].load(Ordering::SeqCst),
            "counted and not written: {written:?}"
        );
    }

    /// Nobody asks any more. What is left of a day is given out, and then not one unit more.
    fn exhaust(&self, day: usize) {
        while self.check(day) == Some(true) {}
        assert_eq!(self.check(day), Some(false), "nothing is on its way any more");
        let net =
            self.admitted[day].load(Ordering::SeqCst) - self.refunded[day].load(Ordering::SeqCst);
        assert_eq!(net, LIMIT, "admitted and not refunded, of day {day}");
    }

    /// A clean stop: what the ledger has charged is what was admitted and not refunded.
    fn stop(&self) {
        self.give_back(&self.world.engine.leases().put_away());
        let ledger = self.ledger.lock();
        for (day, kept) in ledger.rows.values().enumerate() {
            let net = self.admitted[day].load(Ordering::SeqCst)
                - self.refunded[day].load(Ordering::SeqCst);
            assert_eq!(kept.charged, net, "charged for day {day}, with {:?} leased", kept.leased);
            assert!(net <= LIMIT);
        }
    }
}

fn start(stage: &Arc<Stage>, act: impl Fn(&Stage) + Send + 'static) -> JoinHandle<()> {
    let stage = Arc::clone(stage);
    thread::spawn(move || act(&stage))
}

fn checks(times: usize, day: usize) -> impl Fn(&Stage) + Send + 'static {
    move |stage| {
        for _ in 0..times {
            stage.check(day);
        }
    }
}

fn end(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn schedules_leases_are_spent_once() {
    many_orders("3 threads draw 6 units of a quota of 5", || {
        let stage = Stage::new();
        end([
            start(&stage, checks(2, 0)),
            start(&stage, checks(2, 0)),
            start(&stage, checks(2, 0)),
        ]);
        stage.exhaust(0);
        stage.stop();
    });
}

#[test]
fn schedules_what_an_edit_takes_back_is_given_out_again() {
    many_orders("2 threads draw while an edit takes units back", || {
        let stage = Stage::new();
        end([
            start(&stage, checks(3, 0)),
            start(&stage, checks(2, 0)),
            start(&stage, Stage::take_back),
        ]);
        stage.exhaust(0);
        stage.stop();
    });
    many_orders("2 threads draw while two edits take units back, and it stops then", || {
        let stage = Stage::new();
        stage.lease_first();
        end([
            start(&stage, checks(2, 0)),
            start(&stage, checks(2, 0)),
            start(&stage, Stage::take_back),
            start(&stage, Stage::take_back),
        ]);
        stage.stop();
    });
}

#[test]
fn schedules_a_refund_is_made_once_and_can_be_spent() {
    many_orders("2 threads draw while a refund is reported twice", || {
        let stage = Stage::new();
        let receipt = stage.receipt();
        let again = receipt.clone();
        let reports = [
            start(&stage, move |stage| stage.refund(&receipt)),
            start(&stage, move |stage| stage.refund(&again)),
        ];
        end([start(&stage, checks(3, 0)), start(&stage, checks(2, 0))].into_iter().chain(reports));
        assert_eq!(stage.refunded[0].load(Ordering::SeqCst), 1);
        stage.exhaust(0);
        stage.stop();
    });
    many_orders("a thread draws while a refund is reported and an edit takes units back", || {
        let stage = Stage::new();
        let receipt = stage.receipt();
        end([
            start(&stage, checks(3, 0)),
            start(&stage, move |stage| stage.refund(&receipt)),
            start(&stage, Stage::take_back),
        ]);
        stage.exhaust(0);
        stage.stop();
    });
}

#[test]
fn schedules_a_period_ends_under_those_who_draw() {
    many_orders("today's and tomorrow's checks while the ended period is swept", || {
        let stage = Stage::new();
        let receipt = stage.receipt();
        let refund = start(&stage, move |stage| stage.refund(&receipt));
        end([
            start(&stage, checks(2, 0)),
            start(&stage, checks(2, 1)),
            start(&stage, Stage::sweep),
            refund,
        ]);
        stage.exhaust(1);
        stage.stop();
    });
}

#[test]
fn schedules_statistics_are_written_to_the_last_count() {
    many_orders(
        "2 threads are counted while statistics are written, fail to be, and are swept",
        || {
            let stage = Stage::new();
            stage.lease_first();
            let writer = start(&stage, |stage| {
                stage.write();
                let day = 2 * DAY_NS;
                stage.world.engine.usage.sweep(Now {
                    unix_ns: stage.world.now.unix_ns + day,
                    steady_ns: stage.world.now.steady_ns + day,
                });
                let failed = stage.world.engine.take_unwritten_usage();
                for failed in failed.parts(1) {
                    failed.changes().for_each(drop);
                    stage.world.engine.usage_not_written(failed);
                }
                stage.write();
            });
            end([start(&stage, checks(2, 0)), start(&stage, checks(2, 0)), writer]);
            stage.check_written();
        },
    );
}

#[test]
fn schedules_an_operation_is_charged_once() {
    many_orders("3 threads ask for the same operation", || {
        let mut world = World::new();
        world.run("plan gold\n ent all a\n quota q 9 day\nsub acme gold\nkey k1 acme").unwrap();
        let world = Arc::new(world);
        let callers = [1, 2, 3].map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let input = CheckInput {
                    api_key: b"k1",
                    target: "a",
                    method: b"",
                    path: b"",
                    cost: Some(2),
                    operation_id: b"one",
                };
                world.engine.check(&world.catalog, &input, world.now).unwrap().receipt.unwrap()
            })
        });
        let [one, two, three] = callers.map(|caller| caller.join().unwrap());
        assert!(one == two && two == three, "{one}, {two}, {three}");
        assert_eq!(world.used("acme", "gold/all/q"), 2);
    });
}

// What is wrong on purpose.

/// Looks under one lock whether there is a unit, and takes it under the next.
fn apart(stage: &Stage) {
    let entry = stage.world.engine.leases.books.by_counter(1).unwrap();
    let covers = entry.lock().quotas[0]
        .leases
        .all_mut()
        .all(|held| held.covers(1, &LeaseSettings::default()));
    if covers {
        entry.lock().quotas[0].leases.all_mut().for_each(|held| held.spent += 1);
        stage.admitted[0].fetch_add(1, Ordering::SeqCst);
    }
}

/// Says that the units are back before they are.
fn too_soon(stage: &Stage) {
    let backs = stage.world.engine.take_back("gold");
    backs.iter().for_each(|back| stage.world.engine.leases().gave_back(*back));
    backs.iter().for_each(|back| stage.ledger.lock().give_back(EPOCH, back));
}

/// Gives back what a look says is not spent, without letting go of it first.
fn without_letting_go(stage: &Stage) {
    let spent = stage.world.used("acme", "gold/all/q");
    let row = stage.ledger.lock().rows.keys().next().copied();
    if let Some((counter, period_start_s)) = row {
        let (counter, holder) = (CounterId(counter), Holder { id: 1, epoch: EPOCH });
        let back = GiveBack { counter, period_start_s, holder, spent };
        stage.ledger.lock().give_back(EPOCH, &back);
    }
}

/// Reads the statistics, and only then takes them off the list of those that have changed.
fn read_first(stage: &Stage) {
    let read = stage.world.engine.numbered_usage(&Scope::All, 0, u64::MAX);
    let taken = stage.world.engine.take_unwritten_usage();
    stage.written.lock().extend(read.iter().map(|row| (row.number, row.counts.admitted)));
    for taken in taken.parts(1) {
        taken.changes().for_each(drop);
        stage.world.engine.usage_written(taken);
    }
}

#[test]
fn schedules_mistakes_with_leases_are_found_out() {
    let said = found_out("check and charge apart", || {
        let stage = Stage::new();
        // Two units.
        stage.lease_first();
        end([start(&stage, apart), start(&stage, apart), start(&stage, apart)]);
        stage.stop();
    });
    assert!(said.contains("more was spent than leased"), "{said}");
    let said = found_out("units are said to be back before they are", || {
        let stage = Stage::new();
        end([start(&stage, checks(3, 0)), start(&stage, checks(2, 0)), start(&stage, too_soon)]);
        stage.exhaust(0);
        stage.stop();
    });
    assert!(said.contains("more was spent than leased"), "{said}");
    let said = found_out("units are given back that can still be spent", || {
        let stage = Stage::new();
        end([
            start(&stage, checks(3, 0)),
            start(&stage, checks(2, 0)),
            start(&stage, without_letting_go),
        ]);
        stage.stop();
    });
    assert!(said.contains("more was spent than leased"), "{said}");
    let said = found_out("statistics are read before they are taken", || {
        let stage = Stage::new();
        stage.lease_first();
        end([start(&stage, checks(2, 0)), start(&stage, checks(2, 0)), start(&stage, read_first)]);
        stage.check_written();
    });
    assert!(said.contains("counted and not written"), "{said}");
}
