//! The thread in front of a ledger: callers never wait for the disk, and what waits together is
//! committed together. A second thread tidies.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SendError, Sender, SyncSender, channel, sync_channel,
};
use std::thread::JoinHandle;
use std::time::Duration;

use super::status::{Counts, LedgerStatus};
use super::{
    Answer, Balance, CatalogEdit, ChargeRequest, DailyReport, Expire, Expired, GiveBack, GivenBack,
    GrantMade, GrantRequest, Lease, LeaseRequest, Ledger, LedgerError, NameReport, Operation,
    Refused, Remember, RevisionConflict, Settle, Settled, WindowReport,
};

/// The most operations in one transaction.
const MAX_BATCH: usize = 4_096;
/// How long nothing must wait before the ledger is tidied.
const IDLE: Duration = Duration::from_millis(500);

/// Is called on the ledger's thread when the answer is on the disk: quick, and never waiting.
pub type Callback<A> = Box<dyn FnOnce(Result<A, LedgerError>) + Send>;

/// An operation with an answer of its own type.
pub trait Request: Send + 'static {
    type Answer: Send + 'static;
    fn into_operation(self) -> Operation;
    /// The answer, out of that of the operation. `None`: it is the answer to something else.
    fn answer(answer: Answer) -> Option<Self::Answer>;
}

macro_rules! requests {
    ($($request:ident => $variant:ident($answer:ty);)*) => {$(
        impl Request for $request {
            type Answer = $answer;

            fn into_operation(self) -> Operation {
                Operation::$variant(self)
            }

            fn answer(answer: Answer) -> Option<$answer> {
                if let Answer::$variant(answer) = answer { Some(answer) } else { None }
            }
        }
    )*};
}

requests! {
    LeaseRequest => Lease(Result<Lease, Refused>);
    GiveBack => GiveBack(GivenBack);
    Settle => Settle(Settled);
    ChargeRequest => Charge(Result<Balance, Refused>);
    GrantRequest => Grant(Result<GrantMade, Refused>);
    CatalogEdit => Edit(Result<u64, RevisionConflict>);
    DailyReport => Daily(());
    NameReport => Names(());
    WindowReport => Windows(());
    Remember => Remember(());
    Expire => Expire(Expired);
}

struct Job {
    operation: Operation,
    answer: Callback<Answer>,
}

/// A ledger with a thread of its own. When it is dropped, what waits is done first.
pub struct LedgerThread {
    ledger: Arc<dyn Ledger>,
    /// `None` while it is dropped. Bounded by what is counted: a channel with a bound has all of its
    /// places from the start, 15 MB of them.
    queue: Option<Sender<Job>>,
    max_waiting: u64,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

impl LedgerThread {
    /// Starts the thread. At most `max_waiting` operations wait for it.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(ledger: Arc<dyn Ledger>, max_waiting: usize) -> Result<Self, LedgerError> {
        let (queue, jobs) = channel();
        let max_waiting = u64::try_from(max_waiting).unwrap_or(u64::MAX);
        let counts = Arc::new(Counts::default());
        let tidier = Tidier::start(&ledger, &counts)?;
        let work =
            Worker { ledger: Arc::clone(&ledger), jobs, counts: Arc::clone(&counts), tidier };
        let thread = spawn("ledger", move || work.run())?;
        Ok(Self { ledger, queue: Some(queue), max_waiting, thread: Some(thread), counts })
    }

    /// The ledger, for what is read. Lists take their time: not on a thread that serves.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Does an operation with all others that wait, and calls back when it is on the disk, or could
    /// not be done. Never waits. Operations that one thread submits are done in its order.
    ///
    /// Where too many wait already, `answer` is called at once, with [`LedgerError::Busy`].
    pub fn submit<R: Request>(
        &self,
        request: R,
        answer: impl FnOnce(Result<R::Answer, LedgerError>) + Send + 'static,
    ) {
        let answer: Callback<Answer> = Box::new(move |done| {
            answer(done.and_then(|done| {
                R::answer(done)
                    .ok_or_else(|| LedgerError::Fault("it answered something else".to_owned()))
            }));
        });
        let job = Job { operation: request.into_operation(), answer };
        let Some(queue) = &self.queue else { return (job.answer)(Err(LedgerError::Stopped)) };
        if !self.counts.waits(self.max_waiting) {
            return (job.answer)(Err(LedgerError::Busy));
        }
        if let Err(SendError(job)) = queue.send(job) {
            self.counts.waits_no_more(1);
            (job.answer)(Err(LedgerError::Stopped));
        }
    }

