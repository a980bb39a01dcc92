//! Settings: defaults, then a file, then the environment, then flags; the later wins. All mistakes
//! are reported at once, and everything is resolved before any port is bound.

mod layer;
mod layers;
mod ledger;
mod names;
mod pages;
mod plans;
mod reach;
pub mod reference;
mod server;
mod xds;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

pub use self::layers::Flags;
pub use self::ledger::SharedLedger;
pub use self::pages::Pages;
pub use self::plans::{HeaderSets, Plans};
pub use self::reach::{Reach, Tls};
pub use self::server::GrpcServer;
pub use self::xds::{Xds, XdsServer, XdsTls};

/// A setting: its key in a file, its default, what it means. In the environment it is `TOLLGATE_`
/// and the key in capitals, dots as `_`.
#[derive(Debug)]
pub struct Setting {
    pub key: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

/// Every setting there is. `docs/settings.md` and the check for unknown keys come from here.
pub const SETTINGS: &[Setting] = &[
    setting("grpc_addr", "127.0.0.1:8081", "where gRPC is served"),
    setting(
        "grpc_uds",
        "",
        "a Unix socket where gRPC is served too, open to its owner and group; empty: none",
    ),
    setting(
        "admin_grpc_addr",
        "",
        "where `UsagePlanService` and reflection are served, and nowhere else; empty: with the rest",
    ),
    setting("http_addr", "127.0.0.1:8080", "where health, metrics and `/json` are served"),
    setting("metrics_addr", "", "a second place for the metrics alone; empty: none"),
    setting("metrics_path", "/metrics", "the path of the metrics at `metrics_addr`"),
    setting(
        "metrics_labels",
        "",
        "labels of every series, such as `region:eu,cluster:blue`; empty: none",
    ),
    setting("debug_addr", "", "a second place for `/rlconfig` and the list of pages; empty: none"),
    setting("data_dir", "./tollgate-data", "where durable state is kept; `:memory:` keeps none"),
    setting("drain_timeout_ms", "10000", "how long a stop waits for calls in flight"),
    setting(
        "log_level",
        "info",
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,tollgate::grpc=debug`",
    ),
    setting("log_format", "text", "`text` or `json`, on standard error"),
    setting("rules", "", "rules files and directories, separated by commas (a list in a file)"),
    setting("rules_merge_domains", "false", "several files may add to one domain"),
    setting(
        "rules_ignore_dotfiles",
        "true",
        "files and directories that start with a dot are not read",
    ),
    setting(
        "rules_any_extension",
        "false",
        "read every file of a directory, not only `.yaml` and `.yml`",
    ),
    setting(
        "rules_prefix",
        "",
        "read only files of a directory whose path below it, with dots for slashes, starts so: the layout of the reference; empty: all",
    ),
    setting("rules_poll_ms", "500", "how often the rules files are looked at for changes"),
    setting(
        "xds.server",
        "",
        "a management server that gives the rules (xDS, ADS, state of the world): `HOST:PORT`, `dns:///HOST:PORT` or `unix:/PATH`; empty: rules come from files",
    ),
    setting("xds.node_id", "default", "as whom rules are asked for"),
    setting("xds.node_metadata", "", "what else is told to it, such as `zone=a,rack=7`"),
    setting("xds.headers", "", "headers of each stream, such as `x-tenant:a,x-region:eu`"),
    setting("xds.tls", "false", "TLS to it; the files below are read again for each connection"),
    setting("xds.tls_ca", "", "who vouches for it, PEM; empty: whom the system trusts"),
    setting("xds.tls_cert", "", "certificate chain that is shown to it, PEM"),
    setting("xds.tls_key", "", "its private key, PEM"),
    setting(
        "xds.tls_server_name",
        "",
        "the name that its certificate must have; empty: the host of `xds.server`",
    ),
    setting("xds.max_message_bytes", "67108864", "a larger answer of it ends the stream"),
    setting("xds.max_backoff_ms", "60000", "the longest wait before it is tried again"),
    setting("xds.start_without_rules", "false", "healthy also before the first rules have come"),
    setting(
        "xds.first_rules_wait_ms",
        "10000",
        "how long health waits for them then, so that a new node does not begin without rules",
    ),
    setting(
        "rate_limit.shadow_mode",
        "false",
        "rules are evaluated and counted, nothing is refused",
    ),
    setting("rate_limit.quota_mode", "false", "every rule is in quota mode"),
    setting(
        "rate_limit.near_limit_ratio",
        "0.8",
        "from this part of a limit on, hits count as near the limit; 0 to 1",
    ),
    setting(
        "rate_limit.stop_when_over_limit",
        "false",
        "a request that a descriptor refuses is charged to that descriptor alone; a domain with `all_or_nothing` or durable rules charges it nowhere",
    ),
    setting(
        "rate_limit.dynamic_metadata",
        "false",
        "answers carry the request and the rules' metadata as dynamic metadata",
    ),
    setting("rate_limit.headers", "false", "answers carry the three headers named below"),
    setting("rate_limit.limit_header", "RateLimit-Limit", "name of the header with the limit"),
    setting(
        "rate_limit.remaining_header",
        "RateLimit-Remaining",
        "name of the header with what remains",
    ),
    setting(
        "rate_limit.reset_header",
        "RateLimit-Reset",
        "name of the header with the seconds until the reset",
    ),
    setting(
        "health.needs_rules",
        "false",
        "healthy only while rules with at least one domain are in force",
    ),
    setting(
        "account.rate_limit",
        "",
        "requests per second over all traffic of usage plans; empty: no limit",
    ),
    setting("account.burst", "", "the most of them at once; empty: the rate rounded up"),
    setting("receipts.ttl", "1h", "how long a response can be reported, `30m`, `1h`, up to `7d`"),
    setting(
        "usage.retention_days",
        "400",
        "how many days the daily statistics are kept; 1 to 36500",
    ),
    setting(
        "ledger.must_exist",
        "false",
        "do not start where `data_dir` or `ledger.url` holds no ledger: a disk that is not mounted, a wrong path",
    ),
    setting(
        "ledger.url",
        "",
        "the ledger is in PostgreSQL, and not in `data_dir`: `postgres://user@host:5432/database`, with several hosts and libpq's parameters, such as `?sslmode=verify-full`; empty: in `data_dir`",
    ),
    setting(
        "ledger.password_file",
        "",
        "a file with the password for `ledger.url`, read at each connection; empty: the URL's, or none",
    ),
    setting(
        "ledger.ca",
        "",
        "certificates that vouch for the database's, PEM; empty: `sslmode` up to `require` believes any",
    ),
    setting(
        "ledger.start_wait_ms",
        "60000",
        "how long a start waits for the database of `ledger.url`; meanwhile `http_addr` answers 503",
    ),
    setting(
        "node.name",
        "",
        "the name of this node in the ledger of `ledger.url`, the same at each start; a second process of the name ends the first; empty: the machine's name",
    ),
    setting(
        "ledger.max_wait_ms",
        "100",
        "how long a decision waits for the ledger at most, up to ten times as long for the first answers of one that is slow and gets on; never past its call's deadline",
    ),
    setting(
        "ledger.on_failure",
        "deny",
        "`deny` or `allow` what the ledger cannot answer for in time",
    ),
    setting(
        "ledger.cold_start",
        "wait",
        "`wait` for the first lease of a counter, or be `optimistic` and admit a few before it has come",
    ),
    setting("ledger.chunk_ms", "500", "a lease is for about so long"),
    setting(
        "ledger.waste_percent",
        "1",
        "the most of a quota that a crash may cost, in percent; 2 units always may, and what one request costs",
    ),
    setting(
        "ledger.max_windows",
        "1000000",
        "counters of rules of an hour and longer that survive a restart, beyond it those of further keys live in memory alone; and counters of durable rules, beyond it further keys are refused",
    ),
    setting("headers.retry_after", "true", "refusals by a plan carry `Retry-After`"),
    setting(
        "headers.ratelimit",
        "true",
        "answers by a plan carry `RateLimit-Policy` and `RateLimit`",
    ),
    setting(
        "headers.x_ratelimit",
        "true",
        "answers by a plan carry `X-RateLimit-Limit`, `-Remaining` and `-Reset`",
    ),
    setting(
        "envoy.x_ratelimit_headers",
        "false",
        "the same for the domain `envoy.check_domain`, where Envoy can write them itself",
    ),
    setting(
        "envoy.check_domain",
        "tollgate",
        "the domain of Envoy's rate limit service in which plans decide",
    ),
    setting("envoy.report_domain", "tollgate-report", "the domain in which responses are reported"),
    setting(
        "ext_authz.key_headers",
        "x-api-key,authorization",
        "headers that hold an API key for `ext_authz`, in this order; `authorization` as `Bearer`",
    ),
    setting("grpc.max_message_bytes", "4194304", "a larger request is refused whole; 1024 or more"),
    setting(
        "grpc.max_apply_bytes",
        "268435456",
        "a set of resources that operators apply in parts (`tollgate apply`), all parts together",
    ),
    setting(
        "grpc.max_pending_bytes",
        "268435456",
        "what all calls together may hold that are open or wait for the rest of a message, one connection a quarter of it, and calls that need no token a sixteenth; beyond it calls that would wait are refused; 1048576 or more",
    ),
    setting("grpc.max_descriptors", "1000", "descriptors in one request"),
    setting("grpc.max_entries", "100", "entries in one descriptor"),
    setting(
        "grpc.workers",
        "0",
        "threads that serve gRPC, each with connections of its own; 0: one for each core",
    ),
    setting("grpc.max_connections", "10000", "a connection more is closed at once"),
    setting("grpc.max_streams", "1024", "calls in flight on one connection"),
    setting(
        "grpc.max_lag_ms",
        "50",
        "a decision that would wait longer for its core is answered `UNAVAILABLE` at once; 0: never",
    ),
    setting(
        "grpc.max_control_frames",
        "2000",
        "frames a second that belong to no call (pings, settings, room for answers) on one connection, beside 8 for each call and message and 1 for each KiB of answers; what was not sent in 5 s may be sent at once. A connection that sends more is closed; 0: never",
    ),
    setting("grpc.max_header_bytes", "16384", "the header fields of one call together"),
    setting(
        "grpc.max_connection_age_ms",
        "0",
        "a connection that is open for so long, a tenth more or less, is told to go (GOAWAY), so that clients spread over new servers; 0: never",
    ),
    setting(
        "grpc.max_connection_age_grace_ms",
        "3600000",
        "how long calls may take that are under way then",
    ),
    setting("grpc.stream_window_bytes", "1048576", "what a client may send ahead on one call"),
    setting(
        "grpc.connection_window_bytes",
        "4194304",
        "what a client may send ahead on one connection",
    ),
    setting(
        "grpc.send_buffer_bytes",
        "409600",
        "what is kept on one call for a client that does not read",
    ),
    setting(
        "grpc.handshake_timeout_ms",
        "10000",
        "how long a new connection may take until it speaks HTTP/2, TLS included",
    ),
    setting(
        "grpc.keepalive_ms",
        "30000",
        "after such a silence TCP asks whether the peer is there; 0: never",
    ),
    setting(
        "grpc.keepalive_timeout_ms",
        "10000",
        "without an answer for so long the connection is closed",
    ),
    setting(
        "grpc.ping_ms",
        "0",
        "how often HTTP/2 asks, too, for peers that are there and hang; it costs every call; 0: never",
    ),
    setting(
        "http.max_connections",
        "256",
        "connections of `http_addr`, and as many of `metrics_addr`; one more takes the place of the one that has been idle longest",
    ),
    setting("http.max_header_bytes", "16384", "the head of one request to them"),
    setting(
        "http.max_body_bytes",
        "16777216",
        "bodies of `/json` that are in work, all together, but for the first 64 KiB of each; beyond it 503. One may have `grpc.max_message_bytes`",
    ),
    setting(
        "http.request_timeout_ms",
        "10000",
        "how long the head of a request may take to come, and its body, and a TLS handshake",
    ),
    setting("http.idle_timeout_ms", "60000", "how long a connection may wait for its next request"),
    setting(
        "http.answer_timeout_ms",
        "30000",
        "how long a client may take until it has its answer",
    ),
    setting(
        "http.allowed_hosts",
        "",
        "names that people use for this server, separated by commas; `*.example.com` and `*` as well. Addresses, names without a dot, and those that end in `.local`, `.internal`, `.localhost` and `.svc` need not stand here",
    ),
    setting("console.enabled", "true", "the console is served, at `/console/` of `http_addr`"),
    setting(
        "engine.max_counters",
        "10000000",
        "counters of rules held in memory; beyond it fresh keys of a rule share 4,096",
    ),
    setting(
        "engine.max_operations",
        "1000000",
        "admissions with an operation id that are remembered for their 60 s, about 1 KB each; beyond it the oldest is forgotten early",
    ),
    setting(
        "grpc.reflection",
        "true",
        "server reflection: callers can ask which services there are",
    ),
    setting(
        "auth.tokens_file",
        "",
        "tokens and certificates of those who may call, with their scopes, YAML; empty: nobody is asked for a token",
    ),
    setting(
        "insecure",
        "false",
        "plans may be edited over the network by everyone who can reach the port; the flag is `--insecure`",
    ),
    setting("tls.cert", "", "certificate chain of the gRPC ports, PEM; empty: no TLS"),
    setting("tls.key", "", "its private key, PEM"),
    setting(
        "tls.client_ca",
        "",
        "certificate authority of the clients, PEM; set: clients must present a certificate",
    ),
    setting(
        "tls.client_san",
        "",
        "the DNS name that a client's certificate must have; empty: any certificate of the authority is let in",
    ),
    setting(
        "tls.client_certificates",
        "required",
        "`required` or `optional`: then those without one need a token",
    ),
    setting(
        "tls.http",
        "false",
        "`http_addr` and `metrics_addr` speak TLS too, with the same certificates and the same demands",
    ),
    setting(
        "files_poll_ms",
        "1000",
        "how often the tokens file and the certificates are looked at for changes",
    ),
];

const fn setting(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, meaning }
}

