//! Reports as the contract says them.

use super::MAX_BATCH;
use crate::decide::invalid::Invalid;
use crate::decide::outcome::{Ending, Outcome};
use crate::engine::plans::{Report, ReportSubject, Settlement};
use crate::grpc::fast::protobuf::text_or_none;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::ReportError;
use crate::service::decisions::Decisions;
use pb::outcome::{Result as WireResult, Subject};

pub(super) async fn settle_all(
    decisions: &Decisions,
    request: &pb::ReportRequest,
) -> Result<pb::ReportResponse, ReportError> {
    if request.outcomes.len() > MAX_BATCH {
        let reason = format!(
            "has {} entries, more than the {MAX_BATCH} of a report",
            request.outcomes.len()
        );
        return Err(ReportError::Unreadable(Invalid::new("outcomes", reason)));
    }
    // All at once: corrections that wait for the ledger then share a commit.
    let results = futures_util::future::try_join_all(
        request.outcomes.iter().map(|outcome| settle(decisions, outcome)),
    )
    .await?;
    Ok(pb::ReportResponse { results })
}

async fn settle(decisions: &Decisions, wire: &pb::Outcome) -> Result<i32, ReportError> {
    let report = subject(wire).zip(ending(wire)).map(|(subject, ending)| Report {
        subject,
        outcome: Outcome { ending, made_by_gateway: wire.made_by_gateway },
        cost: wire.cost,
    });
    let settlement = match report {
        Some(report) => decisions.settle(&report).await?,
        None => decisions.reject_report(),
    };
    Ok(wire_settlement(settlement).into())
}

fn subject(wire: &pb::Outcome) -> Option<ReportSubject<'_>> {
    match wire.subject.as_ref()? {
        Subject::Receipt(receipt) => Some(ReportSubject::Receipt(receipt)),
        Subject::Caller(pb::outcome::Caller { api_key, target }) => Some(ReportSubject::Caller {
            api_key,
            target: text_or_none(target),
            operation_id: &wire.operation_id,
        }),
    }
}

/// `None`: a status out of range.
fn ending(wire: &pb::Outcome) -> Option<Ending> {
    match wire.result {
        None => Some(Ending::CallerGone),
        Some(WireResult::HttpStatus(status)) => u16::try_from(status)
            .ok()
            .filter(|status| (100..=599).contains(status))
            .map(Ending::Http),
        Some(WireResult::GrpcStatus(status)) => {
            u8::try_from(status).ok().filter(|status| *status <= 16).map(Ending::Grpc)
        }
        Some(WireResult::Ending(ending)) => match pb::outcome::Ending::try_from(ending).ok()? {
            pb::outcome::Ending::NoResponse => Some(Ending::NoResponse),
            pb::outcome::Ending::CallerGone => Some(Ending::CallerGone),
            pb::outcome::Ending::Unspecified => None,
        },
    }
}

fn wire_settlement(settlement: Settlement) -> pb::Settlement {
    match settlement {
        Settlement::Counted => pb::Settlement::Counted,
        Settlement::Refunded => pb::Settlement::Refunded,
        Settlement::Corrected => pb::Settlement::Corrected,
        Settlement::Duplicate => pb::Settlement::Duplicate,
        Settlement::Expired => pb::Settlement::Expired,
        Settlement::Invalid => pb::Settlement::Invalid,
    }
}
