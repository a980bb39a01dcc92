//! Requests and answers in protobuf's JSON mapping, for `/json`.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::error::Category;

use super::RateLimiter;
use crate::access::Granted;
use crate::grpc::wire::{Code, RateLimitRequest, RateLimitResponse};
use crate::service::rate_limits::RateLimitError;

/// Why a JSON request gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("the body is no RateLimitRequest in JSON: {0}")]
    Body(String),
    #[error(transparent)]
    Request(#[from] RateLimitError),
    #[error("the answer cannot be put into JSON: {0}")]
    Answer(String),
}

static MESSAGES: LazyLock<Option<(MessageDescriptor, MessageDescriptor)>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(crate::grpc::ENVOY_DESCRIPTORS).ok()?;
    let message =
        |name: &str| pool.get_message_by_name(&format!("envoy.service.ratelimit.v3.{name}"));
    Some((message("RateLimitRequest")?, message("RateLimitResponse")?))
});

impl RateLimiter {
    /// Answers a request in JSON, of a caller that may do what is granted (`None`: everything):
    /// whether it is over its limit, and the answer.
    ///
    /// # Errors
    /// Where the body is not a request, and where [`Self::answer`] errs.
    pub async fn answer_json(
        &self,
        body: &[u8],
        granted: Option<&Granted>,
    ) -> Result<(bool, String), JsonError> {
        let unknown = || JsonError::Answer("the descriptors are not there".to_owned());
        let (request, response) = MESSAGES.as_ref().ok_or_else(unknown)?;
        let mut reader = serde_json::Deserializer::from_slice(body);
        let message = DynamicMessage::deserialize(request.clone(), &mut reader)
            .map_err(|error| wrong_body(&error))?;
        reader.end().map_err(|error| wrong_body(&error))?;
        let request = RateLimitRequest::decode(message.encode_to_vec().as_slice())
            .map_err(|error| JsonError::Answer(error.to_string()))?;
        self.0.permit(&request.domain, granted)?;
        let answer = self.answer(&request, None).await?;
        let over_limit = answer.overall_code == i32::from(Code::OverLimit);
        Ok((over_limit, to_json(response, &answer)?))
    }
}

/// Where the body is wrong. What stands there is not repeated: it may be an API key.
fn wrong_body(error: &serde_json::Error) -> JsonError {
    JsonError::Body(match error.classify() {
        Category::Data => {
            format!(
                "there is no such field, or its value is of another kind, at line {} column {}",
                error.line(),
                error.column()
            )
        }
        Category::Syntax | Category::Eof | Category::Io => error.to_string(),
    })
}

fn to_json(
    descriptor: &MessageDescriptor,
    answer: &RateLimitResponse,
) -> Result<String, JsonError> {
    let message = DynamicMessage::decode(descriptor.clone(), answer.encode_to_vec().as_slice())
        .map_err(|error| JsonError::Answer(error.to_string()))?;
    serde_json::to_string(&message).map_err(|error| JsonError::Answer(error.to_string()))
}
