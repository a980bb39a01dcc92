use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::config::{Config, DataDir, Flags, SETTINGS, XdsServer, XdsTls};

fn resolve(env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment: Vec<_> =
        env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    Config::resolve_in(&Flags::default(), &environment).map_err(|mistakes| mistakes.0)
}

/// Every name of the reference's settings, of its newer versions too.
const ALL: &str = "HOST PORT DEBUG_HOST DEBUG_PORT GRPC_HOST GRPC_PORT GRPC_UDS GRPC_MAX_CONNECTION_AGE GRPC_MAX_CONNECTION_AGE_GRACE \
    GRPC_SERVER_USE_TLS GRPC_SERVER_TLS_CERT GRPC_SERVER_TLS_KEY GRPC_SERVER_TLS_CA_CERT GRPC_CLIENT_TLS_CACERT GRPC_CLIENT_TLS_SAN LOG_LEVEL \
    LOG_FORMAT CONFIG_TYPE FORCE_START_WITHOUT_INITIAL_CONFIG MERGE_DOMAIN_CONFIG RUNTIME_ROOT RUNTIME_SUBDIRECTORY RUNTIME_APPDIRECTORY \
    RUNTIME_IGNOREDOTFILES RUNTIME_WATCH_ROOT CONFIG_GRPC_XDS_NODE_ID CONFIG_GRPC_XDS_NODE_METADATA CONFIG_GRPC_XDS_SERVER_URL \
    CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS CONFIG_GRPC_XDS_SERVER_USE_TLS \
    CONFIG_GRPC_XDS_CLIENT_TLS_CERT CONFIG_GRPC_XDS_CLIENT_TLS_KEY CONFIG_GRPC_XDS_SERVER_TLS_CACERT CONFIG_GRPC_XDS_SERVER_TLS_SAN \
    XDS_CLIENT_BACKOFF_INITIAL_INTERVAL XDS_CLIENT_BACKOFF_MAX_INTERVAL XDS_CLIENT_BACKOFF_RANDOM_FACTOR XDS_CLIENT_BACKOFF_JITTER \
    XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES USE_STATSD STATSD_HOST STATSD_PORT STATSD_PROTOCOL USE_DOG_STATSD USE_DOG_STATSD_MOGRIFIERS \
    DOG_STATSD_MOGRIFIER_X_PATTERN EXTRA_TAGS STATS_FLUSH_INTERVAL DISABLE_STATS USE_PROMETHEUS PROMETHEUS_ADDR PROMETHEUS_PATH \
    PROMETHEUS_MAPPER_YAML PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS BACKEND_TYPE EXPIRATION_JITTER_MAX_SECONDS LOCAL_CACHE_SIZE_IN_BYTES \
    NEAR_LIMIT_RATIO CACHE_KEY_PREFIX STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT SHADOW_MODE QUOTA_MODE RESPONSE_DYNAMIC_METADATA \
    LIMIT_RESPONSE_HEADERS_ENABLED LIMIT_LIMIT_HEADER LIMIT_REMAINING_HEADER LIMIT_RESET_HEADER LIMIT_REQUEST_HEADERS_ENABLED \
    LIMIT_REQUEST_LIMIT_HEADER LIMIT_REQUEST_REMAINING_HEADER LIMIT_REQUEST_RESET_HEADER SANITIZE_DESCRIPTOR_METRIC_DOTS \
    USE_CALENDAR_MONTH_RATE_LIMIT ENABLE_NEGATIVE_HITS HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED REDIS_HEALTH_CHECK_ACTIVE_CONNECTION \
    REDIS_SOCKET_TYPE REDIS_TYPE REDIS_URL REDIS_POOL_SIZE REDIS_AUTH REDIS_SENTINEL_AUTH REDIS_TLS REDIS_PIPELINE_WINDOW REDIS_PIPELINE_LIMIT \
    REDIS_CLUSTER_PIPELINE_PARALLELISM REDIS_TIMEOUT REDIS_POOL_ON_EMPTY_BEHAVIOR REDIS_PERSECOND REDIS_PERSECOND_URL REDIS_TLS_CLIENT_CERT \
    REDIS_TLS_CLIENT_KEY REDIS_TLS_CACERT REDIS_TLS_SKIP_HOSTNAME_VERIFICATION REDIS_STARTUP_MAX_INTERVAL \
    REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR MEMCACHE_HOST_PORT MEMCACHE_SRV MEMCACHE_TLS TRACING_ENABLED TRACING_EXPORTER_PROTOCOL \
    TRACING_SERVICE_NAME TRACING_SAMPLING_RATE OTEL_EXPORTER_OTLP_ENDPOINT LOCAL_CACHE_INVALIDATION_RESUBSCRIBE_INTERVAL";

