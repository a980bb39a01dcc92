//! The one place where errors become gRPC status.

use tonic::Status;

use super::ratelimit::RateLimitError;

/// The reference answers UNKNOWN to all of these. What the gateway can mend is INVALID_ARGUMENT here, what passes by itself UNAVAILABLE.
impl From<RateLimitError> for Status {
    fn from(error: RateLimitError) -> Self {
        match error {
            RateLimitError::NothingLoaded => Self::unavailable(error.to_string()),
            RateLimitError::EmptyDomain
            | RateLimitError::NoDescriptors
            | RateLimitError::TooManyDescriptors { .. }
            | RateLimitError::TooManyEntries { .. }
            | RateLimitError::OverrideUnit { .. } => Self::invalid_argument(error.to_string()),
        }
    }
}
