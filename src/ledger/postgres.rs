//! The shared ledger: a PostgreSQL database.
//!
//! A batch of operations is one transaction. It reads and locks the rows that it needs, works the
//! operations out in memory, by the same words as every ledger, and writes back what has changed:
//! two or three round trips, however many operations. Rows are locked in one order, so that nodes do
//! not wait for each other in circles, and what is new is inserted: where another was quicker the
//! batch is done again.
//!
//! Three connections: one writes, one reads lists, one is heard by the others. After a failure a
//! connection is closed, and nothing is assumed of what it was at: the next batch asks again. What
//! may be repeated is said by [`Ledger::commit`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::operations::perform;
use super::{
    Answer, CatalogImage, CounterId, CounterIdentity, DailyRow, Holder, Ledger, LedgerError, Made,
    NumberedName, OnceKind, Operation, PeriodRow, Scope, Secrets, Stretch, Times, Whose, WindowRow,
};
use crate::decide::outcome::CountRule;
use draft::Draft;
use failure::Wrong;
use known::{Kept, Known, wanted};
use line::Line;
use load::epochs_of;
use session::{ANSWER, Purpose, Session, Step, in_time, values};

mod address;
mod columns;
mod draft;
mod expire;
mod failure;
mod known;
mod line;
mod lists;
mod load;
mod nodes;
mod numbers;
mod promise;
mod rows;
mod schema;
mod session;
mod texts;
mod write;

pub use address::PostgresSettings;
pub use nodes::GONE_AFTER_S;
pub use promise::Promise;

/// What a row of a batch may take beside [`ANSWER`].
const FOR_A_ROW: Duration = Duration::from_millis(2);
/// How often a batch is worked out again, where something turns out to be missing.
const MOST_PASSES: usize = 16;
/// How often a batch is done again, where another was quicker.
const MOST_ATTEMPTS: usize = 8;

/// A ledger in a database that others may use, too.
pub struct PostgresLedger {
    inner: Arc<Inner>,
    /// `None` while it is dropped. It has a thread of its own: whoever calls waits without one.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Inner {
    writer: Line,
    reader: Line,
    heard: Line,
    kept: tokio::sync::Mutex<Kept>,
    secrets: Secrets,
    promise: Mutex<Promise>,
    /// The epochs that were given here, by holder: another epoch means that another process has
    /// joined.
    joined: Mutex<BTreeMap<u32, u32>>,
    /// The name of this node, where it has one, and its number.
    node: Mutex<Option<(String, u32)>>,
    fenced: Mutex<Option<LedgerError>>,
    /// No epoch is less: after a database has forgotten some none is given twice.
    least_epoch: u32,
}

impl std::fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresLedger").field("place", &self.inner.writer.place()).finish()
    }
}

impl Drop for PostgresLedger {
    fn drop(&mut self) {
        let inner = Arc::clone(&self.inner);
        // Others need not wait until it counts as gone.
        let said = self.wait(async move { Ok(inner.say_stopped().await) });
        if let Err(wrong) | Ok(Err(wrong)) = said {
            tracing::debug!("the other nodes were not told of the end: {wrong}");
        }
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: it may be dropped where nothing may wait.
            runtime.shutdown_background();
        }
    }
}

/// Makes the tables where they are missing or old, and gives the version of the schema that was
/// there, and that there is.
///
/// # Errors
/// The database cannot be reached, refuses, or is of a newer program.
pub fn migrate(settings: &PostgresSettings) -> Result<(i64, i64), LedgerError> {
    let (runtime, writer) = first_line(settings)?;
    let fresh = Secrets::generate()?;
    wait_on(&runtime, async move {
        let session = writer.dial().await?;
        let found = schema::ensure(session.client(), writer.place(), &fresh, false).await;
        found.map_err(|wrong| wrong.classify(writer.place()))
    })
    .map(|found| (found, schema::newest()))
}

