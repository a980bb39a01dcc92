mod cases;
mod desk;
mod durable;
mod edges;
mod leases;
mod model;
mod threads;
mod world;
