//! Targets.

use tonic::Status;

use super::{How, UsagePlans, needed, total_size};
use crate::catalog::{Catalog, Draft};
use crate::grpc::convert::targets;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;

impl UsagePlans {
    pub(super) async fn create_one_target(
        &self,
        request: pb::CreateTargetRequest,
    ) -> Result<pb::Target, Status> {
        let how = How {
            method: "CreateTarget",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let target = targets::target(needed("target", request.target)?).map_err(invalid)?;
        self.edit(
            options,
            move |draft| draft.create_target(target),
            |edited| targets::to_wire(edited),
        )
        .await
    }

    pub(super) fn get_one_target(&self, id: &str) -> Result<pb::Target, Status> {
        let catalog = self.edits.catalog();
        let found = catalog.targets().find(id)?;
        Ok(targets::to_wire(found))
    }

    pub(super) async fn list_some_targets(
        &self,
        request: pb::ListTargetsRequest,
    ) -> Result<pb::ListTargetsResponse, Status> {
        let page = self.edits.list(request.into(), Catalog::list_targets).await?;
        Ok(pb::ListTargetsResponse {
            targets: page.items.iter().map(|target| targets::to_wire(target)).collect(),
            next_page_token: page.next_page_token,
            total_size: total_size(page.total),
        })
    }

    pub(super) async fn update_one_target(
        &self,
        request: pb::UpdateTargetRequest,
    ) -> Result<pb::Target, Status> {
        let how = How {
            method: "UpdateTarget",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let wire = needed("target", request.target)?;
        let update = move |draft: &mut Draft| {
            let current = draft.target(&wire.id, &wire.etag)?;
            draft.replace_target(targets::updated(&current, wire, request.update_mask)?)
        };
        self.edit(options, update, |edited| targets::to_wire(edited)).await
    }

    pub(super) async fn delete_one_target(
        &self,
        request: pb::DeleteTargetRequest,
    ) -> Result<(), Status> {
        let how = How {
            method: "DeleteTarget",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        self.edit(
            options,
            move |draft| draft.delete_target(&request.id, &request.etag, request.force),
            |_| (),
        )
        .await
    }
}
