//! Requests, read where they lie.

use super::protobuf::{Fields, Malformed};
use crate::engine::plans::CheckInput;

/// Reads a `CheckRequest`.
///
/// # Errors
/// It is no protobuf message, or a field is of another type than in the contract.
pub fn check(message: &[u8]) -> Result<CheckInput<'_>, Malformed> {
    let mut input = CheckInput {
        api_key: &[],
        target: "",
        method: &[],
        path: &[],
        cost: None,
        operation_id: &[],
    };
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match field.tag {
            1 => input.api_key = field.bytes()?,
            2 => input.target = field.name()?,
            3 => input.method = field.bytes()?,
            4 => input.path = field.bytes()?,
            5 => input.cost = Some(field.number()?),
            6 => input.operation_id = field.bytes()?,
            _ => field.skip()?,
        }
    }
    Ok(input)
}

/// `CheckBatch`.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub id: u64,
    pub api_keys: Vec<&'a [u8]>,
    pub targets: Vec<&'a str>,
    pub methods: Vec<&'a [u8]>,
    pub paths: Vec<&'a [u8]>,
    pub costs: Vec<u64>,
    pub operation_ids: Vec<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// Reads a `CheckBatch`.
    ///
    /// # Errors
    /// It is no protobuf message, or a field is of another type than in the contract.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut batch = Self::default();
        let mut fields = Fields::of(message);
        while let Some(field) = fields.next()? {
            match field.tag {
                1 => batch.id = field.number()?,
                2 => batch.api_keys.push(field.bytes()?),
                3 => batch.targets.push(field.name()?),
                4 => batch.methods.push(field.bytes()?),
                5 => batch.paths.push(field.bytes()?),
                6 => field.numbers(&mut batch.costs)?,
                7 => batch.operation_ids.push(field.bytes()?),
                _ => field.skip()?,
            }
        }
        Ok(batch)
    }

    /// One item, where the arrays fit together.
    #[must_use]
    pub fn item(&self, place: usize) -> CheckInput<'a> {
        CheckInput {
            api_key: of_item(&self.api_keys, place).unwrap_or_default(),
            target: of_item(&self.targets, place).unwrap_or_default(),
            method: of_item(&self.methods, place).unwrap_or_default(),
            path: of_item(&self.paths, place).unwrap_or_default(),
            cost: of_item(&self.costs, place),
            operation_id: of_item(&self.operation_ids, place).unwrap_or_default(),
        }
    }
}

/// The item's own entry, or the one that serves all.
fn of_item<T: Copy>(array: &[T], place: usize) -> Option<T> {
    match array {
        [one] => Some(*one),
        many => many.get(place).copied(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::grpc::pb::tollgate as pb;

    /// What is a text in the contract, and bytes here.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Targets {
        #[prost(bytes = "vec", repeated, tag = "2")]
        of_checks: Vec<Vec<u8>>,
        #[prost(bytes = "vec", repeated, tag = "3")]
        of_batches: Vec<Vec<u8>>,
    }

    fn by_prost(message: &[u8]) -> Option<pb::CheckRequest> {
        pb::CheckRequest::decode(message).ok()
    }

    /// A request is refused for what prost refuses, but for names that are no texts.
    fn is_as_prost_says<M: PartialEq + std::fmt::Debug>(
        ours: Option<M>,
        by_prost: Option<M>,
        names: impl Fn(Targets) -> Vec<Vec<u8>>,
        message: &[u8],
    ) {
        let is_text = |name: &Vec<u8>| std::str::from_utf8(name).is_ok();
        if by_prost.is_some()
            || ours.is_none()
            || !Targets::decode(message).is_ok_and(|targets| !names(targets).iter().all(is_text))
        {
            assert_eq!(ours, by_prost);
        }
    }

    fn ours(message: &[u8]) -> Option<pb::CheckRequest> {
        let input = check(message).ok()?;
        Some(pb::CheckRequest {
            api_key: input.api_key.to_vec().into(),
            target: input.target.to_owned(),
            method: input.method.to_vec().into(),
            path: input.path.to_vec().into(),
            cost: input.cost,
            operation_id: input.operation_id.to_vec().into(),
        })
    }

    fn batch_by_prost(message: &[u8]) -> Option<pb::CheckBatch> {
        pb::CheckBatch::decode(message).ok()
    }

    fn our_batch(message: &[u8]) -> Option<pb::CheckBatch> {
        let batch = Batch::read(message).ok()?;
        let owned = |array: &[&[u8]]| array.iter().map(|bytes| bytes.to_vec().into()).collect();
        Some(pb::CheckBatch {
            id: batch.id,
            api_keys: owned(&batch.api_keys),
            targets: batch.targets.iter().map(|text| (*text).to_owned()).collect(),
            methods: owned(&batch.methods),
            paths: owned(&batch.paths),
            costs: batch.costs,
            operation_ids: owned(&batch.operation_ids),
        })
    }

    /// Fields of any kind, most of them of the contract, in any order, some more than once, some
    /// broken off.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..6),
            "[a-zé]{0,4}".prop_map(String::into_bytes)
        ];
        let field =
            (1_u32..9, 0_u32..6, bytes, any::<u64>().prop_map(|number| number >> (number % 60)));
        let field = field.prop_map(|(tag, wire, bytes, number)| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(u64::from(tag << 3 | wire), &mut out);
            match wire {
                0 => prost::encoding::encode_varint(number, &mut out),
                1 => out.extend(number.to_le_bytes()),
                2 => {
                    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
                    out.extend(bytes);
                }
                5 => out.extend(&number.to_le_bytes()[..4]),
                _ => {}
            }
            out
        });
        (proptest::collection::vec(field, 0..6), 0_usize..4).prop_map(|(fields, cut)| {
            let mut all = fields.concat();
            all.truncate(if cut == 0 { all.len().saturating_sub(1) } else { all.len() });
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn requests_are_read_as_prost_reads_them(message in fields()) {
            is_as_prost_says(ours(&message), by_prost(&message), |targets| targets.of_checks, &message);
            is_as_prost_says(our_batch(&message), batch_by_prost(&message), |targets| targets.of_batches, &message);
        }

        #[test]
        fn any_bytes_are_read_as_prost_reads_them(message in proptest::collection::vec(any::<u8>(), 0..24)) {
            is_as_prost_says(ours(&message), by_prost(&message), |targets| targets.of_checks, &message);
            is_as_prost_says(our_batch(&message), batch_by_prost(&message), |targets| targets.of_batches, &message);
        }
    }

    #[test]
    fn a_target_that_is_no_text_names_nothing() {
        let request = [10, 1, b'k', 18, 1, 0xff];
        assert_eq!(
            check(&request).map(|input| (input.api_key, input.target)),
            Ok((b"k".as_slice(), "\u{fffd}"))
        );
        let batch = Batch::read(&[18, 1, b'k', 26, 2, b'o', b'k', 26, 1, 0xff]).unwrap();
        assert_eq!(batch.targets, ["ok", "\u{fffd}"]);
    }
}
