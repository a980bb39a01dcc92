//! Bodies of requests: read as they come, within a bound for each and one for all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use metrics::Gauge;
use tokio::time::timeout;

/// What each body may have beside the others: so a small one finds room whatever large ones do.
const ALWAYS: usize = 64 * 1024;

/// Bounds of bodies, and what of them is used.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Of one.
    max_bytes: usize,
    timeout: Duration,
    room: Arc<Room>,
}

/// What all bodies may have beyond [`ALWAYS`] of each.
#[derive(Debug)]
struct Room {
    free: AtomicUsize,
    used: Gauge,
}

/// A body that has come.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Vec<u8>,
    taken: Taken,
}

impl Read {
    /// The body, and its part of the room: that is given back when it is dropped.
    pub(super) fn into_parts(self) -> (Vec<u8>, Taken) {
        (self.bytes, self.taken)
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The setting is `grpc.max_message_bytes`.
    TooLarge(usize),
    NoRoom,
    TooSlow(Duration),
    CutOff,
}

impl Bodies {
    /// `used` shows how much of the room is.
    pub(super) fn new(max_bytes: usize, all_bytes: usize, timeout: Duration, used: Gauge) -> Self {
        Self {
            max_bytes,
            timeout,
            room: Arc::new(Room { free: AtomicUsize::new(all_bytes), used }),
        }
    }

    /// Reads a whole body.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Unread> {
        let declared = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        // Nothing is committed by it: a body of that length may never come.
        if declared.is_some_and(|declared| {
            usize::try_from(declared).map_or(true, |declared| declared > self.max_bytes)
        }) {
            self.throw_away(body);
            return Err(Unread::TooLarge(self.max_bytes));
        }
        timeout(self.timeout, self.collect(body))
            .await
            .unwrap_or(Err(Unread::TooSlow(self.timeout)))
    }

    /// Lets a body come that nobody wants, and keeps nothing of it: who is still sending would not
    /// see the answer if the connection was closed at once. What is longer or slower than a body
    /// may be is cut off all the same.
    pub(super) fn throw_away(&self, body: Body) {
        self.throw_rest_away(body.into_data_stream());
    }

    fn throw_rest_away(&self, mut pieces: BodyDataStream) {
        let (most, limit) = (self.max_bytes, self.timeout);
        tokio::spawn(timeout(limit, async move {
            let mut came = 0_usize;
            while let Some(Ok(piece)) = pieces.next().await {
                came = came.saturating_add(piece.len());
                if came > most {
                    return;
                }
            }
        }));
    }

    async fn collect(&self, body: Body) -> Result<Read, Unread> {
        let mut read =
            Read { bytes: Vec::new(), taken: Taken { bytes: 0, room: self.room.clone() } };
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| Unread::CutOff)?;
            let length = read.bytes.len() + piece.len();
            let fits = if length > self.max_bytes {
                Err(Unread::TooLarge(self.max_bytes))
            } else {
                read.taken.grow_to(length.saturating_sub(ALWAYS))
            };
            if let Err(unread) = fits {
                self.throw_rest_away(pieces);
                return Err(unread);
            }
            read.bytes.extend_from_slice(&piece);
        }
        Ok(read)
    }
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    bytes: usize,
    room: Arc<Room>,
}

impl Taken {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Unread> {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self
            .room
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(more));
        taken.map_err(|_| Unread::NoRoom)?;
        self.bytes += more;
        self.room.used.increment(shown(more));
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.free.fetch_add(self.bytes, Ordering::Relaxed);
        self.room.used.decrement(shown(self.bytes));
    }
}

#[allow(clippy::cast_precision_loss)]
fn shown(bytes: usize) -> f64 {
    bytes as f64
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge(most) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes: see grpc.max_message_bytes\n"))
                    .into_response()
            }
            Self::NoRoom => (
                StatusCode::SERVICE_UNAVAILABLE,
                [(header::RETRY_AFTER, "1")],
                "there is no room for this body beside the others in work: try again, or see http.max_body_bytes\n",
            )
                .into_response(),
            Self::TooSlow(limit) => {
                let text = format!("the body did not come within {} ms: see http.request_timeout_ms\n", limit.as_millis());
                (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], text).into_response()
            }
            Self::CutOff => (StatusCode::BAD_REQUEST, "the body was cut off\n").into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = ALWAYS + 1000;

    fn bodies() -> Bodies {
        Bodies::new(LARGE, 1500, Duration::from_secs(60), Gauge::noop())
    }

    async fn read(bodies: &Bodies, bytes: usize) -> Result<Read, Unread> {
        bodies.read(&HeaderMap::new(), Body::from(vec![b'a'; bytes])).await
    }

    #[tokio::test]
    async fn a_body_may_have_so_many_bytes_and_not_one_more_declared_or_not() {
        let bodies = bodies();
        assert_eq!(read(&bodies, LARGE).await.unwrap().bytes.len(), LARGE);
        assert_eq!(read(&bodies, LARGE + 1).await.unwrap_err(), Unread::TooLarge(LARGE));
        let declared = |length: &str| {
            HeaderMap::from_iter([(header::CONTENT_LENGTH, length.parse().unwrap())])
        };
        let never = || {
            Body::from_stream(
                futures_util::stream::pending::<Result<axum::body::Bytes, axum::Error>>(),
            )
        };
        for length in [(LARGE + 1).to_string(), u64::MAX.to_string()] {
            assert_eq!(
                bodies.read(&declared(&length), never()).await.unwrap_err(),
                Unread::TooLarge(LARGE),
                "{length}"
            );
        }
    }

    #[tokio::test]
    async fn large_bodies_share_their_room_and_a_small_one_finds_room_beside_them() {
        let bodies = bodies();
        let first = read(&bodies, LARGE).await.unwrap();
        assert_eq!(
            read(&bodies, LARGE).await.unwrap_err(),
            Unread::NoRoom,
            "500 of its 1,000 bytes are there"
        );
        let second = read(&bodies, ALWAYS + 500).await.unwrap();
        assert_eq!(read(&bodies, ALWAYS + 1).await.unwrap_err(), Unread::NoRoom);
        assert_eq!(read(&bodies, ALWAYS).await.unwrap().bytes.len(), ALWAYS);
        drop(first);
        assert!(read(&bodies, LARGE).await.is_ok());
        drop(second);
        assert_eq!(bodies.room.free.load(Ordering::Relaxed), 1500, "all of it was given back");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_waited_for_no_longer_than_that() {
        let bodies = Bodies::new(LARGE, 1500, Duration::from_millis(20), Gauge::noop());
        let never = Body::from_stream(futures_util::stream::pending::<
            Result<axum::body::Bytes, axum::Error>,
        >());
        assert_eq!(
            bodies.read(&HeaderMap::new(), never).await.unwrap_err(),
            Unread::TooSlow(Duration::from_millis(20))
        );
    }
}