fn first_line(settings: &PostgresSettings) -> Result<(Runtime, Line), LedgerError> {
    let address = settings
        .understood()
        .map_err(|what| LedgerError::Denied { place: settings.url_without_password(), what })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("ledger-postgres")
        .enable_all()
        .build()
        .map_err(|wrong| LedgerError::Fault(format!("the system gives no thread: {wrong}")))?;
    Ok((runtime, Line::new(Arc::new(address), Purpose::Batches)))
}

/// Has the runtime do something, and waits for it: on any thread, also one that serves another
/// runtime.
fn wait_on<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, LedgerError>> + Send + 'static,
) -> Result<T, LedgerError> {
    let (tell, told) = std::sync::mpsc::channel();
    runtime.spawn(async move { drop(tell.send(work.await)) });
    told.recv().unwrap_or_else(|_| Err(LedgerError::Fault("it panicked".to_owned())))
}

impl PostgresLedger {
    /// Opens the ledger of a database. Its tables and secrets are made where they are missing.
    /// No epoch of a holder is less than `least_epoch`.
    ///
    /// # Errors
    /// The database cannot be reached, refuses, is read-only, or its tables are of a newer program.
    pub fn open(settings: &PostgresSettings, least_epoch: u32) -> Result<Self, LedgerError> {
        let (runtime, writer) = first_line(settings)?;
        let (fresh, must_exist) = (Secrets::generate()?, settings.must_exist);
        let inner = wait_on(&runtime, async move {
            let session = writer.dial().await?;
            let place = writer.place().to_owned();
            let prepared = async {
                promise::check(&session).await?;
                let found = schema::ensure(session.client(), &place, &fresh, must_exist).await?;
                if found == 0 {
                    tracing::warn!(place, "a new, empty ledger was made: there was none here");
                }
                Ok((lists::secrets(&session).await?, promise::read(&session).await?))
            };
            let (secrets, promise) =
                in_time(ANSWER * 6, prepared).await.map_err(|wrong| wrong.classify(&place))?;
            let (reader, heard) = (writer.another(Purpose::Lists), writer.another(Purpose::Lists));
            writer.keep(session).await;
            Ok(Inner {
                writer,
                reader,
                heard,
                kept: tokio::sync::Mutex::default(),
                secrets,
                promise: Mutex::new(promise),
                joined: Mutex::default(),
                node: Mutex::default(),
                fenced: Mutex::default(),
                least_epoch,
            })
        })?;
        Ok(Self { inner: Arc::new(inner), runtime: Some(runtime) })
    }

    /// Where it is, without a password.
    pub fn place(&self) -> &str {
        self.inner.writer.place()
    }

    /// Takes part as a node of this name: gives its number, the same at each start, and lets the
    /// others hear it from now on, each second.
    ///
    /// # Errors
    /// Another node takes part already.
    pub fn enter(&self, node: &str) -> Result<u32, LedgerError> {
        let (inner, node) = (Arc::clone(&self.inner), node.to_owned());
        let id = self.wait(async move { inner.enter(node).await })?;
        if let Some(runtime) = &self.runtime {
            runtime.spawn(nodes::be_heard(Arc::downgrade(&self.inner)));
        }
        Ok(id)
    }

    /// Says nothing at its end: a process that was killed, for tests.
    #[cfg(test)]
    pub(super) fn pretend_killed(self) {
        *self.inner.node.lock() = None;
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let runtime = self.runtime.as_ref().ok_or(LedgerError::Stopped)?;
        wait_on(runtime, work)
    }

    /// Reads on the connection for lists.
    fn read<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a Session) -> BoxFuture<'a, Result<T, Wrong>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let inner = Arc::clone(&self.inner);
        self.wait(async move { inner.reader.use_for(line::LIST, work).await })
    }
}

