mod cases;
mod desk;
mod edges;
pub(in crate::engine) mod leases;
pub(super) mod memory;
mod model;
#[cfg(feature = "schedules")]
mod schedules;
mod slots;
mod threads;
mod world;
