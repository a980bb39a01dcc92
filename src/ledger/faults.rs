//! A ledger that fails on purpose: what a full disk, a slow one or a crash does to those who use it
//! can be tried out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;

use super::{
    Answer, CatalogImage, CounterId, CounterIdentity, DailyRow, Holder, Ledger, LedgerError,
    LedgerScope, Made, NumberedName, OnceKind, Operation, PeriodRow, Secrets, Stretch, Times,
    Whose, WindowRow,
};

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

/// A ledger with faults.
pub struct FaultyLedger {
    inner: Arc<dyn Ledger>,
    plan: Mutex<Plan>,
    commits: AtomicU64,
    dead: AtomicBool,
    /// Why it cannot tidy.
    tidying: Mutex<Option<LedgerError>>,
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
        }
    }

    /// How many commits were asked for.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
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

impl Ledger for FaultyLedger {
    fn join(&self, holder_id: u32) -> Result<Holder, LedgerError> {
        self.alive()?.join(holder_id)
    }

    fn secrets(&self) -> Result<Secrets, LedgerError> {
        self.alive()?.secrets()
    }

    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        self.alive()?;
        self.meet(self.next_fault(), operations)
    }

    fn commit_each(&self, operations: &[Operation]) -> Vec<Result<Answer, LedgerError>> {
        let done = self.alive().and_then(|inner| match self.next_fault() {
            Fault::None => Ok(inner.commit_each(operations)),
            fault => Ok(self.meet(fault, operations)?.into_iter().map(Ok).collect()),
        });
        done.unwrap_or_else(|wrong| operations.iter().map(|_| Err(wrong.clone())).collect())
    }

    fn find_made(&self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, LedgerError> {
        self.alive()?.find_made(kind, name)
    }

    fn times(&self) -> Result<Times, LedgerError> {
        self.alive()?.times()
    }

    fn load_made(
        &self,
        kind: OnceKind,
        after_s: u64,
        visit: &mut dyn FnMut([u8; 16], Made),
    ) -> Result<(), LedgerError> {
        self.alive()?.load_made(kind, after_s, visit)
    }

    fn load_catalog(&self) -> Result<CatalogImage, LedgerError> {
        self.alive()?.load_catalog()
    }

    fn load_count_rules(&self) -> Result<Vec<(u16, [u64; 8])>, LedgerError> {
        self.alive()?.load_count_rules()
    }

    fn load_live(&self, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError> {
        self.alive()?.load_live(now_s, visit)
    }

    fn load_ended(
        &self,
        after_s: u64,
        by_s: u64,
        most: usize,
        visit: &mut dyn FnMut(CounterId, CounterIdentity),
    ) -> Result<(), LedgerError> {
        self.alive()?.load_ended(after_s, by_s, most, visit)
    }

    fn usage_of(
        &self,
        scope: &LedgerScope,
        stretch: &Stretch,
    ) -> Result<(Vec<PeriodRow>, Option<Whose>), LedgerError> {
        self.alive()?.usage_of(scope, stretch)
    }

    fn daily(
        &self,
        scope: &LedgerScope,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<(Holder, DailyRow)>, LedgerError> {
        self.alive()?.daily(scope, first_day, last_day)
    }

    fn load_names(
        &self,
        most: usize,
        visit: &mut dyn FnMut(Holder, NumberedName),
    ) -> Result<(), LedgerError> {
        self.alive()?.load_names(most, visit)
    }

    fn load_windows(
        &self,
        holder_id: u32,
        now_s: u64,
        visit: &mut dyn FnMut(WindowRow),
    ) -> Result<(), LedgerError> {
        self.alive()?.load_windows(holder_id, now_s, visit)
    }

    fn tidy(&self) -> Result<(), LedgerError> {
        let inner = self.alive()?;
        match &*self.tidying.lock() {
            Some(wrong) => Err(wrong.clone()),
            None => inner.tidy(),
        }
    }

    fn wants_tidying(&self) -> bool {
        self.inner.wants_tidying()
    }

    fn concern(&self) -> Option<String> {
        self.inner.concern()
    }

    fn look(&self) {
        self.inner.look();
    }

    fn damaged_rows(&self) -> usize {
        self.inner.damaged_rows()
    }

    fn untidy_bytes(&self) -> u64 {
        self.inner.untidy_bytes()
    }
}
