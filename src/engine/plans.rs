//! The counters of usage plans: checks, receipts, reports, grants and what was used.
//!
//! All counters of one (subject, entitlement) are one entry under one lock. A decision locks it,
//! then the target's, then the account's; it checks everything, then charges everything, and undoes
//! nothing.
//!
//! Quotas are spent from leases of a ledger, which [`leases`] keeps; reports change
//! what was charged there: see [`settle`].
//!
//! Everything that grows has a bound in [`Settings`], and says there what happens at it.

mod gauges;
mod grant;
mod locking;
mod marks;
mod operations;
mod rates;
mod receipt;
mod receipt_names;
mod settings;
pub mod settle;
mod usage;
mod verdict;
mod write_behind;

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::quality::RandomState;

use self::locking::{Asked, Charges, Outputs, no_room};
use self::marks::Marks;
use self::operations::{Operations, OtherFields};
pub use self::rates::PlanExtra;
use self::rates::Rates;
use self::receipt::Receipt;
use self::receipt_names::ReceiptNames;
use self::usage::{Event, Row as UsageRow, Usage, Who};
use self::verdict::NO_ROOM_RETRY_NS;
use crate::decide::compiled::{CompiledEntitlement, CompiledTarget};
use crate::decide::ledger::{CounterIdentity, NameKind, PeriodRow};
use crate::decide::lookup::Lookup;
use crate::decide::plan::{CounterScope, Id};
use crate::decide::quota::KEEP_NS;
use crate::decide::resolve::{Call, Covered, Refused, Resolution, resolve, resolve_again};
use crate::decide::time::Now;
use crate::decide::verdict::{Decision, Reason, Verdict};
use crate::engine::leases::{
    self, BookSettings, Entry, Full, HoldsLeases, LeaseBook, Owner, State, shard_of,
};
use crate::engine::sync::{
    DashMap, Mutex,
    atomic::{AtomicU64, Ordering},
};
use crate::fingerprint::Fingerprinter;

pub use self::grant::{GrantError, GrantPlan, QuotaUsage, Subject};
pub use self::operations::{KeptOperation, REMEMBERED_NS};
pub use self::receipt::MAX_CHARS as MAX_RECEIPT_CHARS;
pub use self::settings::Settings;
pub use self::settle::{
    Change, Committed, Correction, Report, ReportCharge, ReportSubject, Settled, Settlement,
};
pub use self::usage::{TakenUsage, UnwrittenUsage};
pub use crate::engine::leases::{LeaseSettings, Need, Shortage};

/// Where a caller's counters were the last time.
pub type EntryHandle = leases::EntryHandle<PlanExtra>;

/// The longest operation id, in bytes.
pub const MAX_OPERATION_ID: usize = 128;
/// Sequence numbers are drawn by shard, and a subject is always in the same shard.
const SHARDS: usize = 256;

/// One request to decide.
#[derive(Clone, Copy, Debug)]
pub struct CheckInput<'a> {
    /// As it was presented. Empty: none was.
    pub api_key: &'a [u8],
    pub target: &'a str,
    pub method: &'a [u8],
    pub path: &'a [u8],
    /// Absent is 1, 0 is a peek.
    pub cost: Option<u64>,
    /// Empty: none.
    pub operation_id: &'a [u8],
}

impl CheckInput<'_> {
    fn call(&self) -> Result<Call<'_>, InvalidRequest> {
        if self.target.is_empty() {
            return Err(InvalidRequest::NoTarget);
        }
        if self.operation_id.len() > MAX_OPERATION_ID {
            return Err(InvalidRequest::OperationIdTooLong);
        }
        Ok(Call {
            api_key: self.api_key,
            target: self.target,
            method: self.method,
            path: self.path,
        })
    }
}

/// What a check came to.
// Decisions are made and taken apart at once: a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Checked<'a> {
    Decided(Decision<'a>),
    /// Undecided, and nothing is charged: ask the ledger for all of these, then check again.
    Needs(Vec<Need>),
}

/// A request that cannot be decided, whoever the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("target must name the API deployment or stage that was called")]
    NoTarget,
    #[error("operation_id must be at most 128 bytes long")]
    OperationIdTooLong,
    #[error(
        "operation_id was used for another request of this API key in the last 60 s: use a new id for each request"
    )]
    OperationIdReused,
}

