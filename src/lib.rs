//! tollgate: may this caller make this call now?

pub mod catalog;
pub mod decide;
pub mod grpc;
