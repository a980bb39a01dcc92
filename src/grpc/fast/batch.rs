//! The answers to a batch of checks, written without a message in between.

use super::answer::wire_reason;
use super::protobuf::{put_bytes, put_nested, put_number, put_varint};
use crate::decide::verdict::{Decision, Reason, Verdict};
use crate::grpc::pb::tollgate as pb;

/// The answers so far, each in its place.
#[derive(Debug)]
pub struct Answers {
    items: Vec<Item>,
    /// All of them, one behind the other.
    receipts: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
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
    /// Room for so many.
    #[must_use]
    pub fn of(count: usize) -> Self {
        let none = Item {
            verdict: pb::Verdict::Unspecified,
            reason: pb::Reason::Unspecified,
            retry_after_us: 0,
            receipt: (0, 0),
        };
        Self { items: vec![none; count], receipts: Vec::new() }
    }

    /// The answer to one of them.
    pub fn set(&mut self, place: usize, decision: &Decision<'_>) {
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

    /// One of them is refused.
    pub fn refuse(&mut self, place: usize, reason: Reason, retry_after_ns: Option<u64>) {
        if let Some(item) = self.items.get_mut(place) {
            item.verdict = pb::Verdict::Deny;
            item.reason = wire_reason(reason);
            item.retry_after_us = retry_after_ns.map_or(0, |ns| ns.div_ceil(1000).max(1));
        }
    }

    /// Writes a `CheckBatchResponse`. Arrays that are empty throughout are left out.
    #[must_use]
    pub fn pack(&self, id: u64) -> Vec<u8> {
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
