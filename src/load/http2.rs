//! HTTP/2 as far as a gRPC client needs it, without I/O: bytes that came in become events, calls
//! become bytes to send.
//!
//! A load generator must cost clearly less than what it measures, or it measures itself: on a
//! machine with few cores the two compete, and latencies are those of the client. A client made of
//! a general library costs about as much a call as the server does. This one copies header blocks
//! that it has made before, puts the calls of many streams into one write, and looks at nothing in
//! a frame that it does not need. It is strict where a server may be wrong (sizes, windows, header
//! blocks), and does not do what gRPC servers do not ask for (push, priorities).

use super::hpack::{Fields, Head, RequestBlocks, ResponseBlocks};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// The largest frame that we take: the protocol's smallest bound, which nobody has asked to raise.
const MAX_FRAME_BYTES: usize = 16_384;
/// What each stream may send us, and the connection: as good as without bound.
const WINDOW: u32 = 1 << 30;
/// A window is filled up again when this much of it is used.
pub(super) const REFILL: u32 = 1 << 24;
/// What a window is before anyone says otherwise.
const FIRST_WINDOW: i64 = 65_535;
/// The last id of a stream.
const LAST_STREAM: u32 = (1 << 31) - 1;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 32;
}

mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
}

/// A code of RST_STREAM: the caller does not want the answer any more.
const CANCEL: u32 = 8;

/// What a frame of the server says to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Nothing: it was about the connection.
    Nothing,
    Data {
        stream: u32,
        bytes: &'a [u8],
        end: bool,
    },
    /// Headers, or trailers.
    Head {
        stream: u32,
        head: Head,
        end: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    /// The server takes so many more bytes on a stream.
    Window {
        stream: u32,
        bytes: u32,
    },
    /// New calls belong on another connection, and calls after `last_stream` were not looked at.
    GoAway {
        last_stream: u32,
    },
}

/// The client's side of a connection.
#[derive(Debug)]
pub(super) struct Http2 {
    out: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    requests: RequestBlocks,
    responses: ResponseBlocks,
    next_stream: u32,
    /// What the server takes on all streams together.
    window: i64,
    /// What it takes on a new stream.
    stream_window: i64,
    max_streams: usize,
    max_frame: usize,
    settled: bool,
    leaving: bool,
    /// Received since the window was last filled up.
    received: u32,
    /// A header block that more frames belong to.
    unfinished: Option<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    stream: u32,
    end: bool,
    block: Vec<u8>,
}