/// About how many rows operations change.
fn rows_of(operations: &[Operation]) -> u32 {
    let rows = operations.iter().map(|operation| match operation {
        Operation::Daily(report) => report.rows.len(),
        Operation::Names(report) => report.names.len(),
        Operation::Windows(report) => report.rows.len(),
        Operation::Remember(remember) => remember.operations.len(),
        Operation::Edit(edit) => edit.changes.len(),
        _ => 1,
    });
    u32::try_from(rows.sum::<usize>()).unwrap_or(u32::MAX / 2)
}

impl Inner {
    /// Does all operations in one transaction.
    async fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        if let Some(fenced) = self.fenced.lock().clone() {
            return Err(fenced);
        }
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let mut kept = self.kept.lock().await;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let session = self.writer.take().await?;
            let at_most = ANSWER + FOR_A_ROW * rows_of(operations);
            let done = in_time(at_most, self.attempt(&session, &mut kept, operations)).await;
            let wrong = match done {
                Ok(answers) => {
                    self.writer.keep(session).await;
                    return Ok(answers);
                }
                Err(wrong) => wrong,
            };
            // Numbers that were given to rules are in no table then: they are read again.
            kept.rules.clear();
            // Whatever it was at is over: nothing of it may be left open.
            if wrong.leaves_session()
                && in_time(ANSWER, async { Ok(session.client().batch_execute("ROLLBACK").await?) })
                    .await
                    .is_ok()
            {
                self.writer.keep(session).await;
            }
            if !wrong.is_quicker_other() || attempts == MOST_ATTEMPTS {
                let wrong = wrong.classify(self.writer.place());
                if matches!(wrong, LedgerError::Fenced { .. }) {
                    self.fence(&wrong);
                }
                return Err(wrong);
            }
        }
    }

    /// Another process has this node's name. Told once.
    fn fence(&self, wrong: &LedgerError) {
        let mut fenced = self.fenced.lock();
        if fenced.is_none() {
            tracing::error!("{wrong}");
            *fenced = Some(wrong.clone());
        }
    }

    async fn attempt(
        &self,
        session: &Session,
        kept: &mut Kept,
        operations: &[Operation],
    ) -> Result<Vec<Answer>, Wrong> {
        kept.rules_read = false;
        let mut answers = Vec::with_capacity(operations.len());
        let mut rest = operations;
        let mut begin = self.begin();
        let mut writes = Vec::new();
        while let Some(first) = rest.first() {
            if let Operation::Expire(request) = first {
                // By statements: what was worked out before has to be there.
                writes = begin.drain(..).chain(writes).collect();
                self.believe_epochs(&session.run(&writes).await?)?;
                writes.clear();
                answers.push(Answer::Expire(expire::expire(session, request).await?));
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let count = rest
                .iter()
                .position(|operation| matches!(operation, Operation::Expire(_)))
                .unwrap_or(rest.len());
            let (now, later) = rest.split_at(count);
            rest = later;
            // What was worked out before an expiry was written by then.
            let batch = self.batch(session, std::mem::take(&mut begin), kept, now).await?;
            answers.extend(batch.0);
            writes = batch.1;
        }
        session.commit(writes).await?;
        Ok(answers)
    }

    /// What begins a transaction: another process of this name must not have joined, nor may it
    /// while the transaction lasts.
    fn begin(&self) -> Vec<Step> {
        let joined = self.joined.lock();
        let mut steps = vec![Step::bare("BEGIN")];
        if !joined.is_empty() {
            let holders = joined.iter().map(|(&id, &epoch)| Holder { id, epoch });
            steps.push(epochs_of(holders));
        }
        steps
    }

    /// Whether the epochs that were found, second of the answers, are those that were given here.
    fn believe_epochs(&self, answers: &[Vec<tokio_postgres::Row>]) -> Result<(), Wrong> {
        let joined = self.joined.lock();
        for row in answers.get(1).into_iter().flatten().filter(|row| row.len() == 2) {
            let found = rows::holder(row, 0)?;
            if joined.get(&found.id).is_some_and(|epoch| *epoch != found.epoch) {
                let node = self.node.lock().as_ref().map(|(name, _)| name.clone());
                let node = node.unwrap_or_else(|| found.id.to_string());
                return Err(Wrong::Ledger(LedgerError::Fenced { node }));
            }
        }
        Ok(())
    }

    /// Works operations out, and gives their answers and what is to be written.
    async fn batch(
        &self,
        session: &Session,
        mut begin: Vec<Step>,
        kept: &mut Kept,
        operations: &[Operation],
    ) -> Result<(Vec<Answer>, Vec<Step>), Wrong> {
        let mut known = Known::default();
        let mut missing = wanted(operations, &known, kept);
        for _ in 0..MOST_PASSES {
            if !missing.is_empty() || !begin.is_empty() {
                let begun = std::mem::take(&mut begin);
                let answers = load::load(session, begun, missing, &mut known, kept).await?;
                self.believe_epochs(&answers)?;
            }
            missing = wanted(operations, &known, kept);
            if !missing.is_empty() {
                continue;
            }
            let mut draft = Draft::new(&known, kept);
            let answers: Vec<_> =
                operations.iter().map(|operation| perform(&mut draft, operation)).collect();
            match answers.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(answers) => {
                    let steps = write::steps(&draft)?;
                    let (counters, rules) = (draft.counters.len(), draft.rules);
                    // Whatever becomes of the transaction: a number of a counter is given once.
                    kept.ids.drain(..counters);
                    kept.rules.extend(rules);
                    return Ok((answers, steps));
                }
                Err(draft::Missing) => missing = draft.missing,
            }
        }
        Err(Wrong::Ledger(LedgerError::Fault("a batch needs rows that are never there".to_owned())))
    }

    /// Another epoch of a holder.
    async fn join(&self, holder_id: u32) -> Result<Holder, LedgerError> {
        let sql =
            "INSERT INTO tollgate.holders AS h (id, epoch) VALUES ($1, greatest(1, $2::bigint))
                   ON CONFLICT (id) DO UPDATE SET epoch = greatest(h.epoch + 1, $2::bigint)
                   RETURNING id, epoch";
        let least = i64::from(self.least_epoch);
        let session = self.writer.take().await?;
        let joined = async {
            let steps = [Step::bare("BEGIN"), Step::new(sql, values![i64::from(holder_id), least])];
            let answers = session.run(&steps).await?;
            let row = answers.get(1).and_then(|rows| rows.first());
            let row = row.ok_or_else(|| Wrong::Row("a holder without an epoch".to_owned()))?;
            let holder = rows::holder(row, 0)?;
            session.commit(Vec::new()).await?;
            Ok(holder)
        };
        // One that fails leaves no connection: it may be in a transaction.
        let holder =
            in_time(ANSWER, joined).await.map_err(|wrong| wrong.classify(self.writer.place()))?;
        self.writer.keep(session).await;
        self.joined.lock().insert(holder.id, holder.epoch);
        Ok(holder)
    }
}