/// The counters of usage plans.
#[derive(Debug)]
pub struct PlanEngine {
    settings: Settings,
    fingerprints: Fingerprinter,
    leases: LeaseBook<PlanExtra>,
    targets: DashMap<Id, Mutex<Rates>, RandomState>,
    account: Mutex<u64>,
    operations: Operations,
    marks: Marks,
    usage: Usage,
    names: ReceiptNames,
    sequences: Box<[Sequence]>,
    events: Events,
}

/// Alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Sequence(AtomicU64);

/// What happened, in units where units are meant.
#[derive(Debug, Default)]
struct Events {
    expired_units: AtomicU64,
    invalid_reports: AtomicU64,
    dropped_settlements: AtomicU64,
    without_receipt: AtomicU64,
}

impl PlanEngine {
    pub fn new(settings: Settings) -> Self {
        let fingerprints = Fingerprinter::new(settings.hash_key);
        let book = BookSettings {
            holder: settings.holder,
            keep_ns: settings.receipts_ttl_ns.max(KEEP_NS),
            max_entries: settings.max_entries,
            lease: settings.lease,
        };
        Self {
            leases: LeaseBook::new(fingerprints.clone(), book),
            fingerprints,
            targets: DashMap::default(),
            account: Mutex::new(0),
            operations: Operations::new(settings.max_operations),
            marks: Marks::new(settings.max_mark_rows, settings.receipts_ttl_ns),
            usage: Usage::new(settings.max_usage_rows),
            names: ReceiptNames::new(settings.max_names),
            sequences: (0..SHARDS).map(|_| Sequence::default()).collect(),
            events: Events::default(),
            settings,
        }
    }

    /// What is held of the ledger, and the counters.
    pub fn leases(&self) -> &LeaseBook<PlanExtra> {
        &self.leases
    }

    /// Decides one request, and charges it if it is admitted; or says what it needs from the ledger
    /// first, and has charged nothing. A refusal is a decision, not an error.
    ///
    /// Writes into `decision`, which is too large to be moved through each layer. Gives what the
    /// request needs first; `None`: it is decided.
    ///
    /// `known`: what covered an earlier request of the same API key to the same target, at the same
    /// revision of the declarations, and a handle: always the same one beside what is covered so.
    pub fn check_into<'a>(
        &self,
        lookup: &'a impl Lookup,
        known: Option<(Covered<'a>, &mut EntryHandle)>,
        request: &CheckInput<'_>,
        shortage: Shortage,
        now: Now,
        decision: &mut Decision<'a>,
    ) -> Result<Option<Vec<Need>>, InvalidRequest> {
        if let Some((_, handle)) = &known {
            handle.touch();
        }
        let (asked, call) = (Asked { request, shortage, now }, request.call()?);
        let known = known.and_then(|(covered, handle)| {
            Some((resolve_again(covered, &call, now)?, Some(handle)))
        });
        if let Some(known) = known {
            return self.check_once(lookup, known, asked, decision);
        }
        match resolve(lookup, &call, now) {
            Resolution::Covered(covered) => {
                return self.check_once(lookup, (covered, None), asked, decision);
            }
            Resolution::Open { target } => self.check_open(lookup, target, asked, decision),
            Resolution::Refused(refused) => self.refuse(lookup, &refused, asked, decision),
        }
        Ok(None)
    }

    /// A request with an operation id is decided once.
    fn check_once<'a>(
        &self,
        lookup: &'a impl Lookup,
        caller: (Covered<'a>, Option<&mut EntryHandle>),
        asked: Asked<'_>,
        decision: &mut Decision<'a>,
    ) -> Result<Option<Vec<Need>>, InvalidRequest> {
        let request = asked.request;
        if request.operation_id.is_empty() || request.cost == Some(0) {
            return Ok(self.check_covered(lookup, caller, asked, decision).err());
        }
        let id =
            self.fingerprints.of_parts(b'o', &[caller.0.key.id.as_bytes(), request.operation_id]);
        let cost = request.cost.unwrap_or(1).to_le_bytes();
        let fields = self
            .fingerprints
            .of_parts(b'f', &[request.target.as_bytes(), request.method, request.path, &cost]);
        let check = || {
            let mut decision = undecided();
            let checked = self.check_covered(lookup, caller, asked, &mut decision);
            checked.map_or_else(Checked::Needs, |()| Checked::Decided(decision))
        };
        match self.operations.once(id, fields, asked.now, check) {
            Ok(Checked::Needs(needs)) => return Ok(Some(needs)),
            Ok(Checked::Decided(decided)) => *decision = decided,
            Err(OtherFields) => return Err(InvalidRequest::OperationIdReused),
        }
        Ok(None)
    }

