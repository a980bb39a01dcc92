//! Messages of the busiest calls, read without copies and written without a message in between. The
//! format is that of prost, by its own functions; what other calls say goes through prost whole.

use std::str::from_utf8;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the request is no protobuf message")]
    Message,
    #[error("field {tag} of the request is of another type than in the contract")]
    Type { tag: u32 },
}

/// A name that nothing has.
const NO_NAME: &str = "\u{fffd}";

/// A name as a text. One that is no text names nothing, as one does that is not known: it is no
/// reason for an RPC error, which gateways take for leave to let a request pass, nor for failing
/// what stands beside it.
pub(in crate::grpc) fn text_or_none(name: &[u8]) -> &str {
    from_utf8(name).unwrap_or(NO_NAME)
}

/// The fields of a message, one after the other.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Fields<'a>(&'a [u8]);

/// One field, its value not read yet: it must be, or be skipped.
#[derive(Debug)]
pub(in crate::grpc) struct Field<'a, 'f> {
    pub(in crate::grpc) tag: u32,
    wire: WireType,
    rest: &'f mut &'a [u8],
}

impl<'a> Fields<'a> {
    pub(in crate::grpc) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(in crate::grpc) fn next(&mut self) -> Result<Option<Field<'a, '_>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, wire) = decode_key(&mut self.0).map_err(|_| Malformed::Message)?;
        Ok(Some(Field { tag, wire, rest: &mut self.0 }))
    }
}

impl<'a> Field<'a, '_> {
    pub(in crate::grpc) fn bytes(self) -> Result<&'a [u8], Malformed> {
        self.expect(WireType::LengthDelimited)?;
        let length = decode_varint(self.rest).map_err(|_| Malformed::Message)?;
        let length = usize::try_from(length).map_err(|_| Malformed::Message)?;
        let (value, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Message)?;
        *self.rest = rest;
        Ok(value)
    }

    pub(in crate::grpc) fn name(self) -> Result<&'a str, Malformed> {
        Ok(text_or_none(self.bytes()?))
    }

    pub(in crate::grpc) fn number(self) -> Result<u64, Malformed> {
        self.expect(WireType::Varint)?;
        decode_varint(self.rest).map_err(|_| Malformed::Message)
    }

    /// Of a repeated field: one, or many packed.
    pub(in crate::grpc) fn numbers(self, numbers: &mut Vec<u64>) -> Result<(), Malformed> {
        if self.wire != WireType::LengthDelimited {
            numbers.push(self.number()?);
            return Ok(());
        }
        let mut packed = self.bytes()?;
        while !packed.is_empty() {
            numbers.push(decode_varint(&mut packed).map_err(|_| Malformed::Message)?);
        }
        Ok(())
    }

    pub(in crate::grpc) fn skip(self) -> Result<(), Malformed> {
        skip_field(self.wire, self.tag, self.rest, DecodeContext::default())
            .map_err(|_| Malformed::Message)
    }

    fn expect(&self, wire: WireType) -> Result<(), Malformed> {
        if self.wire == wire { Ok(()) } else { Err(Malformed::Type { tag: self.tag }) }
    }
}

/// Appends a number that is not 0.
pub(in crate::grpc) fn put_number(out: &mut Vec<u8>, tag: u32, number: u64) {
    if number != 0 {
        put_key(out, tag, WireType::Varint);
        put_varint(out, number);
    }
}

/// Appends a value of an enumeration, unless it is the first.
pub(in crate::grpc) fn put_value(out: &mut Vec<u8>, tag: u32, value: impl Into<i32>) {
    put_number(out, tag, u64::try_from(value.into()).unwrap_or_default());
}

/// Appends a text that is not empty.
pub(in crate::grpc) fn put_text(out: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, tag, text.as_bytes());
    }
}

/// Appends bytes, also where there are none.
pub(in crate::grpc) fn put_bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_key(out, tag, WireType::LengthDelimited);
    put_varint(out, bytes.len().try_into().unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends as one field, also where that is nothing.
pub(in crate::grpc) fn put_nested(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_key(out, tag, WireType::LengthDelimited);
    // Nearly always the length has one byte.
    let place = out.len();
    out.push(0);
    write(out);
    let length = out.len() - place - 1;
    match (u8::try_from(length), out.get_mut(place)) {
        (Ok(short @ ..0x80), Some(byte)) => *byte = short,
        _ => {
            let mut bytes = Vec::with_capacity(10);
            put_varint(&mut bytes, length.try_into().unwrap_or(u64::MAX));
            drop(out.splice(place..=place, bytes));
        }
    }
}

pub(in crate::grpc) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn put_key(out: &mut Vec<u8>, tag: u32, wire: WireType) {
    let wire = match wire {
        WireType::Varint => 0,
        WireType::SixtyFourBit => 1,
        WireType::LengthDelimited => 2,
        WireType::StartGroup => 3,
        WireType::EndGroup => 4,
        WireType::ThirtyTwoBit => 5,
    };
    put_varint(out, u64::from(tag) << 3 | wire);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_nested_field_has_its_length_in_front_however_long_it_is() {
        for length in [0, 1, 126, 127, 128, 129, 16_383, 16_384, 70_000] {
            let (mut out, text) = (vec![9], "x".repeat(length));
            put_nested(&mut out, 1, |out| out.extend_from_slice(text.as_bytes()));
            let mut expected = vec![9];
            put_bytes(&mut expected, 1, text.as_bytes());
            assert_eq!(out, expected, "{length}");
            assert_eq!(String::decode(&out[1..]).unwrap(), text);
        }
    }

    #[test]
    fn numbers_are_written_and_read_as_prost_does() {
        for number in [0, 1, 127, 128, 300, 1 << 35, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, 1, number);
            assert_eq!(out, number.encode_to_vec());
            if number != 0 {
                assert_eq!(Fields::of(&out).next().unwrap().unwrap().number(), Ok(number));
            }
        }
    }
}
