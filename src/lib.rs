//! tollgate: may this caller make this call now?
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decide;
pub mod engine;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod rulebook;
pub mod rules;
pub mod yaml;
