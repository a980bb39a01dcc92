mod cases;
mod desk;
mod durable;
mod edges;
mod leases;
pub(super) mod memory;
mod model;
mod threads;
mod world;
