//! Protobuf and unary calls by hand, for the busiest calls. What other calls say goes through prost
//! and tonic whole.
//!
//! `cargo bench --bench codec` measures both ways of reading and writing a check.

pub mod answer;
pub mod batch;
pub(super) mod protobuf;
pub mod request;
pub(super) mod unary;
