mod cases;
mod desk;
mod edges;
mod leases;
mod model;
mod threads;
mod world;
