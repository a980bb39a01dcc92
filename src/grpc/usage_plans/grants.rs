//! Grants.

use tonic::Status;

use super::{UsagePlans, request_key};
use crate::catalog::EditError;
use crate::decide::quota::Grant;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::stored::grant_to_wire;
use crate::service::grant::{GrantRequest, Whose};
use pb::grant_request::{Change, Subject};

impl UsagePlans {
    pub(super) async fn make_grant(
        &self,
        request: pb::GrantRequest,
    ) -> Result<pb::QuotaUsage, Status> {
        let key = request_key("Grant", &request.request_id, &request)?;
        let answer = self.grants.grant(asked(request)?, key).await?;
        Ok(grant_to_wire(&answer))
    }
}

fn asked(wire: pb::GrantRequest) -> Result<GrantRequest, EditError> {
    let pb::GrantRequest { subject, plan, entitlement, quota, change, request_id: _ } = wire;
    let whose = match subject {
        None => return Err(EditError::invalid("subscriber", "or `api_key` is needed")),
        Some(Subject::Subscriber(id)) => Whose::Subscriber(id),
        Some(Subject::ApiKey(id)) => Whose::Key(id),
    };
    let change = match change {
        Some(Change::Add(units)) => Grant::Add(units),
        Some(Change::SetRemaining(units)) => Grant::SetRemaining(units),
        Some(Change::Reset(true)) => Grant::Reset,
        Some(Change::Reset(false)) => {
            return Err(EditError::invalid("reset", "must be true where it is set"));
        }
        None => {
            return Err(EditError::invalid("add", "or `set_remaining` or `reset` is needed"));
        }
    };
    Ok(GrantRequest { whose, plan, entitlement, quota, change })
}
