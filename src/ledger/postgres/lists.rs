//! What is read at the start, and for people. Each list is of one moment.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;

use super::failure::Wrong;
use super::known::{Place, once_kind};
use super::numbers::{
    ACCOUNTS_DROPPED_TO_S, CATALOG_REVISION, MARKS_DROPPED_TO_S, SEEN_S, VOUCHED_S,
};
use super::rows::{
    account, bad, bytes, get, holder, made, name, number, packed, rule, share, short,
};
use super::session::{Session, Step, Value, values};
use super::texts::{read, written};
use crate::decide::calendar::Period;
use crate::decide::compiled::QuotaIdentity;
use crate::decide::outcome::CountRule;
use crate::ledger::balance::{Account, Share};
use crate::ledger::codes::{int, name_kind_of, unit_of, weekday_of};
use crate::ledger::operations::unspent;
use crate::ledger::{
    CatalogImage, CatalogResource, CounterId, CounterIdentity, DailyCounts, DailyKey, DailyRow,
    Holder, Made, NumberedName, OnceKind, PeriodRow, Scope, Secrets, Stretch, Times, Whose,
    WindowRow,
};

const MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The rows of statements of one moment.
async fn moment(session: &Session, mut steps: Vec<Step>) -> Result<Vec<Vec<Row>>, Wrong> {
    steps.insert(0, Step::bare(MOMENT));
    steps.push(Step::bare("COMMIT"));
    let mut rows = session.run(&steps).await?;
    rows.remove(0);
    rows.pop();
    Ok(rows)
}

async fn numbers(session: &Session) -> Result<HashMap<String, u64>, Wrong> {
    let rows = session.query("SELECT name, value FROM tollgate.numbers", values![]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, number(row, 1)?))).collect()
}

pub(super) async fn times(session: &Session) -> Result<Times, Wrong> {
    let numbers = numbers(session).await?;
    let number = |name| numbers.get(name).copied();
    let vouched_s = number(VOUCHED_S);
    Ok(Times {
        vouched_s,
        seen_s: if vouched_s.is_none() { number(SEEN_S) } else { None },
        periods_dropped_to_s: number(ACCOUNTS_DROPPED_TO_S).unwrap_or_default(),
        marks_dropped_to_s: number(MARKS_DROPPED_TO_S),
    })
}

pub(super) async fn secrets(session: &Session) -> Result<Secrets, Wrong> {
    let sql = "SELECT receipt_key, key_hash, fingerprint FROM tollgate.secrets";
    let rows = session.query(sql, values![]).await?;
    let [row] = rows.as_slice() else {
        return Err(Wrong::Row(format!("{} rows of secrets, and not one", rows.len())));
    };
    Ok(Secrets {
        receipt_key: bytes(row, 0)?,
        key_hash: bytes(row, 1)?,
        fingerprint: bytes(row, 2)?,
    })
}

pub(super) async fn find_made(
    session: &Session,
    kind: OnceKind,
    name: [u8; 16],
) -> Result<Option<Made>, Wrong> {
    let sql = "SELECT fields, made_s, charged, granted, note FROM tollgate.made
               WHERE kind = $1 AND name = $2";
    let rows = session.query(sql, values![once_kind(kind), name.to_vec()]).await?;
    rows.first().map(|row| made(row, 0)).transpose()
}

pub(super) async fn all_made(
    session: &Session,
    kind: OnceKind,
    after_s: u64,
) -> Result<Vec<([u8; 16], Made)>, Wrong> {
    let sql = "SELECT name, fields, made_s, charged, granted, note FROM tollgate.made
               WHERE kind = $1 AND made_s > $2 ORDER BY seq";
    let rows = session.query(sql, values![once_kind(kind), int(after_s)]).await?;
    rows.iter().map(|row| Ok((bytes(row, 0)?, made(row, 1)?))).collect()
}

