//! Reads, and locks, what a batch needs: all in one round trip.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::columns::Identities;
use super::failure::Wrong;
use super::known::{Kept, Known, MarkKey, MarkRow, Wanted, once_kind};
use super::rows::{account, bitmap, bytes, get, made, number, rule, share};
use super::session::{Session, Step, values};
use crate::ledger::codes::int;
use crate::ledger::{CounterId, CounterIdentity, Holder, OnceKind};

/// Parts of what was asked, in the order of asking: rows are locked in it.
#[derive(Clone, Copy, Debug)]
enum Part {
    Skipped,
    Catalog,
    Names,
    Accounts,
    Shares,
    Limits,
    Marks,
    Made,
    Rules,
    Ids,
    Numbers,
}

const NAMES: &str = "SELECT k.place, c.id
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[]) WITH ORDINALITY
        AS k (subscriber, key, plan, entitlement, quota, unit, time_zone, week_start, place)
    JOIN tollgate.counters AS c USING (subscriber, key, plan, entitlement, quota, unit, time_zone,
        week_start)";
const ACCOUNTS: &str = "SELECT p.counter, p.start_s, p.end_s, p.charged, p.granted, p.active_s
    FROM unnest($1::bigint[], $2::bigint[]) AS k (counter, start_s)
    JOIN tollgate.periods AS p USING (counter, start_s)
    ORDER BY p.counter, p.start_s FOR UPDATE OF p";
const SHARES: &str = "SELECT s.counter, s.start_s, s.holder, s.epoch, s.leased, s.spent
    FROM unnest($1::bigint[], $2::bigint[]) AS k (counter, start_s)
    JOIN tollgate.shares AS s USING (counter, start_s)";
const LIMITS: &str = "SELECT id, limit_revision FROM tollgate.counters WHERE id = ANY($1)";
const MARKS: &str = "SELECT k.place, m.newest_s, m.bits
    FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::bigint[])
        WITH ORDINALITY AS k (holder, epoch, shard, kind, high, place)
    JOIN tollgate.marks AS m USING (holder, epoch, shard, kind, high)
    ORDER BY m.holder, m.epoch, m.shard, m.kind, m.high FOR UPDATE OF m";
const MADE: &str = "SELECT m.kind, m.name, m.fields, m.made_s, m.charged, m.granted, m.note
    FROM unnest($1::smallint[], $2::bytea[]) AS k (kind, name)
    JOIN tollgate.made AS m USING (kind, name)";
const RULES: &str = "SELECT id, bits FROM tollgate.count_rules";
const IDS: &str = "SELECT nextval('tollgate.counter_ids') FROM generate_series(1, $1)";
const NUMBERS: &str = "SELECT name, value FROM tollgate.numbers";
const CATALOG: &str =
    "SELECT value FROM tollgate.numbers WHERE name = 'catalog_revision' FOR UPDATE";

/// Reads all that is wanted. `first` is sent before it, and its answers are given back.
pub(super) async fn load(
    session: &Session,
    first: Vec<Step>,
    wanted: Wanted,
    known: &mut Known,
    kept: &mut Kept,
) -> Result<Vec<Vec<Row>>, Wrong> {
    let mut parts: Vec<_> = first.iter().map(|_| Part::Skipped).collect();
    let mut steps = first;
    let mut ask = |part, step| {
        parts.push(part);
        steps.push(step);
    };
    let identities: Vec<CounterIdentity> = wanted.names.into_iter().collect();
    if wanted.catalog {
        ask(Part::Catalog, Step::bare(CATALOG));
    }
    if !identities.is_empty() {
        let [subscriber, key, plan, entitlement, quota, unit, time_zone, week_start] =
            Identities::of(&identities).columns;
        let values =
            values![subscriber, key, plan, entitlement, quota, unit, time_zone, week_start];
        ask(Part::Names, Step::new(NAMES, values));
    }
    if !wanted.accounts.is_empty() {
        let (counters, starts): (Vec<i64>, Vec<i64>) = wanted
            .accounts
            .iter()
            .map(|(counter, start_s)| (int(counter.0), int(*start_s)))
            .unzip();
        ask(Part::Accounts, Step::new(ACCOUNTS, values![counters.clone(), starts.clone()]));
        ask(Part::Shares, Step::new(SHARES, values![counters, starts]));
    }
    // After the accounts: while they are locked, nobody raises these for them.
    if !wanted.limits.is_empty() {
        let counters: Vec<i64> = wanted.limits.iter().map(|counter| int(counter.0)).collect();
        ask(Part::Limits, Step::new(LIMITS, values![counters]));
    }
    let marks: Vec<MarkKey> = wanted.marks.iter().copied().collect();
    if !marks.is_empty() {
        ask(Part::Marks, Step::new(MARKS, mark_columns(&marks)));
    }
    if !wanted.made.is_empty() {
        let (kinds, names): (Vec<i16>, Vec<Vec<u8>>) =
            wanted.made.iter().map(|(kind, name)| (*kind, name.to_vec())).unzip();
        ask(Part::Made, Step::new(MADE, values![kinds, names]));
    }
    if wanted.rules {
        ask(Part::Rules, Step::bare(RULES));
    }
    if wanted.ids > 0 {
        let count = i32::try_from(wanted.ids).unwrap_or(i32::MAX);
        ask(Part::Ids, Step::new(IDS, values![count]));
    }
    // Last: what was dropped while a row was waited for is known by now.
    if wanted.numbers {
        ask(Part::Numbers, Step::bare(NUMBERS));
    }
    let mut answers = session.run(&steps).await?;
    known.names.extend(identities.iter().map(|identity| (identity.clone(), None)));
    known.accounts.extend(wanted.accounts.iter().map(|place| (*place, None)));
    known.limits.extend(wanted.limits.iter().map(|counter| (*counter, None)));
    known.marks.extend(marks.iter().map(|key| (*key, None)));
    for kind in [OnceKind::Request, OnceKind::Charge, OnceKind::Check] {
        let of_kind = wanted.made.iter().filter(|(number, _)| *number == once_kind(kind));
        known.made.extend(of_kind.map(|(_, name)| ((kind, *name), None)));
    }
    for (part, rows) in parts.iter().zip(&answers) {
        for row in rows {
            take(*part, row, (&identities, &marks), known, kept)?;
        }
        match part {
            Part::Catalog => known.catalog_locked = true,
            Part::Rules => kept.rules_read = true,
            Part::Numbers => drop(known.numbers.get_or_insert_default()),
            _ => {}
        }
    }
    let skipped = parts.iter().take_while(|part| matches!(part, Part::Skipped)).count();
    answers.truncate(skipped);
    Ok(answers)
}