    /// Does an operation, and waits for it. Not on a thread that serves.
    ///
    /// # Errors
    /// Those of [`Ledger::commit`].
    pub fn call<R: Request>(&self, request: R) -> Result<R::Answer, LedgerError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.submit(request, move |answer| drop(tell.send(answer)));
        told.recv().unwrap_or(Err(LedgerError::Stopped))
    }

    /// What was done so far.
    pub fn status(&self) -> LedgerStatus {
        self.counts.status()
    }

    /// Did the last transaction fail?
    pub fn is_failing(&self) -> bool {
        self.counts.is_failing()
    }
}

impl Drop for LedgerThread {
    fn drop(&mut self) {
        drop(self.queue.take());
        // A callback may hold the last reference: the thread then ends by itself.
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for LedgerThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerThread")
            .field("ledger", &self.ledger)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|wrong| LedgerError::Fault(format!("the system gives no thread: {wrong}")))
}

/// A second thread, so that tidying keeps no commit waiting.
struct Tidier {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Tidier {
    fn start(ledger: &Arc<dyn Ledger>, counts: &Arc<Counts>) -> Result<Self, LedgerError> {
        let (wake, woken) = sync_channel(1);
        let (ledger, counts) = (Arc::clone(ledger), Arc::clone(counts));
        let thread = spawn("ledger-tidier", move || {
            for () in woken {
                // Commits go on, whatever becomes of it: a failure of this is none of theirs.
                counts.note_tidied(guarded(|| ledger.tidy()));
                counts.note_untidy(ledger.untidy_bytes());
            }
        })?;
        Ok(Self { wake, thread })
    }

    /// Does nothing where it was woken already.
    fn wake(&self) {
        let _ = self.wake.try_send(());
    }

    /// Tidies a last time.
    fn stop(self) {
        // An error means that the thread is gone.
        let _ = self.wake.send(());
        drop(self.wake);
        drop(self.thread.join());
    }
}

struct Worker {
    ledger: Arc<dyn Ledger>,
    jobs: Receiver<Job>,
    counts: Arc<Counts>,
    tidier: Tidier,
}

impl Worker {
    fn run(self) {
        // What panicked was told where it happened, and what it was at was not done. The others
        // must not wait for ever.
        while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work())).is_err() {}
        self.tidier.stop();
    }

    /// Until nobody can submit any more.
    fn work(&self) {
        loop {
            match self.jobs.recv_timeout(IDLE) {
                Ok(first) => self.commit(first),
                Err(RecvTimeoutError::Timeout) => self.tidier.wake(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.ledger.wants_tidying() {
                self.tidier.wake();
            }
        }
    }

    /// Commits a job with all that wait behind it.
    fn commit(&self, first: Job) {
        let mut operations = vec![first.operation];
        let mut callbacks = vec![first.answer];
        for job in self.jobs.try_iter().take(MAX_BATCH - 1) {
            operations.push(job.operation);
            callbacks.push(job.answer);
        }
        self.counts.waits_no_more(u64::try_from(operations.len()).unwrap_or(u64::MAX));
        self.counts.begins();
        let done = guarded(|| Ok(self.ledger.commit_each(&operations))).and_then(|done| {
            let fits = done.len() == operations.len();
            if fits {
                Ok(done)
            } else {
                Err(LedgerError::Fault("it answered some of the operations".to_owned()))
            }
        });
        let done =
            done.unwrap_or_else(|wrong| operations.iter().map(|_| Err(wrong.clone())).collect());
        self.counts.note(&operations, &done);
        self.counts.note_untidy(self.ledger.untidy_bytes());
        callbacks.into_iter().zip(done).for_each(|(callback, done)| call(callback, done));
    }
}

/// A panic is a failure of the ledger, and not the end of its thread.
fn guarded<T>(work: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(LedgerError::Fault(words(&*panic))))
}

fn call(callback: Callback<Answer>, answer: Result<Answer, LedgerError>) {
    // One caller's panic is not another's: it was printed where it happened.
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(answer))));
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}
