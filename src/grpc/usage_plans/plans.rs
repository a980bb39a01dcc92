//! Plans and their targets.

use tonic::Status;

use super::{How, UsagePlans, needed, total_size};
use crate::catalog::{Catalog, Draft};
use crate::grpc::convert::plans;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;

impl UsagePlans {
    pub(super) async fn create_plan(
        &self,
        request: pb::CreateUsagePlanRequest,
    ) -> Result<pb::UsagePlan, Status> {
        let how = How {
            method: "CreateUsagePlan",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let plan = plans::plan(needed("usage_plan", request.usage_plan)?).map_err(invalid)?;
        self.edit(options, move |draft| draft.create_plan(plan), |edited| plans::to_wire(edited))
            .await
    }

    pub(super) fn get_plan(&self, id: &str) -> Result<pb::UsagePlan, Status> {
        let catalog = self.edits.catalog();
        let found = catalog.plans().find(id)?;
        Ok(plans::to_wire(found))
    }

    pub(super) async fn list_plans(
        &self,
        request: pb::ListUsagePlansRequest,
    ) -> Result<pb::ListUsagePlansResponse, Status> {
        let page = self.edits.list(request.into(), Catalog::list_plans).await?;
        Ok(pb::ListUsagePlansResponse {
            usage_plans: page.items.iter().map(|plan| plans::to_wire(plan)).collect(),
            next_page_token: page.next_page_token,
            total_size: total_size(page.total),
        })
    }

    pub(super) async fn update_plan(
        &self,
        request: pb::UpdateUsagePlanRequest,
    ) -> Result<pb::UsagePlan, Status> {
        let how = How {
            method: "UpdateUsagePlan",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let wire = needed("usage_plan", request.usage_plan)?;
        let update = move |draft: &mut Draft| {
            let current = draft.plan(&wire.id, &wire.etag)?;
            draft.replace_plan(plans::updated(&current, wire, request.update_mask)?)
        };
        self.edit(options, update, |edited| plans::to_wire(edited)).await
    }

    pub(super) async fn delete_plan(
        &self,
        request: pb::DeleteUsagePlanRequest,
    ) -> Result<(), Status> {
        let how = How {
            method: "DeleteUsagePlan",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        self.edit(
            options,
            move |draft| draft.delete_plan(&request.id, &request.etag, request.force),
            |_| (),
        )
        .await
    }

    pub(super) async fn attach(
        &self,
        request: pb::AttachTargetRequest,
    ) -> Result<pb::UsagePlan, Status> {
        let how = How {
            method: "AttachTarget",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let attach = move |draft: &mut Draft| {
            draft.attach_target(&request.plan, &request.entitlement, &request.target, &request.etag)
        };
        self.edit(options, attach, |edited| plans::to_wire(edited)).await
    }

    pub(super) async fn detach(
        &self,
        request: pb::DetachTargetRequest,
    ) -> Result<pb::UsagePlan, Status> {
        let how = How {
            method: "DetachTarget",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let detach = move |draft: &mut Draft| {
            draft.detach_target(&request.plan, &request.target, &request.etag)
        };
        self.edit(options, detach, |edited| plans::to_wire(edited)).await
    }
}
