//! Writes back what a batch has changed: a statement for each table.

use super::columns::Identities;
use super::draft::Draft;
use super::failure::Wrong;
use super::known::{MarkKey, MarkRow, Place, once_kind, small};
use super::numbers::CATALOG_REVISION;
use super::session::{Step, Value, values};
use super::texts::written;
use crate::ledger::balance::Account;
use crate::ledger::codes::{int, pack};
use crate::ledger::{DailyCounts, DailyKey, Holder, Made, OnceKind};

// A new row is inserted and nothing else: where another node was quicker this fails, and the batch
// is worked out again. What is there is locked.
const NEW_COUNTERS: &str = "INSERT INTO tollgate.counters
    (id, limit_revision, subscriber, key, plan, entitlement, quota, unit, time_zone, week_start)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[])";
const LIMITS: &str = "UPDATE tollgate.counters AS c SET limit_revision = k.revision
    FROM unnest($1::bigint[], $2::bigint[]) AS k (id, revision)
    WHERE c.id = k.id AND c.limit_revision < k.revision";
const NEW_RULES: &str = "INSERT INTO tollgate.count_rules (id, bits)
    SELECT * FROM unnest($1::int[], $2::bytea[])";
const NEW_ACCOUNTS: &str = "INSERT INTO tollgate.periods
    (counter, start_s, end_s, charged, granted, active_s)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[])";
const ACCOUNTS: &str = "UPDATE tollgate.periods AS p
    SET charged = k.charged, granted = k.granted, active_s = k.active_s
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS k (counter, start_s, charged, granted, active_s)
    WHERE p.counter = k.counter AND p.start_s = k.start_s";
const SHARES: &str = "INSERT INTO tollgate.shares (counter, start_s, holder, epoch, leased, spent)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[])
    ON CONFLICT (counter, start_s, holder, epoch)
        DO UPDATE SET leased = excluded.leased, spent = excluded.spent";
const NEW_MARKS: &str = "INSERT INTO tollgate.marks
    (holder, epoch, shard, kind, high, newest_s, bits)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::bigint[],
        $6::bigint[], $7::bytea[])";
const MARKS: &str = "UPDATE tollgate.marks AS m SET newest_s = k.newest_s, bits = k.bits
    FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::bigint[],
        $6::bigint[], $7::bytea[]) AS k (holder, epoch, shard, kind, high, newest_s, bits)
    WHERE m.holder = k.holder AND m.epoch = k.epoch AND m.shard = k.shard AND m.kind = k.kind
        AND m.high = k.high";
const NEW_MADE: &str = "INSERT INTO tollgate.made
    (kind, name, fields, made_s, charged, granted, note)
    SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bytea[])";
const MADE: &str = "INSERT INTO tollgate.made (kind, name, fields, made_s, charged, granted, note)
    SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bytea[])
    ON CONFLICT (kind, name) DO UPDATE SET fields = excluded.fields, made_s = excluded.made_s,
        charged = excluded.charged, granted = excluded.granted, note = excluded.note,
        seq = DEFAULT";
const RESOURCES: &str = "INSERT INTO tollgate.catalog (kind, id, value, revision)
    SELECT kind, id, value, $4::bigint FROM unnest($1::smallint[], $2::text[], $3::bytea[])
        AS k (kind, id, value)
    ON CONFLICT (kind, id) DO UPDATE SET value = excluded.value, revision = excluded.revision";
const TOLD_DAYS: &str = "INSERT INTO tollgate.daily (day, holder, epoch, number, admitted, refused,
        responses, subscriber, key, plan, entitlement, target)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bytea[], $7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
    ON CONFLICT (day, holder, epoch, number) DO UPDATE SET admitted = excluded.admitted,
        refused = excluded.refused, responses = excluded.responses";
const KNOWN_DAYS: &str = "UPDATE tollgate.daily AS d
    SET admitted = k.admitted, refused = k.refused, responses = k.responses
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[],
        $7::bytea[]) AS k (day, holder, epoch, number, admitted, refused, responses)
    WHERE d.day = k.day AND d.holder = k.holder AND d.epoch = k.epoch AND d.number = k.number";
const NAMING_EPOCHS: &str = "INSERT INTO tollgate.naming_epochs (holder, epoch)
    SELECT DISTINCT holder, epoch FROM unnest($1::bigint[], $2::bigint[]) AS k (holder, epoch)
    ON CONFLICT DO NOTHING";
const NAMES: &str = "INSERT INTO tollgate.names (holder, epoch, kind, number, name)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[])
    ON CONFLICT (holder, epoch, kind, number) DO UPDATE SET name = excluded.name";
const WINDOWS: &str = "INSERT INTO tollgate.windows (holder, fingerprint, end_s, count)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[])
    ON CONFLICT (holder, fingerprint) DO UPDATE SET end_s = excluded.end_s, count = excluded.count";
const NUMBER: &str = "INSERT INTO tollgate.numbers (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// Sets a number.
pub(super) fn set_number(name: &'static str, value: u64) -> Step {
    Step::new(NUMBER, values![name, int(value)])
}

