//! A ledger that fails on purpose: what a full disk, a slow one or a crash does to those who use it
//! can be tried out.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;

use super::{
    Answer, CatalogImage, CounterId, CounterIdentity, DailyRow, Holder, Ledger, LedgerError, Made,
    NumberedName, OnceKind, Operation, PeriodRow, Scope, Secrets, Stretch, Times, Whose, WindowRow,
};
use crate::decide::outcome::CountRule;

/// What happens to one commit.
#[derive(Debug)]
pub enum Fault {
    /// Nothing special.
    None,
    /// It fails, and nothing is done.
    Before(LedgerError),
    /// All is done, but it answers that it failed.
    After(LedgerError),
    /// It waits until it is told to go on, or the sender is gone.
    Wait(Receiver<()>),
    /// All is done, nobody is told, and nothing works from then on.
    Die,
}

/// Decides for each commit, by its number from 1.
type Plan = Box<dyn FnMut(u64) -> Fault + Send>;
type Alter = Box<dyn FnMut(&mut Operation) + Send>;

/// A ledger with faults.
pub struct FaultyLedger {
    inner: Arc<dyn Ledger>,
    plan: Mutex<Plan>,
    commits: AtomicU64,
    dead: AtomicBool,
    /// Why it cannot tidy.
    tidying: Mutex<Option<LedgerError>>,
    alter: Mutex<Option<Alter>>,
}

impl FaultyLedger {
    /// `plan` decides what happens to each commit, by its number from 1.
    pub fn new(inner: Arc<dyn Ledger>, plan: impl FnMut(u64) -> Fault + Send + 'static) -> Self {
        Self {
            inner,
            plan: Mutex::new(Box::new(plan)),
            commits: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            tidying: Mutex::default(),
            alter: Mutex::default(),
        }
    }

    /// Each operation is changed before it is done: a component that is wrong, to show that somebody
    /// notices.
    #[must_use]
    pub fn altering(self, alter: impl FnMut(&mut Operation) + Send + 'static) -> Self {
        Self { alter: Mutex::new(Some(Box::new(alter))), ..self }
    }

    /// How many commits were asked for.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// From now on `plan` decides.
    pub fn set_plan(&self, plan: impl FnMut(u64) -> Fault + Send + 'static) {
        *self.plan.lock() = Box::new(plan);
    }

    /// From now on tidying fails, or works again.
    pub fn set_tidying(&self, wrong: Option<LedgerError>) {
        *self.tidying.lock() = wrong;
    }

    fn next_fault(&self) -> Fault {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        (self.plan.lock())(number)
    }

    fn meet(&self, fault: Fault, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        let inner = self.alive()?;
        let operations = &*self.altered(operations);
        match fault {
            Fault::None => inner.commit(operations),
            Fault::Before(wrong) => Err(wrong),
            Fault::After(wrong) => inner.commit(operations).and(Err(wrong)),
            Fault::Wait(until) => {
                // Told, or left alone: both let it go on.
                let _ = until.recv();
                inner.commit(operations)
            }
            Fault::Die => {
                self.dead.store(true, Ordering::Release);
                inner.commit(operations).and(Err(LedgerError::Stopped))
            }
        }
    }

    fn altered<'o>(&self, operations: &'o [Operation]) -> Cow<'o, [Operation]> {
        let mut operations = Cow::Borrowed(operations);
        if let Some(alter) = &mut *self.alter.lock() {
            operations.to_mut().iter_mut().for_each(alter);
        }
        operations
    }

    fn alive(&self) -> Result<&dyn Ledger, LedgerError> {
        if self.dead.load(Ordering::Acquire) { Err(LedgerError::Stopped) } else { Ok(&*self.inner) }
    }
}

impl fmt::Debug for FaultyLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyLedger")
            .field("inner", &self.inner)
            .field("commits", &self.commits())
            .finish_non_exhaustive()
    }
}

/// Questions that the ledger inside answers while this one is not dead.
macro_rules! while_alive {
    ($(fn $name:ident($($given:ident: $kind:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($given: $kind),*) -> Result<$answer, LedgerError> {
            self.alive()?.$name($($given),*)
        })*
    };
}

/// What the ledger inside answers in any case.
macro_rules! always {
    ($(fn $name:ident() -> $answer:ty;)*) => {
        $(fn $name(&self) -> $answer {
            self.inner.$name()
        })*
    };
}

type Visit<'a, T> = &'a mut dyn FnMut(T);
type VisitTwo<'a, T, U> = &'a mut dyn FnMut(T, U);

impl Ledger for FaultyLedger {
    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        self.alive()?;
        self.meet(self.next_fault(), operations)
    }

    fn commit_each(&self, operations: &[Operation]) -> Vec<Result<Answer, LedgerError>> {
        let done = self.alive().and_then(|inner| match self.next_fault() {
            Fault::None => Ok(inner.commit_each(&self.altered(operations))),
            fault => Ok(self.meet(fault, operations)?.into_iter().map(Ok).collect()),
        });
        done.unwrap_or_else(|wrong| operations.iter().map(|_| Err(wrong.clone())).collect())
    }

    fn tidy(&self) -> Result<(), LedgerError> {
        let inner = self.alive()?;
        match &*self.tidying.lock() {
            Some(wrong) => Err(wrong.clone()),
            None => inner.tidy(),
        }
    }

    fn look(&self) {
        self.inner.look();
    }

    while_alive! {
        fn join(holder_id: u32) -> Holder;
        fn secrets() -> Secrets;
        fn find_made(kind: OnceKind, name: &[u8; 16]) -> Option<Made>;
        fn times() -> Times;
        fn load_made(kind: OnceKind, after_s: u64, visit: VisitTwo<'_, [u8; 16], Made>) -> ();
        fn load_catalog() -> CatalogImage;
        fn load_count_rules() -> Vec<(u16, CountRule)>;
        fn load_live(now_s: u64, visit: Visit<'_, PeriodRow>) -> ();
        fn load_ended(
            after_s: u64,
            by_s: u64,
            most: usize,
            visit: VisitTwo<'_, CounterId, CounterIdentity>
        ) -> ();
        fn usage_of(scope: &Scope, stretch: &Stretch) -> (Vec<PeriodRow>, Option<Whose>);
        fn daily(scope: &Scope, first_day: u64, last_day: u64) -> Vec<(Holder, DailyRow)>;
        fn load_names(most: usize, visit: VisitTwo<'_, Holder, NumberedName>) -> ();
        fn load_windows(holder_id: u32, now_s: u64, visit: Visit<'_, WindowRow>) -> ();
    }

    always! {
        fn wants_tidying() -> bool;
        fn concern() -> Option<String>;
        fn damaged_rows() -> usize;
        fn untidy_bytes() -> u64;
    }
}