    /// Steps 1 and 2 failed.
    fn refuse<'a>(
        &self,
        lookup: &'a impl Lookup,
        refused: &Refused<'a>,
        asked: Asked<'_>,
        decision: &mut Decision<'a>,
    ) {
        let nothing = Id::default();
        if let Some(key) = refused.key {
            // A target that is not registered is a text of the caller's, and never the name of a
            // statistic.
            let target =
                lookup.target(asked.request.target).map_or(&nothing, |target| &target.target.id);
            let who = Who {
                subscriber: &key.subscriber,
                key: &key.id,
                plan: &nothing,
                entitlement: &nothing,
                target,
            };
            self.usage.count(&self.fingerprints, who, Event::Refused(refused.reason), asked.now);
            decision.subscriber = Cow::Borrowed(&key.subscriber);
        }
        decision.verdict = Verdict::Deny { reason: refused.reason, retry_after_ns: None };
        decision.note = refused.note.clone();
    }

    /// A call that needs no key: only the limits of the target and of the account.
    fn check_open<'a>(
        &self,
        lookup: &'a impl Lookup,
        target: &'a CompiledTarget,
        asked: Asked<'_>,
        decision: &mut Decision<'a>,
    ) {
        // Rates need nothing from the ledger.
        let asked = Asked { shortage: Shortage::Deny, ..asked };
        let outputs = Outputs { limits: &mut decision.limits, charges: &mut Charges::new() };
        decision.verdict = self
            .lock_and_decide(lookup, None, Some(target), asked, outputs)
            .unwrap_or_else(|_| no_room());
    }

    fn check_covered<'a>(
        &self,
        lookup: &'a impl Lookup,
        (covered, handle): (Covered<'a>, Option<&mut EntryHandle>),
        asked: Asked<'_>,
        decision: &mut Decision<'a>,
    ) -> Result<(), Vec<Need>> {
        let Covered { key, subscriber_id, entitlement, target_id, target } = covered;
        let compiled: &'a CompiledEntitlement = entitlement;
        let counted =
            compiled.rate.is_some() || !compiled.methods.is_empty() || !compiled.quotas.is_empty();
        let mut issued_for = None;
        let mut charges = Charges::new();
        let outputs = Outputs { limits: &mut decision.limits, charges: &mut charges };
        let verdict = if counted {
            let (subject, owner) = self.owner(covered);
            let names = (&*compiled.plan, &*compiled.name);
            let fingerprint = || self.leases.fingerprint(compiled.counter_scope, subject, names);
            let work = |entry: &Arc<Entry<PlanExtra>>, state: &mut State<PlanExtra>| {
                if let Some(row) = &state.extra.last_usage {
                    row.touch();
                }
                let verdict = self.lock_and_decide(
                    lookup,
                    Some((compiled, entry, &mut *state)),
                    target,
                    asked,
                    outputs,
                )?;
                self.tally(&mut state.extra.last_usage, covered, asked, verdict);
                let draw = |kind, name: &Id| self.names.number(kind, name);
                let by_name = || {
                    (
                        shard_of(subscriber_id),
                        (draw(NameKind::Key, &key.id), draw(NameKind::Target, target_id)),
                    )
                };
                let names = || {
                    state
                        .extra
                        .last_usage
                        .as_ref()
                        .map_or_else(by_name, |row| (row.shard(), row.numbers(draw)))
                };
                let charged = verdict.is_allowed() && asked.request.cost != Some(0);
                issued_for = (charged && !compiled.quotas.is_empty()).then(names);
                Ok(verdict)
            };
            let worked = match handle {
                Some(handle) => {
                    self.leases.books.with_handle(handle, fingerprint, owner, asked.now, work)
                }
                None => self.leases.books.with(fingerprint(), owner, asked.now, work),
            };
            worked.unwrap_or_else(|Full| {
                self.tally(&mut None, covered, asked, no_room());
                Ok(no_room())
            })
        } else {
            let verdict = self.lock_and_decide(lookup, None, target, asked, outputs);
            verdict.inspect(|verdict| self.tally(&mut None, covered, asked, *verdict))
        };
        decision.verdict = verdict?;
        decision.plan = Cow::Borrowed(&compiled.plan);
        decision.entitlement = Cow::Borrowed(&compiled.name);
        decision.subscriber = Cow::Borrowed(subscriber_id);
        if !charges.is_empty() {
            decision.receipt =
                issued_for.and_then(|(shard, numbers)| self.issue(shard, numbers, asked, charges));
        }
        Ok(())
    }

    /// The newest admissions that are remembered by an operation id, at most so many: for a clean
    /// stop.
    pub fn remembered_operations(&self, most: usize, now: Now) -> Vec<KeptOperation> {
        self.operations.newest(most, now)
    }

    /// Remembers an admission of an earlier run again: its retry gets the answer that it got then.
    pub fn restore_operation(&self, kept: KeptOperation, now: Now) {
        self.operations.restore(kept, now);
    }

    /// Counts a decision in the statistics of its day. A peek is none.
    fn tally(
        &self,
        last: &mut Option<Arc<UsageRow>>,
        covered: Covered<'_>,
        asked: Asked<'_>,
        verdict: Verdict,
    ) {
        if asked.request.cost == Some(0) {
            return;
        }
        let Covered { key, subscriber_id, entitlement, target_id, .. } = covered;
        let (plan, entitlement) = (&entitlement.plan, &entitlement.name);
        let who =
            Who { subscriber: subscriber_id, key: &key.id, plan, entitlement, target: target_id };
        let event = verdict.reason().map_or(Event::Admitted, Event::Refused);
        self.usage.count_again(last, &self.fingerprints, who, event, asked.now);
    }

    /// Whose counters a covered request meets.
    fn owner<'a>(&self, covered: Covered<'a>) -> (&'a str, impl FnOnce() -> Owner + use<'a>) {
        let Covered { key, subscriber_id, entitlement, .. } = covered;
        let by_key = entitlement.counter_scope == CounterScope::Key;
        let subject: &str = if by_key { &key.id } else { subscriber_id };
        let owner = move || {
            Owner::new(
                subscriber_id,
                by_key.then_some(&key.id),
                &entitlement.plan,
                &entitlement.name,
            )
        };
        (subject, owner)
    }

    fn issue(
        &self,
        shard: u8,
        (key, target): (u32, u32),
        Asked { request, now, .. }: Asked<'_>,
        charges: Charges,
    ) -> Option<String> {
        let seq = self.sequences.get(usize::from(shard))?.0.fetch_add(1, Ordering::Relaxed);
        let receipt = Receipt {
            holder: self.leases.holder(),
            shard,
            seq,
            key,
            target,
            issued_us: now.unix_ns / 1000,
            cost: request.cost.unwrap_or(1),
            charges,
        };
        receipt.seal(&self.settings.receipt_key)
    }

    /// The first units of a counter that was restored, so that its first request need not wait.
    /// `None`: it needs none.
    pub fn warm(&self, lookup: &impl Lookup, row: &PeriodRow, now: Now) -> Option<Need> {
        let CounterIdentity { plan, entitlement, quota, .. } = &row.identity;
        let entitlement = lookup.plan(plan)?.entitlement(entitlement)?;
        let quota = entitlement.quotas.iter().find(|declared| *declared.identity == **quota)?;
        self.leases.warm(quota, &row.identity, row.period, lookup.revision(), now)
    }

    /// Drops what remembers nothing any more. Call it every few seconds. `true`: more has ended
    /// than [`LeaseBook::take_ended`] gives now; sweep again when that is given back.
    pub fn sweep(&self, now: Now) -> bool {
        let is_more = self.leases.sweep(now);
        self.targets.retain(|_, rates| !rates.get_mut().are_full(now));
        self.operations.sweep(now);
        self.marks.sweep(now);
        self.usage.sweep(now);
        self.names.sweep(now, self.settings.receipts_ttl_ns);
        is_more
    }
}

impl HoldsLeases for PlanEngine {
    type Extra = PlanExtra;

    fn leases(&self) -> &LeaseBook<PlanExtra> {
        &self.leases
    }

    fn sweep(&self, now: Now) -> bool {
        Self::sweep(self, now)
    }
}

/// Where a decision begins: it is refused unless something else is decided.
fn undecided<'a>() -> Decision<'a> {
    Decision::refused(Reason::LedgerUnavailable, Some(NO_ROOM_RETRY_NS))
}

#[cfg(test)]
pub(crate) use self::tests::memory::Memory;

#[cfg(test)]
pub(super) mod tests;
