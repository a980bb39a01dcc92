//! What each operation does, over rows that a ledger in memory or SQLite keeps.

use std::ops::RangeInclusive;

use super::balance::{Account, MAX_UNITS, Share};
use super::{
    Answer, Balance, Believed, CatalogChange, CatalogEdit, ChargeRequest, Counter, CounterId,
    CounterIdentity, DailyChange, Delta, Expire, Expired, GiveBack, GivenBack, GrantMade,
    GrantRequest, Holder, Lease, LeaseRequest, Made, Mark, MarkKind, NumberedName, Once, OnceKind,
    Operation, Refused, RevisionConflict, Settle, Settled, WindowRow,
};
use crate::decide::calendar::Period;
use crate::decide::outcome::CountRule;

/// How many rows of each kind one [`Expire`] drops at most, so that it keeps nobody waiting.
pub(super) const MAX_EXPIRED: u64 = 1_000;

/// 65,536 sequence numbers of one kind of mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MarkPlace {
    pub(super) holder: Holder,
    pub(super) shard: u8,
    pub(super) kind: MarkKind,
    pub(super) high: u64,
}

/// The rows of a ledger, within a transaction.
pub(super) trait Rows {
    type Error;

    fn find_counter(
        &mut self,
        identity: &CounterIdentity,
    ) -> Result<Option<CounterId>, Self::Error>;
    fn make_counter(&mut self, identity: &CounterIdentity) -> Result<CounterId, Self::Error>;
    /// The newest revision of a counter's limit that was seen. `None`: there is no such counter.
    fn limit_revision(&mut self, counter: CounterId) -> Result<Option<u64>, Self::Error>;
    fn set_limit_revision(&mut self, counter: CounterId, revision: u64) -> Result<(), Self::Error>;
    /// The number of a count rule, made where it is missing. `None`: there are too many.
    fn count_rule(&mut self, rule: &CountRule) -> Result<Option<u16>, Self::Error>;

    fn account(&mut self, counter: CounterId, start_s: u64)
    -> Result<Option<Account>, Self::Error>;
    fn put_account(
        &mut self,
        counter: CounterId,
        start_s: u64,
        account: &Account,
    ) -> Result<(), Self::Error>;
    fn shares(
        &mut self,
        counter: CounterId,
        start_s: u64,
    ) -> Result<Vec<(Holder, Share)>, Self::Error>;
    fn put_share(
        &mut self,
        counter: CounterId,
        start_s: u64,
        holder: Holder,
        share: &Share,
    ) -> Result<(), Self::Error>;
    /// Accounts of periods that end so may have been dropped.
    fn dropped_ends_s(&mut self) -> Result<Option<RangeInclusive<u64>>, Self::Error>;

    fn is_marked(&mut self, place: MarkPlace, low: u16) -> Result<bool, Self::Error>;
    fn put_mark(&mut self, place: MarkPlace, low: u16, issued_s: u64) -> Result<(), Self::Error>;
    /// Marks of receipts that were issued by then may have been dropped.
    fn marks_dropped_to_s(&mut self) -> Result<Option<u64>, Self::Error>;

    fn catalog_revision(&mut self) -> Result<u64, Self::Error>;
    fn set_catalog_revision(&mut self, revision: u64) -> Result<(), Self::Error>;
    fn put_resource(&mut self, change: &CatalogChange) -> Result<(), Self::Error>;

    fn put_day(&mut self, holder: Holder, row: &DailyChange) -> Result<(), Self::Error>;
    fn put_names(&mut self, holder: Holder, names: &[NumberedName]) -> Result<(), Self::Error>;

    fn put_window(&mut self, holder_id: u32, row: &WindowRow) -> Result<(), Self::Error>;

    fn find_made(&mut self, kind: OnceKind, name: &[u8; 16]) -> Result<Option<Made>, Self::Error>;
    fn put_made(&mut self, kind: OnceKind, name: &[u8; 16], made: &Made)
    -> Result<(), Self::Error>;