impl Http2 {
    /// A connection over which calls with these headers are made. Its greeting waits to be sent.
    pub(super) fn new(calls: Vec<Fields>) -> Self {
        let mut http2 = Self {
            out: PREFACE.to_vec(),
            sent: 0,
            requests: RequestBlocks::new(calls),
            responses: ResponseBlocks::new(),
            next_stream: 1,
            window: FIRST_WINDOW,
            stream_window: FIRST_WINDOW,
            max_streams: usize::MAX,
            max_frame: MAX_FRAME_BYTES,
            settled: false,
            leaving: false,
            received: 0,
            unfinished: None,
        };
        let settings = [
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, WINDOW),
        ];
        frame(&mut http2.out, kind::SETTINGS, 0, 0, settings.len() * 6);
        for (id, value) in settings {
            http2.out.extend_from_slice(&id.to_be_bytes());
            http2.out.extend_from_slice(&value.to_be_bytes());
        }
        http2.refill(0, WINDOW);
        http2
    }

    /// How many more calls may be made now, where so many are open.
    pub(super) fn room(&self, open: usize) -> usize {
        if self.settled && !self.leaving && self.next_stream <= LAST_STREAM {
            self.max_streams.saturating_sub(open)
        } else {
            0
        }
    }

    /// No further call can be made on this connection.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving || self.next_stream > LAST_STREAM
    }

    /// May so many bytes of messages be sent, on a stream that takes `stream_window`?
    pub(super) fn takes(&self, bytes: usize, stream_window: i64) -> bool {
        i64::try_from(bytes).is_ok_and(|bytes| bytes <= self.window.min(stream_window))
    }

    /// What the server takes on a new stream.
    pub(super) fn stream_window(&self) -> i64 {
        self.stream_window
    }

    /// Opens a stream with the headers of a call. `None`: there is no such kind of call.
    pub(super) fn open(&mut self, call: usize) -> Option<u32> {
        let stream = self.next_stream;
        let block = self.requests.block(call)?;
        frame(&mut self.out, kind::HEADERS, flag::END_HEADERS, stream, block.len());
        self.out.extend_from_slice(block);
        self.next_stream += 2;
        Some(stream)
    }

    /// Sends bytes on a stream, and with `end` the last of it. The caller has asked whether they
    /// are taken.
    pub(super) fn send(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let mut parts = bytes.chunks(self.max_frame).peekable();
        if parts.peek().is_none() {
            frame(&mut self.out, kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, 0);
        }
        while let Some(part) = parts.next() {
            let last = end && parts.peek().is_none();
            frame(
                &mut self.out,
                kind::DATA,
                if last { flag::END_STREAM } else { 0 },
                stream,
                part.len(),
            );
            self.out.extend_from_slice(part);
        }
        self.window -= i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    }

    /// Says that the answer of a stream is not wanted any more.
    pub(super) fn cancel(&mut self, stream: u32) {
        frame(&mut self.out, kind::RST_STREAM, 0, stream, 4);
        self.out.extend_from_slice(&CANCEL.to_be_bytes());
    }

    /// What has to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of it were sent.
    pub(super) fn was_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }

    /// Reads the first frame of what came in, and says how long it is. `None`: it is not all there.
    ///
    /// # Errors
    /// The server does not keep to the protocol, in words.
    pub(super) fn read<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(usize, Event<'a>)>, String> {
        let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, kind, flags, stream @ ..] = *head;
        let length = (usize::from(l0) << 16) | (usize::from(l1) << 8) | usize::from(l2);
        if length > MAX_FRAME_BYTES {
            return Err(if head == b"HTTP/1.1 " {
                "it speaks HTTP/1.1, not gRPC".to_owned()
            } else {
                too_large(length)
            });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let stream = u32::from_be_bytes(stream) & LAST_STREAM;
        let event = self.understand(kind, flags, stream, payload)?;
        Ok(Some((HEAD_BYTES + length, event)))
    }

    fn understand<'a>(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &'a [u8],
    ) -> Result<Event<'a>, String> {
        if self.unfinished.is_some() && kind != kind::CONTINUATION {
            return Err("a header block is interrupted by another frame".to_owned());
        }
        let end = flags & flag::END_STREAM != 0;
        match kind {
            kind::DATA => {
                self.count(payload.len());
                Ok(Event::Data { stream, bytes: unpadded(flags, payload)?, end })
            }
            kind::HEADERS => {
                let block = unpadded(flags, payload)?;
                let block = if flags & flag::PRIORITY != 0 {
                    block.get(5..).unwrap_or_default()
                } else {
                    block
                };
                if flags & flag::END_HEADERS != 0 {
                    return Ok(Event::Head { stream, head: self.responses.read(block)?, end });
                }
                self.unfinished = Some(Unfinished { stream, end, block: block.to_vec() });
                Ok(Event::Nothing)
            }
            kind::CONTINUATION => self.continued(flags, payload),
            kind::RST_STREAM => Ok(Event::Reset { stream, code: number(payload)? }),
            kind::SETTINGS => {
                if flags & flag::ACK == 0 {
                    self.settle(payload)?;
                }
                Ok(Event::Nothing)
            }
            kind::PING => {
                if flags & flag::ACK == 0 {
                    frame(&mut self.out, kind::PING, flag::ACK, 0, payload.len());
                    self.out.extend_from_slice(payload);
                }
                Ok(Event::Nothing)
            }
            kind::GOAWAY => {
                self.leaving = true;
                Ok(Event::GoAway { last_stream: number(payload)? & LAST_STREAM })
            }
            kind::WINDOW_UPDATE => {
                let bytes = number(payload)? & LAST_STREAM;
                if stream != 0 {
                    return Ok(Event::Window { stream, bytes });
                }
                self.window += i64::from(bytes);
                Ok(Event::Nothing)
            }
            kind::PUSH_PROMISE => Err("the server pushes, although it was told not to".to_owned()),
            // What is not known is to be passed over.
            _ => Ok(Event::Nothing),
        }
    }

    fn continued<'a>(&mut self, flags: u8, payload: &[u8]) -> Result<Event<'a>, String> {
        let Some(mut unfinished) = self.unfinished.take() else {
            return Err("a header block continues that never began".to_owned());
        };
        unfinished.block.extend_from_slice(payload);
        if unfinished.block.len() > MAX_FRAME_BYTES * 8 {
            return Err("a header block has no end".to_owned());
        }
        if flags & flag::END_HEADERS == 0 {
            self.unfinished = Some(unfinished);
            return Ok(Event::Nothing);
        }
        Ok(Event::Head {
            stream: unfinished.stream,
            head: self.responses.read(&unfinished.block)?,
            end: unfinished.end,
        })
    }

    fn settle(&mut self, mut payload: &[u8]) -> Result<(), String> {
        while let Some(([i0, i1, value @ ..], rest)) = payload.split_first_chunk::<6>() {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*i0, *i1]) {
                setting::HEADER_TABLE_SIZE if !self.settled => self.requests.set_table_size(value),
                setting::MAX_CONCURRENT_STREAMS => {
                    self.max_streams = usize::try_from(value).unwrap_or(usize::MAX)
                }
                setting::INITIAL_WINDOW_SIZE => self.stream_window = i64::from(value),
                setting::MAX_FRAME_SIZE => {
                    self.max_frame =
                        usize::try_from(value).unwrap_or(MAX_FRAME_BYTES).max(MAX_FRAME_BYTES)
                }
                _ => {}
            }
            payload = rest;
        }
        if !payload.is_empty() {
            return Err("settings are cut off".to_owned());
        }
        self.settled = true;
        frame(&mut self.out, kind::SETTINGS, flag::ACK, 0, 0);
        Ok(())
    }

    /// Counts what was received, and fills the window of the connection up again in time.
    fn count(&mut self, bytes: usize) {
        self.received += u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.received >= REFILL {
            let received = std::mem::take(&mut self.received);
            self.refill(0, received);
        }
    }

    /// Lets the server send so many more bytes on a stream; on all of them: stream 0.
    pub(super) fn refill(&mut self, stream: u32, bytes: u32) {
        frame(&mut self.out, kind::WINDOW_UPDATE, 0, stream, 4);
        self.out.extend_from_slice(&bytes.to_be_bytes());
    }
}

/// The head of a frame.
#[allow(clippy::cast_possible_truncation)]
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    let [_, l0, l1, l2] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]);
}

fn unpadded(flags: u8, payload: &[u8]) -> Result<&[u8], String> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let unpadded = payload
        .split_first()
        .and_then(|(&padding, rest)| rest.get(..rest.len().checked_sub(usize::from(padding))?));
    unpadded.ok_or_else(|| "a frame has more padding than bytes".to_owned())
}

fn number(payload: &[u8]) -> Result<u32, String> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or_else(|| "a frame is too short".to_owned())
}

fn too_large(length: usize) -> String {
    format!(
        "a frame of {length} bytes is more than the {MAX_FRAME_BYTES} that are taken: is this a gRPC port without TLS?"
    )
}

#[cfg(test)]
mod tests;
