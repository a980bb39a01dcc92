//! How what the service keeps in the ledger is written down.

use std::fmt;

use super::grant::GrantAnswer;
use crate::catalog::{Catalog, Kind, Stored};
use crate::decide::plan::{ApiKey, Plan, Subscriber, Target};
use crate::decide::verdict::Decision;

/// Writes what is kept, and reads it again. The bytes are messages of `tollgate.v1`. Whoever speaks
/// these has the mapping already, and gives it at the start (`grpc::stored`): a second one here
/// would drift from it, and the service would know the wire. Version bytes and secrets stand
/// outside the messages, and are the service's own.
pub trait StoredForms: fmt::Debug + Send + Sync {
    /// A resource as it is now, of an API key without its hash. `None`: it is not there.
    fn write_resource(&self, catalog: &Catalog, kind: Kind, id: &str) -> Option<Vec<u8>>;

    /// # Errors
    /// Why it cannot be read.
    fn read_resource(&self, kind: Kind, written: &[u8]) -> Result<Resource, String>;

    /// An admission. What only a refusal has is left out.
    fn write_admission(&self, decision: &Decision<'_>) -> Vec<u8>;

    /// `None`: nothing that [`Self::write_admission`] has written.
    fn read_admission(&self, written: &[u8]) -> Option<Decision<'static>>;

    /// The answer to a grant.
    fn write_grant(&self, answer: &GrantAnswer) -> Vec<u8>;

    /// `None`: nothing that [`Self::write_grant`] has written.
    fn read_grant(&self, written: &[u8]) -> Option<GrantAnswer>;
}

/// A resource that was read.
#[derive(Clone, Debug)]
pub enum Resource {
    Target(Stored<Target>),
    Plan(Stored<Plan>),
    Subscriber(Stored<Subscriber>),
    Key(Stored<ApiKey>),
}
