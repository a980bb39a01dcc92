//! Under Envoy Gateway: the container that it deploys, the rules that it sends, and an Envoy in the
//! shape that it generates.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Ratelimit;
use crate::envoy::Envoy;
use crate::http::{self, get};
use crate::patience::until;
use crate::upstream::Upstream;
use crate::xds::ask::{Asked, Entries, ask_at, metric_at};
use crate::xds::management::{Management, resource};
use crate::xds::trusted::{Authority, Files};

/// The container of its rate limit deployment, with certificates from here and this address of the
/// gateway. Everything else is as it deploys it.
fn deployed(files: &Files, server: &str) -> Ratelimit {
    fs::set_permissions(files.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        fs::set_permissions(files.path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let path = |name: &str| files.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    Ratelimit::start(
        &[],
        &[
            ("RUNTIME_ROOT", "/data"),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_IGNOREDOTFILES", "true"),
            ("RUNTIME_WATCH_ROOT", "false"),
            ("LOG_LEVEL", "info"),
            ("USE_STATSD", "false"),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", server),
            ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &cert),
            ("GRPC_SERVER_TLS_KEY", &key),
            ("GRPC_SERVER_TLS_CA_CERT", &ca),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &cert),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", "redis.redis-system.svc.cluster.local:6379"),
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", ":0"),
            ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
        ],
    )
}

