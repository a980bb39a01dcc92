//! Compiles `proto/` without `protoc`, and takes the descriptors of Envoy's services from the crate
//! `envoy-types` for reflection and JSON.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error, fs};

use tonic_prost_build::FileDescriptorSet;
use tonic_prost_build::manual;

/// Fields whose bytes a caller controls. The contract says `string`, and so do the descriptors that
/// reflection shows; the code that we run decodes them as bytes, because a byte that is not UTF-8
/// must never turn into an RPC error (gateways fail open on those).
const CALLER_CONTROLLED: &[(&str, &[&str])] = &[
    ("CheckRequest", &["api_key", "method", "path", "operation_id"]),
    ("CheckBatch", &["api_keys", "methods", "paths", "operation_ids"]),
    ("Outcome", &["receipt", "operation_id"]),
    ("Caller", &["api_key", "target"]),
];

/// The Envoy services that are served, by the file that declares them.
const ENVOY_FILES: &[&str] =
    &["envoy/service/ratelimit/v3/rls.proto", "envoy/service/auth/v3/external_auth.proto"];

/// What the generated services read and write messages with.
const CODEC: &str = "crate::grpc::codec::FittedCodec";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=Cargo.lock");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let described = protox::compile(
        ["proto/tollgate/v1/decision.proto", "proto/tollgate/v1/usage_plans.proto"],
        ["proto"],
    )?;
    fs::write(out.join("tollgate.v1.bin"), encode(&described))?;
    let mut served = described;
    decode_as_bytes(&mut served);
    // Ordered maps: equal messages encode alike, which tells a retry from another request.
    tonic_prost_build::configure()
        .codec_path(CODEC)
        .bytes(".")
        .btree_map(".")
        .compile_fds(served)?;

    manual::Builder::new().compile(&[manual::Service::builder()
        .name("RateLimitService")
        .package("envoy.service.ratelimit.v3")
        .comment("Envoy's global rate limit service, over messages that decode any bytes.")
        .method(
            manual::Method::builder()
                .name("should_rate_limit")
                .route_name("ShouldRateLimit")
                .input_type("crate::grpc::wire::RateLimitRequest")
                .output_type("crate::grpc::wire::RateLimitResponse")
                .codec_path(CODEC)
                .build(),
        )
        .build()]);

    fs::write(out.join("envoy.bin"), encode(&envoy_descriptors()?))?;
    Ok(())
}

fn encode(set: &FileDescriptorSet) -> Vec<u8> {
    prost::Message::encode_to_vec(set)
}

fn decode_as_bytes(set: &mut FileDescriptorSet) {
    use prost_types::field_descriptor_proto::Type;
    let wanted: HashMap<&str, &[&str]> = CALLER_CONTROLLED.iter().copied().collect();
    let mut left: usize = wanted.values().map(|fields| fields.len()).sum();
    let mut messages: Vec<_> = set
        .file
        .iter_mut()
        .filter(|file| file.package() == "tollgate.v1")
        .flat_map(|file| file.message_type.iter_mut())
        .collect();
    while let Some(message) = messages.pop() {
        let fields = wanted.get(message.name()).copied().unwrap_or_default();
        for field in &mut message.field {
            if fields.contains(&field.name()) {
                field.set_type(Type::Bytes);
                left -= 1;
            }
        }
        messages.extend(message.nested_type.iter_mut());
    }
    assert_eq!(left, 0, "CALLER_CONTROLLED names a field that proto/ does not have");
}

/// The files of [`ENVOY_FILES`] and all that they import, out of the descriptor set that
/// `envoy-types` was generated from.
fn envoy_descriptors() -> Result<FileDescriptorSet, Box<dyn error::Error>> {
    let path = package_dir("envoy-types")?.join("src/generated/types.bin");
    let all: FileDescriptorSet = prost::Message::decode(fs::read(&path)?.as_slice())?;
    let by_name: HashMap<String, _> =
        all.file.into_iter().map(|file| (file.name().to_owned(), file)).collect();
    let mut wanted: Vec<String> = ENVOY_FILES.iter().map(|&name| name.to_owned()).collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut file = Vec::new();
    while let Some(name) = wanted.pop() {
        if seen.insert(name.clone()) {
            let found = by_name
                .get(&name)
                .ok_or_else(|| format!("{} does not hold {name}", path.display()))?;
            wanted.extend(found.dependency.iter().cloned());
            file.push(found.clone());
        }
    }
    Ok(FileDescriptorSet { file })
}

/// Where cargo keeps the sources of a dependency.
///
/// Asked of a package that depends on nothing else: all of that is there by now. Of this package
/// there may be parts that are not, such as what only tests or other platforms need, and a build
/// must not fetch anything.
fn package_dir(name: &str) -> Result<PathBuf, Box<dyn error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let asking = PathBuf::from(env::var("OUT_DIR")?).join("locate");
    fs::create_dir_all(asking.join("src"))?;
    fs::write(asking.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"locate\"\nedition = \"2024\"\n[dependencies]\n{name} = \"*\"\n[workspace]\n"
    );
    fs::write(asking.join("Cargo.toml"), manifest)?;
    // The version is the one that is built.
    fs::copy(root.join("Cargo.lock"), asking.join("Cargo.lock"))?;
    let output = Command::new(env::var("CARGO")?)
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--filter-platform",
            &env::var("TARGET")?,
            "--manifest-path",
        ])
        .arg(asking.join("Cargo.toml"))
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .ok_or("cargo metadata names no packages")?;
    let manifest = packages
        .iter()
        .find(|package| package.get("name").is_some_and(|found| found == name))
        .and_then(|package| package.get("manifest_path")?.as_str())
        .ok_or_else(|| format!("{name} is not a dependency"))?;
    Ok(Path::new(manifest).parent().ok_or("a manifest without a folder")?.to_owned())
}
