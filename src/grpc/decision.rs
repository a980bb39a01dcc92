//! `tollgate.v1.DecisionService`.

mod batch;
mod outcome;
mod service;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use tonic::Status;

pub use self::service::DecisionGrpc;
use super::fast::protobuf::Malformed;
use super::fast::unary::{Framed, Reply};
use super::fast::{answer, request};
use super::pb::tollgate as pb;
use crate::decide::verdict::Decision;
use crate::service::decisions::{Decisions, Tried};

/// The most items of a batch, and outcomes of a report.
pub const MAX_BATCH: usize = 10_000;

/// What the service does, from message to message.
#[derive(Clone, Debug)]
pub struct DecisionMessages(pub Arc<Decisions>);

impl DecisionMessages {
    /// `CheckRequest` to `CheckResponse`.
    fn check(self: &Arc<Self>, message: Bytes, time_left: Option<Duration>) -> Reply {
        let input = match request::check(&message) {
            Ok(input) => input,
            Err(malformed) => return Reply::Now(Err(malformed.into())),
        };
        let open = match self.0.first_try(&input, time_left, |decision| self.framed(decision)) {
            Ok(Tried::Answered(answered)) => return Reply::Now(Ok(answered)),
            Ok(Tried::Later(open, _)) => open,
            Err(invalid) => return Reply::Now(Err(invalid.into())),
        };
        let messages = self.clone();
        Reply::Later(Box::pin(async move {
            let input = request::check(&message)?;
            let framed = |decision: &Decision<'_>| messages.framed(decision);
            Ok(messages.0.answer_later(&input, open, framed).await?)
        }))
    }

    fn framed(&self, decision: &Decision<'_>) -> Framed {
        answer::framed(decision, &self.0.settings().headers)
    }

    /// `ReportRequest` to `ReportResponse`.
    async fn report(&self, message: Bytes) -> Result<Framed, Status> {
        let request = pb::ReportRequest::decode(message).map_err(|_| Malformed::Message)?;
        Ok(Framed::of(&outcome::settle_all(&self.0, &request).await?))
    }

    /// Answers a call as the service does, on any bytes.
    ///
    /// # Errors
    /// Where the bytes are no request, or one that cannot be decided, whoever the caller is.
    pub async fn answer_check(self: &Arc<Self>, message: Bytes) -> Result<Vec<u8>, Status> {
        let answered = match self.check(message, None) {
            Reply::Now(answered) => answered,
            Reply::Later(answer) => answer.await,
        };
        Ok(answered?.message().to_vec())
    }

    /// The same of reports.
    ///
    /// # Errors
    /// Where the bytes are no request, or a correction could not be recorded.
    pub async fn answer_report(&self, message: Bytes) -> Result<Vec<u8>, Status> {
        Ok(self.report(message).await?.message().to_vec())
    }
}
