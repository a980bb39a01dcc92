//! Proofs that can fail: one simulated node against what really happened, and the inputs that a stranger chooses.
//!
//! `TOLLGATE_SIM_SEED=7 cargo test --test proofs` replays one simulation exactly; `TOLLGATE_SIM_ACTS` says how much happens in each.
//! The bodies of the fuzz targets are in `targets.rs`; `fuzz/` runs the same ones with coverage guidance.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]
#![allow(unreachable_pub)]

mod inputs;
mod simulated;
mod simulation;
mod targets;
