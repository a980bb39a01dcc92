//! Many checks in one message.

use tonic::Status;

use super::request::Batch;
use super::{MAX_BATCH, wire_reason};
use crate::decide::verdict::{Decision, Reason, Verdict};
use crate::grpc::deadline::Deadline;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::protobuf::{put_bytes, put_nested, put_number, put_text, put_varint};
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

/// The answers so far, each in its place.
struct Answers {
    items: Vec<Item>,
    /// All of them, one behind the other.
    receipts: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Item {
    verdict: pb::Verdict,
    reason: pb::Reason,
    retry_after_us: u64,
    /// Where its receipt begins, and its length.
    receipt: (usize, usize),
}

/// Room for a receipt of two quotas.
const RECEIPT_BYTES: usize = 110;

impl Answers {
    fn of(count: usize) -> Self {
        let none = Item {
            verdict: pb::Verdict::Unspecified,
            reason: pb::Reason::Unspecified,
            retry_after_us: 0,
            receipt: (0, 0),
        };
        Self { items: vec![none; count], receipts: Vec::new() }
    }

    fn set(&mut self, place: usize, decision: &Decision<'_>) {
        match decision.verdict {
            Verdict::Deny { reason, retry_after_ns } => self.refuse(place, reason, retry_after_ns),
            Verdict::Allow { .. } => {
                self.admit(place, decision.receipt.as_deref().unwrap_or_default())
            }
        }
    }

    fn admit(&mut self, place: usize, receipt: &str) {
        if !receipt.is_empty() && self.receipts.is_empty() {
            self.receipts.reserve(self.items.len() * RECEIPT_BYTES);
        }
        if let Some(item) = self.items.get_mut(place) {
            item.verdict = pb::Verdict::Allow;
            item.receipt = (self.receipts.len(), receipt.len());
            self.receipts.extend_from_slice(receipt.as_bytes());
        }
    }

    fn refuse(&mut self, place: usize, reason: Reason, retry_after_ns: Option<u64>) {
        if let Some(item) = self.items.get_mut(place) {
            item.verdict = pb::Verdict::Deny;
            item.reason = wire_reason(reason);
            item.retry_after_us = retry_after_ns.map_or(0, |ns| ns.div_ceil(1000).max(1));
        }
    }

    /// Arrays that are empty throughout are left out.
    fn pack(&self, id: u64) -> Vec<u8> {
        let refused = self.items.iter().any(|item| item.verdict == pb::Verdict::Deny);
        let mut out = Vec::with_capacity(40 + self.receipts.len() + 16 * self.items.len());
        let packed = |out: &mut Vec<u8>, tag, value: fn(&Item) -> u64| {
            if !self.items.is_empty() {
                put_nested(out, tag, |out| {
                    self.items.iter().for_each(|item| put_varint(out, value(item)))
                });
            }
        };
        put_number(&mut out, 1, id);
        packed(&mut out, 2, |item| i32::from(item.verdict).unsigned_abs().into());
        if refused {
            packed(&mut out, 3, |item| i32::from(item.reason).unsigned_abs().into());
        }
        if !self.receipts.is_empty() {
            for Item { receipt: (start, length), .. } in &self.items {
                put_bytes(
                    &mut out,
                    4,
                    self.receipts.get(*start..start + length).unwrap_or_default(),
                );
            }
        }
        if refused {
            packed(&mut out, 5, |item| item.retry_after_us);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    proptest! {
        #[test]
        fn the_answers_are_what_prost_writes(
            id in any::<u64>(),
            items in proptest::collection::vec((proptest::option::of("[a-z]{1,200}"), proptest::option::of((0..Reason::ALL.len(), any::<u64>()))), 0..9),
        ) {
            let mut answers = Answers::of(items.len());
            let mut message = pb::CheckBatchResponse { id, ..pb::CheckBatchResponse::default() };
            for (place, (receipt, refused)) in items.iter().enumerate() {
                let (verdict, reason, receipt, us) = match refused {
                    Some((reason, ns)) => {
                        answers.refuse(place, Reason::ALL[*reason], Some(*ns));
                        (2, wire_reason(Reason::ALL[*reason]).into(), String::new(), ns.div_ceil(1000).max(1))
                    }
                    None => {
                        answers.admit(place, receipt.as_deref().unwrap_or_default());
                        (1, 0, receipt.clone().unwrap_or_default(), 0)
                    }
                };
                message.verdicts.push(verdict);
                message.reasons.push(reason);
                message.receipts.push(receipt);
                message.retry_after_us.push(us);
            }
            if items.iter().all(|(_, refused)| refused.is_none()) {
                message.reasons.clear();
                message.retry_after_us.clear();
            }
            if message.receipts.iter().all(String::is_empty) {
                message.receipts.clear();
            }
            prop_assert_eq!(answers.pack(id), message.encode_to_vec());
        }
    }
}
