//! What the tests, benches and fuzz targets of every part share. Nothing that is shipped uses it.
//!
//! - [`declared`]: plans, subscribers, keys and targets in a line, or as a declarative file.
//! - [`told_clock`]: a clock that stands still until a test moves it.
//! - [`answer`]: the answer to a check as prost writes it.
//! - [`at_once`]: an engine that asks its ledger in the thread of who asks: no thread, no waiting.
//! - [`started`]: catalog, engine, ledger's thread and lease broker, as a start puts them together.
//!
//! A ledger that fails is [`crate::ledger::faults`]. The real server, on port 0 and in a folder of
//! its own, is `tests/it/server.rs`.

// Whatever goes wrong in here is the test's failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod answer;
pub mod at_once;
pub mod declared;
pub mod plans;
pub mod started;
pub mod told_clock;
