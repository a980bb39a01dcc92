//! Many checks in one message.

use tonic::Status;

use super::MAX_BATCH;
use crate::decide::verdict::{Decision, Reason};
use crate::grpc::deadline::Deadline;
use crate::grpc::fast::batch::Answers;
use crate::grpc::fast::protobuf::{put_number, put_text};
use crate::grpc::fast::request::Batch;
use crate::service::decisions::Decisions;

/// `CheckBatch` to `CheckBatchResponse`.
pub(super) async fn answer(
    decisions: &Decisions,
    message: &[u8],
    deadline: Deadline,
) -> Result<Vec<u8>, Status> {
    let time_left = deadline.time_left(decisions.clock())?;
    let batch = Batch::read(message)?;
    if let Some(error) = unreadable(&batch) {
        let mut out = Vec::new();
        put_number(&mut out, 1, batch.id);
        put_text(&mut out, 6, &error);
        return Ok(out);
    }
    let count = batch.api_keys.len();
    let mut answers = Answers::of(count);
    let answer = |place, decision: Option<&Decision<'_>>| match decision {
        Some(decision) => answers.set(place, decision),
        None => answers.refuse(place, Reason::InvalidRequest, None),
    };
    decisions.check_all(count, time_left, |place| batch.item(place), answer).await;
    Ok(answers.pack(batch.id))
}

fn unreadable(batch: &Batch<'_>) -> Option<String> {
    let count = batch.api_keys.len();
    if count > MAX_BATCH {
        return Some(format!("api_keys: {count} items are more than the {MAX_BATCH} of a batch"));
    }
    let lengths = [
        ("targets", batch.targets.len()),
        ("methods", batch.methods.len()),
        ("paths", batch.paths.len()),
        ("costs", batch.costs.len()),
        ("operation_ids", batch.operation_ids.len()),
    ];
    let (name, length) = lengths.into_iter().find(|(_, length)| ![0, 1, count].contains(length))?;
    Some(format!(
        "{name}: {length} entries fit neither each of the {count} items of `api_keys` nor all of them"
    ))
}
