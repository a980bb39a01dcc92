//! Compiles `proto/` without `protoc`.

use std::collections::HashMap;
use std::path::PathBuf;
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

/// What the generated services read and write messages with.
const CODEC: &str = "crate::grpc::codec::FittedCodec";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let described = protox::compile(
        ["proto/tollgate/v1/decision.proto", "proto/tollgate/v1/usage_plans.proto"],
        ["proto"],
    )?;
    fs::write(out.join("tollgate.v1.bin"), prost::Message::encode_to_vec(&described))?;
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
    Ok(())
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
