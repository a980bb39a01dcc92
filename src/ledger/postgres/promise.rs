//! What an answer of the database is worth, by its settings.

use super::failure::Wrong;
use super::rows::get;
use super::session::{Session, values};
use crate::ledger::LedgerError;

/// What survives of what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// All, also when the server is lost: a standby has it, too.
    Exact,
    /// All, as long as the disk of the one server is there.
    ExactSingle,
    /// A crash of the server may forget what was answered.
    Lossy,
}

impl Promise {
    /// Every promise.
    pub const ALL: [Self; 3] = [Self::Exact, Self::ExactSingle, Self::Lossy];

    /// A word for health and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::ExactSingle => "exact-single",
            Self::Lossy => "lossy",
        }
    }

    /// By the settings of PostgreSQL.
    fn of(fsync: &str, full_page_writes: &str, commit: &str, standbys: &str) -> Self {
        if fsync != "on" || full_page_writes != "on" || commit == "off" {
            return Self::Lossy;
        }
        let waits = ["on", "remote_apply"].contains(&commit);
        if waits && !standbys.trim().is_empty() { Self::Exact } else { Self::ExactSingle }
    }

    /// What an operator should know of it.
    pub(super) fn concern(self, place: &str) -> Option<String> {
        (self == Self::Lossy).then(|| {
            format!(
                "the database of the ledger ({place}) may forget in a crash what it has answered \
                 (lossy): fsync, full_page_writes or synchronous_commit is off. Quotas may be \
                 passed after one"
            )
        })
    }
}

pub(super) async fn read(session: &Session) -> Result<Promise, Wrong> {
    let sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'),
                      current_setting('synchronous_commit'),
                      current_setting('synchronous_standby_names')";
    let rows = session.query(sql, values![]).await?;
    let Some(row) = rows.first() else { return Ok(Promise::Lossy) };
    Ok(Promise::of(get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?))
}

/// Refuses a database that cannot hold our names, and a server that is too old.
pub(super) async fn check(session: &Session) -> Result<(), Wrong> {
    let sql = "SELECT current_setting('server_encoding'), current_setting('server_version_num')";
    let rows = session.query(sql, values![]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (encoding, version): (&str, &str) = (get(row, 0)?, get(row, 1)?);
    if encoding != "UTF8" {
        return Err(Wrong::Ledger(LedgerError::Fault(format!(
            "the database has the encoding {encoding}: create it with ENCODING 'UTF8'"
        ))));
    }
    if version.parse::<u32>().is_ok_and(|version| version < OLDEST) {
        return Err(Wrong::Ledger(LedgerError::Fault(format!(
            "PostgreSQL {version} is too old: 13 is the oldest that can be used"
        ))));
    }
    Ok(())
}

/// As servers count.
const OLDEST: u32 = 130_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_told_by_the_settings() {
        for (fsync, pages, commit, standbys, promise) in [
            ("on", "on", "on", "ANY 1 (a, b)", Promise::Exact),
            ("on", "on", "remote_apply", "*", Promise::Exact),
            ("on", "on", "on", "", Promise::ExactSingle),
            ("on", "on", "on", " ", Promise::ExactSingle),
            ("on", "on", "remote_write", "a", Promise::ExactSingle),
            ("on", "on", "local", "a", Promise::ExactSingle),
            ("on", "on", "off", "a", Promise::Lossy),
            ("off", "on", "on", "a", Promise::Lossy),
            ("on", "off", "on", "a", Promise::Lossy),
        ] {
            assert_eq!(Promise::of(fsync, pages, commit, standbys), promise, "{commit} {standbys}");
        }
        assert!(Promise::ALL.map(|promise| promise.concern("x").is_some()) == [false, false, true]);
    }
}
