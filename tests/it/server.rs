//! The real tollgate, as an operator starts it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tollgate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;
use tollgate::testkit::declared;
use tonic::transport::{Channel, Endpoint};

use crate::patience::PATIENCE;
use crate::process::{Process, Stream};

/// For where the first lease of a counter may take its time: a machine that is busy with other
/// tests is not what is tried there.
pub const PATIENT: (&str, &str) = ("TOLLGATE_LEDGER_MAX_WAIT_MS", "60000");

/// A running tollgate on ports of its own, with a data folder of its own. It ends when it is
/// dropped.
#[derive(Debug)]
pub struct Tollgate {
    process: Process,
    args: Vec<String>,
    env: Vec<(String, String)>,
    grpc: SocketAddr,
    http: SocketAddr,
    admin_grpc: Option<SocketAddr>,
    data: TempDir,
}

impl Tollgate {
    /// Starts `tollgate serve` with these further arguments and environment variables, and waits
    /// until it is ready.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let env: Vec<_> =
            env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let data = TempDir::new().unwrap();
        let any = SocketAddr::from(ANY_PORT);
        let (process, Ready { grpc, http, admin_grpc }) = serve(&args, &env, &data, any, any, None);
        Self { process, args, env, grpc, http, admin_grpc, data }
    }

    /// Starts it where it may open so many files and no more.
    pub fn start_with_files(files: usize, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_limited(format!("ulimit -n {files}"), args, env)
    }

    /// Starts it where it may open so many files, unless it asks for more.
    pub fn start_with_files_to_raise(files: usize, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_limited(format!("ulimit -S -n {files}"), args, env)
    }

    fn start_limited(limit: String, args: &[&str], env: &[(&str, &str)]) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let env: Vec<_> =
            env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let data = TempDir::new().unwrap();
        let any = SocketAddr::from(ANY_PORT);
        let (process, Ready { grpc, http, admin_grpc }) =
            serve(&args, &env, &data, any, any, Some(&limit));
        Self { process, args, env, grpc, http, admin_grpc, data }
    }

    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it has one of its own.
    pub fn admin_grpc_addr(&self) -> SocketAddr {
        self.admin_grpc.unwrap()
    }

    /// A connection to its gRPC port.
    pub async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    /// A connection that is made when it is used, and again after each end of the server. A call
    /// takes so long at most.
    pub fn lazy_channel(&self, timeout: Duration) -> Channel {
        self.endpoint().timeout(timeout).connect_lazy()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap()
    }

    /// Has it hold what a declarative file says.
    pub async fn apply(&self, file: &str) {
        let mut plans = UsagePlanServiceClient::new(self.lazy_channel(PATIENCE));
        plans.apply(declared::message(file)).await.unwrap();
    }

    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Ends it as a crash does.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// What it has written so far, on both streams.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to stop (SIGTERM), and does not wait.
    pub fn ask_to_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has stopped.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Starts it again, after it has ended, on the ports and the data folder that it had.
    pub fn restart(&mut self) {
        let (process, ready) = serve(&self.args, &self.env, &self.data, self.grpc, self.http, None);
        assert_eq!((ready.grpc, ready.http), (self.grpc, self.http));
        self.process = process;
    }

    /// Stops it where it stands, until [`Self::resume`]: it is there, and says nothing.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// From now on its disk takes nothing, or everything again.
    pub fn fail_disk(&self, fail: bool) {
        self.process.limit_files(fail.then_some(0));
    }

    /// Memory that it has.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Processor time that it has taken.
    pub fn cpu_ms(&self) -> u64 {
        self.process.cpu_ms()
    }

    pub fn resume(&self) {
        self.process.resume();
    }
}

