mod cases;
mod edges;
mod model;
mod threads;
mod world;