/// All that has changed.
pub(super) fn steps(draft: &Draft<'_>) -> Result<Vec<Step>, Wrong> {
    let mut steps = Vec::new();
    if !draft.counters.is_empty() {
        let ids: Vec<i64> = draft.counters.keys().map(|counter| int(counter.0)).collect();
        let revisions: Vec<i64> =
            draft.counters.values().map(|(_, revision)| int(*revision)).collect();
        let [one, two, three, four, five, six, seven, eight] =
            Identities::of(draft.counters.values().map(|(identity, _)| identity)).columns;
        let values = values![ids, revisions, one, two, three, four, five, six, seven, eight];
        steps.push(Step::new(NEW_COUNTERS, values));
    }
    if !draft.limits.is_empty() {
        let (ids, revisions): (Vec<i64>, Vec<i64>) =
            draft.limits.iter().map(|(id, revision)| (int(id.0), int(*revision))).unzip();
        steps.push(Step::new(LIMITS, values![ids, revisions]));
    }
    if !draft.rules.is_empty() {
        let (ids, bits): (Vec<i32>, Vec<Vec<u8>>) =
            draft.rules.iter().map(|(rule, id)| (i32::from(*id), pack(&rule.bits()))).unzip();
        steps.push(Step::new(NEW_RULES, values![ids, bits]));
    }
    accounts(draft, &mut steps);
    marks(draft, &mut steps)?;
    made(draft, &mut steps);
    if let Some(revision) = draft.catalog_revision {
        let kinds: Vec<i16> = draft.resources.keys().map(|(kind, _)| (*kind).into()).collect();
        let ids: Vec<String> =
            draft.resources.keys().map(|(_, id)| written(id).into_owned()).collect();
        let contents: Vec<Option<Vec<u8>>> = draft.resources.values().cloned().collect();
        steps.push(Step::new(RESOURCES, values![kinds, ids, contents, int(revision)]));
        steps.push(set_number(CATALOG_REVISION, revision));
    }
    days(draft, &mut steps);
    names(draft, &mut steps);
    if !draft.windows.is_empty() {
        let of = |column: fn(&crate::ledger::WindowRow) -> i64| -> Vec<i64> {
            draft.windows.values().map(column).collect()
        };
        let holders: Vec<i64> = draft.windows.keys().map(|(holder, _)| (*holder).into()).collect();
        let prints: Vec<Vec<u8>> = draft.windows.keys().map(|(_, print)| print.to_vec()).collect();
        let values = values![holders, prints, of(|row| int(row.end_s)), of(|row| int(row.count))];
        steps.push(Step::new(WINDOWS, values));
    }
    Ok(steps)
}

