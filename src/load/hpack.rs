//! Header blocks of requests and responses.
//!
//! A request's block is made once and then copied: its headers stand in the server's table after
//! the first call, as those of every lasting gRPC client do, and later blocks are one byte a
//! header. A response's block is decoded once and then known by its bytes: the server is told to
//! keep no table for them (`SETTINGS_HEADER_TABLE_SIZE` 0), so that equal bytes mean equal headers.

use std::sync::Arc;

use loona_hpack::Decoder;

/// Headers of a request, in the order in which they are sent.
pub(super) type Fields = Vec<(String, String)>;

/// What HPACK calls the size of an entry beside its text.
const ENTRY_OVERHEAD: usize = 32;
/// The index of the newest entry of the table that a connection fills.
const FIRST_DYNAMIC: usize = 62;

/// Writes the header blocks of the calls of one connection.
#[derive(Debug)]
pub(super) struct RequestBlocks {
    calls: Vec<Call>,
    /// What the server's table holds, oldest first.
    table: Vec<(String, String)>,
    /// How much more it may hold without losing anything.
    room: usize,
    /// The server wants a smaller table than the protocol starts with, and must be told that it has
    /// it.
    shrunk: bool,
}

#[derive(Debug)]
struct Call {
    fields: Fields,
    block: Vec<u8>,
    /// How many entries the table had when the block was made.
    made_at: Option<usize>,
}

impl RequestBlocks {
    /// `calls`: the headers of each kind of call.
    pub(super) fn new(calls: Vec<Fields>) -> Self {
        let calls = calls
            .into_iter()
            .map(|fields| Call { fields, block: Vec::new(), made_at: None })
            .collect();
        Self { calls, table: Vec::new(), room: 4096, shrunk: false }
    }

    /// The server's table has this size. Comes before the first block.
    pub(super) fn set_table_size(&mut self, bytes: u32) {
        if bytes < 4096 {
            (self.room, self.shrunk) = (0, true);
        }
    }

    /// The block of a call. `None`: there is no such kind of call.
    pub(super) fn block(&mut self, call: usize) -> Option<&[u8]> {
        let Self { calls, table, room, shrunk } = self;
        let call = calls.get_mut(call)?;
        if call.made_at != Some(table.len()) || *shrunk {
            call.block.clear();
            if std::mem::take(shrunk) {
                // A table of no bytes.
                call.block.push(0x20);
                call.made_at = None;
            } else {
                call.made_at = Some(table.len());
            }
            for (name, value) in &call.fields {
                field(&mut call.block, table, room, name, value);
            }
        }
        Some(&call.block)
    }
}

fn field(
    out: &mut Vec<u8>,
    table: &mut Vec<(String, String)>,
    room: &mut usize,
    name: &str,
    value: &str,
) {
    if let Some(index) = known_field(name, value) {
        return integer(out, 7, 0x80, index);
    }
    if let Some(at) = table.iter().position(|(n, v)| n == name && v == value) {
        return integer(out, 7, 0x80, FIRST_DYNAMIC + table.len() - 1 - at);
    }
    let size = name.len() + value.len() + ENTRY_OVERHEAD;
    let kept = size <= *room;
    let (prefix_bits, pattern) = if kept { (6, 0x40) } else { (4, 0) };
    match known_name(name) {
        Some(index) => integer(out, prefix_bits, pattern, index),
        None => {
            out.push(pattern);
            text(out, name);
        }
    }
    text(out, value);
    if kept {
        *room -= size;
        table.push((name.to_owned(), value.to_owned()));
    }
}

/// The static table, as far as gRPC requests need it.
fn known_field(name: &str, value: &str) -> Option<usize> {
    match (name, value) {
        (":method", "POST") => Some(3),
        (":scheme", "http") => Some(6),
        (":scheme", "https") => Some(7),
        _ => None,
    }
}

