//! What comes by a call, for every service alike: whole messages, and nothing of a message before
//! all of it is there.
//!
//! A reader that makes room for the length that a message declares lets six bytes of a stranger
//! cost megabytes. So the head of a message is handed on only together with its last byte; what has
//! come until then grows with what comes, and is held out of one budget.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use flate2::read::MultiGzDecoder;
use hyper::body::{Body, Frame, Incoming};
use prost::bytes::{Buf, Bytes, BytesMut};
use tokio::sync::watch;
use tonic::Status;
use tonic::codegen::StdError;

use super::budget::Known;
use super::fast::frame::{HEAD_BYTES, NotRead, read_head};
use super::overload::ConnectionState;
use super::share::Share;

/// Of a compressed message so much is unpacked before it is looked whether there is room for more.
const UNPACKED_AT_ONCE: u64 = 64 * 1024;

/// The rest of a message may take so long when the server stops.
const LAST_BYTES: Duration = Duration::from_millis(250);

/// Why a call ends that waits for what its caller sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server stops, and this call has nothing in work; call again, at another server or at the next start of this one"
)]
pub(super) struct Stopping;

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a request.
#[allow(missing_debug_implementations)]
pub struct Inbound<B = Incoming> {
    body: B,
    max_message_bytes: usize,
    /// What has come, nearly always one message, whole.
    first: Bytes,
    /// A message that comes in pieces, as far as it has come.
    joined: BytesMut,
    share: Share,
    connection: Arc<ConnectionState>,
    /// Between two messages a stream has nothing in work.
    is_stream: bool,
    /// Messages may be compressed so.
    gzip: bool,
    /// Whether something is in work, and when the call ends for it.
    stop: Option<(bool, Stop)>,
}

impl<B> Inbound<B> {
    pub(super) fn new(
        body: B,
        header_bytes: usize,
        connection: Arc<ConnectionState>,
        kind: Kind,
    ) -> Self {
        let Kind { known, max_message_bytes, is_stream, gzip } = kind;
        Self {
            body,
            max_message_bytes,
            first: Bytes::new(),
            joined: BytesMut::new(),
            share: Share::new(connection.clone(), known, header_bytes),
            connection,
            is_stream,
            gzip,
            stop: None,
        }
    }

    /// Of a call of a test's own, up to 4 MiB.
    #[cfg(test)]
    pub(super) fn of(body: B) -> Self {
        let kind =
            Kind { known: Known::Yes, max_message_bytes: 4 << 20, is_stream: false, gzip: false };
        Self::new(body, 0, Arc::default(), kind)
    }

    /// Takes the next message with its head, where it is whole.
    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let bytes: &[u8] = if self.joined.is_empty() { &self.first } else { &self.joined };
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let (is_packed, length) = read_head(*head)?;
        if is_packed && !self.gzip {
            return Err(NotRead::Flagged.into());
        }
        if length > self.max_message_bytes {
            return Err(NotRead::TooLong { length, max: self.max_message_bytes }.into());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = self.take(length);
        if is_packed { self.unpack(&message).map(Some) } else { Ok(Some(message)) }
    }

    /// The first message, which is whole, with its head.
    fn take(&mut self, length: usize) -> Bytes {
        if self.joined.is_empty() {
            return if self.first.len() == HEAD_BYTES + length {
                std::mem::take(&mut self.first)
            } else {
                self.first.split_to(HEAD_BYTES + length)
            };
        }
        // What stood in pieces is one now, and what comes next is read where it lies.
        let message = self.joined.split_to(HEAD_BYTES + length).freeze();
        self.first = std::mem::take(&mut self.joined).freeze();
        message
    }

    /// The same message as it was before it was compressed. It is held as it grows.
    fn unpack(&mut self, packed: &[u8]) -> Result<Bytes, Status> {
        let mut from = MultiGzDecoder::new(packed.get(HEAD_BYTES..).unwrap_or_default());
        let mut message = vec![0; HEAD_BYTES];
        loop {
            self.share.hold(packed.len().saturating_add(message.capacity()))?;
            let read = from.by_ref().take(UNPACKED_AT_ONCE).read_to_end(&mut message);
            let read = read.map_err(|error| NotRead::NotGzip(error.to_string()))?;
            if message.len() - HEAD_BYTES > self.max_message_bytes {
                return Err(NotRead::TooLongUnpacked { max: self.max_message_bytes }.into());
            }
            if read == 0 {
                break;
            }
        }
        let length = u32::try_from(message.len() - HEAD_BYTES).unwrap_or(u32::MAX);
        if let Some(place) = message.get_mut(1..HEAD_BYTES) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(message.into())
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
        } else {
            self.keep();
            self.joined.extend_from_slice(&data);
        }
    }

    /// Keeps what has come apart from what it came with: a few bytes would else hold all that was
    /// read together with them.
    fn keep(&mut self) {
        if !self.first.is_empty() {
            self.joined.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
    }

    /// Nothing more is there for now.
    fn wait(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        self.keep();
        self.share.hold(self.joined.capacity())?;
        let Some(stopping) = self.connection.stopping() else { return Ok(()) };
        let in_work = !(self.is_stream && self.joined.is_empty());
        let (_, stop) = match &mut self.stop {
            Some(stop) if stop.0 == in_work => stop,
            stop => stop.insert((in_work, ends(stopping.clone(), in_work))),
        };
        match stop.as_mut().poll(context) {
            Poll::Ready(()) => Err(Stopping.into()),
            Poll::Pending => Ok(()),
        }
    }
}

/// When a call ends that waits for bytes.
fn ends(mut stopping: watch::Receiver<bool>, in_work: bool) -> Stop {
    Box::pin(async move {
        // An error means that the sender is gone, and with it the process that wants to serve.
        let _ = stopping.wait_for(|stop| *stop).await;
        if in_work {
            tokio::time::sleep(LAST_BYTES).await;
        }
    })
}

/// What is to be known of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) known: Known,
    pub(super) max_message_bytes: usize,
    pub(super) is_stream: bool,
    pub(super) gzip: bool,
}

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Whether messages may come compressed with gzip. They are unpacked where they come in, so that no
/// service has to know: the field is taken out.
pub(super) fn takes_gzip(headers: &mut HeaderMap) -> Result<bool, NotRead> {
    match headers.get(ENCODING) {
        None => Ok(false),
        Some(encoding) if encoding == "identity" => Ok(false),
        Some(encoding) if encoding == "gzip" => {
            headers.remove(ENCODING);
            Ok(true)
        }
        Some(encoding) => Err(NotRead::Compressed(encoding.clone())),
    }
}

/// The size of all header fields.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

impl<B> Body for Inbound<B>
where
    B: Body<Error: Into<StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            match this.whole() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
                return match this.wait(context) {
                    Ok(()) => Poll::Pending,
                    Err(status) => Poll::Ready(Some(Err(status))),
                };
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => this.add(data.copy_to_bytes(data.remaining())),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                        }
                    }
                },
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(Status::from_error(error.into()))));
                }
                None if this.first.is_empty() && this.joined.is_empty() => {
                    return Poll::Ready(None);
                }
                None => {
                    let head = this.first.len().max(this.joined.len()) >= HEAD_BYTES;
                    (this.first, this.joined) = Default::default();
                    let error = if head { NotRead::Less } else { NotRead::Missing };
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
