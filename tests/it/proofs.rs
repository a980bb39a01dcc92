//! Proofs that can fail: one simulated node against what really happened, and the inputs that a
//! stranger chooses.
//!
//! `TOLLGATE_SIM_SEED=7 cargo test --test it proofs` replays one simulation exactly;
//! `TOLLGATE_SIM_ACTS` says how much happens in each. The bodies of the fuzz targets are in
//! `targets.rs`; `fuzz/` runs the same ones with coverage guidance.

mod inputs;
mod simulated;
mod simulation;
mod targets;