/// Rules for two routes of one listener: one of everybody, by CIDR, and one by cost.
const RULES: &str = r#"
name: default/gateway/http
domain: default/gateway/http
descriptors:
  - key: httproute/default/limited/rule/0/match/0/*
    value: httproute/default/limited/rule/0/match/0/*
    descriptors:
      - {key: masked_remote_address, value: 0.0.0.0/0, rate_limit: {unit: HOUR, requests_per_unit: 3}}
  - key: httproute/default/costly/rule/0/match/0/*
    value: httproute/default/costly/rule/0/match/0/*
    descriptors:
      - {key: rule-0-match-0, rate_limit: {unit: HOUR, requests_per_unit: 10}}
"#;

/// What it generates for them: one filter of the domain, limits by route, TLS with a client's
/// certificate. A request of the second route costs nothing when it comes, and 4 when it is done.
fn generated(files: &Files, ratelimit: u16, upstream: u16) -> String {
    let path = |name: &str| files.path(name).display().to_string();
    let (ca, cert, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    let limited = "httproute/default/limited/rule/0/match/0/*";
    let costly = "httproute/default/costly/rule/0/match/0/*";
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: http
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          http_filters:
          - name: envoy.filters.http.ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: default/gateway/http
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              failure_mode_deny: true
              timeout: 20s
              rate_limit_service:
                transport_api_version: V3
                grpc_service: {{envoy_grpc: {{cluster_name: ratelimit_cluster}}}}
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /limited}}
                route: {{cluster: upstream}}
                typed_per_filter_config:
                  envoy.filters.http.ratelimit:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute
                    rate_limits:
                    - actions:
                      - generic_key: {{descriptor_key: "{limited}", descriptor_value: "{limited}"}}
                      - masked_remote_address: {{v4_prefix_mask_len: 0}}
              - match: {{prefix: /costly}}
                route: {{cluster: upstream}}
                typed_per_filter_config:
                  envoy.filters.http.ratelimit:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute
                    rate_limits:
                    - hits_addend: {{number: 0}}
                      actions:
                      - generic_key: {{descriptor_key: "{costly}", descriptor_value: "{costly}"}}
                      - request_headers: {{header_name: x-user-id, descriptor_key: rule-0-match-0}}
                    - hits_addend: {{number: 4}}
                      apply_on_stream_done: true
                      actions:
                      - generic_key: {{descriptor_key: "{costly}", descriptor_value: "{costly}"}}
                      - request_headers: {{header_name: x-user-id, descriptor_key: rule-0-match-0}}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment: {{cluster_name: upstream, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]}}
  - name: ratelimit_cluster
    type: STRICT_DNS
    load_assignment: {{cluster_name: ratelimit_cluster, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: localhost, port_value: {ratelimit}}}}}}}}}]}}]}}
    dns_lookup_family: V4_PREFERRED
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{initial_connection_window_size: 1048576, initial_stream_window_size: 65536}}}}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_params: {{tls_maximum_protocol_version: TLSv1_3}}
          tls_certificates:
          - certificate_chain: {{filename: {cert}}}
            private_key: {{filename: {key}}}
          validation_context: {{trusted_ca: {{filename: {ca}}}}}
"#
    )
}

#[test]
fn the_container_that_it_deploys_limits_an_envoy_in_its_shape() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let server = Management::start_with(Some(authority.serves(&["localhost"])));
    server.set("1", vec![resource(RULES)]);
    let tollgate = deployed(&files, &format!("localhost:{}", server.addr().port()));
    assert_eq!(server.acked("1").node.unwrap().id, "envoy-ratelimit");
    until("health", || (get("/healthcheck").status(tollgate.http) == 200).then_some(()));

    let upstream = Upstream::start();
    let config = generated(&files, tollgate.grpc.port(), upstream.addr().port());
    let envoy = Envoy::start(&config);
    let listener = envoy.listener("http");
    for left in [2, 1, 0] {
        let passed = http::get("/limited").send(listener).unwrap();
        assert_eq!(passed.status, 200, "{passed:?}");
        assert_eq!(passed.header("x-ratelimit-limit"), Some("3, 3;w=3600"));
        assert_eq!(passed.header("x-ratelimit-remaining"), Some(left.to_string().as_str()));
    }
    let refused = http::get("/limited").send(listener).unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-ratelimit-limit"), Some("3, 3;w=3600"));

    // The labels that its own test of CIDRs asks for, at the port that is scraped.
    let series = r#"ratelimit_service_rate_limit_over_limit{domain="default/gateway/http",key1="httproute/default/limited/rule/0/match/0/*_httproute/default/limited/rule/0/match/0/*",key2="masked_remote_address_0_0_0_0/0"} 1"#;
    let metrics = tollgate.metrics.unwrap();
    until("the labels", || {
        get("/metrics").send(metrics).unwrap().text().contains(series).then_some(())
    });
    let debug = tollgate.debug.unwrap();
    let shown = get("/rlconfig").send(debug).unwrap().text();
    assert!(
        shown.contains(".masked_remote_address_0.0.0.0/0: unit=HOUR requests_per_unit=3"),
        "{shown}"
    );

    // A cost that is known when the response is done: 4 of 10, and asked for with none.
    let costly = || http::get("/costly").header("x-user-id", "a").status(listener);
    let mut passed = 0;
    while costly() == 200 {
        passed += 1;
        let spent = f64::from(passed * 4);
        until("the cost", || {
            let page = get("/metrics").send(metrics).unwrap().text();
            let hits = page.lines().find_map(|line| {
                line.strip_prefix("ratelimit_service_rate_limit_total_hits{")
                    .filter(|rest| rest.contains("rule-0-match-0"))?
                    .rsplit_once(' ')?
                    .1
                    .parse::<f64>()
                    .ok()
            });
            (hits == Some(spent)).then_some(())
        });
    }
    assert_eq!(passed, 3, "12 of 10 are spent by the third");
    assert_eq!(http::get("/costly").header("x-user-id", "b").status(listener), 200);
}

#[test]
fn away_from_its_gateway_the_container_is_ready_after_a_while_and_serves_what_comes() {
    let files = Files::new(&Authority::new());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tollgate = deployed(&files, &nobody.to_string());
    let health = || get("/healthcheck").send(tollgate.http).unwrap();
    assert_eq!(health().status, 500, "a new pod waits for its rules");
    until("the end of the wait", || (health().status == 200).then_some(()));
    assert!(health().text().starts_with("DEGRADED\nno rules come"), "{}", health().text());
    let entries: Entries<'_> = &[("a", "b")];
    assert_eq!(ask_at(tollgate.http, "a", &[entries], None).0, Asked::Failed);
    assert_eq!(metric_at(tollgate.metrics.unwrap(), "tollgate_xds_connected"), Some(0.0));
}