#[test]
fn every_name_of_the_reference_has_its_fate() {
    for name in ALL.split_whitespace() {
        assert!(of(name).is_some(), "{name}");
    }
    let mut names: Vec<_> = NAMES.iter().map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), NAMES.len());
}

#[test]
fn what_is_honoured_names_a_setting_that_there_is() {
    for known in
        NAMES.iter().filter(|known| known.fate == Fate::Honoured && known.name != "CONFIG_TYPE")
    {
        let key = known.why.split([',', ':', ';', ' ']).next().unwrap();
        assert!(SETTINGS.iter().any(|setting| setting.key == key), "{}: {key}", known.name);
    }
}

#[test]
fn what_means_nothing_is_told_by_name_and_what_is_off_is_not() {
    let told = resolve(&[
        ("REDIS_URL", "redis:6379"),
        ("USE_STATSD", "false"),
        ("LOCAL_CACHE_SIZE_IN_BYTES", "0"),
        ("BACKEND_TYPE", "redis"),
    ]);
    let told = told.unwrap().reference.without_meaning.unwrap();
    assert!(told.contains(": BACKEND_TYPE, REDIS_URL ("), "{told}");
    assert_eq!(
        resolve(&[("USE_STATSD", "false"), ("PATH", "/bin")]).unwrap().reference,
        Told::default()
    );
}

#[test]
fn what_cannot_be_had_ends_the_start() {
    for (name, value, said) in [
        ("CONFIG_TYPE", "NONSENSE", "must be FILE or GRPC_XDS_SOTW"),
        ("BACKEND_TYPE", "etcd", "must be redis or memcache"),
        ("REDIS_TYPE", "RING", "must be SINGLE or SENTINEL or CLUSTER"),
        ("USE_STATSD", "perhaps", "must be true or false"),
        ("RUNTIME_WATCH_ROOT", "no", "must be true or false"),
        ("USE_CALENDAR_MONTH_RATE_LIMIT", "true", "calendar: true"),
        ("LIMIT_REQUEST_HEADERS_ENABLED", "true", "LIMIT_RESPONSE_HEADERS_ENABLED"),
        ("LOG_LEVEL", "loud", "must be one of panic"),
        ("GRPC_MAX_CONNECTION_AGE", "4", "as Go writes it"),
        ("USE_PROMETHEUS", "perhaps", "must be true or false"),
        ("SHADOW_MODE", "perhaps", "must be true or false"),
    ] {
        let mistakes = resolve(&[(name, value)]).unwrap_err();
        assert!(
            mistakes.len() == 1 && mistakes[0].contains(name) && mistakes[0].contains(said),
            "{name}={value}: {mistakes:?}"
        );
    }
    assert!(
        resolve(&[
            ("CONFIG_TYPE", "FILE"),
            ("LIMIT_REQUEST_HEADERS_ENABLED", "false"),
            ("GRPC_UDS", "/run/x.sock")
        ])
        .is_ok()
    );
}

#[test]
fn addresses_are_joined_as_go_joins_them() {
    let loopback = [("GRPC_HOST", "127.0.0.1")];
    for (host, port, is) in [
        ("::", "8080", "[::]:8080"),
        ("::1", "8080", "[::1]:8080"),
        ("[::1]", "8080", "[::1]:8080"),
        ("0.0.0.0", "8080", "[::]:8080"),
        ("127.0.0.1", "8080", "127.0.0.1:8080"),
        ("localhost", "8080", "127.0.0.1:8080"),
    ] {
        let config = resolve(&[loopback[0], ("HOST", host), ("PORT", port)]).unwrap();
        assert_eq!(config.reach.http_addr, is.parse().unwrap(), "{host}");
    }
    let config = resolve(&[
        ("DEBUG_PORT", "6071"),
        ("USE_PROMETHEUS", "true"),
        ("PROMETHEUS_PATH", "/stats"),
    ])
    .unwrap();
    assert_eq!(config.reach.debug_addr, Some("127.0.0.1:6071".parse().unwrap()));
    assert_eq!(
        (config.reach.metrics_addr, config.reach.metrics_path.as_str()),
        (Some("[::]:9090".parse().unwrap()), "/stats")
    );
    let labels =
        |tags: &str| resolve(&[("EXTRA_TAGS", tags)]).map(|config| config.reach.metrics_labels);
    let pairs = crate::metrics::ExtraLabels::parse("foo:bar,a:b").unwrap();
    assert_eq!(labels("foo:bar,a:b"), Ok(pairs));
    let mistakes = labels("foo:bar:baz").unwrap_err();
    assert!(mistakes[0].starts_with("EXTRA_TAGS: metrics_labels must be pairs"), "{mistakes:?}");
    let mistakes = resolve(&[("HOST", "no such host"), ("PORT", "99999")]).unwrap_err();
    assert!(
        mistakes[0].starts_with("HOST and PORT: http_addr must be an address and a port"),
        "{mistakes:?}"
    );
}

