//! What the server answered: read field by field out of the bytes, for a message made of them would
//! cost more than it took to ask.

use crate::grpc::pb::tollgate::{Reason, Settlement};
use crate::grpc::wire::Code;

/// Verdicts are counted by number: that of the answer's code or settlement, or 0 for an admission
/// and else the reason's.
pub(super) const VERDICTS: usize = 16;

/// A kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `RateLimitResponse`.
    RateLimit,
    /// `CheckResponse`.
    Check,
    /// `CheckBatchResponse`.
    Batch,
    /// `ReportResponse`.
    Report,
}

/// The verdicts of one message, and the receipt that came with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read<'a> {
    pub(super) receipt: Option<&'a [u8]>,
    /// The server could not read what it was sent.
    pub(super) refused: Option<&'a [u8]>,
}

impl Answer {
    /// Counts the verdicts of a message.
    pub(super) fn read<'a>(self, message: &'a [u8], counts: &mut [u64; VERDICTS]) -> Read<'a> {
        match self {
            Self::RateLimit => {
                let code = fields(message)
                    .find_map(|(field, value)| if field == 1 { value.number() } else { None });
                count(counts, code.unwrap_or(0), 1);
                Read::default()
            }
            Self::Check => check(message, counts),
            Self::Batch => batch(message, counts),
            Self::Report => {
                for (_, value) in fields(message).filter(|(field, _)| *field == 1) {
                    value.numbers().for_each(|settlement| count(counts, settlement, 1));
                }
                Read::default()
            }
        }
    }

    /// How a verdict is called.
    pub(crate) fn name(self, verdict: usize) -> String {
        let number = i32::try_from(verdict).unwrap_or(i32::MAX);
        let known = match self {
            Self::RateLimit => Code::try_from(number).ok().map(|code| match code {
                Code::Unknown => "UNKNOWN",
                Code::Ok => "OK",
                Code::OverLimit => "OVER_LIMIT",
            }),
            Self::Check | Self::Batch if verdict == 0 => Some("ALLOW"),
            Self::Check | Self::Batch => {
                Reason::try_from(number).ok().map(|reason| reason.as_str_name())
            }
            Self::Report => {
                Settlement::try_from(number).ok().map(|settlement| settlement.as_str_name())
            }
        };
        known.map_or_else(|| format!("verdict {verdict}"), str::to_owned)
    }
}

fn check<'a>(message: &'a [u8], counts: &mut [u64; VERDICTS]) -> Read<'a> {
    let mut reason = 0;
    let mut read = Read::default();
    // Fields come in the order of their numbers: what follows these is not looked at.
    for (field, value) in fields(message).take_while(|(field, _)| *field <= 4) {
        match (field, value) {
            (2, Value::Number(number)) => reason = number,
            (4, Value::Bytes(receipt)) => read.receipt = Some(receipt),
            _ => {}
        }
    }
    count(counts, reason, 1);
    read
}

fn batch<'a>(message: &'a [u8], counts: &mut [u64; VERDICTS]) -> Read<'a> {
    let mut read = Read::default();
    let (mut verdicts, mut given) = (0, 0);
    for (field, value) in fields(message) {
        match (field, value) {
            // Every verdict is one byte.
            (2, Value::Bytes(bytes)) => verdicts = bytes.len() as u64,
            (3, value) => value.numbers().for_each(|reason| {
                count(counts, reason, 1);
                given += 1;
            }),
            (6, Value::Bytes(error)) => read.refused = Some(error),
            _ => {}
        }
    }
    // Without reasons all were admitted.
    count(counts, 0, verdicts.saturating_sub(given));
    read
}

fn count(counts: &mut [u64; VERDICTS], verdict: u64, times: u64) {
    let verdict = usize::try_from(verdict).unwrap_or(VERDICTS).min(VERDICTS - 1);
    if let Some(counter) = counts.get_mut(verdict) {
        *counter += times;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    /// The numbers of a repeated field, packed or not.
    fn numbers(self) -> impl Iterator<Item = u64> + use<'a> {
        let (one, mut rest) = match self {
            Self::Number(number) => (Some(number), &[][..]),
            Self::Bytes(bytes) => (None, bytes),
        };
        one.into_iter().chain(std::iter::from_fn(move || varint(&mut rest)))
    }
}