fn mark_columns(marks: &[MarkKey]) -> Vec<super::session::Value> {
    let of = |column: fn(&MarkKey) -> i64| -> Vec<i64> { marks.iter().map(column).collect() };
    let shards: Vec<i16> = marks.iter().map(|key| key.shard.into()).collect();
    let kinds: Vec<i16> = marks.iter().map(|key| key.kind).collect();
    values![
        of(|key| key.holder.id.into()),
        of(|key| key.holder.epoch.into()),
        shards,
        kinds,
        of(|key| int(key.high))
    ]
}

fn take(
    part: Part,
    row: &Row,
    (identities, marks): (&[CounterIdentity], &[MarkKey]),
    known: &mut Known,
    kept: &mut Kept,
) -> Result<(), Wrong> {
    match part {
        Part::Skipped | Part::Catalog => {}
        Part::Names => {
            let identity = asked(row, identities)?.clone();
            known.names.insert(identity, Some(CounterId(number(row, 1)?)));
        }
        Part::Accounts => {
            let place = (CounterId(number(row, 0)?), number(row, 1)?);
            known.accounts.insert(place, Some(account(row, 2)?));
        }
        Part::Shares => {
            let place = (CounterId(number(row, 0)?), number(row, 1)?);
            known.shares.entry(place).or_default().push(share(row, 2)?);
        }
        Part::Limits => {
            known.limits.insert(CounterId(number(row, 0)?), Some(number(row, 1)?));
        }
        Part::Marks => {
            let found = MarkRow { newest_s: number(row, 1)?, bits: bitmap(row, 2)? };
            known.marks.insert(*asked(row, marks)?, Some(found));
        }
        Part::Made => {
            let kind: i16 = get(row, 0)?;
            let kinds = [OnceKind::Request, OnceKind::Charge, OnceKind::Check];
            if let Some(kind) = kinds.into_iter().find(|known| once_kind(*known) == kind) {
                known.made.insert((kind, bytes(row, 1)?), Some(made(row, 2)?));
            }
        }
        Part::Rules => {
            let (id, rule) = rule(row)?;
            kept.rules.insert(rule, id);
        }
        Part::Ids => kept.ids.push(CounterId(number(row, 0)?)),
        Part::Numbers => {
            let numbers = known.numbers.get_or_insert_with(HashMap::new);
            numbers.insert(get(row, 0)?, number(row, 1)?);
        }
    }
    Ok(())
}

/// What a row answers, by its place in the question, counted from 1.
fn asked<'a, T>(row: &Row, asked: &'a [T]) -> Result<&'a T, Wrong> {
    let place = number(row, 0)?;
    usize::try_from(place)
        .ok()
        .and_then(|place| asked.get(place.checked_sub(1)?))
        .ok_or_else(|| Wrong::Row(format!("an answer to question {place}, which was not asked")))
}

/// The epochs that holders have now, which stay so until the transaction ends.
pub(super) fn epochs_of(holders: impl Iterator<Item = Holder>) -> Step {
    let ids: Vec<i64> = holders.map(|holder| holder.id.into()).collect();
    let sql = "SELECT id, epoch FROM tollgate.holders WHERE id = ANY($1) ORDER BY id FOR SHARE";
    Step::new(sql, values![ids])
}
