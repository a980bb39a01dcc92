//! `proto/envoy.bin` is what the crate `envoy-types` was made from.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use prost_types::FileDescriptorSet;
use tollgate::grpc::ENVOY_DESCRIPTORS;

/// The Envoy services that are served, by the file that declares them.
const FILES: [&str; 2] =
    ["envoy/service/ratelimit/v3/rls.proto", "envoy/service/auth/v3/external_auth.proto"];

/// What a command prints.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where cargo keeps the sources of a dependency, in the version that is built.
fn package_dir(name: &str) -> PathBuf {
    let version = told(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = told(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--offline", "--locked"])
            // Of other platforms there may be parts that are not there.
            .args(["--filter-platform", host])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == name).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// [`FILES`] and all that they import, out of the descriptors that the crate comes with.
fn of_the_crate() -> Vec<u8> {
    let path = package_dir("envoy-types").join("src/generated/types.bin");
    let all = FileDescriptorSet::decode(fs::read(path).unwrap().as_slice()).unwrap();
    let by_name: HashMap<_, _> =
        all.file.into_iter().map(|file| (file.name().to_owned(), file)).collect();
    let mut wanted: Vec<String> = FILES.map(str::to_owned).to_vec();
    let mut seen = HashSet::new();
    let mut set = FileDescriptorSet::default();
    while let Some(name) = wanted.pop() {
        if seen.insert(name.clone()) {
            let found = &by_name[&name];
            wanted.extend(found.dependency.iter().cloned());
            set.file.push(found.clone());
        }
    }
    set.encode_to_vec()
}

#[test]
fn the_descriptors_of_envoy_are_those_of_the_crate_that_decodes_its_messages() {
    let right = of_the_crate();
    if std::env::var_os("UPDATE_DESCRIPTORS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/envoy.bin"), &right).unwrap();
    } else {
        assert!(
            ENVOY_DESCRIPTORS == right,
            "proto/envoy.bin is out of date: UPDATE_DESCRIPTORS=1 cargo test --test it envoy_descriptors"
        );
    }
}
