//! One connection to the database: statements are prepared once, and those of a step are sent
//! together, so that they cost one round trip.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket, Statement};

use super::address::Address;
use super::failure::Wrong;

/// How long an answer may take. After it the connection is given up: the other end may hang, or be
/// gone without a word.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// What a connection is for: how the server plans its statements depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Few rows, each by its key, whatever the server believes of tables that were empty when it
    /// planned.
    Batches,
    /// Much or little, planned for what is asked.
    Lists,
}

impl Purpose {
    fn settings(self) -> &'static str {
        match self {
            Self::Batches => {
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET jit = off"
            }
            Self::Lists => "SET plan_cache_mode = force_custom_plan; SET jit = off",
        }
    }
}

/// A value of a statement.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// One statement, to be sent with others.
#[derive(Debug)]
pub(super) struct Step {
    sql: &'static str,
    values: Vec<Value>,
}

impl Step {
    pub(super) fn new(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql, values }
    }

    pub(super) fn bare(sql: &'static str) -> Self {
        Self::new(sql, Vec::new())
    }
}

/// Makes the values of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value) as $crate::ledger::postgres::session::Value),*] };
}
pub(super) use values;

/// An open connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    warnings: Arc<Warnings>,
    task: JoinHandle<()>,
}

/// What the server warned of, without being asked.
#[derive(Debug, Default)]
struct Warnings {
    count: AtomicU64,
    last: Mutex<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server sees the end of the connection, and ends what it was at.
        self.task.abort();
    }
}

impl Session {
    /// Connects to the first server of the address that can be written.
    pub(super) async fn connect(address: &Address, purpose: Purpose) -> Result<Self, Wrong> {
        let config = address.config()?;
        let connect = async {
            Ok::<_, Wrong>(match address.tls() {
                Some(tls) => Self::over(config.connect(tls.clone()).await?),
                None => Self::over(config.connect(tokio_postgres::NoTls).await?),
            })
        };
        // Each server of several gets its time, and their answers, too.
        let servers = u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1);
        let session = in_time(ANSWER * servers, connect).await?;
        let set = session.client.batch_execute(purpose.settings());
        in_time(ANSWER, async { Ok(set.await?) }).await?;
        Ok(session)
    }

    fn over<T>((client, connection): (Client, Connection<Socket, T>)) -> Self
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        Connection<Socket, T>: Send,
    {
        let warnings = Arc::new(Warnings::default());
        let task = tokio::spawn(drive(connection, Arc::clone(&warnings)));
        Self { client, statements: Mutex::default(), warnings, task }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Sends all steps together, and gives the rows of each; or the first failure.
    pub(super) async fn run(&self, steps: &[Step]) -> Result<Vec<Vec<Row>>, Wrong> {
        // First, so that nothing comes between them: they are done in the order of sending.
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(self.statement(step.sql).await?);
        }
        let sent = steps.iter().zip(&statements).map(|(step, statement)| {
            let values: Vec<&(dyn ToSql + Sync)> =
                step.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            async move { self.client.query(statement, &values).await }
        });
        let answers = join_all(sent).await;
        answers.into_iter().map(|rows| Ok(rows?)).collect()
    }

    /// The rows of one statement.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Wrong> {
        Ok(self.run(&[Step::new(sql, values)]).await?.pop().unwrap_or_default())
    }

    /// Does one statement, and gives how many rows it has changed.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<u64, Wrong> {
        let statement = self.statement(sql).await?;
        let values: Vec<&(dyn ToSql + Sync)> =
            values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        Ok(self.client.execute(&statement, &values).await?)
    }

    /// The steps, and then the commit. A success that the server warned of is none: somebody ended
    /// its wait for the standby, and what was committed is on one server alone.
    pub(super) async fn commit(&self, mut steps: Vec<Step>) -> Result<(), Wrong> {
        steps.push(Step::bare("COMMIT"));
        let before = self.warnings.count.load(Ordering::Acquire);
        self.run(&steps).await?;
        if self.warnings.count.load(Ordering::Acquire) == before {
            return Ok(());
        }
        Err(Wrong::Unsure(self.warnings.last.lock().clone()))
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Wrong> {
        if let Some(known) = self.statements.lock().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql, statement.clone());
        Ok(statement)
    }
}

/// Waits so long and no longer.
pub(super) async fn in_time<T>(
    at_most: Duration,
    work: impl Future<Output = Result<T, Wrong>>,
) -> Result<T, Wrong> {
    tokio::time::timeout(at_most, work).await.unwrap_or(Err(Wrong::Silent))
}

/// Moves the bytes of a connection until it ends.
async fn drive<T>(mut connection: Connection<Socket, T>, warnings: Arc<Warnings>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                // Of what is there already it tells by a notice.
                if notice.severity() != "NOTICE" && notice.code().code().starts_with("01") {
                    *warnings.last.lock() = notice.message().to_owned();
                    warnings.count.fetch_add(1, Ordering::Release);
                }
            }
            Some(Ok(_)) => {}
            // Those who wait for an answer are told.
            Some(Err(_)) | None => return,
        }
    }
}
