//! The tables, and the way from older ones.

use rusqlite::{Connection, OptionalExtension};

use super::{checksum, days};
use crate::ledger::Secrets;

/// `application_id` of our files: "tlgt".
pub(super) const APPLICATION_ID: i64 = 0x746c_6774;

/// What makes each version of the schema out of the one before; the first out of nothing. Only ever
/// added to.
pub(super) const VERSIONS: &[&str] = &[
    // 1: counters, leases, marks of corrections, the catalog.
    "CREATE TABLE secrets (receipt_key BLOB NOT NULL, key_hash BLOB NOT NULL, fingerprint BLOB NOT NULL) STRICT;
     CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE holders (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;
     CREATE TABLE counters (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         subscriber TEXT NOT NULL,
         key TEXT NOT NULL,             -- empty: counted by subscriber
         plan TEXT NOT NULL,
         entitlement TEXT NOT NULL,
         quota TEXT NOT NULL,
         unit TEXT NOT NULL,
         time_zone TEXT NOT NULL,
         week_start TEXT NOT NULL,
         limit_revision INTEGER NOT NULL DEFAULT 0,
         UNIQUE (subscriber, key, plan, entitlement, quota, unit, time_zone, week_start)
     ) STRICT;
     CREATE INDEX counters_by_key ON counters (key) WHERE key <> '';
     CREATE TABLE count_rules (id INTEGER PRIMARY KEY, bits BLOB NOT NULL UNIQUE) STRICT;
     CREATE TABLE periods (
         counter INTEGER NOT NULL,
         start_s INTEGER NOT NULL,
         end_s INTEGER NOT NULL,
         charged INTEGER NOT NULL,
         granted INTEGER NOT NULL,
         active_s INTEGER NOT NULL,
         PRIMARY KEY (counter, start_s)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX periods_by_end ON periods (end_s);
     CREATE TABLE shares (
         counter INTEGER NOT NULL,
         start_s INTEGER NOT NULL,
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         leased INTEGER NOT NULL,
         spent INTEGER NOT NULL,
         PRIMARY KEY (counter, start_s, holder, epoch)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE marks (
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         shard INTEGER NOT NULL,
         kind INTEGER NOT NULL,         -- 0 corrected, 1 charged
         high INTEGER NOT NULL,         -- sequence number / 65536
         newest_s INTEGER NOT NULL,
         bits BLOB NOT NULL,            -- roaring bitmap of the sequence numbers % 65536
         PRIMARY KEY (holder, epoch, shard, kind, high)
     ) STRICT;
     CREATE INDEX marks_by_age ON marks (newest_s);
     CREATE TABLE catalog (kind INTEGER NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT;",
    // 2: daily usage.
    "CREATE TABLE days (
         day INTEGER NOT NULL,
         subscriber TEXT NOT NULL,
         key TEXT NOT NULL,
         plan TEXT NOT NULL,
         entitlement TEXT NOT NULL,
         target TEXT NOT NULL,
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         admitted INTEGER NOT NULL,
         refused BLOB NOT NULL,         -- 64 bits each, little-endian
         responses BLOB NOT NULL,       -- likewise
         PRIMARY KEY (day, subscriber, key, plan, entitlement, target, holder, epoch)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX days_by_subscriber ON days (subscriber, day);
     CREATE INDEX days_by_key ON days (key, day);",
    // 3: windows of rate-limit rules.
    "CREATE TABLE windows (
         fingerprint BLOB NOT NULL,
         holder INTEGER NOT NULL,
         end_s INTEGER NOT NULL,
         count INTEGER NOT NULL,
         PRIMARY KEY (fingerprint, holder)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX windows_by_end ON windows (end_s);",
    // 4: daily usage in parts; the names behind the numbers in receipts.
    "CREATE TABLE daily (
         day INTEGER NOT NULL,
         subscriber TEXT NOT NULL,
         key TEXT NOT NULL,
         plan TEXT NOT NULL,
         entitlement TEXT NOT NULL,
         target TEXT NOT NULL,
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         part INTEGER NOT NULL,
         admitted INTEGER NOT NULL,
         refused BLOB NOT NULL,         -- 64 bits each, little-endian
         responses BLOB NOT NULL,       -- likewise
         PRIMARY KEY (day, subscriber, key, plan, entitlement, target, holder, epoch, part)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX daily_by_subscriber ON daily (subscriber, day);
     CREATE INDEX daily_by_key ON daily (key, day);
     INSERT INTO daily SELECT day, subscriber, key, plan, entitlement, target, holder, epoch, 0, admitted, refused, responses FROM days;
     DROP TABLE days;
     CREATE TABLE naming_epochs (
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         ended_s INTEGER,               -- when it was found dead; NULL: it lives
         PRIMARY KEY (holder, epoch)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE names (
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         kind INTEGER NOT NULL,         -- 0 API key, 1 target
         number INTEGER NOT NULL,
         name TEXT NOT NULL,
         PRIMARY KEY (holder, epoch, kind, number)
     ) STRICT, WITHOUT ROWID;",
    // 5: daily usage by number, and its counts apart from its names: what changes each second is
    // small, and lies together.
    "CREATE TABLE daily_names (
         day INTEGER NOT NULL,
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         number INTEGER NOT NULL,       -- the holder's, in this epoch
         subscriber TEXT NOT NULL,
         key TEXT NOT NULL,
         plan TEXT NOT NULL,
         entitlement TEXT NOT NULL,
         target TEXT NOT NULL,
         PRIMARY KEY (day, holder, epoch, number)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX daily_names_by_subscriber ON daily_names (subscriber, day);
     CREATE INDEX daily_names_by_key ON daily_names (key, day);
     CREATE TABLE daily_counts (
         day INTEGER NOT NULL,
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         number INTEGER NOT NULL,
         admitted INTEGER NOT NULL,
         refused BLOB NOT NULL,         -- 64 bits each, little-endian
         responses BLOB NOT NULL,       -- likewise
         PRIMARY KEY (day, holder, epoch, number)
     ) STRICT, WITHOUT ROWID;
     INSERT INTO daily_names
         SELECT day, holder, epoch, row_number() OVER (ORDER BY day, subscriber, key, plan, entitlement, target, holder, epoch, part),
             subscriber, key, plan, entitlement, target FROM daily;
     INSERT INTO daily_counts
         SELECT day, holder, epoch, row_number() OVER (ORDER BY day, subscriber, key, plan, entitlement, target, holder, epoch, part),
             admitted, refused, responses FROM daily;
     DROP TABLE daily;
     CREATE VIEW daily AS
         SELECT day, subscriber, key, plan, entitlement, target, holder, epoch, number, admitted, refused, responses
         FROM daily_names JOIN daily_counts USING (day, holder, epoch, number);",
    // 6: counts of 64 numbers in one row: when a million callers come in no order, most rows change
    // each second.
    "CREATE TABLE daily_pages (
         day INTEGER NOT NULL,
         holder INTEGER NOT NULL,
         epoch INTEGER NOT NULL,
         page INTEGER NOT NULL,         -- number / 64; a number's place in it is number % 64
         present INTEGER NOT NULL,      -- a bit for each place that is taken
         admitted BLOB NOT NULL,        -- by place, 64 bits each, little-endian
         others BLOB NOT NULL,          -- likewise: place, how many reasons, refused by reason, how many classes, responses by class, ...
         PRIMARY KEY (day, holder, epoch, page)
     ) STRICT, WITHOUT ROWID;
     DROP VIEW daily;",
    // 7: what is done once under a name, and what it came to.
    "CREATE TABLE requests (
         seq INTEGER PRIMARY KEY,       -- the oldest has the least
         name BLOB NOT NULL UNIQUE,
         fields BLOB NOT NULL,          -- a hash of all that was asked
         made_s INTEGER NOT NULL,
         charged INTEGER NOT NULL,      -- where its counter stood then
         granted INTEGER NOT NULL,
         note BLOB NOT NULL             -- what a repeat is answered with
     ) STRICT;
     CREATE TABLE charges (
         seq INTEGER PRIMARY KEY,
         name BLOB NOT NULL UNIQUE,
         fields BLOB NOT NULL,
         made_s INTEGER NOT NULL,
         charged INTEGER NOT NULL,
         granted INTEGER NOT NULL,
         note BLOB NOT NULL
     ) STRICT;
     CREATE TABLE checks (              -- what a clean stop leaves to the next start
         seq INTEGER PRIMARY KEY,
         name BLOB NOT NULL UNIQUE,
         fields BLOB NOT NULL,
         made_s INTEGER NOT NULL,
         charged INTEGER NOT NULL,      -- 0, likewise the next
         granted INTEGER NOT NULL,
         note BLOB NOT NULL             -- until when, and the answer
     ) STRICT;",
    // 8: a checksum in every row.
    "ALTER TABLE secrets ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE numbers ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE holders ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE counters ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE count_rules ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE periods ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE shares ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE marks ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE catalog ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE naming_epochs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE names ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE windows ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE daily_names ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE daily_pages ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE requests ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE charges ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE checks ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;",
];

/// The version from which counts of days lie in pages. Before, each had a row.
pub(super) const PAGES: i64 = 6;

/// The version from which every row has a checksum. What an older one held cannot be vouched for:
/// it gets its checksums as it is found.
pub(super) const CHECKSUMS: i64 = 8;

/// The version that this program writes.
pub(super) fn newest() -> i64 {
    i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX)
}

/// Brings a file from one version to the newest, all or nothing. A new one gets the secrets
/// `fresh`.
pub(super) fn migrate(
    connection: &mut Connection,
    from: i64,
    fresh: &Secrets,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (version, sql) in (1..).zip(VERSIONS).filter(|(version, _)| *version > from) {
        transaction.execute_batch(sql)?;
        if version == PAGES {
            days::gather(&transaction)?;
            transaction.execute_batch("DROP TABLE daily_counts")?;
        }
        if version == CHECKSUMS {
            let secrets = old_secrets(&transaction)?.unwrap_or_else(|| fresh.clone());
            checksum::put_secrets(&transaction, &secrets)?;
            checksum::register(&transaction, &secrets)?;
            checksum::write_all(&transaction)?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", newest())?;
    transaction.commit()
}

/// Those of a version without checksums.
fn old_secrets(sql: &Connection) -> rusqlite::Result<Option<Secrets>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Secrets { receipt_key: row.get(0)?, key_hash: row.get(1)?, fingerprint: row.get(2)? })
    };
    sql.query_row("SELECT receipt_key, key_hash, fingerprint FROM secrets", [], read).optional()
}