/// The settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Healthy only while rules are in force.
    pub health_needs_rules: bool,
    /// What the environment of the reference service comes to, for the log.
    pub reference: reference::Told,
    pub reach: Reach,
    pub data_dir: DataDir,
    /// Where the ledger is, where it is not in `data_dir`.
    pub shared: Option<SharedLedger>,
    /// A folder without a ledger is not a new one.
    pub ledger_must_exist: bool,
    pub drain_timeout_ms: u64,
    pub log_level: String,
    pub log_format: LogFormat,
    pub rules: Rules,
    /// `None`: rules come from files.
    pub xds: Option<Xds>,
    pub rate_limit: RateLimit,
    pub plans: Plans,
    pub grpc: GrpcBounds,
    pub grpc_server: GrpcServer,
    pub pages: Pages,
    pub max_counters: usize,
    /// Admissions that are remembered by operation id.
    pub max_operations: usize,
    /// Counters of rules that are kept in the ledger.
    pub max_windows: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    Memory,
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub paths: Vec<PathBuf>,
    pub merge_domains: bool,
    pub ignore_dotfiles: bool,
    pub any_extension: bool,
    /// Only files of a directory whose path below it, with dots for slashes, starts so are read.
    pub prefix: String,
    pub poll_ms: u64,
}

