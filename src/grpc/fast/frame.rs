//! What stands before each message of a call.

use axum::http::HeaderValue;

/// A flag, and the length in four bytes.
pub(in crate::grpc) const HEAD_BYTES: usize = 5;

/// Why a call's message was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    #[error("messages compressed with {0:?} are not read: send them with gzip, or as they are")]
    Compressed(HeaderValue),
    #[error("the message is marked as compressed with gzip, and cannot be unpacked: {0}")]
    NotGzip(String),
    #[error("unpacked the message has more than the {max} bytes of grpc.max_message_bytes")]
    TooLongUnpacked { max: usize },
    #[error("the message is marked as compressed, and grpc-encoding does not say how")]
    Flagged,
    #[error("the message has {length} bytes, more than the {max} of grpc.max_message_bytes")]
    TooLong { length: usize, max: usize },
    #[error("the call ended before its message")]
    Missing,
    #[error("the call ended within its message")]
    Less,
    #[error("the call has one message, and there came more")]
    More,
}

/// Whether a message is compressed, and its length, by its head.
pub(in crate::grpc) fn read_head(
    [flag, length @ ..]: [u8; HEAD_BYTES],
) -> Result<(bool, usize), NotRead> {
    if flag > 1 {
        return Err(NotRead::Flagged);
    }
    Ok((flag == 1, usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX)))
}