pub(super) async fn catalog(session: &Session) -> Result<CatalogImage, Wrong> {
    let resources = "SELECT kind, id, value FROM tollgate.catalog WHERE value IS NOT NULL
                     ORDER BY kind, id";
    let revision = "SELECT name, value FROM tollgate.numbers";
    let answers = moment(session, vec![Step::bare(resources), Step::bare(revision)]).await?;
    let [resources, numbers] = answers.as_slice() else { return Ok(CatalogImage::default()) };
    let mut image = CatalogImage::default();
    for row in numbers {
        if get::<&str>(row, 0)? == CATALOG_REVISION {
            image.revision = number(row, 1)?;
        }
    }
    for row in resources {
        let kind: i16 = get(row, 0)?;
        let kind = u8::try_from(kind).map_err(|_| bad(row, 0, "no kind of ours"))?;
        image.resources.push(CatalogResource { kind, id: name(row, 1)?, value: get(row, 2)? });
    }
    // As memory has them, whatever a name holds.
    image.resources.sort_by(|one, other| (one.kind, &one.id).cmp(&(other.kind, &other.id)));
    Ok(image)
}

pub(super) async fn count_rules(session: &Session) -> Result<Vec<(u16, CountRule)>, Wrong> {
    let sql = "SELECT id, bits FROM tollgate.count_rules ORDER BY id";
    session.query(sql, values![]).await?.iter().map(rule).collect()
}

macro_rules! identity_columns {
    () => {
        "c.id, c.subscriber, c.key, c.plan, c.entitlement, c.quota, c.unit, c.time_zone, \
         c.week_start"
    };
}
macro_rules! period_columns {
    () => {
        concat!(
            identity_columns!(),
            ", p.start_s, p.end_s, p.charged, p.granted, p.active_s FROM tollgate.counters AS c \
             JOIN tollgate.periods AS p ON p.counter = c.id "
        )
    };
}
macro_rules! share_columns {
    () => {
        "SELECT s.counter, s.start_s, s.holder, s.epoch, s.leased, s.spent \
         FROM tollgate.shares AS s JOIN tollgate.periods AS p USING (counter, start_s) \
         JOIN tollgate.counters AS c ON c.id = s.counter "
    };
}
/// The scope is in the third and fourth parameter.
macro_rules! of_scope {
    () => {
        "WHERE p.start_s < $1 AND p.end_s > $2 AND CASE $3::smallint WHEN 0 THEN true \
         WHEN 1 THEN c.subscriber = $4 WHEN 2 THEN c.key = $4 AND c.key <> '' \
         ELSE c.plan = $4 END "
    };
}
const OWNER: &str = concat!(
    "SELECT c.subscriber, c.key FROM tollgate.counters AS c JOIN tollgate.periods AS p \
     ON p.counter = c.id ",
    of_scope!(),
    "AND (c.subscriber, c.key) >= ($5, $6) ORDER BY c.subscriber, c.key OFFSET $7 LIMIT 1"
);
const NEXT_OWNER: &str = concat!(
    "SELECT c.subscriber, c.key FROM tollgate.counters AS c JOIN tollgate.periods AS p \
     ON p.counter = c.id ",
    of_scope!(),
    "AND (c.subscriber, c.key) > ($5, $6) ORDER BY c.subscriber, c.key LIMIT 1"
);
const STRETCH: &str = concat!(
    "SELECT ",
    period_columns!(),
    of_scope!(),
    "AND (c.subscriber, c.key) >= ($5, $6) AND ($7::text IS NULL OR (c.subscriber, c.key) <= ($7, $8))"
);
const STRETCH_SHARES: &str = concat!(
    share_columns!(),
    of_scope!(),
    "AND (c.subscriber, c.key) >= ($5, $6) AND ($7::text IS NULL OR (c.subscriber, c.key) <= ($7, $8))"
);
const LIVE: &str = concat!("SELECT ", period_columns!(), "WHERE p.end_s > $1");
const LIVE_SHARES: &str = concat!(share_columns!(), "WHERE p.end_s > $1");
const EPOCHS: &str = "SELECT id, epoch FROM tollgate.holders";
const ENDED: &str = concat!(
    "SELECT ",
    identity_columns!(),
    " FROM tollgate.counters AS c WHERE c.id IN (SELECT p.counter FROM tollgate.periods AS p \
     WHERE p.end_s > $1 AND p.end_s <= $2) LIMIT $3"
);

/// Those that end after `now_s`.
pub(super) async fn live(session: &Session, now_s: u64) -> Result<Vec<PeriodRow>, Wrong> {
    let now = || values![int(now_s)];
    let steps = vec![Step::new(LIVE, now()), Step::new(LIVE_SHARES, now()), Step::bare(EPOCHS)];
    periods(&moment(session, steps).await?)
}