/// How rate-limit rules are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    pub shadow_mode: bool,
    pub quota_mode: bool,
    pub near_limit_ratio: f32,
    /// What a descriptor refuses is charged to it alone.
    pub stop_when_over_limit: bool,
    pub dynamic_metadata: bool,
    pub headers: Option<HeaderNames>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    pub limit: String,
    pub remaining: String,
    pub reset: String,
}

/// What one gRPC request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcBounds {
    pub max_message_bytes: usize,
    /// Of a set of resources that is applied in parts, all together.
    pub max_apply_bytes: usize,
    pub max_descriptors: usize,
    pub max_entries: usize,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings cannot be used:")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Resolves the settings. `env` gives the value of an environment variable.
    ///
    /// # Errors
    /// All mistakes of all layers, each naming where it stands.
    pub fn resolve(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        Self::read(layers::Reader::new(flags, env))
    }

    /// The same, where the whole environment is known, so that a name in it which is no setting is
    /// a mistake as well.
    ///
    /// # Errors
    /// As there.
    pub fn resolve_in(
        flags: &Flags,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Mistakes> {
        let value = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| known == name)
                .and_then(|(_, value)| value.to_str())
        };
        let mut reader = layers::Reader::new(flags, &|name| value(name).map(str::to_owned));
        names::mistakes(environment).into_iter().for_each(|mistake| reader.mistake(mistake));
        let set = environment
            .iter()
            .map(|(name, value)| (name.to_string_lossy(), value.to_string_lossy()));
        let reference = reference::Told::of(set, flags.as_ratelimit);
        Self::read(reader).map(|config| Self { reference, ..config })
    }

    fn read(mut reader: layers::Reader) -> Result<Self, Mistakes> {
        let reach = Reach::read(&mut reader);
        let plans = Plans::read(&mut reader);
        let headers = HeaderNames {
            limit: reader.header("rate_limit.limit_header"),
            remaining: reader.header("rate_limit.remaining_header"),
            reset: reader.header("rate_limit.reset_header"),
        };
        let config = Self {
            reach,
            ledger_must_exist: reader.flag("ledger.must_exist"),
            shared: SharedLedger::read(&mut reader),
            data_dir: match reader.text("data_dir").as_str() {
                ":memory:" => DataDir::Memory,
                path => DataDir::Path(path.into()),
            },
            drain_timeout_ms: reader.number("drain_timeout_ms", 0..=3_600_000),
            log_level: reader.checked("log_level", log_level),
            log_format: reader.checked("log_format", |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("must be `text` or `json`".to_owned()),
            }),
            rules: Rules {
                paths: reader.list("rules").into_iter().map(PathBuf::from).collect(),
                merge_domains: reader.flag("rules_merge_domains"),
                ignore_dotfiles: reader.flag("rules_ignore_dotfiles"),
                any_extension: reader.flag("rules_any_extension"),
                prefix: reader.text("rules_prefix"),
                poll_ms: reader.number("rules_poll_ms", 10..=3_600_000),
            },
            rate_limit: RateLimit {
                shadow_mode: reader.flag("rate_limit.shadow_mode"),
                quota_mode: reader.flag("rate_limit.quota_mode"),
                near_limit_ratio: reader.checked("rate_limit.near_limit_ratio", |text| {
                    match f32::from_str(text) {
                        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
                        _ => Err("must be a number from 0 to 1".to_owned()),
                    }
                }),
                stop_when_over_limit: reader.flag("rate_limit.stop_when_over_limit"),
                dynamic_metadata: reader.flag("rate_limit.dynamic_metadata"),
                headers: reader.flag("rate_limit.headers").then_some(headers),
            },
            plans,
            grpc: GrpcBounds {
                max_message_bytes: reader.number("grpc.max_message_bytes", 1024..=1 << 30),
                max_apply_bytes: reader.number("grpc.max_apply_bytes", 1024..=1 << 40),
                max_descriptors: reader.number("grpc.max_descriptors", 1..=1_000_000),
                max_entries: reader.number("grpc.max_entries", 1..=1_000_000),
            },
            grpc_server: GrpcServer::read(&mut reader),
            pages: Pages::read(&mut reader),
            max_counters: reader.number("engine.max_counters", 1..=1 << 32),
            max_operations: reader.number("engine.max_operations", 1..=1 << 32),
            health_needs_rules: reader.flag("health.needs_rules"),
            reference: reference::Told::default(),
            xds: Xds::read(&mut reader),
            max_windows: reader.number("ledger.max_windows", 1..=1 << 32),
        };
        match reader.mistakes() {
            mistakes if mistakes.is_empty() => Ok(config),
            mistakes => Err(Mistakes(mistakes)),
        }
    }
}

/// Stands in for an address that could not be read; the mistake is reported, and nothing is bound.
const UNBOUND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A level, or a filter. A word alone that is no level would be read as the name of a module, and
/// mute all others.
fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for part in text.split(',').map(str::trim) {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
        if !is_level && !part.contains(['=', '[']) {
            return Err(format!(
                "must be one of {}, or a filter such as `info,tollgate::grpc=debug`",
                LEVELS.join(", ")
            ));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