impl Ledger for PostgresLedger {
    fn join(&self, holder_id: u32) -> Result<Holder, LedgerError> {
        let inner = Arc::clone(&self.inner);
        self.wait(async move { inner.join(holder_id).await })
    }

    fn secrets(&self) -> Result<Secrets, LedgerError> {
        Ok(self.inner.secrets.clone())
    }

    fn commit(&self, operations: &[Operation]) -> Result<Vec<Answer>, LedgerError> {
        let (inner, operations) = (Arc::clone(&self.inner), operations.to_vec());
        self.wait(async move { inner.commit(&operations).await })
    }

    fn commit_each(&self, operations: &[Operation]) -> Vec<Result<Answer, LedgerError>> {
        match self.commit(operations) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // Told before anything was done. In halves until the one that fails is alone.
            Err(wrong) if wrong.is_of_one() && operations.len() > 1 => {
                let (first, rest) = operations.split_at(operations.len() / 2);
                let mut each = self.commit_each(first);
                each.extend(self.commit_each(rest));
                each
            }
            Err(wrong) => operations.iter().map(|_| Err(wrong.clone())).collect(),
        }
    }

    fn find_made(&self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, LedgerError> {
        let name = *name;
        self.read(move |session| lists::find_made(session, kind, name).boxed())
    }

    fn times(&self) -> Result<Times, LedgerError> {
        self.read(|session| lists::times(session).boxed())
    }

    fn load_made(
        &self,
        kind: OnceKind,
        after_s: u64,
        visit: &mut dyn FnMut([u8; 16], Made),
    ) -> Result<(), LedgerError> {
        let made = self.read(move |session| lists::all_made(session, kind, after_s).boxed())?;
        made.into_iter().for_each(|(name, made)| visit(name, made));
        Ok(())
    }

    fn load_catalog(&self) -> Result<CatalogImage, LedgerError> {
        self.read(|session| lists::catalog(session).boxed())
    }

    fn load_count_rules(&self) -> Result<Vec<(u16, CountRule)>, LedgerError> {
        self.read(|session| lists::count_rules(session).boxed())
    }

    fn load_live(&self, now_s: u64, visit: &mut dyn FnMut(PeriodRow)) -> Result<(), LedgerError> {
        self.read(move |session| lists::live(session, now_s).boxed())?.into_iter().for_each(visit);
        Ok(())
    }

    fn load_ended(
        &self,
        after_s: u64,
        by_s: u64,
        most: usize,
        visit: &mut dyn FnMut(CounterId, CounterIdentity),
    ) -> Result<(), LedgerError> {
        let ended = self.read(move |session| lists::ended(session, after_s, by_s, most).boxed())?;
        ended.into_iter().for_each(|(counter, identity)| visit(counter, identity));
        Ok(())
    }

    fn usage_of(
        &self,
        scope: &Scope,
        stretch: &Stretch,
    ) -> Result<(Vec<PeriodRow>, Option<Whose>), LedgerError> {
        let (scope, stretch) = (scope.clone(), stretch.clone());
        self.read(move |session| {
            async move { lists::usage(session, &scope, &stretch).await }.boxed()
        })
    }

    fn daily(
        &self,
        scope: &Scope,
        first_day: u64,
        last_day: u64,
    ) -> Result<Vec<(Holder, DailyRow)>, LedgerError> {
        let scope = scope.clone();
        self.read(move |session| {
            async move { lists::daily(session, &scope, first_day, last_day).await }.boxed()
        })
    }

    fn load_names(
        &self,
        most: usize,
        visit: &mut dyn FnMut(Holder, NumberedName),
    ) -> Result<(), LedgerError> {
        let names = self.read(move |session| lists::names(session, most).boxed())?;
        names.into_iter().for_each(|(holder, name)| visit(holder, name));
        Ok(())
    }

    fn load_windows(
        &self,
        holder_id: u32,
        now_s: u64,
        visit: &mut dyn FnMut(WindowRow),
    ) -> Result<(), LedgerError> {
        let windows =
            self.read(move |session| lists::windows(session, holder_id, now_s).boxed())?;
        windows.into_iter().for_each(visit);
        Ok(())
    }

    /// The database tidies itself.
    fn tidy(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    fn promise(&self) -> Option<Promise> {
        Some(*self.inner.promise.lock())
    }

    fn ended(&self) -> Option<LedgerError> {
        self.inner.fenced.lock().clone()
    }

    fn concern(&self) -> Option<String> {
        let fenced = self.inner.fenced.lock().as_ref().map(ToString::to_string);
        fenced.or_else(|| self.inner.promise.lock().concern(self.place()))
    }
}