    /// Keeps a time, and takes back what was dropped after it. Was there something?
    fn believe(&mut self, believed: Believed) -> Result<bool, Self::Error>;
    /// Drops at most `most` rows of each kind.
    fn expire(&mut self, expire: &Expire, most: u64) -> Result<Expired, Self::Error>;
}

/// Does one operation.
pub(super) fn perform<R: Rows>(rows: &mut R, operation: &Operation) -> Result<Answer, R::Error> {
    Ok(match operation {
        Operation::Lease(request) => Answer::Lease(lease(rows, request)?),
        Operation::GiveBack(request) => Answer::GiveBack(give_back(rows, request)?),
        Operation::Settle(request) => Answer::Settle(settle(rows, request)?),
        Operation::Charge(request) => Answer::Charge(charge(rows, request)?),
        Operation::Grant(request) => Answer::Grant(grant(rows, request)?),
        Operation::Edit(edit) => Answer::Edit(edit_catalog(rows, edit)?),
        Operation::Daily(report) => {
            report.rows.iter().try_for_each(|row| rows.put_day(report.holder, row))?;
            Answer::Daily(())
        }
        Operation::Names(report) => Answer::Names(rows.put_names(report.holder, &report.names)?),
        Operation::Windows(report) => {
            for row in &report.rows {
                rows.put_window(report.holder.id, row)?;
            }
            Answer::Windows(())
        }
        Operation::Remember(remember) => {
            for once in &remember.operations {
                rows.put_made(once.kind, &once.name, &once.made(Balance::default()))?;
            }
            Answer::Remember(())
        }
        Operation::Expire(request) => {
            let reopened = request.believed.map_or(Ok(false), |believed| rows.believe(believed))?;
            Answer::Expire(Expired { reopened, ..rows.expire(request, MAX_EXPIRED)? })
        }
    })
}

/// The counter, made where it is missing, and the newest revision of its limit that was seen.
fn resolve<R: Rows>(
    rows: &mut R,
    counter: &Counter,
) -> Result<Result<(CounterId, u64), Refused>, R::Error> {
    match counter {
        Counter::Known(id) => {
            Ok(rows.limit_revision(*id)?.map(|newest| (*id, newest)).ok_or(Refused::UnknownCounter))
        }
        Counter::Named(identity) => Ok(Ok(match rows.find_counter(identity)? {
            Some(id) => (id, rows.limit_revision(id)?.unwrap_or_default()),
            None => (rows.make_counter(identity)?, 0),
        })),
    }
}

/// Was the account of a period dropped, or may it have been? Then it must not start from 0 again,
/// and no counter is made for it.
fn is_dropped<R: Rows>(rows: &mut R, counter: &Counter, period: Period) -> Result<bool, R::Error> {
    if !rows.dropped_ends_s()?.is_some_and(|ends_s| ends_s.contains(&period.end_s())) {
        return Ok(false);
    }
    let counter = match counter {
        Counter::Named(identity) => rows.find_counter(identity)?,
        // An unknown number is told as such.
        Counter::Known(id) => match rows.limit_revision(*id)? {
            Some(_) => Some(*id),
            None => return Ok(false),
        },
    };
    Ok(match counter {
        Some(counter) => rows.account(counter, period.start_s())?.is_none(),
        None => true,
    })
}

/// The account of a period, new where it was never touched.
fn open<R: Rows>(rows: &mut R, counter: CounterId, period: Period) -> Result<Account, R::Error> {
    Ok(rows.account(counter, period.start_s())?.unwrap_or_else(|| Account::new(period)))
}

