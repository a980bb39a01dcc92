//! The fuzz targets without a fuzzer: their seeds, what is near to them, and what proptest makes
//! up.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::targets::TARGETS;

/// Inputs of the tree: a file each.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|wrong| panic!("{}: {wrong}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A seed with some bytes overwritten, cut out or doubled; or any bytes at all.
fn near(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits =
        prop::collection::vec((0..4u8, any::<prop::sample::Index>(), any::<u8>(), 1..9usize), 0..6);
    let edited = (prop::sample::select(seeds), edits).prop_map(|(mut bytes, edits)| {
        for (kind, place, byte, many) in edits {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            let end = (place + many).min(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => drop(bytes.drain(place..end)),
                2 => bytes.splice(place..place, bytes[place..end].to_vec()).for_each(drop),
                _ => bytes.insert(place, byte),
            }
        }
        bytes
    });
    prop_oneof![9 => edited, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

fn inputs() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

#[test]
fn no_input_breaks_a_target() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| target(seed));
        let mut runner = TestRunner::new(Config {
            cases: inputs(),
            failure_persistence: None,
            ..Config::default()
        });
        let run = runner.run(&near(seeds), |input| {
            target(&input);
            Ok(())
        });
        run.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    }
}
