//! The environment of the reference service (`envoyproxy/ratelimit`): every name of it, and what
//! becomes of it here.
//!
//! A name is honoured, or means nothing here, or is refused. None is dropped without a word: what
//! means nothing is told at the start, and what would be a promise that nobody keeps ends the
//! start.

use std::borrow::Cow;
use std::path::PathBuf;

use super::layer::Layer;

/// What becomes of a name of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does what it does there.
    Honoured,
    /// What it is about does not exist here.
    MeansNothing,
    /// It would be a promise that nobody keeps.
    Refused,
}

impl Fate {
    /// In the words of the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::MeansNothing => "means nothing here",
            Self::Refused => "refused",
        }
    }
}

/// A name of the reference's environment.
#[derive(Debug)]
pub struct Name {
    /// As it is written; one that ends in `*` stands for all that start so.
    pub name: &'static str,
    pub fate: Fate,
    /// The setting that it is here, or why it is none.
    pub why: &'static str,
}

const fn honoured(name: &'static str, why: &'static str) -> Name {
    Name { name, fate: Fate::Honoured, why }
}

const fn nothing(name: &'static str, why: &'static str) -> Name {
    Name { name, fate: Fate::MeansNothing, why }
}

const fn refused(name: &'static str, why: &'static str) -> Name {
    Name { name, fate: Fate::Refused, why }
}

const NO_STORE: &str = "counters are in this process: there is no store to reach";
const NO_STATSD: &str = "metrics are at /metrics, for Prometheus; nothing is sent by StatsD";
const OWN_BACKOFF: &str =
    "the first retry comes within half a second, and each further one after twice the time";
const NO_TRACES: &str = "no traces are exported";