fn accounts(draft: &Draft<'_>, steps: &mut Vec<Step>) {
    let (new, known): (Vec<_>, Vec<_>) =
        draft.accounts.iter().partition(|(place, _)| draft.is_fresh(place));
    if !new.is_empty() {
        let of = |column: fn(&(&Place, &Account)) -> i64| -> Vec<i64> {
            new.iter().map(column).collect()
        };
        let values = values![
            of(|((counter, _), _)| int(counter.0)),
            of(|((_, start_s), _)| int(*start_s)),
            of(|(_, account)| int(account.end_s)),
            of(|(_, account)| int(account.charged)),
            of(|(_, account)| account.granted),
            of(|(_, account)| int(account.active_s)),
        ];
        steps.push(Step::new(NEW_ACCOUNTS, values));
    }
    if !known.is_empty() {
        let of = |column: fn(&(&Place, &Account)) -> i64| -> Vec<i64> {
            known.iter().map(column).collect()
        };
        let values = values![
            of(|((counter, _), _)| int(counter.0)),
            of(|((_, start_s), _)| int(*start_s)),
            of(|(_, account)| int(account.charged)),
            of(|(_, account)| account.granted),
            of(|(_, account)| int(account.active_s)),
        ];
        steps.push(Step::new(ACCOUNTS, values));
    }
    if !draft.shares.is_empty() {
        let mut columns: [Vec<i64>; 6] = Default::default();
        for (((counter, start_s), holder), share) in &draft.shares {
            let row = [
                int(counter.0),
                int(*start_s),
                holder.id.into(),
                holder.epoch.into(),
                int(share.leased),
                int(share.spent),
            ];
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        let [one, two, three, four, five, six] = columns;
        steps.push(Step::new(SHARES, values![one, two, three, four, five, six]));
    }
}

fn marks(draft: &Draft<'_>, steps: &mut Vec<Step>) -> Result<(), Wrong> {
    let (new, known): (Vec<_>, Vec<_>) =
        draft.marks.iter().partition(|(key, _)| draft.is_fresh_mark(key));
    for (sql, rows) in [(NEW_MARKS, new), (MARKS, known)] {
        if !rows.is_empty() {
            steps.push(Step::new(sql, mark_values(&rows)?));
        }
    }
    Ok(())
}

fn mark_values(rows: &[(&MarkKey, &MarkRow)]) -> Result<Vec<Value>, Wrong> {
    let of = |column: fn(&(&MarkKey, &MarkRow)) -> i64| -> Vec<i64> {
        rows.iter().map(column).collect()
    };
    let bits = rows.iter().map(|(_, row)| {
        let mut bytes = Vec::with_capacity(row.bits.serialized_size());
        row.bits.serialize_into(&mut bytes).map_err(|wrong| Wrong::Row(wrong.to_string()))?;
        Ok(bytes)
    });
    let bits: Vec<Vec<u8>> = bits.collect::<Result<_, Wrong>>()?;
    let shards: Vec<i16> = rows.iter().map(|(key, _)| key.shard.into()).collect();
    let kinds: Vec<i16> = rows.iter().map(|(key, _)| key.kind).collect();
    Ok(values![
        of(|(key, _)| key.holder.id.into()),
        of(|(key, _)| key.holder.epoch.into()),
        shards,
        kinds,
        of(|(key, _)| int(key.high)),
        of(|(_, row)| int(row.newest_s)),
        bits,
    ])
}

fn made(draft: &Draft<'_>, steps: &mut Vec<Step>) {
    let (new, known): (Vec<_>, Vec<_>) =
        draft.made.iter().partition(|(name, _)| draft.is_fresh_name(name));
    for (sql, rows) in [(NEW_MADE, new), (MADE, known)] {
        if !rows.is_empty() {
            steps.push(Step::new(sql, made_values(&rows)));
        }
    }
}

fn made_values(rows: &[&((OnceKind, [u8; 16]), Made)]) -> Vec<Value> {
    let kinds: Vec<i16> = rows.iter().map(|((kind, _), _)| once_kind(*kind)).collect();
    let names: Vec<Vec<u8>> = rows.iter().map(|((_, name), _)| name.to_vec()).collect();
    let fields: Vec<Vec<u8>> = rows.iter().map(|(_, made)| made.fields.to_vec()).collect();
    let times: Vec<i64> = rows.iter().map(|(_, made)| int(made.made_s)).collect();
    let charged: Vec<i64> = rows.iter().map(|(_, made)| int(made.charged)).collect();
    let granted: Vec<i64> = rows.iter().map(|(_, made)| made.granted).collect();
    let notes: Vec<Vec<u8>> = rows.iter().map(|(_, made)| made.note.clone()).collect();
    values![kinds, names, fields, times, charged, granted, notes]
}

/// The counts of days, and the names of those that were told.
fn days(draft: &Draft<'_>, steps: &mut Vec<Step>) {
    let (mut known, mut told) = (Days::default(), Days::default());
    let mut names: [Vec<String>; 5] = Default::default();
    for ((day, holder, number), (key, counts)) in &draft.days {
        let Some(DailyKey { subscriber, key, plan, entitlement, target, .. }) = key else {
            known.add(*day, *holder, *number, counts);
            continue;
        };
        told.add(*day, *holder, *number, counts);
        let row = [subscriber, key, plan, entitlement, target];
        names
            .iter_mut()
            .zip(row)
            .for_each(|(column, name)| column.push(written(name).into_owned()));
    }
    if !told.admitted.is_empty() {
        let [subscriber, key, plan, entitlement, target] = names;
        let mut values = told.values();
        values.extend(values![subscriber, key, plan, entitlement, target]);
        steps.push(Step::new(TOLD_DAYS, values));
    }
    if !known.admitted.is_empty() {
        steps.push(Step::new(KNOWN_DAYS, known.values()));
    }
}

#[derive(Default)]
struct Days {
    place: [Vec<i64>; 4],
    admitted: Vec<i64>,
    lists: [Vec<Vec<u8>>; 2],
}

impl Days {
    fn add(&mut self, day: u64, holder: Holder, number: u64, counts: &DailyCounts) {
        let place = [int(day), holder.id.into(), holder.epoch.into(), int(number)];
        self.place.iter_mut().zip(place).for_each(|(column, value)| column.push(value));
        self.admitted.push(int(counts.admitted));
        let lists = [pack(&counts.refused), pack(&counts.responses)];
        self.lists.iter_mut().zip(lists).for_each(|(column, value)| column.push(value));
    }

    fn values(self) -> Vec<Value> {
        let ([day, holder, epoch, number], [refused, responses]) = (self.place, self.lists);
        values![day, holder, epoch, number, self.admitted, refused, responses]
    }
}

fn names(draft: &Draft<'_>, steps: &mut Vec<Step>) {
    if draft.names.is_empty() {
        return;
    }
    let of = |column: fn(&(Holder, i64, u32)) -> i64| -> Vec<i64> {
        draft.names.keys().map(column).collect()
    };
    let (holders, epochs) =
        (of(|(holder, ..)| holder.id.into()), of(|(holder, ..)| holder.epoch.into()));
    steps.push(Step::new(NAMING_EPOCHS, values![holders.clone(), epochs.clone()]));
    let kinds: Vec<i16> = draft.names.keys().map(|(_, kind, _)| small(*kind)).collect();
    let numbers = of(|(.., number)| (*number).into());
    let names: Vec<String> = draft.names.values().map(|name| written(name).into_owned()).collect();
    steps.push(Step::new(NAMES, values![holders, epochs, kinds, numbers, names]));
}
