//! The pure core: no clock, no I/O, no async, no lock, no protobuf, no log. Time is an argument.

pub mod gcra;
pub mod invalid;
pub mod plan;
pub mod time;
