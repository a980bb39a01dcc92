//! A management server in the test, which behaves as go-control-plane does: one answer for each
//! open watch; a stale nonce is dropped without a word; no answer while there is no snapshot; and
//! what was refused is sent again at once.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use prost::Message;
use serde_json::Value as Json;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::patience::PATIENCE;

pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// What came in, in order.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Came {
    /// A stream was opened, with these headers.
    Opened(Vec<(String, String)>),
    Asked(DiscoveryRequest),
}

/// What is sent to whom asks.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    version: String,
    type_url: String,
    resources: Vec<Any>,
}

/// How all streams are ended.
#[derive(Clone, Debug)]
pub enum End {
    Well,
    Unavailable,
}

#[derive(Debug)]
struct Shared {
    came: Mutex<Vec<(Instant, Came)>>,
    more: Condvar,
    snapshot: watch::Sender<Option<Snapshot>>,
    ends: watch::Sender<Option<End>>,
    /// Answers that were sent.
    sent: Mutex<u64>,
}

impl Shared {
    fn note(&self, came: Came) {
        self.came.lock().unwrap().push((Instant::now(), came));
        self.more.notify_all();
    }
}

/// A running management server. It is killed when it is dropped.
#[derive(Debug)]
pub struct Management {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    addr: SocketAddr,
    tls: Option<ServerTlsConfig>,
    /// Where it listens instead.
    socket: Option<PathBuf>,
}

impl Management {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// On a Unix socket.
    pub fn start_at(socket: PathBuf) -> Self {
        Self::start_where(None, Some(socket))
    }

