//! Drops what is old, by statements: what goes is found where it lies.

use std::collections::HashMap;

use super::failure::Wrong;
use super::known::once_kind;
use super::numbers::{
    ACCOUNTS_DROPPED_FROM_S, ACCOUNTS_DROPPED_TO_S, MARKS_DROPPED_TO_S, SEEN_S, VOUCHED_S,
};
use super::rows::{get, number};
use super::session::{Session, values};
use super::write::set_number;
use crate::ledger::codes::int;
use crate::ledger::operations::MAX_EXPIRED;
use crate::ledger::{Believed, Expire, Expired, OnceKind};

const LOCK: &str = "SELECT value FROM tollgate.numbers WHERE name = 'catalog_revision' FOR UPDATE";
const MARKS: &str = "WITH old AS (
        SELECT holder, epoch, shard, kind, high FROM tollgate.marks WHERE newest_s < $1
        ORDER BY newest_s LIMIT $2 FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM tollgate.marks AS m USING old
        WHERE m.holder = old.holder AND m.epoch = old.epoch AND m.shard = old.shard
            AND m.kind = old.kind AND m.high = old.high RETURNING m.newest_s)
    SELECT count(*), max(newest_s) FROM gone";
const PERIODS: &str = "WITH old AS (
        SELECT counter, start_s FROM tollgate.periods WHERE end_s <= $1
        ORDER BY end_s LIMIT $2 FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM tollgate.periods AS p USING old
        WHERE p.counter = old.counter AND p.start_s = old.start_s
        RETURNING p.counter, p.start_s, p.end_s),
    shares AS (DELETE FROM tollgate.shares AS s USING old
        WHERE s.counter = old.counter AND s.start_s = old.start_s)
    SELECT counter, end_s FROM gone";
const COUNTERS: &str = "DELETE FROM tollgate.counters AS c WHERE id = ANY($1)
    AND NOT EXISTS (SELECT 1 FROM tollgate.periods AS p WHERE p.counter = c.id)";
const DAYS: &str = "DELETE FROM tollgate.daily WHERE (day, holder, epoch, number) IN
    (SELECT day, holder, epoch, number FROM tollgate.daily WHERE day < $1
     ORDER BY day, holder, epoch, number LIMIT $2)";
const ENDED: &str = "UPDATE tollgate.naming_epochs AS n SET ended_s = $1
    FROM tollgate.holders AS h
    WHERE h.id = n.holder AND n.epoch < h.epoch AND (n.ended_s IS NULL OR n.ended_s > $1)";
const NAMES: &str = "DELETE FROM tollgate.names WHERE (holder, epoch, kind, number) IN
    (SELECT n.holder, n.epoch, n.kind, n.number
     FROM tollgate.names AS n JOIN tollgate.naming_epochs AS e USING (holder, epoch)
     WHERE e.ended_s < $1 LIMIT $2)";
const NAMELESS: &str = "DELETE FROM tollgate.naming_epochs AS e WHERE ended_s < $1
    AND NOT EXISTS (SELECT 1 FROM tollgate.names AS n
                    WHERE n.holder = e.holder AND n.epoch = e.epoch)";
const WINDOWS: &str = "DELETE FROM tollgate.windows WHERE (holder, fingerprint) IN
    (SELECT holder, fingerprint FROM tollgate.windows WHERE end_s <= $1 LIMIT $2)";
const MADE: &str = "DELETE FROM tollgate.made WHERE kind = $1 AND seq IN
    (SELECT seq FROM tollgate.made WHERE kind = $1 AND seq < greatest(
        coalesce((SELECT min(seq) FROM tollgate.made WHERE kind = $1 AND made_s >= $2),
            9223372036854775807),
        coalesce((SELECT seq FROM tollgate.made WHERE kind = $1 ORDER BY seq DESC
            OFFSET $3 LIMIT 1) + 1, 0))
     ORDER BY seq LIMIT $4)";

