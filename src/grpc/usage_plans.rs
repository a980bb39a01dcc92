//! `tollgate.v1.UsagePlanService`: plans, targets, subscribers, API keys and their books.

use std::sync::Arc;

use prost::Message;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::pb::tollgate as pb;
use super::status::invalid;
use crate::catalog::{Answer as Written, Draft, EditError, EditOptions, RequestKey};
use crate::decide::invalid::Invalid;
use crate::service::edits::Edits;
use crate::service::grants::Grants;
use crate::service::usage::Usage;
use pb::usage_plan_service_server::UsagePlanService;

mod apply;
mod grants;
mod keys;
mod plans;
mod subscribers;
mod targets;
mod usage;

/// The service: what is asked on the wire, asked of edits, usage and grants.
#[derive(Debug)]
pub struct UsagePlans {
    edits: Edits,
    usage: Arc<Usage>,
    grants: Grants,
    /// For sets that are sent in parts.
    sets: Semaphore,
    /// The most bytes of such a set.
    max_set_bytes: usize,
}

/// What is common to the requests of edits.
struct How<'a> {
    method: &'static str,
    request_id: &'a str,
    validate_only: bool,
}

impl UsagePlans {
    pub fn new(edits: Edits, usage: Arc<Usage>, grants: Grants) -> Self {
        let sets = Semaphore::new(apply::AT_ONCE);
        Self { edits, usage, grants, sets, max_set_bytes: usize::MAX }
    }

    /// The same, for sets in parts of at most so many bytes.
    #[must_use]
    pub fn with_max_set_bytes(self, max_set_bytes: usize) -> Self {
        Self { max_set_bytes, ..self }
    }

    /// How to make the edit that `message` asks for.
    fn options(how: &How<'_>, message: &impl Message) -> Result<Options, Status> {
        Ok(Options {
            request: request_key(how.method, how.request_id, message)?,
            edit: EditOptions { validate_only: how.validate_only },
        })
    }

    /// Makes an edit, and answers it: `wire` says what with.
    async fn edit<A: 'static, W: Message + Default + 'static>(
        &self,
        Options { request, edit }: Options,
        work: impl FnOnce(&mut Draft) -> Result<A, EditError> + Send + 'static,
        wire: fn(&A) -> W,
    ) -> Result<W, Status> {
        let work = move |draft: &mut Draft| work(draft).map(|answer| OnWire(wire(&answer)));
        let OnWire(answer) = self.edits.edit_once(request, edit, work).await?;
        Ok(answer)
    }
}

/// How to make an edit.
struct Options {
    request: Option<RequestKey>,
    edit: EditOptions,
}

/// The answer to an edit. A retry gets it as it was written down.
struct OnWire<W>(W);

