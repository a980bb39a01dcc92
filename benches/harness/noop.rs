//! Servers that decide nothing: they decode the same requests and answer what tollgate answers, so
//! that what is left between them and tollgate is the decision.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use prost::Message;
use tokio::sync::watch;
use tokio_stream::Empty;
use tollgate::config::{Config, Flags};
use tollgate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use tollgate::grpc::pb::rls::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use tollgate::grpc::pb::tollgate as pb;
use tollgate::grpc::pb::tollgate::decision_service_server::{
    DecisionService, DecisionServiceServer,
};
use tollgate::grpc::server::Dispatch;
use tollgate::grpc::wire::{
    Descriptor, DescriptorStatus, Entry, RateLimitRequest, RateLimitResponse,
};
use tonic::transport::Server as Tonic;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::plans::{self, QUOTAS, RATE};
use super::process::Server;

const FLAG: &str = "--no-op";

/// How a no-op server is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    /// As tonic does when nothing is said.
    Default,
    /// As tollgate does.
    Chosen,
}

impl Settings {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Chosen => "chosen",
        }
    }
}

/// What tollgate answered, to be answered by the no-op servers.
#[derive(Clone, Debug)]
struct Samples {
    status: DescriptorStatus,
    rate: pb::CheckResponse,
    quotas: pb::CheckResponse,
}

/// Asks a tollgate, which has both plans, for what it answers, and keeps it in a file.
pub fn take_samples(tollgate: &Server, file: &Path) {
    let limited = plans::wait(async {
        let entry = Entry { key: "api_key".into(), value: "a-sample".into() };
        let descriptors = vec![Descriptor { entries: vec![entry], ..Descriptor::default() }];
        let request =
            RateLimitRequest { domain: "load".into(), descriptors, ..RateLimitRequest::default() };
        let mut client =
            RateLimitServiceClient::connect(format!("http://{}", tollgate.grpc)).await.unwrap();
        client.should_rate_limit(request).await.unwrap().into_inner()
    });
    let mut bytes = limited.encode_length_delimited_to_vec();
    for plan in [RATE, QUOTAS] {
        bytes.extend(plans::sample(tollgate.grpc, plan).encode_length_delimited_to_vec());
    }
    std::fs::write(file, bytes).unwrap();
}

/// Starts a no-op server in a process of its own.
pub fn start(settings: Settings, samples: &Path) -> Server {
    Server::of_this_program(&[FLAG, settings.name(), samples.to_str().unwrap()])
}

/// Was this process started to be a no-op server? Then it is one, until it is killed.
pub fn serve_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    let [_, flag, settings, samples] = args.as_slice() else { return };
    if flag != FLAG {
        return;
    }
    let bytes = std::fs::read(samples).unwrap();
    let mut rest = bytes.as_slice();
    let status = RateLimitResponse::decode_length_delimited(&mut rest).unwrap().statuses.remove(0);
    let rate = pb::CheckResponse::decode_length_delimited(&mut rest).unwrap();
    let quotas = pb::CheckResponse::decode_length_delimited(&mut rest).unwrap();
    let broker = LeaseBroker(Box::leak(Box::new(Samples { status, rate, quotas })));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("ready grpc={}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    if settings == Settings::Default.name() {
        serve_default(broker, listener)
    } else {
        serve_chosen(broker, listener)
    }
}

fn serve_default(broker: LeaseBroker, listener: TcpListener) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap())
            .with_nodelay(Some(true));
        router(broker).serve_with_incoming(incoming).await.unwrap();
    });
}

fn router(broker: LeaseBroker) -> tonic::transport::server::Router {
    Tonic::builder()
        .add_service(RateLimitServiceServer::new(broker))
        .add_service(DecisionServiceServer::new(broker))
}

/// On tollgate's own server, with its default settings.
fn serve_chosen(broker: LeaseBroker, listener: TcpListener) {
    let config = Config::resolve(&Flags::default(), &|_| None).unwrap();
    let services = move || {
        Dispatch::new()
            .serving(RateLimitServiceServer::new(broker))
            .serving(DecisionServiceServer::new(broker))
    };
    let (_stop, stopping) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(
            tollgate::grpc::server::Server::new(config.grpc_server)
                .serve(listener, services, stopping),
        )
        .unwrap();
}

#[derive(Clone, Copy, Debug)]
struct LeaseBroker(&'static Samples);

#[tonic::async_trait]
impl RateLimitService for LeaseBroker {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let statuses = vec![self.0.status.clone(); request.get_ref().descriptors.len()];
        Ok(Response::new(RateLimitResponse {
            overall_code: 1,
            statuses,
            ..RateLimitResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl DecisionService for LeaseBroker {
    async fn check(
        &self,
        request: Request<pb::CheckRequest>,
    ) -> Result<Response<pb::CheckResponse>, Status> {
        let of_quotas = request.get_ref().api_key.starts_with(QUOTAS.as_bytes());
        Ok(Response::new(if of_quotas { self.0.quotas.clone() } else { self.0.rate.clone() }))
    }

    async fn report(
        &self,
        request: Request<pb::ReportRequest>,
    ) -> Result<Response<pb::ReportResponse>, Status> {
        let results = vec![pb::Settlement::Counted.into(); request.get_ref().outcomes.len()];
        Ok(Response::new(pb::ReportResponse { results }))
    }

    type CheckStreamStream = Empty<Result<pb::CheckBatchResponse, Status>>;

    async fn check_stream(
        &self,
        _: Request<Streaming<pb::CheckBatch>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        Err(Status::unimplemented("streams are compared with the unary call"))
    }

    type ReportStreamStream = Empty<Result<pb::ReportResponse, Status>>;

    async fn report_stream(
        &self,
        _: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStreamStream>, Status> {
        Err(Status::unimplemented("streams are compared with the unary call"))
    }
}
