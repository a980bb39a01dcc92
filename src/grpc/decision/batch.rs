//! Many checks in one message.

use super::{MAX_BATCH, wire_reason};
use crate::decide::verdict::{Decision, Reason, Verdict};
use crate::engine::plans::CheckInput;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::plans::Plans;

pub(super) async fn answer(plans: &Plans, batch: &pb::CheckBatch) -> pb::CheckBatchResponse {
    if let Some(error) = unreadable(batch) {
        return pb::CheckBatchResponse { id: batch.id, error, ..pb::CheckBatchResponse::default() };
    }
    let mut answers = Answers::of(batch);
    let inputs = batch.api_keys.iter().enumerate().map(|(index, api_key)| CheckInput {
        api_key,
        target: item(&batch.targets, index).map_or("", String::as_str),
        method: item(&batch.methods, index).map_or(&[], |method| method),
        path: item(&batch.paths, index).map_or(&[], |path| path),
        cost: item(&batch.costs, index).copied(),
        operation_id: item(&batch.operation_ids, index).map_or(&[], |id| id),
    });
    plans
        .check_all(inputs, |decision| match decision {
            Some(decision) => answers.push(decision),
            None => answers.refuse(Reason::InvalidRequest, None),
        })
        .await;
    answers.pack()
}

/// The item's own entry, or the one that serves all.
fn item<T>(array: &[T], index: usize) -> Option<&T> {
    match array {
        [one] => Some(one),
        many => many.get(index),
    }
}

fn unreadable(batch: &pb::CheckBatch) -> Option<String> {
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
    Some(format!("{name}: {length} entries fit neither each of the {count} items of `api_keys` nor all of them"))
}

/// The packed arrays. Those that stay empty throughout are left out.
struct Answers {
    id: u64,
    verdicts: Vec<i32>,
    reasons: Vec<i32>,
    receipts: Vec<String>,
    retry_after_us: Vec<u64>,
}

impl Answers {
    fn of(batch: &pb::CheckBatch) -> Self {
        let count = batch.api_keys.len();
        Self {
            id: batch.id,
            verdicts: Vec::with_capacity(count),
            reasons: Vec::with_capacity(count),
            receipts: Vec::with_capacity(count),
            retry_after_us: Vec::with_capacity(count),
        }
    }

    fn push(&mut self, decision: &Decision<'_>) {
        match decision.verdict {
            Verdict::Deny { reason, retry_after_ns } => self.refuse(reason, retry_after_ns),
            Verdict::Allow { .. } => {
                self.verdicts.push(pb::Verdict::Allow.into());
                self.reasons.push(pb::Reason::Unspecified.into());
                self.receipts.push(decision.receipt.clone().unwrap_or_default());
                self.retry_after_us.push(0);
            }
        }
    }

    fn refuse(&mut self, reason: Reason, retry_after_ns: Option<u64>) {
        self.verdicts.push(pb::Verdict::Deny.into());
        self.reasons.push(wire_reason(reason).into());
        self.receipts.push(String::new());
        self.retry_after_us.push(retry_after_ns.map_or(0, |ns| ns.div_ceil(1000).max(1)));
    }

    fn pack(mut self) -> pb::CheckBatchResponse {
        if self.reasons.iter().all(|&reason| reason == 0) {
            self.reasons.clear();
            self.retry_after_us.clear();
        }
        if self.receipts.iter().all(String::is_empty) {
            self.receipts.clear();
        }
        pb::CheckBatchResponse {
            id: self.id,
            verdicts: self.verdicts,
            reasons: self.reasons,
            receipts: self.receipts,
            retry_after_us: self.retry_after_us,
            error: String::new(),
        }
    }
}
