//! The books against what the callers were told.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tollgate::grpc::pb::tollgate::GetUsageResponse;

use super::log::{Place, Tally};
use super::world::{Caller, KINDS};

/// One counter in one period, by name: subscriber, key, plan, quota and start.
pub type Name = (String, String, String, String, u64);

/// What the books say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub used: i64,
    pub granted: i64,
    pub lost: i64,
}

pub fn name(callers: &[Caller], place: &Place) -> Name {
    let caller = &callers[place.caller as usize];
    let quota = caller.kind().quotas[usize::from(place.quota)].name;
    (
        caller.subscriber.clone(),
        caller.counted_key().to_owned(),
        caller.kind().plan.to_owned(),
        quota.to_owned(),
        place.start_s,
    )
}

/// What the books must say.
pub fn expected(
    callers: &[Caller],
    log: &Tally,
    grants: &BTreeMap<Name, i64>,
) -> BTreeMap<Name, Row> {
    let mut rows: BTreeMap<Name, Row> = BTreeMap::new();
    for (place, units) in &log.net {
        rows.entry(name(callers, place)).or_default().used += units;
    }
    for (name, units) in grants {
        rows.entry(name.clone()).or_default().granted += units;
    }
    rows.retain(|_, row| *row != Row::default());
    rows
}

/// The rows of `GetUsage` that say anything.
pub fn told(usage: &GetUsageResponse) -> BTreeMap<Name, Row> {
    let row = |count: u64| i64::try_from(count).unwrap();
    let rows = usage.quotas.iter().map(|quota| {
        let start_s = u64::try_from(quota.period_start.unwrap().seconds).unwrap();
        let name = (
            quota.subscriber.clone(),
            quota.api_key.clone(),
            quota.plan.clone(),
            quota.quota.clone(),
            start_s,
        );
        (name, Row { used: row(quota.used), granted: quota.granted, lost: row(quota.lost) })
    });
    rows.filter(|(_, row)| *row != Row::default()).collect()
}

/// Admissions by caller, of all days.
pub fn admitted(usage: &GetUsageResponse) -> BTreeMap<(String, String), u64> {
    let mut admitted = BTreeMap::new();
    for day in usage.days.iter().filter(|day| day.admitted > 0) {
        *admitted.entry((day.subscriber.clone(), day.api_key.clone())).or_default() += day.admitted;
    }
    admitted
}

/// What the file says, opened after a clean stop: the rows, the counter's number for each, and what
/// is charged to durable rules.
pub struct File {
    pub rows: BTreeMap<Name, Row>,
    pub counters: BTreeMap<Name, u64>,
    pub rules: i64,
}

impl File {
    pub fn read(path: &Path) -> Self {
        let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let whole: String = sql.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok");
        // Units that were leased and neither told to be spent nor given back.
        let question = "SELECT subscriber, key, plan, quota, start_s, charged, granted, id,
            (SELECT coalesce(sum(leased - spent), 0) FROM shares WHERE shares.counter = id AND shares.start_s = periods.start_s)
            FROM periods JOIN counters ON counters.id = periods.counter";
        let mut statement = sql.prepare(question).unwrap();
        let mut file = Self { rows: BTreeMap::new(), counters: BTreeMap::new(), rules: 0 };
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let column = |index: usize| row.get::<_, i64>(index).unwrap();
            let text = |index: usize| row.get::<_, String>(index).unwrap();
            let (charged, unspent) = (column(5), column(8));
            if !KINDS.iter().any(|kind| kind.plan == text(2)) {
                assert_eq!(unspent, 0, "of a durable rule");
                file.rules += charged;
                continue;
            }
            let name = (text(0), text(1), text(2), text(3), u64::try_from(column(4)).unwrap());
            file.counters.insert(name.clone(), u64::try_from(column(7)).unwrap());
            let row = Row { used: charged - unspent, granted: column(6), lost: unspent };
            if row != Row::default() {
                file.rows.insert(name, row);
            }
        }
        file
    }
}

/// The rows that differ, with what was expected, at most a few of them.
pub fn differences(expected: &BTreeMap<Name, Row>, found: &BTreeMap<Name, Row>) -> Vec<String> {
    let mut names: Vec<&Name> = expected.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let of = |rows: &BTreeMap<Name, Row>, name: &Name| rows.get(name).copied().unwrap_or_default();
    let differing = names.into_iter().filter(|name| of(expected, name) != of(found, name));
    differing
        .map(|name| format!("{name:?}: {:?} instead of {:?}", of(found, name), of(expected, name)))
        .collect()
}