/// Every name, in the order of the reference's settings.
pub const NAMES: &[Name] = &[
    honoured("HOST", "http_addr, joined with PORT"),
    honoured("PORT", "http_addr"),
    honoured("DEBUG_HOST", "debug_addr, joined with DEBUG_PORT"),
    honoured(
        "DEBUG_PORT",
        "debug_addr: /rlconfig and the list of pages; served where one of the two is set",
    ),
    honoured("GRPC_HOST", "grpc_addr, joined with GRPC_PORT"),
    honoured("GRPC_PORT", "grpc_addr"),
    honoured("GRPC_UDS", "grpc_uds, beside grpc_addr"),
    honoured("GRPC_MAX_CONNECTION_AGE", "grpc.max_connection_age_ms"),
    honoured("GRPC_MAX_CONNECTION_AGE_GRACE", "grpc.max_connection_age_grace_ms"),
    honoured("GRPC_SERVER_USE_TLS", "tls.cert and tls.key"),
    honoured("GRPC_SERVER_TLS_CERT", "tls.cert"),
    honoured("GRPC_SERVER_TLS_KEY", "tls.key"),
    nothing(
        "GRPC_SERVER_TLS_CA_CERT",
        "Envoy Gateway sets it, and the reference does not read it either: clients are asked by GRPC_CLIENT_TLS_CACERT",
    ),
    honoured("GRPC_CLIENT_TLS_CACERT", "tls.client_ca"),
    honoured("GRPC_CLIENT_TLS_SAN", "tls.client_san"),
    honoured("LOG_LEVEL", "log_level; PANIC and FATAL are error"),
    honoured("LOG_FORMAT", "log_format"),
    honoured("CONFIG_TYPE", "xds.server where it is GRPC_XDS_SOTW, rules where it is FILE"),
    honoured(
        "FORCE_START_WITHOUT_INITIAL_CONFIG",
        "xds.start_without_rules: false is unhealthy until the first rules have come",
    ),
    honoured("MERGE_DOMAIN_CONFIG", "rules_merge_domains"),
    honoured("RUNTIME_ROOT", "rules: the directory RUNTIME_ROOT/RUNTIME_SUBDIRECTORY"),
    honoured("RUNTIME_SUBDIRECTORY", "rules"),
    honoured("RUNTIME_APPDIRECTORY", "rules"),
    honoured("RUNTIME_IGNOREDOTFILES", "rules_ignore_dotfiles"),
    honoured(
        "RUNTIME_WATCH_ROOT",
        "rules_prefix: true reads what starts with `config.`, false the directory RUNTIME_APPDIRECTORY; changes are seen in both",
    ),
    honoured("CONFIG_GRPC_XDS_SERVER_URL", "xds.server"),
    honoured("CONFIG_GRPC_XDS_NODE_ID", "xds.node_id"),
    honoured("CONFIG_GRPC_XDS_NODE_METADATA", "xds.node_metadata"),
    honoured("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "xds.headers"),
    honoured("CONFIG_GRPC_XDS_SERVER_USE_TLS", "xds.tls"),
    honoured("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "xds.tls_ca"),
    honoured("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "xds.tls_cert"),
    honoured("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "xds.tls_key"),
    honoured("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds.tls_server_name"),
    nothing("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", OWN_BACKOFF),
    honoured("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "xds.max_message_bytes"),
    honoured("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "xds.max_backoff_ms"),
    nothing("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", OWN_BACKOFF),
    nothing("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", OWN_BACKOFF),
    nothing("XDS_CLIENT_BACKOFF_JITTER", OWN_BACKOFF),
    nothing("USE_STATSD", NO_STATSD),
    nothing("STATSD_*", NO_STATSD),
    nothing("USE_DOG_STATSD*", NO_STATSD),
    nothing("DOG_STATSD_*", NO_STATSD),
    honoured("EXTRA_TAGS", "metrics_labels: tags are labels of every series"),
    nothing("STATS_FLUSH_INTERVAL", "metrics are as of the moment at which they are read"),
    nothing("DISABLE_STATS", "metrics cost nothing while nobody reads them"),
    honoured("USE_PROMETHEUS", "metrics_addr; /metrics is at http_addr as well"),
    honoured("PROMETHEUS_ADDR", "metrics_addr"),
    honoured("PROMETHEUS_PATH", "metrics_path"),
    nothing(
        "PROMETHEUS_MAPPER_YAML",
        "the names and labels of the reference's own mapping are built in",
    ),
    nothing("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "latencies are in seconds"),
    nothing("BACKEND_TYPE", NO_STORE),
    nothing("EXPIRATION_JITTER_MAX_SECONDS", NO_STORE),
    nothing("LOCAL_CACHE_SIZE_IN_BYTES", "every counter is in memory"),
    nothing("LOCAL_CACHE_INVALIDATION_RESUBSCRIBE_INTERVAL", "every counter is in memory"),
    nothing("CACHE_KEY_PREFIX", NO_STORE),
    honoured("NEAR_LIMIT_RATIO", "rate_limit.near_limit_ratio"),
    honoured("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "rate_limit.stop_when_over_limit"),
    honoured("SHADOW_MODE", "rate_limit.shadow_mode"),
    honoured("QUOTA_MODE", "rate_limit.quota_mode"),
    honoured("RESPONSE_DYNAMIC_METADATA", "rate_limit.dynamic_metadata"),
    honoured("LIMIT_RESPONSE_HEADERS_ENABLED", "rate_limit.headers"),
    honoured("LIMIT_LIMIT_HEADER", "rate_limit.limit_header"),
    honoured("LIMIT_REMAINING_HEADER", "rate_limit.remaining_header"),
    honoured("LIMIT_RESET_HEADER", "rate_limit.reset_header"),
    refused(
        "LIMIT_REQUEST_HEADERS_ENABLED",
        "headers are added to responses alone: LIMIT_RESPONSE_HEADERS_ENABLED",
    ),
    nothing("LIMIT_REQUEST_LIMIT_HEADER", "headers are added to responses alone"),
    nothing("LIMIT_REQUEST_REMAINING_HEADER", "headers are added to responses alone"),
    nothing("LIMIT_REQUEST_RESET_HEADER", "headers are added to responses alone"),
    nothing("SANITIZE_DESCRIPTOR_METRIC_DOTS", "labels are written as they are"),
    refused("USE_CALENDAR_MONTH_RATE_LIMIT", "say `calendar: true` in the rate_limit of the rule"),
    nothing("ENABLE_NEGATIVE_HITS", "negative hits give back, always"),
    honoured("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "health.needs_rules"),
    nothing("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", NO_STORE),
    nothing("REDIS_*", NO_STORE),
    nothing("MEMCACHE_*", NO_STORE),
    nothing("TRACING_*", NO_TRACES),
    nothing("OTEL_*", NO_TRACES),
];

/// The entry for a name of the environment: the one that is spelled so, else the one that it starts
/// as.
pub fn of(name: &str) -> Option<&'static Name> {
    let starts =
        |known: &Name| known.name.strip_suffix('*').is_some_and(|start| name.starts_with(start));
    NAMES
        .iter()
        .find(|known| known.name == name)
        .or_else(|| NAMES.iter().find(|known| starts(known)))
}

/// Names that ask for something by any value but these: off, or what the reference does without
/// them.
const OFF: &[&str] = &["", "false", "f", "0"];

/// What the environment of the reference comes to, for lines at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What is set and means nothing here.
    pub without_meaning: Option<String>,
    /// What is set and is honoured, each with its setting; only where tollgate takes the place of
    /// the reference.
    pub honoured: Option<String>,
}

impl Told {
    pub(super) fn of<'e>(
        set: impl Iterator<Item = (Cow<'e, str>, Cow<'e, str>)>,
        as_ratelimit: bool,
    ) -> Self {
        let (mut idle, mut honoured) = (Vec::new(), Vec::new());
        for (name, value) in set {
            match of(&name) {
                Some(known) if known.fate == Fate::MeansNothing && !is_off(&value) => {
                    idle.push(name.into_owned());
                }
                Some(known) if known.fate == Fate::Honoured && !value.is_empty() => {
                    let setting = known.why.split([',', ':', ';', ' ']).next().unwrap_or_default();
                    honoured.push(format!("{name} ({setting})"));
                }
                _ => {}
            }
        }
        idle.sort_unstable();
        honoured.sort_unstable();
        Self {
            without_meaning: (!idle.is_empty()).then(|| {
                format!("set for the reference service, and without meaning here: {} (`tollgate settings --reference` says why)", idle.join(", "))
            }),
            honoured: (as_ratelimit && !honoured.is_empty()).then(|| {
                format!("set for the reference service, and honoured: {}", honoured.join(", "))
            }),
        }
    }
}

fn is_off(value: &str) -> bool {
    OFF.contains(&value.to_ascii_lowercase().as_str())
}

/// The defaults of the reference, for who takes its place. Plans are edited on the machine alone:
/// whoever takes its place asks nobody for a token, and listens to everyone.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("grpc_addr", ":8081"),
    ("http_addr", ":8080"),
    ("debug_addr", ":6070"),
    ("admin_grpc_addr", "127.0.0.1:8082"),
    ("data_dir", ":memory:"),
    ("grpc.max_connection_age_ms", "86400000"),
];

/// Where the reference looks for rules unless it is told.
const RULES_ROOT: &str = "/srv/runtime_data/current";

/// Names that are true or false, and mean nothing here, or nothing by themselves.
const SWITCHES: &[&str] = &[
    "USE_STATSD",
    "USE_DOG_STATSD",
    "DISABLE_STATS",
    "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS",
    "RUNTIME_WATCH_ROOT",
    "REDIS_PERSECOND",
    "REDIS_TLS",
    "REDIS_PERSECOND_TLS",
    "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
    "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
    "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR",
    "MEMCACHE_TLS",
    "TRACING_ENABLED",
    "ENABLE_NEGATIVE_HITS",
    "SANITIZE_DESCRIPTOR_METRIC_DOTS",
    "XDS_CLIENT_BACKOFF_JITTER",
];

/// Names that are one of some words: what the reference knows.
const WORDS: &[(&str, &[&str])] = &[
    ("BACKEND_TYPE", &["redis", "memcache"]),
    ("REDIS_TYPE", &["SINGLE", "SENTINEL", "CLUSTER"]),
    ("CONFIG_TYPE", &["FILE", "GRPC_XDS_SOTW"]),
];

/// An unknown value is refused and not guessed, also of what means nothing here: who wrote it
/// believes in something.
fn unknown_values(get: &dyn Fn(&str) -> Option<String>, mistakes: &mut Vec<String>) {
    for name in SWITCHES {
        if let Some(value) = get(name).filter(|value| truth(value).is_none()) {
            mistakes.push(format!("{name} must be true or false, not `{value}`"));
        }
    }
    for (name, words) in WORDS {
        let known = |value: &String| words.iter().any(|word| word.eq_ignore_ascii_case(value));
        if let Some(value) = get(name).filter(|value| !known(value)) {
            mistakes.push(format!("{name} must be {}, not `{value}`", words.join(" or ")));
        }
    }
}

/// What Go reads as a truth.
fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// The settings that the reference's names stand for.
pub(super) fn settings(
    env: &dyn Fn(&str) -> Option<String>,
    as_ratelimit: bool,
    mistakes: &mut Vec<String>,
) -> Layer {
    let mut layer = Layer::default();
    let get = |name: &str| env(name).filter(|value| !value.is_empty());
    for known in NAMES.iter().filter(|known| known.fate == Fate::Refused) {
        if get(known.name).is_some_and(|value| !is_off(&value)) {
            mistakes.push(format!("{} cannot be had: {}", known.name, known.why));
        }
    }
    unknown_values(&get, mistakes);
    let over_xds =
        get("CONFIG_TYPE").is_some_and(|kind| kind.eq_ignore_ascii_case("GRPC_XDS_SOTW"));
    if over_xds {
        xds(&get, &mut layer, mistakes);
    } else {
        runtime_directory(&get, as_ratelimit && env("TOLLGATE_RULES").is_none(), &mut layer);
    }
    for (host, port, key, default) in [
        ("GRPC_HOST", "GRPC_PORT", "grpc_addr", Some("8081")),
        ("HOST", "PORT", "http_addr", Some("8080")),
        ("DEBUG_HOST", "DEBUG_PORT", "debug_addr", Some("6070")),
    ] {
        if get(host).is_some() || get(port).is_some() {
            let (address, number) = (
                get(host).unwrap_or(if as_ratelimit { "0.0.0.0" } else { "127.0.0.1" }.into()),
                get(port).or(default.map(str::to_owned)).unwrap_or_default(),
            );
            layer.set(key, join_host_port(&address, &number), &format!("{host} and {port}"));
        }
    }
    for (name, key) in [
        ("RUNTIME_IGNOREDOTFILES", "rules_ignore_dotfiles"),
        ("MERGE_DOMAIN_CONFIG", "rules_merge_domains"),
        ("SHADOW_MODE", "rate_limit.shadow_mode"),
        ("QUOTA_MODE", "rate_limit.quota_mode"),
        ("NEAR_LIMIT_RATIO", "rate_limit.near_limit_ratio"),
        ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "rate_limit.stop_when_over_limit"),
        ("RESPONSE_DYNAMIC_METADATA", "rate_limit.dynamic_metadata"),
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "rate_limit.headers"),
        ("LIMIT_LIMIT_HEADER", "rate_limit.limit_header"),
        ("LIMIT_REMAINING_HEADER", "rate_limit.remaining_header"),
        ("LIMIT_RESET_HEADER", "rate_limit.reset_header"),
        ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "health.needs_rules"),
        ("GRPC_UDS", "grpc_uds"),
        ("EXTRA_TAGS", "metrics_labels"),
    ] {
        if let Some(value) = get(name) {
            layer.set(key, value, name);
        }
    }
    for (name, key) in [
        ("GRPC_MAX_CONNECTION_AGE", "grpc.max_connection_age_ms"),
        ("GRPC_MAX_CONNECTION_AGE_GRACE", "grpc.max_connection_age_grace_ms"),
    ] {
        set_time(&get, name, key, &mut layer, mistakes);
    }
    if let Some(level) = get("LOG_LEVEL") {
        // The levels of logrus, in any case.
        let known = match level.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Some("error"),
            "warn" | "warning" => Some("warn"),
            "info" => Some("info"),
            "debug" => Some("debug"),
            "trace" => Some("trace"),
            _ => None,
        };
        match known {
            Some(level) => layer.set("log_level", level.to_owned(), "LOG_LEVEL"),
            None => {
                mistakes.push(format!("LOG_LEVEL must be one of panic, fatal, error, warn, warning, info, debug, trace, not `{level}`"))
            }
        }
    }
    if let Some(format) = get("LOG_FORMAT") {
        layer.set("log_format", format.to_ascii_lowercase(), "LOG_FORMAT");
    }
    let on = |name: &str, mistakes: &mut Vec<String>| match get(name) {
        None => false,
        Some(value) => truth(&value).unwrap_or_else(|| {
            mistakes.push(format!("{name} must be true or false, not `{value}`"));
            false
        }),
    };
    if on("USE_PROMETHEUS", mistakes) {
        layer.set(
            "metrics_addr",
            get("PROMETHEUS_ADDR").unwrap_or(":9090".into()),
            "PROMETHEUS_ADDR",
        );
        if let Some(path) = get("PROMETHEUS_PATH") {
            layer.set("metrics_path", path, "PROMETHEUS_PATH");
        }
    }
    if on("GRPC_SERVER_USE_TLS", mistakes) {
        for (name, key) in [
            ("GRPC_SERVER_TLS_CERT", "tls.cert"),
            ("GRPC_SERVER_TLS_KEY", "tls.key"),
            ("GRPC_CLIENT_TLS_CACERT", "tls.client_ca"),
            ("GRPC_CLIENT_TLS_SAN", "tls.client_san"),
        ] {
            match get(name) {
                Some(value) => layer.set(key, value, name),
                None if matches!(key, "tls.cert" | "tls.key") => {
                    mistakes.push(format!("GRPC_SERVER_USE_TLS is set, so {name} is needed"));
                }
                None => {}
            }
        }
    }
    layer
}

/// Rules over xDS.
fn xds(get: &dyn Fn(&str) -> Option<String>, layer: &mut Layer, mistakes: &mut Vec<String>) {
    let server = get("CONFIG_GRPC_XDS_SERVER_URL").unwrap_or("localhost:18000".into());
    layer.set("xds.server", server, "CONFIG_GRPC_XDS_SERVER_URL");
    let uses_tls = get("CONFIG_GRPC_XDS_SERVER_USE_TLS");
    let tls = uses_tls.as_deref().and_then(truth).unwrap_or_default();
    for (name, key, needs_tls) in [
        ("CONFIG_GRPC_XDS_NODE_ID", "xds.node_id", false),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "xds.node_metadata", false),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "xds.headers", false),
        ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "xds.max_message_bytes", false),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "xds.start_without_rules", false),
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "xds.tls", false),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "xds.tls_cert", true),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "xds.tls_key", true),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "xds.tls_ca", true),
        ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds.tls_server_name", true),
    ] {
        // The reference looks at certificates only where TLS is asked for.
        if let Some(value) = get(name).filter(|_| tls || !needs_tls) {
            layer.set(key, value, name);
        }
    }
    set_time(get, "XDS_CLIENT_BACKOFF_MAX_INTERVAL", "xds.max_backoff_ms", layer, mistakes);
}

