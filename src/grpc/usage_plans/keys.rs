//! API keys.

use std::sync::{Arc, OnceLock};

use tonic::Status;

use super::{How, UsagePlans, needed, total_size};
use crate::catalog::{Catalog, Draft, NewValue};
use crate::grpc::convert::keys;
use crate::grpc::pb::tollgate as pb;
use crate::grpc::status::invalid;

impl UsagePlans {
    pub(super) async fn create_key(
        &self,
        request: pb::CreateApiKeyRequest,
    ) -> Result<pb::CreateApiKeyResponse, Status> {
        let how = How {
            method: "CreateApiKey",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let key = keys::new_api_key(needed("api_key", request.api_key)?).map_err(invalid)?;
        // The value leaves by this answer alone: what is remembered for a retry does not hold it.
        let value = Arc::new(OnceLock::new());
        let made = Arc::clone(&value);
        let create = move |draft: &mut Draft| {
            let (stored, value) = draft.create_key(key, NewValue::Made)?;
            // A draft is made once, so there is no other value.
            made.get_or_init(|| value);
            Ok(stored)
        };
        let key = self.edit(options, create, |edited| keys::to_wire(edited)).await?;
        let value = value.get().filter(|_| !request.validate_only).cloned().unwrap_or_default();
        Ok(pb::CreateApiKeyResponse { api_key: Some(key), value })
    }

    pub(super) async fn import_key(
        &self,
        request: pb::ImportApiKeyRequest,
    ) -> Result<pb::ApiKey, Status> {
        let how = How {
            method: "ImportApiKey",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let key = keys::new_api_key(needed("api_key", request.api_key)?).map_err(invalid)?;
        let import = move |draft: &mut Draft| {
            draft.create_key(key, NewValue::Given(&request.value)).map(|(stored, _)| stored)
        };
        self.edit(options, import, |edited| keys::to_wire(edited)).await
    }

    pub(super) fn get_key(&self, id: &str) -> Result<pb::ApiKey, Status> {
        let catalog = self.edits.catalog();
        let found = catalog.keys().find(id)?;
        Ok(keys::to_wire(found))
    }

    pub(super) async fn list_keys(
        &self,
        request: pb::ListApiKeysRequest,
    ) -> Result<pb::ListApiKeysResponse, Status> {
        let page = self.edits.list(request.into(), Catalog::list_keys).await?;
        Ok(pb::ListApiKeysResponse {
            api_keys: page.items.iter().map(|key| keys::to_wire(key)).collect(),
            next_page_token: page.next_page_token,
            total_size: total_size(page.total),
        })
    }

    pub(super) async fn update_key(
        &self,
        request: pb::UpdateApiKeyRequest,
    ) -> Result<pb::ApiKey, Status> {
        let how = How {
            method: "UpdateApiKey",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        let wire = needed("api_key", request.api_key)?;
        let update = move |draft: &mut Draft| {
            let current = draft.key(&wire.id, &wire.etag)?;
            draft.replace_key(keys::updated(&current, wire, request.update_mask)?)
        };
        self.edit(options, update, |edited| keys::to_wire(edited)).await
    }

    pub(super) async fn delete_key(&self, request: pb::DeleteApiKeyRequest) -> Result<(), Status> {
        let how = How {
            method: "DeleteApiKey",
            request_id: &request.request_id,
            validate_only: request.validate_only,
        };
        let options = Self::options(&how, &request)?;
        self.edit(options, move |draft| draft.delete_key(&request.id, &request.etag), |_| ()).await
    }
}
