//! Subscribers.

use tonic::Status;

use super::{How, UsagePlans, needed, total_size};
use crate::catalog::{Catalog, Draft};
use crate::grpc::convert::subscribers;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;

impl UsagePlans {
    pub(super) async fn create_one_subscriber(
        &self,
        request: pb::CreateSubscriberRequest,
    ) -> Result<pb::Subscriber, Status> {
        let how = How {
            method: "CreateSubscriber",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let subscriber =
            subscribers::subscriber(needed("subscriber", request.subscriber)?).map_err(invalid)?;
        self.edit(
            options,
            move |draft| draft.create_subscriber(subscriber),
            |edited| subscribers::to_wire(edited),
        )
        .await
    }

    pub(super) fn get_one_subscriber(&self, id: &str) -> Result<pb::Subscriber, Status> {
        let catalog = self.edits.catalog();
        let found = catalog.subscribers().find(id)?;
        Ok(subscribers::to_wire(found))
    }

    pub(super) async fn list_some_subscribers(
        &self,
        request: pb::ListSubscribersRequest,
    ) -> Result<pb::ListSubscribersResponse, Status> {
        let page = self.edits.list(request.into(), Catalog::list_subscribers).await?;
        Ok(pb::ListSubscribersResponse {
            subscribers: page
                .items
                .iter()
                .map(|subscriber| subscribers::to_wire(subscriber))
                .collect(),
            next_page_token: page.next_page_token,
            total_size: total_size(page.total),
        })
    }

    pub(super) async fn update_one_subscriber(
        &self,
        request: pb::UpdateSubscriberRequest,
    ) -> Result<pb::Subscriber, Status> {
        let how = How {
            method: "UpdateSubscriber",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let wire = needed("subscriber", request.subscriber)?;
        let update = move |draft: &mut Draft| {
            let current = draft.subscriber(&wire.id, &wire.etag)?;
            draft.replace_subscriber(subscribers::updated(&current, wire, request.update_mask)?)
        };
        self.edit(options, update, |edited| subscribers::to_wire(edited)).await
    }

    pub(super) async fn delete_one_subscriber(
        &self,
        request: pb::DeleteSubscriberRequest,
    ) -> Result<(), Status> {
        let how = How {
            method: "DeleteSubscriber",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        self.edit(
            options,
            move |draft| draft.delete_subscriber(&request.id, &request.etag, request.force),
            |_| (),
        )
        .await
    }
}
