//! The fields that requests about any kind of resource have. Each method has a message of its own,
//! so that one of them can get a field more; who handles all kinds alike goes through these.

use crate::grpc::pb::tollgate as pb;
pub use crate::service::edits::ListRequest;

/// A resource to be deleted, of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    pub id: String,
    pub etag: String,
    pub force: bool,
    pub request_id: String,
    pub validate_only: bool,
}

/// A message of the wire that has the fields of a plain struct, and no others.
macro_rules! same_fields {
    ($wire:ident, $own:ident $fields:tt) => {
        impl From<pb::$wire> for $own {
            fn from(request: pb::$wire) -> Self {
                let pb::$wire $fields = request;
                Self $fields
            }
        }

        impl From<$own> for pb::$wire {
            fn from(request: $own) -> Self {
                let $own $fields = request;
                Self $fields
            }
        }
    };
}

same_fields!(ListUsagePlansRequest, ListRequest { page_size, page_token, filter, order_by });
same_fields!(ListTargetsRequest, ListRequest { page_size, page_token, filter, order_by });
same_fields!(ListSubscribersRequest, ListRequest { page_size, page_token, filter, order_by });
same_fields!(ListApiKeysRequest, ListRequest { page_size, page_token, filter, order_by });
same_fields!(DeleteUsagePlanRequest, DeleteRequest { id, etag, force, request_id, validate_only });
same_fields!(DeleteTargetRequest, DeleteRequest { id, etag, force, request_id, validate_only });
same_fields!(DeleteSubscriberRequest, DeleteRequest { id, etag, force, request_id, validate_only });
same_fields!(DeleteApiKeyRequest, DeleteRequest { id, etag, force, request_id, validate_only });
