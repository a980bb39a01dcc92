//! The one place where errors become gRPC status.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::budget::Full;
use super::deadline::Expired;
use super::details;
use super::fast::frame::NotRead;
use super::fast::protobuf::Malformed;
use super::inbound::Stopping;
use super::overload::Shed;
use crate::access::Refusal;
use crate::catalog::EditError;
use crate::decide::invalid::Invalid;
use crate::engine::plans::InvalidRequest;
use crate::service::decisions::NotSettled;
use crate::service::error::ServiceError;
use crate::service::rate_limits::RateLimitError;

/// The reference answers UNKNOWN to all of these. What the gateway can mend is INVALID_ARGUMENT
/// here, what passes by itself UNAVAILABLE.
impl From<RateLimitError> for Status {
    fn from(error: RateLimitError) -> Self {
        match error {
            RateLimitError::NothingLoaded => Self::unavailable(error.to_string()),
            RateLimitError::EmptyDomain
            | RateLimitError::NoDescriptors
            | RateLimitError::TooManyDescriptors { .. }
            | RateLimitError::TooManyEntries { .. }
            | RateLimitError::OverrideUnit { .. } => Self::invalid_argument(error.to_string()),
            RateLimitError::Refused(refusal) => refusal.into(),
            RateLimitError::Check(error) => error.into(),
            RateLimitError::Report(error) => ReportError::from(error).into(),
        }
    }
}

/// As gRPC says it of each.
impl From<NotRead> for Status {
    fn from(error: NotRead) -> Self {
        let text = error.to_string();
        match error {
            NotRead::Compressed(_) => {
                let mut status = Self::unimplemented(text);
                status
                    .metadata_mut()
                    .insert("grpc-accept-encoding", MetadataValue::from_static("identity,gzip"));
                status
            }
            NotRead::TooLong { .. } | NotRead::TooLongUnpacked { .. } => {
                Self::resource_exhausted(text)
            }
            NotRead::NotGzip(_) => Self::invalid_argument(text),
            NotRead::Flagged | NotRead::Missing | NotRead::Less | NotRead::More => {
                Self::internal(text)
            }
        }
    }
}

/// There is no room for it now.
impl From<Full> for Status {
    fn from(full: Full) -> Self {
        Self::resource_exhausted(full.to_string())
    }
}

/// What passes by itself, at another server or at the next start.
impl From<Stopping> for Status {
    fn from(stopping: Stopping) -> Self {
        Self::unavailable(stopping.to_string())
    }
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing | Refusal::Unknown => Self::unauthenticated(refusal.to_string()),
            Refusal::Lacking { .. } => Self::permission_denied(refusal.to_string()),
        }
    }
}

/// What passes by itself. Gateways that ask again elsewhere do so on this code.
impl From<Shed> for Status {
    fn from(shed: Shed) -> Self {
        Self::unavailable(shed.to_string())
    }
}

impl From<Expired> for Status {
    fn from(expired: Expired) -> Self {
        Self::deadline_exceeded(expired.to_string())
    }
}

impl From<InvalidRequest> for Status {
    fn from(error: InvalidRequest) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Why a report as a whole gets no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error(transparent)]
    Unreadable(Invalid),
    #[error(transparent)]
    NotSettled(#[from] NotSettled),
}

impl From<ReportError> for Status {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Unreadable(wrong) => invalid(vec![wrong]),
            // Gateways report again on this, and on nothing else.
            ReportError::NotSettled(error) => Self::unavailable(error.to_string()),
        }
    }
}

impl From<EditError> for Status {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::Invalid(mistakes) => {
                details::refusal(Code::InvalidArgument, message, &mistakes)
            }
            EditError::NotFound { .. } => Self::not_found(message),
            EditError::Exists { .. } | EditError::ValueInUse { .. } => {
                Self::already_exists(message)
            }
            EditError::Stale { .. } => Self::aborted(message),
            EditError::InUse { .. } | EditError::MostOf { .. } => {
                Self::failed_precondition(message)
            }
            EditError::NoRandom(_) | EditError::NotKept(_) | EditError::Waiting => {
                Self::unavailable(message)
            }
        }
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Refused(refused) => refused.into(),
            ServiceError::Unavailable(_) => Self::unavailable(message),
            ServiceError::Unfinished(_) => Self::internal(message),
        }
    }
}

/// Names every field that cannot be used.
pub(super) fn invalid(mistakes: Vec<Invalid>) -> Status {
    EditError::Invalid(mistakes).into()
}