fn lease<R: Rows>(
    rows: &mut R,
    request: &LeaseRequest,
) -> Result<Result<Lease, Refused>, R::Error> {
    if !request.may_pass && is_dropped(rows, &request.counter, request.period)? {
        return Ok(Err(Refused::PeriodDropped));
    }
    let (counter, newest) = match resolve(rows, &request.counter)? {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    if request.revision < newest {
        return Ok(Err(Refused::StaleLimit { newest }));
    }
    let Some(rule) = rows.count_rule(&request.count_rule)? else {
        return Ok(Err(Refused::TooManyCountRules));
    };
    if request.revision > newest {
        rows.set_limit_revision(counter, request.revision)?;
    }
    let start_s = request.period.start_s();
    let mut account = open(rows, counter, request.period)?;
    let shares = rows.shares(counter, start_s)?;
    let known = find(&shares, request.holder);
    let mut share = known.unwrap_or_default();
    account.lease(&mut share, request.want, request.spent, request.limit, request.may_pass);
    account.active_s = request.now_s.min(MAX_UNITS);
    rows.put_account(counter, start_s, &account)?;
    if known.unwrap_or_default() != share {
        rows.put_share(counter, start_s, request.holder, &share)?;
    }
    let Share { leased, spent } = share;
    Ok(Ok(Lease {
        counter,
        rule,
        leased,
        spent,
        balance: account.balance(&shares, Some(request.holder)),
    }))
}

fn find(shares: &[(Holder, Share)], holder: Holder) -> Option<Share> {
    shares.iter().find(|(other, _)| *other == holder).map(|(_, share)| *share)
}

fn give_back<R: Rows>(rows: &mut R, request: &GiveBack) -> Result<GivenBack, R::Error> {
    let Some(mut account) = rows.account(request.counter, request.period_start_s)? else {
        return Ok(GivenBack::default());
    };
    let shares = rows.shares(request.counter, request.period_start_s)?;
    let known = find(&shares, request.holder);
    let mut share = known.unwrap_or_default();
    let returned = account.give_back(&mut share, request.spent);
    if known.unwrap_or_default() != share {
        rows.put_account(request.counter, request.period_start_s, &account)?;
        rows.put_share(request.counter, request.period_start_s, request.holder, &share)?;
    }
    Ok(GivenBack {
        returned,
        leased: share.leased,
        balance: account.balance(&shares, Some(request.holder)),
    })
}

fn settle<R: Rows>(rows: &mut R, request: &Settle) -> Result<Settled, R::Error> {
    let Mark { holder, shard, seq, kind, issued_s } = request.mark;
    let place = MarkPlace { holder, shard, kind, high: seq >> 16 };
    let low = u16::try_from(seq & 0xffff).unwrap_or_default();
    if rows.is_marked(place, low)? {
        return Ok(Settled::Duplicate);
    }
    if rows.marks_dropped_to_s()?.is_some_and(|dropped_s| issued_s <= dropped_s) {
        return Ok(Settled::TooOld);
    }
    rows.put_mark(place, low, issued_s)?;
    let mut balances = Vec::with_capacity(request.deltas.len());
    for delta in &request.deltas {
        balances.push(change(rows, delta)?);
    }
    Ok(Settled::Done(balances))
}

fn change<R: Rows>(rows: &mut R, delta: &Delta) -> Result<Option<Balance>, R::Error> {
    let Some(mut account) = rows.account(delta.counter, delta.period_start_s)? else {
        return Ok(None);
    };
    account.change(delta.units);
    rows.put_account(delta.counter, delta.period_start_s, &account)?;
    let shares = rows.shares(delta.counter, delta.period_start_s)?;
    Ok(Some(account.balance(&shares, None)))
}

/// What was done under the name of an operation.
fn made_before<R: Rows>(
    rows: &mut R,
    once: Option<&Once>,
) -> Result<Option<Result<Made, Refused>>, R::Error> {
    let Some(once) = once else { return Ok(None) };
    let made = rows.find_made(once.kind, &once.name)?;
    Ok(made.map(
        |made| if made.fields == once.fields { Ok(made) } else { Err(Refused::OtherOperation) },
    ))
}

fn keep_made<R: Rows>(rows: &mut R, once: Option<&Once>, balance: Balance) -> Result<(), R::Error> {
    once.map_or(Ok(()), |once| rows.put_made(once.kind, &once.name, &once.made(balance)))
}

fn charge<R: Rows>(
    rows: &mut R,
    request: &ChargeRequest,
) -> Result<Result<Balance, Refused>, R::Error> {
    if let Some(before) = made_before(rows, request.once.as_ref())? {
        return Ok(Err(before.err().unwrap_or(Refused::DoneBefore)));
    }
    if is_dropped(rows, &request.counter, request.period)? {
        return Ok(Err(Refused::PeriodDropped));
    }
    let charged = edit_account(rows, &request.counter, request.period, request.now_s, |account| {
        account.change(i64::try_from(request.units).unwrap_or(i64::MAX));
    })?;
    if let Ok(balance) = charged {
        keep_made(rows, request.once.as_ref(), balance)?;
    }
    Ok(charged)
}

fn grant<R: Rows>(
    rows: &mut R,
    request: &GrantRequest,
) -> Result<Result<GrantMade, Refused>, R::Error> {
    match made_before(rows, request.once.as_ref())? {
        Some(Ok(first)) => {
            let balance = standing(rows, &request.counter, request.period)?;
            return Ok(Ok(GrantMade { balance, first: Some(first) }));
        }
        Some(Err(refused)) => return Ok(Err(refused)),
        None => {}
    }
    let reopens = is_dropped(rows, &request.counter, request.period)?;
    let granted = edit_account(rows, &request.counter, request.period, request.now_s, |account| {
        if reopens {
            // Nothing was left of it.
            account.charged = request.limit.min(MAX_UNITS);
        }
        account.grant(request.change, request.limit);
    })?;
    if let Ok(balance) = granted {
        keep_made(rows, request.once.as_ref(), balance)?;
    }
    Ok(granted.map(|balance| GrantMade { balance: Some(balance), first: None }))
}

/// Where a counter stands. `None`: nothing is kept of the period.
fn standing<R: Rows>(
    rows: &mut R,
    counter: &Counter,
    period: Period,
) -> Result<Option<Balance>, R::Error> {
    let counter = match counter {
        Counter::Known(id) => Some(*id),
        Counter::Named(identity) => rows.find_counter(identity)?,
    };
    let Some(counter) = counter else { return Ok(None) };
    let Some(account) = rows.account(counter, period.start_s())? else { return Ok(None) };
    let shares = rows.shares(counter, period.start_s())?;
    Ok(Some(account.balance(&shares, None)))
}

fn edit_account<R: Rows>(
    rows: &mut R,
    counter: &Counter,
    period: Period,
    now_s: u64,
    edit: impl FnOnce(&mut Account),
) -> Result<Result<Balance, Refused>, R::Error> {
    let (counter, _) = match resolve(rows, counter)? {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut account = open(rows, counter, period)?;
    edit(&mut account);
    account.active_s = now_s.min(MAX_UNITS);
    rows.put_account(counter, period.start_s(), &account)?;
    let shares = rows.shares(counter, period.start_s())?;
    Ok(Ok(account.balance(&shares, None)))
}

fn edit_catalog<R: Rows>(
    rows: &mut R,
    edit: &CatalogEdit,
) -> Result<Result<u64, RevisionConflict>, R::Error> {
    let current = rows.catalog_revision()?;
    if current != edit.expected || made_before(rows, edit.once.as_ref())?.is_some() {
        return Ok(Err(RevisionConflict { current }));
    }
    for change in &edit.changes {
        rows.put_resource(change)?;
    }
    rows.set_catalog_revision(edit.revision)?;
    keep_made(rows, edit.once.as_ref(), Balance::default())?;
    Ok(Ok(edit.revision))
}

/// The row of a list, and what of it is lost or held.
pub(super) fn unspent(
    shares: impl IntoIterator<Item = (Holder, Share)>,
    current: impl Fn(u32) -> u32,
) -> (u64, u64) {
    let (mut lost, mut held) = (0u64, 0u64);
    for (holder, share) in shares {
        let kind = if holder.epoch < current(holder.id) { &mut lost } else { &mut held };
        *kind = kind.saturating_add(share.unspent());
    }
    (lost, held)
}
