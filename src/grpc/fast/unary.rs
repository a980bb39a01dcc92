//! Calls of one message each, without what tonic needs for streams: a message is read where it
//! lies, and its answer is written once, into the frame that leaves.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Frame};
use prost::Message;
use prost::bytes::{Buf, Bytes};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};

use super::frame::{HEAD_BYTES, NotRead};
use crate::grpc::inbound::Inbound;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))])
});
static OK: LazyLock<HeaderMap> =
    LazyLock::new(|| HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]));

/// A message as it goes over the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed(Vec<u8>);

impl Framed {
    /// What `write` appends. `capacity` should be enough for nearly every message.
    pub(in crate::grpc) fn new(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + capacity);
        bytes.extend_from_slice(&[0; HEAD_BYTES]);
        write(&mut bytes);
        // Answers are bounded by their requests, far below 4 GiB.
        let length = u32::try_from(bytes.len() - HEAD_BYTES).unwrap_or(u32::MAX);
        if let Some(place) = bytes.get_mut(1..HEAD_BYTES) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Self(bytes)
    }

    pub(in crate::grpc) fn of(message: &impl Message) -> Self {
        Self::new(message.encoded_len(), |bytes| message.encode_raw(bytes))
    }

    /// The message without its frame.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.0.get(HEAD_BYTES..).unwrap_or_default()
    }
}

/// What a method comes to.
pub(in crate::grpc) enum Reply {
    Now(Result<Framed, Status>),
    Later(BoxFuture<Framed, Status>),
}

/// What of a call is not its message.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct Call<'c> {
    pub(in crate::grpc) headers: &'c HeaderMap,
    pub(in crate::grpc) extensions: &'c Extensions,
}

/// Answers one call. An `Err` of the method is the answer as it is.
pub(in crate::grpc) fn answer<B, M>(
    mut request: Request<Inbound<B>>,
    method: M,
) -> BoxFuture<Response<Body>, Infallible>
where
    B: HttpBody<Error: Into<StdError>> + Unpin + Send + 'static,
    M: FnOnce(Bytes, Call<'_>) -> Result<Reply, Box<Response<Body>>> + Send + 'static,
{
    Box::pin(async move {
        let reply = match read(&mut request).await {
            Ok(message) => match method(
                message,
                Call { headers: request.headers(), extensions: request.extensions() },
            ) {
                Ok(reply) => reply,
                Err(answer) => return Ok(*answer),
            },
            Err(status) => Reply::Now(Err(status)),
        };
        let answered = match reply {
            Reply::Now(answered) => answered,
            Reply::Later(answer) => answer.await,
        };
        Ok(match answered {
            Ok(Framed(bytes)) => {
                let mut response =
                    Response::new(Body::new(Answer { bytes: Some(bytes.into()), ended: false }));
                *response.headers_mut() = HEADERS.clone();
                response
            }
            Err(status) => status.into_http(),
        })
    })
}

/// The one message of a call.
async fn read<B>(request: &mut Request<Inbound<B>>) -> Result<Bytes, Status>
where
    B: HttpBody<Error: Into<StdError>> + Unpin,
{
    let body = request.body_mut();
    let mut only: Option<Bytes> = None;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        if let Ok(message) = frame?.into_data()
            && only.replace(message).is_some()
        {
            return Err(NotRead::More.into());
        }
    }
    let mut message = only.ok_or(NotRead::Missing)?;
    message.advance(HEAD_BYTES);
    Ok(message)
}

/// One message, then the status OK.
struct Answer {
    bytes: Option<Bytes>,
    ended: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let ended = std::mem::replace(&mut self.ended, true);
        Poll::Ready((!ended).then(|| Ok(Frame::trailers(OK.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests;
