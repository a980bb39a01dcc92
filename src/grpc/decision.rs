//! `tollgate.v1.DecisionService`.

mod batch;
mod outcome;

use std::pin::Pin;
use std::sync::Arc;

use prost_types::Duration;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::deadline::time_left;
use super::pb::tollgate as pb;
use super::plans::{Plans, headers};
use crate::decide::time::SECOND_NS;
use crate::decide::verdict::{Decision, LimitKind, LimitStatus, Reason, Verdict};
use crate::engine::plans::CheckInput;
use pb::decision_service_server::DecisionService;

/// The most items of a batch, and outcomes of a report.
pub const MAX_BATCH: usize = 10_000;

/// The service.
#[derive(Clone, Debug)]
pub struct Decisions(pub Arc<Plans>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DecisionService for Decisions {
    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        let time_left = time_left(request.metadata());
        let request = request.get_ref();
        let input = CheckInput {
            api_key: &request.api_key,
            target: &request.target,
            method: &request.method,
            path: &request.path,
            cost: request.cost,
            operation_id: &request.operation_id,
        };
        let answered = self.0.check(&input, time_left, |decision| respond(decision, &self.0)).await;
        Ok(Response::new(answered?))
    }

    type CheckStreamStream = Answers<pb::CheckBatchResponse>;

    // A batch is read when the answers before it have gone out: a client that does not read its answers is not read either.
    async fn check_stream(&self, request: Request<Streaming<pb::CheckBatch>>) -> Result<Response<Self::CheckStreamStream>, Status> {
        let plans = self.0.clone();
        let answers = request.into_inner().then(move |batch| {
            let plans = plans.clone();
            async move { Ok(batch::answer(&plans, &batch?).await) }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn report(&self, request: Request<pb::ReportRequest>) -> Result<Response<pb::ReportResponse>, Status> {
        Ok(Response::new(outcome::settle_all(&self.0, request.get_ref()).await?))
    }

    type ReportStreamStream = Answers<pb::ReportResponse>;

    async fn report_stream(&self, request: Request<Streaming<pb::ReportRequest>>) -> Result<Response<Self::ReportStreamStream>, Status> {
        let plans = self.0.clone();
        let answers = request.into_inner().then(move |report| {
            let plans = plans.clone();
            async move { Ok(outcome::settle_all(&plans, &report?).await?) }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn respond(decision: &Decision<'_>, plans: &Plans) -> pb::CheckResponse {
    let (verdict, reason, http_status, retry_after_ns, over_quota) = match decision.verdict {
        Verdict::Allow { over_quota } => (pb::Verdict::Allow, pb::Reason::Unspecified, 200, None, over_quota),
        Verdict::Deny { reason, retry_after_ns } => (pb::Verdict::Deny, wire_reason(reason), reason.http_status(), retry_after_ns, false),
    };
    pb::CheckResponse {
        verdict: verdict.into(),
        reason: reason.into(),
        http_status: http_status.into(),
        receipt: decision.receipt.clone().unwrap_or_default(),
        plan: decision.plan.clone().into_owned(),
        entitlement: decision.entitlement.clone().into_owned(),
        subscriber: decision.subscriber.clone().into_owned(),
        limits: decision.limits.iter().map(limit).collect(),
        retry_after: retry_after_ns.map(duration),
        never: verdict == pb::Verdict::Deny && retry_after_ns.is_none(),
        over_quota,
        headers: headers::headers(decision, &plans.settings().headers)
            .into_iter()
            .map(|(name, value)| pb::Header { name: name.to_owned(), value })
            .collect(),
    }
}

fn limit(status: &LimitStatus<'_>) -> pb::LimitStatus {
    let kind = match status.kind {
        LimitKind::Rate => pb::limit_status::Kind::Rate,
        LimitKind::Quota => pb::limit_status::Kind::Quota,
    };
    pb::LimitStatus {
        name: status.name.clone().into_owned(),
        kind: kind.into(),
        limit: status.limit,
        remaining: status.remaining,
        reset_after: Some(duration(status.reset_after_ns)),
        window: Some(duration(status.window_ns)),
        violated: status.violated,
    }
}

fn duration(ns: u64) -> Duration {
    Duration { seconds: i64::try_from(ns / SECOND_NS).unwrap_or(i64::MAX), nanos: i32::try_from(ns % SECOND_NS).unwrap_or(0) }
}

fn wire_reason(reason: Reason) -> pb::Reason {
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
