//! The keyed state in memory. Synchronous; takes `now`; bounded.

pub mod rules;
mod table;