#[test]
fn rules_are_where_the_reference_looks_for_them() {
    let rules = |env: &[(&str, &str)]| {
        let rules = resolve(env).unwrap().rules;
        (
            rules.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(","),
            rules.prefix,
        )
    };
    let is = |path: &str, prefix: &str| (path.to_owned(), prefix.to_owned());
    assert_eq!(rules(&[]), is("", ""));
    assert_eq!(rules(&[("RUNTIME_ROOT", "/data")]), is("/data", "config."));
    assert_eq!(
        rules(&[("RUNTIME_ROOT", "/data"), ("RUNTIME_SUBDIRECTORY", "/")]),
        is("/data", "config.")
    );
    assert_eq!(
        rules(&[("RUNTIME_ROOT", "/data"), ("RUNTIME_SUBDIRECTORY", "/ratelimit")]),
        is("/data/ratelimit", "config.")
    );
    assert_eq!(
        rules(&[("RUNTIME_ROOT", "/data"), ("RUNTIME_SUBDIRECTORY", "/elsewhere")]),
        is("/data/elsewhere", "config.")
    );
    assert_eq!(
        rules(&[("RUNTIME_SUBDIRECTORY", "ratelimit")]),
        is("/srv/runtime_data/current/ratelimit", "config.")
    );
    let whole =
        [("RUNTIME_ROOT", "/data"), ("RUNTIME_SUBDIRECTORY", "r"), ("RUNTIME_WATCH_ROOT", "false")];
    assert_eq!(rules(&whole), is("/data/r/config", ""));
    assert_eq!(
        rules(&[whole[0], whole[1], whole[2], ("RUNTIME_APPDIRECTORY", "/app")]),
        is("/data/r/app", "")
    );
}

#[test]
fn times_are_read_as_go_writes_them() {
    for (text, ms) in [
        ("24h", Some(86_400_000)),
        ("1h30m", Some(5_400_000)),
        ("1.5s", Some(1_500)),
        ("250ms", Some(250)),
        ("1us", Some(1)),
    ] {
        assert_eq!(go_duration_ms(text), ms, "{text}");
    }
    for text in ["", "4", "h", "1d", "-1s", "1 h"] {
        assert_eq!(go_duration_ms(text), None, "{text}");
    }
}

#[test]
fn a_name_of_clients_needs_an_authority() {
    let tls = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", "c"),
        ("GRPC_SERVER_TLS_KEY", "k"),
        ("GRPC_CLIENT_TLS_SAN", "envoy.internal"),
    ];
    assert!(resolve(&tls).unwrap_err()[0].contains("tls.client_san needs tls.client_ca"));
    let with = [tls[0], tls[1], tls[2], tls[3], ("GRPC_CLIENT_TLS_CACERT", "a")];
    assert_eq!(
        resolve(&with).unwrap().reach.tls.unwrap().client_san.as_deref(),
        Some("envoy.internal")
    );
}

fn as_ratelimit(env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment: Vec<_> =
        env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    let flags = Flags { as_ratelimit: true, ..Flags::default() };
    Config::resolve_in(&flags, &environment).map_err(|mistakes| mistakes.0)
}

#[test]
fn in_its_place_ports_and_defaults_are_those_of_the_reference() {
    let config = as_ratelimit(&[]).unwrap();
    let reach = &config.reach;
    assert_eq!(reach.grpc_addr, "[::]:8081".parse().unwrap());
    assert_eq!(reach.http_addr, "[::]:8080".parse().unwrap());
    assert_eq!(reach.debug_addr, Some("[::]:6070".parse().unwrap()));
    assert_eq!(reach.admin_grpc_addr, Some("127.0.0.1:8082".parse().unwrap()));
    assert_eq!(config.data_dir, DataDir::Memory);
    assert_eq!(config.grpc_server.max_connection_age, Some(Duration::from_secs(24 * 3600)));
    assert_eq!((config.xds, reach.metrics_addr), (None, None));

    // A port alone is a port of all addresses, as there.
    let config = as_ratelimit(&[("PORT", "9080"), ("DEBUG_HOST", "127.0.0.1")]).unwrap();
    assert_eq!(config.reach.http_addr, "[::]:9080".parse().unwrap());
    assert_eq!(config.reach.debug_addr, Some("127.0.0.1:6070".parse().unwrap()));
    // What tollgate's own names say is meant.
    let kept = as_ratelimit(&[("TOLLGATE_DATA_DIR", "/data"), ("TOLLGATE_DEBUG_ADDR", "")]);
    let kept = kept.unwrap();
    assert_eq!((kept.data_dir, kept.reach.debug_addr), (DataDir::Path("/data".into()), None));
    // By its own name, tollgate keeps its own defaults.
    let own = resolve(&[("PORT", "9080")]).unwrap();
    assert_eq!(own.reach.http_addr, "127.0.0.1:9080".parse().unwrap());
    assert_eq!(own.reach.debug_addr, None);
}

