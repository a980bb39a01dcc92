//! The pure core: no clock, no I/O, no async, no lock, no protobuf, no log. Time is an argument.

pub mod calendar;
pub mod compiled;
pub mod few;
pub mod gcra;
pub mod invalid;
pub mod ledger;
pub mod lookup;
pub mod method;
pub mod outcome;
pub mod path;
pub mod plan;
pub mod quota;
pub mod rare;
pub mod resolve;
pub mod time;
pub mod verdict;
