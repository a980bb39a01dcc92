//! The manifests of `examples/drop-in`: each Deployment is started as it stands, and its rules are
//! asked as that gateway asks them.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use super::{Ratelimit, mounted};
use crate::http::get;
use crate::xds::ask::{Asked, Entries, ask_at};
use crate::xds::management::{Management, resource};

/// The documents of a manifest.
fn documents(name: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/drop-in").join(name);
    let text = fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n");
    documents.map(|text| tollgate::yaml::parse(text).unwrap().root.to_json().unwrap()).collect()
}

fn of_kind<'d>(documents: &'d [Json], kind: &str) -> &'d Json {
    documents.iter().find(|document| document["kind"] == kind).unwrap()
}

/// The environment of the container, and its arguments.
fn container(documents: &[Json]) -> (Vec<(String, String)>, Vec<String>) {
    let container = &of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], serde_json::json!(["/bin/ratelimit"]));
    assert_eq!(container["securityContext"]["runAsUser"], 65_534);
    let env = container["env"].as_array().unwrap().iter().map(|entry| {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        (text("name"), text("value"))
    });
    let args = container["args"].as_array().into_iter().flatten();
    (env.collect(), args.map(|arg| arg.as_str().unwrap().to_owned()).collect())
}

fn start(documents: &[Json], replaced: &[(&str, &str)]) -> Ratelimit {
    let (mut env, args) = container(documents);
    for (name, value) in replaced {
        let entry = env.iter_mut().find(|(known, _)| known == name).unwrap();
        (*value).clone_into(&mut entry.1);
    }
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    Ratelimit::start(&args, &env)
}

/// How many of these pass in a minute, up to 20.
fn passes(tollgate: &Ratelimit, domain: &str, entries: Entries<'_>) -> usize {
    let mut all = 0..20;
    all.position(|_| ask_at(tollgate.http, domain, &[entries], None).0 == Asked::Over).unwrap_or(20)
}

#[test]
fn each_manifest_gives_the_limits_that_it_says() {
    type Case<'c> = (&'c str, &'c [(Entries<'c>, usize)]);
    let cases: [Case<'_>; 4] = [
        (
            "istio.yaml",
            &[
                (&[("PATH", "/productpage")], 1),
                (&[("PATH", "/other")], 20),
                (&[("METHOD", "GET")], 20),
            ],
        ),
        (
            "contour.yaml",
            &[
                (&[("generic_key", "search")], 2),
                (&[("generic_key", "other")], 20),
                (&[("remote_address", "10.0.0.1")], 3),
                (&[("remote_address", "10.0.0.2")], 3),
            ],
        ),
        (
            "emissary.yaml",
            &[
                (&[("generic_key", "backend"), ("x-user", "a")], 3),
                (&[("generic_key", "backend"), ("x-user", "b")], 3),
                (&[("generic_key", "other"), ("x-user", "a")], 20),
            ],
        ),
        (
            "kgateway.yaml",
            &[
                (&[("X-User-ID", "a")], 3),
                (&[("service", "premium-api")], 2),
                (&[("service", "other")], 20),
            ],
        ),
    ];
    for (name, limits) in cases {
        let documents = documents(name);
        let rules = of_kind(&documents, "ConfigMap")["data"]["config.yaml"].as_str().unwrap();
        // Nothing here counts past the end of a minute.
        let root = mounted(&rules.replace("unit: minute", "unit: year"));
        let tollgate = start(&documents, &[("RUNTIME_ROOT", root.path().to_str().unwrap())]);
        assert_eq!(get("/healthcheck").send(tollgate.http).unwrap().text(), "OK", "{name}");
        let domain = rules.lines().find_map(|line| line.strip_prefix("domain: ")).unwrap();
        for (entries, limit) in limits {
            assert_eq!(passes(&tollgate, domain, entries), *limit, "{name}: {entries:?}");
        }
        // The gateway asks for the domain that the rules have.
        let domains = serde_json::to_string(&documents).unwrap().matches(domain).count();
        assert!(domains > 1 || name == "istio.yaml", "{name}: nobody asks for {domain}");
    }
}

#[test]
fn the_controller_of_quotas_is_asked_as_it_expects() {
    let server = Management::start();
    server.set("1", vec![resource(
        "{domain: ai-gateway-quota, descriptors: [{key: backend_name, value: ns/b, descriptors: [{key: model_name_override, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 2}}]}]}",
    )]);
    let documents = documents("ai-gateway.yaml");
    assert_eq!(of_kind(&documents, "Service")["metadata"]["name"], "envoy-ai-gateway-ratelimit");
    let tollgate = start(&documents, &[("CONFIG_GRPC_XDS_SERVER_URL", &server.target())]);
    let first = server.acked("1");
    assert_eq!(first.node.unwrap().id, "envoy-ai-gateway-ratelimit");
    let entries: Entries<'_> = &[("backend_name", "ns/b"), ("model_name_override", "m")];
    assert_eq!(passes(&tollgate, "ai-gateway-quota", entries), 2);
}
