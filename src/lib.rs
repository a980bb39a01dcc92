//! tollgate: may this caller make this call now?

pub mod decide;
pub mod engine;
pub mod grpc;
