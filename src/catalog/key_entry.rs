//! An API key as the catalog holds it.

use super::secret::ValueHash;
use crate::decide::plan::ApiKey;

/// An API key and the keyed hash of its value.
// In this order what a decision reads is together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct KeyEntry {
    pub key: ApiKey,
    pub hash: ValueHash,
}