fn known_name(name: &str) -> Option<usize> {
    match name {
        ":authority" => Some(1),
        ":method" => Some(2),
        ":path" => Some(4),
        ":scheme" => Some(6),
        "authorization" => Some(23),
        "content-type" => Some(31),
        _ => None,
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    integer(out, 7, 0, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A number of which the first `prefix_bits` bits stand in the byte of the pattern.
#[allow(clippy::cast_possible_truncation)]
fn integer(out: &mut Vec<u8>, prefix_bits: u8, pattern: u8, value: usize) {
    let most = (1_usize << prefix_bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// What a response says in its headers or its trailers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) http_status: Option<u16>,
    pub(super) grpc_status: Option<u8>,
    pub(super) grpc_message: Option<Arc<str>>,
}

/// So many distinct blocks are known at a time. A date makes a new one each second.
const KNOWN_BLOCKS: usize = 8;

/// Reads the header blocks of one connection.
pub(super) struct ResponseBlocks {
    decoder: Decoder<'static>,
    known: Vec<(Box<[u8]>, Head)>,
    /// The oldest of them.
    oldest: usize,
}

impl ResponseBlocks {
    pub(super) fn new() -> Self {
        let mut decoder = Decoder::new();
        decoder.set_max_table_size(0);
        decoder.set_max_allowed_table_size(0);
        Self { decoder, known: Vec::new(), oldest: 0 }
    }

    /// What a block says.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Head, String> {
        if let Some((_, head)) = self.known.iter().find(|(known, _)| **known == *block) {
            return Ok(head.clone());
        }
        let fields = self
            .decoder
            .decode(block)
            .map_err(|error| format!("the headers of an answer cannot be read: {error}"))?;
        let mut head = Head::default();
        for (name, value) in &fields {
            let value = String::from_utf8_lossy(value);
            match name.as_slice() {
                b":status" => head.http_status = value.parse().ok(),
                b"grpc-status" => head.grpc_status = value.parse().ok(),
                b"grpc-message" => head.grpc_message = Some(unescaped(&value).into()),
                _ => {}
            }
        }
        let learnt = (block.into(), head.clone());
        if self.known.len() < KNOWN_BLOCKS {
            self.known.push(learnt);
        } else if let Some(oldest) = self.known.get_mut(self.oldest) {
            *oldest = learnt;
            self.oldest = (self.oldest + 1) % KNOWN_BLOCKS;
        }
        Ok(head)
    }
}

/// gRPC writes what is not plain text as `%` and two digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.split_at_checked(2).filter(|_| byte == b'%');
        let value = escaped
            .and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        (rest, _) = match (value, escaped) {
            (Some(value), Some((_, after))) => (after, bytes.push(value)),
            _ => (after, bytes.push(byte)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl std::fmt::Debug for ResponseBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBlocks").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(path: &str, value: &str) -> Fields {
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            ("te", "trailers"),
            ("authorization", value),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn decoded(decoder: &mut Decoder<'_>, block: &[u8]) -> Fields {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        decoder
            .decode(block)
            .unwrap()
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    #[test]
    fn a_server_reads_every_block_as_it_was_meant_in_whatever_order_calls_come() {
        let long = "x".repeat(300);
        let calls = [fields("/a", "1"), fields("/b", "1"), fields("/b", &long)];
        for table_size in [4096, 65_536, 100, 0] {
            let mut blocks = RequestBlocks::new(calls.to_vec());
            blocks.set_table_size(table_size);
            let mut server = Decoder::new();
            server.set_max_allowed_table_size(table_size as usize);
            for call in [0, 0, 1, 0, 1, 2, 0, 2, 2, 1, 0] {
                assert_eq!(
                    decoded(&mut server, blocks.block(call).unwrap()),
                    calls[call],
                    "{table_size}"
                );
            }
            assert_eq!(
                blocks.block(0).unwrap().len() == calls[0].len(),
                table_size >= 4096,
                "{table_size}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_into_the_servers_table_is_said_again_each_time() {
        let calls = vec![fields("/a", &"y".repeat(5_000))];
        let mut blocks = RequestBlocks::new(calls.clone());
        let mut server = Decoder::new();
        for _ in 0..3 {
            assert_eq!(decoded(&mut server, blocks.block(0).unwrap()), calls[0]);
        }
    }

    #[test]
    fn what_was_escaped_is_read() {
        for (text, read) in [
            ("too%20much", "too much"),
            ("%e2%82%ac", "€"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("", ""),
        ] {
            assert_eq!(unescaped(text), read);
        }
    }

    #[test]
    fn a_block_is_known_by_its_bytes_and_the_oldest_are_forgotten() {
        let mut blocks = ResponseBlocks::new();
        let status = |number: u8| [&[0, 11][..], b"grpc-status", &[1, number]].concat();
        for number in b'0'..=b'9' {
            for _ in 0..2 {
                assert_eq!(blocks.read(&status(number)).unwrap().grpc_status, Some(number - b'0'));
            }
        }
        assert_eq!(blocks.known.len(), KNOWN_BLOCKS);
        assert_eq!(
            blocks.read(&[0x88]).unwrap(),
            Head { http_status: Some(200), ..Head::default() }
        );
        // An index into a table that was to stay empty.
        assert!(blocks.read(&[0xbe]).is_err());
    }
}
