mod cases;
mod desk;
mod durable;
mod edges;
mod leases;
pub(super) mod memory;
mod model;
#[cfg(feature = "schedules")]
mod schedules;
mod slots;
mod threads;
mod world;