/// Does an expiry, in the transaction that is open.
pub(super) async fn expire(session: &Session, request: &Expire) -> Result<Expired, Wrong> {
    // One at a time, over all nodes.
    session.query(LOCK, values![]).await?;
    let mut numbers = numbers(session).await?;
    let reopened = match request.believed {
        Some(believed) => believe(session, &mut numbers, believed).await?,
        None => false,
    };
    let most = int(MAX_EXPIRED);
    let old = session.query(MARKS, values![int(request.marks_issued_before_s), most]).await?;
    let mut mark_rows = 0;
    if let Some(row) = old.first() {
        mark_rows = number(row, 0)?;
        let newest_s: Option<i64> = get(row, 1)?;
        let newest_s = newest_s.and_then(|newest_s| u64::try_from(newest_s).ok());
        let known_s = numbers.get(MARKS_DROPPED_TO_S).copied();
        if let Some(newest_s) = newest_s.filter(|newest_s| Some(*newest_s) > known_s) {
            set(session, MARKS_DROPPED_TO_S, newest_s).await?;
        }
    }
    let (periods, counters) = expire_periods(session, &numbers, request, most).await?;
    let execute = |sql, before_s| session.execute(sql, values![int(before_s), most]);
    let days = execute(DAYS, request.days_before).await?;
    if let Some(now_s) = request.now_s {
        session.execute(ENDED, values![int(now_s)]).await?;
    }
    let names = execute(NAMES, request.names_ended_before_s).await?;
    session.execute(NAMELESS, values![int(request.names_ended_before_s)]).await?;
    let windows = execute(WINDOWS, request.windows_ended_by_s).await?;
    let mut made = [0; 3];
    let kinds = [
        (OnceKind::Request, request.requests_made_before_s),
        (OnceKind::Charge, request.charges_made_before_s),
        (OnceKind::Check, request.checks_made_before_s),
    ];
    for ((kind, before_s), made) in kinds.into_iter().zip(&mut made) {
        let kept = int(kind.max_kept());
        *made = session.execute(MADE, values![once_kind(kind), int(before_s), kept, most]).await?;
    }
    let none = Expired { reopened, ..Expired::default() };
    let dropped = Expired { mark_rows, periods, counters, days, names, windows, ..none };
    Ok(Expired::up_to(MAX_EXPIRED, dropped, made))
}

async fn numbers(session: &Session) -> Result<HashMap<String, u64>, Wrong> {
    let rows = session.query("SELECT name, value FROM tollgate.numbers", values![]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, number(row, 1)?))).collect()
}

async fn set(session: &Session, name: &'static str, value: u64) -> Result<(), Wrong> {
    session.run(&[set_number(name, value)]).await.map(drop)
}

async fn believe(
    session: &Session,
    numbers: &mut HashMap<String, u64>,
    Believed { now_s, vouched }: Believed,
) -> Result<bool, Wrong> {
    set(session, if vouched { VOUCHED_S } else { SEEN_S }, now_s).await?;
    let mut reopened = false;
    for name in [ACCOUNTS_DROPPED_TO_S, MARKS_DROPPED_TO_S] {
        if let Some(dropped_s) = numbers.get_mut(name).filter(|dropped_s| **dropped_s > now_s) {
            *dropped_s = now_s;
            set(session, name, now_s).await?;
            reopened = true;
        }
    }
    Ok(reopened)
}

async fn expire_periods(
    session: &Session,
    numbers: &HashMap<String, u64>,
    request: &Expire,
    most: i64,
) -> Result<(u64, u64), Wrong> {
    let old = session.query(PERIODS, values![int(request.periods_ended_by_s), most]).await?;
    let ends: Vec<u64> = old.iter().map(|row| number(row, 1)).collect::<Result<_, _>>()?;
    let (Some(first_s), Some(last_s)) = (ends.iter().min(), ends.iter().max()) else {
        return Ok((0, 0));
    };
    let known_to_s = numbers.get(ACCOUNTS_DROPPED_TO_S).copied();
    // Where something was dropped and nobody kept the first, it is not known.
    let known_from_s = numbers.get(ACCOUNTS_DROPPED_FROM_S).copied();
    let from_s = known_from_s.or(known_to_s.map(|_| 0)).unwrap_or(*first_s);
    set(session, ACCOUNTS_DROPPED_FROM_S, from_s.min(*first_s)).await?;
    set(session, ACCOUNTS_DROPPED_TO_S, known_to_s.unwrap_or_default().max(*last_s)).await?;
    let mut counters: Vec<i64> = old.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    counters.sort_unstable();
    counters.dedup();
    let counters = session.execute(COUNTERS, values![counters]).await?;
    Ok((old.len().try_into().unwrap_or(u64::MAX), counters))
}