/// A stretch of the list, and who comes next.
pub(super) async fn usage(
    session: &Session,
    scope: &Scope,
    stretch: &Stretch,
) -> Result<(Vec<PeriodRow>, Option<Whose>), Wrong> {
    // One moment over several round trips.
    session.run(&[Step::bare(MOMENT)]).await?;
    let found = usage_within(session, scope, stretch).await;
    session.run(&[Step::bare("COMMIT")]).await?;
    found
}

async fn usage_within(
    session: &Session,
    scope: &Scope,
    stretch: &Stretch,
) -> Result<(Vec<PeriodRow>, Option<Whose>), Wrong> {
    let Stretch { from_s, until_s, first: (subscriber, key), most } = stretch;
    let of_scope = || -> Vec<Value> {
        let (kind, id) = scope_columns(scope);
        values![int(*until_s), int(*from_s), kind, id]
    };
    let from = || -> Vec<Value> {
        let key = key.as_deref().unwrap_or_default();
        of_scope()
            .into_iter()
            .chain(values![written(subscriber).into_owned(), written(key).into_owned()])
            .collect()
    };
    // Whoever has the last row that fits has all of theirs.
    let mut last: Option<(String, String)> = None;
    if let Some(before) = most.checked_sub(1).and_then(|before| i64::try_from(before).ok()) {
        let values = from().into_iter().chain(values![before]).collect();
        if let Some(row) = session.query(OWNER, values).await?.first() {
            last = Some((get(row, 0)?, get(row, 1)?));
        }
    }
    let (last_subscriber, last_key) = last.clone().unzip();
    let whole = || -> Vec<Value> {
        from().into_iter().chain(values![last_subscriber.clone(), last_key.clone()]).collect()
    };
    let steps =
        [Step::new(STRETCH, whole()), Step::new(STRETCH_SHARES, whole()), Step::bare(EPOCHS)];
    let mut found = periods(&session.run(&steps).await?)?;
    found.sort_by(|one, other| one.order().cmp(&other.order()));
    let Some((subscriber, key)) = last else { return Ok((found, None)) };
    let values = of_scope().into_iter().chain(values![subscriber, key]).collect();
    let next = session.query(NEXT_OWNER, values).await?;
    let whose = |row: &Row| -> Result<Whose, Wrong> {
        Ok((name(row, 0)?, Some(name(row, 1)?).filter(|key| !key.is_empty())))
    };
    Ok((found, next.first().map(whose).transpose()?))
}

/// A number for the kind of scope, and its id.
fn scope_columns(scope: &Scope) -> (i16, String) {
    let (kind, id) = match scope {
        Scope::All => (0, ""),
        Scope::Subscriber(id) => (1, &**id),
        Scope::Key(id) => (2, &**id),
        Scope::Plan(id) => (3, &**id),
    };
    (kind, written(id).into_owned())
}

/// Periods, their shares and the epochs of holders, as they were read.
fn periods(answers: &[Vec<Row>]) -> Result<Vec<PeriodRow>, Wrong> {
    let [periods, shares, epochs] = answers else { return Ok(Vec::new()) };
    let epochs: HashMap<u32, u32> = epochs
        .iter()
        .map(|row| Ok((short(row, 0)?, short(row, 1)?)))
        .collect::<Result<_, Wrong>>()?;
    let mut of: HashMap<Place, Vec<(Holder, Share)>> = HashMap::new();
    for row in shares {
        let place = (CounterId(number(row, 0)?), number(row, 1)?);
        of.entry(place).or_default().push(share(row, 2)?);
    }
    let mut quotas = Quotas::default();
    let period = |row: &Row| {
        let counter = CounterId(number(row, 0)?);
        let start_s = number(row, 9)?;
        let Account { end_s, charged, granted, active_s } = account(row, 10)?;
        let shares = of.remove(&(counter, start_s)).unwrap_or_default();
        let current = |id| epochs.get(&id).copied().unwrap_or_default();
        let (lost, held) = unspent(shares, current);
        let period = Period::of_seconds(start_s, end_s);
        let identity = identity(row, &mut quotas)?;
        Ok(PeriodRow { counter, identity, period, charged, granted, lost, held, active_s })
    };
    periods.iter().map(period).collect()
}

/// Quotas that many counters share are kept once.
#[derive(Default)]
struct Quotas(HashMap<QuotaIdentity, Arc<QuotaIdentity>>);

