mod cases;
mod edges;
mod leases;
mod model;
mod threads;
mod world;
