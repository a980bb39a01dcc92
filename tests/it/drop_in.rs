//! In the place of the reference service: under its name, with its environment and arguments.

mod configurations;
mod examples;
mod gateway;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::http::get;
use crate::process::{Process, Stream};
use crate::server::named;
use crate::xds::ask::{Asked, ask_at, metric_at};

/// Who containers run as when they are nobody.
const NOBODY: u32 = 65_534;

/// Tollgate as `/bin/ratelimit`: no environment but this, nobody, at the root of the file system.
#[derive(Debug)]
pub struct Ratelimit {
    process: Process,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub debug: Option<SocketAddr>,
    pub admin: SocketAddr,
    _binary: TempDir,
}

/// Ports that are free, and that no environment of the reference can ask for.
pub const ANY_PORTS: &[(&str, &str)] = &[
    ("PORT", "0"),
    ("GRPC_PORT", "0"),
    ("DEBUG_PORT", "0"),
    ("TOLLGATE_ADMIN_GRPC_ADDR", "127.0.0.1:0"),
];

impl Ratelimit {
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        // Where everybody can read it.
        let (folder, binary) = linked();
        let mut command = Command::new(&binary);
        command
            .arg0("/bin/ratelimit")
            .args(args)
            .current_dir("/")
            .env_clear()
            .envs(ANY_PORTS.iter().copied())
            .envs(env.iter().copied());
        if rustix::process::getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut process = Process::spawn("ratelimit", &mut command);
        let line = process.wait_for("its ready line", |stream, line| {
            (stream == Stream::Stdout && line.starts_with("tollgate ready "))
                .then(|| line.to_owned())
        });
        let of_machine =
            |name: &str| named(&line, name).map(|at| SocketAddr::from(([127, 0, 0, 1], at.port())));
        let (grpc, http) = (named(&line, "grpc").unwrap(), named(&line, "http").unwrap());
        assert!(grpc.ip().is_unspecified() && http.ip().is_unspecified(), "{line}");
        Self {
            process,
            grpc: of_machine("grpc").unwrap(),
            http: of_machine("http").unwrap(),
            metrics: of_machine("metrics"),
            debug: of_machine("debug"),
            admin: named(&line, "admin_grpc").unwrap(),
            _binary: folder,
        }
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// The binary in a folder that anybody can enter.
fn linked() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("tollgate");
    let built = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    if fs::hard_link(built, &binary).is_err() {
        fs::copy(built, &binary).unwrap();
    }
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, binary)
}

/// A folder of rules as a ConfigMap is mounted, that anybody can read.
pub fn mounted(rules: &str) -> TempDir {
    let root = TempDir::new().unwrap();
    let dated = root.path().join("ratelimit/config/..2026_01_01");
    fs::create_dir_all(&dated).unwrap();
    fs::write(dated.join("config.yaml"), rules).unwrap();
    let config = root.path().join("ratelimit/config");
    std::os::unix::fs::symlink("..2026_01_01", config.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.yaml", config.join("config.yaml")).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

const ECHO: &str = "
domain: echo-ratelimit
descriptors:
  - {key: PATH, value: /, rate_limit: {unit: year, requests_per_unit: 1}}
  - {key: PATH, rate_limit: {unit: year, requests_per_unit: 3}}
";

#[test]
fn the_manifest_of_a_mesh_runs_as_it_stands() {
    let rules = mounted(ECHO);
    let tollgate = Ratelimit::start(
        &["--quotaRateLimitServiceAddr=quota:8081", "left-over"],
        &[
            ("LOG_LEVEL", "debug"),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", "redis:6379"),
            ("USE_STATSD", "false"),
            ("RUNTIME_ROOT", rules.path().to_str().unwrap()),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_WATCH_ROOT", "false"),
            ("RUNTIME_IGNOREDOTFILES", "true"),
            ("HOST", "::"),
            ("GRPC_HOST", "::"),
        ],
    );
    assert_eq!(get("/healthcheck").send(tollgate.http).unwrap().text(), "OK");
    let once = |path: &str| ask_at(tollgate.http, "echo-ratelimit", &[&[("PATH", path)]], None).0;
    assert_eq!([once("/"), once("/")], [Asked::Ok, Asked::Over]);
    assert_eq!(
        [once("/a"), once("/a"), once("/a"), once("/a")],
        [Asked::Ok, Asked::Ok, Asked::Ok, Asked::Over]
    );
    // The debug port of the reference, where its tools look.
    let debug = tollgate.debug.unwrap();
    let shown = get("/rlconfig").send(debug).unwrap().text();
    assert!(shown.contains("echo-ratelimit.PATH_/: unit=YEAR requests_per_unit=1"), "{shown}");
    assert_eq!(get("/").status(debug), 200);
    // Plans are edited on the machine alone.
    assert!(tollgate.admin.ip().is_loopback(), "{}", tollgate.admin);
    let log = tollgate.log();
    for said in [
        "passed over: --quotaRateLimitServiceAddr=quota:8081 left-over",
        "GRPC_HOST (grpc_addr)",
        "without meaning here: REDIS_SOCKET_TYPE, REDIS_URL",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(!Path::new("/tollgate-data").exists(), "nothing is kept");
    assert_eq!(metric_at(tollgate.http, "tollgate_xds_connected"), None);
    assert_eq!(tollgate.metrics, None);
}

#[test]
fn what_cannot_be_had_ends_the_start() {
    let (_folder, binary) = linked();
    for (args, env, said) in [
        (&[][..], ("BACKEND_TYPE", "etcd"), "BACKEND_TYPE must be redis or memcache"),
        (&["--http-addr"], ("PORT", "0"), "a value is required"),
        (&[], ("CONFIG_TYPE", "HTTP"), "CONFIG_TYPE must be FILE or GRPC_XDS_SOTW"),
    ] {
        let output = Command::new(&binary)
            .arg0("ratelimit")
            .args(args)
            .env_clear()
            .envs([env])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.contains(said)), (Some(2), true), "{text}");
    }
}
