//! Operation ids over a restart: a clean stop leaves the admissions of the last minute to the next
//! start, with their answers. A gateway retries exactly when its server restarts.

use prost::Message;

use super::lease_broker::LeaseBroker;
use crate::decide::time::{Now, SECOND_NS};
use crate::decide::verdict::{Decision, LimitKind, LimitScope, LimitStatus, Verdict};
use crate::engine::plans::{KeptOperation, REMEMBERED_NS};
use crate::grpc::pb::tollgate as pb;
use crate::ledger::{LedgerError, Once, OnceKind, Remember};

/// How an admission is written. Another way gets another number, and is not read by this one.
const WRITTEN_AS: u8 = 1;
const SCOPES: [(LimitScope, pb::limit_status::Scope); 4] = [
    (LimitScope::Entitlement, pb::limit_status::Scope::Entitlement),
    (LimitScope::Method, pb::limit_status::Scope::Method),
    (LimitScope::Target, pb::limit_status::Scope::Target),
    (LimitScope::Account, pb::limit_status::Scope::Account),
];
/// In one transaction.
const AT_ONCE: usize = 10_000;

impl LeaseBroker {
    /// Writes the newest admissions that are remembered by an operation id. Blocks until the ledger
    /// has them.
    ///
    /// # Errors
    /// The ledger did not take them: their retries are charged again.
    pub(super) fn keep_operations(&self) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let most = usize::try_from(OnceKind::Check.max_kept()).unwrap_or(usize::MAX);
        let kept = self.engine.remembered_operations(most, now);
        for some in kept.chunks(AT_ONCE) {
            let operations = some.iter().map(|kept| once(kept, now)).collect();
            self.ledger.call(Remember { operations })?;
        }
        Ok(())
    }

    /// Remembers what the last run has written, for what is left of its minute: the time in between
    /// counts, by the wall clock. What cannot be read is forgotten, as after a crash.
    pub(super) fn restore_operations(&self, now: Now) -> Result<(), LedgerError> {
        let after_s = (now.unix_ns.saturating_sub(REMEMBERED_NS) / SECOND_NS).saturating_sub(1);
        self.ledger.ledger().load_made(OnceKind::Check, after_s, &mut |id, made| {
            if let Some((until_unix_ns, decision)) = read(&made.note) {
                // A clock that was set back lets nothing live longer than it would have.
                let left_ns = until_unix_ns.saturating_sub(now.unix_ns).min(REMEMBERED_NS);
                let until_ns = now.steady_ns.saturating_add(left_ns);
                self.engine.restore_operation(
                    KeptOperation { id, fields: made.fields, decision, until_ns },
                    now,
                );
            }
        })
    }
}

fn once(kept: &KeptOperation, now: Now) -> Once {
    let until_unix_ns = now.unix_ns.saturating_add(kept.until_ns.saturating_sub(now.steady_ns));
    Once {
        kind: OnceKind::Check,
        name: kept.id,
        fields: kept.fields,
        note: write(until_unix_ns, &kept.decision),
        now_s: now.unix_s(),
    }
}

fn write(until_unix_ns: u64, decision: &Decision<'_>) -> Vec<u8> {
    let limit = |limit: &LimitStatus<'_>| pb::LimitStatus {
        name: limit.name.to_string(),
        scope: SCOPES
            .iter()
            .find(|(scope, _)| *scope == limit.scope)
            .map(|(_, wire)| *wire)
            .unwrap_or_default()
            .into(),
        kind: match limit.kind {
            LimitKind::Rate => pb::limit_status::Kind::Rate.into(),
            LimitKind::Quota => pb::limit_status::Kind::Quota.into(),
        },
        limit: limit.limit,
        remaining: limit.remaining,
        reset_after: Some(duration(limit.reset_after_ns)),
        window: Some(duration(limit.window_ns)),
        violated: limit.violated,
    };
    let answer = pb::CheckResponse {
        over_quota: decision.verdict == Verdict::Allow { over_quota: true },
        receipt: decision.receipt.clone().unwrap_or_default(),
        plan: decision.plan.to_string(),
        entitlement: decision.entitlement.to_string(),
        subscriber: decision.subscriber.to_string(),
        limits: decision.limits.iter().map(limit).collect(),
        ..pb::CheckResponse::default()
    };
    let mut written = vec![WRITTEN_AS];
    written.extend(until_unix_ns.to_le_bytes());
    written.extend(answer.encode_to_vec());
    written
}

fn read(written: &[u8]) -> Option<(u64, Decision<'static>)> {
    let (until_unix_ns, answer) = written.strip_prefix(&[WRITTEN_AS])?.split_first_chunk()?;
    let answer = pb::CheckResponse::decode(answer).ok()?;
    let limit = |limit: pb::LimitStatus| {
        let scope =
            SCOPES.iter().find(|(_, wire)| *wire == limit.scope()).map(|(scope, _)| *scope)?;
        Some(LimitStatus {
            scope,
            // It was admitted: what was violated refuses nobody, and nothing has to be waited for.
            enforced: !limit.violated,
            wait_ns: Some(0),
            kind: match limit.kind() {
                pb::limit_status::Kind::Rate => LimitKind::Rate,
                pb::limit_status::Kind::Quota => LimitKind::Quota,
                pb::limit_status::Kind::Unspecified => return None,
            },
            name: limit.name.into(),
            limit: limit.limit,
            remaining: limit.remaining,
            reset_after_ns: nanoseconds(limit.reset_after?)?,
            window_ns: nanoseconds(limit.window?)?,
            violated: limit.violated,
        })
    };
    let decision = Decision {
        verdict: Verdict::Allow { over_quota: answer.over_quota },
        plan: answer.plan.into(),
        entitlement: answer.entitlement.into(),
        subscriber: answer.subscriber.into(),
        limits: answer.limits.into_iter().map(limit).collect::<Option<_>>()?,
        receipt: (!answer.receipt.is_empty()).then_some(answer.receipt),
        note: None,
    };
    Some((u64::from_le_bytes(*until_unix_ns), decision))
}

fn duration(ns: u64) -> prost_types::Duration {
    let (seconds, nanos) = (ns / SECOND_NS, ns % SECOND_NS);
    prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

fn nanoseconds(duration: prost_types::Duration) -> Option<u64> {
    let (seconds, nanos) =
        (u64::try_from(duration.seconds).ok()?, u64::try_from(duration.nanos).ok()?);
    seconds.checked_mul(SECOND_NS)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_comes_back_as_it_was_written() {
        let limit = |kind, ns| LimitStatus {
            name: "q".into(),
            kind,
            limit: u64::MAX,
            remaining: 7,
            reset_after_ns: ns,
            window_ns: u64::MAX,
            violated: ns == 0,
            scope: LimitScope::Account,
            enforced: ns != 0,
            wait_ns: Some(0),
        };
        for (over_quota, receipt) in [(false, None), (true, Some("receipt".to_owned()))] {
            let decision = Decision {
                verdict: Verdict::Allow { over_quota },
                plan: "gold".into(),
                entitlement: "all".into(),
                subscriber: "acme".into(),
                limits: [limit(LimitKind::Rate, 0), limit(LimitKind::Quota, 1_234_567_890_123)]
                    .into_iter()
                    .collect(),
                receipt,
                note: None,
            };
            let written = write(99, &decision);
            assert_eq!(read(&written), Some((99, decision)));
            for cut in 0..9 {
                assert_eq!(read(&written[..cut]), None, "{cut}");
            }
        }
        assert_eq!(read(&[2; 40]), None, "written in another way");
    }
}
