//! Nodes: who takes part in a ledger, and whether it is heard.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;

use super::Inner;
use super::failure::Wrong;
use super::promise;
use super::rows::{get, number, short};
use super::session::{ANSWER, Session, Step, values};
use super::texts::{read, written};
use crate::ledger::LedgerError;

/// A node that was not heard for so long counts as gone, in seconds.
pub const GONE_AFTER_S: u64 = 10;
const HEARD_EACH: Duration = Duration::from_secs(1);

// The database's clock alone tells how long ago something was.
const OTHERS: &str = "SELECT h.id, coalesce(h.name, ''),
        greatest(0, floor(extract(epoch FROM clock_timestamp() - b.heard)))::bigint
    FROM tollgate.heartbeats AS b JOIN tollgate.holders AS h ON h.id = b.holder
    WHERE h.name IS DISTINCT FROM $1 AND NOT b.stopped
        AND b.heard > clock_timestamp() - make_interval(secs => $2)
    ORDER BY b.heard DESC";
const NUMBER: &str = "SELECT id FROM tollgate.holders WHERE name = $1";
// A node that counts as gone may live, and not be heard: it must not go on beside another.
const END_OTHERS: &str = "UPDATE tollgate.holders SET epoch = epoch + 1
    WHERE name IS NOT NULL AND name <> $1";
const NAME: &str = "INSERT INTO tollgate.holders (id, name, epoch)
    SELECT coalesce(max(id), 0) + 1, $1::text, 0 FROM tollgate.holders RETURNING id";
const LOCK: &str = "SELECT pg_advisory_xact_lock(8390320540001989733)";
const HEARD: &str = "INSERT INTO tollgate.heartbeats AS b (holder, epoch, heard, stopped)
    SELECT id, epoch, clock_timestamp(), $2::boolean FROM tollgate.holders WHERE id = $1
    ON CONFLICT (holder) DO UPDATE
        SET epoch = excluded.epoch, heard = excluded.heard, stopped = excluded.stopped
    RETURNING epoch";

impl Inner {
    /// Takes part under a name, and gives its number.
    pub(super) async fn enter(&self, node: String) -> Result<u32, LedgerError> {
        let place = self.writer.place().to_owned();
        let name = node.clone();
        let entered = self.heard.use_for(ANSWER, move |session| {
            async move {
                let id = enter(session, &place, &name).await;
                let end = if id.is_ok() { "COMMIT" } else { "ROLLBACK" };
                session.client().batch_execute(end).await?;
                // A refusal is no failure of the connection.
                match id {
                    Err(Wrong::Ledger(refused)) => Ok(Err(refused)),
                    id => id.map(Ok),
                }
            }
            .boxed()
        });
        let id = entered.await??;
        *self.node.lock() = Some((node, id));
        Ok(id)
    }

    /// Lets the others hear it. Another process of this name is told by its epoch.
    async fn beat(&self, stopped: bool) -> Result<(), LedgerError> {
        let Some((node, id)) = self.node.lock().clone() else { return Ok(()) };
        let Some(epoch) = self.joined.lock().get(&id).copied() else { return Ok(()) };
        // One that was told apart by now must not speak for the other.
        if self.fenced.lock().is_some() {
            return Ok(());
        }
        let found = self.heard.use_for(ANSWER, move |session| {
            async move {
                let steps = [
                    Step::bare("BEGIN"),
                    Step::bare("SET LOCAL synchronous_commit = off"),
                    Step::new(
                        "SELECT epoch FROM tollgate.holders WHERE id = $1 FOR SHARE",
                        values![i64::from(id)],
                    ),
                ];
                let answers = session.run(&steps).await?;
                let row = answers.get(2).and_then(|rows| rows.first());
                let found = row.map(|row| short(row, 0)).transpose()?;
                let more = if found == Some(epoch) {
                    vec![Step::new(HEARD, values![i64::from(id), stopped])]
                } else {
                    Vec::new()
                };
                session.commit(more).await?;
                Ok(found)
            }
            .boxed()
        });
        // A holder that is not there any more: the database was replaced. Its batches will say so.
        if found.await?.is_some_and(|found| found != epoch) {
            self.fence(&LedgerError::Fenced { node });
        }
        Ok(())
    }

    /// Settings change while a server runs, and after a failover it is another server.
    async fn look_at_the_promise(&self) -> Result<(), LedgerError> {
        let found = self.heard.use_for(ANSWER, |session| promise::read(session).boxed()).await?;
        let before = std::mem::replace(&mut *self.promise.lock(), found);
        if before != found {
            let (before, now) = (before.word(), found.word());
            tracing::warn!(before, now, "what the database promises has changed");
        }
        Ok(())
    }

    /// Tells the others that this node ends.
    pub(super) async fn say_stopped(&self) -> Result<(), LedgerError> {
        self.beat(true).await
    }
}

async fn enter(session: &Session, place: &str, node: &str) -> Result<u32, Wrong> {
    let name = written(node).into_owned();
    let gone_after_s = f64::from(u32::try_from(GONE_AFTER_S).unwrap_or(u32::MAX));
    session.run(&[Step::bare("BEGIN"), Step::bare(LOCK)]).await?;
    let others = session.query(OTHERS, values![name.clone(), gone_after_s]).await?;
    if let Some(row) = others.first() {
        let other = read(get(row, 1)?).into_owned();
        return Err(Wrong::Ledger(LedgerError::OtherNode {
            place: place.to_owned(),
            node: other,
            ago_s: number(row, 2)?,
            gone_s: GONE_AFTER_S,
        }));
    }
    let known = session.query(NUMBER, values![name.clone()]).await?;
    let id = match known.first() {
        Some(row) => short(row, 0)?,
        None => {
            let made = session.query(NAME, values![name.clone()]).await?;
            let row = made.first().ok_or_else(|| Wrong::Row("a node without a number".into()))?;
            short(row, 0)?
        }
    };
    session.query(END_OTHERS, values![name]).await?;
    // From here on: it takes part before it has an epoch.
    session.query(HEARD, values![i64::from(id), false]).await?;
    Ok(id)
}

/// Beats while the ledger is there.
pub(super) async fn be_heard(inner: Weak<Inner>) {
    let mut turns = tokio::time::interval(HEARD_EACH);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(inner) = Weak::upgrade(&inner).filter(|inner| Arc::strong_count(inner) > 1) else {
            return;
        };
        // What is wrong was told where the connection was opened.
        let heard = async {
            inner.beat(false).await?;
            inner.look_at_the_promise().await
        };
        if let Err(wrong) = heard.await {
            tracing::debug!("this node was not heard: {wrong}");
        }
    }
}
