//! The keyed state in memory. Synchronous; takes `now`; bounded.

pub mod plans;
pub mod rules;
mod sync;
mod table;