/// Any port of this machine.
pub const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// The arguments of a server at these addresses with this folder.
pub fn serve_at(
    grpc: impl Into<SocketAddr>,
    http: impl Into<SocketAddr>,
    data: &Path,
) -> [String; 7] {
    let (grpc, http) = (grpc.into().to_string(), http.into().to_string());
    let [serve, grpc_addr, http_addr, data_dir] =
        ["serve", "--grpc-addr", "--http-addr", "--data-dir"].map(str::to_owned);
    let data = data.to_str().unwrap().to_owned();
    [serve, grpc_addr, grpc, http_addr, http, data_dir, data]
}

/// `limit` is what a shell does before.
fn serve(
    args: &[String],
    env: &[(String, String)],
    data: &TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
    limit: Option<&str>,
) -> (Process, Ready) {
    let mut command = match limit {
        None => Command::new(env!("CARGO_BIN_EXE_tollgate")),
        Some(limit) => {
            let mut shell = Command::new("/bin/sh");
            shell.args([
                "-c",
                &format!("{limit} && exec \"$0\" \"$@\""),
                env!("CARGO_BIN_EXE_tollgate"),
            ]);
            shell
        }
    };
    let mut process = Process::spawn(
        "tollgate",
        command
            .args(serve_at(grpc, http, data.path()))
            .args(args)
            .current_dir(data.path())
            // Variables such as HOST and PORT mean something to tollgate, and must not come from
            // whoever runs the tests.
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .envs(env.iter().map(|(name, value)| (name, value))),
    );
    let ready = process.wait_for("its ready line", |stream, line| {
        if stream == Stream::Stdout { ready(line) } else { None }
    });
    (process, ready)
}

/// What the ready line says.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    grpc: SocketAddr,
    http: SocketAddr,
    admin_grpc: Option<SocketAddr>,
}

/// `tollgate ready grpc=HOST:PORT http=HOST:PORT`, and ` admin_grpc=HOST:PORT` where it has one of
/// its own.
pub fn ready(line: &str) -> Option<Ready> {
    let (grpc, rest) = line.strip_prefix("tollgate ready grpc=")?.split_once(" http=")?;
    let (http, more) = rest.split_once(' ').unwrap_or((rest, ""));
    let admin_grpc = named(more, "admin_grpc");
    Some(Ready { grpc: grpc.parse().ok()?, http: http.parse().ok()?, admin_grpc })
}

/// The address of a further port of the ready line.
pub fn named(line: &str, port: &str) -> Option<SocketAddr> {
    line.split(' ').find_map(|word| word.strip_prefix(port)?.strip_prefix('=')?.parse().ok())
}

#[test]
fn the_ready_line_names_both_ports() {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let both = Ready { grpc: at(8081), http: at(8080), admin_grpc: None };
    assert_eq!(ready("tollgate ready grpc=127.0.0.1:8081 http=127.0.0.1:8080"), Some(both));
    let three = Ready { grpc: at(8081), http: at(8080), admin_grpc: Some(at(8082)) };
    assert_eq!(
        ready("tollgate ready grpc=127.0.0.1:8081 http=127.0.0.1:8080 admin_grpc=127.0.0.1:8082"),
        Some(three)
    );
    let debug = "tollgate ready grpc=127.0.0.1:8081 http=127.0.0.1:8080 debug=127.0.0.1:6070";
    assert!(ready(debug).is_some());
    assert_eq!(named(debug, "debug"), Some(at(6070)));
    assert_eq!(ready("tollgate ready grpc=127.0.0.1:8081"), None);
}

#[test]
fn a_server_is_healthy_until_it_is_told_to_stop_and_then_stops_in_order() {
    let mut tollgate = Tollgate::start(&[], &[]);
    assert_eq!(crate::http::get("/healthcheck").status(tollgate.http_addr()), 200);
    assert_eq!(tollgate.terminate().code(), Some(0));
    assert!(
        crate::http::get("/healthcheck").send(tollgate.http_addr()).is_err(),
        "nobody listens any more"
    );
    tollgate.restart();
    assert_eq!(crate::http::get("/healthcheck").status(tollgate.http_addr()), 200);
}
