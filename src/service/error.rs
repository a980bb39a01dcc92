//! Why the service does not do what it is asked. Each door says it in its own words, in one place.

use crate::catalog::EditError;
use crate::decide::invalid::Invalid;

/// Why something was not done. Nothing was changed, but where the text says that it is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// It cannot be done as things stand. The catalog says why.
    #[error(transparent)]
    Refused(#[from] EditError),
    /// What it needs cannot be had now. It may pass by itself.
    #[error("{0}")]
    Unavailable(String),
    /// Its thread panicked, or the end of the process cut it short.
    #[error("the work was not finished: {0}")]
    Unfinished(String),
}

impl From<Vec<Invalid>> for ServiceError {
    fn from(mistakes: Vec<Invalid>) -> Self {
        Self::Refused(mistakes.into())
    }
}

/// Does work that may take long on a thread that serves no calls.
///
/// # Errors
/// The work panicked, or the process ends.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServiceError::Unfinished(error.to_string()))
}