impl<W: Message + Default> Written for OnWire<W> {
    fn write(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    fn read(written: &[u8]) -> Option<Self> {
        W::decode(written).ok().map(Self)
    }
}

/// What tells a retry from another request; the message is encoded only where it has a name.
fn request_key(
    method: &str,
    request_id: &str,
    message: &impl Message,
) -> Result<Option<RequestKey>, Status> {
    let encoded = if request_id.is_empty() { Vec::new() } else { message.encode_to_vec() };
    RequestKey::new(request_id, method, &encoded).map_err(|wrong| invalid(vec![wrong]))
}

/// A part without which a request says nothing.
fn needed<T>(field: &str, part: Option<T>) -> Result<T, EditError> {
    part.ok_or_else(|| EditError::Invalid(vec![Invalid::new(field, "is needed")]))
}

fn total_size(total: usize) -> i32 {
    i32::try_from(total).unwrap_or(i32::MAX)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl UsagePlanService for UsagePlans {
    async fn create_usage_plan(
        &self,
        request: Request<pb::CreateUsagePlanRequest>,
    ) -> Answer<pb::UsagePlan> {
        self.create_plan(request.into_inner()).await.map(Response::new)
    }

    async fn get_usage_plan(
        &self,
        request: Request<pb::GetUsagePlanRequest>,
    ) -> Answer<pb::UsagePlan> {
        self.get_plan(&request.get_ref().id).map(Response::new)
    }

    async fn list_usage_plans(
        &self,
        request: Request<pb::ListUsagePlansRequest>,
    ) -> Answer<pb::ListUsagePlansResponse> {
        self.list_plans(request.into_inner()).await.map(Response::new)
    }

    async fn update_usage_plan(
        &self,
        request: Request<pb::UpdateUsagePlanRequest>,
    ) -> Answer<pb::UsagePlan> {
        self.update_plan(request.into_inner()).await.map(Response::new)
    }

    async fn delete_usage_plan(&self, request: Request<pb::DeleteUsagePlanRequest>) -> Answer<()> {
        self.delete_plan(request.into_inner()).await.map(Response::new)
    }

    async fn create_target(&self, request: Request<pb::CreateTargetRequest>) -> Answer<pb::Target> {
        self.create_one_target(request.into_inner()).await.map(Response::new)
    }

    async fn get_target(&self, request: Request<pb::GetTargetRequest>) -> Answer<pb::Target> {
        self.get_one_target(&request.get_ref().id).map(Response::new)
    }

    async fn list_targets(
        &self,
        request: Request<pb::ListTargetsRequest>,
    ) -> Answer<pb::ListTargetsResponse> {
        self.list_some_targets(request.into_inner()).await.map(Response::new)
    }

    async fn update_target(&self, request: Request<pb::UpdateTargetRequest>) -> Answer<pb::Target> {
        self.update_one_target(request.into_inner()).await.map(Response::new)
    }

    async fn delete_target(&self, request: Request<pb::DeleteTargetRequest>) -> Answer<()> {
        self.delete_one_target(request.into_inner()).await.map(Response::new)
    }

    async fn create_subscriber(
        &self,
        request: Request<pb::CreateSubscriberRequest>,
    ) -> Answer<pb::Subscriber> {
        self.create_one_subscriber(request.into_inner()).await.map(Response::new)
    }

    async fn get_subscriber(
        &self,
        request: Request<pb::GetSubscriberRequest>,
    ) -> Answer<pb::Subscriber> {
        self.get_one_subscriber(&request.get_ref().id).map(Response::new)
    }

    async fn list_subscribers(
        &self,
        request: Request<pb::ListSubscribersRequest>,
    ) -> Answer<pb::ListSubscribersResponse> {
        self.list_some_subscribers(request.into_inner()).await.map(Response::new)
    }

    async fn update_subscriber(
        &self,
        request: Request<pb::UpdateSubscriberRequest>,
    ) -> Answer<pb::Subscriber> {
        self.update_one_subscriber(request.into_inner()).await.map(Response::new)
    }

    async fn delete_subscriber(&self, request: Request<pb::DeleteSubscriberRequest>) -> Answer<()> {
        self.delete_one_subscriber(request.into_inner()).await.map(Response::new)
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Answer<pb::CreateApiKeyResponse> {
        self.create_key(request.into_inner()).await.map(Response::new)
    }

    async fn import_api_key(
        &self,
        request: Request<pb::ImportApiKeyRequest>,
    ) -> Answer<pb::ApiKey> {
        self.import_key(request.into_inner()).await.map(Response::new)
    }

    async fn get_api_key(&self, request: Request<pb::GetApiKeyRequest>) -> Answer<pb::ApiKey> {
        self.get_key(&request.get_ref().id).map(Response::new)
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Answer<pb::ListApiKeysResponse> {
        self.list_keys(request.into_inner()).await.map(Response::new)
    }

    async fn update_api_key(
        &self,
        request: Request<pb::UpdateApiKeyRequest>,
    ) -> Answer<pb::ApiKey> {
        self.update_key(request.into_inner()).await.map(Response::new)
    }

    async fn delete_api_key(&self, request: Request<pb::DeleteApiKeyRequest>) -> Answer<()> {
        self.delete_key(request.into_inner()).await.map(Response::new)
    }

    async fn attach_target(
        &self,
        request: Request<pb::AttachTargetRequest>,
    ) -> Answer<pb::UsagePlan> {
        self.attach(request.into_inner()).await.map(Response::new)
    }

    async fn detach_target(
        &self,
        request: Request<pb::DetachTargetRequest>,
    ) -> Answer<pb::UsagePlan> {
        self.detach(request.into_inner()).await.map(Response::new)
    }

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Answer<pb::GetUsageResponse> {
        self.usage(request.into_inner()).await.map(Response::new)
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> Answer<pb::QuotaUsage> {
        self.make_grant(request.into_inner()).await.map(Response::new)
    }

    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Answer<pb::ApplyResponse> {
        self.apply_all(request.into_inner()).await.map(Response::new)
    }

    type ApplyStreamStream = apply::Parts;

    async fn apply_stream(
        &self,
        request: Request<Streaming<pb::ApplyRequest>>,
    ) -> Answer<Self::ApplyStreamStream> {
        self.apply_parts(request.into_inner()).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
