//! The catalog as a ledger keeps it: resources that it does not read, and a revision.

use super::Once;
use crate::decide::plan::Id;

/// An edit of the catalog, if it is still of the revision that the edit was worked out on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEdit {
    /// The revision that the edit changes. 0 is the empty catalog of a new ledger.
    pub expected: u64,
    /// The revision that it makes; greater than `expected` where there are changes.
    pub revision: u64,
    pub changes: Vec<CatalogChange>,
    /// Where it has a name. One that was made before is a conflict: [`super::Ledger::find_made`]
    /// has its answer.
    pub once: Option<Once>,
}

/// A resource as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogChange {
    pub kind: u8,
    pub id: Id,
    /// What the catalog wrote. `None`: it is deleted.
    pub value: Option<Vec<u8>>,
}

/// The catalog is of another revision than the edit expected. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog is of revision {current}")]
pub struct RevisionConflict {
    pub current: u64,
}

/// The catalog as it was committed last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogImage {
    /// 0 where nothing was ever committed.
    pub revision: u64,
    /// In the order of kinds and ids.
    pub resources: Vec<CatalogResource>,
    /// Kinds and ids of resources that are there and cannot be read. The id may be damaged itself.
    pub damaged: Vec<(u8, Id)>,
}

/// A resource as the catalog wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogResource {
    pub kind: u8,
    pub id: Id,
    pub value: Vec<u8>,
}
