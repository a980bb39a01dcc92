//! Many checks in one message.

use tonic::Status;

use super::request::Batch;
use super::{MAX_BATCH, wire_reason};
use crate::decide::verdict::{Decision, Reason, Verdict};
use crate::grpc::pb::tollgate as pb;
use crate::grpc::plans::Plans;
use crate::grpc::protobuf::{put_bytes, put_number, put_text, put_varint};

/// `CheckBatch` to `CheckBatchResponse`.
pub(super) async fn answer(plans: &Plans, message: &[u8]) -> Result<Vec<u8>, Status> {
    let batch = Batch::read(message)?;
    if let Some(error) = unreadable(&batch) {
        let mut out = Vec::new();
        put_number(&mut out, 1, batch.id);
        put_text(&mut out, 6, &error);
        return Ok(out);
    }
    let count = batch.api_keys.len();
    let mut answers = Answers::of(count);
    plans
        .check_all((0..count).map(|place| batch.item(place)), |decision| match decision {
            Some(decision) => answers.push(decision),
            None => answers.refuse(Reason::InvalidRequest, None),
        })
        .await;
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
    Some(format!("{name}: {length} entries fit neither each of the {count} items of `api_keys` nor all of them"))
}

/// The packed arrays, as they are written. Those that stay empty throughout are left out.
struct Answers {
    verdicts: Vec<u8>,
    reasons: Vec<u8>,
    /// With their keys and lengths.
    receipts: Vec<u8>,
    retry_after_us: Vec<u8>,
    refused: bool,
    has_receipts: bool,
}

/// Room for a receipt of two quotas.
const RECEIPT_BYTES: usize = 110;

impl Answers {
    fn of(count: usize) -> Self {
        Self {
            verdicts: Vec::with_capacity(count),
            reasons: Vec::with_capacity(count),
            receipts: Vec::new(),
            retry_after_us: Vec::with_capacity(count),
            refused: false,
            has_receipts: false,
        }
    }

    fn push(&mut self, decision: &Decision<'_>) {
        match decision.verdict {
            Verdict::Deny { reason, retry_after_ns } => self.refuse(reason, retry_after_ns),
            Verdict::Allow { .. } => self.add(pb::Verdict::Allow, pb::Reason::Unspecified, decision.receipt.as_deref(), 0),
        }
    }

    fn refuse(&mut self, reason: Reason, retry_after_ns: Option<u64>) {
        self.refused = true;
        self.add(pb::Verdict::Deny, wire_reason(reason), None, retry_after_ns.map_or(0, |ns| ns.div_ceil(1000).max(1)));
    }

    fn add(&mut self, verdict: pb::Verdict, reason: pb::Reason, receipt: Option<&str>, retry_after_us: u64) {
        put_varint(&mut self.verdicts, i32::from(verdict).unsigned_abs().into());
        put_varint(&mut self.reasons, i32::from(reason).unsigned_abs().into());
        put_varint(&mut self.retry_after_us, retry_after_us);
        if receipt.is_some() && !self.has_receipts {
            self.has_receipts = true;
            self.receipts.reserve(self.verdicts.capacity() * RECEIPT_BYTES);
        }
        put_bytes(&mut self.receipts, 4, receipt.unwrap_or_default().as_bytes());
    }

    fn pack(&self, id: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.verdicts.len() + self.reasons.len() + self.receipts.len() + self.retry_after_us.len());
        put_number(&mut out, 1, id);
        put_packed(&mut out, 2, &self.verdicts);
        if self.refused {
            put_packed(&mut out, 3, &self.reasons);
        }
        if self.has_receipts {
            out.extend_from_slice(&self.receipts);
        }
        if self.refused {
            put_packed(&mut out, 5, &self.retry_after_us);
        }
        out
    }
}

fn put_packed(out: &mut Vec<u8>, tag: u32, values: &[u8]) {
    if !values.is_empty() {
        put_bytes(out, tag, values);
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
            for (receipt, refused) in &items {
                let (verdict, reason, receipt, us) = match refused {
                    Some((place, ns)) => {
                        answers.refuse(Reason::ALL[*place], Some(*ns));
                        (2, wire_reason(Reason::ALL[*place]).into(), String::new(), ns.div_ceil(1000).max(1))
                    }
                    None => {
                        answers.add(pb::Verdict::Allow, pb::Reason::Unspecified, receipt.as_deref(), 0);
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
