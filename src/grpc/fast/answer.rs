//! The answer to one check, written without a message in between.

use super::protobuf::{put_nested, put_number, put_text, put_value};
use super::unary::Framed;
use crate::config::HeaderSets;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitKind, LimitScope, LimitStatus, Reason, Verdict};
use crate::grpc::headers;
use crate::grpc::pb::tollgate as pb;

/// Enough for nearly every answer.
const BYTES: usize = 760;

/// Writes a `CheckResponse` into its frame.
#[must_use]
pub fn framed(decision: &Decision<'_>, sets: &HeaderSets) -> Framed {
    Framed::new(BYTES, |out| write(out, decision, sets))
}

fn write(out: &mut Vec<u8>, decision: &Decision<'_>, sets: &HeaderSets) {
    let (verdict, reason, http_status, retry_after_ns, over_quota) = match decision.verdict {
        Verdict::Allow { over_quota } => {
            (pb::Verdict::Allow, pb::Reason::Unspecified, 200, None, over_quota)
        }
        Verdict::Deny { reason, retry_after_ns } => {
            (pb::Verdict::Deny, wire_reason(reason), reason.http_status(), retry_after_ns, false)
        }
    };
    put_value(out, 1, verdict);
    put_value(out, 2, reason);
    put_number(out, 3, http_status.into());
    put_text(out, 4, decision.receipt.as_deref().unwrap_or_default());
    put_text(out, 5, &decision.plan);
    put_text(out, 6, &decision.entitlement);
    put_text(out, 7, &decision.subscriber);
    for status in &decision.limits {
        put_nested(out, 8, |out| limit(out, status));
    }
    if let Some(ns) = retry_after_ns {
        put_duration(out, 9, ns);
    }
    put_number(out, 10, u64::from(verdict == pb::Verdict::Deny && retry_after_ns.is_none()));
    put_number(out, 11, over_quota.into());
    headers::each(decision, sets, |name, value| {
        put_nested(out, 12, |out| {
            put_text(out, 1, name);
            put_text(out, 2, value);
        });
    });
}

fn limit(out: &mut Vec<u8>, status: &LimitStatus<'_>) {
    let kind = match status.kind {
        LimitKind::Rate => pb::limit_status::Kind::Rate,
        LimitKind::Quota => pb::limit_status::Kind::Quota,
    };
    put_text(out, 1, &status.name);
    put_value(out, 2, kind);
    put_number(out, 3, status.limit);
    put_number(out, 4, status.remaining);
    put_duration(out, 5, status.reset_after_ns);
    put_duration(out, 6, status.window_ns);
    put_number(out, 7, status.violated.into());
    put_value(out, 8, wire_scope(status.scope));
}

pub(crate) fn wire_scope(scope: LimitScope) -> pb::limit_status::Scope {
    match scope {
        LimitScope::Entitlement => pb::limit_status::Scope::Entitlement,
        LimitScope::Method => pb::limit_status::Scope::Method,
        LimitScope::Target => pb::limit_status::Scope::Target,
        LimitScope::Account => pb::limit_status::Scope::Account,
    }
}

fn put_duration(out: &mut Vec<u8>, tag: u32, ns: u64) {
    put_nested(out, tag, |out| {
        put_number(out, 1, ns / SECOND_NS);
        put_number(out, 2, ns % SECOND_NS);
    });
}

pub(crate) fn wire_reason(reason: Reason) -> pb::Reason {
    match reason {
        Reason::ApiKeyMissing => pb::Reason::ApiKeyMissing,
        Reason::ApiKeyUnknown => pb::Reason::ApiKeyUnknown,
        Reason::ApiKeyDisabled => pb::Reason::ApiKeyDisabled,
        Reason::ApiKeyNotYetValid => pb::Reason::ApiKeyNotYetValid,
        Reason::ApiKeyExpired => pb::Reason::ApiKeyExpired,
        Reason::NotSubscribed => pb::Reason::NotSubscribed,
        Reason::RateExceeded => pb::Reason::RateExceeded,
        Reason::MethodRateExceeded => pb::Reason::MethodRateExceeded,
        Reason::TargetRateExceeded => pb::Reason::TargetRateExceeded,
        Reason::AccountRateExceeded => pb::Reason::AccountRateExceeded,
        Reason::QuotaExceeded => pb::Reason::QuotaExceeded,
        Reason::LedgerUnavailable => pb::Reason::LedgerUnavailable,
        Reason::InvalidRequest => pb::Reason::InvalidRequest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::testkit::answer::message;

    fn limits() -> impl Strategy<Value = LimitStatus<'static>> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        ("[a-z:]{0,150}", any::<bool>(), numbers, any::<bool>()).prop_map(
            |(name, is_rate, (limit, remaining, reset_after_ns, window_ns), violated)| {
                LimitStatus {
                    name: name.into(),
                    kind: if is_rate { LimitKind::Rate } else { LimitKind::Quota },
                    limit,
                    remaining,
                    reset_after_ns,
                    window_ns,
                    violated,
                    scope: [
                        LimitScope::Entitlement,
                        LimitScope::Method,
                        LimitScope::Target,
                        LimitScope::Account,
                    ][(limit % 4) as usize],
                    enforced: limit % 2 == 0,
                    wait_ns: Some(window_ns),
                }
            },
        )
    }

    fn verdicts() -> impl Strategy<Value = Verdict> {
        let denied = (0..Reason::ALL.len(), proptest::option::of(any::<u64>()));
        prop_oneof![
            any::<bool>().prop_map(|over_quota| Verdict::Allow { over_quota }),
            denied.prop_map(|(place, retry_after_ns)| Verdict::Deny {
                reason: Reason::ALL[place],
                retry_after_ns
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_answer_is_what_prost_writes(
            verdict in verdicts(),
            limits in proptest::collection::vec(limits(), 0..4),
            names in ("[a-zé]{0,9}", "[a-z]{0,9}", "[a-z]{0,200}"),
            receipt in proptest::option::of("[a-z]{1,400}"),
        ) {
            let (plan, entitlement, subscriber) = names;
            let limits = limits.into_iter().collect();
            let (plan, entitlement, subscriber) = (plan.into(), entitlement.into(), subscriber.into());
            let decision = Decision { verdict, plan, entitlement, subscriber, limits, receipt, note: None };
            let sets = HeaderSets { retry_after: true, ratelimit: true, x_ratelimit: true };
            let mut out = Vec::new();
            write(&mut out, &decision, &sets);
            prop_assert_eq!(out, message(&decision, &sets).encode_to_vec());
        }
    }
}
