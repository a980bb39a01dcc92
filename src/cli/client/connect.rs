//! The connection to a server, and the flags that say which.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;

use super::output::{Output, print};
use super::{failure, file};
use crate::cli::Failure;
use crate::grpc::json;
use crate::grpc::pb::rls::rate_limit_service_client::RateLimitServiceClient;
use crate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use crate::grpc::pb::tollgate::usage_plan_service_client::UsagePlanServiceClient;

/// The largest answer that is read: a page of large plans is more than the 4 MB that gRPC clients
/// take by default.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// How long an answer is waited for, and one that takes long.
const TIMEOUT_MS: u64 = 10_000;
const PATIENT_MS: u64 = 900_000;

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Server and output")]
pub(in crate::cli) struct Args {
    /// Where the server's gRPC port is
    #[arg(
        long,
        global = true,
        env = "TOLLGATE_SERVER",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8081"
    )]
    server: String,
    /// A token that the server asks for, sent as `authorization: Bearer`
    #[arg(
        long,
        global = true,
        env = "TOLLGATE_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    token: Option<String>,
    /// How long to wait for each answer of the server [default: 10000; for a large set of `apply`:
    /// 900000]
    #[arg(long, global = true, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout_ms: Option<u64>,
    /// A table for people, or JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Speak TLS, and trust the server's certificate by this authority, PEM
    #[arg(long, visible_alias = "ca", global = true, env = "TOLLGATE_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate chain to show to a server that asks for one, PEM
    #[arg(long, global = true, env = "TOLLGATE_CLIENT_CERT", value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(
        long,
        global = true,
        env = "TOLLGATE_CLIENT_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
}

/// A server to call. It is connected to with the first call.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Client {
    channel: Channel,
    caller: Caller,
    server: String,
    token: Option<String>,
    speaks_tls: bool,
    timeout_ms: u64,
    /// The time was not asked for.
    default_timeout: bool,
    pub(in crate::cli) output: Output,
}

pub(in crate::cli) type Calls = InterceptedService<Channel, Caller>;

impl Client {
    pub(super) fn new(args: Args) -> Result<Self, Failure> {
        let timeout_ms = args.timeout_ms.unwrap_or(TIMEOUT_MS);
        let timeout = Duration::from_millis(timeout_ms);
        let scheme = if args.tls_ca.is_some() { "https" } else { "http" };
        let not_an_address = || {
            Failure::unusable(format!(
                "--server: `{}` is not HOST:PORT, such as 127.0.0.1:8081",
                args.server
            ))
        };
        let (host, port) = args.server.rsplit_once(':').ok_or_else(not_an_address)?;
        if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
            return Err(not_an_address());
        }
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", args.server))
            .map_err(|_| not_an_address())?
            .connect_timeout(timeout);
        if let Some(tls) = tls(&args)? {
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                Failure::unusable(format!("--tls-ca: {}", failure::innermost(&error)))
            })?;
        }
        let caller = Caller { bearer: args.token.as_deref().map(bearer).transpose()?, timeout };
        Ok(Self {
            channel: endpoint.connect_lazy(),
            caller,
            server: args.server,
            token: args.token,
            speaks_tls: args.tls_ca.is_some(),
            timeout_ms,
            default_timeout: args.timeout_ms.is_none(),
            output: args.output,
        })
    }

    /// The same, for a call that takes long: it waits longer, where nobody has said how long.
    pub(in crate::cli) fn patient(&self) -> Self {
        let mut patient = self.clone();
        if self.default_timeout {
            patient.timeout_ms = PATIENT_MS;
            patient.caller.timeout = Duration::from_millis(PATIENT_MS);
        }
        patient
    }

    /// Where the server is and the token that it asks for, for a command that connects by itself,
    /// and without TLS.
    pub(in crate::cli) fn plain(&self, command: &str) -> Result<(String, Option<String>), Failure> {
        if self.speaks_tls {
            return Err(Failure::unusable(format!("--tls-ca: `{command}` does not speak TLS")));
        }
        Ok((self.server.clone(), self.token.clone()))
    }

    /// How long an answer is waited for.
    pub(in crate::cli) fn timeout_ns(&self) -> u64 {
        self.timeout_ms.saturating_mul(1_000_000)
    }

    pub(in crate::cli) fn usage_plans(&self) -> UsagePlanServiceClient<Calls> {
        UsagePlanServiceClient::with_interceptor(self.channel.clone(), self.caller.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(in crate::cli) fn rate_limits(&self) -> RateLimitServiceClient<Calls> {
        RateLimitServiceClient::with_interceptor(self.channel.clone(), self.caller.clone())
    }

    pub(in crate::cli) fn decisions(&self) -> DecisionServiceClient<Calls> {
        DecisionServiceClient::with_interceptor(self.channel.clone(), self.caller.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(in crate::cli) fn health(&self) -> HealthClient<Calls> {
        HealthClient::with_interceptor(self.channel.clone(), self.caller.clone())
    }

    /// Waits for an answer, no longer than was asked for.
    pub(in crate::cli) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.reply(call).await.map_err(|status| self.failure(&status))
    }

    /// The same, with the status of a refusal as it is.
    pub(in crate::cli) async fn reply<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(Duration::from_millis(self.timeout_ms), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("")),
        }
    }

    /// Why a call had no answer.
    pub(in crate::cli) fn failure(&self, status: &Status) -> Failure {
        if failure::is_timeout(status) {
            // The server is told how long too, so that either side may be the first to give up.
            return Failure::failed(format!(
                "the server at {} has not answered in {} ms (--timeout-ms waits longer)",
                self.server, self.timeout_ms
            ));
        }
        failure::of(status, &self.server)
    }

    /// Prints a message of the contract, `name`: as `table` says it to people, or in JSON.
    pub(in crate::cli) fn show<M: Message>(
        &self,
        name: &str,
        message: &M,
        table: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Table => print(&table(message)),
            Output::Json => {
                let value = json::to_json(name, message).map_err(Failure::failed)?;
                print(&format!("{value:#}\n"))
            }
        }
    }
}

/// Says with every call who calls, and how long the answer is waited for.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Caller {
    bearer: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request.set_timeout(self.timeout);
        Ok(request)
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Failure::unusable("--token: a token is visible ASCII characters alone"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(args: &Args) -> Result<Option<ClientTlsConfig>, Failure> {
    let Some(authority) = &args.tls_ca else { return Ok(None) };
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem(authority, "CERTIFICATE")?));
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        tls = tls.identity(Identity::from_pem(pem(cert, "CERTIFICATE")?, pem(key, "PRIVATE KEY")?));
    }
    Ok(Some(tls))
}

/// The text of a PEM file, which must hold something of that kind: a file without any would be
/// taken for one that trusts nobody.
fn pem(path: &Path, kind: &str) -> Result<String, Failure> {
    let text = file::read(path)?;
    if text.contains(&format!("{kind}-----")) {
        return Ok(text);
    }
    Err(Failure::unusable(format!("{}: holds no {} in PEM", file::name(path), kind.to_lowercase())))
}
