//! What tollgate does, whoever asks: engine, catalog and ledger meet here. A door translates what it
//! is asked into these words, and the answer back.

pub mod audit;
pub mod catalog_storage;
pub mod decisions;
pub mod durable_rules;
pub mod edits;
pub mod error;
pub mod grant;
pub mod grants;
pub mod lease_broker;
mod operation_ids;
pub mod patience;
pub mod plan_files;
#[cfg(test)]
mod protocol;
pub mod rate_limits;
mod restore;
pub mod stored;
pub mod usage;
pub mod windows;
mod write_behind;