    pub fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        Self::start_where(tls, None)
    }

    fn start_where(tls: Option<ServerTlsConfig>, socket: Option<PathBuf>) -> Self {
        let shared = Shared {
            came: Mutex::default(),
            more: Condvar::new(),
            snapshot: watch::Sender::new(None),
            ends: watch::Sender::new(None),
            sent: Mutex::new(0),
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { shared: Arc::new(shared), runtime: None, addr, tls, socket };
        server.restart();
        server
    }

    /// Starts it again where it was, with what it knows.
    pub fn restart(&mut self) {
        let listener = TcpListener::bind(self.addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.addr = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut server = Server::builder();
        if let Some(tls) = &self.tls {
            server = server.tls_config(tls.clone()).unwrap();
        }
        let service = AggregatedDiscoveryServiceServer::new(Ads(self.shared.clone()));
        let socket = self.socket.clone();
        runtime.spawn(async move {
            if let Some(socket) = socket {
                let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
                server.add_service(service).serve_with_incoming(incoming).await.unwrap();
                return;
            }
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            server
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// From its next start on.
    pub fn set_tls(&mut self, tls: ServerTlsConfig) {
        self.tls = Some(tls);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `HOST:PORT`, or `unix:PATH`.
    pub fn target(&self) -> String {
        match &self.socket {
            None => self.addr.to_string(),
            Some(socket) => format!("unix:{}", socket.display()),
        }
    }

    /// From now on this is what it sends.
    pub fn set(&self, version: &str, resources: Vec<Any>) {
        self.set_typed(version, TYPE_URL, resources);
    }

    pub fn set_typed(&self, version: &str, type_url: &str, resources: Vec<Any>) {
        let (version, type_url) = (version.to_owned(), type_url.to_owned());
        self.shared.snapshot.send_replace(Some(Snapshot { version, type_url, resources }));
    }

    /// Ends all streams.
    pub fn end_streams(&self, end: End) {
        self.shared.ends.send_replace(Some(end));
    }

    /// How many answers were sent so far.
    pub fn sent(&self) -> u64 {
        *self.shared.sent.lock().unwrap()
    }

    /// Everything that came in so far, with when.
    pub fn came(&self) -> Vec<(Instant, Came)> {
        self.shared.came.lock().unwrap().clone()
    }

    /// The requests of all streams so far.
    pub fn asked(&self) -> Vec<DiscoveryRequest> {
        let asked = |(_, came)| if let Came::Asked(request) = came { Some(request) } else { None };
        self.came().into_iter().filter_map(asked).collect()
    }

    pub fn streams(&self) -> usize {
        self.came().iter().filter(|(_, came)| matches!(came, Came::Opened(_))).count()
    }

    /// Waits until what came in is what is wanted.
    pub fn wait_for<T>(&self, what: &str, wanted: impl Fn(&[(Instant, Came)]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut came = self.shared.came.lock().unwrap();
        loop {
            if let Some(found) = wanted(&came) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} has not come: {came:#?}");
            came = self.shared.more.wait_timeout(came, left).unwrap().0;
        }
    }

    /// Waits for the acknowledgement of this version.
    pub fn acked(&self, version: &str) -> DiscoveryRequest {
        self.wait_for(&format!("the ACK of {version}"), |came| {
            came.iter().find_map(|(_, came)| match came {
                Came::Asked(request)
                    if request.version_info == version
                        && request.error_detail.is_none()
                        && !request.response_nonce.is_empty() =>
                {
                    Some(request.clone())
                }
                _ => None,
            })
        })
    }

    /// Waits for so many refusals, and gives the last.
    pub fn refused(&self, times: usize) -> DiscoveryRequest {
        self.wait_for(&format!("{times} refusals"), |came| {
            let refusals = came.iter().filter_map(|(_, came)| match came {
                Came::Asked(request) if request.error_detail.is_some() => Some(request.clone()),
                _ => None,
            });
            refusals.take(times).enumerate().find(|(at, _)| at + 1 == times).map(|(_, last)| last)
        })
    }
}

impl Drop for Management {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Ads(Arc<Shared>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let headers = request.metadata().clone().into_headers();
        let headers = headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        self.0.note(Came::Opened(headers.collect()));
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(stream(self.0.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("state of the world alone"))
    }
}

async fn stream(
    shared: Arc<Shared>,
    mut requests: Streaming<DiscoveryRequest>,
    answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let (mut snapshot, mut ends) = (shared.snapshot.subscribe(), shared.ends.subscribe());
    ends.mark_unchanged();
    // The version that an open watch has.
    let mut watch: Option<String> = None;
    let mut nonce = 0_u64;
    loop {
        let now = snapshot.borrow_and_update().clone();
        if let (Some(has), Some(now)) = (&watch, now)
            && *has != now.version
        {
            nonce += 1;
            let response = DiscoveryResponse {
                version_info: now.version,
                type_url: now.type_url,
                nonce: nonce.to_string(),
                resources: now.resources,
                ..DiscoveryResponse::default()
            };
            *shared.sent.lock().unwrap() += 1;
            if answers.send(Ok(response)).await.is_err() {
                return;
            }
            watch = None;
        }
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                shared.note(Came::Asked(request.clone()));
                let is_fresh = request.response_nonce.is_empty() || request.response_nonce == nonce.to_string();
                if is_fresh {
                    watch = Some(request.version_info);
                }
            }
            changed = snapshot.changed() => if changed.is_err() { return },
            changed = ends.changed() => {
                let end = ends.borrow().clone();
                if changed.is_ok() && matches!(end, Some(End::Unavailable)) {
                    let _ = answers.send(Err(Status::unavailable("the server goes"))).await;
                }
                return;
            }
        }
    }
}

/// A resource, out of the YAML that files of rules have.
pub fn resource(yaml: &str) -> Any {
    let document = tollgate::yaml::parse(yaml).unwrap().root.to_json().unwrap();
    Any { type_url: TYPE_URL.to_owned(), value: config(&document).encode_to_vec() }
}

fn config(from: &Json) -> RateLimitConfig {
    let domain = text(&from["domain"]);
    let name = if from["name"].is_null() { domain.clone() } else { text(&from["name"]) };
    RateLimitConfig { name, domain, descriptors: descriptors(&from["descriptors"]) }
}

fn descriptors(from: &Json) -> Vec<RateLimitDescriptor> {
    let Some(all) = from.as_array() else { return Vec::new() };
    let descriptor = |from: &Json| RateLimitDescriptor {
        key: text(&from["key"]),
        value: text(&from["value"]),
        rate_limit: from["rate_limit"].as_object().map(|_| policy(&from["rate_limit"])),
        descriptors: descriptors(&from["descriptors"]),
        shadow_mode: from["shadow_mode"] == true,
        quota_mode: from["quota_mode"] == true,
        detailed_metric: from["detailed_metric"] == true,
        metadata: from["metadata"].as_object().map(|fields| Struct {
            fields: fields.iter().map(|(key, value)| (key.clone(), string(value))).collect(),
        }),
    };
    all.iter().map(descriptor).collect()
}

fn string(from: &Json) -> Value {
    Value { kind: Some(Kind::StringValue(text(from))) }
}

fn policy(from: &Json) -> RateLimitPolicy {
    let unit = RateLimitUnit::from_str_name(&text(&from["unit"]).to_uppercase());
    RateLimitPolicy {
        unit: unit.unwrap_or(RateLimitUnit::Unknown).into(),
        requests_per_unit: from["requests_per_unit"]
            .as_u64()
            .unwrap_or_default()
            .try_into()
            .unwrap(),
        unlimited: from["unlimited"] == true,
        name: text(&from["name"]),
        replaces: Vec::new(),
    }
}

/// Empty where there is none.
fn text(from: &Json) -> String {
    from.as_str().unwrap_or_default().to_owned()
}
