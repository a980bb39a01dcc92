//! A small gateway: it asks tollgate before it forwards a request, and reports how it ended. See
//! ../README.md.
//!
//! In a project of your own the messages come from the contract, by `tonic-prost-build` in
//! `build.rs`; here they are those of the crate, whose texts that callers choose are bytes.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use clap::Parser;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::outcome::{Ending, Result as Ended, Subject};
use tollgate::grpc::pb::tollgate::{
    CheckRequest, CheckResponse, Header, Outcome, ReportRequest, Verdict,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request as Call};

/// The caller waits for these, twice at most.
const CHECK_TIMEOUT: Duration = Duration::from_millis(100);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a report is sent again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a receipt can be settled: `receipts.ttl` of the server.
const RECEIPT_TTL: Duration = Duration::from_secs(3600);
const MOST_WAITING: usize = 100_000;
const MOST_AT_ONCE: usize = 1000;
/// How long a stop may take.
const LAST_REPORTS: Duration = Duration::from_secs(5);
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// What cannot be written is lost: `eprintln!` would panic, and end the reports with it.
fn tell(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[derive(Debug, Parser)]
struct Args {
    #[arg(long)]
    tollgate: String,
    #[arg(long)]
    target: String,
    #[arg(long)]
    upstream: String,
    #[arg(long)]
    fail_open: bool,
}

/// Checks and reports.
#[derive(Clone, Debug)]
struct Tollgate {
    client: DecisionServiceClient<Channel>,
    reports: Sender<(Instant, Outcome)>,
}

impl Tollgate {
    /// Connects with the first question, and again by itself. The task ends when every `Tollgate`
    /// is gone and all reports are sent.
    fn new(address: &str) -> Result<(Self, JoinHandle<()>), tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_secs(1))
            .connect_lazy();
        let client = DecisionServiceClient::new(channel);
        let (reports, waiting) = mpsc::channel(MOST_WAITING);
        let sends = tokio::spawn(send_reports(client.clone(), waiting));
        Ok((Self { client, reports }, sends))
    }

    /// The answer, which may be a denial. `None`: there is none, and so no verdict.
    async fn check(&self, mut question: CheckRequest) -> Option<CheckResponse> {
        // The same id both times: what was charged and not heard of is not charged again.
        question.operation_id = new_id().into();
        for _ in 0..2 {
            let mut call = Call::new(question.clone());
            call.set_timeout(CHECK_TIMEOUT);
            match timeout(CHECK_TIMEOUT, self.client.clone().check(call)).await {
                Ok(Ok(answer)) => return Some(answer.into_inner()),
                Ok(Err(status)) if !is_passing(status.code()) => {
                    tell(format_args!("tollgate refuses the question: {status}"));
                    return None;
                }
                _ => {}
            }
        }
        None
    }

    /// Says how a request ended. Nobody waits for it. What does not fit stays charged.
    fn report(&self, receipt: Bytes, ended: Ended) {
        let outcome = Outcome {
            subject: Some(Subject::Receipt(receipt)),
            result: Some(ended),
            ..Outcome::default()
        };
        if self.reports.try_send((Instant::now(), outcome)).is_err() {
            tell(format_args!("a report is lost: too many wait"));
        }
    }
}

/// Whether the same call may go well a moment later.
fn is_passing(code: Code) -> bool {
    // Cancelled: the deadline was noticed on this side.
    [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled].contains(&code)
}

fn new_id() -> String {
    let mut bytes = [0; 16];
    // Without an id a check is no less right: its repetition alone may charge twice.
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(),
    }
}

async fn send_reports(
    mut client: DecisionServiceClient<Channel>,
    mut waiting: Receiver<(Instant, Outcome)>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
        let mut pause = FIRST_PAUSE;
        while !batch.is_empty() {
            let outcomes = batch.iter().map(|(_, outcome)| outcome.clone()).collect();
            let call = client.report(ReportRequest { outcomes });
            match timeout(REPORT_TIMEOUT, call).await {
                Ok(Ok(_)) => batch.clear(),
                Ok(Err(status)) => tell(format_args!("reports are sent again: {status}")),
                Err(_) => tell(format_args!("reports are sent again: no answer in time")),
            }
            if !batch.is_empty() {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                batch.retain(|(since, _)| since.elapsed() < RECEIPT_TTL);
            }
        }
    }
}

/// A receipt that will be reported, whatever becomes of the request: where the caller goes away,
/// everything that belongs to it is dropped.
struct Receipt {
    tollgate: Tollgate,
    receipt: Bytes,
}

impl Receipt {
    fn ended(mut self, ended: Ended) {
        self.report(ended);
    }

    fn report(&mut self, ended: Ended) {
        let receipt = std::mem::take(&mut self.receipt);
        if !receipt.is_empty() {
            self.tollgate.report(receipt, ended);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.report(Ended::Ending(Ending::CallerGone.into()));
    }
}

#[derive(Debug)]
struct Gateway {
    args: Args,
    tollgate: Tollgate,
}

async fn handle(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let Gateway { args, tollgate } = &*gateway;
    let header = request.headers().get("x-api-key");
    let question = CheckRequest {
        api_key: header.map(|key| Bytes::copy_from_slice(key.as_bytes())).unwrap_or_default(),
        target: args.target.clone(),
        method: request.method().as_str().to_owned().into(),
        path: request.uri().path().to_owned().into(),
        ..CheckRequest::default()
    };
    let answer = tollgate.check(question).await;
    let Some(answer) = answer.or_else(|| args.fail_open.then(admitted)) else {
        return Ok(say(503, "cannot be decided\n", &[]));
    };
    if answer.verdict() != Verdict::Allow {
        let status = u16::try_from(answer.http_status).unwrap_or(500);
        return Ok(say(status, format!("{}\n", answer.reason().as_str_name()), &answer.headers));
    }
    let receipt = Receipt { tollgate: tollgate.clone(), receipt: answer.receipt.into() };
    Ok(match timeout(UPSTREAM_TIMEOUT, forward(&args.upstream, request)).await {
        Ok(Ok((status, body))) => {
            receipt.ended(Ended::HttpStatus(status.into()));
            say(status, body, &answer.headers)
        }
        _ => {
            receipt.ended(Ended::Ending(Ending::NoResponse.into()));
            say(502, "no response\n", &[])
        }
    })
}

/// What is forwarded without a verdict: it has no receipt, and is counted nowhere.
fn admitted() -> CheckResponse {
    CheckResponse { verdict: Verdict::Allow.into(), ..CheckResponse::default() }
}

/// The response of the upstream, whole.
async fn forward(
    upstream: &str,
    request: Request<Body>,
) -> Result<(u16, Bytes), Box<dyn Error + Send + Sync>> {
    let io = TokioIo::new(TcpStream::connect(upstream).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let asked = Request::builder()
        .method(request.method())
        .uri(request.uri().path_and_query().map_or("/", |path| path.as_str()))
        .header("host", upstream)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(asked).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

fn say(status: u16, body: impl Into<Body>, headers: &[Header]) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    for Header { name, value } in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<axum::http::HeaderName>(), value.parse()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let (tollgate, sends) = Tollgate::new(&args.tollgate)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    let gateway = Arc::new(Gateway { args, tollgate });
    let mut told_to_stop = signal(SignalKind::terminate())?;
    let router = Router::new().fallback(handle).with_state(gateway);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            told_to_stop.recv().await;
        })
        .await?;
    // Nobody is left who reports: what waits is sent, for some seconds.
    let _ = timeout(LAST_REPORTS, sends).await;
    Ok(())
}