fn identity(row: &Row, quotas: &mut Quotas) -> Result<CounterIdentity, Wrong> {
    let unit = unit_of(get(row, 6)?).ok_or_else(|| bad(row, 6, "no unit of ours"))?;
    let week_start = weekday_of(get(row, 8)?).ok_or_else(|| bad(row, 8, "no weekday"))?;
    let quota = QuotaIdentity { name: name(row, 5)?, unit, time_zone: name(row, 7)?, week_start };
    let quota = quotas.0.entry(quota).or_insert_with_key(|quota| Arc::new(quota.clone()));
    Ok(CounterIdentity {
        subscriber: name(row, 1)?,
        key: Some(name(row, 2)?).filter(|key| !key.is_empty()),
        plan: name(row, 3)?,
        entitlement: name(row, 4)?,
        quota: Arc::clone(quota),
    })
}

/// Counters with a period that has ended in some stretch of time.
pub(super) async fn ended(
    session: &Session,
    after_s: u64,
    by_s: u64,
    most: usize,
) -> Result<Vec<(CounterId, CounterIdentity)>, Wrong> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = session.query(ENDED, values![int(after_s), int(by_s), most]).await?;
    let mut quotas = Quotas::default();
    rows.iter().map(|row| Ok((CounterId(number(row, 0)?), identity(row, &mut quotas)?))).collect()
}

pub(super) async fn daily(
    session: &Session,
    scope: &Scope,
    first_day: u64,
    last_day: u64,
) -> Result<Vec<(Holder, DailyRow)>, Wrong> {
    let sql =
        "SELECT holder, epoch, number, day, subscriber, key, plan, entitlement, target, admitted,
            refused, responses
        FROM tollgate.daily WHERE day BETWEEN $1 AND $2 AND CASE $3::smallint WHEN 0 THEN true
            WHEN 1 THEN subscriber = $4 WHEN 2 THEN key = $4 AND key <> '' ELSE plan = $4 END";
    let (kind, id) = scope_columns(scope);
    let rows = session.query(sql, values![int(first_day), int(last_day), kind, id]).await?;
    let day = |row: &Row| {
        let key = DailyKey {
            day: number(row, 3)?,
            subscriber: name(row, 4)?,
            key: name(row, 5)?,
            plan: name(row, 6)?,
            entitlement: name(row, 7)?,
            target: name(row, 8)?,
        };
        let counts = DailyCounts {
            admitted: number(row, 9)?,
            refused: packed(row, 10)?,
            responses: packed(row, 11)?,
        };
        Ok((holder(row, 0)?, DailyRow { number: number(row, 2)?, key, counts }))
    };
    let mut found: Vec<_> = rows.iter().map(day).collect::<Result<_, Wrong>>()?;
    found.sort_by(|(one_holder, one), (other_holder, other)| {
        (&one.key, one_holder, one.number).cmp(&(&other.key, other_holder, other.number))
    });
    Ok(found)
}

/// The names of the latest epochs first.
pub(super) async fn names(
    session: &Session,
    most: usize,
) -> Result<Vec<(Holder, NumberedName)>, Wrong> {
    let sql = "SELECT holder, epoch, kind, number, name FROM tollgate.names
               ORDER BY epoch DESC, holder, kind, number LIMIT $1";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = session.query(sql, values![most]).await?;
    let named = |row: &Row| {
        let kind: i16 = get(row, 2)?;
        let kind = name_kind_of(kind.into()).ok_or_else(|| bad(row, 2, "no kind of ours"))?;
        let text: &str = get(row, 4)?;
        let name = read(text).as_ref().into();
        Ok((holder(row, 0)?, NumberedName { kind, number: short(row, 3)?, name }))
    };
    rows.iter().map(named).collect()
}

pub(super) async fn windows(
    session: &Session,
    holder_id: u32,
    now_s: u64,
) -> Result<Vec<WindowRow>, Wrong> {
    let sql = "SELECT fingerprint, end_s, count FROM tollgate.windows
               WHERE holder = $1 AND end_s > $2";
    let rows = session.query(sql, values![i64::from(holder_id), int(now_s)]).await?;
    let window = |row: &Row| {
        Ok(WindowRow {
            fingerprint: bytes(row, 0)?,
            end_s: number(row, 1)?,
            count: number(row, 2)?,
        })
    };
    rows.iter().map(window).collect()
}
