//! The keyed state in memory. Synchronous; takes `now`; bounded.

pub mod durable_rules;
mod filed;
pub mod leases;
pub mod plans;
pub mod rules;
mod sync;
mod table;
