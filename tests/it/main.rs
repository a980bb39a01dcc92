//! The tests that look at tollgate from outside: its sources as layers, and the real binary behind
//! a real Envoy.
//!
//! One binary, so that it links once. The fixtures are [`process`], [`server`] (tollgate),
//! [`envoy`], [`upstream`] and [`http`] (the client).

// What is not inside a `#[test]` here is a fixture, and a fixture that cannot go on fails its test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]
// Nothing outside can reach into a test binary: `pub` only says what a fixture offers.
#![allow(unreachable_pub)]

mod abuse;
mod allocations;
mod cli;
mod console;
mod crash;
mod deploy;
mod drop_in;
mod durable;
mod durable_rules;
mod e2e_plans;
mod e2e_ratelimit;
mod e2e_tokens;
mod envoy;
mod http;
mod layers;
mod log;
mod made_files;
mod output;
mod papers;
mod patience;
mod plans;
mod postgres;
#[path = "../fixtures/postgres.rs"]
mod postgres_server;
mod process;
mod proofs;
mod ratelimit_service;
mod server;
mod slow_disk;
mod soak;
mod stable;
mod starts;
mod trust;
mod unix;
mod upstream;
mod usage;
mod wall;
mod windows;
mod wire;
mod xds;
