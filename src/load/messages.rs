//! The messages that are sent: encoded once, with the key of each call written into its place.

/// Stands for the number of a key while a message is made: no text has these bytes.
pub(super) const NUMBER: &str = "\u{1}\u{2}\u{1}\u{2}\u{1}\u{2}\u{1}\u{2}\u{1}\u{2}";

/// A message in which only the key differs from call to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Keys are numbered: decimal digits, at each of these places.
    Numbered { bytes: Vec<u8>, places: Vec<usize> },
    /// Each key has a message of its own, the end of which stands in `ends`.
    Listed { bytes: Vec<u8>, ends: Vec<usize> },
}

impl Message {
    /// Out of a message in which [`NUMBER`] stands where the number belongs.
    pub(super) fn numbered(bytes: Vec<u8>) -> Self {
        let places = bytes
            .windows(NUMBER.len())
            .enumerate()
            .filter(|(_, window)| *window == NUMBER.as_bytes())
            .map(|(at, _)| at)
            .collect();
        Self::Numbered { bytes, places }
    }

    /// One message for each key.
    pub(super) fn listed(messages: impl Iterator<Item = Vec<u8>>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for message in messages {
            bytes.extend(message);
            ends.push(bytes.len());
        }
        Self::Listed { bytes, ends }
    }

    /// Appends the message for a key.
    pub(super) fn write(&self, key: u64, out: &mut Vec<u8>) {
        match self {
            Self::Numbered { bytes, places } => {
                let start = out.len();
                out.extend_from_slice(bytes);
                let digits = digits(key);
                for place in places {
                    if let Some(slot) = out.get_mut(start + place..start + place + NUMBER.len()) {
                        slot.copy_from_slice(&digits);
                    }
                }
            }
            Self::Listed { bytes, ends } => {
                let key = usize::try_from(key).unwrap_or(usize::MAX);
                let start =
                    key.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                let message = ends.get(key).and_then(|&end| bytes.get(start..end));
                out.extend_from_slice(message.unwrap_or_default());
            }
        }
    }
}

/// The last ten digits.
#[allow(clippy::cast_possible_truncation)]
fn digits(mut number: u64) -> [u8; NUMBER.len()] {
    let mut digits = [b'0'; NUMBER.len()];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// What one call sends: a message for each of `repeat` keys, and `tail`. Messages of protocol
/// buffers that stand behind each other are one message with all their fields.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) each: Message,
    pub(super) repeat: u32,
    pub(super) tail: Vec<u8>,
}

impl Body {
    /// Writes a gRPC message with the keys that `next` names, in place of what `out` holds.
    pub(super) fn write(&self, out: &mut Vec<u8>, mut next: impl FnMut() -> u64) {
        out.clear();
        out.extend_from_slice(&[0; 5]);
        for _ in 0..self.repeat {
            self.each.write(next(), out);
        }
        out.extend_from_slice(&self.tail);
        set_length(out);
    }
}

/// Puts a message into `out`, in place of what it holds, as gRPC frames it.
pub(super) fn framed(message: &impl prost::Message, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; 5]);
    // A vector has room for all.
    let _ = message.encode(out);
    set_length(out);
}

#[allow(clippy::cast_possible_truncation)]
fn set_length(framed: &mut [u8]) {
    let length = (framed.len().saturating_sub(5) as u32).to_be_bytes();
    if let Some(slot) = framed.get_mut(1..5) {
        slot.copy_from_slice(&length);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::pb::tollgate::{CheckBatch, CheckRequest};

    #[test]
    fn a_key_is_written_at_every_place_of_its_number() {
        let message = Message::numbered(format!("a{NUMBER}b{NUMBER}").into_bytes());
        let mut out = b"before ".to_vec();
        message.write(1_234, &mut out);
        assert_eq!(out, b"before a0000001234b0000001234");
        let mut out = Vec::new();
        message.write(19_999_999_999, &mut out);
        assert_eq!(out, b"a9999999999b9999999999", "more than there is room for");
    }

    #[test]
    fn listed_keys_have_messages_of_their_own() {
        let message =
            Message::listed(["one", "", "three"].map(|text| text.as_bytes().to_vec()).into_iter());
        let written = |key| {
            let mut out = Vec::new();
            message.write(key, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([written(0), written(1), written(2), written(3)], ["one", "", "three", ""]);
    }

    #[test]
    fn a_body_is_one_message_of_all_its_parts() {
        let each =
            CheckBatch { api_keys: vec![format!("key-{NUMBER}").into()], ..CheckBatch::default() };
        let tail = CheckBatch { targets: vec!["a".to_owned()], ..CheckBatch::default() };
        let body = Body {
            each: Message::numbered(each.encode_to_vec()),
            repeat: 3,
            tail: tail.encode_to_vec(),
        };
        let (mut out, mut key) = (b"old".to_vec(), 0);
        body.write(&mut out, || {
            key += 1;
            key
        });
        assert_eq!(out[0], 0);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 5);
        let batch = CheckBatch::decode(&out[5..]).unwrap();
        assert_eq!(batch.api_keys, ["key-0000000001", "key-0000000002", "key-0000000003"]);
        assert_eq!(batch.targets, ["a"]);

        let request = CheckRequest { target: "t".to_owned(), ..CheckRequest::default() };
        framed(&request, &mut out);
        assert_eq!(CheckRequest::decode(&out[5..]).unwrap(), request);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 5);
    }
}