/// As Envoy Gateway deploys it.
const ENVOY_GATEWAY: &[(&str, &str)] = &[
    ("RUNTIME_ROOT", "/data"),
    ("RUNTIME_SUBDIRECTORY", "ratelimit"),
    ("RUNTIME_IGNOREDOTFILES", "true"),
    ("RUNTIME_WATCH_ROOT", "false"),
    ("LOG_LEVEL", "info"),
    ("USE_STATSD", "false"),
    ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
    ("CONFIG_GRPC_XDS_SERVER_URL", "envoy-gateway:18001"),
    ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
    ("GRPC_SERVER_USE_TLS", "true"),
    ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt"),
    ("GRPC_SERVER_TLS_KEY", "/certs/tls.key"),
    ("GRPC_SERVER_TLS_CA_CERT", "/certs/ca.crt"),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/certs/tls.crt"),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/certs/tls.key"),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/certs/ca.crt"),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
    ("REDIS_SOCKET_TYPE", "tcp"),
    ("REDIS_URL", "redis.default:6379"),
    ("USE_PROMETHEUS", "true"),
    ("PROMETHEUS_ADDR", ":19001"),
    ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
];

#[test]
fn the_environment_of_envoy_gateway_means_what_it_means_there() {
    let config = as_ratelimit(ENVOY_GATEWAY).unwrap();
    let xds = config.xds.unwrap();
    assert_eq!(xds.server, XdsServer::Tcp { host: "envoy-gateway".to_owned(), port: 18001 });
    assert_eq!((xds.node_id.as_str(), xds.starts_without_rules), ("envoy-ratelimit", true));
    let identity = Some(("/certs/tls.crt".into(), "/certs/tls.key".into()));
    let tls = XdsTls { ca: Some("/certs/ca.crt".into()), identity, server_name: None };
    assert_eq!(xds.tls, Some(tls));
    assert!(config.rules.paths.is_empty(), "RUNTIME_ROOT means nothing then");
    let reach = config.reach;
    assert_eq!(reach.metrics_addr, Some("[::]:19001".parse().unwrap()));
    assert_eq!(reach.http_addr.port(), 8080);
    let tls = reach.tls.unwrap();
    assert_eq!((tls.cert, tls.client_ca), ("/certs/tls.crt".into(), None));
    let told = config.reference;
    let idle = told.without_meaning.unwrap();
    for name in ["GRPC_SERVER_TLS_CA_CERT", "PROMETHEUS_MAPPER_YAML", "REDIS_URL"] {
        assert!(idle.contains(name), "{idle}");
    }
    let honoured = told.honoured.unwrap();
    assert!(honoured.contains("CONFIG_GRPC_XDS_SERVER_URL (xds.server)"), "{honoured}");
}

#[test]
fn rules_over_xds_have_the_names_of_the_reference() {
    let on = ("CONFIG_TYPE", "GRPC_XDS_SOTW");
    let xds = |more: &[(&str, &str)]| resolve(&[&[on], more].concat()).map(|it| it.xds.unwrap());
    let plain = xds(&[("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/ca")]).unwrap();
    assert_eq!(plain.server.to_string(), "localhost:18000");
    assert_eq!((plain.tls, plain.starts_without_rules), (None, false));
    assert_eq!((plain.node_id.as_str(), plain.max_message_bytes), ("default", 64 << 20));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let full = xds(&[
        ("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a,rack=7"),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "x-a:b,x-c:d"),
        ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "1048576"),
        ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "30s"),
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds.internal"),
    ]);
    let full = full.unwrap();
    assert_eq!(full.node_metadata, [pair("zone", "a"), pair("rack", "7")]);
    assert_eq!(full.headers, [pair("x-a", "b"), pair("x-c", "d")]);
    assert_eq!((full.max_message_bytes, full.max_backoff.as_secs()), (1 << 20, 30));
    assert_eq!(full.tls.unwrap().server_name.as_deref(), Some("xds.internal"));
    for (name, value, said) in [
        ("CONFIG_GRPC_XDS_SERVER_URL", "http://a:1", "must be HOST:PORT"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "zone", "must be pairs"),
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "perhaps", "must be true or false"),
        ("TOLLGATE_RULES", "/rules", "cannot both be used"),
        ("TOLLGATE_XDS_TLS_CA", "/ca", "need xds.tls: true"),
        ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "soon", "as Go writes it"),
    ] {
        let mistakes = xds(&[(name, value)]).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains(said), "{name}: {mistakes:?}");
    }
    let secret = xds(&[("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "hunter2")]).unwrap_err();
    assert!(!secret[0].contains("hunter2"), "{secret:?}");
}
