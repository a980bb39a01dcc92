//! The answer to a check as a message of prost's: what the answer that is written by hand is
//! compared with, in its test and in its bench.

use crate::config::HeaderSets;
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitKind, LimitStatus, Verdict};
use crate::grpc::fast::answer::{wire_reason, wire_scope};
use crate::grpc::headers;
use crate::grpc::pb::tollgate as pb;

/// The message as the contract says it.
pub fn message(decision: &Decision<'_>, sets: &HeaderSets) -> pb::CheckResponse {
    let (verdict, reason, http_status, retry_after_ns, over_quota) = match decision.verdict {
        Verdict::Allow { over_quota } => {
            (pb::Verdict::Allow, pb::Reason::Unspecified, 200, None, over_quota)
        }
        Verdict::Deny { reason, retry_after_ns } => {
            (pb::Verdict::Deny, wire_reason(reason), reason.http_status(), retry_after_ns, false)
        }
    };
    let duration = |ns: u64| prost_types::Duration {
        seconds: i64::try_from(ns / SECOND_NS).unwrap(),
        nanos: i32::try_from(ns % SECOND_NS).unwrap(),
    };
    let limit = |status: &LimitStatus<'_>| pb::LimitStatus {
        name: status.name.clone().into_owned(),
        kind: if status.kind == LimitKind::Rate { 1 } else { 2 },
        limit: status.limit,
        remaining: status.remaining,
        reset_after: Some(duration(status.reset_after_ns)),
        window: Some(duration(status.window_ns)),
        violated: status.violated,
        scope: wire_scope(status.scope).into(),
    };
    pb::CheckResponse {
        verdict: verdict.into(),
        reason: reason.into(),
        http_status: http_status.into(),
        receipt: decision.receipt.clone().unwrap_or_default(),
        plan: decision.plan.to_string(),
        entitlement: decision.entitlement.to_string(),
        subscriber: decision.subscriber.to_string(),
        limits: decision.limits.iter().map(limit).collect(),
        retry_after: retry_after_ns.map(duration),
        never: verdict == pb::Verdict::Deny && retry_after_ns.is_none(),
        over_quota,
        headers: headers::headers(decision, sets)
            .into_iter()
            .map(|(name, value)| pb::Header { name: name.to_owned(), value })
            .collect(),
    }
}
