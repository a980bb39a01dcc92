#![no_main]

#[path = "../../tests/it/proofs/simulation.rs"]
#[allow(dead_code)]
mod simulation;
#[path = "../../tests/it/proofs/targets.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::check_request(data));