/// The fields of a message, as far as it can be read.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => Value::Bytes(take(&mut message, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => Value::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::grpc::pb::tollgate as pb;
    use crate::grpc::wire::{DescriptorStatus, RateLimitResponse};

    fn read(
        answer: Answer,
        message: &impl Message,
    ) -> (Vec<(String, u64)>, Option<String>, Option<String>) {
        let bytes = message.encode_to_vec();
        let mut counts = [0; VERDICTS];
        let read = answer.read(&bytes, &mut counts);
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let named = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(verdict, count)| (answer.name(verdict), *count));
        (named.collect(), text(read.receipt), text(read.refused))
    }

    fn counted(name: &str, count: u64) -> Vec<(String, u64)> {
        vec![(name.to_owned(), count)]
    }

    #[test]
    fn codes_of_rate_limits() {
        for (code, name) in
            [(Code::Ok, "OK"), (Code::OverLimit, "OVER_LIMIT"), (Code::Unknown, "UNKNOWN")]
        {
            let statuses =
                vec![DescriptorStatus { limit_remaining: 300, ..DescriptorStatus::default() }; 3];
            let message = RateLimitResponse {
                overall_code: code.into(),
                statuses,
                ..RateLimitResponse::default()
            };
            assert_eq!(read(Answer::RateLimit, &message), (counted(name, 1), None, None));
        }
    }

    #[test]
    fn verdicts_and_receipts_of_checks() {
        let allowed = pb::CheckResponse {
            verdict: pb::Verdict::Allow.into(),
            http_status: 200,
            receipt: "r".repeat(200),
            plan: "gold".to_owned(),
            ..pb::CheckResponse::default()
        };
        assert_eq!(
            read(Answer::Check, &allowed),
            (counted("ALLOW", 1), Some("r".repeat(200)), None)
        );
        let denied = pb::CheckResponse {
            verdict: pb::Verdict::Deny.into(),
            reason: pb::Reason::QuotaExceeded.into(),
            http_status: 429,
            ..pb::CheckResponse::default()
        };
        assert_eq!(read(Answer::Check, &denied), (counted("QUOTA_EXCEEDED", 1), None, None));
    }

    #[test]
    fn verdicts_of_batches() {
        let verdicts = vec![1, 2, 1, 2, 2];
        let mixed = pb::CheckBatchResponse {
            id: 1 << 40,
            verdicts: verdicts.clone(),
            reasons: vec![0, 7, 0, 7, 11],
            ..pb::CheckBatchResponse::default()
        };
        let expected = vec![
            ("ALLOW".to_owned(), 2),
            ("RATE_EXCEEDED".to_owned(), 2),
            ("QUOTA_EXCEEDED".to_owned(), 1),
        ];
        assert_eq!(read(Answer::Batch, &mixed).0, expected);
        let admitted = pb::CheckBatchResponse {
            verdicts: vec![1; 64],
            receipts: vec!["r".to_owned(); 64],
            ..pb::CheckBatchResponse::default()
        };
        assert_eq!(read(Answer::Batch, &admitted).0, counted("ALLOW", 64));
        let refused =
            pb::CheckBatchResponse { error: "no".to_owned(), ..pb::CheckBatchResponse::default() };
        assert_eq!(read(Answer::Batch, &refused), (vec![], None, Some("no".to_owned())));
    }

    #[test]
    fn settlements_of_reports() {
        let message = pb::ReportResponse {
            results: vec![pb::Settlement::Refunded.into(), pb::Settlement::Counted.into()],
        };
        assert_eq!(
            read(Answer::Report, &message).0,
            [("COUNTED".to_owned(), 1), ("REFUNDED".to_owned(), 1)]
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_read_as_far_as_they_go() {
        for bytes in [&[0xff; 12][..], &[0x0a, 0x05, 1], &[0x0b], &[0x08]] {
            for answer in [Answer::RateLimit, Answer::Check, Answer::Batch, Answer::Report] {
                let mut counts = [0; VERDICTS];
                answer.read(bytes, &mut counts);
                assert!(counts.iter().sum::<u64>() <= 1);
            }
        }
    }
}
