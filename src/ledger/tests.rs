use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::decide::calendar::Period;
use crate::decide::compiled::QuotaIdentity;
use crate::decide::plan::{Id, PeriodUnit, Weekday};
use crate::decide::quota::Grant;

/// Every test of the behaviour of a ledger, over all of them. A test gets a bench that can open the
/// ledger again.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[test] fn $name() { super::$name(&$crate::ledger::tests::Bench::memory()); })*
        }
        mod in_a_file {
            $(#[test] fn $name() { super::$name(&$crate::ledger::tests::Bench::file()); })*
        }
        mod in_postgres {
            $(#[test] fn $name() { super::$name(&$crate::ledger::tests::Bench::postgres()); })*
        }
    };
}

mod catalog;
mod daily;
mod damage;
mod faulty;
mod files;
mod gone;
mod leases;
mod model;
mod names;
mod once;
mod postgres;
mod postgres_tls;
mod retention;
mod settlements;
mod threads;
mod times;
mod usage;
mod windows;

const DAY: Period = Period::of_seconds(86_400, 2 * 86_400);
const NOON: u64 = 86_400 + 43_200;

/// A ledger, and a place to keep it.
struct Bench {
    ledger: Arc<dyn Ledger>,
    folder: Option<TempDir>,
    database: Option<PostgresSettings>,
}

impl Bench {
    fn memory() -> Self {
        Self { ledger: Arc::new(MemoryLedger::new().unwrap()), folder: None, database: None }
    }

    fn file() -> Self {
        let folder = TempDir::new().unwrap();
        let ledger = Arc::new(SqliteLedger::open(folder.path()).unwrap());
        Self { ledger, folder: Some(folder), database: None }
    }

    fn postgres() -> Self {
        let database = postgres::database();
        let ledger = Arc::new(PostgresLedger::open(&database, 0).unwrap());
        Self { ledger, folder: None, database: Some(database) }
    }

    /// What is there after the process ended without a word, and started again. A ledger in memory
    /// goes on.
    fn reopened(self) -> Self {
        let Self { mut ledger, folder, database } = self;
        if let Some(folder) = &folder {
            drop(ledger);
            ledger = Arc::new(SqliteLedger::open(folder.path()).unwrap());
        } else if let Some(database) = &database {
            drop(ledger);
            ledger = Arc::new(PostgresLedger::open(database, 0).unwrap());
        }
        Self { ledger, folder, database }
    }

    fn join(&self, holder: u32) -> Holder {
        self.ledger.join(holder).unwrap()
    }

    fn one<R: Request>(&self, request: R) -> R::Answer {
        one(&*self.ledger, request).unwrap()
    }

    /// The row of the one counter of [`identity`].
    fn row(&self) -> PeriodRow {
        let mut rows = self.ledger.usage(&Scope::All, 0, u64::MAX).unwrap();
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }
}

fn one<R: Request>(ledger: &dyn Ledger, request: R) -> Result<R::Answer, LedgerError> {
    let mut answers = ledger.commit(&[request.into_operation()])?;
    assert_eq!(answers.len(), 1);
    Ok(R::answer(answers.remove(0)).unwrap())
}

fn identity(subscriber: &str) -> CounterIdentity {
    CounterIdentity {
        subscriber: subscriber.into(),
        key: None,
        plan: "gold".into(),
        entitlement: "everything".into(),
        quota: Arc::new(QuotaIdentity {
            name: "daily".into(),
            unit: PeriodUnit::Day,
            time_zone: "UTC".into(),
            week_start: Weekday::Monday,
        }),
    }
}

/// A lease of `want` units for a limit of 100.
fn lease(holder: Holder, want: u64) -> LeaseRequest {
    LeaseRequest {
        counter: Counter::Named(identity("acme")),
        count_rule: CountRule::of_bits([1; 8]),
        period: DAY,
        holder,
        want,
        spent: 0,
        limit: 100,
        may_pass: false,
        revision: 1,
        now_s: NOON,
    }
}

fn back(lease: &Lease, holder: Holder, spent: u64) -> GiveBack {
    GiveBack { counter: lease.counter, period_start_s: DAY.start_s(), holder, spent }
}

fn settle(holder: Holder, seq: u64, deltas: &[(CounterId, i64)]) -> Settle {
    Settle {
        mark: Mark { holder, shard: 7, seq, kind: MarkKind::Corrected, issued_s: NOON },
        deltas: deltas
            .iter()
            .map(|&(counter, units)| Delta { counter, period_start_s: DAY.start_s(), units })
            .collect(),
    }
}
