//! The tables, and the way from older ones.
//!
//! They lie in a schema of their own, `tollgate`, so that a database can be shared. Rows that
//! change each second have room for it on their page, and no index on what changes: then nothing
//! but the row is written. Names are compared by their bytes, as they are in memory.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::failure::Wrong;
use crate::ledger::{LedgerError, Secrets};

/// What makes each version of the schema out of the one before; the first out of nothing. Only ever
/// added to.
pub(super) const VERSIONS: &[&str] = &[
    // 1: all that the embedded ledger keeps.
    r#"
    CREATE TABLE tollgate.secrets (
        receipt_key bytea NOT NULL, key_hash bytea NOT NULL, fingerprint bytea NOT NULL
    );
    CREATE TABLE tollgate.numbers (name text PRIMARY KEY, value bigint NOT NULL);
    INSERT INTO tollgate.numbers VALUES ('catalog_revision', 0);
    CREATE TABLE tollgate.holders (
        id bigint PRIMARY KEY,
        name text UNIQUE,              -- NULL: nobody named it
        epoch bigint NOT NULL
    );
    CREATE TABLE tollgate.heartbeats (
        holder bigint PRIMARY KEY,
        epoch bigint NOT NULL,
        heard timestamptz NOT NULL,
        stopped boolean NOT NULL       -- it said that it ends
    ) WITH (fillfactor = 50);
    CREATE SEQUENCE tollgate.counter_ids;
    CREATE TABLE tollgate.counters (
        id bigint PRIMARY KEY,
        subscriber text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL, -- empty: counted by subscriber
        plan text COLLATE "C" NOT NULL,
        entitlement text COLLATE "C" NOT NULL,
        quota text COLLATE "C" NOT NULL,
        unit text COLLATE "C" NOT NULL,
        time_zone text COLLATE "C" NOT NULL,
        week_start text COLLATE "C" NOT NULL,
        limit_revision bigint NOT NULL,
        UNIQUE (subscriber, key, plan, entitlement, quota, unit, time_zone, week_start)
    ) WITH (fillfactor = 90);
    CREATE INDEX counters_by_key ON tollgate.counters (key) WHERE key <> '';
    CREATE TABLE tollgate.count_rules (id integer PRIMARY KEY, bits bytea NOT NULL UNIQUE);
    CREATE TABLE tollgate.periods (
        counter bigint NOT NULL REFERENCES tollgate.counters,
        start_s bigint NOT NULL,
        end_s bigint NOT NULL,
        charged bigint NOT NULL,
        granted bigint NOT NULL,
        active_s bigint NOT NULL,
        PRIMARY KEY (counter, start_s)
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05,
            autovacuum_analyze_scale_factor = 0.1);
    CREATE INDEX periods_by_end ON tollgate.periods (end_s);
    CREATE TABLE tollgate.shares (
        counter bigint NOT NULL,
        start_s bigint NOT NULL,
        holder bigint NOT NULL,
        epoch bigint NOT NULL,
        leased bigint NOT NULL,
        spent bigint NOT NULL,
        PRIMARY KEY (counter, start_s, holder, epoch)
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05,
            autovacuum_analyze_scale_factor = 0.1);
    CREATE TABLE tollgate.marks (
        holder bigint NOT NULL,
        epoch bigint NOT NULL,
        shard smallint NOT NULL,
        kind smallint NOT NULL,        -- 0 corrected, 1 charged
        high bigint NOT NULL,          -- sequence number / 65536
        newest_s bigint NOT NULL,
        bits bytea NOT NULL,           -- roaring bitmap of the sequence numbers % 65536
        PRIMARY KEY (holder, epoch, shard, kind, high)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX marks_by_age ON tollgate.marks (newest_s);
    CREATE TABLE tollgate.catalog (
        kind smallint NOT NULL,
        id text COLLATE "C" NOT NULL,
        value bytea,                   -- NULL: it was deleted
        revision bigint NOT NULL,      -- the edit that made it so
        PRIMARY KEY (kind, id)
    );
    CREATE INDEX catalog_by_revision ON tollgate.catalog (revision);
    CREATE TABLE tollgate.daily (
        day bigint NOT NULL,
        holder bigint NOT NULL,
        epoch bigint NOT NULL,
        number bigint NOT NULL,        -- the holder's, in this epoch
        subscriber text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        plan text COLLATE "C" NOT NULL,
        entitlement text COLLATE "C" NOT NULL,
        target text COLLATE "C" NOT NULL,
        admitted bigint NOT NULL,
        refused bytea NOT NULL,        -- 64 bits each, little-endian
        responses bytea NOT NULL,      -- likewise
        PRIMARY KEY (day, holder, epoch, number)
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX daily_by_subscriber ON tollgate.daily (subscriber, day);
    CREATE INDEX daily_by_key ON tollgate.daily (key, day);
    CREATE TABLE tollgate.naming_epochs (
        holder bigint NOT NULL,
        epoch bigint NOT NULL,
        ended_s bigint,                -- when it was found dead; NULL: it lives
        PRIMARY KEY (holder, epoch)
    );
    CREATE TABLE tollgate.names (
        holder bigint NOT NULL,
        epoch bigint NOT NULL,
        kind smallint NOT NULL,        -- 0 API key, 1 target
        number bigint NOT NULL,
        name text COLLATE "C" NOT NULL,
        PRIMARY KEY (holder, epoch, kind, number)
    );
    CREATE TABLE tollgate.windows (
        holder bigint NOT NULL,
        fingerprint bytea NOT NULL,
        end_s bigint NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (holder, fingerprint)
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
    CREATE TABLE tollgate.made (
        kind smallint NOT NULL,        -- 0 request, 1 charge, 2 check
        name bytea NOT NULL,
        seq bigint GENERATED ALWAYS AS IDENTITY, -- the oldest has the least
        fields bytea NOT NULL,         -- a hash of all that was asked
        made_s bigint NOT NULL,
        charged bigint NOT NULL,       -- where its counter stood then
        granted bigint NOT NULL,
        note bytea NOT NULL,           -- what a repeat is answered with
        PRIMARY KEY (kind, name)
    );
    CREATE INDEX made_by_age ON tollgate.made (kind, seq);
    "#,
];

/// Held while tables are made: of two first starts one waits for the other.
const MAKING: i64 = 0x746f_6c6c_6761_7465;

/// The version that this program writes.
pub(super) fn newest() -> i64 {
    i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX)
}

/// The version of the schema. 0: there is none.
async fn version(client: &Client) -> Result<i64, Wrong> {
    let known = client.query_one("SELECT to_regclass('tollgate.version') IS NOT NULL", &[]).await?;
    if !known.get::<_, bool>(0) {
        return Ok(0);
    }
    let row = client.query_opt("SELECT max(version) FROM tollgate.version", &[]).await?;
    Ok(row.and_then(|row| row.get::<_, Option<i64>>(0)).unwrap_or_default())
}

/// Brings the schema to the newest version, all or nothing, and gives the version that was found.
///
/// # Errors
/// It is of a newer program; the role may not make tables; the database does not answer.
pub(super) async fn ensure(
    client: &Client,
    place: &str,
    fresh: &Secrets,
    must_exist: bool,
) -> Result<i64, Wrong> {
    let found = version(client).await?;
    refuse_newer(found, place)?;
    if found == 0 && must_exist {
        return Err(Wrong::Ledger(LedgerError::Missing(place.into())));
    }
    if found == newest() {
        return Ok(found);
    }
    match migrate(client, place, fresh).await {
        Err(Wrong::Sql(wrong)) if wrong.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let what = if found == 0 { "has no tables of tollgate" } else { "has old tables" };
            Err(Wrong::Ledger(LedgerError::Denied {
                place: place.to_owned(),
                what: format!(
                    "the database {what}, and this role may not make them ({wrong}). Run `tollgate \
                     ledger migrate` once as a role that may, or grant CREATE on the database"
                ),
            }))
        }
        done => done.map(|()| found),
    }
}

fn refuse_newer(found: i64, place: &str) -> Result<(), Wrong> {
    let known = newest();
    if found <= known {
        return Ok(());
    }
    Err(Wrong::Ledger(LedgerError::Newer { path: place.into(), found, known }))
}

async fn migrate(client: &Client, place: &str, fresh: &Secrets) -> Result<(), Wrong> {
    let done = migrate_within(client, place, fresh).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    done?;
    Ok(ended?)
}

async fn migrate_within(client: &Client, place: &str, fresh: &Secrets) -> Result<(), Wrong> {
    client.batch_execute("BEGIN").await?;
    client.query("SELECT pg_advisory_xact_lock($1)", &[&MAKING]).await?;
    let from = version(client).await?;
    refuse_newer(from, place)?;
    if from == 0 {
        client
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS tollgate;
                 CREATE TABLE IF NOT EXISTS tollgate.version (version bigint NOT NULL)",
            )
            .await?;
    }
    for (version, sql) in (1i64..).zip(VERSIONS).filter(|(version, _)| *version > from) {
        client.batch_execute(sql).await?;
        client.execute("INSERT INTO tollgate.version VALUES ($1)", &[&version]).await?;
    }
    if from == 0 {
        let Secrets { receipt_key, key_hash, fingerprint } = fresh;
        client
            .execute(
                "INSERT INTO tollgate.secrets VALUES ($1, $2, $3)",
                &[&&receipt_key[..], &&key_hash[..], &&fingerprint[..]],
            )
            .await?;
    }
    Ok(())
}