fn set_time(
    get: &dyn Fn(&str) -> Option<String>,
    name: &str,
    key: &str,
    layer: &mut Layer,
    mistakes: &mut Vec<String>,
) {
    let Some(value) = get(name) else { return };
    match go_duration_ms(&value) {
        Some(ms) => layer.set(key, ms.to_string(), name),
        None => mistakes.push(format!(
            "{name} must be a time as Go writes it, such as 30s or 1h30m, not `{value}`"
        )),
    }
}

/// Where the reference looks for rules (its library `goruntime`). With RUNTIME_WATCH_ROOT, its
/// default, every file below the subdirectory counts whose path, with dots for slashes, starts with
/// `config.`; without, every file of the application's directory. `by_default`: there also where
/// no name says so, if the directory is there.
fn runtime_directory(get: &dyn Fn(&str) -> Option<String>, by_default: bool, layer: &mut Layer) {
    let names = ["RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY", "RUNTIME_APPDIRECTORY"];
    let is_told = names.iter().any(|name| get(name).is_some());
    let is_there = || by_default && std::path::Path::new(RULES_ROOT).is_dir();
    if !(is_told || is_there()) {
        return;
    }
    let root = get("RUNTIME_ROOT").unwrap_or(RULES_ROOT.into());
    let watches_root = get("RUNTIME_WATCH_ROOT").is_none_or(|value| !is_off(&value));
    let application = get("RUNTIME_APPDIRECTORY").unwrap_or("config".into());
    // As Go joins paths: an absolute part stays below the root.
    let below = |path: PathBuf, part: &str| path.join(part.trim_start_matches('/'));
    let mut directory =
        below(PathBuf::from(root), &get("RUNTIME_SUBDIRECTORY").unwrap_or_default());
    if watches_root {
        layer.set(
            "rules_prefix",
            format!("{}.", application.trim_matches('/').replace('/', ".")),
            "RUNTIME_APPDIRECTORY",
        );
    } else {
        directory = below(directory, &application);
    }
    let directory: PathBuf = directory.components().collect();
    layer.set("rules", directory.display().to_string(), "RUNTIME_ROOT");
    layer.set("rules_any_extension", "true".to_owned(), "RUNTIME_ROOT");
}

/// Go's `net.JoinHostPort`. Where all addresses are meant, Go listens on those of IPv6 too.
fn join_host_port(host: &str, port: &str) -> String {
    match host {
        "0.0.0.0" => format!(":{port}"),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// Go's `time.ParseDuration`, in whole milliseconds, rounded up.
fn go_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total_ms = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let ms = match unit {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            _ => return None,
        };
        total_ms += number.parse::<f64>().ok()? * ms;
        rest = next;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = total_ms.ceil() as u64;
    (!text.is_empty() && total_ms.is_finite()).then_some(whole)
}

#[cfg(test)]
mod tests;
